//! A study at a time: a folder goes in, is found, and comes back; each image is there once, whatever happens on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use eds_tests::{
    Outcome, Trouble,
    cluster::Cluster,
    dicom, files, give_up,
    user::{Run, User, exit},
};

/// Path and id of each line that `eds register` printed.
fn registered(run: &Run) -> BTreeMap<String, String> {
    let text = run.text();
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(id, path)| (path.to_owned(), id.to_owned())).collect()
}

fn keys(user: &User) -> Outcome<usize> {
    let listed = user.eds(["key", "ls"])?.success()?.text();
    Ok(listed.lines().filter(|line| line.split_whitespace().any(|word| word.len() == 36)).count())
}

#[test]
fn a_folder_goes_in_is_found_and_comes_back() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let ward = alice.home().join("ward");
    dicom::write_study(&ward.join("ct"), 12)?;
    fs::create_dir_all(ward.join("mr/deep"))?;
    for name in ["MR_small.dcm", "rtplan.dcm"] {
        fs::copy(dicom::find(name)?, ward.join("mr/deep").join(name))?;
    }
    fs::write(ward.join("README"), "read me")?;
    fs::copy(dicom::find("MR_truncated.dcm")?, ward.join("mr/broken.dcm"))?;

    let run = alice.eds(["register", "ward", "--key-per", "study"])?;
    let said = ["ward/README: left out: not DICOM", "ward/mr/broken.dcm: truncated DICOM", "14 registered", "1 failed"];
    let run = run.failed(exit::UNSUPPORTED, &said)?;
    let ids = registered(&run);
    assert_eq!(ids.len(), 14, "{ids:?}");
    // Three studies with two keys each, and two keys of the project.
    assert_eq!(keys(&alice)?, 3 * 2 + 2);

    // By what is in clear, and by the patient.
    let ct = alice.eds(["search", "Modality=CT", "-o", "ids"])?.success()?.text();
    assert_eq!(ct.lines().count(), 12);
    let by_patient = alice.eds(["search", "PatientID=1ct1", "PatientName=CompressedSamples^CT1", "-o", "ids"])?;
    assert_eq!(by_patient.success()?.text(), ct);
    let by_date = alice.eds(["search", "StudyDate=20040101-20041231", "Modality=CT", "-o", "ids"])?.success()?.text();
    assert_eq!(by_date, ct);
    assert_eq!(alice.eds(["search", "StudyDate=20050101-20051231", "-o", "ids"])?.success()?.text(), "");
    let table = alice.eds(["search", "Modality=CT"])?.success()?.text();
    assert!(table.starts_with("STUDY") && table.lines().count() == 2 && table.ends_with("12"), "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&alice.eds(["search", "Modality=CT", "--json"])?.success()?.text())?;
    assert_eq!(json[0]["ids"].as_array().map(Vec::len), Some(12));
    let pseudonym = json[0]["study"].as_str().unwrap_or_default().to_owned();
    assert!(pseudonym.starts_with("2.25."), "{json}");

    // By the UID of the original as well as by that of the de-identified study, restored byte for byte.
    for (uid, out) in [(dicom::CT_PATIENT[2], "out1"), (pseudonym.as_str(), "out2")] {
        alice.eds(["retrieve", "--study", uid, "--restore", "-o", out])?.success()?;
        same_contents(&ward.join("ct"), &alice.home().join(out))?;
    }
    alice.eds(["retrieve", "--search", "Modality=MR", "-o", "research"])?.success()?;
    let research = files::below(&alice.home().join("research"))?;
    assert_eq!(research.len(), 1);
    assert_eq!(files::holding(&alice.home().join("research"), &["4MR1", "CompressedSamples"])?, []);
    // Existing files stay.
    let again = alice.eds(["retrieve", "--search", "Modality=MR", "-o", "research"])?;
    again.failed(exit::CONFLICT, &["exists already"])?;
    // From one command to the next.
    let piped = alice.shell("eds search Modality=CT -o ids | eds retrieve - -o piped --restore");
    let mut piped = piped;
    eds_tests::user::run(&mut piped)?.success()?;
    same_contents(&ward.join("ct"), &alice.home().join("piped"))?;
    alice
        .eds(["retrieve", "--search", "Modality=US", "-o", "none"])?
        .refused(exit::NOT_FOUND, &["no image was found"])?;
    Ok(())
}

/// That two folders have files with the same contents, whatever their names.
fn same_contents(one: &Path, other: &Path) -> Outcome {
    let contents =
        |folder: &Path| files::below(folder)?.iter().map(|path| Ok(fs::read(path)?)).collect::<Outcome<BTreeSet<_>>>();
    let (one_set, other_set) = (contents(one)?, contents(other)?);
    if one_set != other_set {
        give_up!("{} files and {} files differ", one_set.len(), other_set.len());
    }
    Ok(())
}

