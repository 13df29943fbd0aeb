//! Entries as DICOM audit messages: PS3.15, annex A.5 (the schema grew out of RFC 3881), for a hospital's audit repository.
//!
//! A key server knows no patient, study or instance; its objects are keys, by GUID. What was released, stored or deleted
//! is «DICOM Instances Accessed» with keys as objects; what was refused is a «Security Alert», as is every change of who
//! may do what; questions are «Query». The message carries the entry's number and leaf hash, so that a repository is a
//! witness of the log: an entry that is changed later no longer has the hash that was sent.

pub mod sender;
pub mod syslog;
pub mod time;

mod xml;

use base64ct::{Base64, Encoding};
use eds_core::ids::KeyId;

use self::xml::Xml;
use super::{
    entry::{Decision, Entry, Operation, Outcome, Proof},
    log::Record,
};

/// The most keys in one message: it stays below the 8,192 bytes that every receiver of RFC 5425 should take. The keys of
/// a larger batch are spread over several messages.
pub const KEYS_PER_MESSAGE: usize = 12;

/// One audit message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The number of the entry.
    pub sequence: u64,
    /// Which part of the entry, counted from 1.
    pub part: usize,
    /// How many parts the entry has.
    pub parts: usize,
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// How bad.
    pub outcome: Indicator,
    /// The XML document.
    pub xml: String,
}

/// The event outcome indicator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indicator {
    /// 0: it was done.
    Success,
    /// 4: it was refused.
    MinorFailure,
    /// 8: the node could not do it.
    SeriousFailure,
}

impl Indicator {
    fn of(decision: &Decision) -> Self {
        match decision.outcome {
            Outcome::Allowed => Self::Success,
            Outcome::Refused(_) => Self::MinorFailure,
            Outcome::Failed(_) => Self::SeriousFailure,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "0",
            Self::MinorFailure => "4",
            Self::SeriousFailure => "8",
        }
    }
}

/// The messages of an entry; `origin` is that of the log, `eds/<node id>`.
pub fn messages(origin: &str, record: &Record) -> Vec<Message> {
    let Entry { sequence, decision } = &record.entry;
    let parts = decision.keys.len().div_ceil(KEYS_PER_MESSAGE).max(1);
    let mut chunks = decision.keys.chunks(KEYS_PER_MESSAGE);
    let message = |part| Message {
        sequence: *sequence,
        part,
        parts,
        time: decision.time,
        outcome: Indicator::of(decision),
        xml: document(origin, record, chunks.next().unwrap_or_default(), (part, parts)),
    };
    (1..=parts).map(message).collect()
}

