//! A node serves only with the token that its database was written with, and only with keys as narrow as it made them.

use std::fs;

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
};

#[test]
fn a_node_with_a_swapped_token_does_not_start() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 2, floor: 2, relayed: &[] })?;
    // The other node's token, under this node's label: it has keys of the right kinds, and they are the wrong ones.
    let other = cluster.node(2)?.folder().join("tokens");
    let node = cluster.node(1)?;
    node.start()?;
    node.stop()?;
    let (own, label) = (node.folder().join("tokens"), node.token_label());
    fs::remove_dir_all(&own)?;
    copy_folder(&other, &own)?;
    let settings = fs::read_to_string(node.config())?;
    fs::write(node.config(), settings.replace(&label, "eds-node-2"))?;
    let said = node.start_refused()?;
    eprintln!("{said}");
    assert!(said.contains("token"), "{said}");
    Ok(())
}

#[test]
fn a_node_with_an_empty_token_does_not_start() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let node = cluster.node(1)?;
    node.new_token("empty", &node.token_label())?;
    let said = node.start_refused()?;
    eprintln!("{said}");
    assert!(said.contains("token") && said.contains("eds-node-1"), "{said}");
    Ok(())
}

#[test]
fn a_node_without_its_token_does_not_start() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let node = cluster.node(1)?;
    fs::remove_dir_all(node.folder().join("tokens"))?;
    fs::create_dir(node.folder().join("tokens"))?;
    let said = node.start_refused()?;
    eprintln!("{said}");
    assert!(said.contains("eds-node-1"), "{said}");
    Ok(())
}

#[test]
fn a_node_with_a_wrong_pin_does_not_start_and_does_not_try_again() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let node = cluster.node(1)?;
    let pin = fs::read(node.folder().join("pin"))?;
    fs::write(node.folder().join("pin"), "000000")?;
    let said = node.start_refused()?;
    eprintln!("{said}");
    assert!(said.contains("PIN"), "{said}");
    assert!(!said.contains("000000"), "the PIN is in the log");
    fs::write(node.folder().join("pin"), pin)?;
    node.start()
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) -> Outcome {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?
        } else {
            fs::copy(entry.path(), target).map(drop)?
        }
    }
    Ok(())
}
