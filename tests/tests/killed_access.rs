//! Key servers that are killed at any moment of a change of an access list: what was reported as done holds, also on the
//! node that came back, and no node has anything but the old list or the new one.
//!
//! `make soak` repeats this some hundreds of times; `EDS_SEED` repeats a run.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use eds_tests::{
    Outcome, Trouble,
    cluster::Cluster,
    kills,
    user::{Run, User, exit},
};

fn reads(user: &User, owner: &User) -> Outcome<Run> {
    let cipher = owner.home().join("cipher");
    user.eds(["decrypt".as_ref(), cipher.as_os_str(), "-o".as_ref(), "back".as_ref(), "--force".as_ref()])
}

#[test]
fn a_change_of_an_access_list_is_whole_whenever_a_node_dies() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let (alice, bob) = (cluster.user("alice")?, cluster.user("bob")?);
    fs::write(alice.home().join("plain"), "content")?;
    let key = alice.eds(["encrypt", "plain", "-o", "cipher", "-m", "2"])?.success()?.key();
    let name = bob.name()?;
    let grant = ["key", "setacl", "-m", &format!("{name}:g"), &key].map(str::to_owned);
    let revoke = ["key", "setacl", "-d", &name, &key].map(str::to_owned);
    let start = Instant::now();
    alice.eds(&grant)?.success()?;
    let usual = start.elapsed();
    let (mut granted, mut acknowledged_by_victim) = (true, 0);

    for round in 0..kills::rounds() {
        let victim = kills::victim(&format!("access {round}"), 3)?;
        let moment = kills::moment(&format!("access {round}"), usual);
        let change = if granted { &revoke } else { &grant };
        let child = alice.command(change).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        kills::wait_until(Instant::now() + moment);
        cluster.node(victim)?.kill()?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let told = || format!("round {round}: node {victim} killed after {moment:?}: {said}");
        // Two nodes are there all the time, which is as many as a revocation needs.
        assert!(output.status.success(), "{}", told());
        granted = !granted;
        cluster.node(victim)?.start()?;

        let lists = alice.eds(["key", "sync", "--dry-run", &key])?.success()?.text();
        let (counting, other) = (lists.matches(", the list that counts").count(), lists.matches(", differs").count());
        assert!(counting + other == 3 && counting >= 2, "{}{lists}", told());
        if said.contains("is on 3 of 3") {
            acknowledged_by_victim += 1;
            assert_eq!(counting, 3, "node {victim} forgot what it had acknowledged; {}{lists}", told());
        }
        // The one that may have the old list still cannot change what holds.
        let effective = |granted: bool| -> Outcome {
            let run = reads(&bob, &alice)?;
            if granted { run.success().map(drop) } else { run.refused(exit::DENIED, &[]).map(drop) }
        };
        effective(granted).map_err(|trouble| Trouble::new(format!("{}{trouble}", told())))?;
        alice.eds(["key", "sync", &key])?.success()?;
        let lists = alice.eds(["key", "sync", "--dry-run", &key])?.success()?.text();
        assert!(!lists.contains(", differs"), "{}{lists}", told());
        effective(granted).map_err(|trouble| Trouble::new(format!("{}{trouble}", told())))?;
        reads(&alice, &alice)?.success()?;
    }
    eprintln!("{acknowledged_by_victim} of {} changes were on all nodes before the kill", kills::rounds());
    Ok(())
}

/// The bench itself: a moment is within the usual time and half as much again.
#[test]
fn moments_are_spread_over_the_time_that_the_work_takes() {
    let moments: Vec<_> = (0..100).map(|number| kills::moment(&format!("{number}"), Duration::from_secs(1))).collect();
    assert!(moments.iter().all(|moment| *moment < Duration::from_millis(1_500)));
    assert!(moments.iter().any(|moment| *moment < Duration::from_millis(200)));
    assert!(moments.iter().any(|moment| *moment > Duration::from_millis(1_000)));
}
