//! What was done to each element of an image, for the records of a study: path, attribute, action and rule, never a value.

use serde::Serialize;

use super::{pixels::Suspicion, profile::Profile};

/// What was done to an image.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// The profile: name, version and SHA-256 of its file.
    pub profile: [String; 3],
    /// The edition of PS3.15.
    pub edition: &'static str,
    /// What is suspect about the image, in words.
    pub suspicions: Vec<String>,
    /// Whether the user let it pass in spite of that.
    pub suspicions_overridden: bool,
    /// What was blanked in every frame: x, y, width, height.
    pub masks: Vec<[u32; 4]>,
    /// The elements, in the order of the image.
    pub elements: Vec<Entry>,
}

/// What was done to an element.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Entry {
    /// Where it is: tags and item numbers, for example `(0008,1140)[0].(0008,1155)`.
    pub path: String,
    /// Its keyword in PS3.6; empty when it has none.
    pub keyword: &'static str,
    /// What was done.
    pub action: Done,
    /// By which rule.
    pub rule: String,
}

/// What was done to an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// It stayed as it was.
    Kept,
    /// Its items were looked into.
    LookedInto,
    /// It was taken out.
    Removed,
    /// Its value was taken out.
    Emptied,
    /// A dummy was put in its place.
    Dummy,
    /// A pseudonym was put in its place.
    Pseudonym,
    /// Its UIDs were replaced.
    Uids,
    /// What is known to be harmless of it stayed.
    Cleaned,
    /// Its date was shifted.
    Shifted,
    /// It was written by the program.
    Written,
}

impl Report {
    pub(crate) fn new(profile: &Profile, suspicions: &[Suspicion], overridden: bool) -> Self {
        Self {
            profile: [profile.name.clone(), profile.version.clone(), profile.digest_text()],
            edition: super::table::EDITION,
            suspicions: suspicions.iter().map(ToString::to_string).collect(),
            suspicions_overridden: overridden,
            masks: Vec::new(),
            elements: Vec::new(),
        }
    }
}
