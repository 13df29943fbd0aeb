//! On a real terminal, which `script` makes, a registration shows how far it is in one line and takes it away at its end; where
//! nobody would see it, it does not.

use eds_tests::{Outcome, cluster::Cluster, dicom, user::run};

/// What takes the line away.
const CLEAR: &str = "\r\u{1b}[K";

#[test]
fn a_terminal_shows_how_far_a_registration_is_and_a_pipe_does_not() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    dicom::write_study(&alice.home().join("ward"), 30)?;
    dicom::write_study(&alice.home().join("more"), 31)?;
    let on_terminal = |command: &str| -> Outcome<String> {
        let script = format!("script --quiet --return --flush --command '{command}' /dev/null </dev/null");
        Ok(run(&mut alice.shell(&script))?.success()?.text())
    };
    let shown = on_terminal("eds register --key-per study ward")?;
    for part in ["0/30 files, 0 of 1 MB, ", " MB/s, ", " left\u{1b}[K", "30 registered"] {
        assert!(shown.contains(part), "{part:?} is not in {shown:?}");
    }
    let (_, after) = shown.rsplit_once(" left").unwrap_or_default();
    assert!(after.contains(CLEAR), "the line is left standing: {shown:?}");
    assert_eq!(shown.lines().filter(|line| line.ends_with(".dcm")).count(), 30, "{shown:?}");

    // Events are for programs, and so is a pipe.
    let events = on_terminal("eds register --key-per study --json more")?;
    assert!(events.contains("\"event\":\"end\"") && !events.contains(" files, "), "{events:?}");
    let piped = alice.eds(["register", "ward"])?.success()?;
    assert!(!piped.stderr.contains(" files, ") && !piped.stderr.contains('\r'), "{piped:?}");
    Ok(())
}
