//! A node with as many keys as a hospital has after years, and clients that fetch from it.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use eds_core::{
    api::{Binary, FetchAnswer, FetchRequest, KeyText},
    ids::KeyId,
    sealing::AwsLcDhKey,
};
use eds_tests::{
    Outcome, Trouble,
    cluster::{Cluster, Plan},
    give_up,
    trouble::During as _,
    user,
};
use rustls::ClientConfig;

use crate::wire::{self, Wire};

/// A running node that holds many keys of one owner.
pub(crate) struct Stocked {
    /// The port of the node.
    pub(crate) port: u16,
    /// The process of the node.
    pub(crate) process_id: u32,
    keys: Vec<KeyId>,
    tls: Arc<ClientConfig>,
    reply_key: Vec<u8>,
    chosen: AtomicU64,
}

/// A cluster of three that has made one key, whose nodes can be stocked.
pub(crate) fn cluster() -> Outcome<Cluster> {
    let cluster = Cluster::start(Plan { nodes: 3, floor: 2, relayed: &[] })?;
    let user = cluster.user("Owner")?;
    fs::write(user.home().join("plain"), "something")?;
    user.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    Ok(cluster)
}

/// Puts so many keys into a node of the cluster, and starts it again.
pub(crate) fn stock(cluster: &mut Cluster, number: u16, count: usize) -> Outcome<Stocked> {
    let ids = cluster.folder().join(format!("ids-{number}"));
    let home = cluster.folder().join("Owner");
    let tls = wire::tls(&cluster.ca(), Some((&home.join("me.crt"), &home.join("me.key"))))?;
    let node = cluster.node(number)?;
    node.stop()?;
    let count_text = count.to_string();
    let mut command = node.tool("eds-bench-node")?;
    command.arg("fill").arg(node.config()).arg(&count_text).arg(&ids);
    user::run(&mut command)?.success().during("eds-bench-node fill")?;
    node.start()?;
    let Some(process_id) = node.process_id() else { give_up!("node {number} does not run") };
    let keys: Vec<KeyId> = fs::read(&ids)?.as_chunks::<16>().0.iter().map(|id| KeyId::from_bytes(*id)).collect();
    if keys.len() != count {
        give_up!("{} keys were made, not {count}", keys.len());
    }
    let reply = AwsLcDhKey::generate().map_err(|error| Trouble::new(error.to_string()))?;
    let reply_key = reply.public().as_bytes().to_vec();
    let stocked = Stocked { port: node.port(), process_id, keys, tls, reply_key, chosen: AtomicU64::new(1) };
    stocked.check(&mut stocked.connect()?)?;
    Ok(stocked)
}

/// What the token of this node does alone: records in a second, and microseconds of processor time for one.
pub(crate) fn token_alone(cluster: &mut Cluster, number: u16) -> Outcome<(f64, f64)> {
    let node = cluster.node(number)?;
    let mut command = node.tool("eds-bench-node")?;
    let told = user::run(command.arg("token").arg(node.config()))?.success().during("eds-bench-node token")?.text();
    let Some((rate, cost)) = told.split_once(' ') else { give_up!("eds-bench-node token said {told:?}") };
    Ok((rate.parse()?, cost.parse()?))
}

impl Stocked {
    /// A new connection of the owner of the keys.
    pub(crate) fn connect(&self) -> Outcome<Wire> {
        Wire::connect(self.port, &self.tls)
    }

    /// New connections of the owner of the keys.
    pub(crate) fn connections(&self, count: usize) -> Outcome<Vec<Wire>> {
        (0..count).map(|_| self.connect()).collect()
    }

    /// Fetches so many keys in one call, as of a study: a random hundred that were registered together, and those after
    /// it. One key is any of all.
    pub(crate) fn fetch(&self, wire: &mut Wire, count: usize) -> Outcome {
        self.send(wire, &self.request(count, 1)?, count)
    }

    /// Fetches so many keys in one call, each from another registration.
    pub(crate) fn fetch_apart(&self, wire: &mut Wire, count: usize) -> Outcome {
        self.send(wire, &self.request(count, TOGETHER)?, count)
    }

    /// Fetches the key at this place among all.
    pub(crate) fn fetch_at(&self, wire: &mut Wire, place: usize) -> Outcome {
        let key = self.keys.get(place).copied().ok_or_else(|| Trouble::new("there are fewer keys"))?;
        self.send(wire, &self.asking(vec![KeyText(key)])?, 1)
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    fn send(&self, wire: &mut Wire, request: &[u8], count: usize) -> Outcome {
        let answer = wire.call("POST", "/v1/fetch", "", request)?;
        // Each key has a manifest of more than 200 bytes in its result; a refusal has none.
        if answer.len() < count * 300 {
            give_up!("not all of {count} keys were released: {}", head(answer));
        }
        Ok(())
    }

    /// Fetches keys and looks at each result.
    fn check(&self, wire: &mut Wire) -> Outcome {
        let answer = wire.call("POST", "/v1/fetch", "", &self.request(self.keys.len().min(1_000), 1)?)?;
        let answer: FetchAnswer = serde_json::from_slice(answer)?;
        let released = answer.results.iter().filter(|result| result.manifest.is_some()).count();
        if released != answer.results.len() || answer.sealed.is_none() {
            give_up!("only {released} of {} keys were released", answer.results.len());
        }
        Ok(())
    }

    fn request(&self, count: usize, step: usize) -> Outcome<Vec<u8>> {
        let total = self.keys.len();
        let random = usize::try_from(random(self.chosen.fetch_add(1, Ordering::Relaxed))).unwrap_or(0) % total;
        let start = if count == 1 { random } else { random / TOGETHER * TOGETHER };
        let keys = (0..count).filter_map(|position| self.keys.get((start + position * step) % total));
        self.asking(keys.copied().map(KeyText).collect())
    }

    fn asking(&self, keys: Vec<KeyText>) -> Outcome<Vec<u8>> {
        Ok(serde_json::to_vec(&FetchRequest { keys, reply_key: Binary(self.reply_key.clone()) })?)
    }
}

/// How many neighbours in the list of keys `eds-bench-node` registers together.
const TOGETHER: usize = 100;

/// SplitMix64: well mixed and the same in every run.
fn random(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) >> 1
}

fn head(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer.get(..answer.len().min(400)).unwrap_or_default()).into_owned()
}
