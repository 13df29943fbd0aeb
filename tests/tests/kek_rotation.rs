//! One KEK after the other while the nodes serve: on SQLite with AES-GCM, and on PostgreSQL with AES-CBC and HMAC.

use std::fs;

use eds_tests::{
    Outcome, acts,
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
        assert!(acts::last_refused(node, "kek.retire")?.contains("is active"));
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
        let (begun, done) = acts::last_done(node, "kek.rotate")?;
        assert_eq!(begun, format!("KEK {first} is active"));
        assert_eq!(done, format!("KEK {active} wraps new shares; KEK {first} is read-only"));
    }

    // The servers were not told: they learn it with the next registration.
    encrypt(&alice, "during")?;
    assert_reads(&alice, &["before", "during"])?;
    for node in cluster.nodes() {
        assert_eq!(told(node)?, are(&[("read-only", 1), ("active", 1)]));
        let (first, ..) = node.keks()?.remove(0);
        let (active, ..) = node.keks()?.remove(1);
        node.command_of(&["hsm", "retire", &first])?.refused(1, &["named by 1 records", "hsm rewrap"])?;
        assert!(acts::last_refused(node, "kek.retire")?.contains("named by 1 records"));
        let said = node.command_of(&["hsm", "rewrap", "--batch", "1"])?.success()?;
        assert!(said.text().contains("1 records wrapped anew") && said.stderr.contains("1 of 1"), "{said:?}");
        assert_eq!(told(node)?, are(&[("read-only", 0), ("active", 2)]));
        let (begun, done) = acts::last_done(node, "kek.rewrap")?;
        assert_eq!(begun, format!("1 records to KEK {active}"));
        assert_eq!(done, format!("1 records and 0 key pairs wrapped by KEK {active}; 0 do not open"));
        node.command_of(&["hsm", "retire", &first])?.success()?;
        assert_eq!(acts::last_done(node, "kek.retire")?.1, format!("KEK {first} is retired"));
        node.command_of(&["hsm", "retire", &first, "--destroy"])?.refused(1, &["retired", "minutes"])?;
        assert!(acts::last_refused(node, "kek.destroy")?.contains("stays in the token for now"));
    }
    assert_reads(&alice, &["before", "during"])?;

    // The key leaves the token when it had been retired for a while; who served all the time goes on.
    let node = cluster.node(1)?;
    let (first, ..) = node.keks()?.remove(0);
    rusqlite::Connection::open(node.database())?.execute("UPDATE keks SET since = since - 600 WHERE state = 2", [])?;
    let said = node.command_of(&["hsm", "retire", &first, "--destroy"])?.success()?.text();
    assert!(said.contains("removed from the token"), "{said}");
    assert_eq!(acts::last_done(node, "kek.destroy")?.1, format!("KEK {first} is retired and removed from the token"));
    node.command_of(&["audit", "verify"])?.success()?;
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
fn officers_change_nothing_that_the_audit_log_cannot_tell_of() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let node = cluster.node(1)?;
    let made = acts::of(node)?;
    assert!(made.len() == 1 && made[0].operation == "token.change", "{made:?}");
    let (first, ..) = node.keks()?.remove(0);
    assert!(made[0].detail.contains(&first) && made[0].detail.contains("transport key"), "{made:?}");

    // Without a server the command writes the log itself, and signs it.
    node.command_of(&["hsm", "rotate"])?.success()?;
    assert_eq!(acts::last_done(node, "kek.rotate")?.0, format!("KEK {first} is active"));
    let said = node.command_of(&["audit", "verify"])?.success()?.text();
    assert!(said.contains("3 entries") && said.contains("not yet covered by one: 0"), "{said}");

    let keks = node.keks()?;
    let (log, away) = (node.folder().join("audit"), node.folder().join("audit-away"));
    fs::rename(&log, &away)?;
    let (active, backup) = (keks[1].0.clone(), node.folder().join("backup.db"));
    let backup = backup.to_str().unwrap_or_default();
    for words in [
        &["hsm", "rotate"][..],
        &["hsm", "rewrap"],
        &["hsm", "retire", &first],
        &["hsm", "retire", &active, "--destroy"],
        &["backup", "--to", backup],
    ] {
        node.command_of(words)?.refused(1, &["there is no audit log"])?;
        assert_eq!(node.keks()?, keks, "{words:?}");
    }
    assert!(!fs::exists(backup)?);
    let status = node.command_of(&["hsm", "status"])?.success()?.text();
    assert!(!status.contains("unknown to the database"), "a KEK was made: {status}");
    fs::rename(&away, &log)?;
    assert_eq!(acts::of(node)?.len(), 3);

    // A server that starts meanwhile takes them.
    node.start()?;
    node.command_of(&["hsm", "rewrap"])?.success()?;
    assert_eq!(acts::last_done(node, "kek.rewrap")?.0, format!("0 records to KEK {active}"));
    assert!(log.join("console").exists());
    node.stop()?;
    assert!(!log.join("console").exists());
    node.command_of(&["audit", "verify"])?.success()?;
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
