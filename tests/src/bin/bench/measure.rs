//! What a program cost: processor time and peak memory from the kernel's own account (wait4), and time on the clock.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use eds_tests::{Outcome, give_up, trouble::During as _};
use wait4::Wait4 as _;

/// The cost of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// User and system time, of children that it waited for too.
    pub(crate) cpu: Duration,
    /// Time on the clock, from the start of the process to its end.
    pub(crate) wall: Duration,
    /// The most memory that it held at once, in MiB.
    pub(crate) peak_mib: f64,
}

/// Runs a command to its end and returns what it cost.
pub(crate) fn cost(command: &mut Command) -> Outcome<Cost> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().during(format_args!("starting {name}"))?;
    // Little is written there; a reader beside the wait would be counted in.
    let errors = child.stderr.take();
    let end = child.wait4().during(format_args!("waiting for {name}"))?;
    let wall = start.elapsed();
    if !end.status.success() {
        let text = errors.map(std::io::read_to_string).transpose()?.unwrap_or_default();
        give_up!("{name} ended with {}: {text}", end.status);
    }
    let cpu = end.rusage.utime + end.rusage.stime;
    Ok(Cost { cpu, wall, peak_mib: end.rusage.maxrss as f64 / (1024.0 * 1024.0) })
}

/// The middle value.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this part of the values lies.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let place = (part * values.len().saturating_sub(1) as f64).round() as usize;
    values.get(place).copied().unwrap_or(f64::NAN)
}
