//! The program itself with a SoftHSM token: it makes a node, checks it, runs it, stops in order, and refuses to start
//! when token, database, identity or directory do not belong together.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use eds_core::{
    directory::{self, Directory, SUITE_P256_AES256GCM},
    ids::{ClusterId, ShareIndex},
};
use eds_keystore::{hex, identity::Identity};
use p256::ecdsa::SigningKey;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{
    pki::Authority,
    softhsm::{MODULE, PIN, SoftHsm, with_softhsm},
};

/// The files of a node.
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) servers: Authority,
    pub(crate) users: Authority,
}

/// What the program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    error: String,
    pub(crate) code: Option<i32>,
}

impl Files {
    pub(crate) fn new(softhsm: &SoftHsm, name: &str, token: &str) -> Self {
        let folder = softhsm.directory().join(name);
        fs::create_dir(&folder).expect("made");
        let (servers, users) = (Authority::new("servers"), Authority::new("users"));
        let credential = servers.server();
        fs::write(folder.join("node.pem"), credential.certificate_pem()).expect("written");
        fs::write(folder.join("node.key"), credential.key_pem()).expect("written");
        fs::write(folder.join("ca.pem"), users.pem()).expect("written");
        fs::write(folder.join("pin"), PIN).expect("written");
        fs::set_permissions(folder.join("pin"), fs::Permissions::from_mode(0o600)).expect("set");
        let files = Self { config: folder.join("node.toml"), folder, servers, users };
        files.configure(token);
        files
    }

    fn configure(&self, token: &str) {
        let fingerprint =
            hex::encode(&directory::key_fingerprint(&directory::compressed(cluster_key().verifying_key())));
        let text = format!(
            "listen = \"127.0.0.1:0\"\n[cluster]\ndirectory = \"cluster.edd\"\nfingerprint = \"{fingerprint}\"\n\
             [tls]\ncertificate = \"node.pem\"\nkey = \"node.key\"\nclient_ca = \"ca.pem\"\n\
             [hsm]\nmodule = \"{MODULE}\"\ntoken = \"{token}\"\npin_file = \"pin\"\n\
             [store]\npath = \"keys.db\"\n[node]\nidentity = \"node.json\"\n"
        );
        fs::write(&self.config, text).expect("written");
    }

    /// Signs a directory in which the node is as its identity file says.
    pub(crate) fn sign_directory(&self) {
        let identity = Identity::load(&self.folder.join("node.json")).expect("written by init");
        let directory = Directory {
            cluster: ClusterId::from_bytes([1; 16]),
            name: "test".try_into().expect("fits"),
            cluster_key: directory::compressed(cluster_key().verifying_key()),
            version: 1,
            floor: 1,
            nodes: [directory::Node {
                number: ShareIndex::new(4).expect("not zero"),
                id: identity.node,
                url: "https://127.0.0.1:7443".try_into().expect("fits"),
                transport_key: identity.transport_key,
                audit_key: None,
                suites: [SUITE_P256_AES256GCM].into_iter().collect(),
                active: true,
            }]
            .into_iter()
            .collect(),
        };
        let mut buffer = [0; directory::MAX_BYTES];
        let signed = directory.sign(&cluster_key(), &mut buffer).expect("signs");
        fs::write(self.folder.join("cluster.edd"), signed).expect("written");
    }

    pub(crate) fn run(&self, command: &str) -> Said {
        self.run_with(command, &[])
    }

    pub(crate) fn run_with(&self, command: &str, more: &[&str]) -> Said {
        let mut program = Command::new(env!("CARGO_BIN_EXE_eds-keystored"));
        let output = program.arg(command).args(more).arg("--config").arg(&self.config).output().expect("runs");
        Said {
            out: String::from_utf8(output.stdout).expect("text"),
            error: String::from_utf8(output.stderr).expect("text"),
            code: output.status.code(),
        }
    }

