//! Who an image is about, as far as it says: what stands for the patient, and words that must not be left anywhere.

use std::collections::BTreeSet;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use zeroize::{Zeroize as _, Zeroizing};

use crate::dicom::{
    dataset::{Element, Value, find},
    secret::ProjectSecret,
    values::is_word,
};

/// The patient of an image.
pub(super) struct Subject {
    /// By how many days dates go back.
    pub(super) days: u32,
    pseudonym: String,
    /// Names, numbers and birth dates of everybody in the image, in capital letters.
    words: BTreeSet<Vec<u8>>,
}

impl Subject {
    pub(super) fn of(elements: &[Element<'_>], secret: &ProjectSecret, most_days: u32) -> Self {
        let value = |tag| find(elements, tag).map(trimmed).filter(|value| !value.is_empty());
        // Without an id, the name and the birth date; without a name, at least all of a study alike.
        let patient = match (value(tags::PATIENT_ID), value(tags::PATIENT_NAME)) {
            (Some(id), _) => id.to_vec(),
            (None, Some(name)) => [name, value(tags::PATIENT_BIRTH_DATE).unwrap_or_default()].join(&0),
            (None, None) => {
                let study = value(tags::STUDY_INSTANCE_UID).or_else(|| value(tags::SOP_INSTANCE_UID));
                [b"study", study.unwrap_or_default()].join(&0)
            }
        };
        let patient = Zeroizing::new(patient);
        let mut words = BTreeSet::new();
        collect(elements, &mut words);
        Self { days: secret.days(&patient, most_days), pseudonym: secret.pseudonym(&patient), words }
    }

    /// What stands for the patient in a value of this VR.
    pub(super) fn stand_in(&self, vr: VR) -> Vec<u8> {
        match vr {
            VR::PN | VR::LO | VR::SH => format!("P-{}", self.pseudonym).into_bytes(),
            _ => self.pseudonym.clone().into_bytes(),
        }
    }

    /// Whether a text has a word that belongs to somebody in the image.
    pub(super) fn names(&self, vr: VR, value: &[u8]) -> bool {
        let is_text = matches!(vr, VR::AE | VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UR | VR::UT | VR::UN);
        is_text && words(value).any(|word| self.words.contains(&word.to_ascii_uppercase()))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        std::mem::take(&mut self.words).into_iter().for_each(|mut word| word.zeroize());
    }
}

/// Collects the words of names and numbers at every depth.
fn collect(elements: &[Element<'_>], into: &mut BTreeSet<Vec<u8>>) {
    for element in elements {
        let least = match (&element.value, element.vr) {
            (Value::Items(items, _), _) => {
                items.iter().for_each(|item| collect(item, into));
                continue;
            }
            (Value::Bytes(_), VR::PN) => SHORTEST_NAME,
            (Value::Bytes(_), _) if NUMBERS.contains(&element.tag) => SHORTEST_NUMBER,
            _ => continue,
        };
        let value = element.bytes().unwrap_or_default();
        into.extend(words(value).filter(|word| word.len() >= least).map(<[u8]>::to_ascii_uppercase));
    }
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| !is_word(*b)).filter(|word| !word.is_empty())
}

fn trimmed(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|b| !matches!(b, b' ' | 0)).map_or(0, |last| last + 1);
    value.get(..end).unwrap_or_default().trim_ascii_start()
}

/// Shorter words are in too many texts.
const SHORTEST_NAME: usize = 3;
const SHORTEST_NUMBER: usize = 4;
/// Attributes whose values are of one patient or one visit.
const NUMBERS: [Tag; 8] = [
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::ACCESSION_NUMBER,
    tags::ADMISSION_ID,
    tags::STUDY_ID,
    Tag(0x0010, 0x1000), // Other Patient IDs (retired)
    Tag(0x0010, 0x1090), // Medical Record Locator (retired)
    tags::PATIENT_TELEPHONE_NUMBERS,
];
