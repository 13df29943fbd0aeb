//! What is pinned stays pinned, and every directory that must not be taken is refused.

use std::fs;

use super::*;
use crate::cluster::draft::{
    Draft,
    tests::{Desk, card},
};

/// A desk of officers with a cluster of two nodes, and the state directory of a user.
struct Scene {
    desk: Desk,
    state: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let desk = Desk::new();
        desk.add(1);
        desk.add(2);
        Self { desk, state: tempfile::tempdir().expect("a directory") }
    }

    fn import(&self, file: &Path) -> Result<Trust, Error> {
        Trust::import(self.state.path(), file, self.desk.fingerprint)
    }

    fn update(&self, file: &Path) -> Result<Trust, Error> {
        Trust::update(self.state.path(), file)
    }

    fn held(&self) -> u64 {
        Trust::load(self.state.path()).expect("is pinned").directory.version
    }
}

#[test]
fn a_pinned_cluster_is_found_again_and_updated() {
    let scene = Scene::new();
    assert!(matches!(Trust::load(scene.state.path()), Err(Error::NotPinned { .. })));
    let first = scene.desk.sign("1.edd");
    assert!(matches!(scene.update(&first), Err(Error::NotPinned { .. })));
    let trust = scene.import(&first).expect("imports");
    assert_eq!(Trust::load(scene.state.path()).expect("is pinned"), trust);
    assert_eq!(trust.directory.active().count(), 2);
    scene.desk.add(3);
    let second = scene.desk.sign("2.edd");
    assert_eq!(scene.update(&second).expect("updates").directory.version, 2);
    assert_eq!(scene.held(), 2);
    assert_eq!(scene.update(&second).expect("the same again is fine").directory.version, 2);
}

#[test]
fn the_import_needs_the_right_fingerprint() {
    let scene = Scene::new();
    let file = scene.desk.sign("1.edd");
    let wrong = Trust::import(scene.state.path(), &file, Fingerprint([7; 32]));
    assert!(matches!(wrong, Err(Error::NotBelieved { source: eds_core::Error::Mismatch, .. })));
    assert!(matches!(Trust::load(scene.state.path()), Err(Error::NotPinned { .. })), "nothing was pinned");
}

#[test]
fn another_cluster_is_refused_once_one_is_pinned() {
    let scene = Scene::new();
    scene.import(&scene.desk.sign("1.edd")).expect("imports");
    let other = Scene::new();
    let file = other.desk.sign("1.edd");
    let refused = Trust::import(scene.state.path(), &file, other.desk.fingerprint);
    assert!(matches!(refused, Err(Error::OtherPinned { pinned }) if pinned == scene.desk.fingerprint));
    assert!(matches!(scene.update(&file), Err(Error::NotBelieved { source: eds_core::Error::Mismatch, .. })));
    assert_eq!(scene.held(), 1);
}

#[test]
fn a_lower_version_is_refused_by_update_and_import() {
    let scene = Scene::new();
    let first = scene.desk.sign("1.edd");
    let second = scene.desk.sign("2.edd");
    scene.import(&second).expect("imports");
    assert!(matches!(scene.update(&first), Err(Error::Older { offered: 1, held: 2 })));
    assert!(matches!(scene.import(&first), Err(Error::Older { offered: 1, held: 2 })));
    assert_eq!(scene.held(), 2);
}

#[test]
fn two_directories_of_one_version_contradict_each_other() {
    let scene = Scene::new();
    scene.import(&scene.desk.sign("1.edd")).expect("imports");
    let mut draft = Draft::load(&scene.desk.draft).expect("reads");
    draft.version = 0;
    draft.store(&scene.desk.draft).expect("writes");
    scene.desk.add(3);
    let twin = scene.desk.sign("twin.edd");
    assert!(matches!(scene.update(&twin), Err(Error::Contradiction { version: 1 })));
}

#[test]
fn a_number_is_never_given_to_another_node() {
    let scene = Scene::new();
    scene.import(&scene.desk.sign("1.edd")).expect("imports");
    let mut draft = Draft::load(&scene.desk.draft).expect("reads");
    draft.nodes.retain(|node| node.number != 2);
    draft.add(2, "https://127.0.0.1:9009", card(9)).expect("the draft forgot it");
    draft.store(&scene.desk.draft).expect("writes");
    let file = scene.desk.sign("2.edd");
    assert!(matches!(scene.update(&file), Err(Error::Renumbered { number: 2 })));
}

#[test]
fn another_cluster_id_under_the_same_key_is_refused() {
    let scene = Scene::new();
    scene.import(&scene.desk.sign("1.edd")).expect("imports");
    let mut draft = Draft::load(&scene.desk.draft).expect("reads");
    draft.cluster = "00000000-0000-0000-0000-000000000001".into();
    draft.store(&scene.desk.draft).expect("writes");
    assert!(matches!(scene.update(&scene.desk.sign("2.edd")), Err(Error::OtherCluster)));
}

#[test]
fn a_changed_file_is_not_believed_anywhere() {
    let scene = Scene::new();
    let file = scene.desk.sign("1.edd");
    scene.import(&file).expect("imports");
    let kept = scene.state.path().join(DIRECTORY_FILE);
    let mut bytes = fs::read(&kept).expect("reads");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&kept, &bytes).expect("writes");
    assert!(matches!(Trust::load(scene.state.path()), Err(Error::NotBelieved { .. })));
    fs::write(&kept, vec![0; 100_000]).expect("writes");
    assert!(matches!(Trust::load(scene.state.path()), Err(Error::NotBelieved { .. })));
}

#[test]
fn fingerprints_are_read_as_people_write_them() {
    let fingerprint = Fingerprint([0xab; 32]);
    let text = fingerprint.to_string();
    assert_eq!(text.parse::<Fingerprint>().expect("reads"), fingerprint);
    let spaced: String =
        text.chars().enumerate().flat_map(|(n, c)| [(n % 4 == 0).then_some(' '), Some(c)]).flatten().collect();
    assert_eq!(spaced.to_uppercase().parse::<Fingerprint>().expect("reads"), fingerprint);
    for wrong in ["", &text[1..], &text.replace('a', "g"), &format!("{text}ab")] {
        assert!(matches!(wrong.parse::<Fingerprint>(), Err(Error::NotAFingerprint(_))), "{wrong:?}");
    }
}
