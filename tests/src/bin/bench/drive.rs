//! Load: as much as a server takes over so many connections, or so many requests a second.

use std::time::{Duration, Instant};

use eds_tests::Outcome;

use crate::wire::Wire;

/// What came of it.
pub(crate) struct Driven {
    /// How many requests were answered.
    pub(crate) answers: u64,
    /// For how long.
    pub(crate) wall: Duration,
    /// The time of each answer, in milliseconds.
    pub(crate) latencies: Vec<f64>,
}

impl Driven {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.wall.as_secs_f64()
    }
}

/// A request: the connection that it goes over, and its number, which differs in each connection.
pub(crate) trait Ask: Fn(&mut Wire, u64) -> Outcome + Sync {}
impl<F: Fn(&mut Wire, u64) -> Outcome + Sync> Ask for F {}

/// Every connection asks again as soon as it is answered.
pub(crate) fn full(wires: &mut [Wire], time: Duration, ask: impl Ask) -> Outcome<Driven> {
    let start = Instant::now();
    let end = start + time;
    run(wires, start, |wire, first, step| {
        let mut latencies = Vec::new();
        let mut number = first;
        while Instant::now() < end {
            let begun = Instant::now();
            ask(wire, number)?;
            latencies.push(begun.elapsed().as_secs_f64() * 1e3);
            number += step;
        }
        Ok(latencies)
    })
}

/// So many requests a second, whatever the answers: the time of an answer counts from when its request was due, so that
/// a server that falls behind cannot hide it.
pub(crate) fn paced(wires: &mut [Wire], time: Duration, rate: f64, ask: impl Ask) -> Outcome<Driven> {
    let start = Instant::now() + Duration::from_millis(5);
    let end = start + time;
    run(wires, start, |wire, first, step| {
        let mut latencies = Vec::new();
        let mut number = first;
        loop {
            let due = start + Duration::from_secs_f64(number as f64 / rate);
            if due >= end {
                return Ok(latencies);
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            ask(wire, number)?;
            latencies.push(due.elapsed().as_secs_f64() * 1e3);
            number += step;
        }
    })
}

fn run(
    wires: &mut [Wire],
    start: Instant,
    work: impl Fn(&mut Wire, u64, u64) -> Outcome<Vec<f64>> + Sync,
) -> Outcome<Driven> {
    let step = wires.len() as u64;
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = wires
            .iter_mut()
            .zip(0..)
            .map(|(wire, first)| {
                let work = &work;
                scope.spawn(move || work(wire, first, step))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut latencies = Vec::new();
    for part in parts {
        // A panic of a thread is a defect of the bench.
        latencies.extend(part.map_err(|_| eds_tests::Trouble::new("a client panicked"))??);
    }
    Ok(Driven { answers: latencies.len() as u64, wall: start.elapsed(), latencies })
}
