//! The conformance suite over tokens that `make test` does not install; `scripts/hsm-matrix` builds and names them.

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    session::UserType,
    types::AuthPin,
};
use eds_keystore::{
    config::HsmConfig,
    hsm::{
        Hsm, Suite,
        pin::PinSource,
        pkcs11::{Pkcs11Hsm, create_keys},
    },
};

use crate::{common::softhsm::PIN, hsm::conforms};

const DIRECTORY: &str = "EDS_TEST_KRYOPTIC_DIRECTORY";

/// Runs the test of this name in a process of its own, with an empty kryoptic token.
fn with_kryoptic(name: &str, test: impl FnOnce(HsmConfig)) {
    let module = env::var_os("EDS_KRYOPTIC_MODULE").expect("run scripts/hsm-matrix");
    if let Some(directory) = env::var_os(DIRECTORY) {
        return test(new_token(Path::new(&module), Path::new(&directory)));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let settings = directory.path().join("token.conf");
    let database = directory.path().join("token.sql");
    fs::write(&settings, format!("[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = {database:?}\n"))
        .expect("written");
    let output = Command::new(env::current_exe().expect("this program"))
        .args([&format!("hsm_matrix::{name}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory.path())
        .env("KRYOPTIC_CONF", settings)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("running 1 test"), "no test is called {name}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn new_token(module: &Path, directory: &Path) -> HsmConfig {
    let pin_file = directory.join("pin");
    fs::write(&pin_file, PIN).expect("written");
    fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o600)).expect("set");
    let loaded = Pkcs11::new(module).expect("loads");
    loaded.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).expect("starts");
    let slot = loaded.get_all_slots().expect("lists")[0];
    let officer = AuthPin::from("12345678".to_owned());
    loaded.init_token(slot, &officer, "node-1").expect("initialises");
    let session = loaded.open_rw_session(slot).expect("opens");
    session.login(UserType::So, Some(&officer)).expect("logs in");
    session.init_pin(&AuthPin::from(PIN.to_owned())).expect("sets the PIN");
    session.logout().expect("logs out");
    HsmConfig {
        module: module.into(),
        token: "node-1".into(),
        serial: None,
        pin: PinSource::File(pin_file),
        suite: None,
        threads: 2,
        deadline: Duration::from_secs(20),
        give_up: Duration::from_secs(60),
    }
}

#[test]
fn kryoptic_conforms_with_either_suite() {
    with_kryoptic("kryoptic_conforms_with_either_suite", |mut config| {
        create_keys(&config).expect("made");
        for suite in [None, Some(Suite::Aes256CbcHmac)] {
            config.suite = suite;
            let hsm = Pkcs11Hsm::open(&config).expect("opens");
            conforms(&hsm);
            for check in hsm.inspect().expect("looks") {
                println!("{}: {:?}", check.what, check.outcome);
            }
        }
    });
}
