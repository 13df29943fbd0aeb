//! C-FIND: what a peer asks for at the level of patient, study, series or image, and what is found.
//!
//! Images are found by what the policy of the project lets the metadata database know. What that cannot tell apart, such
//! as a patient's name with a wildcard, is compared with the originals that the peer may open, as long as there are few
//! enough of them; otherwise the peer is asked to say more. A peer sees the originals' attributes of what it may open, and
//! those of the de-identified images else.

use std::collections::BTreeMap;

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary as _, DataDictionaryEntry as _},
};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use eds_core::ids::FileId;
use serde_json::Value as Json;

use super::{
    Error,
    association::{Association, Link, Message},
    command::{Kind as Wants, Status, element},
    storage::{encoding, of_kind},
};
use crate::{
    Error as ClientError,
    dicom::{Encoding, Header, parse, write_element},
    journey::{
        Session,
        peer::{Form, Images, Searching},
    },
    metadata::{
        policy::Level,
        query::{Asked, Found},
    },
};

/// What a peer asks for.
pub(super) struct Identifier {
    /// What is wanted.
    pub(super) level: Level,
    /// The keys, in the order of their tags.
    keys: Vec<Key>,
}

struct Key {
    tag: Tag,
    vr: VR,
    value: String,
}

/// What was found of one patient, study, series or image.
pub(super) struct Match<'a> {
    /// Its images.
    pub(super) images: Vec<&'a Found>,
}

/// A query that cannot be answered.
pub(super) struct Unanswered(pub(super) Status, pub(super) String);

impl From<ClientError> for Unanswered {
    fn from(error: ClientError) -> Self {
        Self(of_kind(error.kind()), error.to_string())
    }
}

impl Identifier {
    /// Reads the data set of a query.
    ///
    /// # Errors
    /// [`Unanswered`] when it is not one.
    pub(super) fn read(data: &[u8], encoding: Encoding) -> Result<Self, Unanswered> {
        let wrong = |what: &str| Unanswered(Status::MISMATCH, what.into());
        let elements = parse(data, encoding).map_err(|_| wrong("the identifier cannot be read"))?;
        let header = Header::parse(data, encoding).map_err(|_| wrong("the identifier cannot be read"))?;
        let level = match header.value(tags::QUERY_RETRIEVE_LEVEL).as_deref() {
            Some("PATIENT") => Level::Patient,
            Some("STUDY") => Level::Study,
            Some("SERIES") => Level::Series,
            Some("IMAGE") => Level::Image,
            _ => return Err(wrong("QueryRetrieveLevel is PATIENT, STUDY, SERIES or IMAGE")),
        };
        let ours = |tag: Tag| matches!(tag, tags::QUERY_RETRIEVE_LEVEL | tags::SPECIFIC_CHARACTER_SET);
        let keys = elements.iter().filter(|element| !ours(element.tag) && element.tag.element() != 0).map(|element| {
            let vr = StandardDataDictionary.by_tag(element.tag).map_or(element.vr, |entry| entry.vr().relaxed());
            Key { tag: element.tag, vr, value: header.values(element.tag).join("\\") }
        });
        let keys: Vec<Key> = keys.collect();
        Ok(Self { level, keys })
    }

    /// Finds images; what was asked for by values that the database cannot compare is left, to be compared afterwards.
    ///
    /// # Errors
    /// [`Unanswered`], when databases or key servers cannot be used, or the peer may not search by what it asked for.
    pub(super) fn search(
        &self,
        session: &Session,
        searching: &mut Searching,
    ) -> Result<(Vec<Found>, bool), Unanswered> {
        let mut asked = Vec::new();
        let mut left = false;
        for key in self.keys.iter().filter(|key| !key.value.is_empty() && !is_universal(&key.value)) {
            if is_computed(key.tag) {
                left = true;
                continue;
            }
            let Some(entry) = StandardDataDictionary.by_tag(key.tag) else { continue };
            match Asked::parse(&format!("{}={}", entry.alias(), key.value), session.policy()) {
                Ok(Some(one)) if one.can_be_asked() => asked.push(one),
                // Compared with the images themselves.
                _ => left = true,
            }
        }
        let limit = left.then_some(MAX_COMPARED + 1);
        let found = searching.search(session, &asked, limit)?;
        if left && found.len() > usize::try_from(MAX_COMPARED).unwrap_or(usize::MAX) {
            let comment = "too many images to compare; ask for a patient id, a UID or a date";
            return Err(Unanswered(Status::OUT_OF_RESOURCES, comment.into()));
        }
        Ok((found, left))
    }

