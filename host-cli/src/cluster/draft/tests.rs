//! The draft keeps numbers, nodes and versions straight, and refuses what a directory cannot carry.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// What an officer has on the desk: a draft, the cluster key and the fingerprint.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
    pub(crate) draft: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) fingerprint: Fingerprint,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let (draft, key) = (folder.path().join("draft.toml"), folder.path().join("cluster.pem"));
        let (_, fingerprint) = Draft::start("ward", 2, &key, &draft).expect("starts");
        Self { folder, draft, key, fingerprint }
    }

    pub(crate) fn add(&self, number: u16) {
        let mut draft = Draft::load(&self.draft).expect("reads");
        draft.add(number, &format!("https://127.0.0.1:{}", 9000 + number), card(number)).expect("adds");
        draft.store(&self.draft).expect("writes");
    }

    pub(crate) fn sign(&self, name: &str) -> PathBuf {
        let mut draft = Draft::load(&self.draft).expect("reads");
        let signed = draft.sign(&self.draft, &self.key).expect("signs");
        let path = self.folder.path().join(name);
        fs::write(&path, signed).expect("writes");
        path
    }
}

/// The card of a node of its own for each number.
pub(crate) fn card(number: u16) -> NodeCard {
    let mut scalar = [1u8; 32];
    scalar[..2].copy_from_slice(&number.to_be_bytes());
    let key = SigningKey::from_slice(&scalar).expect("in the field");
    let public = Base64::encode_string(&directory::compressed(key.verifying_key()).0);
    NodeCard {
        node: NodeId::from_bytes([u8::try_from(number).expect("small"); 16]).to_string(),
        audit_key: Some(public.clone()),
        transport_key: public,
        suites: vec![1],
    }
}

#[test]
fn a_new_cluster_has_a_private_key_file_and_a_draft() {
    let desk = Desk::new();
    let mode = fs::metadata(&desk.key).expect("is there").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    let key = read_key(&desk.key).expect("is a key");
    let public = directory::compressed(key.verifying_key());
    assert_eq!(desk.fingerprint.0, directory::key_fingerprint(&public));
    let draft = Draft::load(&desk.draft).expect("reads");
    assert_eq!((draft.version, draft.floor, draft.nodes.len()), (0, 2, 0));
    assert!(fs::read_to_string(&desk.draft).expect("reads").starts_with("# Draft"));
}

#[test]
fn neither_key_nor_draft_is_overwritten() {
    let desk = Desk::new();
    let before = fs::read(&desk.key).expect("reads");
    let elsewhere = desk.folder.path().join("other");
    for (key, draft) in [(&desk.key, &elsewhere), (&elsewhere, &desk.draft)] {
        let refused = Draft::start("ward", 2, key, draft);
        assert!(matches!(refused, Err(Error::Write(output::Error::Exists { .. }))));
        assert!(!elsewhere.exists(), "a half was left behind");
    }
    assert_eq!(fs::read(&desk.key).expect("reads"), before);
}

#[test]
fn names_and_floors_out_of_range_are_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    for (name, floor) in [("", 2), ("a\nb", 2), (&*"x".repeat(65), 2), ("ward", 0), ("ward", 17)] {
        let refused = Draft::start(name, floor, &folder.path().join("k"), &folder.path().join("d"));
        assert!(matches!(refused, Err(Error::Field { .. })), "{name:?} {floor}");
    }
}

#[test]
fn a_number_is_given_once_also_after_retirement() {
    let desk = Desk::new();
    desk.add(1);
    desk.add(2);
    let mut draft = Draft::load(&desk.draft).expect("reads");
    let again = draft.add(1, "https://h:1", card(3));
    assert!(matches!(again, Err(Error::NumberTaken { number: 1, active: true, .. })));
    draft.retire(1).expect("retires");
    let after = draft.add(1, "https://h:1", card(3)).expect_err("refused");
    assert!(matches!(after, Error::NumberTaken { number: 1, active: false, .. }));
    assert!(after.to_string().ends_with("which is retired"), "{after}");
    assert!(matches!(draft.retire(1), Err(Error::RetiredAlready(1))));
    assert!(matches!(draft.retire(7), Err(Error::NoSuchNode(7))));
    assert!(matches!(draft.add(3, "https://h:1", card(2)), Err(Error::NodeListed { number: 2, .. })));
    let shared = NodeCard { transport_key: card(2).transport_key, ..card(3) };
    assert!(matches!(draft.add(3, "https://h:1", shared), Err(Error::SharedKey { number: 2, .. })));
}

