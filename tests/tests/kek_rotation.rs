//! One KEK after the other while the nodes serve: on SQLite with AES-GCM, and on PostgreSQL with AES-CBC and HMAC.

use std::fs;

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
    node::Node,
    ports,
    postgres::Server,
    sample,
    user::{User, exit},
};

fn encrypt(user: &User, name: &str) -> Outcome {
    fs::write(user.home().join("plain"), sample::bytes(name, 20_000))?;
    user.eds(["encrypt", "plain", "-o", name, "-m", "2"])?.success()?;
    Ok(())
}

fn assert_reads(user: &User, names: &[&str]) -> Outcome {
    for name in names {
        user.eds(["decrypt", name, "-o", "back", "--force"])?.success()?;
        assert_eq!(fs::read(user.home().join("back"))?, sample::bytes(name, 20_000), "{name}");
    }
    Ok(())
}

/// States of the KEKs, oldest first, with the number of their records.
fn told(node: &Node) -> Outcome<Vec<(String, u64)>> {
    Ok(node.keks()?.into_iter().map(|(_, state, records)| (state, records)).collect())
}

fn are(keks: &[(&str, u64)]) -> Vec<(String, u64)> {
    keks.iter().map(|(state, records)| ((*state).to_owned(), *records)).collect()
}

#[test]
fn keks_are_rotated_while_the_nodes_serve() -> Outcome {
    let server = Server::start(ports::free()?, |_| Ok(()))?;
    let mut cluster = Cluster::make(Plan { nodes: 2, floor: 2, relayed: &[] })?;
    let second = cluster.node(2)?;
    second.set_hsm("suite = \"aes-cbc-hmac\"")?;
    second.move_to_postgres(&server.make_database("node_2")?)?;
    for node in cluster.nodes() {
        node.start()?;
    }
    let alice = cluster.user("alice")?;
    encrypt(&alice, "before")?;

    for node in cluster.nodes() {
        assert_eq!(told(node)?, are(&[("active", 1)]));
        let (first, ..) = node.keks()?.remove(0);
        node.command_of(&["hsm", "retire", &first])?.refused(1, &["is active", "hsm rotate"])?;
        node.command_of(&["hsm", "retire", "00"])?.refused(1, &["is not the id of a KEK"])?;
        node.command_of(&["hsm", "retire", &"0".repeat(32)])?.refused(1, &["there is no KEK"])?;
        let said = node.command_of(&["hsm", "rotate"])?.success()?.text();
        let (active, ..) = node.keks()?.remove(1);
        assert!(said.contains(&active) && said.contains("ALWAYS_SENSITIVE"), "{said}");
        // The minutes of the officers: the new key as it was read back.
        let record = fs::read_to_string(node.folder().join(format!("node.kek-{active}.ceremony.json")))?;
        for told in ["eds/v1/kek-ceremony", &active, &first, "fingerprint", "NEVER_EXTRACTABLE", "eds-kek-mac"] {
            assert!(record.contains(told), "{told}: {record}");
        }
        assert_eq!(told(node)?, are(&[("read-only", 1), ("active", 0)]));
    }

    // The servers were not told: they learn it with the next registration.
    encrypt(&alice, "during")?;
    assert_reads(&alice, &["before", "during"])?;
    for node in cluster.nodes() {
        assert_eq!(told(node)?, are(&[("read-only", 1), ("active", 1)]));
        let (first, ..) = node.keks()?.remove(0);
        node.command_of(&["hsm", "retire", &first])?.refused(1, &["named by 1 records", "hsm rewrap"])?;
        let said = node.command_of(&["hsm", "rewrap", "--batch", "1"])?.success()?;
        assert!(said.text().contains("1 records wrapped anew") && said.stderr.contains("1 of 1"), "{said:?}");
        assert_eq!(told(node)?, are(&[("read-only", 0), ("active", 2)]));
        node.command_of(&["hsm", "retire", &first])?.success()?;
        node.command_of(&["hsm", "retire", &first, "--destroy"])?.refused(1, &["retired", "minutes"])?;
    }
    assert_reads(&alice, &["before", "during"])?;

    // The key leaves the token when it had been retired for a while; who served all the time goes on.
    let node = cluster.node(1)?;
    let (first, ..) = node.keks()?.remove(0);
    rusqlite::Connection::open(node.database())?.execute("UPDATE keks SET since = since - 600 WHERE state = 2", [])?;
    let said = node.command_of(&["hsm", "retire", &first, "--destroy"])?.success()?.text();
    assert!(said.contains("removed from the token"), "{said}");
    let status = node.command_of(&["hsm", "status"])?.success()?.text();
    assert!(status.contains(&format!("KEK {first}: retired, not in the token")), "{status}");
    assert_reads(&alice, &["before", "during"])?;
    for node in cluster.nodes() {
        node.restart()?;
        let checked = node.command_of(&["check"])?.success()?.text();
        assert!(!checked.contains("FAIL"), "{checked}");
    }
    assert_reads(&alice, &["before", "during"])?;
    Ok(())
}

#[test]
fn a_kek_that_is_used_up_opens_and_wraps_no_more_until_it_is_rotated() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 2, floor: 2, relayed: &[] })?;
    let alice = cluster.user("alice")?;
    encrypt(&alice, "before")?;
    let node = cluster.node(1)?;
    rusqlite::Connection::open(node.database())?.execute("UPDATE keks SET uses = 4294967296 - 16777216", [])?;
    let status = node.command_of(&["hsm", "status"])?.success()?.text();
    assert!(status.contains("100%") && status.contains("it is time for `eds-keystored hsm rotate`"), "{status}");
    // What the process had counted before is still its own.
    node.restart()?;
    let refused = alice.eds(["encrypt", "plain", "-o", "refused", "-m", "2"])?;
    refused.refused(exit::UNAVAILABLE, &["node 1", "hsm rotate"])?;
    assert_reads(&alice, &["before"])?;
    cluster.node(1)?.command_of(&["hsm", "rotate"])?.success()?;
    encrypt(&alice, "after")?;
    assert_reads(&alice, &["before", "after"])?;
    let log = fs::read_to_string(cluster.node(1)?.log())?;
    assert!(log.contains("the KEK is used up"), "{log}");
    Ok(())
}
