//! Fetching one key 2-of-3 over warm connections: with three good nodes, and with one whose answers come 2 s late; and the
//! same call to one node alone, as a measure of what the second node adds.
//!
//! Both cases go through the same relays, in alternating batches, so that only the delay differs. The slow node is
//! another one in each batch, so that what the client has learned about the last one does not help it.

use std::time::{Duration, Instant};

use eds::{
    config::Config,
    journey::Nodes,
    keystore::{Evidence, Want},
};
use eds_core::{
    api::{Binary, FetchRequest, KeyText},
    container::Header,
    sealing::AwsLcDhKey,
};
use eds_tests::{
    Outcome, Trouble,
    cluster::{Cluster, Plan},
    user::User,
};

use crate::{
    measure::quantile,
    table::{Row, Target},
    wire::{self, Wire},
};

const BATCHES: u16 = 9;
const FETCHES: usize = 60;

/// Measures both cases.
pub(crate) fn rows() -> Outcome<Vec<Row>> {
    let mut cluster = Cluster::start(Plan { nodes: 3, floor: 2, relayed: &[1, 2, 3] })?;
    let user = cluster.user("Bench")?;
    std::fs::write(user.home().join("plain"), "something")?;
    user.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    let container = std::fs::read(user.home().join("cipher"))?;
    let (header, _) = Header::decode(&container).map_err(|error| Trouble::new(error.to_string()))?;
    let want = Want { key: header.key, evidence: Evidence::Anchor(header.anchor) };
    let nodes = Nodes::open(&Config::load(Some(user.config()))?)?;

    let (mut normal, mut slow, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    let mut one = One::connect(&mut cluster, &user, &want)?;
    fetch(&nodes, &want, 20)?;
    for batch in 0..BATCHES {
        normal.extend(fetch(&nodes, &want, FETCHES)?);
        alone.extend(one.ask(FETCHES)?);
        let late = 1 + batch % 3;
        cluster.node(late)?.relay()?.delay_answers(Duration::from_secs(2));
        slow.extend(fetch(&nodes, &want, FETCHES)?);
        cluster.node(late)?.relay()?.delay_answers(Duration::ZERO);
    }
    let p50 = |times: &[f64]| quantile(times.iter().copied(), 0.5);
    let p99 = |times: &[f64]| quantile(times.iter().copied(), 0.99);
    let (normally, by_one) = ("three good nodes", "one node asked alone");
    Ok(vec![
        Row::new("fetch_p50_2_of_3", p50(&normal), "ms", by_one, p50(&alone)),
        Row::new("fetch_p99_2_of_3", p99(&normal), "ms", by_one, p99(&alone)),
        Row::new("fetch_p50_one_slow_vs_normal", p50(&slow), "ms", normally, p50(&normal)),
        Row::new("fetch_p99_one_slow_vs_normal", p99(&slow), "ms", normally, p99(&normal))
            .promising(Target::Ratio(2.0)),
    ])
}

/// A kept connection to node 1, over which its share alone is asked for. The answer is not opened.
struct One {
    wire: Wire,
    request: Vec<u8>,
}

impl One {
    fn connect(cluster: &mut Cluster, user: &User, want: &Want) -> Outcome<Self> {
        let files = (user.home().join("me.crt"), user.home().join("me.key"));
        let tls = wire::tls(&cluster.ca(), Some((&files.0, &files.1)))?;
        let reply = AwsLcDhKey::generate().map_err(|error| Trouble::new(error.to_string()))?;
        let reply_key = Binary(reply.public().as_bytes().to_vec());
        let request = serde_json::to_vec(&FetchRequest { keys: vec![KeyText(want.key)], reply_key })?;
        Ok(Self { wire: Wire::connect(cluster.node(1)?.relay()?.port(), &tls)?, request })
    }

    fn ask(&mut self, times: usize) -> Outcome<Vec<f64>> {
        let mut taken = Vec::with_capacity(times);
        for _ in 0..times {
            let start = Instant::now();
            self.wire.call("POST", "/v1/fetch", "", &self.request)?;
            taken.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(taken)
    }
}

/// The time of each fetch, in milliseconds.
fn fetch(nodes: &Nodes, want: &Want, times: usize) -> Outcome<Vec<f64>> {
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        nodes.fetch_all(std::slice::from_ref(want))?;
        taken.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(taken)
}
