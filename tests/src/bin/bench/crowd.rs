//! Answer times of good clients while 10,000 connections are held by others: half of them idle after their handshake,
//! half of them sending a request head letter by letter.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use eds_tests::{Outcome, Trouble, give_up};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    drive,
    measure::{median, memory_mib, quantile},
    stock::{self, Stocked},
    table::Row,
    wire::Wire,
};

const CROWD: usize = 10_000;
const ROUNDS: usize = 5;
const GOOD: usize = 4;
const TIME: Duration = Duration::from_secs(2);

/// Measures without and with the crowd.
pub(crate) fn rows() -> Outcome<Vec<Row>> {
    let most = getrlimit(Resource::Nofile).maximum;
    if most.is_some_and(|most| most < CROWD as u64 + 500) {
        give_up!(
            "a process may open {most:?} files here, which is too few for {CROWD} connections: raise `ulimit -Hn`"
        );
    }
    // The nodes inherit it.
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    let mut cluster = stock::cluster()?;
    // All come from one address, and are slower than a node waits for when it is not told otherwise.
    cluster
        .node(1)?
        .add_settings("\n[limits]\nconnections_per_address = 16384\nhead_ms = 600000\nidle_ms = 600000\n")?;
    let node = stock::stock(&mut cluster, 1, 1_000)?;
    let mut good = node.connections(GOOD)?;
    let [mut p50_alone, mut p99_alone, mut p50_among, mut p99_among] = [(); 4].map(|()| Vec::new());
    let before = memory_mib(node.process_id)?;
    let mut during = before;
    for _ in 0..ROUNDS {
        let (p50, p99) = times(&node, &mut good)?;
        p50_alone.push(p50);
        p99_alone.push(p99);
        let (p50, p99) = among_crowd(&node, &mut good)?;
        p50_among.push(p50);
        p99_among.push(p99);
        during = during.max(memory_mib(node.process_id)?);
    }
    let alone = "good clients alone";
    Ok(vec![
        Row::new("fetch_p50_among_10000_connections", median(p50_among), "ms", alone, median(p50_alone)),
        Row::new("fetch_p99_among_10000_connections", median(p99_among), "ms", alone, median(p99_alone)),
        Row::new("memory_with_10000_connections", during, "MiB", "before", before),
    ])
}

fn times(node: &Stocked, good: &mut [Wire]) -> Outcome<(f64, f64)> {
    let latencies = drive::full(good, TIME, |wire, _| node.fetch(wire, 1))?.latencies;
    Ok((quantile(latencies.iter().copied(), 0.5), quantile(latencies, 0.99)))
}

fn among_crowd(node: &Stocked, good: &mut [Wire]) -> Outcome<(f64, f64)> {
    let makers = 4;
    let crowd: Vec<Outcome<Vec<Wire>>> = std::thread::scope(|scope| {
        let making: Vec<_> = (0..makers).map(|_| scope.spawn(|| node.connections(CROWD / makers))).collect();
        let panicked = || Err(Trouble::new("a client panicked"));
        making.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
    });
    let mut idle: Vec<Wire> = crowd.into_iter().collect::<Outcome<Vec<_>>>()?.into_iter().flatten().collect();
    let mut slow = idle.split_off(CROWD / 2);
    for wire in &mut slow {
        wire.dribble(b"POST /v1/fetch HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")?;
    }
    let done = AtomicBool::new(false);
    let (measured, held) = std::thread::scope(|scope| {
        let dribbling = scope.spawn(|| {
            let mut held = 0;
            while !done.load(Ordering::Relaxed) {
                held = slow.iter_mut().filter_map(|wire| wire.dribble(b"x").ok()).count();
                std::thread::sleep(Duration::from_millis(500));
            }
            held
        });
        let measured = times(node, good);
        done.store(true, Ordering::Relaxed);
        (measured, dribbling.join())
    });
    if held.is_ok_and(|held| held < slow.len()) {
        give_up!("the node let go of slow connections during the measurement");
    }
    // An idle connection that was held still answers.
    for wire in idle.iter_mut().step_by(500) {
        wire.call("GET", "/healthz", "", b"")?;
    }
    measured
}
