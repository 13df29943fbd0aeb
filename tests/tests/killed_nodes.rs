//! Key servers that are killed at any moment of a registration: what was reported as done can be opened by any m nodes,
//! and what was not done left no file.
//!
//! `make soak` repeats this some hundreds of times.

use std::{fs, process::Stdio, time::Instant};

use eds_tests::{Outcome, cluster::Cluster, kills, sample};

#[test]
fn a_registration_is_whole_or_refused_whenever_a_node_dies() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let (plain, cipher, back) = (alice.home().join("plain"), alice.home().join("cipher"), alice.home().join("back"));
    let content = sample::bytes("content", 50_000);
    fs::write(&plain, &content)?;
    let start = Instant::now();
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    let usual = start.elapsed();
    fs::remove_file(&cipher)?;

    let mut refused = 0;
    for round in 0..kills::rounds() {
        let victim = kills::victim(&round.to_string(), 3)?;
        let moment = kills::moment(&round.to_string(), usual);
        let mut child = alice.command(["encrypt", "plain", "-o", "cipher"]).stderr(Stdio::null()).spawn()?;
        kills::wait_until(Instant::now() + moment);
        cluster.node(victim)?.kill()?;
        let done = child.wait()?.success();
        assert_eq!(cipher.exists(), done, "round {round}: node {victim} killed after {moment:?}");
        if done {
            // With the victim still dead, the others must be enough; and afterwards the victim and one other.
            alice.eds(["decrypt", "cipher", "-o", "back"])?.success()?;
            assert_eq!(fs::read(&back)?, content);
            fs::remove_file(&back)?;
            cluster.node(victim)?.start()?;
            let other = 1 + victim % 3;
            cluster.node(other)?.kill()?;
            alice.eds(["decrypt", "cipher", "-o", "back"])?.success()?;
            assert_eq!(fs::read(&back)?, content);
            cluster.node(other)?.start()?;
            fs::remove_file(&back)?;
            fs::remove_file(&cipher)?;
        } else {
            refused += 1;
            cluster.node(victim)?.start()?;
        }
    }
    eprintln!("{refused} of {} registrations were refused", kills::rounds());
    Ok(())
}
