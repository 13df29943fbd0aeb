//! Real DICOM images, from the test data of the Python package pydicom that `scripts/setup` installs.

use std::{fs, path::PathBuf};

use crate::{Outcome, binaries::source_root, give_up, trouble::During as _};

/// What a reader of `CT_small.dcm` would know the patient by: name, id and the UIDs of study, series and image.
pub const CT_PATIENT: [&str; 5] = [
    "CompressedSamples",
    "1CT1",
    "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322",
    "1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322",
    "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322",
];

/// A small CT image of a phantom patient.
///
/// # Errors
/// When the set-up was not run.
pub fn ct_small() -> Outcome<PathBuf> {
    find("CT_small.dcm")
}

/// A test image of pydicom by name.
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
    give_up!("pydicom's {name} is not below {}: run `make setup`", libraries.display())
}
