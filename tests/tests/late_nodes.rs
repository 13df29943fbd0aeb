//! Key servers that are away at a registration with a quorum: what is acknowledged is safe, their shares wait on the client's
//! disk and reach them later, with everything that changed in between.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use eds_tests::{
    Outcome, Trouble,
    cluster::Cluster,
    dicom, files, sample,
    user::{Run, User, exit},
};

/// A cluster of three of which the third does not run, and a user who is content with two.
fn two_of_three() -> Outcome<(Cluster, User)> {
    let mut cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    content_with_two(&alice)?;
    cluster.node(3)?.kill()?;
    Ok((cluster, alice))
}

fn content_with_two(user: &User) -> Outcome {
    Ok(fs::write(user.config(), fs::read_to_string(user.config())? + "\n[keys]\nquorum = 2\n")?)
}

fn content() -> Vec<u8> {
    sample::bytes("content", 50_000)
}

fn encrypt(user: &User, cipher: &str) -> Outcome<Run> {
    fs::write(user.home().join("plain"), content())?;
    user.eds(["encrypt", "plain", "-o", cipher])?.success()
}

fn decrypt(user: &User, cipher: &Path) -> Outcome<Run> {
    user.eds(["decrypt".as_ref(), cipher.as_os_str(), "-o".as_ref(), "back".as_ref(), "--force".as_ref()])
}

fn assert_opens(user: &User, cipher: &Path) -> Outcome {
    decrypt(user, cipher)?.success()?;
    assert_eq!(fs::read(user.home().join("back"))?, content());
    Ok(())
}

fn waiting(user: &User) -> Outcome<usize> {
    Ok(user.eds(["queue", "list"])?.success()?.text().lines().count())
}

/// What a node holds of a key, as it says itself.
fn on_node(user: &User, node: u16, key: &str) -> Outcome<String> {
    let shown = user.eds(["key", "status", key])?.text();
    let line = shown.lines().find(|line| line.starts_with(&format!("node {node} "))).map(str::to_owned);
    line.ok_or_else(|| Trouble::new(shown))
}

#[test]
fn an_image_is_registered_with_two_of_three_and_the_third_opens_it_later() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let original = fs::read(dicom::ct_small()?)?;
    fs::write(alice.home().join("scan.dcm"), &original)?;
    cluster.node(3)?.kill()?;
    // Without being asked for less, all are needed; and a quorum lies between m and n.
    alice.eds(["register", "scan.dcm"])?.refused(exit::UNAVAILABLE, &["every node must store its share", "node 3"])?;
    for wrong in ["1", "4"] {
        let said = [format!("a quorum of {wrong} does not fit"), "hint: ".into()];
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        alice.eds(["register", "scan.dcm", "--quorum", wrong])?.refused(exit::USAGE, &said)?;
    }
    alice
        .eds(["register", "scan.dcm", "--quorum", "few"])?
        .refused(exit::USAGE, &["a number of key servers, or all"])?;
    content_with_two(&alice)?;
    alice.eds(["register", "scan.dcm", "--quorum", "all"])?.refused(exit::UNAVAILABLE, &["every node must"])?;
    assert_eq!(waiting(&alice)?, 0);

    let done = alice.eds(["register", "scan.dcm"])?.success()?;
    let id = done.id();
    for said in [
        "2 of 3 key servers hold their shares",
        "all of these are needed",
        "node 3 (",
        "4 share(s) wait",
        "eds queue run",
    ] {
        assert!(done.stderr.contains(said), "no {said:?} in\n{}", done.stderr);
    }
    // The two keys of the project, and those of image and private part.
    assert_eq!(waiting(&alice)?, 3);
    let queue = alice.state().join("queue.sqlite");
    assert_eq!(fs::metadata(&queue)?.permissions().mode() & 0o077, 0);
    let retrieve = || -> Outcome {
        let run = alice.eds(["retrieve", &id, "--restore", "-o", "back", "--force"])?.success()?;
        assert_eq!(fs::read(alice.home().join("back"))?, original);
        // Whoever closes the laptop is told each time.
        assert_eq!(run.stderr.contains("wait on this computer for node 3"), queue_is_full(&alice)?, "{}", run.stderr);
        Ok(())
    };
    retrieve()?;
    alice.eds(["key", "status", &id])?.failed(
        exit::UNAVAILABLE,
        &["waits in the queue of this computer since", "cannot be reached", "eds queue run"],
    )?;
    let doctor = alice.eds(["doctor"])?.text();
    assert!(doctor.contains("ok    queue") && doctor.contains("3 for node 3"), "{doctor}");
    alice.eds(["queue", "show", "1"])?.success()?;
    alice.eds(["queue", "run"])?.failed(exit::UNAVAILABLE, &["3 message(s) still wait", "eds queue run"])?;

    cluster.node(3)?.start()?;
    // Nobody but the registrant delivers it, and a renewed certificate of the same name is the same registrant.
    cluster.authority().person("mallory")?.write(alice.home(), "me")?;
    let stuck = alice.eds(["queue", "run"])?.failed(exit::DENIED, &["3 of them for ever"])?;
    assert!(stuck.text().contains("nobody but its registrant can deliver it"), "{}", stuck.text());
    cluster.authority().person("alice")?.write(alice.home(), "me")?;
    let run = alice.eds(["queue", "run"])?.success()?.text();
    assert_eq!(run.matches("delivered  ").count(), 3, "{run}");
    assert_eq!(waiting(&alice)?, 0);
    alice.eds(["key", "status", &id])?.success()?;
    alice.eds(["doctor"])?.success()?;
    for number in [1, 2] {
        cluster.node(number)?.kill()?;
        retrieve()?;
        cluster.node(number)?.start()?;
    }
    Ok(())
}

