//! C-STORE: an object arrives, is encrypted and registered, and only then is success answered.
//!
//! Refused are objects whose data set is another than the command says, directories of media, other content under a known
//! UID, and images that the profile of the project refuses. Storage commitment answers for what is held for good.

use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::{
    Error,
    association::{Association, Link, Message},
    command::{Command, Status, element},
    server::Told,
    spool::Spool,
};
use crate::{
    dicom::{self, Encoding, Value, head, parse, write_element, write_item},
    error::Kind,
    journey::{
        Session,
        peer::{Commitment, uids},
        register::{Event, Registrar},
    },
};

/// Whether objects of this class may be stored.
pub(super) fn is_storage_class(class: &str) -> bool {
    class.starts_with("1.2.840.10008.5.1.4.1.1.") || class.starts_with("1.2.840.10008.5.1.4.34.")
}

/// Receives one object and answers.
///
/// # Errors
/// What ends the association.
pub(super) fn store<S: Link>(
    association: &mut Association<S>,
    message: &Message,
    registrar: &Registrar<'_>,
    directory: &Path,
    told: &dyn Fn(Told),
) -> Result<(), Error> {
    let command = &message.command;
    let named = (command.text(element::AFFECTED_SOP_CLASS), command.text(element::AFFECTED_SOP_INSTANCE));
    let context = association.context(message.context).cloned();
    let (Some((class, instance)), Some(context)) = (named.0.zip(named.1), context) else {
        association.data(message.context).skip()?;
        return answer(association, message, Err((Status::CANNOT_UNDERSTAND, "no SOP class or instance named".into())));
    };
    let (class, instance) = (class.to_owned(), instance.to_owned());
    let mut spool = Spool::new();
    let mut kept = spool.append(&head::preface(&class, &instance, &context.syntax), directory);
    let mut buffer = zeroize::Zeroizing::new(vec![0; BUFFER]);
    let mut data = association.data(message.context);
    loop {
        let read = match data.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(Error::Connection)?,
        };
        // What cannot be kept is still taken from the line, so that the peer hears why.
        if kept.is_ok() {
            kept = spool.append(buffer.get(..read).unwrap_or_default(), directory);
        }
    }
    let kept = kept.and_then(|()| spool.finish());
    let result = match kept {
        Err(error) => Err((Status::OUT_OF_RESOURCES, format!("cannot keep it while it arrives: {error}"))),
        Ok(()) if context.class != class => {
            Err((Status::MISMATCH, "the SOP class is not that of the presentation context".into()))
        }
        Ok(()) => check(&mut spool, &class, &instance).and_then(|()| register(registrar, &instance, &mut spool, told)),
    };
    answer(association, message, result)
}

type Outcome = Result<(), (Status, String)>;

fn answer<S: Link>(association: &mut Association<S>, message: &Message, outcome: Outcome) -> Result<(), Error> {
    let answer = match outcome {
        Ok(()) => message.command.answer(Status::SUCCESS),
        Err((status, comment)) => message.command.answer(status).with_comment(&comment),
    };
    association.send(message.context, &answer, None)
}

/// The data set must be what the command says.
fn check(spool: &mut Spool, class: &str, instance: &str) -> Outcome {
    let unreadable = |error: dicom::Error| (Status::CANNOT_UNDERSTAND, error.to_string());
    let [found_class, found_instance] = uids(spool).map_err(unreadable)?;
    if found_class.as_deref() != Some(class) {
        return Err((Status::MISMATCH, "the data set is of another SOP class than the command says".into()));
    }
    if found_instance.as_deref() != Some(instance) {
        return Err((Status::MISMATCH, "the data set is another SOP instance than the command says".into()));
    }
    spool.seek(SeekFrom::Start(0)).map(drop).map_err(|error| (Status::OUT_OF_RESOURCES, error.to_string()))
}

fn register(registrar: &Registrar<'_>, instance: &str, spool: &mut Spool, told: &dyn Fn(Told)) -> Outcome {
    let size = spool.len();
    let (event, summary) = match registrar.register(&PathBuf::from("object"), size, spool) {
        Ok(done) => done,
        Err(error) => {
            told(Told::NotStored(error.report()));
            return Err((of_kind(error.kind()), error.to_string()));
        }
    };
    for node in summary.late.iter().chain(&summary.warnings) {
        told(Told::Node(node.to_string()));
    }
    match event {
        Event::Registered(registration) => {
            told(Told::Stored(registration.file, registration.key, size, registration.notes.quarantined));
            Ok(())
        }
        Event::Known { file, .. } => {
            told(Told::Known(file));
            Ok(())
        }
        Event::LeftOut { reason, .. } => Err((Status::CANNOT_UNDERSTAND, reason)),
        Event::Failed { error, .. } => {
            told(Told::NotStored(error.report()));
            let status = of_kind(error.kind());
            // The report names things by ids; a comment goes to the peer, who knows the instance.
            let comment = match error.kind() {
                Kind::Conflict => format!("other content is stored as {instance}"),
                Kind::Suspect => "the picture may show who the patient is".into(),
                _ => error.to_string(),
            };
            Err((status, comment))
        }
        Event::Recovered(_) => Ok(()),
    }
}

