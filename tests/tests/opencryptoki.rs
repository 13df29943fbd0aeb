//! A node on openCryptoki beside two on SoftHSM. The whole cluster runs in the namespaces of `tests/opencryptoki/inside`;
//! `make hsm-matrix` runs it.
#![cfg(feature = "hsm-matrix")]

use std::{
    env, fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use eds_tests::{
    Outcome, binaries,
    cluster::{Cluster, Plan},
    give_up,
    node::Token,
    process::Process,
};
use rustix::process::{Pid, Signal, kill_process};

const INSIDE: &str = "EDS_TEST_INSIDE";
const CONTENT: &[u8] = b"an image";

#[test]
fn a_node_on_opencryptoki_registers_and_fetches_beside_others() -> Outcome {
    if env::var_os(INSIDE).is_some() {
        return inside();
    }
    let folder = tempfile::tempdir()?;
    let output = Command::new(binaries::source_root().join("tests/opencryptoki/inside"))
        .arg(folder.path())
        .arg(env::current_exe()?)
        .args(["a_node_on_opencryptoki_registers_and_fetches_beside_others", "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()?;
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("running 1 test"), "{said}\n{error}");
    Ok(())
}

fn inside() -> Outcome {
    let mut cluster = Cluster::make_on(Plan { nodes: 3, floor: 2, relayed: &[] }, &[(3, Token::OpenCryptoki)])?;
    for node in cluster.nodes() {
        node.start()?;
    }
    let user = cluster.user("alice")?;
    fs::write(user.home().join("plain"), CONTENT)?;
    user.eds(["encrypt", "plain", "-o", "sealed"])?.success()?;
    let doctor = String::from_utf8_lossy(&user.eds(["doctor"])?.success()?.stdout).into_owned();
    assert!(doctor.lines().any(|line| line.contains("node 3") && line.contains("WEAKER")), "{doctor}");
    // Without node 1, that on openCryptoki must release its share.
    cluster.node(1)?.stop()?;
    let decrypt = |name: &str| -> Outcome {
        user.eds(["decrypt", "sealed", "-o", name])?.success()?;
        assert_eq!(fs::read(user.home().join(name))?, CONTENT);
        Ok(())
    };
    decrypt("first")?;

    // The module goes on without its daemon, for what it holds and for new keys.
    kill_daemon()?;
    decrypt("second")?;
    cluster.node(1)?.start()?;
    user.eds(["encrypt", "plain", "-o", "another"])?.success()?;
    cluster.node(1)?.stop()?;
    // A node is not started without it, and says so; with it, it is.
    cluster.node(3)?.stop()?;
    let said = cluster.node(3)?.start_refused()?;
    assert!(said.contains("does not start") && said.contains("pkcsslotd"), "{said}");
    let _daemon = start_daemon(cluster.folder())?;
    cluster.node(3)?.start()?;
    decrypt("third")?;
    for name in ["check", "hsm check"] {
        let checked = cluster.node(3)?.command(name, [""; 0])?.success()?;
        let text = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(text.contains("suite 2") && text.contains("private keys: WEAKER"), "{text}");
    }
    cluster.node(3)?.stop()?;
    cluster.node(3)?.command("audit verify", [""; 0])?.success()?;
    Ok(())
}

fn kill_daemon() -> Outcome {
    let text = fs::read_to_string("/run/pkcsslotd.pid")?;
    let Some(process) = text.trim().parse().ok().and_then(Pid::from_raw) else { give_up!("no process id: {text}") };
    kill_process(process, Signal::KILL)?;
    // Its parent is the shell, which waits for the test: what is left of it has no program.
    within(|| fs::read_link(format!("/proc/{}/exe", text.trim())).is_err())?;
    Ok(fs::remove_file("/run/pkcsslotd.socket")?)
}

fn start_daemon(folder: &Path) -> Outcome<Process> {
    let daemon = Process::start("pkcsslotd", Command::new("pkcsslotd").arg("-f"), &folder.join("pkcsslotd.log"))?;
    within(|| Path::new("/run/pkcsslotd.socket").exists())?;
    Ok(daemon)
}

fn within(holds: impl Fn() -> bool) -> Outcome {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        if Instant::now() > until {
            give_up!("it did not come about");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
