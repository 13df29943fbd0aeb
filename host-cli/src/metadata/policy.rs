//! What becomes of each attribute of an image in the metadata database.
//!
//! `plain`: in clear, as the de-identified image has it, for any search. `blind`: as tokens of the original's values, for
//! searches by whole values under the search key. Everything else is `sealed`: it is in the private part only. A file of
//! the project changes the list; what identifies a patient can never be plain.

use std::{collections::BTreeMap, io, path::Path};

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary as _, DataDictionaryEntry as _},
};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use serde::Deserialize;

use crate::error::Kind;

/// What becomes of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// In clear.
    Plain,
    /// As tokens.
    Blind,
    /// In the private part only.
    Sealed,
}

/// What an attribute belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The patient.
    Patient,
    /// The study.
    Study,
    /// The series.
    Series,
    /// The image.
    Image,
}

impl Level {
    /// All levels, from the top.
    pub const ALL: [Self; 4] = [Self::Patient, Self::Study, Self::Series, Self::Image];

    /// Its place in [`Level::ALL`].
    pub const fn depth(self) -> usize {
        match self {
            Self::Patient => 0,
            Self::Study => 1,
            Self::Series => 2,
            Self::Image => 3,
        }
    }

    pub(super) const fn code(self) -> i64 {
        match self {
            Self::Patient => 0,
            Self::Study => 1,
            Self::Series => 2,
            Self::Image => 3,
        }
    }

    /// The attribute that names what is on this level, where there is one.
    pub fn of_uid(tag: Tag) -> Option<Self> {
        match tag {
            tags::STUDY_INSTANCE_UID => Some(Self::Study),
            tags::SERIES_INSTANCE_UID => Some(Self::Series),
            tags::SOP_INSTANCE_UID => Some(Self::Image),
            _ => None,
        }
    }
}

/// An attribute of the policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute {
    /// Which.
    pub tag: Tag,
    /// Its VR.
    pub vr: VR,
    /// What it belongs to.
    pub level: Level,
    /// What becomes of it.
    pub access: Access,
}

/// What becomes of each attribute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy(BTreeMap<Tag, Attribute>);

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file that is no policy.
    #[error("{} is not a valid policy of attributes", path.display())]
    Invalid {
        /// The file.
        path: std::path::PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A version of another release.
    #[error("{}: version {version} is not known", path.display())]
    Version {
        /// The file.
        path: std::path::PathBuf,
        /// Its version.
        version: u32,
    },
    /// A name that the dictionary does not know.
    #[error("{}: {name:?} is not an attribute of DICOM", path.display())]
    Unknown {
        /// The file.
        path: std::path::PathBuf,
        /// What it names.
        name: String,
    },
    /// An attribute that must not be in clear.
    #[error("{}: {name} tells who the patient is and cannot be plain", path.display())]
    Identifying {
        /// The file.
        path: std::path::PathBuf,
        /// The attribute.
        name: String,
    },
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            _ => Kind::Usage,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Identifying { .. } => Some("make it blind, which finds whole values, or sealed".into()),
            Self::Unknown { .. } => Some("write the keyword of DICOM PS3.6, for example StudyDate".into()),
            Self::Version { .. } => Some("this release knows version = 1".into()),
            Self::Read { .. } | Self::Invalid { .. } => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    #[serde(default)]
    attributes: BTreeMap<String, WrittenAttribute>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenAttribute {
    Access(Access),
    Both { access: Access, level: Level },
}

impl Policy {
    /// The usual policy, changed by this file if there is one.
    ///
    /// # Errors
    /// [`Error`].
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let usual = Self::default();
        let Some(path) = file else { return Ok(usual) };
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        usual.changed(&text, path)
    }

    fn changed(mut self, text: &str, path: &Path) -> Result<Self, Error> {
        let written: Written =
            toml::from_str(text).map_err(|source| Error::Invalid { path: path.into(), source: Box::new(source) })?;
        if written.version != 1 {
            return Err(Error::Version { path: path.into(), version: written.version });
        }
        for (name, change) in written.attributes {
            let entry = StandardDataDictionary.by_name(&name);
            let entry = entry.ok_or_else(|| Error::Unknown { path: path.into(), name: name.clone() })?;
            let (tag, vr) = (entry.tag(), entry.vr().relaxed());
            let (access, level) = match change {
                WrittenAttribute::Access(access) => (access, None),
                WrittenAttribute::Both { access, level } => (access, Some(level)),
            };
            if access == Access::Plain && is_identifying(tag, vr) {
                return Err(Error::Identifying { path: path.into(), name });
            }
            let known = self.0.get(&tag).map(|attribute| attribute.level);
            let level = level.or(known).unwrap_or(Level::Image);
            self.0.insert(tag, Attribute { tag, vr, level, access });
        }
        Ok(self)
    }

    /// What becomes of this attribute, if anything does.
    pub fn attribute(&self, tag: Tag) -> Option<&Attribute> {
        self.0.get(&tag).filter(|attribute| attribute.access != Access::Sealed)
    }

    /// All attributes that are not sealed.
    pub fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.0.values().filter(|attribute| attribute.access != Access::Sealed)
    }
}