/// A coded value.
#[derive(Clone, Copy)]
struct Code(&'static str, &'static str, &'static str);

const APPLICATION_ACTIVITY: Code = Code("110100", "DCM", "Application Activity");
const AUDIT_LOG_USED: Code = Code("110101", "DCM", "Audit Log Used");
const INSTANCES_ACCESSED: Code = Code("110103", "DCM", "DICOM Instances Accessed");
const QUERY: Code = Code("110112", "DCM", "Query");
const SECURITY_ALERT: Code = Code("110113", "DCM", "Security Alert");
const APPLICATION_START: Code = Code("110120", "DCM", "Application Start");
const APPLICATION_STOP: Code = Code("110121", "DCM", "Application Stop");
const NODE_AUTHENTICATION: Code = Code("110126", "DCM", "Node Authentication");
const SECURITY_CONFIGURATION: Code = Code("110129", "DCM", "Security Configuration");
const RESTRICTED_FUNCTION: Code = Code("110132", "DCM", "Use of Restricted Function");
const AUDIT_RECORDING_STARTED: Code = Code("110134", "DCM", "Audit Recording Started");
const OBJECT_SECURITY: Code = Code("110135", "DCM", "Object Security Attributes Changed");
const APPLICATION: Code = Code("110150", "DCM", "Application");
const KEY_OBJECT: Code = Code("key", "EDS", "Key GUID");
const REQUEST_OBJECT: Code = Code("request", "EDS", "Request id");
const SECURITY_SERVER: &str = "6";

/// How an operation appears: event, event type, action, and stage of the life of the keys.
struct Event {
    id: Code,
    kind: Option<Code>,
    action: &'static str,
    stage: &'static str,
}

impl Event {
    fn of(decision: &Decision) -> Self {
        let operation = &decision.operation;
        if matches!(decision.outcome, Outcome::Refused(_)) {
            let kind = if decision.who.proof == Proof::Nothing { NODE_AUTHENTICATION } else { RESTRICTED_FUNCTION };
            return Self::new(SECURITY_ALERT, Some(kind), "E", "6");
        }
        if Operation::OF_OFFICERS.contains(operation) {
            return Self::new(SECURITY_ALERT, Some(SECURITY_CONFIGURATION), "E", "3");
        }
        let known = [
            (Operation::FETCH, Self::new(INSTANCES_ACCESSED, None, "R", "11")),
            (Operation::REGISTER, Self::new(INSTANCES_ACCESSED, None, "C", "1")),
            (Operation::CONFIRM, Self::new(INSTANCES_ACCESSED, None, "U", "3")),
            (Operation::WITHDRAW, Self::new(INSTANCES_ACCESSED, None, "D", "15")),
            (Operation::UNREGISTER, Self::new(INSTANCES_ACCESSED, None, "D", "15")),
            (Operation::ACL_CHANGE, Self::new(SECURITY_ALERT, Some(OBJECT_SECURITY), "E", "3")),
            (Operation::AUDIT_RECOVER, Self::new(SECURITY_ALERT, Some(AUDIT_RECORDING_STARTED), "E", "3")),
            (Operation::AUDIT_READ, Self::new(AUDIT_LOG_USED, None, "R", "6")),
            (Operation::START, Self::new(APPLICATION_ACTIVITY, Some(APPLICATION_START), "E", "6")),
            (Operation::STOP, Self::new(APPLICATION_ACTIVITY, Some(APPLICATION_STOP), "E", "6")),
        ];
        let found = known.into_iter().find(|(name, _)| name == operation).map(|(_, event)| event);
        found.unwrap_or(Self::new(QUERY, None, "E", "6"))
    }

    const fn new(id: Code, kind: Option<Code>, action: &'static str, stage: &'static str) -> Self {
        Self { id, kind, action, stage }
    }
}

fn document(origin: &str, record: &Record, keys: &[KeyId], part: (usize, usize)) -> String {
    let decision = &record.entry.decision;
    let event = Event::of(decision);
    let mut xml = Xml::new();
    xml.open("AuditMessage", &[]);
    identification(&mut xml, decision, &event);
    participants(&mut xml, origin, decision);
    source(&mut xml, origin);
    request(&mut xml, record, &event, part);
    for key in keys {
        let id = key.to_string();
        object(&mut xml, &id, event.stage, KEY_OBJECT);
        xml.text("ParticipantObjectName", &[], &id);
        xml.close("ParticipantObjectIdentification");
    }
    xml.close("AuditMessage");
    xml.finish()
}

fn identification(xml: &mut Xml, decision: &Decision, event: &Event) {
    let (time, outcome) = (time::rfc3339(decision.time), Indicator::of(decision).as_str());
    let attributes = [("EventActionCode", event.action), ("EventDateTime", &time), ("EventOutcomeIndicator", outcome)];
    xml.open("EventIdentification", &attributes);
    coded(xml, "EventID", event.id);
    if let Some(kind) = event.kind {
        coded(xml, "EventTypeCode", kind);
    }
    if let Some(reason) = decision.outcome.reason() {
        xml.text("EventOutcomeDescription", &[], reason);
    }
    xml.close("EventIdentification");
}

fn participants(xml: &mut Xml, origin: &str, decision: &Decision) {
    let who = &decision.who;
    let node = who.proof == Proof::Node;
    if !node {
        let user = match who.proof {
            Proof::Nothing => "anonymous",
            _ => &who.display,
        };
        let subject = who.subject.map(|digest| crate::hex::encode(&digest));
        let peer = decision.peer.map(|peer| peer.to_string());
        let mut attributes = vec![("UserID", user)];
        attributes.extend(subject.as_deref().map(|subject| ("AlternativeUserID", subject)));
        attributes.push(("UserIsRequestor", "true"));
        if let Some(peer) = &peer {
            attributes.extend([("NetworkAccessPointID", peer.as_str()), ("NetworkAccessPointTypeCode", "2")]);
        }
        xml.empty("ActiveParticipant", &attributes);
    }
    let requestor = if node { "true" } else { "false" };
    xml.open("ActiveParticipant", &[("UserID", origin), ("UserIsRequestor", requestor)]);
    coded(xml, "RoleIDCode", APPLICATION);
    xml.close("ActiveParticipant");
}

fn source(xml: &mut Xml, origin: &str) {
    let node = origin.rsplit_once('/').map_or(origin, |(_, node)| node);
    xml.open("AuditSourceIdentification", &[("AuditSourceID", node)]);
    xml.empty("AuditSourceTypeCode", &[("csd-code", SECURITY_SERVER)]);
    xml.close("AuditSourceIdentification");
}

/// The request as an object: what was asked, by which rule it was decided, and where the entry stands.
fn request(xml: &mut Xml, record: &Record, event: &Event, (part, parts): (usize, usize)) {
    let Entry { sequence, decision } = &record.entry;
    object(xml, &decision.request.to_string(), event.stage, REQUEST_OBJECT);
    if event.id.0 == QUERY.0 {
        xml.text("ParticipantObjectQuery", &[], &Base64::encode_string(decision.operation.as_str().as_bytes()));
    } else {
        xml.text("ParticipantObjectName", &[], decision.operation.as_str());
    }
    let mut detail = |name: &str, value: &[u8]| {
        xml.empty("ParticipantObjectDetail", &[("type", name), ("value", &Base64::encode_string(value))]);
    };
    if event.id.0 == SECURITY_ALERT.0 {
        let description = format!("{}: {}", decision.operation, decision.outcome.reason().unwrap_or("done"));
        detail("Alert Description", description.as_bytes());
    }
    detail("entry", sequence.to_string().as_bytes());
    detail("leaf", &record.leaf);
    if parts > 1 {
        detail("part", format!("{part} of {parts}").as_bytes());
    }
    detail("proof", decision.who.proof.as_str().as_bytes());
    if !decision.who.evidence.is_empty() {
        detail("evidence", decision.who.evidence.as_bytes());
    }
    if !decision.rule.is_empty() {
        detail("rule", decision.rule.as_bytes());
    }
    if let Some(list) = &decision.access_list {
        detail("access-list", list);
    }
    if !decision.detail.is_empty() {
        detail("detail", decision.detail.as_bytes());
    }
    xml.close("ParticipantObjectIdentification");
}

fn object(xml: &mut Xml, id: &str, stage: &str, kind: Code) {
    let attributes = [
        ("ParticipantObjectID", id),
        ("ParticipantObjectTypeCode", "2"),
        ("ParticipantObjectTypeCodeRole", "13"),
        ("ParticipantObjectDataLifeCycle", stage),
    ];
    xml.open("ParticipantObjectIdentification", &attributes);
    coded(xml, "ParticipantObjectIDTypeCode", kind);
}

fn coded(xml: &mut Xml, element: &str, Code(code, system, meaning): Code) {
    xml.empty(element, &[("csd-code", code), ("codeSystemName", system), ("originalText", meaning)]);
}

#[cfg(test)]
mod tests;
