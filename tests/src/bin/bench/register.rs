//! Registering keys at one node: one client alone, and ten at once, whose writes may share what waits for the disk.
//!
//! Keys are split and sealed before the time is taken. A registration is durable in audit log and database before its
//! answer, and so is its confirmation: four waits for the disk when nobody shares them.

use std::{
    sync::{Barrier, Mutex, PoisonError},
    time::Instant,
};

use eds::{
    config::Config,
    journey::Nodes,
    keystore::{NewKey, Prepared, Terms},
};
use eds_tests::{
    Outcome, Trouble,
    cluster::{Cluster, Plan},
};

use crate::{
    measure::median,
    table::{Row, Target},
};

const ROUNDS: usize = 7;
const CLIENTS: usize = 10;
/// Registrations of each client in a round.
const EACH: usize = 20;

/// Measures both.
pub(crate) fn rows() -> Outcome<Vec<Row>> {
    let cluster = Cluster::start(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let user = cluster.user("Registrar")?;
    let config = Config::load(Some(user.config()))?;
    let clients = (0..CLIENTS).map(|_| Ok(Nodes::open(&config)?)).collect::<Outcome<Vec<_>>>()?;
    let [mut one_rate, mut ten_rate, mut one_time, mut ten_time] = [(); 4].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        let (rate, time) = register(clients.get(..1).unwrap_or_default())?;
        one_rate.push(rate);
        one_time.push(time);
        let (rate, time) = register(&clients)?;
        ten_rate.push(rate);
        ten_time.push(time);
    }
    let alone = "one client";
    Ok(vec![
        Row::new("register_rate_10_clients_vs_1", median(ten_rate), "1/s", alone, median(one_rate)),
        Row::new("register_p50_10_clients_vs_1", median(ten_time), "ms", alone, median(one_time))
            .promising(Target::Ratio(10.0)),
    ])
}

/// Lets all clients register at once: registrations a second, and the middle time of one in milliseconds.
fn register(clients: &[Nodes]) -> Outcome<(f64, f64)> {
    let prepared = clients.iter().map(prepare).collect::<Outcome<Vec<_>>>()?;
    let (ready, times) = (Barrier::new(clients.len() + 1), Mutex::new(Vec::new()));
    let start = std::thread::scope(|scope| {
        let working: Vec<_> = clients
            .iter()
            .zip(prepared)
            .map(|(client, prepared)| {
                let (ready, times) = (&ready, &times);
                // A client belongs to one thread at a time.
                scope.spawn(move || -> Outcome {
                    ready.wait();
                    for prepared in prepared {
                        let begun = Instant::now();
                        client.register(prepared)?;
                        let time = begun.elapsed().as_secs_f64() * 1e3;
                        times.lock().unwrap_or_else(PoisonError::into_inner).push(time);
                    }
                    Ok(())
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        for thread in working {
            thread.join().unwrap_or_else(|_| Err(Trouble::new("a client panicked")))?;
        }
        Outcome::Ok(start)
    })?;
    let wall = start.elapsed().as_secs_f64();
    let times = times.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((times.len() as f64 / wall, median(times)))
}

fn prepare(client: &Nodes) -> Outcome<Vec<Prepared>> {
    (0..EACH).map(|_| Ok(client.keystore().prepare(&[NewKey::random()], Terms::default())?)).collect()
}