    /// Runs `serve` until it listens, then asks it to stop.
    fn serve_and_stop(&self, signal: Signal) {
        let mut child =
            program("serve", &self.config).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("reads");
        if !line.starts_with("listening on https://127.0.0.1:") {
            let mut error = String::new();
            child.stderr.take().expect("piped").read_to_string(&mut error).expect("reads");
            panic!("{line:?}\n{error}");
        }
        kill_process(Pid::from_child(&child), signal).expect("signals");
        assert_eq!(child.wait().expect("ends").code(), Some(0));
    }

    /// That `check` and `serve` refuse, with these words.
    fn refuses(&self, words: &str) {
        let checked = self.run("check");
        assert_eq!(checked.code, Some(1), "{checked:?}");
        let failed = checked.out.lines().any(|line| line.starts_with("FAIL") && line.contains(words));
        assert!(failed, "no failed check says {words:?}: {checked:?}");
        let served = self.run("serve");
        // A refused PIN has a status of its own: a supervisor that tries again and again would lock the token.
        let status = if words == "refused the PIN" { 3 } else { 1 };
        assert_eq!((served.code, served.out.as_str()), (Some(status), ""), "{served:?}");
        assert!(served.error.contains(words), "{served:?}");
        assert!(!served.error.contains(PIN) && !checked.out.contains(PIN), "the PIN was printed");
    }
}

pub(crate) fn program(command: &str, config: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_eds-keystored"));
    program.arg(command).arg("--config").arg(config);
    program
}

fn cluster_key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).expect("in the field")
}

#[test]
fn a_node_is_made_once_checked_served_and_stopped() {
    with_softhsm(concat!(module_path!(), "::a_node_is_made_once_checked_served_and_stopped"), |softhsm| {
        softhsm.make_token("node-4");
        let node = Files::new(softhsm, "node", "node-4");
        let made = node.run("init");
        assert_eq!(made.code, Some(0), "{made:?}");
        for told in [
            "eds-kek",
            "eds-transport",
            "eds-policy",
            "eds-audit",
            "fingerprint",
            "ALWAYS_SENSITIVE",
            "public audit key",
        ] {
            assert!(made.out.contains(told), "{told}: {made:?}");
        }
        assert!(!made.out.contains(PIN) && !made.error.contains(PIN), "the PIN was printed");
        let mode = |name: &str| fs::metadata(node.folder.join(name)).expect("made").permissions().mode() & 0o777;
        assert_eq!(mode("keys.db"), 0o600);

        let again = node.run("init");
        assert_eq!(again.code, Some(1), "{again:?}");
        assert!(again.error.contains("exists already"), "{again:?}");
        // Also when the files are gone but the keys are there.
        for name in ["node.json", "keys.db", "audit"] {
            fs::rename(node.folder.join(name), node.folder.join(format!("{name}.kept"))).expect("moved");
        }
        let keys = node.run("init");
        assert!(keys.error.contains("already"), "{keys:?}");
        assert!(!node.folder.join("node.json").exists() && !node.folder.join("audit").exists());
        for name in ["node.json", "keys.db", "audit"] {
            fs::rename(node.folder.join(format!("{name}.kept")), node.folder.join(name)).expect("moved");
        }

        node.refuses("cluster directory");
        node.sign_directory();
        let checked = node.run("check");
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.out.lines().count() > 15 && !checked.out.contains("FAIL"), "{checked:?}");
        node.serve_and_stop(Signal::TERM);
        node.serve_and_stop(Signal::INT);

        // The keys that were made, two starts and two stops, all under a checkpoint that the token signed.
        let verified = node.run_with("audit", &["verify"]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
        assert!(
            verified.out.contains(": 5 entries") && verified.out.contains("not yet covered by one: 0"),
            "{verified:?}"
        );
    });
}