fn queue_is_full(user: &User) -> Outcome<bool> {
    Ok(waiting(user)? > 0)
}

#[test]
fn what_waits_goes_along_with_the_next_registration_and_a_frozen_node_holds_nobody_up() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    content_with_two(&alice)?;
    encrypt(&alice, "first")?;
    cluster.node(3)?.pause()?;
    let start = Instant::now();
    encrypt(&alice, "second")?;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?} with a frozen node", start.elapsed());
    assert_eq!(waiting(&alice)?, 1);
    // It may have the message of the call that was given up: delivering is the same registration.
    cluster.node(3)?.resume()?;
    let third = encrypt(&alice, "third")?;
    assert!(!third.stderr.contains("wait on this computer"), "{}", third.stderr);
    assert_eq!(waiting(&alice)?, 0);
    cluster.node(1)?.kill()?;
    for cipher in ["first", "second", "third"] {
        assert_opens(&alice, &alice.home().join(cipher))?;
    }
    Ok(())
}

#[test]
fn a_damaged_queue_is_told_and_nothing_is_lost() -> Outcome {
    let (mut cluster, alice) = two_of_three()?;
    encrypt(&alice, "cipher")?;
    let (queue, good) = (alice.state().join("queue.sqlite"), alice.home().join("queue.good"));
    fs::copy(&queue, &good)?;
    fs::write(&queue, vec![b'x'; 20_000])?;
    cluster.node(3)?.start()?;
    for command in ["run", "list"] {
        alice
            .eds(["queue", command])?
            .refused(exit::DAMAGED, &["queue.sqlite", "hint: nothing that the key servers hold"])?;
    }
    let doctor = alice.eds(["doctor"])?.failed(exit::DAMAGED, &[])?.text();
    assert!(doctor.contains("FAIL  queue"), "{doctor}");
    // What others hold is opened, with a warning; what might have to wait is not begun.
    let run = decrypt(&alice, &alice.home().join("cipher"))?.success()?;
    assert!(run.stderr.contains("warning: the queue "), "{}", run.stderr);
    alice.eds(["encrypt", "plain", "-o", "other"])?.refused(exit::DAMAGED, &["queue.sqlite"])?;
    assert!(!alice.home().join("other").exists());
    alice.eds(["encrypt", "plain", "-o", "other", "--quorum", "all"])?.success()?;
    assert_eq!(fs::read(&queue)?, vec![b'x'; 20_000], "it is left for who can repair it");

    fs::copy(&good, &queue)?;
    alice.eds(["queue", "run"])?.success()?;
    cluster.node(2)?.kill()?;
    assert_opens(&alice, &alice.home().join("cipher"))
}