#[test]
fn what_a_directory_cannot_carry_is_refused() {
    let desk = Desk::new();
    let mut draft = Draft::load(&desk.draft).expect("reads");
    let long = format!("https://{}:1", "h".repeat(200));
    for url in ["http://h:1", "https://", "h:1", "https://a@h:1", "https://h:1/v1", "https://h:1?x", "", &long] {
        assert!(matches!(draft.add(1, url, card(1)), Err(Error::Field { field: "url", .. })), "{url:?}");
    }
    let infinity = Base64::encode_string(&[0; 33]);
    for key in ["", "AAAA", "%", &infinity] {
        let wrong = NodeCard { transport_key: key.into(), ..card(1) };
        assert!(matches!(draft.add(1, "https://h:1", wrong), Err(Error::Field { field: "transport_key", .. })));
    }
    for suites in [vec![], vec![2], vec![1; 9]] {
        let wrong = NodeCard { suites, ..card(1) };
        assert!(matches!(draft.add(1, "https://h:1", wrong), Err(Error::Field { field: "suites", .. })));
    }
    let wrong = NodeCard { audit_key: Some("AAAA".into()), ..card(1) };
    assert!(matches!(draft.add(1, "https://h:1", wrong), Err(Error::Field { field: "audit_key", .. })));
    let wrong = NodeCard { node: "seven".into(), ..card(1) };
    assert!(matches!(draft.add(1, "https://h:1", wrong), Err(Error::Field { field: "id", .. })));
    assert!(matches!(draft.add(0, "https://h:1", card(1)), Err(Error::Field { field: "number", .. })));
    assert_eq!(draft.nodes.len(), 0);
    for number in 1..=32 {
        draft.add(number, "https://h:1", card(number)).expect("fits");
    }
    assert!(matches!(draft.add(33, "https://h:1", card(33)), Err(Error::Field { field: "number of nodes", .. })));
}

#[test]
fn each_signature_raises_the_version_in_the_draft_first() {
    let desk = Desk::new();
    desk.add(2);
    desk.add(1);
    for version in 1..=2 {
        let file = desk.sign("cluster.edd");
        let directory = Directory::verify(&fs::read(file).expect("reads"), &desk.fingerprint.0).expect("verifies");
        assert_eq!(directory.version, version);
        assert_eq!(Draft::load(&desk.draft).expect("reads").version, version);
        let numbers: Vec<u16> = directory.nodes.iter().map(|node| node.number.value()).collect();
        assert_eq!(numbers, [1, 2]);
    }
}

#[test]
fn a_draft_is_not_signed_by_another_key_or_with_too_few_nodes() {
    let desk = Desk::new();
    desk.add(1);
    let mut draft = Draft::load(&desk.draft).expect("reads");
    assert!(matches!(draft.sign(&desk.draft, &desk.key), Err(Error::TooFewNodes { floor: 2, active: 1 })));
    desk.add(2);
    let mut draft = Draft::load(&desk.draft).expect("reads");
    let other = Desk::new();
    assert!(matches!(draft.sign(&desk.draft, &other.key), Err(Error::OtherKey { .. })));
    fs::set_permissions(&desk.key, fs::Permissions::from_mode(0o644)).expect("changes the mode");
    assert!(matches!(draft.sign(&desk.draft, &desk.key), Err(Error::KeyFile(config::Error::Exposed { .. }))));
    fs::set_permissions(&desk.key, fs::Permissions::from_mode(0o600)).expect("changes the mode");
    fs::write(&desk.key, "no key").expect("writes");
    assert!(matches!(draft.sign(&desk.draft, &desk.key), Err(Error::NotAKey { .. })));
    assert_eq!(Draft::load(&desk.draft).expect("reads").version, 0, "no version was used up");
}

#[test]
fn a_damaged_draft_is_refused() {
    let desk = Desk::new();
    desk.add(1);
    let text = fs::read_to_string(&desk.draft).expect("reads");
    for wrong in [text.replace("floor", "flor"), text.replace("active = true", ""), text + "\nextra = 1\n"] {
        fs::write(&desk.draft, wrong).expect("writes");
        assert!(matches!(Draft::load(&desk.draft), Err(Error::NotADraft { .. })));
    }
}
