//! Registering images by a profile: what is suspect is refused or kept for review, blanked pixels come back, and the report
//! says what was done without saying of whom.

use std::fs;

use eds_tests::{
    Outcome,
    cluster::Cluster,
    dicom, files,
    user::{User, exit},
};

/// An ultrasound image of 320 by 240 pixels of three bytes: nobody knows what is written in it.
const SUSPECT: &str = "examples_rgb_color.dcm";
/// Its pixel data element: Pixel Data (7FE0,0010), OB, so many bytes.
const PIXELS: &[u8] = b"\xe0\x7f\x10\0OB\0\0\0\x84\x03\0";

fn with_profile(user: &User, text: &str) -> Outcome {
    fs::write(user.home().join("profile.toml"), text)?;
    let config = fs::read_to_string(user.config())?;
    Ok(fs::write(
        user.config(),
        format!("{config}\n[deidentify]\nprofile = \"{}\"\n", user.home().join("profile.toml").display()),
    )?)
}

#[test]
fn an_image_that_may_show_a_name_is_refused_until_somebody_says_otherwise() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::copy(dicom::find(SUSPECT)?, alice.home().join("capture.dcm"))?;
    let said = ["there may be writing in the picture", "Burned In Annotation", "hint:", "--mask"];
    alice.eds(["register", "capture.dcm"])?.refused(exit::SUSPECT, &said)?;
    assert_eq!(files::below(&alice.objects())?, Vec::<std::path::PathBuf>::new(), "nothing of it was stored");

    let passed = alice.eds(["register", "--pass-suspect", "--report", "passed.jsonl", "capture.dcm"])?.success()?;
    assert!(passed.stderr.contains("warning: capture.dcm: there may be writing in the picture"), "{passed:?}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(alice.home().join("passed.jsonl"))?)?;
    assert_eq!(report["deidentification"]["suspicions_overridden"], true);
    assert_eq!(report["id"], passed.id());
    Ok(())
}

#[test]
fn blanked_pixels_are_gone_for_the_researcher_and_come_back_for_the_physician() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let original = fs::read(dicom::find(SUSPECT)?)?;
    fs::write(alice.home().join("capture.dcm"), &original)?;
    let masked = ["register", "--mask", "0,0,100,10", "--mask", "5,5,20,50", "--report", "-", "capture.dcm"];
    let registered = alice.eds(masked)?.success()?;
    let text = registered.text();
    let (report, id) = text.split_once('\n').unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(report)?;
    assert_eq!(report["deidentification"]["masks"], serde_json::json!([[0, 0, 100, 10], [5, 5, 20, 50]]));
    let id = id.split_whitespace().next().unwrap_or_default();

    alice.eds(["retrieve", id, "-o", "research.dcm"])?.success()?;
    let research = fs::read(alice.home().join("research.dcm"))?;
    let pixels = |file: &[u8]| {
        let start = file.windows(PIXELS.len()).position(|window| window == PIXELS).map(|start| start + PIXELS.len());
        start.and_then(|start| file.get(start..start + 230_400)).map(<[u8]>::to_vec).unwrap_or_default()
    };
    assert_eq!(pixels(&research).len(), 230_400);
    for (position, (before, after)) in pixels(&original).into_iter().zip(pixels(&research)).enumerate() {
        let (x, y) = (position / 3 % 320, position / 960);
        let masked = y < 10 || (5..25).contains(&x) && (5..55).contains(&y);
        assert_eq!(after, if masked { 0 } else { before }, "{x},{y}");
    }
    assert_ne!(pixels(&original), pixels(&research), "the test blanks nothing");
    assert!(files::contains(&research, b"Clean Pixel Data Option"));

    alice.eds(["retrieve", id, "--restore", "-o", "back.dcm"])?.success()?;
    assert_eq!(fs::read(alice.home().join("back.dcm"))?, original);
    alice.eds(["register", "--mask", "310,90,20,5", "capture.dcm"])?.refused(exit::USAGE, &["not within the image"])?;
    Ok(())
}

#[test]
fn a_quarantined_image_is_encrypted_whole_for_review() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let profile = "format = 1\nname = \"review\"\nversion = \"1\"\n[suspects]\nburned-in = \"quarantine\"\n";
    with_profile(&alice, profile)?;
    let original = fs::read(dicom::find(SUSPECT)?)?;
    fs::write(alice.home().join("capture.dcm"), &original)?;
    let done = alice.eds(["register", "--report", "report.jsonl", "capture.dcm"])?.success()?;
    assert!(done.stderr.contains("quarantined: encrypted whole"), "{done:?}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(alice.home().join("report.jsonl"))?)?;
    assert_eq!((&report["quarantined"], &report["deidentification"]), (&true.into(), &serde_json::Value::Null));
    alice.eds(["retrieve", &done.id(), "-o", "whole.dcm"])?.success()?;
    assert_eq!(fs::read(alice.home().join("whole.dcm"))?, original);
    Ok(())
}

