//! Carries out what [`super::rules`] decides, element by element and at every depth, and writes the new data set.
//!
//! What stays is copied as it was, byte for byte. Two nets lie under the rules: a value that is not what its VR says is
//! not kept, and neither is a text with a name, number or birth date that the image itself gives for its patient or for
//! anybody else.

use std::collections::BTreeSet;

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary as _, DataDictionaryEntry as _},
};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::{
    dataset::{self, Element, Encoding, Value, find, text},
    profile::Profile,
    report::{Done, Entry},
    rules::{self, CLASS_UIDS, Place, Step, Why},
    secret::ProjectSecret,
    table::{self, BASIC_CODE, CLEAN_PIXELS_CODE, Column},
    values,
};

mod subject;

use subject::Subject;

/// De-identifies a data set.
pub(crate) struct Cleaner<'a> {
    profile: &'a Profile,
    secret: &'a ProjectSecret,
    sop_class: &'a str,
    subject: Subject,
    masked: bool,
    report: Option<Vec<Entry>>,
}

/// In what sort of item an element is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The rules apply.
    Rules,
    /// The rules apply, and codes of local schemes become dummies.
    Codes,
    /// Every value becomes a dummy.
    Dummies,
    /// The rules apply, and each item is a content item.
    Content,
}

/// The item around an element.
#[derive(Clone, Copy)]
struct Around<'p> {
    encoding: Encoding,
    mode: Mode,
    /// Whether it is no item, but the data set itself.
    top: bool,
    /// Empty when there is no report.
    path: &'p str,
    /// Whether its code is of a published scheme.
    published: bool,
    /// What becomes of the value of the content item.
    content: Option<(Step, &'static str)>,
}