impl Default for Policy {
    fn default() -> Self {
        let of = |(tag, level, access): &(Tag, Level, Access)| {
            let vr = StandardDataDictionary.by_tag(*tag).map_or(VR::LO, |entry| entry.vr().relaxed());
            (*tag, Attribute { tag: *tag, vr, level: *level, access: *access })
        };
        Self(USUAL.iter().map(of).collect())
    }
}

/// Whether an attribute can never be in clear, whatever a project says.
fn is_identifying(tag: Tag, vr: VR) -> bool {
    vr == VR::PN || tag.group() == 0x0010 && tag != tags::PATIENT_SEX || IDENTIFYING.contains(&tag)
}

/// Identifies the patient, or leads to somebody who knows them, outside of the patient's own group.
const IDENTIFYING: [Tag; 16] = [
    tags::ACCESSION_NUMBER,
    tags::STUDY_ID,
    tags::INSTITUTION_NAME,
    tags::INSTITUTION_ADDRESS,
    tags::INSTITUTIONAL_DEPARTMENT_NAME,
    tags::STATION_NAME,
    tags::DEVICE_SERIAL_NUMBER,
    tags::ADMISSION_ID,
    tags::SERVICE_EPISODE_ID,
    tags::PATIENT_STATE,
    tags::REQUESTED_PROCEDURE_ID,
    tags::SCHEDULED_PROCEDURE_STEP_ID,
    tags::PERFORMED_PROCEDURE_STEP_ID,
    tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
    tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST,
    tags::CURRENT_PATIENT_LOCATION,
];

/// Retired, and in use.
const OTHER_PATIENT_IDS: Tag = Tag(0x0010, 0x1000);