    /// Whether it says which, by values of this attribute.
    pub(super) fn names(&self, tag: Tag) -> bool {
        self.keys.iter().any(|key| key.tag == tag && !key.value.is_empty() && !is_universal(&key.value))
    }

    /// Whether what cannot be asked of the database fits.
    fn fits(&self, shown: &Shown<'_>) -> bool {
        self.keys.iter().filter(|key| !key.value.is_empty() && !is_universal(&key.value)).all(|key| {
            let values = shown.values(key.tag);
            key.value.split('\\').any(|wanted| values.iter().any(|value| fits(key.vr, wanted, value)))
        })
    }
}

/// Groups images by what was asked for.
pub(super) fn grouped(found: &[Found], level: Level) -> Vec<Match<'_>> {
    let depth = level.depth();
    let mut groups: BTreeMap<Vec<&str>, Vec<&Found>> = BTreeMap::new();
    for image in found {
        let path = image.names.iter().take(depth + 1).map(String::as_str).collect();
        groups.entry(path).or_default().push(image);
    }
    groups.into_values().map(|images| Match { images }).collect()
}

/// What a peer is shown of a match.
struct Shown<'a> {
    of: &'a Match<'a>,
    original: Option<Header<'a>>,
    plain: BTreeMap<Tag, Vec<String>>,
    ae_title: &'a str,
}

impl Shown<'_> {
    fn values(&self, tag: Tag) -> Vec<String> {
        let distinct = |depth: usize| {
            let mut names: Vec<&str> =
                self.of.images.iter().filter_map(|image| image.names.get(depth)).map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            names.len().to_string()
        };
        match tag {
            tags::RETRIEVE_AE_TITLE => vec![self.ae_title.into()],
            tags::INSTANCE_AVAILABILITY => vec!["ONLINE".into()],
            tags::NUMBER_OF_STUDY_RELATED_INSTANCES
            | tags::NUMBER_OF_SERIES_RELATED_INSTANCES
            | tags::NUMBER_OF_PATIENT_RELATED_INSTANCES => vec![self.of.images.len().to_string()],
            tags::NUMBER_OF_STUDY_RELATED_SERIES | tags::NUMBER_OF_PATIENT_RELATED_SERIES => vec![distinct(2)],
            tags::NUMBER_OF_PATIENT_RELATED_STUDIES => vec![distinct(1)],
            tags::MODALITIES_IN_STUDY | tags::SOP_CLASSES_IN_STUDY => {
                let one = if tag == tags::MODALITIES_IN_STUDY { tags::MODALITY } else { tags::SOP_CLASS_UID };
                let mut all: Vec<String> =
                    self.of.images.iter().flat_map(|image| plain(image).remove(&one).unwrap_or_default()).collect();
                all.sort_unstable();
                all.dedup();
                all
            }
            _ => match &self.original {
                Some(header) => header.values(tag),
                None => self.plain.get(&tag).cloned().unwrap_or_default(),
            },
        }
    }

    /// The answer: each key that was asked for, with its values.
    fn answer(&self, identifier: &Identifier, encoding: Encoding, level: &str) -> Vec<u8> {
        let mut elements: BTreeMap<Tag, (VR, String)> = identifier
            .keys
            .iter()
            .filter(|key| key.vr != VR::SQ)
            .map(|key| (key.tag, (key.vr, self.values(key.tag).join("\\"))))
            .collect();
        elements.insert(tags::SPECIFIC_CHARACTER_SET, (VR::CS, "ISO_IR 192".into()));
        elements.insert(tags::QUERY_RETRIEVE_LEVEL, (VR::CS, level.into()));
        elements.insert(tags::RETRIEVE_AE_TITLE, (VR::AE, self.ae_title.into()));
        let mut out = Vec::new();
        for (tag, (vr, text)) in elements {
            write_element(&mut out, encoding, tag, vr, &value(vr, &text));
        }
        out
    }
}

