//! What is searched for: `Keyword=value` with the matching of DICOM (PS3.4, section C.2.2.2), as far as the policy of
//! each attribute allows it.
//!
//! In clear: single value, list (`\`), wildcards (`*`, `?`), ranges of dates and times. Blind: single value and list; a range
//! of dates is asked day by day, so that the database sees tokens only. What cannot be asked is an error, never an
//! empty answer.

use std::fmt;

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary as _, DataDictionaryEntry as _},
};
use dicom_dictionary_std::StandardDataDictionary;
use eds_core::ids::FileId;

use super::{
    attributes::normal_plain,
    blind::{SearchKey, Token, date},
    policy::{Access, Attribute, Level, Policy},
};
use crate::error::Kind;

/// One thing that is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Asked {
    attribute: Attribute,
    keyword: String,
    value: String,
}

/// What is searched for, in the terms of the database.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query {
    /// All of these must hold.
    pub conditions: Vec<Condition>,
    /// The most images to return; all when `None`.
    pub limit: Option<u32>,
}

/// A condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Of what.
    pub level: Level,
    /// Which attribute.
    pub tag: Tag,
    /// What must hold of it.
    pub matching: Matching,
}

/// What must hold of an attribute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Matching {
    /// One of its values in clear is one of these.
    OneOf(Vec<String>),
    /// One of its values in clear fits one of these patterns, with `*` and `?`.
    Patterns(Vec<String>),
    /// One of its values in clear is not before the first nor after the second.
    Between(Option<String>, Option<String>),
    /// One of its tokens is one of these.
    Tokens(Vec<Token>),
    /// What is on its level has one of these names.
    Names(Vec<String>),
}

/// An image that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its id.
    pub image: FileId,
    /// The names of patient, study, series and image.
    pub names: [String; 4],
    /// The attributes in clear of each, in the JSON model of DICOM.
    pub attributes: [String; 4],
}

/// A search that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No `Keyword=value`.
    #[error("{0:?} is not of the form Keyword=value")]
    Syntax(String),
    /// A name that the dictionary does not know.
    #[error("{0:?} is not an attribute of DICOM")]
    Unknown(String),
    /// An attribute that cannot be searched by.
    #[error("{0} is sealed: images cannot be searched by it")]
    Sealed(String),
    /// Wildcards in a blind attribute.
    #[error("{0} is blind: it is found by whole values, not by * and ?")]
    Wildcard(String),
    /// A range that is open, in a blind attribute.
    #[error("{0} is blind: a range of dates needs both ends")]
    OpenRange(String),
    /// A range that is too long, in a blind attribute.
    #[error("{0} is blind: a range has at most {MAX_DAYS} days")]
    LongRange(String),
    /// A value that the attribute cannot have.
    #[error("{value:?} cannot be a value of {keyword}")]
    Value {
        /// The attribute.
        keyword: String,
        /// What was asked for.
        value: String,
    },
    /// A search that needs the search key, made without.
    #[error("{0} is blind: searching by it needs the search key")]
    NeedsKey(String),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        Kind::Usage
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax(_) => Some("for example: eds search Modality=CT StudyDate=20250101-20251231".into()),
            Self::Unknown(_) => Some("write the keyword of DICOM PS3.6, for example PatientID".into()),
            Self::Sealed(_) => {
                Some("a project can make attributes blind or plain: metadata.policy in the configuration".into())
            }
            Self::Wildcard(_) => Some("give the whole value, or several with \\ between them".into()),
            Self::OpenRange(_) | Self::LongRange { .. } => Some("for example StudyDate=20250101-20251231".into()),
            Self::Value { .. } | Self::NeedsKey(_) => None,
        }
    }
}

impl Asked {
    /// What a `Keyword=value` asks for. Nothing when the value is empty, which fits everything (universal matching).
    ///
    /// # Errors
    /// [`Error::Syntax`], [`Error::Unknown`], [`Error::Sealed`].
    pub fn parse(text: &str, policy: &Policy) -> Result<Option<Self>, Error> {
        let (keyword, value) = text.split_once('=').ok_or_else(|| Error::Syntax(text.into()))?;
        let keyword = keyword.trim();
        let entry = StandardDataDictionary.by_expr(keyword).ok_or_else(|| Error::Unknown(keyword.into()))?;
        let keyword = String::from(entry.alias());
        let attribute = *policy.attribute(entry.tag()).ok_or_else(|| Error::Sealed(keyword.clone()))?;
        let value = value.trim();
        Ok(Some(value).filter(|value| !value.is_empty()).map(|value| Self { attribute, keyword, value: value.into() }))
    }

