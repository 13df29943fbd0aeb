//! Key servers that are stopped, frozen or slow: any m of n are enough, fewer are refused with nothing left behind.

use std::{
    fs,
    time::{Duration, Instant},
};

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
    dicom, files, sample,
    user::{User, exit},
};

/// A cluster of three, a user, and a file of hers that is encrypted as `cipher`.
fn encrypted() -> Outcome<(Cluster, User, Vec<u8>)> {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let content = sample::bytes("content", 100_000);
    fs::write(alice.home().join("plain"), &content)?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    Ok((cluster, alice, content))
}

#[test]
fn any_two_of_three_are_enough() -> Outcome {
    let (mut cluster, alice, content) = encrypted()?;
    for number in 1..=3 {
        cluster.node(number)?.kill()?;
        alice.eds(["decrypt", "cipher", "-o", "back"])?.success()?;
        assert_eq!(fs::read(alice.home().join("back"))?, content, "without node {number}");
        fs::remove_file(alice.home().join("back"))?;
        cluster.node(number)?.start()?;
    }
    Ok(())
}

#[test]
fn one_of_three_is_not_enough_and_nothing_is_left() -> Outcome {
    let (mut cluster, alice, _) = encrypted()?;
    for number in 1..=2 {
        cluster.node(number)?.kill()?;
    }
    let before = files::names(alice.home())?;
    let said = ["node 1", "node 2", "1 of the 2 shares"];
    alice.eds(["decrypt", "cipher", "-o", "back"])?.refused(exit::UNAVAILABLE, &said)?;
    assert_eq!(files::names(alice.home())?, before);
    // To standard output neither.
    alice.eds(["decrypt", "cipher", "-o", "-"])?.refused(exit::UNAVAILABLE, &said)?;
    Ok(())
}

#[test]
fn without_any_node_nothing_is_opened_and_nothing_is_stored() -> Outcome {
    let (mut cluster, alice, _) = encrypted()?;
    fs::copy(dicom::ct_small()?, alice.home().join("scan.dcm"))?;
    for node in cluster.nodes() {
        node.kill()?;
    }
    let before = files::names(alice.home())?;
    let said = ["node 1", "node 2", "node 3"];
    alice.eds(["decrypt", "cipher", "-o", "back"])?.refused(exit::UNAVAILABLE, &said)?;
    alice.eds(["encrypt", "plain", "-o", "other"])?.refused(exit::UNAVAILABLE, &said)?;
    assert_eq!(files::names(alice.home())?, before);
    alice.eds(["register", "scan.dcm"])?.refused(exit::UNAVAILABLE, &said)?;
    assert!(!alice.objects().exists() || files::below(&alice.objects())?.is_empty(), "something was stored");
    Ok(())
}

#[test]
fn a_key_is_registered_with_every_node_or_with_none() -> Outcome {
    let cluster = &mut Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), "something")?;
    cluster.node(2)?.kill()?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.refused(exit::UNAVAILABLE, &["node 2"])?;
    assert!(!alice.home().join("cipher").exists());
    cluster.node(2)?.start()?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    Ok(())
}

#[test]
fn a_frozen_node_does_not_hold_anybody_up() -> Outcome {
    let (mut cluster, alice, content) = encrypted()?;
    for number in 1..=3 {
        cluster.node(number)?.pause()?;
        let start = Instant::now();
        alice.eds(["decrypt", "cipher", "-o", "back"])?.success()?;
        assert!(start.elapsed() < Duration::from_secs(2), "{:?} with node {number} frozen", start.elapsed());
        assert_eq!(fs::read(alice.home().join("back"))?, content);
        fs::remove_file(alice.home().join("back"))?;
        cluster.node(number)?.resume()?;
    }
    Ok(())
}

#[test]
fn a_slow_node_does_not_hold_anybody_up() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 3, floor: 2, relayed: &[1, 2, 3] })?;
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), "something")?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    for number in 1..=3 {
        cluster.node(number)?.relay()?.delay_answers(Duration::from_secs(2));
        let start = Instant::now();
        alice.eds(["decrypt", "cipher", "-o", "back"])?.success()?;
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?} with node {number} slow", start.elapsed());
        assert_eq!(fs::read(alice.home().join("back"))?, b"something");
        fs::remove_file(alice.home().join("back"))?;
        cluster.node(number)?.relay()?.delay_answers(Duration::ZERO);
    }
    Ok(())
}

#[test]
fn shares_survive_a_power_cut_of_every_node() -> Outcome {
    let (mut cluster, alice, content) = encrypted()?;
    for node in cluster.nodes() {
        node.restart()?;
    }
    alice.eds(["decrypt", "cipher", "-o", "back"])?.success()?;
    assert_eq!(fs::read(alice.home().join("back"))?, content);
    Ok(())
}

#[test]
fn the_state_of_a_key_names_the_nodes_that_hold_it() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::copy(dicom::ct_small()?, alice.home().join("scan.dcm"))?;
    let id = alice.eds(["register", "scan.dcm"])?.success()?.id();
    cluster.node(3)?.kill()?;
    let status = alice.eds(["key", "status", &id])?;
    let told = status.text() + &status.stderr;
    for word in ["node 1", "node 2", "node 3", "active"] {
        assert!(told.contains(word), "no {word:?} in\n{told}");
    }
    let doctor = alice.eds(["doctor"])?;
    assert_eq!(doctor.code, Some(exit::UNAVAILABLE), "{}{}", doctor.text(), doctor.stderr);
    assert!((doctor.text() + &doctor.stderr).contains("node 3"));
    cluster.node(3)?.start()?;
    alice.eds(["doctor"])?.success()?;
    Ok(())
}
