//! One node with its token, policy and audit log on, over kept TLS connections with client certificates: keys a second
//! beside the bare token, processor time for each key beside OpenBao's transit engine, and answer times at half of the
//! highest rate. A batch asks for keys that were registered together, as those of a study; a row of its own tells what
//! keys cost that were not.
//!
//! Processor time is that of the server process; the load generator shares its two cores and is not counted.

use std::{path::Path, time::Duration};

use eds_tests::Outcome;

use crate::{
    drive::{self, Ask},
    measure::{median, processor_time, quantile},
    openbao::OpenBao,
    stock::{self, Stocked},
    table::{Row, Target},
    wire::Wire,
};

const ROUNDS: usize = 5;
const KEYS: usize = 10_000;
const SINGLE_CONNECTIONS: usize = 16;
const BATCH_CONNECTIONS: usize = 4;
const TIME: Duration = Duration::from_millis(1_500);

/// What one way of asking gave in each round.
#[derive(Default)]
struct Rounds {
    /// Keys a second.
    rate: Vec<f64>,
    /// Microseconds of the server's processor time for each key.
    cpu: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, process: u32, wires: &mut [Wire], keys: usize, ask: impl Ask) -> Outcome {
        let before = processor_time(process)?;
        let driven = drive::full(wires, TIME, ask)?;
        let used = processor_time(process)? - before;
        let done = driven.answers as f64 * keys as f64;
        self.rate.push(driven.rate() * keys as f64);
        self.cpu.push(used.as_secs_f64() * 1e6 / done);
        Ok(())
    }

    fn rate(&self) -> f64 {
        median(self.rate.iter().copied())
    }

    fn cpu(&self) -> f64 {
        median(self.cpu.iter().copied())
    }
}

/// Measures all of it.
pub(crate) fn rows(folder: &Path) -> Outcome<Vec<Row>> {
    let mut cluster = stock::cluster()?;
    let node = stock::stock(&mut cluster, 1, KEYS)?;
    let server = OpenBao::start(&folder.join("openbao"), cluster.authority())?;
    let (theirs, openbao) = (server.process_id(), &server.transit);
    let mut singles = node.connections(SINGLE_CONNECTIONS)?;
    let mut batches = node.connections(BATCH_CONNECTIONS)?;
    let mut their_singles = (0..SINGLE_CONNECTIONS).map(|_| openbao.connect()).collect::<Outcome<Vec<_>>>()?;
    let mut their_batches = (0..BATCH_CONNECTIONS).map(|_| openbao.connect()).collect::<Outcome<Vec<_>>>()?;
    let (their_single, their_batch) = (openbao.single(), openbao.batch(100));

    let [mut one, mut hundred, mut apart, mut thousand, mut their_one, mut their_hundred] =
        [(); 6].map(|()| Rounds::default());
    let (mut token, mut token_cpu) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.add(node.process_id, &mut singles, 1, |wire, _| node.fetch(wire, 1))?;
        their_one.add(theirs, &mut their_singles, 1, |wire, _| openbao.decrypt(wire, &their_single, 1))?;
        hundred.add(node.process_id, &mut batches, 100, |wire, _| node.fetch(wire, 100))?;
        their_hundred.add(theirs, &mut their_batches, 100, |wire, _| openbao.decrypt(wire, &their_batch, 100))?;
        apart.add(node.process_id, &mut batches, 100, |wire, _| node.fetch_apart(wire, 100))?;
        thousand.add(node.process_id, &mut batches, 1_000, |wire, _| node.fetch(wire, 1_000))?;
        let (rate, cpu) = stock::token_alone(&mut cluster, 1)?;
        token.push(rate);
        token_cpu.push(cpu);
    }
    let token = median(token);
    let (bare, transit) = ("token alone", "OpenBao transit decrypt");
    let mut rows = vec![
        Row::new("fetch_single_vs_token", one.rate(), "1/s", bare, token),
        Row::new("fetch_batch_100_vs_token", hundred.rate(), "1/s", bare, token),
        Row::new("fetch_batch_1000_vs_token", thousand.rate(), "1/s", bare, token).promising(Target::AtLeast(0.5)),
        Row::new("fetch_cpu_vs_openbao_transit", one.cpu(), "µs", transit, their_one.cpu())
            .promising(Target::Ratio(0.3)),
        Row::new("fetch_batch_cpu_vs_openbao_batch", hundred.cpu(), "µs", "OpenBao, batch_input", their_hundred.cpu())
            .promising(Target::Ratio(1.0)),
        // Each key from another registration, so that the token is asked for each.
        Row::new("fetch_apart_cpu_vs_openbao_batch", apart.cpu(), "µs", "OpenBao, batch_input", their_hundred.cpu()),
        // What no server can go below that asks this token once for each key.
        Row::new(
            "token_alone_cpu_vs_openbao_batch",
            median(token_cpu),
            "µs",
            "OpenBao, batch_input",
            their_hundred.cpu(),
        ),
    ];
    let our_times = half_load(&mut singles, one.rate() / 2.0, |wire, _| node.fetch(wire, 1));
    let their_times =
        half_load(&mut their_singles, their_one.rate() / 2.0, |wire, _| openbao.decrypt(wire, &their_single, 1));
    let ((our_p50, our_p99), (their_p50, their_p99)) = (our_times?, their_times?);
    rows.push(Row::new("fetch_p50_at_half_rate", our_p50, "ms", transit, their_p50));
    rows.push(Row::new("fetch_p99_at_half_rate", our_p99, "ms", transit, their_p99));
    Ok(rows)
}

/// The middle of the medians, and of the 99th percentiles, of answer times at this rate.
fn half_load(wires: &mut [Wire], rate: f64, ask: impl Ask) -> Outcome<(f64, f64)> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let driven = drive::paced(wires, TIME, rate, &ask)?;
        p50.push(quantile(driven.latencies.iter().copied(), 0.5));
        p99.push(quantile(driven.latencies, 0.99));
    }
    Ok((median(p50), median(p99)))
}

/// The server's processor time for each key, in microseconds, of fetches of so many keys in one call.
pub(crate) fn cpu_of(node: &Stocked, wires: &mut [Wire], keys: usize) -> Outcome<f64> {
    let mut round = Rounds::default();
    round.add(node.process_id, wires, keys, |wire, _| node.fetch(wire, keys))?;
    Ok(round.cpu())
}