#[test]
fn who_was_revoked_in_between_gets_nothing_from_the_late_node() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let (alice, bob, carol) = (cluster.user("alice")?, cluster.user("bob")?, cluster.user("carol")?);
    let (bob_name, carol_name, alice_name) = (bob.name()?, carol.name()?, alice.name()?);
    content_with_two(&alice)?;
    cluster.node(3)?.kill()?;
    let key = encrypt(&alice, "cipher")?.key();
    let cipher = alice.home().join("cipher");
    alice.eds(["key", "setacl", "-m", &format!("{bob_name}:lg"), &key])?.success()?;
    assert_opens(&bob, &cipher)?;
    alice.eds(["key", "setacl", "-d", &bob_name, &key])?.success()?;
    // She gives it away, and keeps nothing: not even that she could see who may use it.
    alice.eds(["key", "chown", "--owner", &carol_name, &key])?.success()?;
    cluster.node(3)?.start()?;
    let refused = alice.eds(["queue", "run"])?.failed(exit::DENIED, &["1 message(s) still wait"])?;
    assert!(refused.text().contains("must first say who may use the key"), "{}", refused.text());
    assert!(on_node(&carol, 3, &key)?.contains("no such key"), "{}", on_node(&carol, 3, &key)?);

    carol.eds(["key", "setacl", "-m", &format!("{alice_name}:l"), &key])?.success()?;
    alice.eds(["queue", "run"])?.success()?;
    let lists = carol.eds(["key", "acl", "-v", &key])?.success()?.text();
    assert_eq!(lists.matches("# Version: 4").count(), 3, "{lists}");
    cluster.node(1)?.kill()?;
    assert_opens(&carol, &cipher)?;
    for revoked in [&alice, &bob] {
        decrypt(revoked, &cipher)?.refused(exit::DENIED, &["0 of the 2 shares", "node 2", "node 3"])?;
    }
    Ok(())
}

#[test]
fn what_was_deleted_in_between_does_not_come_back() -> Outcome {
    let (mut cluster, alice) = two_of_three()?;
    let key = encrypt(&alice, "cipher")?.key();
    let (queue, old) = (alice.state().join("queue.sqlite"), alice.home().join("queue.old"));
    fs::copy(&queue, &old)?;
    alice.eds(["key", "rm", "--yes", &key])?.refused(exit::UNAVAILABLE, &["node 3"])?;
    assert_eq!(waiting(&alice)?, 0, "it is dropped with the key");
    cluster.node(3)?.start()?;
    let done = alice.eds(["key", "rm", "--yes", &key])?.success()?;
    assert!(done.stderr.contains("and 1 never had it"), "{}", done.stderr);
    // From a backup of the queue, it is not delivered either.
    fs::copy(&old, &queue)?;
    let run = alice.eds(["queue", "run"])?.success()?.text();
    assert!(run.contains("deleted meanwhile"), "{run}");
    assert_eq!(waiting(&alice)?, 0);
    assert!(on_node(&alice, 3, &key)?.contains("no such key"));
    Ok(())
}