/// Answers a query.
///
/// # Errors
/// What ends the association.
pub(super) fn find<S: Link>(
    association: &mut Association<S>,
    message: &Message,
    session: &Session,
    searching: &mut Searching,
    ae_title: &str,
) -> Result<(), Error> {
    let data = association.small_data(message.context)?;
    let encoding = association.context(message.context).and_then(|context| encoding(&context.syntax));
    let status = match encoding {
        None => Err(Unanswered(Status::MISMATCH, "no transfer syntax was agreed on for queries".into())),
        Some(encoding) => match Identifier::read(&data, encoding) {
            Err(unanswered) => Err(unanswered),
            Ok(identifier) => match identifier.search(session, searching) {
                Err(unanswered) => Err(unanswered),
                Ok((found, left)) => {
                    answer(association, message, session, &identifier, &found, left, (encoding, ae_title))?
                }
            },
        },
    };
    let last = match status {
        Ok(status) => message.command.answer(status),
        Err(Unanswered(status, comment)) => message.command.answer(status).with_comment(&comment),
    };
    association.send(message.context, &last, None)
}

fn answer<S: Link>(
    association: &mut Association<S>,
    message: &Message,
    session: &Session,
    identifier: &Identifier,
    found: &[Found],
    left: bool,
    (encoding, ae_title): (Encoding, &str),
) -> Result<Result<Status, Unanswered>, Error> {
    let groups = grouped(found, identifier.level);
    let level = name(identifier.level);
    for some in groups.chunks(AT_ONCE) {
        let files: Vec<FileId> =
            some.iter().filter_map(|group| group.images.first()).map(|image| image.image).collect();
        let images = match Images::fetch(session, &files, false) {
            Ok(images) => images,
            Err(error) => return Ok(Err(error.into())),
        };
        for group in some {
            let Some(first) = group.images.first() else { continue };
            let form = match images.form(first.image) {
                Ok(form) => form,
                Err(error) => return Ok(Err(error.into())),
            };
            let original = match &form {
                // A header that cannot be read is that of the de-identified image, which could.
                Form::Original(original) => original.header().ok(),
                Form::Deidentified => None,
            };
            let shown = Shown { of: group, original, plain: plain(first), ae_title };
            if left && !identifier.fits(&shown) {
                continue;
            }
            let answer = shown.answer(identifier, encoding, level);
            let pending = message.command.answer(Status::PENDING).with_data_set();
            association.send(message.context, &pending, Some(&answer))?;
            if is_cancelled(association, message)? {
                return Ok(Ok(Status::CANCELLED));
            }
        }
    }
    Ok(Ok(Status::SUCCESS))
}

/// Whether the peer does not want the rest.
///
/// # Errors
/// What ends the association; any other message than a cancel does.
pub(super) fn is_cancelled<S: Link>(association: &mut Association<S>, request: &Message) -> Result<bool, Error> {
    if !association.is_ready() {
        return Ok(false);
    }
    match association.receive()? {
        Some(message) if message.command.kind() == Some(Wants::Cancel) => {
            let meant = message.command.number(element::RESPONDED_TO);
            Ok(meant == Some(request.command.message_id()))
        }
        Some(_) => Err(Error::Protocol("another request before the answer to the last one")),
        None => Err(Error::Protocol("a release before the answer")),
    }
}

/// The attributes in clear of an image and all above it.
fn plain(image: &Found) -> BTreeMap<Tag, Vec<String>> {
    let mut all = BTreeMap::new();
    for json in &image.attributes {
        let Ok(Json::Object(attributes)) = serde_json::from_str(json) else { continue };
        for (tag, attribute) in attributes {
            let Some(tag) = u32::from_str_radix(&tag, 16).ok().map(tag_of) else { continue };
            let values = attribute.get("Value").and_then(Json::as_array);
            all.insert(tag, values.into_iter().flatten().filter_map(text).collect());
        }
    }
    let [_, study, series, instance] = &image.names;
    for (tag, name) in
        [(tags::STUDY_INSTANCE_UID, study), (tags::SERIES_INSTANCE_UID, series), (tags::SOP_INSTANCE_UID, instance)]
    {
        all.insert(tag, vec![name.clone()]);
    }
    all
}

/// An attribute in clear of an image.
pub(super) fn plain_value(image: &Found, tag: Tag) -> Option<String> {
    plain(image).remove(&tag)?.into_iter().next()
}

fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Object(name) => name.get("Alphabetic").and_then(Json::as_str).map(String::from),
        _ => None,
    }
}

fn tag_of(number: u32) -> Tag {
    let [g0, g1, e0, e1] = number.to_be_bytes();
    Tag(u16::from_be_bytes([g0, g1]), u16::from_be_bytes([e0, e1]))
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::Patient => "PATIENT",
        Level::Study => "STUDY",
        Level::Series => "SERIES",
        Level::Image => "IMAGE",
    }
}

/// Matches everything.
fn is_universal(value: &str) -> bool {
    value.chars().all(|c| c == '*')
}

/// What follows from the images of a match, not from any one of them.
fn is_computed(tag: Tag) -> bool {
    matches!(tag, tags::MODALITIES_IN_STUDY | tags::SOP_CLASSES_IN_STUDY)
}

/// The matching of DICOM for one value (PS3.4, section C.2.2.2).
fn fits(vr: VR, wanted: &str, value: &str) -> bool {
    let (wanted, value) = (wanted.trim(), value.trim());
    if matches!(vr, VR::DA | VR::TM | VR::DT)
        && let Some((from, to)) = wanted.split_once('-')
    {
        return (from.is_empty() || from <= value) && (to.is_empty() || value <= to);
    }
    // Names are compared whatever their case, as most archives do.
    let folded = |text: &str| if vr == VR::PN { text.to_lowercase() } else { text.to_owned() };
    wildcard(folded(wanted).as_bytes(), folded(value).as_bytes())
}

/// `*` is any characters, `?` one.
fn wildcard(pattern: &[u8], value: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of < value.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, of));
                at += 1;
            }
            Some(b'?') => (at, of) = (at + 1, of + 1),
            Some(byte) if value.get(of) == Some(byte) => (at, of) = (at + 1, of + 1),
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (at, of) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// The bytes of a value, of even length.
fn value(vr: VR, text: &str) -> Vec<u8> {
    let numbers = |of: &dyn Fn(&str) -> Option<Vec<u8>>| text.split('\\').filter_map(of).flatten().collect();
    match vr {
        VR::US => numbers(&|text| text.parse::<u16>().ok().map(|number| number.to_le_bytes().to_vec())),
        VR::UL => numbers(&|text| text.parse::<u32>().ok().map(|number| number.to_le_bytes().to_vec())),
        _ => {
            let mut bytes = text.as_bytes().to_vec();
            if bytes.len() % 2 == 1 {
                bytes.push(if vr == VR::UI { 0 } else { b' ' });
            }
            bytes
        }
    }
}

/// The most images that are compared one by one for a query.
const MAX_COMPARED: u32 = 2000;
/// Matches whose keys are asked for in one call.
const AT_ONCE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_matched_as_the_standard_says() {
        for (vr, wanted, value, matched) in [
            (VR::LO, "abc", "abc", true),
            (VR::LO, "abc", "ABC", false),
            (VR::PN, "doe^*", "Doe^Jane", true),
            (VR::PN, "*jane", "Doe^Jane", true),
            (VR::PN, "d?e*", "Doe^Jane", true),
            (VR::PN, "d?", "Doe^Jane", false),
            (VR::LO, "a*b*c", "a-b-b-c", true),
            (VR::LO, "a*b*c", "a-b-b-d", false),
            (VR::LO, "", "", true),
            (VR::DA, "20250101-20251231", "20250607", true),
            (VR::DA, "-20241231", "20250607", false),
            (VR::DA, "20250607-", "20250607", true),
        ] {
            assert_eq!(fits(vr, wanted, value), matched, "{vr:?} {wanted} {value}");
        }
    }

    #[test]
    fn a_query_without_a_level_is_refused() {
        let mut data = Vec::new();
        write_element(&mut data, Encoding::ImplicitLittle, tags::PATIENT_NAME, VR::PN, b"Doe^*");
        assert!(Identifier::read(&data, Encoding::ImplicitLittle).is_err());
        write_element(&mut data, Encoding::ImplicitLittle, tags::QUERY_RETRIEVE_LEVEL, VR::CS, b"STUDY ");
        let identifier = Identifier::read(&data, Encoding::ImplicitLittle).map_err(|error| error.1).expect("reads");
        assert_eq!(identifier.level, Level::Study);
        assert_eq!(identifier.keys.len(), 1);
    }
}