    /// Whether the search key is needed. A UID may also be the name that the de-identified image has.
    pub fn needs_key(&self) -> bool {
        self.attribute.access == Access::Blind
    }

    /// Whether this asks for a study, series or image by its UID.
    pub fn is_uid(&self) -> bool {
        Level::of_uid(self.attribute.tag).is_some()
    }

    /// Whether the database can compare this, for who has the search key.
    #[cfg(feature = "gateway")]
    pub fn can_be_asked(&self) -> bool {
        match self.attribute.access {
            Access::Plain => self.plain().is_ok(),
            // Whether there are tokens does not depend on the key.
            Access::Blind => self.tokens(&SearchKey::new([0; 32])).is_ok(),
            Access::Sealed => false,
        }
    }

    /// The condition on names of the de-identified images, when this asks for a UID.
    pub fn by_name(&self) -> Option<Condition> {
        let level = Level::of_uid(self.attribute.tag)?;
        Some(self.condition(Matching::Names(self.values().map(String::from).collect()), level))
    }

    /// The condition on what is stored of the original.
    ///
    /// # Errors
    /// What the policy of the attribute does not allow.
    pub fn condition_with(&self, key: Option<&SearchKey>) -> Result<Condition, Error> {
        let matching = match self.attribute.access {
            Access::Plain => self.plain()?,
            Access::Blind => Matching::Tokens(self.tokens(key.ok_or_else(|| Error::NeedsKey(self.keyword.clone()))?)?),
            Access::Sealed => return Err(Error::Sealed(self.keyword.clone())),
        };
        Ok(self.condition(matching, self.attribute.level))
    }

    fn condition(&self, matching: Matching, level: Level) -> Condition {
        Condition { level, tag: self.attribute.tag, matching }
    }

    fn plain(&self) -> Result<Matching, Error> {
        let vr = self.attribute.vr;
        if let Some((from, to)) = self.range() {
            let end = |end: &str| match vr {
                VR::DA if !end.is_empty() => Some(self.day(end)).transpose(),
                _ => Ok(Some(end).filter(|end| !end.is_empty()).map(String::from)),
            };
            return Ok(Matching::Between(end(from)?, end(to)?));
        }
        if self.value.contains(['*', '?']) && allows_wildcards(vr) {
            return Ok(Matching::Patterns(self.values().map(String::from).collect()));
        }
        let normal = |value: &str| if vr == VR::DA { self.day(value) } else { Ok(normal_plain(vr, value)) };
        Ok(Matching::OneOf(self.values().map(normal).collect::<Result<_, _>>()?))
    }

    fn tokens(&self, key: &SearchKey) -> Result<Vec<Token>, Error> {
        let Attribute { tag, vr, .. } = self.attribute;
        if self.value.contains(['*', '?']) {
            return Err(Error::Wildcard(self.keyword.clone()));
        }
        if let Some((from, to)) = self.range().filter(|_| vr == VR::DA) {
            if from.is_empty() || to.is_empty() {
                return Err(Error::OpenRange(self.keyword.clone()));
            }
            let days = days(&self.day(from)?, &self.day(to)?);
            if days.len() > MAX_DAYS {
                return Err(Error::LongRange(self.keyword.clone()));
            }
            return Ok(days.iter().map(|day| key.token(tag, day)).collect());
        }
        let mut found = Vec::new();
        for value in self.values() {
            let tokens = key.tokens(tag, vr, value);
            if tokens.is_empty() {
                return Err(self.wrong(value));
            }
            found.extend(tokens);
        }
        Ok(found)
    }

    /// Both ends of a range, for attributes that have ranges. A date with hyphens inside is none.
    fn range(&self) -> Option<(&str, &str)> {
        let ranged = matches!(self.attribute.vr, VR::DA | VR::TM | VR::DT);
        let (from, to) = self.value.split_once('-').filter(|_| ranged)?;
        (!to.contains('-')).then_some((from.trim(), to.trim()))
    }

