//! Thousands of clients that hold a connection and do nothing: others do not notice, and the server's memory stays
//! bounded. 2,000 of them, and 10,000 with `EDS_SOAK=1`, as far as this process may have files.

use std::{
    fs,
    time::{Duration, Instant},
};

use eds_keystore::server::limits::raise_files;
use eds_tests::{
    Outcome, Trouble,
    cluster::{Cluster, Plan},
    crowd::{Crowd, Slow},
    user::User,
};

/// What a connection may cost a server, in bytes, whatever its client does.
const PER_CONNECTION: u64 = 64 * 1024;
/// The longest that a good client may wait, on a busy machine.
const IN_TIME: Duration = Duration::from_secs(15);
const FILES_FOR_OTHERS: u64 = 500;

/// The memory of a process, in bytes.
fn memory(process: Option<u32>) -> Outcome<u64> {
    let process = process.ok_or_else(|| Trouble::new("the node does not run"))?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let kilobytes: u64 = resident.and_then(|text| text.trim().parse().ok()).ok_or_else(|| Trouble::new("no VmRSS"))?;
    Ok(kilobytes * 1024)
}

/// Fetches a key, and says how long it took.
fn fetch(user: &User) -> Outcome<Duration> {
    let begun = Instant::now();
    user.eds(["decrypt", "sealed.eds", "-o", "copy", "--force"])?.success()?;
    assert_eq!(fs::read(user.home().join("copy"))?, b"an image");
    Ok(begun.elapsed())
}

fn ward(limits: &str) -> Outcome<(Cluster, User)> {
    let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let user = cluster.user("alice")?;
    let node = cluster.node(1)?;
    node.add_settings(&format!("\n[limits]\n{limits}\n"))?;
    node.start()?;
    fs::write(user.home().join("plain"), "an image")?;
    user.eds(["encrypt", "plain", "-o", "sealed.eds"])?.success()?;
    Ok((cluster, user))
}

#[test]
fn good_clients_are_served_beside_thousands_of_slow_ones() -> Outcome {
    let wanted = if std::env::var_os("EDS_SOAK").is_some() { 10_000 } else { 2_000 };
    let files = raise_files().unwrap_or(u64::MAX).saturating_sub(FILES_FOR_OTHERS);
    let wanted = files.min(wanted);
    let patient = "connections_per_address = 16384\nhandshake_ms = 600000\nhead_ms = 600000\nbody_ms = 600000\n\
                   request_ms = 600000\nidle_ms = 600000";
    let (mut cluster, user) = ward(patient)?;
    let alone = fetch(&user)?;
    let process = cluster.node(1)?.process_id();
    let before = memory(process)?;
    let mut crowd = Crowd::before(&mut cluster, 1, &user)?;
    let mut slowest = Duration::ZERO;
    for (number, slow) in (0..wanted).zip(Slow::ALL.into_iter().cycle()) {
        crowd.add(slow)?;
        if number % 500 == 0 {
            slowest = slowest.max(fetch(&user)?);
        }
    }
    slowest = slowest.max(fetch(&user)?);
    assert_eq!(crowd.held()?, crowd.len(), "the server let go of connections that it must hold");
    assert!(slowest < IN_TIME, "a good client waited {slowest:?}");
    let each = memory(process)?.saturating_sub(before) / wanted.max(1);
    eprintln!(
        "{wanted} slow clients: {each} bytes each; a fetch takes {alone:?} without them, {slowest:?} at most with"
    );
    assert!(each < PER_CONNECTION, "each connection costs {each} bytes");
    drop(crowd);
    fetch(&user)?;
    cluster.node(1)?.stop()
}

#[test]
fn slow_clients_are_let_go_and_give_their_places_to_others() -> Outcome {
    let (mut cluster, user) = ward(
        "connections = 40\nhandshake_ms = 500\nhead_ms = 500\nbody_ms = 500\nidle_ms = 500\nconnections_per_address = 40",
    )?;
    let mut crowd = Crowd::before(&mut cluster, 1, &user)?;
    // Three times as many as the server holds: each has its turn when others are let go.
    for slow in Slow::ALL.into_iter().cycle().take(120) {
        crowd.add(slow)?;
    }
    assert!(fetch(&user)? < IN_TIME);
    let deadline = Instant::now() + IN_TIME;
    while crowd.held()? > 0 {
        assert!(Instant::now() < deadline, "{} slow clients are still held", crowd.held()?);
        fetch(&user)?;
    }
    cluster.node(1)?.stop()
}
