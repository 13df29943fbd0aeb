//! What a program cost: processor time and peak memory from the kernel's own account (wait4), and time on the clock; of a
//! server, processor time so far and memory now (/proc).

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use eds_tests::{Outcome, Trouble, give_up, trouble::During as _};
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

/// The processor time that a process has used so far, user and system, of all its threads.
pub(crate) fn processor_time(process: u32) -> Outcome<Duration> {
    let file = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&file).during(&file)?;
    // The name before may hold anything; user and system time are the 14th and 15th field.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Vec<u64> = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    let [user, system] = ticks.as_slice() else { give_up!("{file} has no times") };
    Ok(Duration::from_secs_f64((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The memory that a process holds, in MiB.
pub(crate) fn memory_mib(process: u32) -> Outcome<f64> {
    let file = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(&file).during(&file)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| Trouble::new(format!("{file} has no VmRSS")))
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
