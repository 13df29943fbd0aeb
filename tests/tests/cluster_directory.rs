//! The root of trust: a client takes no directory that its cluster key did not sign, and none older than it knows.

use std::{ffi::OsStr, fs, path::Path};

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
    user::exit,
};

fn update(file: &Path) -> [&OsStr; 3] {
    ["cluster".as_ref(), "update".as_ref(), file.as_ref()]
}

#[test]
fn an_older_directory_is_refused() -> Outcome {
    let cluster = Cluster::make(Plan { nodes: 3, floor: 2, relayed: &[] })?;
    let alice = cluster.user("alice")?;
    let old = cluster.folder().join("old.edd");
    fs::copy(cluster.directory(), &old)?;
    cluster.sign()?;
    alice.eds(update(&cluster.directory()))?.success()?;
    let known = alice.eds(["cluster", "show"])?.success()?.text();
    alice.eds(update(&old))?.refused(exit::DAMAGED, &["version 1", "version 2 is held"])?;
    assert_eq!(alice.eds(["cluster", "show"])?.success()?.text(), known);
    Ok(())
}

#[test]
fn a_directory_of_another_cluster_is_refused() -> Outcome {
    let cluster = Cluster::make(Plan { nodes: 3, floor: 2, relayed: &[] })?;
    let other = Cluster::make(Plan { nodes: 3, floor: 2, relayed: &[] })?;
    let alice = cluster.user("alice")?;
    let known = alice.eds(["cluster", "show"])?.success()?.text();
    alice.eds(update(&other.directory()))?.refused(exit::DAMAGED, &["cluster.edd"])?;
    assert_eq!(alice.eds(["cluster", "show"])?.success()?.text(), known);
    let foreign: [&OsStr; 5] = [
        "cluster".as_ref(),
        "import".as_ref(),
        &other.directory().into_os_string(),
        "--fingerprint".as_ref(),
        cluster.fingerprint().as_ref(),
    ];
    other.officer().eds(foreign)?.refused(exit::DAMAGED, &["cluster.edd"])?;
    Ok(())
}

#[test]
fn a_changed_directory_is_refused() -> Outcome {
    let cluster = Cluster::make(Plan { nodes: 3, floor: 2, relayed: &[] })?;
    let alice = cluster.user("alice")?;
    let mut bytes = fs::read(cluster.directory())?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x20;
    }
    let changed = cluster.folder().join("changed.edd");
    fs::write(&changed, bytes)?;
    alice.eds(update(&changed))?.refused(exit::DAMAGED, &["changed.edd"])?;
    Ok(())
}
