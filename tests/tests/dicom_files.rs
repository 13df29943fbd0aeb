//! Every test file of pydicom and pydicom-data is taken apart and put together again, byte for byte; nothing of the patient
//! is left in the de-identified file, which pydicom and dicom-object read without complaint and in which dciodvfy finds no
//! error that the original did not have.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read as _},
    path::{Path, PathBuf},
    process::Command,
};

use eds::dicom::{
    self, Finished, How, ImageBinding, PrivatePart, Profile, ProjectSecret, deidentify, private_part::Rest,
};
use eds_core::ids::FileId;
use eds_tests::binaries::source_root;

/// Files that cannot be taken apart, and why. A file that leaves this list is good news; one that joins it is not.
const UNREADABLE: [(&str, &str); 27] = [
    ("ExplVR_BigEndNoMeta.dcm", NO_PREFIX),
    ("ExplVR_LitEndNoMeta.dcm", NO_PREFIX),
    ("MR_truncated.dcm", "truncated DICOM: the element at byte 1500 is longer than the file"),
    ("OT-PAL-8-face.dcm", NO_PREFIX),
    ("README.txt", NO_PREFIX),
    ("SC_rgb_jpeg.dcm", "truncated DICOM: the element at byte 368 is longer than the file"),
    ("crayons.icc", NO_PREFIX),
    ("dicomdirtests/DICOMDIR", DIRECTORY),
    ("dicomdirtests/DICOMDIR-bigEnd", DIRECTORY),
    ("dicomdirtests/DICOMDIR-empty.dcm", DIRECTORY),
    ("dicomdirtests/DICOMDIR-implicit", DIRECTORY),
    ("dicomdirtests/DICOMDIR-nooffset", DIRECTORY),
    ("dicomdirtests/DICOMDIR-nopatient", DIRECTORY),
    ("dicomdirtests/DICOMDIR-reordered", DIRECTORY),
    ("dicomdirtests/README.txt", NO_PREFIX),
    ("dicomdirtests/TINY_ALPHA/DICOMDIR", DIRECTORY),
    ("dicomdirtests/TINY_ALPHA/README", NO_PREFIX),
    ("emri_small_jpeg_2k_lossless_too_short.dcm", "truncated DICOM: the element at byte 40316 is longer than the file"),
    ("meta_missing_tsyntax.dcm", "the file meta information names no transfer syntax"),
    ("no_meta.dcm", NO_PREFIX),
    ("rtplan.dump", NO_PREFIX),
    ("rtplan_truncated.dcm", "truncated DICOM: the element at byte 1418 is longer than the file"),
    ("rtstruct.dcm", NO_PREFIX),
    ("rtstruct.dump", NO_PREFIX),
    ("test1.json", NO_PREFIX),
    ("test_PN.json", NO_PREFIX),
    ("zipMR.gz", NO_PREFIX),
];
const NO_PREFIX: &str = "not a DICOM file: there is no DICM prefix at byte 128";
const DIRECTORY: &str = "a DICOMDIR is not an image";

#[test]
fn every_readable_file_is_deidentified_and_restored_to_the_byte() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut unreadable = BTreeMap::new();
    let mut pairs = Vec::new();
    for (profile_name, profile) in [("basic", basic()), ("default", Profile::default())] {
        for (number, (name, path)) in files().into_iter().enumerate() {
            let original = fs::read(&path).expect("reads");
            match separate(&original, &profile) {
                Ok((cleaned, part)) => {
                    assert_restored(&name, &original, &cleaned, &part);
                    assert_read_by_dicom_object(&name, &cleaned, &part);
                    let out = folder.path().join(format!("{number}-{profile_name}.dcm"));
                    fs::write(&out, &cleaned).expect("writes");
                    pairs.push((path, out));
                }
                Err(error) => {
                    assert!(error.is_unreadable(), "{name}: {error}");
                    unreadable.insert(name, error.to_string());
                }
            }
        }
    }
    let expected: BTreeMap<String, String> =
        UNREADABLE.into_iter().map(|(name, reason)| (name.into(), reason.into())).collect();
    assert_eq!(unreadable, expected);
    println!("{} files were de-identified by two profiles and restored", pairs.len() / 2);
    assert!(pairs.len() > 400, "only {} files were read", pairs.len());
    let mut judge = Command::new(python());
    judge.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom_files.py"));
    for (original, cleaned) in &pairs {
        judge.args([original, cleaned]);
    }
    let judged = judge.output().expect("python runs");
    let problems = String::from_utf8_lossy(&judged.stdout).into_owned();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    assert_eq!(problems, "", "pydicom finds fault");
}

