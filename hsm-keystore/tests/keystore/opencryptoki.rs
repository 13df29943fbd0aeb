//! openCryptoki 3.8.1, which has neither AES-GCM nor elliptic curves: suite 2, and key pairs wrapped by the KEK where the
//! officers permit that. `tests/opencryptoki/inside` gives each test a state and a daemon of its own.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cryptoki::{context::Pkcs11, object::Attribute, session::UserType, types::AuthPin};
use eds_core::ids::NodeId;
use eds_keystore::{
    config::HsmConfig,
    hsm::{
        Custody, Health, Hsm, HsmErrorKind, Suite,
        pin::PinSource,
        pkcs11::{Pkcs11Hsm, Place, Role, create_keys, prepare_token},
        wrapped::WrappedKeys,
    },
};
use p256::elliptic_curve::sec1::ToSec1Point;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    common::softhsm::{PIN, of_token},
    hsm::{NODE, conforms},
};

const FOLDER: &str = "EDS_TEST_OPENCRYPTOKI_DIRECTORY";
/// That of a token that was never initialised.
const OFFICERS_PIN: &str = "87654321";
const FILE: &str = "node.wrapped-keys.json";

/// Runs the test of this name in a process of its own, with a token that is initialised and empty.
fn with_opencryptoki(name: &str, test: impl FnOnce(HsmConfig)) {
    if let Some(folder) = env::var_os(FOLDER) {
        return test(new_token(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().expect("a directory");
    let inside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/opencryptoki/inside");
    let output = Command::new(inside)
        .arg(folder.path())
        .arg(env::current_exe().expect("this program"))
        .args([&format!("opencryptoki::{name}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("running 1 test"), "no test is called {name}: {error}");
    assert!(output.status.success(), "{text}\n{error}");
}

fn new_token(folder: &Path) -> HsmConfig {
    let private = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        PinSource::File(file)
    };
    let config = of_token(
        env::var_os("EDS_OPENCRYPTOKI_MODULE").expect("run scripts/hsm-matrix"),
        "node-1",
        private("pin", PIN),
    );
    let told = prepare_token(&config, &private("so-pin", OFFICERS_PIN)).expect("initialised");
    assert!(told.contains("IBM SoftTok"), "{told}");
    config
}

/// The configuration that permits weaker keys.
fn permitting(config: &HsmConfig) -> HsmConfig {
    let folder = PathBuf::from(env::var_os(FOLDER).expect("inside"));
    HsmConfig { weaker_wrapped_keys: Some(folder.join(FILE)), ..config.clone() }
}

/// A token with keys, and the configuration that permits them.
fn made(config: &HsmConfig) -> HsmConfig {
    let config = permitting(config);
    create_keys(&config, NODE).expect("made").keep_wrapped(&config).expect("written");
    config
}

fn refusal(config: &HsmConfig) -> String {
    Pkcs11Hsm::open(config).err().expect("refused").to_string()
}

#[test]
fn without_the_officers_word_it_is_refused_and_with_it_it_conforms() {
    with_opencryptoki("without_the_officers_word_it_is_refused_and_with_it_it_conforms", |config| {
        let refused = create_keys(&config, NODE).expect_err("it has no elliptic curves").to_string();
        println!("{refused}");
        for told in ["eds-transport", "MechanismInvalid", "weaker", "weaker_wrapped_keys = \"node.wrapped-keys.json\""]
        {
            assert!(refused.contains(told), "{told}: {refused}");
        }
        // The refusal left nothing behind: else the second ceremony would be refused.
        let permitting = permitting(&config);
        let ceremony = create_keys(&permitting, NODE).expect("made");
        assert_eq!(ceremony.custody, Custody { transport_in_memory: true, audit_in_memory: true });
        assert_eq!(ceremony.why_weaker.len(), 2);
        for key in &ceremony.keys {
            assert_eq!(key.role.kind() == "EC P-256", matches!(key.place, Place::Wrapped { .. }), "{key:?}");
        }
        ceremony.keep_wrapped(&permitting).expect("written");

        let hsm = Pkcs11Hsm::open(&permitting).expect("opens");
        assert_eq!((hsm.transport_key(), hsm.audit_key()), (ceremony.transport, ceremony.audit));
        assert_eq!(hsm.describe().expect("described"), ceremony.keys);
        assert_eq!(hsm.wrapped_for(), Some(NODE));
        conforms(&hsm);
        let told = hsm.inspect().expect("looks");
        let weaker = told.iter().filter(|check| check.outcome.as_ref().is_ok_and(|found| found.contains("WEAKER")));
        assert_eq!(weaker.count(), 3, "{told:?}");
        assert!(hsm.suite().contains("suite 2"), "{}", hsm.suite());
        for key in WrappedKeys::load(permitting.weaker_wrapped_keys.as_ref().expect("a file")).expect("read").keys() {
            assert_eq!(key.wrapped_by(), Some((Suite::Aes256CbcHmac, hsm.kek())));
        }
        drop(hsm);

        // The line is needed at each start, not at the ceremony alone.
        let refused = refusal(&config);
        assert!(refused.contains("eds-transport") && refused.contains("hsm.weaker_wrapped_keys"), "{refused}");
    });
}

#[test]
fn wrapped_keys_that_are_not_this_tokens_are_refused() {
    with_opencryptoki("wrapped_keys_that_are_not_this_tokens_are_refused", |config| {
        let config = made(&config);
        let file = config.weaker_wrapped_keys.clone().expect("a file");
        let good = fs::read_to_string(&file).expect("written");
        let with = |text: &str| {
            fs::write(&file, text).expect("written");
            let refused = refusal(&config);
            fs::write(&file, &good).expect("written");
            refused
        };
        // One character of the first record.
        let (before, record) = good.split_once("\"record\": \"").expect("a record");
        let altered = if record.as_bytes()[60] == b'A' { "B" } else { "A" };
        let altered = with(&format!("{before}\"record\": \"{}{altered}{}", &record[..60], &record[61..]));
        assert!(altered.contains("\"eds-transport\"") && altered.contains("does not open"), "{altered}");
        // For another node, and for the other purpose.
        let other = NodeId::from_bytes([9; 16]).to_string();
        let foreign = with(&good.replace(&NODE.to_string(), &other));
        assert!(foreign.contains("does not open") && foreign.contains(&other), "{foreign}");
        let swapped =
            good.replace("eds-audit", "x").replace("eds-transport", "eds-audit").replace("\"x\"", "\"eds-transport\"");
        assert!(with(&swapped).contains("does not open"));
        assert!(with("{}").contains("not as `eds-keystored init` wrote it"));
        // One of the two is missing, and the token does not have it.
        let lone = serde_json::from_str::<serde_json::Value>(&good).map(|mut text| {
            text["keys"].as_array_mut().expect("a list").truncate(1);
            text.to_string()
        });
        assert!(with(&lone.expect("JSON")).contains("there is no key \"eds-audit\""));
        drop(Pkcs11Hsm::open(&config).expect("as it was, it opens"));

        // Another KEK: the keys of the token are made anew, and the file is the old one.
        destroy_keys(&config);
        create_keys(&config, NODE).expect("made");
        let kek = refusal(&config);
        println!("{kek}");
        assert!(kek.contains("does not open") && kek.contains("another token"), "{kek}");
    });
}

/// An officer, or a thief, with the PIN.
fn destroy_keys(config: &HsmConfig) {
    let module = Pkcs11::new(&config.module).expect("loads");
    let slot = module.get_slots_with_token().expect("lists")[0];
    let session = module.open_rw_session(slot).expect("opens");
    let _ = session.login(UserType::User, Some(&AuthPin::from(PIN.to_owned())));
    for role in Role::ALL {
        for key in session.find_objects(&[Attribute::Label(role.label().into())]).expect("searches") {
            session.destroy_object(key).expect("destroyed");
        }
    }
}

/// The daemon that holds the table of slots and sessions.
enum Daemon {
    /// That of `tests/opencryptoki/inside`.
    First,
    Later(Child),
}

impl Daemon {
    /// Ends the daemon, and returns when it is gone.
    fn end(self, signal: Signal) {
        match self {
            Self::First => {
                let text = fs::read_to_string("/run/pkcsslotd.pid").expect("it runs");
                let pid = Pid::from_raw(text.trim().parse().expect("a number")).expect("a process");
                kill_process(pid, signal).expect("signals");
                // Its parent is the shell, which waits for the test: what is left of it has no program.
                await_(|| fs::read_link(format!("/proc/{}/exe", text.trim())).is_err());
            }
            Self::Later(mut child) => {
                kill_process(Pid::from_child(&child), signal).expect("signals");
                child.wait().expect("ends");
            }
        }
    }

    fn start() -> Self {
        let _ = fs::remove_file("/run/pkcsslotd.socket");
        let quiet = Stdio::null;
        let child = Command::new("pkcsslotd").arg("-f").stderr(quiet()).stdout(quiet()).spawn().expect("starts");
        await_(|| Path::new("/run/pkcsslotd.socket").exists());
        Self::Later(child)
    }
}

fn await_(holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "it did not come about");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The module goes on without its daemon, and with another: what they share is in memory that outlives the daemon. It needs
/// the daemon at its start, and a restart of the module waits for it.
#[test]
fn a_killed_daemon_costs_nothing_meanwhile_and_a_start_waits_for_it() {
    with_opencryptoki("a_killed_daemon_costs_nothing_meanwhile_and_a_start_waits_for_it", |config| {
        let config = made(&config);
        let hsm = Pkcs11Hsm::open(&config).expect("opens");
        let mut daemon = Daemon::First;
        for signal in [Signal::KILL, Signal::TERM] {
            daemon.end(signal);
            hsm.canary().expect("goes on without its daemon");
            daemon = Daemon::start();
            hsm.canary().expect("goes on with another");
        }
        conforms(&hsm);
        assert_eq!(*hsm.health().borrow(), Health::Working);

        // Without the daemon the module cannot be started anew: calls are refused meanwhile, and no program starts.
        daemon.end(Signal::KILL);
        Pkcs11::new(&config.module).expect("loads").finalize().expect("ends");
        hsm.canary().expect_err("the module has ended");
        let mut health = hsm.health();
        assert!(matches!(*health.borrow_and_update(), Health::Recovering { .. }));
        assert_eq!(hsm.canary().expect_err("refused at once").kind(), HsmErrorKind::Retry);
        let peer = p256::SecretKey::from_slice(&[0x5a; 32]).expect("in the field").public_key();
        let peer: [u8; 65] = peer.to_sec1_point(false).as_bytes().try_into().expect("65 bytes");
        hsm.dh(&peer).expect_err("what is in memory serves nothing alone");
        hsm.sign(&[7; 32]).expect_err("what is in memory serves nothing alone");
        let refused = program_refuses(&config);
        assert!(refused.contains("does not start") && refused.contains("pkcsslotd"), "{refused}");
        let _daemon = Daemon::start();
        await_(|| *hsm.health().borrow() == Health::Working);
        conforms(&hsm);
    });
}

/// What another process says that looks at the token.
fn program_refuses(config: &HsmConfig) -> String {
    let folder = PathBuf::from(env::var_os(FOLDER).expect("inside"));
    let file = folder.join("node.toml");
    let zeros = "0".repeat(64);
    let text = format!(
        "listen = \"127.0.0.1:0\"\n[cluster]\ndirectory = \"x\"\nfingerprint = \"{zeros}\"\n\
         [tls]\ncertificate = \"x\"\nkey = \"x\"\nclient_ca = \"x\"\n\
         [hsm]\nmodule = {:?}\ntoken = \"node-1\"\npin_file = \"pin\"\nweaker_wrapped_keys = \"{FILE}\"\n\
         [store]\npath = \"x\"\n[node]\nidentity = \"x\"\n",
        config.module
    );
    fs::write(&file, text).expect("written");
    let program = env!("CARGO_BIN_EXE_eds-keystored");
    let output = Command::new(program).args(["hsm", "check", "--config"]).arg(&file).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stdout).expect("text")
}