const USUAL: [(Tag, Level, Access); 37] = [
    (tags::PATIENT_NAME, Level::Patient, Access::Blind),
    (tags::PATIENT_ID, Level::Patient, Access::Blind),
    (OTHER_PATIENT_IDS, Level::Patient, Access::Blind),
    (tags::PATIENT_BIRTH_DATE, Level::Patient, Access::Blind),
    (tags::PATIENT_SEX, Level::Patient, Access::Plain),
    (tags::STUDY_INSTANCE_UID, Level::Study, Access::Blind),
    (tags::STUDY_DATE, Level::Study, Access::Blind),
    (tags::STUDY_ID, Level::Study, Access::Blind),
    (tags::ACCESSION_NUMBER, Level::Study, Access::Blind),
    (tags::REFERRING_PHYSICIAN_NAME, Level::Study, Access::Blind),
    (tags::SERIES_INSTANCE_UID, Level::Series, Access::Blind),
    (tags::SERIES_DATE, Level::Series, Access::Blind),
    (tags::SERIES_NUMBER, Level::Series, Access::Plain),
    (tags::MODALITY, Level::Series, Access::Plain),
    (tags::BODY_PART_EXAMINED, Level::Series, Access::Plain),
    (tags::LATERALITY, Level::Series, Access::Plain),
    (tags::PATIENT_POSITION, Level::Series, Access::Plain),
    (tags::MANUFACTURER, Level::Series, Access::Plain),
    (tags::MANUFACTURER_MODEL_NAME, Level::Series, Access::Plain),
    (tags::MAGNETIC_FIELD_STRENGTH, Level::Series, Access::Plain),
    (tags::SOP_INSTANCE_UID, Level::Image, Access::Blind),
    (tags::SOP_CLASS_UID, Level::Image, Access::Plain),
    (tags::INSTANCE_NUMBER, Level::Image, Access::Plain),
    (tags::IMAGE_TYPE, Level::Image, Access::Plain),
    (tags::ROWS, Level::Image, Access::Plain),
    (tags::COLUMNS, Level::Image, Access::Plain),
    (tags::NUMBER_OF_FRAMES, Level::Image, Access::Plain),
    (tags::BITS_ALLOCATED, Level::Image, Access::Plain),
    (tags::SAMPLES_PER_PIXEL, Level::Image, Access::Plain),
    (tags::PHOTOMETRIC_INTERPRETATION, Level::Image, Access::Plain),
    (tags::SLICE_THICKNESS, Level::Image, Access::Plain),
    (tags::PIXEL_SPACING, Level::Image, Access::Plain),
    (tags::KVP, Level::Image, Access::Plain),
    (tags::REPETITION_TIME, Level::Image, Access::Plain),
    (tags::ECHO_TIME, Level::Image, Access::Plain),
    (tags::BURNED_IN_ANNOTATION, Level::Image, Access::Plain),
    (tags::TRANSFER_SYNTAX_UID, Level::Image, Access::Plain),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(text: &str) -> Result<Policy, Error> {
        Policy::default().changed(text, Path::new("policy.toml"))
    }

    #[test]
    fn nothing_that_identifies_is_plain_by_default() {
        let policy = Policy::default();
        assert_eq!(policy.attributes().count(), USUAL.len());
        for attribute in policy.attributes() {
            let plain = attribute.access == Access::Plain;
            assert!(!(plain && is_identifying(attribute.tag, attribute.vr)), "{attribute:?}");
        }
    }

    #[test]
    fn a_project_may_change_what_does_not_identify() {
        let policy = changed(
            "version = 1\n[attributes]\nStudyDate = \"plain\"\nStudyDescription = { access = \"blind\", level = \"study\" }\n\
             Manufacturer = \"sealed\"\n",
        )
        .expect("is valid");
        let date = policy.attribute(tags::STUDY_DATE).expect("is there");
        assert_eq!((date.access, date.level), (Access::Plain, Level::Study));
        assert_eq!(policy.attribute(tags::STUDY_DESCRIPTION).map(|one| one.level), Some(Level::Study));
        assert_eq!(policy.attribute(tags::MANUFACTURER), None);
    }

    #[test]
    fn what_identifies_can_never_be_plain() {
        for name in
            ["PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "OperatorsName", "PatientComments"]
        {
            let error = changed(&format!("version = 1\n[attributes]\n{name} = \"plain\"\n")).expect_err("is refused");
            assert!(matches!(error, Error::Identifying { .. }), "{name}: {error}");
            changed(&format!("version = 1\n[attributes]\n{name} = \"blind\"\n")).expect("blind is fine");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(matches!(changed("version = 2\n"), Err(Error::Version { version: 2, .. })));
        assert!(matches!(changed("version = 1\n[attributes]\nStudyDat = \"plain\"\n"), Err(Error::Unknown { .. })));
        assert!(matches!(changed("version = 1\n[attributes]\nStudyDate = \"open\"\n"), Err(Error::Invalid { .. })));
        assert!(matches!(changed("version = 1\nother = 2\n"), Err(Error::Invalid { .. })));
    }
}
