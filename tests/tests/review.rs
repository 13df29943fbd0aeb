//! Images that may show who the patient is wait for a person, are listed, and are released or rejected; a registration that is
//! started again remembers what was decided.

use std::fs;

use eds_tests::{
    Outcome,
    cluster::Cluster,
    dicom, files, give_up,
    user::{User, exit},
};

const SUSPECT: &str = "examples_rgb_color.dcm";
const PROFILE: &str = "format = 1\nname = \"review\"\nversion = \"1\"\n[suspects]\nburned-in = \"quarantine\"\n";

fn reviewer(cluster: &Cluster) -> Outcome<User> {
    let alice = cluster.user("alice")?;
    let profile = alice.home().join("profile.toml");
    fs::write(&profile, PROFILE)?;
    alice.add_settings(&format!("\n[deidentify]\nprofile = {:?}\n", profile.display().to_string()))?;
    fs::create_dir_all(alice.home().join("ward"))?;
    fs::copy(dicom::find(SUSPECT)?, alice.home().join("ward/capture.dcm"))?;
    Ok(alice)
}

/// The id of the one image that waits.
fn waiting(user: &User) -> Outcome<String> {
    let listed = user.eds(["quarantine", "ls"])?.success()?.text();
    let mut lines = listed.lines();
    let (Some(line), None) = (lines.next(), lines.next()) else { give_up!("not one line: {listed:?}") };
    assert!(line.contains("there may be writing in the picture"), "{line}");
    Ok(line.split('\t').next().unwrap_or_default().to_owned())
}

#[test]
fn a_suspect_image_waits_until_a_person_blanks_it_and_is_remembered_then() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = reviewer(&cluster)?;
    let original = fs::read(dicom::find(SUSPECT)?)?;
    let first = alice.eds(["register", "ward"])?.success()?;
    let id = waiting(&alice)?;
    assert_eq!(first.text().split('\t').next(), Some(id.as_str()));
    let again = alice.eds(["register", "ward"])?.success()?;
    assert!(again.stderr.contains("1 registered already"), "{again:?}");
    assert_eq!(waiting(&alice)?, id, "it waits once");
    let json: serde_json::Value = serde_json::from_str(&alice.eds(["quarantine", "ls", "--json"])?.success()?.text())?;
    assert_eq!((json["id"].as_str(), json["reasons"].as_array().map(Vec::len)), (Some(id.as_str()), Some(1)));

    let masked = ["quarantine", "release", &id, "--mask", "0,0,100,10", "--report", "report.jsonl"];
    let released = alice.eds(masked)?.success()?;
    let report: serde_json::Value = serde_json::from_slice(&fs::read(alice.home().join("report.jsonl"))?)?;
    assert_eq!(report["deidentification"]["masks"], serde_json::json!([[0, 0, 100, 10]]));
    let new = released.text().split('\t').next().unwrap_or_default().to_owned();
    assert_ne!(new, id);
    assert_eq!(alice.eds(["quarantine", "ls"])?.success()?.text(), "");
    alice.eds(["retrieve", &id, "-o", "gone.dcm"])?.failed(exit::NOT_FOUND, &["is not in the catalog"])?;
    alice.eds(["retrieve", &new, "--restore", "-o", "back.dcm"])?.success()?;
    assert_eq!(fs::read(alice.home().join("back.dcm"))?, original);
    assert_eq!(files::below(&alice.objects())?.len(), 1, "the copy is gone");

    // The folder is registered again: what was decided stands.
    let again = alice.eds(["register", "ward"])?.success()?;
    assert!(again.text().starts_with(&new) && again.stderr.contains("1 registered already"), "{again:?}");
    assert_eq!(alice.eds(["quarantine", "ls"])?.success()?.text(), "");
    alice.eds(["quarantine", "release", &id, "--pass-suspect"])?.failed(exit::NOT_FOUND, &["quarantine"])?;
    Ok(())
}

#[test]
fn a_rejected_image_is_deleted_and_not_taken_in_again() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = reviewer(&cluster)?;
    alice.eds(["register", "ward"])?.success()?;
    let id = waiting(&alice)?;
    let key = alice.eds(["key", "status", &id])?.success()?;
    assert!(!key.text().is_empty());
    alice.eds(["quarantine", "reject", &id])?.failed(exit::USAGE, &["--yes"])?;
    waiting(&alice)?;
    alice.eds(["quarantine", "reject", &id, "--yes"])?.success()?;
    assert_eq!(alice.eds(["quarantine", "ls"])?.success()?.text(), "");
    assert_eq!(files::below(&alice.objects())?, Vec::<std::path::PathBuf>::new());
    let again = alice.eds(["register", "ward"])?.success()?;
    assert!(again.stderr.contains("capture.dcm: left out: a person looked at it and rejected it"), "{again:?}");
    assert_eq!(again.text(), "");
    Ok(())
}

#[test]
fn what_was_let_pass_once_is_not_refused_when_the_command_is_given_again() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::copy(dicom::find(SUSPECT)?, alice.home().join("capture.dcm"))?;
    alice.eds(["register", "capture.dcm"])?.failed(exit::SUSPECT, &["writing"])?;
    let id = alice.eds(["register", "--mask", "0,0,100,10", "capture.dcm"])?.success()?.id();
    let again = alice.eds(["register", "capture.dcm"])?.success()?;
    assert_eq!(again.id(), id);
    Ok(())
}
