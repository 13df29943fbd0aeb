//! A SoftHSM of its own for one test: a process with its own token directory.
//!
//! SoftHSM reads its configuration once in a process, so each test runs itself again in a child process with
//! `SOFTHSM2_CONF` set.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use eds_keystore::{config::HsmConfig, hsm::pin::PinSource};

/// Where Debian's package puts the module.
pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// The PIN of every test token.
pub(crate) const PIN: &str = "73281946";
const DIRECTORY: &str = "EDS_TEST_SOFTHSM_DIRECTORY";

/// The token directory of this test.
pub(crate) struct SoftHsm {
    directory: PathBuf,
}

/// Runs the test of this path, crate name included, with a SoftHSM of its own.
pub(crate) fn with_softhsm(path: &str, test: impl FnOnce(&SoftHsm)) {
    let (_, name) = path.split_once("::").expect("a path");
    if let Ok(directory) = env::var(DIRECTORY) {
        return test(&SoftHsm { directory: directory.into() });
    }
    assert!(Path::new(MODULE).exists(), "{MODULE} is missing: apt-get install softhsm2");
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("tokens")).expect("created");
    let configuration = format!(
        "directories.tokendir = {}/tokens\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        directory.path().display()
    );
    fs::write(directory.path().join("softhsm2.conf"), configuration).expect("written");
    let output = Command::new(env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory.path())
        .env("SOFTHSM2_CONF", directory.path().join("softhsm2.conf"))
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("running 1 test"), "no test is called {name}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

impl SoftHsm {
    /// Makes a token with this label and the usual PIN.
    pub(crate) fn make_token(&self, label: &str) -> HsmConfig {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN])
            .output()
            .expect("softhsm2-util runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.config(label, PIN)
    }

    /// The configuration of a token, with a PIN file that holds `pin`.
    pub(crate) fn config(&self, label: &str, pin: &str) -> HsmConfig {
        let pin_file = self.directory.join(format!("pin-{label}-{}", if pin == PIN { "right" } else { "wrong" }));
        fs::write(&pin_file, pin).expect("written");
        fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o600)).expect("set");
        of_token(MODULE, label, PinSource::File(pin_file))
    }

    /// The directory of the test, for its other files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The configuration of a token, with what does not matter as tests want it.
pub(crate) fn of_token(module: impl Into<PathBuf>, label: &str, pin: PinSource) -> HsmConfig {
    HsmConfig {
        module: module.into(),
        token: label.into(),
        serial: None,
        pin,
        suite: None,
        weaker_wrapped_keys: None,
        threads: 2,
        deadline: Duration::from_secs(20),
        give_up: Duration::from_secs(60),
    }
}
