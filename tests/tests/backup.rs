//! The backup drill: a node is backed up while it takes registrations, loses its database, and gets it back.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use eds_core::ids::KeyId;
use eds_tests::{
    Outcome, Trouble, acts,
    cluster::{Cluster, Plan},
    files,
    node::Node,
    shares::{fetch, nodes, register},
};

fn lose_the_database(node: &Node) -> Outcome {
    for name in files::names(node.folder())?.iter().filter(|name| name.starts_with("store.sqlite")) {
        fs::remove_file(node.folder().join(name))?;
    }
    Ok(())
}

fn held(backup: &Path, key: KeyId) -> Outcome<bool> {
    let database = rusqlite::Connection::open(backup)?;
    Ok(database.query_row("SELECT count(*) FROM keys WHERE id = ?1", [key.as_bytes()], |row| row.get::<_, i64>(0))?
        == 1)
}

#[test]
fn a_node_that_lost_its_database_serves_again_from_a_backup_made_under_load() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let alice = cluster.user("alice")?;
    let client = nodes(&alice)?;
    let before: Vec<_> = (0..5).map(|_| register(&client)).collect::<Outcome<_>>()?;

    let backup = cluster.folder().join("backup.db");
    let node = cluster.node(1)?;
    let done = AtomicBool::new(false);
    let during = std::thread::scope(|scope| -> Outcome<_> {
        let registering = scope.spawn(|| -> Outcome<_> {
            let client = nodes(&alice)?;
            let mut registered = Vec::new();
            while !done.load(Ordering::SeqCst) || registered.is_empty() {
                registered.push(register(&client)?);
            }
            Ok(registered)
        });
        let said = node.command("backup", ["--to".as_ref(), backup.as_os_str()]);
        done.store(true, Ordering::SeqCst);
        let registered = registering.join().map_err(|_| Trouble::new("a panic"))??;
        let said = said?.success()?.text();
        assert!(said.contains("keys in") && said.contains("SHA-256"), "{said}");
        Ok(registered)
    })?;
    // One moment: of those registered meanwhile, the backup has the first ones, without a gap.
    let there = during.iter().map(|(want, _)| held(&backup, want.key)).collect::<Outcome<Vec<_>>>()?;
    assert!(there.is_sorted_by(|earlier, later| earlier >= later), "{there:?}");

    let (begun, told) = acts::last_done(node, "store.backup")?;
    assert!(begun == format!("to {}", backup.display()) && told.contains("keys in"), "{begun} {told}");
    let digest = told.rsplit(' ').next().unwrap_or_default().to_owned();
    node.command("backup", ["--to".as_ref(), backup.as_os_str()])?.refused(1, &["exists already"])?;
    assert!(acts::last_refused(node, "store.backup")?.contains("exists already"));
    node.kill()?;
    node.command("restore", ["--from".as_ref(), backup.as_os_str()])?.refused(1, &["exists already", "hint:"])?;
    lose_the_database(node)?;
    assert!(node.start_refused()?.contains("does not exist"));
    let run = node.command("restore", ["--from".as_ref(), backup.as_os_str()])?.success()?;
    assert!(run.stderr.contains("revoked since"), "{}", run.stderr);
    let (begun, told) = acts::last_done(node, "store.restore")?;
    assert!(begun.contains(&digest) && told.contains(&digest) && digest.len() == 64, "{begun} {told}");
    node.start()?;
    let client = nodes(&alice)?;
    for (want, secret) in before.iter().chain(during.iter().zip(there).filter(|(_, there)| *there).map(|(one, _)| one))
    {
        assert_eq!(fetch(&client, want)?, *secret);
    }
    let (want, secret) = register(&client)?;
    assert_eq!(fetch(&client, &want)?, secret);
    Ok(())
}

#[test]
fn a_backup_of_another_node_or_token_or_a_damaged_one_is_refused() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 2, floor: 1, relayed: &[] })?;
    register(&nodes(&cluster.user("alice")?)?)?;
    let folder = cluster.folder().to_path_buf();
    for number in [1, 2] {
        let to = folder.join(format!("backup-{number}"));
        let node = cluster.node(number)?;
        node.command("backup", ["--to".as_ref(), to.as_os_str()])?.success()?;
        node.kill()?;
        lose_the_database(node)?;
    }
    let refuses = |node: &Node, backup: &str, words: &[&str]| -> Outcome {
        node.command("restore", ["--from".as_ref(), folder.join(backup).as_os_str()])?.refused(1, words)?;
        assert!(!node.database().exists(), "{backup}");
        Ok(())
    };
    let card = fs::read(cluster.node(2)?.card())?;
    let node = cluster.node(1)?;
    refuses(node, "backup-2", &["is of node", "hint:"])?;
    // Even with the identity file of the other node: its token is missing.
    let own = fs::read(node.card())?;
    fs::write(node.card(), card)?;
    refuses(node, "backup-2", &["does not fit the token", "canary"])?;
    fs::write(node.card(), own)?;

    let whole = fs::read(folder.join("backup-1"))?;
    refuses(node, "missing", &["does not exist"])?;
    fs::write(folder.join("damaged"), whole.get(..whole.len() / 2).unwrap_or_default())?;
    refuses(node, "damaged", &["damaged"])?;
    fs::write(folder.join("text"), "not a database".repeat(500))?;
    refuses(node, "text", &["database"])?;
    refuses(node, "backup-1-none", &["does not exist"])?;
    node.command("restore", ["--from".as_ref(), folder.join("backup-1").as_os_str()])?.success()?;
    node.start()
}
