//! A client that lives on while nodes are started again: the connections that it kept are closed, and it makes others.

use std::fs;

use eds::{
    config::Config,
    journey::Nodes,
    keystore::{Evidence, Want},
};
use eds_core::container::Header;
use eds_tests::{Outcome, Trouble, cluster::Cluster};

#[test]
fn a_connection_that_a_restarted_node_closed_is_made_again() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), "something")?;
    alice.eds(["encrypt", "plain", "-o", "cipher", "-m", "3"])?.success()?;
    let container = fs::read(alice.home().join("cipher"))?;
    let (header, _) = Header::decode(&container).map_err(|error| Trouble::new(error.to_string()))?;
    let wants = [Want { key: header.key, evidence: Evidence::Anchor(header.anchor) }];
    let nodes = Nodes::open(&Config::load(Some(alice.config()))?)?;
    nodes.fetch_all(&wants)?;
    // All three shares are needed: no other node can stand in for one whose connection is gone.
    for node in cluster.nodes() {
        node.restart()?;
    }
    nodes.fetch_all(&wants)?;
    // Deleting is asked for once more as well, and done once.
    for node in cluster.nodes() {
        node.restart()?;
    }
    assert!(nodes.unregister(&[header.key]).is_empty());
    Ok(())
}