#[test]
fn a_share_for_a_node_that_the_directory_gave_up_is_named_and_can_be_dropped() -> Outcome {
    let (mut cluster, alice) = two_of_three()?;
    encrypt(&alice, "cipher")?;
    cluster.officer().eds(["cluster", "retire", "draft.toml", "3"])?.success()?;
    cluster.sign()?;
    let directory = cluster.directory();
    let update: [&OsStr; 3] = ["cluster".as_ref(), "update".as_ref(), directory.as_ref()];
    alice.eds(update)?.success()?;
    for node in cluster.nodes().iter_mut().take(2) {
        node.restart()?;
    }
    let run = alice.eds(["queue", "run"])?.failed(exit::CONFLICT, &["1 of them for ever", "eds queue drop"])?;
    assert!(run.text().contains("STUCK") && run.text().contains("node 3 takes no shares any more"), "{}", run.text());
    let doctor = alice.eds(["doctor"])?.text();
    assert!(doctor.contains("FAIL  queue") && doctor.contains("can never be delivered"), "{doctor}");
    alice.eds(["queue", "drop", "2"])?.refused(exit::NOT_FOUND, &["there is no message 2"])?;
    alice.eds(["queue", "drop", "1"])?.refused(exit::USAGE, &["node 3 never gets its share", "not confirmed"])?;
    assert_eq!(waiting(&alice)?, 1);
    alice.eds_fed(["queue", "drop", "1"], b"yes\n")?.success()?;
    assert_eq!(waiting(&alice)?, 0);
    assert_opens(&alice, &alice.home().join("cipher"))
}

fn rounds() -> u64 {
    if std::env::var_os("EDS_SOAK").is_some() { 200 } else { 20 }
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_client_is_killed() -> Outcome {
    eprintln!("seed {}", sample::seed());
    let (mut cluster, alice) = two_of_three()?;
    let start = Instant::now();
    let mut ciphers = vec![String::from("whole")];
    encrypt(&alice, "whole")?;
    let usual = start.elapsed();
    let mut begun = 1;
    for round in 0..rounds() {
        let cipher = format!("cipher-{round}");
        let mut child =
            alice.command(["encrypt", "plain", "-o", &cipher]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // Late moments more often: that is where the nodes have answered and the queue is written.
        let moment = usual.mul_f64(sample::below(&format!("moment {round}"), 900) as f64 / 1000.0 + 0.2);
        let done = killed_after(&mut child, moment)?;
        assert!(!done || alice.home().join(&cipher).exists(), "round {round}: told, and there is no file");
        begun += 1;
        if alice.home().join(&cipher).exists() {
            // Acknowledged or about to be: what the third node lacks is in the queue.
            ciphers.push(cipher);
            assert!(waiting(&alice)? >= ciphers.len(), "round {round}: nothing waits for node 3");
        }
    }
    eprintln!("{} of {begun} registrations were complete, {} wait", ciphers.len(), waiting(&alice)?);
    cluster.node(3)?.start()?;
    for round in 0..rounds() / 4 {
        let mut child = alice.command(["queue", "run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        killed_after(&mut child, usual.mul_f64(sample::below(&format!("delivery {round}"), 1000) as f64 / 1000.0))?;
    }
    alice.eds(["queue", "run"])?.success()?;
    assert_eq!(waiting(&alice)?, 0);
    // No half: what is in use anywhere is in use everywhere, and the third node has nothing that is not.
    let listed = alice.eds(["key", "ls"])?.success()?.text();
    for line in listed.lines() {
        let key = line.split_whitespace().next().unwrap_or_default();
        let shown = alice.eds(["key", "status", key])?.text();
        let states: Vec<_> = shown.lines().skip(1).collect();
        let count = |word: &str| states.iter().filter(|line| line.contains(word)).count();
        let third = states.iter().any(|line| line.starts_with("node 3 ") && line.contains("no such key"));
        assert!(count("  active") == 3 || (count("  active") == 0 && third), "{shown}");
    }
    for away in [1, 2] {
        cluster.node(away)?.kill()?;
        for cipher in &ciphers {
            assert_opens(&alice, &alice.home().join(cipher))?;
        }
        cluster.node(away)?.start()?;
    }
    let temporary = files::names(alice.home())?.into_iter().filter(|name| name.starts_with("cipher-")).count();
    assert_eq!(temporary + 1, ciphers.len());
    Ok(())
}

/// Kills a program after some time, unless it ended before; says whether it ended well.
fn killed_after(child: &mut Child, moment: Duration) -> Outcome<bool> {
    let deadline = Instant::now() + moment;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        std::thread::yield_now();
    }
    child.kill()?;
    Ok(child.wait()?.success())
}
