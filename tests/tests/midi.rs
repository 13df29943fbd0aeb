//! The ten checks of the public MIDI validation (tag_retained, text_notnull, text_retained, text_removed, date_shifted,
//! uid_changed, uid_consistent, patid_consistent, pixels_hidden, pixels_retained) over synthetic patients of our own.
//!
//! `midi/answers.txt` says, by hand, what is planted in the images of three patients, two studies each, two series each, two
//! images each, and what must have become of it. The images are registered patient by patient, retrieved de-identified, and
//! read by dicom-object. The checks are stricter than the public ones where that is easy: what is removed is nowhere in the
//! file, and days are moved by the same number within a patient.

#[path = "midi/answers.rs"]
mod answers;
#[path = "midi/checks.rs"]
mod checks;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use answers::{Answer, Subject, answers, subjects, write};
use checks::{Findings, check};
use eds_tests::{Outcome, cluster::Cluster, files, give_up, user::User};
use serde_json::Value;

const PROFILE: &str = include_str!("midi/profile.toml");
/// The checks that an original fails, since they ask for something to be gone or other.
const OF_CHANGES: [&str; 5] = ["text_removed", "date_shifted", "uid_changed", "uid_consistent", "pixels_hidden"];

#[test]
fn every_answer_of_the_ten_checks_is_right() -> Outcome {
    let answers = answers()?;
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let profile = alice.home().join("profile.toml");
    fs::write(&profile, PROFILE)?;
    alice.add_settings(&format!("\n[deidentify]\nprofile = {:?}\n", profile.display().to_string()))?;
    let mut originals = BTreeMap::new();
    let mut ids = BTreeMap::new();
    // Patient by patient: what is consistent must be so from run to run.
    for patient in 1..=3 {
        let folder = alice.home().join(format!("p{patient}"));
        for subject in subjects().into_iter().filter(|subject| subject.patient == patient) {
            let path = folder.join(subject.file_name());
            fs::create_dir_all(&folder)?;
            fs::write(&path, write(&answers, subject)?)?;
            originals.insert(subject, path);
        }
        ids.extend(register(&alice, &folder)?);
    }
    let list: String = ids.values().map(|id| format!("{id}\n")).collect();
    alice.eds_fed(["retrieve", "-", "-o", "out"], list.as_bytes())?.success()?;
    let mut findings = Findings::default();
    for (subject, path) in &originals {
        let Some(id) = ids.get(path) else { give_up!("{} was not registered", path.display()) };
        let cleaned = fs::read(alice.home().join("out").join(format!("{id}.dcm")))?;
        check(&answers, *subject, &fs::read(path)?, &cleaned, &mut findings)?;
    }
    let wrong = findings.wrong();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), findings.made(), wrong.join("\n"));
    assert_eq!(files::below(&alice.home().join("out"))?.len(), 24);
    let of_each = findings.of_each();
    eprintln!("{} answers are right: {of_each:?}", findings.made());
    assert_eq!(of_each.len(), 10, "a check was never made: {of_each:?}");
    Ok(())
}

/// Without this, checks that always pass would pass.
#[test]
fn images_that_are_left_as_they_are_fail_the_checks_and_so_do_empty_ones() -> Outcome {
    let answers = answers()?;
    let (mut same, mut empty) = (Findings::default(), Findings::default());
    for subject in subjects() {
        let original = write(&answers, subject)?;
        check(&answers, subject, &original, &original, &mut same)?;
        let nothing = write(&[], subject)?;
        check(&answers, subject, &original, &nothing, &mut empty)?;
    }
    for (check, (right, made)) in same.of_each() {
        let expected = if OF_CHANGES.contains(&check.as_str()) { 0 } else { made };
        // The same patient has the same id in an original: only that it was changed is missing.
        assert_eq!(right, if check == "patid_consistent" { 0 } else { expected }, "{check} of originals");
    }
    for (check, (right, made)) in empty.of_each() {
        let asks_for_something = ["tag_retained", "text_notnull", "text_retained", "pixels_retained", "pixels_hidden"];
        let fails = asks_for_something.contains(&check.as_str());
        assert_eq!(right, if fails { 0 } else { made }, "{check} of empty images");
    }
    Ok(())
}

/// Registers a folder; returns the id of each file.
fn register(user: &User, folder: &Path) -> Outcome<BTreeMap<PathBuf, String>> {
    let run = user.eds([Path::new("register"), folder, Path::new("--json")])?.success()?;
    let mut ids = BTreeMap::new();
    for line in run.text().lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["event"] == "registered" {
            assert_eq!(event["content"], "image", "{event}");
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            ids.insert(PathBuf::from(text("path")), text("id"));
        }
    }
    Ok(ids)
}

#[test]
fn the_answers_name_every_check_and_reach_into_nested_items() -> Outcome {
    let answers = answers()?;
    let deep = |answer: &&Answer| answer.path.len() > 2;
    assert!(answers.iter().filter(deep).count() >= 5, "nothing is planted deep inside");
    assert!(answers.iter().filter(|answer| answer.path.len() == 1).count() >= 60);
    assert_eq!(subjects().len(), 24);
    let images: Vec<Subject> = subjects().into_iter().filter(|subject| subject.fits("p1t2e1i2")).collect();
    assert_eq!(images.len(), 1);
    Ok(())
}
