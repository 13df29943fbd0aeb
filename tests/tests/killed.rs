//! A command that is killed while it writes: nothing under the final name, and what it left is swept by the next run.
//!
//! `make soak` repeats the kills some hundreds of times.

use std::{fs, io::Write as _, process::Stdio, time::Duration};

use eds_tests::{Outcome, Trouble, cluster::Cluster, files, sample, user::User};

fn rounds() -> u64 {
    if std::env::var_os("EDS_SOAK").is_some() { 400 } else { 12 }
}

/// Starts a command, feeds it a part of its input, and kills it while it waits for the rest.
fn kill_after_a_part(user: &User, arguments: &[&str], part: &[u8]) -> Outcome {
    let mut child =
        user.command(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut pipe = child.stdin.take().ok_or_else(|| Trouble::new("no standard input"))?;
    // The pipe holds 64 KiB: whatever is more than that was taken by the program when this returns.
    pipe.write_all(part)?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// The files of a folder, without what a killed command may leave where files cannot be made without a name.
fn visible(user: &User) -> Outcome<Vec<String>> {
    let mut names = files::names(user.home())?;
    names.retain(|name| !name.starts_with(".eds-tmp-"));
    Ok(names)
}

#[test]
fn encrypting_that_is_killed_leaves_no_file_of_that_name() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let content = sample::bytes("to be cut short", 4_000_000);
    for round in 0..rounds() {
        let before = visible(&alice)?;
        let length = sample::below(&format!("encrypt {round}"), content.len() as u64) as usize;
        kill_after_a_part(&alice, &["encrypt", "-", "-o", "out"], content.get(..length).unwrap_or_default())?;
        assert_eq!(visible(&alice)?, before, "after {length} bytes");
    }
    Ok(())
}

#[test]
fn decrypting_that_is_killed_leaves_no_file_of_that_name() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let content = sample::bytes("to be cut short", 4_000_000);
    let cipher = alice.eds_fed(["encrypt", "-", "-o", "-"], &content)?.success()?.stdout;
    for round in 0..rounds() {
        let before = visible(&alice)?;
        let length = sample::below(&format!("decrypt {round}"), cipher.len() as u64) as usize;
        kill_after_a_part(&alice, &["decrypt", "-", "-o", "out"], cipher.get(..length).unwrap_or_default())?;
        assert_eq!(visible(&alice)?, before, "after {length} bytes");
    }
    Ok(())
}

#[test]
fn a_file_is_whole_or_absent_whenever_the_kill_comes() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let content = sample::bytes("whole or absent", 3_000_000);
    fs::write(alice.home().join("plain"), &content)?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    let out = alice.home().join("out");
    let start = std::time::Instant::now();
    alice.eds(["decrypt", "cipher", "-o", "out"])?.success()?;
    let usual = start.elapsed();
    fs::remove_file(&out)?;
    let mut whole = 0;
    for round in 0..rounds() {
        let mut child = alice.command(["decrypt", "cipher", "-o", "out"]).stderr(Stdio::null()).spawn()?;
        let moment = usual.mul_f64(sample::below(&format!("moment {round}"), 1200) as f64 / 1000.0);
        wait_at_most(&mut child, moment)?;
        let _ = child.kill();
        child.wait()?;
        if out.exists() {
            whole += 1;
            assert_eq!(fs::read(&out)?, content, "after {moment:?} of {usual:?}");
            fs::remove_file(&out)?;
        }
    }
    eprintln!("{whole} of {} runs were complete before the kill", rounds());
    Ok(())
}

#[test]
fn what_a_killed_command_left_is_swept_by_the_next() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), "something")?;
    let left = alice.home().join(".eds-tmp-0123456789abcdef");
    fs::write(&left, "half of an image")?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    assert!(!left.exists(), "the temporary file is still there");
    Ok(())
}

/// Waits for a moment that is chosen at random, or until the program ended.
fn wait_at_most(child: &mut std::process::Child, moment: Duration) -> Outcome {
    let deadline = std::time::Instant::now() + moment;
    while std::time::Instant::now() < deadline && child.try_wait()?.is_none() {
        std::thread::yield_now();
    }
    Ok(())
}
