//! The rows of the bench: as a table for people and as `target/bench.json` for programs.

use std::{fs, path::Path};

use eds_tests::{Outcome, trouble::During as _};
use serde::Serialize;

/// One comparison.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Row {
    /// What is compared.
    pub(crate) name: &'static str,
    /// Our median.
    pub(crate) ours: f64,
    /// The unit of both values.
    pub(crate) unit: &'static str,
    /// Compared with what.
    pub(crate) peer: &'static str,
    /// Its median in the same run.
    pub(crate) peer_value: f64,
    /// Ours divided by theirs.
    pub(crate) ratio: f64,
    /// What the project promises, where it promises something.
    #[serde(skip)]
    pub(crate) target: Option<Target>,
}

/// A promise.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The ratio is at most this.
    Ratio(f64),
    /// Our value is at most this.
    Ours(f64),
    /// The ratio is at least this.
    AtLeast(f64),
}

impl Row {
    /// A comparison without a promise.
    pub(crate) fn new(name: &'static str, ours: f64, unit: &'static str, peer: &'static str, peer_value: f64) -> Self {
        Self { name, ours, unit, peer, peer_value, ratio: ours / peer_value, target: None }
    }

    /// With a promise.
    #[must_use]
    pub(crate) fn promising(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn verdict(&self) -> String {
        let (promise, met) = match self.target {
            None => return String::new(),
            Some(Target::Ratio(limit)) => (format!("ratio ≤ {limit}"), self.ratio <= limit),
            Some(Target::AtLeast(limit)) => (format!("ratio ≥ {limit}"), self.ratio >= limit),
            Some(Target::Ours(limit)) => (format!("ours ≤ {limit}"), self.ours <= limit),
        };
        format!("{promise}: {}", if met { "met" } else { "MISSED" })
    }
}

/// Prints the table and writes the file.
pub(crate) fn publish(rows: &[Row], file: &Path) -> Outcome {
    println!("{:<38} {:>10} {:<5} {:>10}  {:<24} {:>7}  target", "name", "ours", "unit", "peer", "of", "ratio");
    for row in rows {
        println!(
            "{:<38} {:>10.3} {:<5} {:>10.3}  {:<24} {:>7.3}  {}",
            row.name,
            row.ours,
            row.unit,
            row.peer_value,
            row.peer,
            row.ratio,
            row.verdict()
        );
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, serde_json::to_vec_pretty(rows)?).during(file.display())?;
    println!("written to {}", file.display());
    Ok(())
}
