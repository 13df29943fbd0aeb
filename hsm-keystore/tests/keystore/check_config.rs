//! `check-config` tells everything that is wrong at once, with its line, and changes nothing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use eds_core::{
    directory::{self, Directory, SUITE_P256_AES256GCM},
    ids::{ClusterId, NodeId, ShareIndex},
    manifest::Point,
};
use eds_keystore::{
    config::check::{Findings, Severity, check},
    hex,
    identity::Identity,
    node::SystemClock,
};
use p256::ecdsa::SigningKey;

use crate::common::{
    pki::{Authority, Credential},
    softhsm::MODULE,
};

/// A node's folder in which nothing is wrong.
struct Folder {
    directory: tempfile::TempDir,
    servers: Authority,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { directory: tempfile::tempdir().expect("a directory"), servers: Authority::new("servers") };
        folder.credential(&folder.servers.server_of("node4.example", 365));
        folder.write("ca.pem", Authority::new("users").pem());
        folder.write("pin", "482913");
        folder.mode("pin", 0o600);
        folder.write("keys.db", "SQLite format 3\0 and so on");
        folder.mode("keys.db", 0o600);
        fs::create_dir(folder.path("audit")).expect("made");
        folder.mode("audit", 0o700);
        let identity = Identity::new(NodeId::from_bytes([4; 16]), point(4), point(5));
        identity.create(&folder.path("node.json")).expect("written");
        folder.sign(&identity);
        let key = directory::key_fingerprint(&directory::compressed(cluster_key().verifying_key()));
        folder.write(
            "node.toml",
            format!(
                "listen = \"127.0.0.1:7443\"\n[cluster]\ndirectory = \"cluster.edd\"\nfingerprint = \"{}\"\n[tls]\n\
                 certificate = \"node.pem\"\nkey = \"node.key\"\nclient_ca = \"ca.pem\"\n[hsm]\nmodule = \"{MODULE}\"\n\
                 token = \"eds-node-4\"\npin_file = \"pin\"\n[store]\npath = \"keys.db\"\n[node]\nidentity = \"node.json\"\n",
                hex::encode(&key)
            ),
        );
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).expect("written");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("set");
    }

    fn credential(&self, credential: &Credential) {
        self.write("node.pem", credential.certificate_pem());
        self.write("node.key", credential.key_pem());
        self.mode("node.key", 0o600);
    }

    /// Signs a directory that has the node with this identity.
    fn sign(&self, identity: &Identity) {
        let node = directory::Node {
            number: ShareIndex::new(4).expect("not zero"),
            id: identity.node,
            url: "https://node4.example:7443".try_into().expect("fits"),
            transport_key: identity.transport_key,
            audit_key: Some(identity.audit_key),
            suites: [SUITE_P256_AES256GCM].into_iter().collect(),
            active: true,
        };
        let directory = Directory {
            cluster: ClusterId::from_bytes([1; 16]),
            name: "test".try_into().expect("fits"),
            cluster_key: directory::compressed(cluster_key().verifying_key()),
            version: 1,
            floor: 1,
            nodes: [node].into_iter().collect(),
        };
        let mut buffer = [0; directory::MAX_BYTES];
        self.write("cluster.edd", directory.sign(&cluster_key(), &mut buffer).expect("signs"));
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("node.toml")).expect("there");
        assert!(text.contains(from), "{from}");
        self.write("node.toml", text.replacen(from, to, 1));
    }

    fn check(&self) -> Findings {
        check(&self.path("node.toml"), Arc::new(SystemClock)).expect("readable")
    }
}

fn cluster_key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).expect("in the field")
}

fn point(seed: u8) -> Point {
    directory::compressed(SigningKey::from_slice(&[seed; 32]).expect("in the field").verifying_key())
}

/// Names, sizes, modes and times of everything in a folder.
fn listed(folder: &Path) -> Vec<String> {
    let mut listed: Vec<_> = fs::read_dir(folder)
        .expect("listed")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("there");
            format!("{path:?} {} {:?} {:?}", metadata.len(), metadata.permissions(), metadata.modified())
        })
        .collect();
    listed.sort();
    listed
}