    fn day(&self, text: &str) -> Result<String, Error> {
        date(text).ok_or_else(|| self.wrong(text))
    }

    fn values(&self) -> impl Iterator<Item = &str> {
        self.value.split('\\').map(str::trim).filter(|value| !value.is_empty())
    }

    fn wrong(&self, value: &str) -> Error {
        Error::Value { keyword: self.keyword.clone(), value: value.into() }
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asked({}=<redacted>)", self.keyword)
    }
}

const fn allows_wildcards(vr: VR) -> bool {
    matches!(vr, VR::AE | VR::CS | VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT)
}

/// Every day from the first to the last, both `YYYYMMDD`. Stops after one more than [`MAX_DAYS`].
fn days(first: &str, last: &str) -> Vec<String> {
    let number = |text: &str, range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse::<u16>().ok());
    let parts = |text| Some((number(text, 0..4)?, number(text, 4..6)?, number(text, 6..8)?));
    let (Some((mut year, mut month, mut day)), Some(last)) = (parts(first), parts(last)) else { return Vec::new() };
    let mut found = Vec::new();
    while (year, month, day) <= last && found.len() <= MAX_DAYS {
        found.push(format!("{year:04}{month:02}{day:02}"));
        // A day that a month does not have costs one token that fits nothing.
        day += 1;
        if day > 31 {
            (month, day) = (month + 1, 1);
        }
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
    found
}

/// The longest range of a blind date, in days: five years of 31-day months.
const MAX_DAYS: usize = 5 * 12 * 31;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Option<Asked>, Error> {
        Asked::parse(text, &Policy::default())
    }

    fn matching(text: &str) -> Result<Matching, Error> {
        let asked = asked(text)?.expect("asks for something");
        asked.condition_with(Some(&SearchKey::new([1; 32]))).map(|condition| condition.matching)
    }

    #[test]
    fn attributes_in_clear_take_every_matching_of_dicom() {
        assert_eq!(matching("Modality=CT").expect("is fine"), Matching::OneOf(vec!["CT".into()]));
        assert_eq!(matching("0008,0060=CT\\MR").expect("is fine"), Matching::OneOf(vec!["CT".into(), "MR".into()]));
        assert_eq!(matching("BodyPartExamined=CH*").expect("is fine"), Matching::Patterns(vec!["CH*".into()]));
        assert_eq!(matching("SeriesNumber=+07").expect("is fine"), Matching::OneOf(vec!["7".into()]));
        assert_eq!(asked("Modality=").expect("is fine"), None);
    }

    #[test]
    fn blind_attributes_are_asked_by_tokens_of_whole_values() {
        let tokens = |text| match matching(text) {
            Ok(Matching::Tokens(tokens)) => tokens,
            other => panic!("{other:?}"),
        };
        assert_eq!(tokens("PatientName=Doe^Jane"), tokens("PatientName=DOE^jane^"));
        assert_eq!(tokens("PatientID=a\\b").len(), 2);
        assert_eq!(tokens("StudyDate=20241230-20250102").len(), 4);
        assert!(tokens("StudyDate=20241230-20250102").contains(&tokens("StudyDate=20250101")[0]));
        assert_eq!(tokens("StudyDate=2025-01-01"), tokens("StudyDate=20250101"));
    }

    #[test]
    fn what_the_policy_does_not_allow_is_an_error() {
        assert!(matches!(matching("PatientName=Doe*"), Err(Error::Wildcard(_))));
        assert!(matches!(matching("StudyDate=20250101-"), Err(Error::OpenRange(_))));
        assert!(matches!(matching("StudyDate=19000101-20251231"), Err(Error::LongRange { .. })));
        assert!(matches!(matching("StudyDate=yesterday"), Err(Error::Value { .. })));
        assert!(matches!(asked("PatientComments=x"), Err(Error::Sealed(_))));
        assert!(matches!(asked("PatientNaem=x"), Err(Error::Unknown(_))));
        assert!(matches!(asked("CT"), Err(Error::Syntax(_))));
        let blind = asked("PatientID=1").expect("is fine").expect("asks for something");
        assert!(matches!(blind.condition_with(None), Err(Error::NeedsKey(_))));
        assert_eq!(format!("{blind:?}"), "Asked(PatientID=<redacted>)");
    }
}
