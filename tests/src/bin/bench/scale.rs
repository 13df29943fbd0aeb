//! The cost of a fetch, and the memory of the server, with 10³ and with 10⁶ stored keys.
//!
//! Two nodes of one cluster, in alternating rounds. Keys are chosen at random from all that are stored, so that nearly
//! every fetch of the large node is the first one of its key since the start, while the small node has seen each of its
//! keys before. A row of its own compares the first fetches of both nodes, which differ in the number of stored keys and
//! in nothing else.

use eds_tests::{Outcome, cluster::Cluster, give_up};

use crate::{
    load::cpu_of,
    measure::{median, memory_mib, processor_time},
    stock::{self, Stocked},
    table::{Row, Target},
};

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 4;

/// Measures both nodes.
pub(crate) fn rows() -> Outcome<Vec<Row>> {
    let mut cluster = stock::cluster()?;
    let small = stock::stock(&mut cluster, 1, 1_000)?;
    let large = stock::stock(&mut cluster, 2, 1_000_000)?;
    let (mut to_small, mut to_large) = (small.connections(CONNECTIONS)?, large.connections(CONNECTIONS)?);
    let [mut one_small, mut one_large, mut many_small, mut many_large] = [(); 4].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        one_small.push(cpu_of(&small, &mut to_small, 1)?);
        one_large.push(cpu_of(&large, &mut to_large, 1)?);
        many_small.push(cpu_of(&small, &mut to_small, 100)?);
        many_large.push(cpu_of(&large, &mut to_large, 100)?);
    }
    let memory = (memory_mib(large.process_id)?, memory_mib(small.process_id)?);
    let [mut first_small, mut first_large] = [(); 2].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        first_small.push(first_fetches(&mut cluster, 1, &small)?);
        first_large.push(first_fetches(&mut cluster, 2, &large)?);
    }
    let few = "1,000 keys";
    Ok(vec![
        Row::new("fetch_cost_1e6_vs_1e3_keys", median(one_large), "µs", few, median(one_small))
            .promising(Target::Ratio(1.2)),
        Row::new("fetch_first_cost_1e6_vs_1e3_keys", median(first_large), "µs", few, median(first_small)),
        Row::new("fetch_batch_cost_1e6_vs_1e3_keys", median(many_large), "µs", few, median(many_small)),
        Row::new("memory_1e6_vs_1e3_keys", memory.0, "MiB", few, memory.1),
    ])
}

/// How many keys are fetched after a start.
const FIRST: usize = 1_000;

/// Starts the node again and fetches keys once each, one by one, over a connection: its processor time for each, in
/// microseconds. The first ten are not counted: they open what every process opens once.
fn first_fetches(cluster: &mut Cluster, number: u16, stocked: &Stocked) -> Outcome<f64> {
    let node = cluster.node(number)?;
    node.stop()?;
    node.start()?;
    let Some(process) = node.process_id() else { give_up!("node {number} does not run") };
    let mut wire = stocked.connect()?;
    let step = stocked.len() / FIRST;
    let mut fetch = |places: std::ops::Range<usize>| -> Outcome {
        places.into_iter().try_for_each(|place| stocked.fetch_at(&mut wire, place * step))
    };
    fetch(0..10)?;
    let before = processor_time(process)?;
    fetch(10..FIRST)?;
    Ok((processor_time(process)? - before).as_secs_f64() * 1e6 / (FIRST - 10) as f64)
}
