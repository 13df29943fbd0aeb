//! Officers' commands and the server that are killed at any moment of a rotation of the KEK, while keys are registered: all
//! that was acknowledged opens, and the rotation is brought to its end by running the same commands again.
//!
//! `make soak` repeats this some hundreds of times; `EDS_SEED` repeats a run.

use std::{
    io::{Read, Seek},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use eds::keystore::Want;
use eds_tests::{
    Outcome, Trouble,
    cluster::{Cluster, Plan},
    kills,
    node::Node,
    process, sample,
    shares::{fetch_all, nodes, register, register_many},
    user::User,
};

type Keys = Vec<(Want, [u8; 32])>;

/// Whom the kill meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Rotate,
    Rewrap,
    Server,
}

/// Runs a command, and kills it, or the server, at this moment of it. A command that was killed has no say.
fn run(node: &mut Node, words: &[&str], kill: Option<(Duration, bool)>) -> Outcome {
    let mut command = node.command_line(words)?;
    // A file and not a pipe: nobody reads while the command is killed.
    let mut said = tempfile::tempfile()?;
    let mut child = command.stdout(Stdio::null()).stderr(said.try_clone()?).spawn()?;
    match kill {
        None => {}
        Some((moment, server)) => {
            kills::wait_until(Instant::now() + moment);
            if server {
                node.kill()?;
            } else {
                child.kill()?;
            }
        }
    }
    let status = child.wait()?;
    let may_fail = kill.is_some_and(|(_, server)| !server);
    if status.success() || may_fail {
        return Ok(());
    }
    let mut text = String::new();
    said.rewind()?;
    said.read_to_string(&mut text)?;
    Err(Trouble::new(format!("{words:?} ended with {status}:\n{text}")))
}

/// Rotates and wraps anew with one kill in it, while a user registers keys; returns those that were acknowledged.
fn rotate_with_a_kill(node: &mut Node, user: &User, victim: Victim, moment: Duration) -> Outcome<Keys> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let registering = scope.spawn(|| -> Outcome<Keys> {
            let client = nodes(user)?;
            let mut registered = Vec::new();
            while !over.load(Ordering::SeqCst) {
                // One that a dead server did not acknowledge is nobody's loss.
                match register(&client) {
                    Ok(key) => registered.push(key),
                    Err(_) if victim == Victim::Server => break,
                    Err(trouble) => return Err(trouble),
                }
            }
            Ok(registered)
        });
        let of = |whom: Victim, server: bool| (victim == whom).then_some((moment, server));
        let rotated = run(node, &["hsm", "rotate"], of(Victim::Rotate, false));
        let kill = of(Victim::Rewrap, false).or(of(Victim::Server, true));
        let rewrapped = run(node, &["hsm", "rewrap", "--batch", "7"], kill);
        over.store(true, Ordering::SeqCst);
        let registered = registering.join().map_err(|_| Trouble::new("a panic"))?;
        rotated.and(rewrapped)?;
        registered
    })
}

#[test]
fn a_rotation_is_brought_to_its_end_whoever_dies_in_it() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let alice = cluster.user("alice")?;
    let mut acknowledged = register_many(&nodes(&alice)?, 150)?;
    let node = cluster.node(1)?;
    let start = Instant::now();
    run(node, &["hsm", "rotate"], None)?;
    let rotating = start.elapsed();
    let start = Instant::now();
    run(node, &["hsm", "rewrap", "--batch", "7"], None)?;
    let rewrapping = start.elapsed();

    for round in 0..kills::rounds() {
        let victims = [(Victim::Rotate, rotating), (Victim::Rewrap, rewrapping), (Victim::Server, rewrapping)];
        let whom = sample::below(&format!("whom {round}"), 3);
        let (victim, usual) = victims[usize::try_from(whom)?];
        let moment = kills::moment(&format!("rotation {round}"), usual);
        let log = cluster.node(1)?.log();
        let told = |trouble: Trouble| {
            let end = process::tail(&log);
            Trouble::new(format!(
                "round {round}: {victim:?} after {moment:?}: {trouble}\nthe node's log ends with\n{end}"
            ))
        };
        let node = cluster.node(1)?;
        acknowledged.extend(rotate_with_a_kill(node, &alice, victim, moment).map_err(told)?);
        if victim == Victim::Server {
            node.start()?;
        }
        // The server as it is, whatever was left half-way.
        let client = nodes(&alice)?;
        fetch_all(&client, &acknowledged).map_err(told)?;
        acknowledged.push(register(&client).map_err(told)?);
        run(node, &["hsm", "rewrap"], None).map_err(told)?;
        let keks = node.keks()?;
        assert_eq!(keks.iter().filter(|(_, state, _)| state == "active").count(), 1, "round {round}: {keks:?}");
        for (id, ..) in keks.iter().filter(|(_, state, _)| state == "read-only") {
            run(node, &["hsm", "retire", id], None).map_err(told)?;
        }
        let keks = node.keks()?;
        for (id, state, records) in &keks {
            let right = match state.as_str() {
                "active" => *records >= acknowledged.len() as u64,
                "retired" | "unknown" => *records == 0,
                _ => false,
            };
            assert!(right, "round {round}: KEK {id}: {state}, {records} records: {keks:?}");
        }
        fetch_all(&client, &acknowledged).map_err(told)?;
    }
    let node = cluster.node(1)?;
    node.restart()?;
    fetch_all(&nodes(&alice)?, &acknowledged)?;
    let unknown = cluster.node(1)?.keks()?.iter().filter(|(_, state, _)| state == "unknown").count();
    eprintln!("{} keys; {unknown} KEKs were left in the token by rotations that were cut off", acknowledged.len());
    Ok(())
}
