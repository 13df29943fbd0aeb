//! What becomes of an element: the decision, apart from carrying it out.
//!
//! In this order: private elements and group lengths; what the project wants otherwise; what is not of the image; the row of the table
//! with the options of the profile; what the dictionary does not know; and for attributes that the table does not name,
//! by their kind: persons, dates and addresses as if it named them, free text by its words, all else stays.

use std::borrow::Cow;

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary as _, VirtualVr},
};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::{
    profile::{Action, Profile, Stand},
    table::{self, Basic, Choice, Codes, Column, Decided, Need},
};

/// What is done with an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It stays if its value is what its VR says; sequences are looked into.
    Keep,
    /// It stays whatever it is: the project said so.
    KeepAsIs,
    Remove,
    Empty,
    /// A dummy in its place; a sequence keeps its shape, and all values in it become dummies.
    Dummy,
    /// Its UIDs are replaced; a sequence is looked into.
    Uids,
    /// A pseudonym of the patient.
    Pseudonym,
    /// A pseudonym of the value, for AE titles.
    Alias,
    /// Its date is shifted, else as given.
    Shift(Decided),
    /// Known words stay, else as given.
    Words(Decided),
    /// A sequence of coded entries or drawings is looked into; codes of local schemes become dummies.
    CleanItems,
    /// A sequence of content items is looked into, item by item.
    Content,
}

/// Why.
pub(crate) type Why = Cow<'static, str>;

/// Where an element is, as far as it matters.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) sop_class: &'a str,
    /// Whether it is in the data set itself, not in an item.
    pub(crate) top: bool,
}

impl Place<'_> {
    /// What becomes of an element that is not private.
    pub(crate) fn step(self, tag: Tag, vr: VR) -> (Step, Why) {
        let Tag(group, element) = tag;
        if element == 0 {
            return (Step::Remove, "group length".into());
        }
        if let Some(action) = self.profile.overridden(tag) {
            return (self.wanted(action, tag, vr), format!("profile: {}", action.name()).into());
        }
        if !(8..0xFFFC).contains(&group) || matches!(group >> 8, 0x50 | 0x60) {
            return (
                Step::Remove,
                if (0x5000..0x7000).contains(&group) { "curve or overlay" } else { "not of the image" }.into(),
            );
        }
        if let Some(row) = table::row(tag) {
            let which = if row.standard { "E.1-1" } else { "EDS" };
            return self.of_codes(&row.codes, tag, vr, which);
        }
        if !is_standard(tag) || vr == VR::UN {
            return (Step::Remove, "unknown attribute".into());
        }
        self.unlisted(tag, vr)
    }

    /// What the codes of a row say.
    fn of_codes(self, codes: &Codes, tag: Tag, vr: VR, which: &str) -> (Step, Why) {
        let decided = codes.basic.decide(self.need(tag));
        let (step, column) = match self.profile.choice(codes) {
            None => (self.patient(tag).unwrap_or_else(|| of_decided(decided)), None),
            Some((column, choice)) => (of_choice(column, choice, decided, vr), Some((column, choice))),
        };
        let why = match column {
            None => format!("{which} {}", codes.basic),
            Some((column, choice)) => {
                format!("{which} {} ({})", if choice == Choice::Keep { "K" } else { "C" }, column.name())
            }
        };
        (step, why.into())
    }

    /// The patient is replaced as the profile says.
    fn patient(self, tag: Tag) -> Option<Step> {
        let stand = match tag {
            tags::PATIENT_NAME => self.profile.patient.name,
            tags::PATIENT_ID => self.profile.patient.id,
            _ => return None,
        };
        (stand == Stand::Pseudonym).then_some(Step::Pseudonym)
    }

    fn need(self, tag: Tag) -> Option<Need> {
        if self.top { table::need(self.sop_class, tag) } else { None }
    }

    fn wanted(self, action: Action, tag: Tag, vr: VR) -> Step {
        let otherwise = table::row(tag).map_or(Basic::RemoveOrDummy, |row| row.codes.basic).decide(self.need(tag));
        match action {
            Action::Keep => Step::KeepAsIs,
            Action::Remove => Step::Remove,
            Action::Empty => Step::Empty,
            Action::Dummy => Step::Dummy,
            Action::Uid => Step::Uids,
            Action::Clean if matches!(vr, VR::DA | VR::DT | VR::TM) => Step::Shift(otherwise),
            Action::Clean if vr == VR::SQ => Step::CleanItems,
            Action::Clean => Step::Words(otherwise),
        }
    }

    /// Attributes of the standard that the table does not name.
    fn unlisted(self, tag: Tag, vr: VR) -> (Step, Why) {
        let dates = if self.profile.takes(Column::RetainFullDates) {
            Step::Keep
        } else if self.profile.takes(Column::RetainModifiedDates) {
            Step::Shift(Decided::Dummy)
        } else {
            Step::Dummy
        };
        let step = match vr {
            VR::UI if CLASS_UIDS.contains(&tag) => Step::Keep,
            VR::UI if self.profile.takes(Column::RetainUids) => Step::Keep,
            VR::UI => Step::Uids,
            VR::PN => Step::Dummy,
            VR::AE => Step::Alias,
            VR::DA | VR::DT | VR::TM => dates,
            VR::UR if PUBLIC_URLS.contains(&tag) => Step::Keep,
            VR::UR => Step::Remove,
            VR::ST | VR::LT | VR::UT => Step::Words(Decided::Dummy),
            _ => return (Step::Keep, "not in the table".into()),
        };
        (step, format!("not in the table, {}", vr.to_string()).into())
    }
}

