//! The systemd unit of a key server: systemd understands every line of it, finds it hardened, and gives the server the time
//! that it may need.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use eds_keystore::server::{GRACE, LAST_WAIT};
use eds_tests::{
    Outcome,
    binaries::{find, source_root},
    give_up,
};
use tempfile::TempDir;

fn unit() -> Outcome<String> {
    Ok(fs::read_to_string(source_root().join("hsm-keystore/packaging/eds-keystored.service"))?)
}

/// Writes the unit as it is once the package is installed: its program is there.
fn installed(folder: &TempDir, unit: &str) -> Outcome<PathBuf> {
    let program = find("eds-keystored")?.display().to_string();
    let file = folder.path().join("eds-keystored.service");
    fs::write(&file, unit.replace("/usr/bin/eds-keystored", &program))?;
    Ok(file)
}

fn analyze(words: &[&str], unit: &Path) -> Outcome<Output> {
    Ok(Command::new("systemd-analyze").args(words).arg(unit).output()?)
}

/// Exposure in tenths, as `systemd-analyze security` counts it: 0 is all shut, 100 is all open. What is left is the network,
/// the local sockets of databases and tokens, and the limits that the server sets itself.
const EXPOSURE: &str = "--threshold=13";

fn exposed(unit: &Path) -> Outcome<Output> {
    analyze(&["security", "--offline=true", "--no-pager", EXPOSURE], unit)
}

#[test]
fn systemd_understands_every_line() -> Outcome {
    let folder = TempDir::new()?;
    let unit = unit()?;
    let verify = |text: &str| analyze(&["verify", "--man=no"], &installed(&folder, text)?);
    let said = verify(&unit)?;
    assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));
    // What it does not understand, it says.
    let said = verify(&unit.replace("ProtectSystem=strict", "ProtectSystems=strict"))?;
    assert!(String::from_utf8_lossy(&said.stderr).contains("ProtectSystems"), "{said:?}");
    Ok(())
}

#[test]
fn systemd_finds_it_hardened() -> Outcome {
    let folder = TempDir::new()?;
    let unit = unit()?;
    let said = exposed(&installed(&folder, &unit)?)?;
    if !said.status.success() {
        give_up!("{}", String::from_utf8_lossy(&said.stdout));
    }
    for line in
        ["ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "SystemCallFilter=@system-service"]
    {
        let without = unit.replace(&format!("\n{line}\n"), "\n");
        assert_ne!(without, unit, "{line} is not in the unit");
        assert!(!exposed(&installed(&folder, &without)?)?.status.success(), "nobody misses {line}");
    }
    Ok(())
}

#[test]
fn the_server_has_the_time_to_stop_and_is_not_started_after_a_refused_pin() -> Outcome {
    let unit = unit()?;
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    assert_eq!(value("Type"), "notify");
    let stop: u64 = value("TimeoutStopSec").parse()?;
    assert!(stop > (GRACE + LAST_WAIT).as_secs(), "{stop} s is less than the server may take");
    assert!(value("RestartPreventExitStatus").split(' ').any(|status| status == "3"), "a PIN would be tried again");
    assert_eq!(value("Restart"), "on-failure");
    // The credential of the unit is the one that the example of a configuration names.
    assert!(value("LoadCredential").starts_with("hsm-pin:"), "no PIN");
    Ok(())
}