impl<'a> Cleaner<'a> {
    /// Prepares for an image of this SOP class; `masked` tells whether rectangles of it are blanked.
    pub(crate) fn new(
        profile: &'a Profile,
        secret: &'a ProjectSecret,
        sop_class: &'a str,
        elements: &[Element<'_>],
        masked: bool,
        report: bool,
    ) -> Self {
        let subject = Subject::of(elements, secret, profile.patient.most_days);
        Self { profile, secret, sop_class, subject, masked, report: report.then(Vec::new) }
    }

    /// The new data set, and what was done if that was asked for.
    pub(crate) fn clean(mut self, elements: &[Element<'_>], encoding: Encoding) -> (Vec<u8>, Vec<Entry>) {
        let ours = self.ours(encoding);
        let mut ours = ours.iter().peekable();
        let mut out = Vec::new();
        let around = Around { encoding, mode: Mode::Rules, top: true, path: "", published: false, content: None };
        let safe = self.safe_blocks(elements);
        for element in elements {
            while let Some((tag, bytes)) = ours.next_if(|(tag, _)| *tag <= element.tag) {
                self.note_ours(*tag);
                out.extend_from_slice(bytes);
            }
            if !self.is_ours(element.tag) {
                self.element(&mut out, element, around, &safe);
            }
        }
        for (tag, bytes) in ours {
            self.note_ours(*tag);
            out.extend_from_slice(bytes);
        }
        (out, self.report.unwrap_or_default())
    }

    fn items(&mut self, items: &[Vec<Element<'_>>], encoding: Encoding, mode: Mode, path: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let path = if self.report.is_some() { format!("{path}[{number}]") } else { String::new() };
            let scheme = find(item, tags::CODING_SCHEME_DESIGNATOR).and_then(text);
            let published = scheme.is_some_and(|scheme| PUBLISHED_SCHEMES.contains(&scheme));
            let content = if mode == Mode::Content { self.content_item(item) } else { None };
            if let Some((Step::Remove, why)) = content {
                self.note(&path, Tag(0xFFFE, 0xE000), Done::Removed, || why.into());
                continue;
            }
            let around = Around { encoding, mode, top: false, path: &path, published, content };
            let safe = self.safe_blocks(item);
            let mut contents = Vec::new();
            for element in item {
                self.element(&mut contents, element, around, &safe);
            }
            dataset::write_item(&mut out, encoding, &contents);
        }
        out
    }

    /// What Table E.3.4-1 says of a content item.
    fn content_item(&self, item: &[Element<'_>]) -> Option<(Step, &'static str)> {
        let concept = item.iter().find(|element| element.tag == tags::CONCEPT_NAME_CODE_SEQUENCE)?;
        let Value::Items(codes, _) = &concept.value else { return None };
        let code = codes.first()?;
        let value = |tag| find(code, tag).and_then(text).unwrap_or_default();
        let value_type = find(item, tags::VALUE_TYPE).and_then(text).unwrap_or_default();
        let row = table::content_item(value(tags::CODING_SCHEME_DESIGNATOR), value(tags::CODE_VALUE), value_type)?;
        let vr = match value_type {
            "DATE" => VR::DA,
            "TIME" => VR::TM,
            "DATETIME" => VR::DT,
            "TEXT" => VR::UT,
            "UIDREF" => VR::UI,
            "PNAME" => VR::PN,
            _ => VR::SQ,
        };
        Some((rules::of_content_item(self.profile, &row.codes, vr), row.meaning))
    }

    fn element(&mut self, out: &mut Vec<u8>, element: &Element<'_>, around: Around<'_>, safe: &BTreeSet<Tag>) {
        let path = if self.report.is_some() {
            let dot = if around.path.is_empty() { "" } else { "." };
            format!("{}{dot}({:04X},{:04X})", around.path, element.tag.group(), element.tag.element())
        } else {
            String::new()
        };
        let (step, why) = self.step(element, around, safe);
        let (step, why) = self.under_the_nets(step, why, element, around);
        let line = self.note(&path, element.tag, Done::Kept, || why);
        let done = self.carry_out(out, step, element, around, &path);
        if let Some(entry) = self.report.as_mut().and_then(|report| report.get_mut(line)) {
            entry.action = done;
        }
    }

    fn step(&self, element: &Element<'_>, around: Around<'_>, safe: &BTreeSet<Tag>) -> (Step, Why) {
        let Element { tag, vr, .. } = *element;
        if tag.group() % 2 == 1 {
            return match safe.contains(&tag) && around.mode != Mode::Dummies {
                true => (Step::KeepAsIs, "safe private".into()),
                false => (Step::Remove, "private".into()),
            };
        }
        let place = Place { profile: self.profile, sop_class: self.sop_class, top: around.top };
        let (step, why) = place.step(tag, vr);
        if around.mode == Mode::Dummies {
            return (if step == Step::Remove { step } else { Step::Dummy }, "within a dummy sequence".into());
        }
        if let (Some((step, meaning)), true) = (around.content, CONTENT_VALUES.contains(&tag)) {
            return (step, format!("E.3.4-1 {meaning}").into());
        }
        (step, why)
    }

    /// A value that is not what it says, or that names somebody, is not kept after all.
    fn under_the_nets(&self, step: Step, why: Why, element: &Element<'_>, around: Around<'_>) -> (Step, Why) {
        let Some(value) = element.bytes() else { return (step, why) };
        let coded = CODE_PARTS.contains(&element.tag);
        match step {
            Step::Keep if coded && around.mode == Mode::Codes && !around.published => {
                (Step::Dummy, "code of a local scheme".into())
            }
            Step::Keep if !values::fits(element.vr, value) => (Step::Remove, "not what its VR says".into()),
            // What the project keeps by name stays; of private elements it keeps none that names somebody.
            Step::KeepAsIs if element.tag.group().is_multiple_of(2) => (step, why),
            Step::Keep | Step::KeepAsIs if !(coded && around.published) && self.subject.names(element.vr, value) => {
                (Step::Dummy, "names somebody of the image".into())
            }
            _ => (step, why),
        }
    }

    fn carry_out(
        &mut self,
        out: &mut Vec<u8>,
        step: Step,
        element: &Element<'_>,
        around: Around<'_>,
        path: &str,
    ) -> Done {
        let Element { tag, vr, .. } = *element;
        let encoding = around.encoding;
        match (&element.value, step) {
            (_, Step::Remove) | (Value::Fragments, _) => Done::Removed,
            (_, Step::Empty) => {
                dataset::write(out, encoding, tag, written(element, vr), b"");
                Done::Emptied
            }
            (Value::Items(items, inner), step) => {
                let mode = match (step, around.mode) {
                    (Step::Dummy, _) | (_, Mode::Dummies) => Mode::Dummies,
                    (Step::Content, _) => Mode::Content,
                    (Step::CleanItems, _) | (_, Mode::Codes | Mode::Content) => Mode::Codes,
                    _ => Mode::Rules,
                };
                let contents = self.items(items, *inner, mode, path);
                dataset::write(out, encoding, tag, written(element, VR::SQ), &contents);
                if mode == Mode::Dummies { Done::Dummy } else { Done::LookedInto }
            }
            (Value::Bytes(value), step) => self.carry_out_on_bytes(out, step, element, value, around),
        }
    }

    fn carry_out_on_bytes(
        &mut self,
        out: &mut Vec<u8>,
        step: Step,
        element: &Element<'_>,
        value: &[u8],
        around: Around<'_>,
    ) -> Done {
        let Element { tag, vr, raw, .. } = *element;
        let (new, done) = match step {
            Step::Keep | Step::KeepAsIs => {
                out.extend_from_slice(raw);
                return Done::Kept;
            }
            Step::Dummy if around.mode == Mode::Dummies => match self.dummy_within(element, value) {
                Some(kept) => (kept, Done::Dummy),
                None => {
                    out.extend_from_slice(raw);
                    return Done::Kept;
                }
            },
            Step::Uids if vr == VR::UI => (self.replaced(value), Done::Uids),
            Step::Pseudonym => (self.subject.stand_in(vr), Done::Pseudonym),
            Step::Alias if value.iter().any(|b| *b != b' ') => {
                (self.secret.pseudonym(value.trim_ascii()).into_bytes(), Done::Pseudonym)
            }
            Step::Shift(decided) => match values::shifted(vr, value, self.subject.days) {
                Some(shifted) => (shifted, Done::Shifted),
                None => return self.carry_out_on_bytes(out, decided.into(), element, value, around),
            },
            Step::Words(decided) => match self.cleaned(vr, value) {
                Some(cleaned) => (cleaned, Done::Cleaned),
                None => return self.carry_out_on_bytes(out, decided.into(), element, value, around),
            },
            Step::Remove => return Done::Removed,
            // Nothing stays nothing.
            _ if value.is_empty() || step == Step::Empty => (Vec::new(), Done::Emptied),
            _ => match values::dummy(vr, value) {
                Some(dummy) => (dummy, Done::Dummy),
                None => return Done::Removed,
            },
        };
        dataset::write(out, around.encoding, tag, written(element, vr), &values::padded(vr, new));
        done
    }

    /// The known words of a text, unless they name somebody all the same.
    fn cleaned(&self, vr: VR, value: &[u8]) -> Option<Vec<u8>> {
        values::known_words(vr, value, &self.profile.words).filter(|kept| !self.subject.names(vr, kept))
    }

    /// What stands for a value in a sequence of dummies; `None` to keep it: numbers of things, and words of the standard.
    fn dummy_within(&self, element: &Element<'_>, value: &[u8]) -> Option<Vec<u8>> {
        let Element { tag, vr, .. } = *element;
        match vr {
            _ if value.is_empty() => Some(Vec::new()),
            _ if tag == tags::CODING_SCHEME_DESIGNATOR => Some(b"99EDS ".into()),
            VR::UI if CLASS_UIDS.contains(&tag) && values::fits(vr, value) => None,
            VR::UI => Some(self.replaced(value)),
            VR::DA | VR::DT | VR::TM => values::dummy(vr, value),
            VR::CS | VR::IS if table::row(tag).is_none() && values::fits(vr, value) => None,
            VR::US | VR::SS | VR::UL | VR::SL | VR::AT | VR::SV | VR::UV if table::row(tag).is_none() => None,
            _ => values::dummy(vr, value),
        }
    }

    /// Each UID of a value replaced, but those that DICOM itself defines.
    fn replaced(&self, value: &[u8]) -> Vec<u8> {
        let value = String::from_utf8_lossy(value);
        let replace = |uid: &str| {
            let uid = uid.trim_matches(|c: char| c == ' ' || c == '\0');
            let standard = uid.starts_with("1.2.840.10008.") && values::fits(VR::UI, uid.as_bytes());
            if uid.is_empty() || standard { uid.into() } else { self.secret.replace_uid(uid) }
        };
        let replaced = value.split('\\').map(replace).collect::<Vec<_>>().join("\\");
        values::padded(VR::UI, replaced.into_bytes())
    }

    /// The private elements of an item that stay: safe ones, and the creators of their blocks.
    fn safe_blocks(&self, elements: &[Element<'_>]) -> BTreeSet<Tag> {
        let mut safe = BTreeSet::new();
        if !self.profile.takes(Column::RetainSafePrivate) {
            return safe;
        }
        for element in elements.iter().filter(|one| one.tag.group() % 2 == 1 && one.tag.element() > 0xFF) {
            let creator_tag = Tag(element.tag.group(), element.tag.element() >> 8);
            let creator = find(elements, creator_tag).and_then(text);
            if creator.is_some_and(|creator| self.profile.is_safe_private(element.tag, creator)) {
                safe.extend([creator_tag, element.tag]);
            }
        }
        safe
    }

    /// Adds a line to the report, if there is one, and tells which.
    fn note(&mut self, path: &str, tag: Tag, action: Done, why: impl FnOnce() -> Why) -> usize {
        let Some(report) = &mut self.report else { return 0 };
        let keyword = if tag.group() % 2 == 1 { None } else { StandardDataDictionary.by_tag(tag) };
        let keyword = keyword.map_or("", |entry| entry.alias());
        report.push(Entry { path: path.into(), keyword, action, rule: why().into_owned() });
        report.len() - 1
    }

    fn note_ours(&mut self, tag: Tag) {
        let path = format!("({:04X},{:04X})", tag.group(), tag.element());
        self.note(&path, tag, Done::Written, || "PS3.15 E.1.1".into());
    }

    fn is_ours(&self, tag: Tag) -> bool {
        OURS.contains(&tag) || self.masked && tag == tags::BURNED_IN_ANNOTATION
    }

    /// What every de-identified image says of itself (PS3.15, section E.1.1), in rising order.
    fn ours(&self, encoding: Encoding) -> Vec<(Tag, Vec<u8>)> {
        let element = |tag, vr, value: Vec<u8>| {
            let mut out = Vec::new();
            dataset::write(&mut out, encoding, tag, vr, &values::padded(vr, value));
            (tag, out)
        };
        let dates = if self.profile.takes(Column::RetainFullDates) {
            "UNMODIFIED"
        } else if self.profile.takes(Column::RetainModifiedDates) {
            "MODIFIED"
        } else {
            "REMOVED"
        };
        let mut codes = vec![BASIC_CODE];
        codes.extend(self.masked.then_some(CLEAN_PIXELS_CODE));
        codes.extend(self.profile.options.iter().map(|option| option.code()));
        codes.sort_unstable();
        let mut items = Vec::new();
        for (value, meaning) in codes {
            let contents = [
                element(tags::CODE_VALUE, VR::SH, value.into()).1,
                element(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM".into()).1,
                element(tags::CODE_MEANING, VR::LO, meaning.into()).1,
            ];
            dataset::write_item(&mut items, encoding, &contents.concat());
        }
        let mut ours = vec![
            element(tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES".into()),
            element(tags::DEIDENTIFICATION_METHOD, VR::LO, self.profile.method().join("\\").into()),
            element(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE, VR::SQ, items),
        ];
        if self.masked {
            ours.push(element(tags::BURNED_IN_ANNOTATION, VR::CS, "NO".into()));
        }
        ours.push(element(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::CS, dates.into()));
        ours
    }
}

/// The VR to write: UN again for a sequence that was UN, since its items are encoded accordingly.
fn written(element: &Element<'_>, vr: VR) -> VR {
    if element.written_vr == VR::UN && matches!(element.value, Value::Items(..)) { VR::UN } else { vr }
}

/// Attributes of PS3.15, section E.1.1, that say what was done.
const OURS: [Tag; 4] = [
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
];

/// The texts of a code.
const CODE_PARTS: [Tag; 5] = [
    tags::CODE_VALUE,
    tags::CODE_MEANING,
    tags::CODING_SCHEME_DESIGNATOR,
    tags::LONG_CODE_VALUE,
    tags::CODING_SCHEME_VERSION,
];

/// Where the value of a content item stands (PS3.3, section C.17.3).
const CONTENT_VALUES: [Tag; 9] = [
    tags::TEXT_VALUE,
    tags::DATE_TIME,
    tags::DATE,
    tags::TIME,
    tags::PERSON_NAME,
    tags::UID,
    tags::CONCEPT_CODE_SEQUENCE,
    tags::MEASURED_VALUE_SEQUENCE,
    tags::REFERENCED_SOP_SEQUENCE,
];

/// Coding schemes whose codes everybody can look up (PS3.16, section 8).
const PUBLISHED_SCHEMES: [&str; 12] =
    ["DCM", "SCT", "SRT", "SNM3", "UCUM", "LN", "RADLEX", "FMA", "UMLS", "NCIt", "MDC", "NCDR [2.0b]"];

#[cfg(test)]
mod tests;
