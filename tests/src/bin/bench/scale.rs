//! The cost of a fetch, and the memory of the server, with 10³ and with 10⁶ stored keys.
//!
//! Two nodes of one cluster, in alternating rounds. Keys are chosen at random from all that are stored, so that those of
//! the large node are hardly ever in a cache of the server.

use eds_tests::Outcome;

use crate::{
    load::cpu_of,
    measure::{median, memory_mib},
    stock,
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
    let few = "1,000 keys";
    let memory = (memory_mib(large.process_id)?, memory_mib(small.process_id)?);
    Ok(vec![
        Row::new("fetch_cost_1e6_vs_1e3_keys", median(one_large), "µs", few, median(one_small))
            .promising(Target::Ratio(1.2)),
        Row::new("fetch_batch_cost_1e6_vs_1e3_keys", median(many_large), "µs", few, median(many_small)),
        Row::new("memory_1e6_vs_1e3_keys", memory.0, "MiB", few, memory.1),
    ])
}