#[test]
fn the_databases_hold_nothing_of_the_patient() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let ward = alice.home().join("ward");
    dicom::write_study(&ward, 3)?;
    alice.eds(["register", "ward"])?.success()?;
    fs::remove_dir_all(&ward)?;
    alice.eds(["search", "PatientID=1CT1", "StudyDate=20040119"])?.success()?;
    let patient = [&dicom::CT_PATIENT[..], &["COMPRESSEDSAMPLES", "compressedsamples", "20040119"]].concat();
    assert_eq!(files::holding(alice.home(), &patient)?, []);
    Ok(())
}

#[test]
fn an_image_is_registered_once_and_never_overwritten() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let ward = alice.home().join("ward");
    dicom::write_study(&ward, 3)?;
    fs::copy(ward.join("0001.dcm"), ward.join("copy of 0001.dcm"))?;
    let first = alice.eds(["register", "ward"])?.success()?;
    assert!(first.stderr.contains("3 registered, 1 registered already"), "{}", first.stderr);
    let ids = registered(&first);
    assert_eq!(ids.get("ward/0001.dcm"), ids.get("ward/copy of 0001.dcm"));

    // The same again changes nothing, and says the ids.
    let before = (files::below(&alice.objects())?, keys(&alice)?);
    let again = alice.eds(["register", "ward"])?.success()?;
    assert!(again.stderr.contains("0 registered, 4 registered already"), "{}", again.stderr);
    assert_eq!(registered(&again), ids);
    assert_eq!((files::below(&alice.objects())?, keys(&alice)?), before);

    // Other content under the same SOP Instance UID is refused; the rest of the folder goes on.
    let mut other = fs::read(ward.join("0001.dcm"))?;
    let last = other.len() - 2_000;
    if let Some(pixel) = other.get_mut(last) {
        *pixel ^= 1;
    }
    fs::write(ward.join("0001.dcm"), &other)?;
    dicom::write_study(&alice.home().join("more"), 4)?;
    fs::rename(alice.home().join("more/0003.dcm"), ward.join("0003.dcm"))?;
    let refused = alice.eds(["register", "ward"])?;
    let id = ids.get("ward/0001.dcm").ok_or_else(|| Trouble::new("no id"))?;
    let said = ["ward/0001.dcm: another image with the same SOP Instance UID is registered as", id.as_str(), "hint:"];
    let refused = refused.failed(exit::CONFLICT, &said)?;
    assert!(refused.stderr.contains("1 registered, 3 registered already, 1 failed"), "{}", refused.stderr);
    alice.eds(["retrieve", id, "--restore", "-o", "back.dcm"])?.success()?;
    assert_eq!(fs::read(alice.home().join("back.dcm"))?, fs::read(ward.join("copy of 0001.dcm"))?);
    // Named alone, it is the error of the command.
    alice.eds(["register", "ward/0001.dcm"])?.refused(exit::CONFLICT, &["nothing was overwritten"])?;
    Ok(())
}

#[test]
fn what_is_not_dicom_is_named_and_can_be_registered_whole() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let ward = alice.home().join("ward");
    fs::create_dir(&ward)?;
    let others =
        [("notes.txt", "README.txt"), ("no prefix", "ExplVR_LitEndNoMeta.dcm"), ("short.dcm", "rtplan_truncated.dcm")];
    for (name, of) in others {
        fs::copy(dicom::find(of)?, ward.join(name))?;
    }
    let run = alice.eds(["register", "ward", "--json"])?.failed(exit::UNSUPPORTED, &["ward/no prefix", "--opaque"])?;
    let events: Vec<serde_json::Value> = run.text().lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of = |event: &str| {
        events.iter().filter(|one| one["event"] == event).filter_map(|one| one["path"].as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of("left out"), ["ward/notes.txt"]);
    assert_eq!(of("failed").into_iter().collect::<BTreeSet<_>>(), ["ward/no prefix", "ward/short.dcm"].into());
    let end = events.last().ok_or_else(|| Trouble::new("no events"))?;
    assert_eq!((&end["event"], &end["registered"], &end["failed"]), (&"end".into(), &0.into(), &2.into()));

    let whole = alice.eds(["register", "ward", "--opaque"])?.success()?;
    let ids = registered(&whole);
    assert_eq!(ids.len(), 3);
    for (path, id) in &ids {
        alice.eds(["retrieve", id, "-o", "back"])?.success()?;
        assert_eq!(fs::read(alice.home().join("back"))?, fs::read(alice.home().join(path))?, "{path}");
        fs::remove_file(alice.home().join("back"))?;
    }
    assert_eq!(registered(&alice.eds(["register", "ward", "--opaque"])?.success()?), ids);
    Ok(())
}