#[test]
fn an_altered_audit_log_is_not_served_and_verify_names_the_entry() {
    with_softhsm(
        concat!(module_path!(), "::an_altered_audit_log_is_not_served_and_verify_names_the_entry"),
        |softhsm| {
            softhsm.make_token("node-4");
            let node = Files::new(softhsm, "node", "node-4");
            assert_eq!(node.run("init").code, Some(0));
            node.sign_directory();
            for _ in 0..3 {
                node.serve_and_stop(Signal::TERM);
            }
            let segment = node.folder.join("audit/00000000000000000000.eda");
            let mut bytes = fs::read(&segment).expect("there");
            let at = bytes.windows(9).rposition(|window| window == b"node.stop").expect("the last entry");
            bytes[at] = b'm';
            fs::write(&segment, bytes).expect("written");
            node.refuses("entry 6");
            let verified = node.run_with("audit", &["verify"]);
            assert_eq!(verified.code, Some(1), "{verified:?}");
            assert!(verified.out.contains("first bad entry: 6"), "{verified:?}");
        },
    );
}

#[test]
fn a_token_is_prepared_once_named_by_a_uri_and_recorded() {
    with_softhsm(concat!(module_path!(), "::a_token_is_prepared_once_named_by_a_uri_and_recorded"), |softhsm| {
        let node = Files::new(softhsm, "node", "unused");
        let so_pin = node.folder.join("so-pin");
        fs::write(&so_pin, "12345678").expect("written");
        fs::set_permissions(&so_pin, fs::Permissions::from_mode(0o600)).expect("set");
        let hsm = |uri: &str| {
            let text = fs::read_to_string(&node.config).expect("written");
            let (before, rest) = text.split_once("[hsm]\n").expect("a section");
            let (_, after) = rest.split_once("[store]").expect("a section");
            fs::write(&node.config, format!("{before}[hsm]\nuri = \"{uri}\"\n[store]{after}")).expect("written");
        };
        let run = |words: &[&str]| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_eds-keystored"));
            program.args(words).arg("--config").arg(&node.config).env("CREDENTIALS_DIRECTORY", &node.folder);
            let output = program.output().expect("runs");
            let text = |bytes| String::from_utf8(bytes).expect("text");
            let said = Said { out: text(output.stdout), error: text(output.stderr), code: output.status.code() };
            assert!(!format!("{said:?}").contains(PIN) && !format!("{said:?}").contains("12345678"), "{said:?}");
            said
        };
        let uri = |more: &str| format!("pkcs11:token=ward%201{more}?module-path={MODULE}&pin-source=credential:pin");
        let so = format!("--so-pin-source=file:{}", so_pin.display());

        hsm(&uri(""));
        let made = run(&["hsm", "init", &so]);
        assert_eq!(made.code, Some(0), "{made:?}");
        // A second time would destroy the keys of the first.
        let again = run(&["hsm", "init", &so]);
        assert!(again.code == Some(1) && again.error.contains("exists already"), "{again:?}");

        let keys = run(&["hsm", "keygen"]);
        assert_eq!(keys.code, Some(0), "{keys:?}");
        let record = fs::read(node.folder.join("node.ceremony.json")).expect("written");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        assert_eq!(record["format"], "eds/v1/ceremony");
        assert_eq!(record["token"]["label"], "ward 1");
        assert!(record["keys"].as_array().is_some_and(|keys| keys.len() == 5), "{record}");

        let status = run(&["hsm", "status"]);
        assert_eq!(status.code, Some(0), "{status:?}");
        for key in record["keys"].as_array().expect("keys") {
            let fingerprint = key["fingerprint"].as_str().expect("text");
            assert!(fingerprint.len() == 16 && status.out.contains(fingerprint), "{fingerprint}: {status:?}");
        }
        let checked = run(&["hsm", "check"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.out.contains("suite 1") && checked.out.contains("cannot be wrapped out"), "{checked:?}");

        // The serial number narrows the choice to one device.
        let (_, serial) = status.out.split_once("serial ").expect("told");
        let serial: String = serial.chars().take_while(char::is_ascii_alphanumeric).collect();
        hsm(&uri(&format!(";serial={serial}")));
        assert_eq!(run(&["hsm", "check"]).code, Some(0));
        hsm(&uri(";serial=0000000000000000"));
        let other = run(&["hsm", "check"]);
        assert!(other.code == Some(1) && other.out.contains("serial number"), "{other:?}");
        // A server needs a PIN without a person, and a PIN is no part of a URI.
        hsm(&uri("").replace("credential:pin", "prompt"));
        assert!(run(&["serve"]).error.contains("nobody may be there"));
        hsm(&format!("pkcs11:token=ward%201?pin-value={PIN}"));
        let value = run(&["hsm", "check"]);
        assert!(value.code == Some(1) && value.error.contains("use pin-source"), "{value:?}");
    });
}

