//! Kills at random moments: how many, whom and when. The seed is that of all sample data, and is printed.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Outcome, sample};

/// How many kills a test makes: 20, and 200 in `make soak`.
pub fn rounds() -> u64 {
    let rounds = if std::env::var_os("EDS_SOAK").is_some() { 200 } else { 20 };
    eprintln!("{rounds} kills, seed: EDS_SEED={}", sample::seed());
    rounds
}

/// The number of the node that is killed, of so many.
///
/// # Errors
/// When there are more nodes than a cluster can have.
pub fn victim(label: &str, nodes: u16) -> Outcome<u16> {
    Ok(1 + u16::try_from(sample::below(&format!("victim {label}"), u64::from(nodes)))?)
}

/// When it is killed: at any moment of work that usually takes this long, or a little later.
pub fn moment(label: &str, usual: Duration) -> Duration {
    usual.mul_f64(sample::below(&format!("moment {label}"), 1_500) as f64 / 1_000.0)
}

/// Waits for a moment that is chosen at random.
pub fn wait_until(moment: Instant) {
    while let Some(left) = moment.checked_duration_since(Instant::now()) {
        thread::park_timeout(left.min(Duration::from_millis(1)));
    }
}