#[test]
fn a_good_folder_has_no_findings_and_nothing_is_changed() {
    let folder = Folder::new();
    let before = listed(folder.directory.path());
    let findings = folder.check();
    assert!(findings.findings.is_empty(), "{findings}");
    assert_eq!(findings.files, 8);
    assert_eq!(listed(folder.directory.path()), before);
}

#[test]
fn each_thing_that_is_wrong_is_told_with_its_line() {
    type Break = fn(&Folder);
    let table: [(Break, usize, Severity, &str); 24] = [
        (|f| f.edit("listen", "lisen"), 1, Severity::Error, "lisen: unknown key"),
        (|f| f.mode("node.toml", 0o666), 1, Severity::Error, "lets others change this file"),
        (|f| f.remove("cluster.edd"), 3, Severity::Error, "there is no such file"),
        (|f| f.write("cluster.edd", "nothing"), 3, Severity::Error, "cluster.directory"),
        (|f| f.edit("fingerprint = \"", "fingerprint = \"00"), 4, Severity::Error, "not 64 hexadecimal digits"),
        (|f| f.edit(&hex::encode(&cluster_fingerprint()), &"00".repeat(32)), 3, Severity::Error, "of another cluster"),
        (|f| f.sign(&Identity::new(NodeId::from_bytes([9; 16]), point(4), point(5))), 3, Severity::Error, "not in it"),
        (
            |f| f.sign(&Identity::new(NodeId::from_bytes([4; 16]), point(6), point(5))),
            3,
            Severity::Error,
            "another transport key",
        ),
        (
            |f| f.sign(&Identity::new(NodeId::from_bytes([4; 16]), point(4), point(6))),
            3,
            Severity::Error,
            "is another one",
        ),
        (|f| f.remove("node.pem"), 6, Severity::Error, "there is no such file"),
        (|f| f.write("node.pem", "no certificate"), 6, Severity::Error, "no certificate in PEM"),
        (|f| f.credential(&f.servers.server_of("node4.example", 20)), 6, Severity::Warning, "expires in "),
        (|f| f.credential(&f.servers.expired("node")), 6, Severity::Error, "expired "),
        (|f| f.credential(&f.servers.server_of("node5.example", 365)), 6, Severity::Error, "is not for node4.example"),
        (|f| f.mode("node.key", 0o644), 7, Severity::Error, "mode 0644 lets others read it"),
        (
            |f| f.write("node.key", f.servers.server().key_pem()),
            7,
            Severity::Error,
            "is not the key of tls.certificate",
        ),
        (|f| f.write("ca.pem", ""), 8, Severity::Error, "no certificate in PEM"),
        (|f| f.edit(MODULE, "/usr/lib/no-module.so"), 10, Severity::Error, "there is no such file"),
        (|f| f.edit(MODULE, "node.pem"), 10, Severity::Error, "not a shared library"),
        (|f| f.mode("pin", 0o640), 12, Severity::Error, "mode 0640 lets others read it"),
        (|f| f.write("pin", ""), 12, Severity::Error, "empty"),
        (|f| f.remove("keys.db"), 14, Severity::Error, "there is no such file"),
        (|f| f.write("node.json", "{}"), 16, Severity::Error, "not as `eds-keystored init` wrote it"),
        (|f| f.mode("audit", 0o750), 0, Severity::Error, "audit"),
    ];
    for (damage, line, severity, words) in table {
        let folder = Folder::new();
        if line == 0 {
            folder.edit("[node]", "[audit]\npath = \"audit\"\n[node]");
        }
        damage(&folder);
        let findings = folder.check();
        let line = if line == 0 { 16 } else { line };
        let found = findings
            .findings
            .iter()
            .any(|finding| (finding.line, finding.severity) == (line, severity) && finding.message.contains(words));
        assert!(found, "line {line}: {words}:\n{findings}");
        assert!(findings.findings.iter().all(|finding| !finding.hint.is_empty()), "{findings}");
        assert!(!findings.to_string().contains("482913"), "the PIN is told");
    }
}