#[test]
fn who_may_not_fetch_the_search_key_cannot_search_by_patient() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let bob = cluster.user("bob")?;
    dicom::write_study(&alice.home().join("ward"), 2)?;
    alice.eds(["register", "ward"])?.success()?;
    // Bob works on the same catalog, storage and metadata, as an account of the department.
    let settings = fs::read_to_string(bob.config())?;
    let shared = ["objects", "catalog.sqlite", "metadata.sqlite"].iter().fold(settings, |text, name| {
        text.replace(&format!("path = \"{name}\""), &format!("path = {:?}", alice.home().join(name)))
    });
    fs::write(bob.config(), shared)?;

    // What is in clear, anybody finds who has the database; so does who knows the UID of a de-identified image.
    assert_eq!(bob.eds(["search", "Modality=CT", "-o", "ids"])?.success()?.text().lines().count(), 2);
    for asked in ["PatientID=1CT1", "StudyDate=20040119", "StudyInstanceUID=1.2.3"] {
        let refused = bob.eds(["search", asked])?;
        refused.refused(exit::DENIED, &["the search key of this project could not be fetched", "hint:"])?;
    }
    // He cannot register into the project either, and is told why.
    fs::copy(dicom::find("MR_small.dcm")?, bob.home().join("mr.dcm"))?;
    bob.eds(["register", "mr.dcm"])?.refused(exit::DENIED, &["could not be fetched"])?;

    // The search key has an access list of its own.
    let name = bob.name()?;
    alice.eds(["key", "setacl", "-m", &format!("{name}:lg"), "search"])?.success()?;
    assert_eq!(bob.eds(["search", "PatientID=1CT1", "-o", "ids"])?.success()?.text().lines().count(), 2);
    let ids = bob.eds(["search", "PatientID=1CT1", "-o", "ids"])?.success()?.text();
    let id = ids.lines().next().unwrap_or_default();
    // Finding is not opening.
    bob.eds(["retrieve", id, "-o", "out.dcm"])?.refused(exit::DENIED, &[])?;
    alice.eds(["key", "setacl", "-d", &name, "search"])?.success()?;
    bob.eds(["search", "PatientID=1CT1"])?.refused(exit::DENIED, &[])?;
    Ok(())
}

#[test]
fn what_cannot_be_asked_is_refused_with_a_hint() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::copy(dicom::ct_small()?, alice.home().join("scan.dcm"))?;
    alice.eds(["register", "scan.dcm"])?.success()?;
    for (asked, said) in [
        ("PatientName=Comp*", "PatientName is blind: it is found by whole values"),
        ("StudyDate=20040101-", "a range of dates needs both ends"),
        ("StudyDate=19000101-20991231", "a range has at most"),
        ("PatientBirthDate=never", "\"never\" cannot be a value of PatientBirthDate"),
        ("PatientComments=x", "PatientComments is sealed"),
        ("PatientNaem=x", "\"PatientNaem\" is not an attribute of DICOM"),
        ("CT", "is not of the form Keyword=value"),
    ] {
        alice.eds(["search", asked])?.refused(exit::USAGE, &[said])?;
    }
    alice.add_settings("policy = \"policy.toml\"\n")?;
    fs::write(alice.home().join("policy.toml"), "version = 1\n[attributes]\nPatientName = \"plain\"\n")?;
    alice
        .eds(["search", "Modality=CT"])?
        .refused(exit::USAGE, &["PatientName tells who the patient is", "hint: make it blind"])?;
    fs::write(alice.home().join("policy.toml"), "version = 1\n[attributes]\nModality = \"sealed\"\n")?;
    alice.eds(["search", "Modality=CT"])?.refused(exit::USAGE, &["Modality is sealed"])?;
    Ok(())
}