#[test]
fn references_between_files_stay_consistent_and_need_the_key() {
    let path = test_files().join("CT_small.dcm");
    let original = fs::read(path).expect("reads");
    let instance = |key: [u8; 32]| {
        let (profile, secret) = (Profile::default(), ProjectSecret::new(key));
        let how = How::new(&profile, &secret);
        let separated = deidentify(&mut Cursor::new(&original), &how).expect("separates");
        let mut bytes = Vec::new();
        separated.deidentified(&mut Cursor::new(&original)).expect("starts").read_to_end(&mut bytes).expect("reads");
        let object = dicom_object::from_reader(Cursor::new(bytes)).expect("dicom-object reads it");
        let of = |name| object.element_by_name(name).expect("is there").to_str().expect("text").into_owned();
        (of("StudyInstanceUID"), of("SOPInstanceUID"), object.meta().media_storage_sop_instance_uid().to_owned())
    };
    let (study, image, meta) = instance([1; 32]);
    assert_eq!((study.clone(), image.clone(), meta.clone()), instance([1; 32]));
    assert_eq!(image, meta);
    assert!(study.starts_with("2.25.") && study != image);
    assert_ne!(study, instance([2; 32]).0);
}

/// Without any option, and with what the table says for the patient.
fn basic() -> Profile {
    let text = "format = 1\nname = \"basic\"\nversion = \"1\"\n[patient]\nname = \"table\"\nid = \"table\"\n";
    Profile::parse(text.as_bytes()).expect("valid")
}

fn separate(original: &[u8], profile: &Profile) -> Result<(Vec<u8>, PrivatePart), dicom::Error> {
    let secret = ProjectSecret::new([7; 32]);
    let how = How { pass_suspect: true, ..How::new(profile, &secret) };
    let separated = deidentify(&mut Cursor::new(original), &how)?;
    let (cleaned, finished) = read_through(&separated, original);
    assert_eq!(u64::try_from(cleaned.len()).expect("small"), separated.length());
    let image = ImageBinding { file: FileId::from_bytes([1; 16]), salt: [2; 24], commitment: [3; 32] };
    Ok((cleaned, separated.into_private_part(image, finished)))
}

fn read_through(separated: &dicom::Separated, original: &[u8]) -> (Vec<u8>, Finished) {
    let mut input = Cursor::new(original);
    let mut stream = separated.deidentified(&mut input).expect("starts");
    let mut cleaned = Vec::new();
    stream.read_to_end(&mut cleaned).expect("reads");
    (cleaned, stream.finish().expect("was read to its end"))
}

fn assert_restored(name: &str, original: &[u8], cleaned: &[u8], part: &PrivatePart) {
    let stored = part.encode().expect("encodes");
    let part = PrivatePart::decode(&stored).expect("decodes");
    let mut restored = Vec::new();
    dicom::restore(&mut Cursor::new(cleaned), &part, &mut restored).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(restored == original, "{name} was not restored");
}

/// Reads a de-identified file with a reader that is not ours.
fn assert_read_by_dicom_object(name: &str, cleaned: &[u8], part: &PrivatePart) {
    let object = match dicom_object::from_reader(Cursor::new(cleaned)) {
        Ok(object) => object,
        Err(error) => panic!("{name}: dicom-object: {error}"),
    };
    let removed = object.element_by_name("PatientIdentityRemoved").expect("is there");
    assert_eq!(removed.to_str().expect("text"), "YES", "{name}");
    let Rest::Around { pixels, .. } = &part.rest else { return };
    assert_eq!(object.element_by_name_opt("PixelData").expect("reads").is_some(), !pixels.is_empty(), "{name}");
}

/// The files of pydicom's tests and of pydicom-data by their names, those in folders included.
fn files() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for root in [test_files(), more_files()] {
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).expect("is below").to_string_lossy().into_owned();
                    found.insert(name, path);
                }
            }
        }
    }
    found
}

fn test_files() -> PathBuf {
    ask_python("import pydicom.data, os; print(os.path.join(os.path.dirname(pydicom.data.__file__), 'test_files'))")
}

fn more_files() -> PathBuf {
    ask_python("import data_store, os; print(os.path.join(os.path.dirname(data_store.__file__), 'data'))")
}

fn ask_python(script: &str) -> PathBuf {
    let output = Command::new(python()).args(["-c", script]).output().expect("no Python: run make setup");
    assert!(output.status.success(), "no pydicom or pydicom-data: run make setup");
    PathBuf::from(String::from_utf8(output.stdout).expect("text").trim())
}

fn python() -> PathBuf {
    std::env::var_os("EDS_PYTHON").map_or_else(|| source_root().join("target/venv/bin/python"), PathBuf::from)
}
