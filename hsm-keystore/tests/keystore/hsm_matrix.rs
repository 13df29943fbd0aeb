//! The conformance suite over tokens that `make test` does not install; `scripts/hsm-matrix` builds and names them.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

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

use crate::{
    common::softhsm::{PIN, of_token},
    hsm::{NODE, conforms},
};

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
    of_token(module, "node-1", PinSource::File(pin_file))
}

#[test]
fn kryoptic_conforms_with_either_suite() {
    with_kryoptic("kryoptic_conforms_with_either_suite", |mut config| {
        create_keys(&config, NODE).expect("made");
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

const NSS_DIRECTORY: &str = "EDS_TEST_NSS_DIRECTORY";

/// NSS gives out keys that it calls non-extractable, to whoever may make a wrapping key beside them. It starts only with
/// parameters of its own, so the test module's daemon starts it.
#[test]
fn nss_is_refused_because_it_lets_keys_out() {
    let named = |variable: &str| env::var_os(variable).expect("run scripts/hsm-matrix");
    let Some(directory) = env::var_os(NSS_DIRECTORY) else {
        let directory = tempfile::tempdir().expect("a directory");
        let pin_file = directory.path().join("pin");
        fs::write(&pin_file, PIN).expect("written");
        fs::set_permissions(&pin_file, fs::Permissions::from_mode(0o600)).expect("set");
        let database = format!("sql:{}", directory.path().display());
        let made = Command::new("certutil").args(["-N", "-d", &database, "-f"]).arg(&pin_file).output().expect("runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let socket = directory.path().join("socket");
        let parameters = format!("configdir='{database}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=");
        let mut daemon = Command::new(named("EDS_PKCS11_DAEMON"))
            .args([named("EDS_NSS_MODULE").as_os_str(), socket.as_os_str()])
            .env("EDS_DAEMON_PARAMETERS", parameters)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().expect("piped")).read_line(&mut line).expect("reads");
        let output = Command::new(env::current_exe().expect("this program"))
            .args(["hsm_matrix::nss_is_refused_because_it_lets_keys_out", "--exact", "--nocapture"])
            .env(NSS_DIRECTORY, directory.path())
            .env("EDS_PROXY_SOCKET", socket)
            .output();
        daemon.kill().expect("runs");
        daemon.wait().expect("ends");
        let output = output.expect("runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("running 1 test"), "no such test");
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        return;
    };
    let config =
        of_token(named("EDS_PROXY_MODULE"), "NSS Certificate DB", PinSource::File(Path::new(&directory).join("pin")));
    let refused = create_keys(&config, NODE).expect_err("it is refused").to_string();
    println!("{refused}");
    assert!(refused.contains("gives out the non-extractable"), "{refused}");
}
