//! What an image brings along for the metadata database: its patient, study and series, and the attributes of each.
//!
//! Attributes in clear come from the de-identified header, so they can hold nothing that the image for research does not;
//! tokens are made of the original's values.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use eds_core::ids::FileId;
use serde_json::{Map, Value, json};

use super::{
    blind::{SearchKey, Token},
    policy::{Access, Level, Policy},
};
use crate::dicom::Header;

/// Where an image stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The patient.
    pub patient: Node,
    /// The study.
    pub study: Node,
    /// The series.
    pub series: Node,
    /// The image itself.
    pub image: Node,
}

/// A patient, a study, a series or an image.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// Its name: the UID of the de-identified image, or a token of the patient's id.
    pub name: String,
    /// Values in clear.
    pub plain: BTreeMap<Tag, Plain>,
    /// Tokens.
    pub blind: Vec<(Tag, Token)>,
}

/// An attribute in clear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plain {
    /// Its VR.
    pub vr: VR,
    /// Its values.
    pub values: Vec<String>,
}

impl Place {
    /// What this image brings along.
    pub fn of(
        image: FileId,
        original: &Header<'_>,
        deidentified: &Header<'_>,
        transfer_syntax: &str,
        policy: &Policy,
        key: &SearchKey,
    ) -> Self {
        let name = |tag, level: &str| {
            // Without a UID, the image is in a study and a series of its own.
            deidentified.value(tag).unwrap_or_else(|| format!("{level} of {image}"))
        };
        let study = name(tags::STUDY_INSTANCE_UID, "study");
        let mut nodes = Level::ALL.map(|level| match level {
            Level::Patient => named(patient(original, key).unwrap_or_else(|| format!("patient of {study}"))),
            Level::Study => named(study.clone()),
            Level::Series => named(name(tags::SERIES_INSTANCE_UID, "series")),
            Level::Image => named(name(tags::SOP_INSTANCE_UID, "image")),
        });
        for attribute in policy.attributes() {
            let Some(node) = nodes.get_mut(attribute.level.depth()) else {
                continue;
            };
            match attribute.access {
                Access::Plain if attribute.tag == tags::TRANSFER_SYNTAX_UID => {
                    let values = vec![transfer_syntax.into()];
                    node.plain.insert(attribute.tag, Plain { vr: attribute.vr, values });
                }
                Access::Plain => {
                    let vr = deidentified.vr(attribute.tag).unwrap_or(attribute.vr);
                    let values = deidentified.values(attribute.tag);
                    let values: Vec<String> = values.iter().map(|value| normal_plain(vr, value)).collect();
                    if !values.is_empty() {
                        node.plain.insert(attribute.tag, Plain { vr, values });
                    }
                }
                Access::Blind => {
                    let values = original.values(attribute.tag);
                    let tokens = values.iter().flat_map(|value| key.tokens(attribute.tag, attribute.vr, value));
                    node.blind.extend(tokens.map(|token| (attribute.tag, token)));
                }
                Access::Sealed => {}
            }
        }
        let [patient, study, series, image] = nodes;
        Self { patient, study, series, image }
    }

    /// From the patient down.
    pub fn nodes(&self) -> [(Level, &Node); 4] {
        let [patient, study, series, image] = Level::ALL;
        [(patient, &self.patient), (study, &self.study), (series, &self.series), (image, &self.image)]
    }
}

impl Node {
    /// The attributes in clear in the JSON model of DICOM (PS3.18, annex F).
    pub fn json(&self) -> String {
        let of = |(tag, plain): (&Tag, &Plain)| {
            let values: Vec<Value> = plain.values.iter().map(|value| json_value(plain.vr, value)).collect();
            let key = format!("{:04X}{:04X}", tag.group(), tag.element());
            (key, json!({ "vr": plain.vr.to_string(), "Value": values }))
        };
        Value::Object(self.plain.iter().map(of).collect::<Map<_, _>>()).to_string()
    }
}

/// The form in which values in clear are stored and asked for: numbers without signs and zeros that mean nothing.
pub fn normal_plain(vr: VR, value: &str) -> String {
    let value = value.trim();
    match vr {
        VR::IS | VR::US | VR::UL => value.parse::<i64>().map_or_else(|_| value.into(), |number| number.to_string()),
        VR::DS => value.parse::<f64>().map_or_else(|_| value.into(), |number| number.to_string()),
        _ => value.into(),
    }
}

fn json_value(vr: VR, value: &str) -> Value {
    match vr {
        VR::IS | VR::US | VR::UL => value.parse::<i64>().map_or_else(|_| value.into(), Value::from),
        VR::DS => value.parse::<f64>().map_or_else(|_| value.into(), Value::from),
        _ => value.into(),
    }
}

fn named(name: String) -> Node {
    Node { name, ..Node::default() }
}

/// The name of the patient in the database: a token of id and issuer.
fn patient(original: &Header<'_>, key: &SearchKey) -> Option<String> {
    let words = |tag| super::blind::normal(VR::LO, &original.value(tag)?).pop();
    let id = words(tags::PATIENT_ID)?;
    let issuer = words(tags::ISSUER_OF_PATIENT_ID).unwrap_or_default();
    // A tag of no attribute: not comparable with the tokens that are searched by.
    let token = key.token(Tag(0x0010, 0x0000), &format!("{issuer}\0{id}"));
    Some(token.iter().fold(String::from("patient-"), |name, byte| name + &format!("{byte:02x}")))
}