/// What becomes of the value of a content item with this row.
pub(crate) fn of_content_item(profile: &Profile, codes: &Codes, vr: VR) -> Step {
    let decided = codes.basic.decide(None);
    match profile.choice(codes) {
        None => of_decided(decided),
        Some((column, choice)) => of_choice(column, choice, decided, vr),
    }
}

fn of_decided(decided: Decided) -> Step {
    match decided {
        Decided::Remove => Step::Remove,
        Decided::Empty => Step::Empty,
        Decided::Dummy => Step::Dummy,
        Decided::Uid => Step::Uids,
    }
}

fn of_choice(column: Column, choice: Choice, decided: Decided, vr: VR) -> Step {
    match (choice, column, vr) {
        (Choice::Keep, _, _) => Step::Keep,
        (_, Column::RetainModifiedDates, VR::DA | VR::DT | VR::TM) => Step::Shift(decided),
        (_, Column::CleanStructuredContent, VR::SQ) => Step::Content,
        (_, Column::CleanGraphics | Column::CleanDescriptors, VR::SQ) => Step::CleanItems,
        (_, Column::RetainDeviceIdentity, VR::AE) => Step::Alias,
        (_, _, VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UT) => Step::Words(decided),
        // What no program can clean goes as the basic profile says.
        _ => of_decided(decided),
    }
}

/// What becomes of what is left when nothing of a value could be kept.
impl From<Decided> for Step {
    fn from(decided: Decided) -> Self {
        of_decided(decided)
    }
}

/// Whether PS3.6 has this attribute.
pub(crate) fn is_standard(tag: Tag) -> bool {
    use dicom_core::dictionary::DataDictionaryEntry as _;
    StandardDataDictionary.by_tag(tag).is_some_and(|entry| entry.vr() != VirtualVr::Exact(VR::UN))
}

/// UIDs that name a class, a format or a scheme, not an instance.
pub(crate) const CLASS_UIDS: [Tag; 15] = [
    tags::SOP_CLASS_UID,
    tags::RELATED_GENERAL_SOP_CLASS_UID,
    tags::ORIGINAL_SPECIALIZED_SOP_CLASS_UID,
    tags::SOP_CLASSES_IN_STUDY,
    tags::CODING_SCHEME_UID,
    tags::CONTEXT_UID,
    tags::MAPPING_RESOURCE_UID,
    tags::REFERENCED_SOP_CLASS_UID,
    tags::SOP_CLASSES_SUPPORTED,
    tags::AVAILABLE_TRANSFER_SYNTAX_UID,
    tags::MAC_CALCULATION_TRANSFER_SYNTAX_UID,
    tags::ENCRYPTED_CONTENT_TRANSFER_SYNTAX_UID,
    Tag(0x0008, 0x040E), // Stored Instance Transfer Syntax UID
    Tag(0x3010, 0x0052), // Pertinent SOP Classes in Study
    Tag(0x3010, 0x0053), // Pertinent SOP Classes in Series
];

/// Addresses of coding schemes.
const PUBLIC_URLS: [Tag; 2] = [Tag(0x0008, 0x010E), Tag(0x0008, 0x0120)];