#[test]
fn what_opens_a_database_is_looked_at_and_never_told() {
    type Break = fn(&Folder);
    let with = |folder: &Folder, connection: &str| {
        let store = format!("postgres = \"{connection}\"\npassword_file = \"db-password\"\ntls_ca = \"ca.pem\"");
        folder.edit("path = \"keys.db\"", &store);
        folder.write("db-password", "elephant\n");
        folder.mode("db-password", 0o600);
    };
    let good = "host=db.example dbname=eds user=eds";
    let folder = Folder::new();
    with(&folder, good);
    assert!(folder.check().findings.is_empty(), "{}", folder.check());
    let table: [(&str, Break, usize, &str); 9] = [
        (good, |f| f.mode("db-password", 0o640), 15, "mode 0640 lets others read it"),
        (good, |f| f.mode("db-password", 0o604), 15, "mode 0604 lets others read it"),
        (good, |f| f.write("db-password", ""), 15, "empty"),
        (good, |f| f.remove("db-password"), 15, "there is no such file"),
        ("host=db.example user=eds password=elephant", |_| (), 14, "holds a password"),
        ("postgres://eds:elephant@db.example/eds", |_| (), 14, "holds a password"),
        ("host=db.example password='elephant", |_| (), 14, "not a connection string"),
        ("host=db.example pass word=elephant", |_| (), 14, "not a connection string"),
        ("host=db.example port=elephants", |_| (), 14, "not a connection string (invalid"),
    ];
    for (connection, damage, line, words) in table {
        let folder = Folder::new();
        with(&folder, connection);
        damage(&folder);
        let output = program(&folder).output().expect("runs");
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert_eq!(output.status.code(), Some(1), "{connection}: {told}");
        assert!(told.contains(&format!("node.toml:{line}: error: store.")) && told.contains(words), "{words}: {told}");
        assert!(told.contains("hint: ") && !told.contains("elephant"), "{told}");
        // Nor by the commands that use the database, wherever they stop.
        for command in ["backup", "serve", "init"] {
            let mut program = Command::new(env!("CARGO_BIN_EXE_eds-keystored"));
            program.arg(command).arg("--config").arg(folder.path("node.toml"));
            if command == "backup" {
                program.arg("--to").arg(folder.path("backup.db"));
            }
            let output = program.output().expect("runs");
            assert!(!format!("{output:?}").contains("elephant") && !output.status.success(), "{output:?}");
        }
    }
}

fn cluster_fingerprint() -> [u8; 32] {
    directory::key_fingerprint(&directory::compressed(cluster_key().verifying_key()))
}

#[test]
fn everything_is_told_at_once_and_the_status_says_so() {
    let folder = Folder::new();
    folder.edit("client_ca", "client_caa");
    folder.edit("token = ", "token_label = ");
    folder.mode("pin", 0o604);
    folder.remove("node.key");
    folder.write("cluster.edd", "nothing");
    let output = program(&folder).output().expect("runs");
    let out = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{out}");
    let name = folder.path("node.toml");
    for line in [3, 5, 7, 8, 9, 11, 12] {
        let told = out.contains(&format!("{}:{line}: error: ", name.display()));
        assert!(told, "nothing is told of line {line}:\n{out}");
    }
    assert_eq!(out.matches("hint: ").count(), 7, "{out}");
    assert!(out.contains("7 errors, 0 warnings"), "{out}");
}

#[test]
fn a_node_that_is_not_made_yet_is_no_error_but_is_not_complete() {
    let folder = Folder::new();
    for name in ["node.json", "keys.db", "cluster.edd"] {
        folder.remove(name);
    }
    let findings = folder.check();
    assert_eq!((findings.count(Severity::Error), findings.count(Severity::Warning)), (0, 3), "{findings}");
    assert_eq!(program(&folder).status().expect("runs").code(), Some(0));
    assert_eq!(program(&folder).arg("--strict").status().expect("runs").code(), Some(1));
    // Once a part of it is there, the other parts are missed.
    folder.write("keys.db", "SQLite format 3\0 and so on");
    folder.mode("keys.db", 0o600);
    assert_eq!(folder.check().count(Severity::Error), 2);
}

#[test]
fn a_link_that_leads_nowhere_and_a_missing_configuration_are_told() {
    let folder = Folder::new();
    folder.remove("ca.pem");
    symlink("/nonexistent/ca.pem", folder.path("ca.pem")).expect("linked");
    assert_eq!(folder.check().findings.first().map(|finding| finding.line), Some(8));
    folder.remove("node.toml");
    let output = program(&folder).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be read"), "{output:?}");
}

fn program(folder: &Folder) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_eds-keystored"));
    program.arg("check-config").arg("--config").arg(folder.path("node.toml"));
    program
}