#[test]
fn the_profile_of_the_project_is_written_into_the_image_and_its_report_tells_no_value() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let profile = "format = 1\nname = \"trial 7\"\nversion = \"3\"\noptions = [\"retain-uids\"]\n";
    with_profile(&alice, profile)?;
    let digest = alice.eds(["profile", "check", "profile.toml"])?.success()?.text();
    fs::copy(dicom::ct_small()?, alice.home().join("scan.dcm"))?;
    let done = alice.eds(["register", "--report", "report.jsonl", "scan.dcm"])?.success()?;
    let text = fs::read(alice.home().join("report.jsonl"))?;
    assert!(dicom::CT_PATIENT.iter().all(|word| !files::contains(&text, word.as_bytes())));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(alice.home().join("report.jsonl"))?)?;
    let report = &report["deidentification"];
    let of_profile: Vec<_> =
        report["profile"].as_array().into_iter().flatten().filter_map(|text| text.as_str()).collect();
    assert_eq!(of_profile.join("\t"), digest);
    let patient = report["elements"].as_array().into_iter().flatten().find(|one| one["path"] == "(0010,0010)");
    assert_eq!(patient.map(|one| (&one["action"], &one["rule"])), Some((&"pseudonym".into(), &"E.1-1 Z".into())));

    alice.eds(["retrieve", &done.id(), "-o", "research.dcm"])?.success()?;
    let research = fs::read(alice.home().join("research.dcm"))?;
    for said in ["trial 7 3", of_profile.last().copied().unwrap_or("?"), "Retain UIDs Option", dicom::CT_PATIENT[2]] {
        assert!(files::contains(&research, said.as_bytes()), "{said}");
    }
    Ok(())
}

#[test]
fn everything_that_is_wrong_with_a_profile_is_told_and_nothing_is_registered() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("wrong.toml"), "format = 1\nname = \"x\"\noptions = [\"all\"]\n")?;
    fs::copy(dicom::ct_small()?, alice.home().join("scan.dcm"))?;
    let said = ["version: missing", "line 3: options: \"all\" is none of", "hint:"];
    alice.eds(["profile", "check", "wrong.toml"])?.refused(exit::USAGE, &said)?;
    alice.eds(["register", "--profile", "wrong.toml", "scan.dcm"])?.refused(exit::USAGE, &said)?;
    let shown = alice.eds(["profile", "show"])?.success()?;
    fs::write(alice.home().join("mine.toml"), &shown.stdout)?;
    alice.eds(["profile", "check", "mine.toml"])?.success()?;
    Ok(())
}

#[test]
fn rectangles_of_a_picture_that_rle_compresses_are_blanked_and_come_back_and_other_compressions_say_why_not() -> Outcome
{
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let original = fs::read(dicom::find("MR_small_RLE.dcm")?)?;
    fs::write(alice.home().join("mr.dcm"), &original)?;
    let id = alice.eds(["register", "--mask", "0,0,64,8", "mr.dcm"])?.success()?.id();
    alice.eds(["retrieve", &id, "-o", "research.dcm"])?.success()?;
    let pixels = |path: &std::path::Path| -> Outcome<Vec<u8>> {
        let object = dicom_object::open_file(path).map_err(|error| eds_tests::Trouble::new(error.to_string()))?;
        let element =
            object.element_by_name("PixelData").map_err(|error| eds_tests::Trouble::new(error.to_string()))?;
        Ok(element.to_bytes().map_err(|error| eds_tests::Trouble::new(error.to_string()))?.into_owned())
    };
    // The same picture, not compressed.
    let plain = pixels(&dicom::find("MR_small.dcm")?)?;
    let research = pixels(&alice.home().join("research.dcm"))?;
    assert_eq!((plain.len(), research.len()), (64 * 64 * 2, 64 * 64 * 2));
    let (masked, rest) = research.split_at(64 * 2 * 8);
    assert!(masked.iter().all(|byte| *byte == 0) && plain.iter().take(64 * 2 * 8).any(|byte| *byte != 0));
    assert_eq!(Some(rest), plain.get(64 * 2 * 8..));
    alice.eds(["retrieve", &id, "--restore", "-o", "back.dcm"])?.success()?;
    assert_eq!(fs::read(alice.home().join("back.dcm"))?, original);
    alice.eds(["cat", &id, "--frame", "1"])?.success()?;

    fs::copy(dicom::find("SC_rgb_jpeg_dcmtk.dcm")?, alice.home().join("jpeg.dcm"))?;
    let said = ["the pixel data are compressed, and not by RLE", "hint:"];
    alice.eds(["register", "--mask", "0,0,5,5", "jpeg.dcm"])?.refused(exit::USAGE, &said)?;
    Ok(())
}