/// What a peer is told of a failure.
pub(super) fn of_kind(kind: Kind) -> Status {
    match kind {
        Kind::Conflict => Status::DUPLICATE_INSTANCE,
        Kind::Denied => Status::NOT_AUTHORISED,
        Kind::Suspect | Kind::Unsupported | Kind::Damaged => Status::CANNOT_UNDERSTAND,
        _ => Status::OUT_OF_RESOURCES,
    }
}

/// Answers a request for storage commitment, and reports on the same association (PS3.4, annex J).
///
/// # Errors
/// What ends the association.
pub(super) fn commit<S: Link>(
    association: &mut Association<S>,
    message: &Message,
    session: &Session,
    told: &dyn Fn(Told),
) -> Result<(), Error> {
    let data = association.small_data(message.context)?;
    let Some(encoding) = association.context(message.context).and_then(|context| encoding(&context.syntax)) else {
        return answer(association, message, Err((Status::CANNOT_UNDERSTAND, "no transfer syntax".into())));
    };
    let Some(asked) = asked(&data, encoding) else {
        return answer(association, message, Err((Status::CANNOT_UNDERSTAND, "no transaction or no instances".into())));
    };
    let mut held = Vec::new();
    let mut missing = Vec::new();
    let commitment = Commitment::open(session).unwrap_or_else(|error| {
        told(Told::NotStored(error.report()));
        None
    });
    for reference in asked.references {
        let holds = |commitment: &Commitment| commitment.holds(session, &reference.1).unwrap_or(false);
        if commitment.as_ref().is_some_and(holds) { held.push(reference) } else { missing.push(reference) }
    }
    answer(association, message, Ok(()))?;
    let mut report = Vec::new();
    write_element(&mut report, encoding, tags::TRANSACTION_UID, VR::UI, &padded(&asked.transaction));
    write_references(&mut report, encoding, tags::FAILED_SOP_SEQUENCE, &missing, Some(NO_SUCH_INSTANCE));
    write_references(&mut report, encoding, tags::REFERENCED_SOP_SEQUENCE, &held, None);
    let event = Command::request(N_EVENT_REPORT, message.command.message_id().wrapping_add(1))
        .with_text(element::AFFECTED_SOP_CLASS, COMMITMENT_CLASS)
        .with_text(element::AFFECTED_SOP_INSTANCE, COMMITMENT_INSTANCE)
        .with_number(element::EVENT_TYPE, if missing.is_empty() { 1 } else { 2 })
        .with_data_set();
    association.send(message.context, &event, Some(&report))
}

struct Asked {
    transaction: String,
    /// Class and instance.
    references: Vec<(String, String)>,
}

fn asked(data: &[u8], encoding: Encoding) -> Option<Asked> {
    let elements = parse(data, encoding).ok()?;
    let mut asked = Asked { transaction: String::new(), references: Vec::new() };
    for element in &elements {
        match (element.tag, &element.value) {
            (tags::TRANSACTION_UID, Value::Bytes(bytes)) => asked.transaction = uid(bytes)?,
            (tags::REFERENCED_SOP_SEQUENCE, Value::Items(items, _)) => {
                for item in items {
                    let of =
                        |tag: Tag| item.iter().find(|one| one.tag == tag).and_then(|one| one.bytes()).and_then(uid);
                    asked
                        .references
                        .push((of(tags::REFERENCED_SOP_CLASS_UID)?, of(tags::REFERENCED_SOP_INSTANCE_UID)?));
                }
            }
            _ => {}
        }
    }
    (!asked.transaction.is_empty() && !asked.references.is_empty()).then_some(asked)
}

fn write_references(
    out: &mut Vec<u8>,
    encoding: Encoding,
    tag: Tag,
    references: &[(String, String)],
    reason: Option<u16>,
) {
    if references.is_empty() {
        return;
    }
    let mut items = Vec::new();
    for (class, instance) in references {
        let mut item = Vec::new();
        write_element(&mut item, encoding, tags::REFERENCED_SOP_CLASS_UID, VR::UI, &padded(class));
        write_element(&mut item, encoding, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &padded(instance));
        if let Some(reason) = reason {
            write_element(&mut item, encoding, tags::FAILURE_REASON, VR::US, &reason.to_le_bytes());
        }
        write_item(&mut items, encoding, &item);
    }
    write_element(out, encoding, tag, VR::SQ, &items);
}

fn uid(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(|text| text.trim_matches(|c| c == ' ' || c == '\0').to_owned())
}

fn padded(text: &str) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(0);
    }
    value
}

/// How identifiers and reports are encoded: one of the two that are agreed on for them.
pub(super) fn encoding(syntax: &str) -> Option<Encoding> {
    match syntax {
        "1.2.840.10008.1.2" => Some(Encoding::ImplicitLittle),
        "1.2.840.10008.1.2.1" => Some(Encoding::ExplicitLittle),
        _ => None,
    }
}

/// Storage Commitment Push Model.
pub(super) const COMMITMENT_CLASS: &str = "1.2.840.10008.1.20.1";
const COMMITMENT_INSTANCE: &str = "1.2.840.10008.1.20.1.1";
const N_EVENT_REPORT: u16 = 0x0100;
/// Failure Reason: no such object instance.
const NO_SUCH_INSTANCE: u16 = 0x0112;
const BUFFER: usize = 64 * 1024;