#[test]
fn one_frame_is_read_without_the_others() -> Outcome {
    let cluster = Cluster::of_three()?;
    // Native and run-length encoded: one image in two forms, so each is registered by somebody else.
    for (who, name, native) in [("alice", "SC_rgb_2frame.dcm", true), ("bob", "SC_rgb_rle_2frame.dcm", false)] {
        let alice = cluster.user(who)?;
        let image = fs::read(dicom::find(name)?)?;
        fs::write(alice.home().join(name), &image)?;
        let id = alice.eds(["register", "--pass-suspect", name])?.success()?.id();
        let frames: Vec<Vec<u8>> = ["1", "2"]
            .iter()
            .map(|number| Ok(alice.eds(["cat", &id, "--frame", number])?.success()?.stdout))
            .collect::<Outcome<_>>()?;
        let [first, second] = frames.as_slice() else { give_up!("two frames") };
        let whole = alice.eds(["cat", &id, "--restore"])?.success()?.stdout;
        assert!(whole == image, "{name} restored to a pipe");
        if native {
            assert_eq!((first.len(), second.len()), (30_000, 30_000));
            assert!(
                files::contains(&image, &[first.as_slice(), second].concat()),
                "{name}: the frames are the pixel data"
            );
        } else {
            assert!(files::contains(&image, first) && files::contains(&image, second) && first != second, "{name}");
        }
        alice.eds(["cat", &id, "--frame", "3"])?.refused(exit::NOT_FOUND, &["has frames 1 to 2, and no frame 3"])?;
        alice.eds(["cat", &id, "--frame", "0"])?.refused(exit::NOT_FOUND, &["no frame 0"])?;
    }
    let alice = cluster.user("carol")?;
    fs::write(alice.home().join("plain"), "no image")?;
    let id = alice.eds(["register", "plain"])?.success()?.id();
    alice.eds(["cat", &id, "--frame", "1"])?.refused(exit::UNSUPPORTED, &["has no frames"])?;
    Ok(())
}

#[test]
fn a_damaged_chunk_spoils_the_frames_in_it_and_no_others() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::copy(dicom::find("SC_rgb_2frame.dcm")?, alice.home().join("two.dcm"))?;
    let id = alice.eds(["register", "--pass-suspect", "two.dcm"])?.success()?.id();
    let good = alice.eds(["cat", &id, "--frame", "1"])?.success()?.stdout;
    // The last chunk but one holds pixels of the second frame alone: chunks are of 16 KiB, frames of 30,000 bytes.
    let object = files::only(&alice.objects())?;
    let mut bytes = fs::read(&object)?;
    let at = 200 + 2 * 16_400 + 100;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    fs::write(&object, &bytes)?;
    assert_eq!(alice.eds(["cat", &id, "--frame", "1"])?.success()?.stdout, good);
    alice.eds(["cat", &id, "--frame", "2"])?.failed(exit::DAMAGED, &[])?;
    Ok(())
}

/// Width and height of a PNG file.
fn png_size(png: &[u8]) -> Outcome<(u32, u32)> {
    let side =
        |at: usize| png.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(u32::from_be_bytes);
    match (png.starts_with(b"\x89PNG\r\n\x1a\n"), side(16), side(20)) {
        (true, Some(width), Some(height)) => Ok((width, height)),
        _ => give_up!("no PNG file: {} bytes", png.len()),
    }
}

#[test]
fn an_image_is_looked_at_without_the_patient() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    // Native, run-length encoded with two frames, and JPEG.
    for (name, size) in
        [("CT_small.dcm", (128, 128)), ("SC_rgb_rle_2frame.dcm", (200, 100)), ("SC_rgb_jpeg_dcmtk.dcm", (100, 100))]
    {
        fs::copy(dicom::find(name)?, alice.home().join(name))?;
        let id = alice.eds(["register", "--pass-suspect", name])?.success()?.id();
        assert_eq!(png_size(&alice.eds(["view", &id, "-o", "-"])?.success()?.stdout)?, size, "{name}");
        alice.eds(["view", &id, "--frame", "1", "--window", "40,400", "-o", "view.png"])?.success()?;
        let file = fs::read(alice.home().join("view.png"))?;
        assert!(png_size(&file)? == size || name.contains("2frame"), "{name}");
        alice.eds(["view", &id, "-o", "view.png"])?.refused(exit::CONFLICT, &["exists already"])?;
        fs::remove_file(alice.home().join("view.png"))?;
        alice.eds(["view", &id, "--window", "40"])?.refused(exit::USAGE, &["is not a window"])?;
        alice.eds(["view", &id, "--frame", "7"])?.refused(exit::NOT_FOUND, &["no frame 7"])?;
    }
    fs::copy(dicom::find("JPEG2000.dcm")?, alice.home().join("j2k.dcm"))?;
    let id = alice.eds(["register", "--pass-suspect", "j2k.dcm"])?.success()?.id();
    alice
        .eds(["view", &id, "-o", "j2k.png"])?
        .refused(exit::UNSUPPORTED, &["cannot be shown", "cannot be decoded here"])?;
    assert!(!alice.home().join("j2k.png").exists());
    Ok(())
}
