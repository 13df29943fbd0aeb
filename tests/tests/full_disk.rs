//! The disk that the output goes to is full: an error that says so, and no file that looks whole.

use std::{fs, process::Command};

use eds_tests::{
    Outcome,
    cluster::Cluster,
    sample,
    trouble::During as _,
    user::{User, exit, run},
};

/// Runs a script of the user with `small/`, a file system of 64 KiB that exists for this script alone.
fn with_a_small_disk(user: &User, script: &str) -> Outcome<eds_tests::user::Run> {
    fs::create_dir_all(user.home().join("small"))?;
    let inner = user.shell(&format!("mount -t tmpfs -o size=64k tmpfs small; {script}"));
    let as_root = rustix::process::geteuid().is_root();
    let mut command = Command::new("unshare");
    command.arg(if as_root { "--mount" } else { "-rm" }).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(user.home());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    run(&mut command).during("a mount namespace of our own")
}

#[test]
fn decrypting_onto_a_full_disk_leaves_nothing() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), sample::bytes("large", 500_000))?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    let list = "code=0; eds decrypt cipher -o small/out || code=$?; ls -A small; exit $code";
    with_a_small_disk(&alice, list)?.refused(exit::LOCAL_IO, &["No space left", "hint: free some space"])?;
    Ok(())
}

#[test]
fn encrypting_onto_a_full_disk_leaves_nothing() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), sample::bytes("large", 500_000))?;
    let list = "code=0; eds encrypt plain -o small/out || code=$?; ls -A small; exit $code";
    with_a_small_disk(&alice, list)?.refused(exit::LOCAL_IO, &["No space left", "hint: free some space"])?;
    Ok(())
}

#[test]
fn standard_output_that_is_full_is_an_error() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), sample::bytes("large", 500_000))?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    run(&mut alice.shell("eds decrypt cipher -o - > /dev/full"))?.failed(exit::LOCAL_IO, &["No space left"])?;
    run(&mut alice.shell("eds encrypt plain -o - > /dev/full"))?.failed(exit::LOCAL_IO, &["No space left"])?;
    Ok(())
}
