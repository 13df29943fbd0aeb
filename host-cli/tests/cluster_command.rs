//! `eds cluster …` as officers and users type it: what is on standard output, what is said, and the exit code.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// A working directory with its own home, in which `eds` is run.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_eds"))
            .args(line.split_whitespace())
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .output()
            .expect("runs")
    }

    /// Runs a command that must succeed; its standard output.
    fn done(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a command that must fail with this exit code; its standard error. Nothing is on standard output.
    fn refused(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert_eq!(output.stdout, b"", "{line}");
        said
    }

    /// A cluster of two nodes with a draft, and the fingerprint of its key.
    fn cluster(&self) -> String {
        let fingerprint = self.done("cluster new --name ward --key key.pem draft.toml").trim().to_owned();
        for number in [1, 2] {
            self.add(number);
        }
        fingerprint
    }

    fn add(&self, number: usize) {
        fs::write(self.path().join("node.json"), CARDS[number - 1]).expect("writes");
        self.done(&format!("cluster add draft.toml node.json --number {number} --url https://node{number}:7443"));
    }
}

/// What `eds-keystored init` writes; the keys are multiples of the generator.
const CARDS: [&str; 3] = [
    r#"{"node":"00000000-0000-0000-0000-000000000001","transport_key":"A2sX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKW","suites":[1]}"#,
    r#"{"node":"00000000-0000-0000-0000-000000000002","transport_key":"A3zyexiNA09+ilI4AwS1GsPAiWnid/IbNaYLSPxHZpl4","suites":[1]}"#,
    r#"{"node":"00000000-0000-0000-0000-000000000003","transport_key":"Al7L5NGmMwpEyPfvlR1L8WXmxrch762phftBZhvG5/1s","suites":[1]}"#,
];

#[test]
fn a_cluster_is_made_signed_imported_updated_and_shown() {
    let desk = Desk::new();
    let fingerprint = desk.cluster();
    assert_eq!(fingerprint.len(), 64);
    desk.done("cluster sign draft.toml --key key.pem -o 1.edd");
    desk.done(&format!("cluster import 1.edd --fingerprint {fingerprint}"));
    desk.add(3);
    desk.done("cluster retire draft.toml 2");
    desk.done("cluster sign draft.toml --key key.pem -o 2.edd");
    desk.done("cluster update 2.edd");
    let shown = desk.done("cluster show");
    let id = shown.lines().next().and_then(|line| line.split_whitespace().nth(1)).expect("the id of the cluster");
    let expected = format!(
        "cluster      {id}\nname         ward\nfingerprint  {fingerprint}\nversion      2\nfloor        2\n\
         node 1       active   00000000-0000-0000-0000-000000000001  https://node1:7443\n\
         node 2       retired  00000000-0000-0000-0000-000000000002  https://node2:7443\n\
         node 3       active   00000000-0000-0000-0000-000000000003  https://node3:7443\n"
    );
    assert_eq!(shown, expected);
    assert!(desk.done("cluster show 1.edd").contains("version      1\n"));
}

#[test]
fn refusals_say_what_is_wrong_and_what_to_do() {
    let desk = Desk::new();
    let fingerprint = desk.cluster();
    let sign = |name: &str| desk.done(&format!("cluster sign draft.toml --key key.pem -o {name}"));
    sign("1.edd");
    sign("2.edd");
    assert_eq!(
        desk.refused("cluster update 1.edd", 2),
        format!(
            "eds: error: no cluster is pinned in {}/.local/state/eds\n\
             hint: get the directory file and the fingerprint from the officers of the cluster, then: \
             eds cluster import FILE --fingerprint HEX\n",
            desk.path().display()
        )
    );
    assert_eq!(
        desk.refused(&format!("cluster import 1.edd --fingerprint {}", "0".repeat(64)), 6),
        "eds: error: the directory 1.edd cannot be believed: parts do not belong together\n\
         hint: it is signed by another cluster key than the pinned one; ask the officers for the fingerprint\n"
    );
    assert_eq!(
        desk.refused("cluster import 1.edd --fingerprint 12", 2),
        "eds: error: \"12\" is not a fingerprint: 64 hex digits are expected\n"
    );
    desk.done(&format!("cluster import 2.edd --fingerprint {fingerprint}"));
    assert_eq!(
        desk.refused("cluster update 1.edd", 6),
        "eds: error: the directory has version 1, but version 2 is held already\n\
         hint: get the newest directory from the officers of the cluster\n"
    );
    assert_eq!(desk.refused("cluster update 9.edd", 3), "eds: error: cannot read 9.edd: entity not found\n");
    assert_eq!(
        desk.refused("cluster sign draft.toml --key key.pem -o 1.edd", 8),
        "eds: error: 1.edd exists already\nhint: choose another name, or replace it with --force\n"
    );
    assert_eq!(
        desk.refused("cluster add draft.toml node.json --number 1 --url https://h:1", 8),
        "eds: error: number 1 belongs to node 00000000-0000-0000-0000-000000000001\n\
         hint: numbers are never given twice; take the next free one\n"
    );
    let other = Desk::new();
    let others = other.cluster();
    other.done("cluster sign draft.toml --key key.pem -o 1.edd");
    fs::copy(other.path().join("1.edd"), desk.path().join("other.edd")).expect("copies");
    assert_eq!(
        desk.refused(&format!("cluster import other.edd --fingerprint {others}"), 8),
        format!(
            "eds: error: another cluster is pinned already: {fingerprint}\n\
             hint: a state directory serves one cluster; use another `state` in the configuration\n"
        )
    );
}

#[test]
fn a_wrong_command_line_or_configuration_ends_with_2() {
    let desk = Desk::new();
    desk.refused("cluster frobnicate", 2);
    desk.refused("--config missing.toml cluster show", 2);
    fs::write(desk.path().join("wrong.toml"), "[identitty]\n").expect("writes");
    let said = desk.refused("--config wrong.toml cluster show", 2);
    assert!(said.starts_with("eds: error: wrong.toml is not a valid configuration: "), "{said}");
}

#[test]
fn a_key_that_others_may_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    desk.cluster();
    let key = desk.path().join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changes the mode");
    assert_eq!(
        desk.refused("cluster sign draft.toml --key key.pem -o 1.edd", 2),
        "eds: error: the file key.pem holds a secret and may be read by others (mode 0644)\nhint: chmod 600 key.pem\n"
    );
    assert!(!desk.path().join("1.edd").exists());
}