#[test]
fn a_failed_ceremony_leaves_no_keys() {
    with_softhsm(concat!(module_path!(), "::a_failed_ceremony_leaves_no_keys"), |softhsm| {
        softhsm.make_token("node-4");
        let node = Files::new(softhsm, "node", "node-4");
        let text = fs::read_to_string(&node.config).expect("written");
        fs::write(&node.config, text.replace("keys.db", "no/such/folder/keys.db")).expect("written");
        let failed = node.run("init");
        assert!(failed.code == Some(1) && failed.error.contains("no/such/folder"), "{failed:?}");
        node.configure("node-4");
        let made = node.run("init");
        assert_eq!(made.code, Some(0), "the token was not left clean: {made:?}");
    });
}

#[test]
fn parts_that_do_not_belong_together_do_not_start() {
    with_softhsm(concat!(module_path!(), "::parts_that_do_not_belong_together_do_not_start"), |softhsm| {
        softhsm.make_token("node-4");
        softhsm.make_token("node-5");
        let (node, other) = (Files::new(softhsm, "node", "node-4"), Files::new(softhsm, "other", "node-5"));
        for files in [&node, &other] {
            assert_eq!(files.run("init").code, Some(0));
            files.sign_directory();
        }
        // Another token: caught by the canary before anything is served.
        node.configure("node-5");
        node.refuses("canary record of the database");
        node.refuses("transport key of the identity file");
        node.configure("node-6");
        node.refuses("no token with this label");
        node.configure("node-4");
        // Another node's database, identity file and directory.
        let swap = |name: &str, words: &str| {
            let kept = fs::read(node.folder.join(name)).expect("there");
            fs::copy(other.folder.join(name), node.folder.join(name)).expect("copied");
            node.refuses(words);
            fs::write(node.folder.join(name), kept).expect("restored");
        };
        swap("keys.db", "canary record of the database");
        swap("node.json", "belong to different nodes");
        swap("cluster.edd", "this node is not in it");
        // Files that are not what they were.
        let change = |name: &str, words: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let kept = fs::read(node.folder.join(name)).expect("there");
            let mut changed = kept.clone();
            change(&mut changed);
            fs::write(node.folder.join(name), changed).expect("written");
            node.refuses(words);
            fs::write(node.folder.join(name), kept).expect("restored");
        };
        change("cluster.edd", "cluster directory", &|bytes| {
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
        });
        change("ca.pem", "tls.client_ca", &Vec::clear);
        change("node.key", "tls.key", &Vec::clear);
        change("pin", "refused the PIN", &|bytes| *bytes = b"00000000".to_vec());
        fs::set_permissions(node.folder.join("pin"), fs::Permissions::from_mode(0o640)).expect("set");
        node.refuses("lets others read it");
        fs::set_permissions(node.folder.join("pin"), fs::Permissions::from_mode(0o600)).expect("set");
        node.serve_and_stop(Signal::TERM);
    });
}

#[test]
fn a_wrong_configuration_is_told_with_its_line() {
    let folder = tempfile::tempdir().expect("a directory");
    let config = folder.path().join("node.toml");
    fs::write(&config, "listen = \"127.0.0.1:0\"\nlisten_more = 1\n").expect("written");
    for command in ["init", "check", "serve"] {
        let output = program(command, &config).output().expect("runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("line 2") && error.contains("hint:"), "{error}");
    }
}
