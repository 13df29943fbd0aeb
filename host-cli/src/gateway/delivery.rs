//! C-GET and C-MOVE: images go to the peer that asks, or to one that it names, as sub-operations that are counted.
//!
//! Of each image goes what the asking peer may have. Nothing of it is said to be whole before all of it was checked: a
//! failure in the middle of an object aborts the association that it is sent over.

use std::{
    collections::BTreeSet,
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use dicom_core::VR;
use dicom_dictionary_std::tags;
use eds_core::ids::FileId;

use super::{
    Error,
    association::{Association, Caller, Context, Link, Message},
    command::{C_STORE, Command, Status, element},
    peers,
    query::{Identifier, Unanswered, is_cancelled, plain_value},
    server::Told,
    settings::Settings,
    storage::encoding,
};
use crate::{
    dicom::{Encoding, write_element},
    journey::{
        Session,
        peer::{Form, Images, Searching},
    },
    metadata::{policy::Level, query::Found},
};

/// What answering needs to know of the association.
pub(super) struct Asking<'a> {
    pub(super) session: &'a Session,
    pub(super) settings: &'a Settings,
    /// The AE title of the peer that asks.
    pub(super) calling: &'a str,
    pub(super) told: &'a dyn Fn(Told),
}

/// Sub-operations.
#[derive(Default)]
struct Counts {
    remaining: u16,
    completed: u16,
    failed: u16,
    warning: u16,
    failures: Vec<String>,
}

/// An object that can be sent.
struct Object {
    file: FileId,
    form: Form,
    class: String,
    instance: String,
    syntax: String,
}

/// Sends images over the association that asks for them.
///
/// # Errors
/// What ends the association; after a failure in the middle of an object it must be aborted.
pub(super) fn get<S: Link>(
    association: &mut Association<S>,
    message: &Message,
    asking: &Asking<'_>,
    searching: &mut Searching,
) -> Result<(), Error> {
    let data = association.small_data(message.context)?;
    let encoding = association.context(message.context).and_then(|context| encoding(&context.syntax));
    let found = match wanted(&data, encoding, asking, searching) {
        Ok(found) => found,
        Err(Unanswered(status, comment)) => {
            let last = message.command.answer(status).with_comment(&comment);
            return association.send(message.context, &last, None);
        }
    };
    let mut counts = Counts { remaining: count(found.len()), ..Counts::default() };
    let mut number = 0u16;
    for some in found.chunks(AT_ONCE) {
        let images = match fetch(asking, some) {
            Ok(images) => images,
            Err(Unanswered(status, comment)) => {
                let last = counted(message.command.answer(status), &counts).with_comment(&comment);
                return association.send(message.context, &last, None);
            }
        };
        for image in some {
            number = number.wrapping_add(1);
            counts.remaining = counts.remaining.saturating_sub(1);
            let sent = match object(&images, image) {
                Ok(object) => match association.context_for(&object.class, &object.syntax) {
                    Some(context) => send(association, context, number, &images, &object, None, asking)?,
                    None => Err(format!("the peer takes no {} in {}", object.class, object.syntax)),
                },
                Err(reason) => Err(reason),
            };
            note(&mut counts, image, sent, asking);
            if is_cancelled(association, message)? {
                return end(association, message, encoding, &counts, Status::CANCELLED);
            }
            association.send(message.context, &counted(message.command.answer(Status::PENDING), &counts), None)?;
        }
    }
    end(association, message, encoding, &counts, Status::SUCCESS)
}

/// Sends images to a peer that is named by its AE title.
///
/// # Errors
/// What ends the association that asks.
pub(super) fn move_to<S: Link>(
    association: &mut Association<S>,
    message: &Message,
    asking: &Asking<'_>,
    searching: &mut Searching,
) -> Result<(), Error> {
    let data = association.small_data(message.context)?;
    let encoding = association.context(message.context).and_then(|context| encoding(&context.syntax));
    let title = message.command.text(element::MOVE_DESTINATION).unwrap_or_default().to_owned();
    let refuse = |association: &mut Association<S>, status: Status, comment: &str| {
        association.send(message.context, &message.command.answer(status).with_comment(comment), None)
    };
    let Some(place) = peers::destination(asking.settings, &title) else {
        return refuse(association, Status::UNKNOWN_DESTINATION, "no peer of that AE title with a destination");
    };
    let found = match wanted(&data, encoding, asking, searching) {
        Ok(found) => found,
        Err(Unanswered(status, comment)) => return refuse(association, status, &comment),
    };
    let mut counts = Counts { remaining: count(found.len()), ..Counts::default() };
    let mut number = 0u16;
    let originator = (asking.calling, message.command.message_id());
    for some in found.chunks(AT_ONCE) {
        let images = match fetch(asking, some) {
            Ok(images) => images,
            Err(Unanswered(status, comment)) => return refuse(association, status, &comment),
        };
        let objects: Vec<(&Found, Result<Object, String>)> =
            some.iter().map(|image| (image, object(&images, image))).collect();
        let contexts: BTreeSet<(&str, &str)> = objects
            .iter()
            .filter_map(|(_, object)| object.as_ref().ok())
            .map(|object| (object.class.as_str(), object.syntax.as_str()))
            .collect();
        let contexts: Vec<Context> = contexts
            .into_iter()
            .take(MAX_CONTEXTS)
            .map(|(class, syntax)| Context { class: class.into(), syntax: syntax.into() })
            .collect();
        let mut there = connect(place, &title, asking, &contexts);
        for (image, object) in objects {
            number = number.wrapping_add(1);
            counts.remaining = counts.remaining.saturating_sub(1);
            let sent = match (object, &mut there) {
                (Ok(object), Ok(to)) => match to.context_for(&object.class, &object.syntax) {
                    Some(context) => match send(to, context, number, &images, &object, Some(originator), asking) {
                        Ok(sent) => sent,
                        Err(error) => {
                            let reason = error.to_string();
                            if let Ok(broken) = std::mem::replace(&mut there, Err(error)) {
                                broken.abort();
                            }
                            Err(reason)
                        }
                    },
                    None => Err(format!("{title} takes no {} in {}", object.class, object.syntax)),
                },
                (Ok(_), Err(error)) => Err(error.to_string()),
                (Err(reason), _) => Err(reason),
            };
            note(&mut counts, image, sent, asking);
            if is_cancelled(association, message)? {
                if let Ok(there) = there {
                    there.release()?;
                }
                return end(association, message, encoding, &counts, Status::CANCELLED);
            }
            association.send(message.context, &counted(message.command.answer(Status::PENDING), &counts), None)?;
        }
        if let Ok(there) = there {
            there.release()?;
        }
    }
    end(association, message, encoding, &counts, Status::SUCCESS)
}

fn connect(
    place: &str,
    title: &str,
    asking: &Asking<'_>,
    contexts: &[Context],
) -> Result<Association<TcpStream>, Error> {
    if contexts.is_empty() {
        return Err(Error::Refused("nothing to send".into()));
    }
    let address = place.to_socket_addrs().map_err(Error::Connection)?.next();
    let address = address.ok_or_else(|| Error::Refused(format!("{place} is no address")))?;
    let stream = TcpStream::connect_timeout(&address, CONNECT).map_err(Error::Connection)?;
    stream.set_nodelay(true).map_err(Error::Connection)?;
    stream.set_read_timeout(Some(ANSWER)).map_err(Error::Connection)?;
    stream.set_write_timeout(Some(ANSWER)).map_err(Error::Connection)?;
    let caller = Caller { calling: asking.settings.ae_title.clone(), called: title.into() };
    Association::request(stream, &caller, contexts)
}

/// The images that an identifier means: it must name what it wants by UIDs, or a patient.
fn wanted(
    data: &[u8],
    encoding: Option<Encoding>,
    asking: &Asking<'_>,
    searching: &mut Searching,
) -> Result<Vec<Found>, Unanswered> {
    let encoding = encoding.ok_or_else(|| Unanswered(Status::MISMATCH, "no transfer syntax for queries".into()))?;
    let identifier = Identifier::read(data, encoding)?;
    let unique = match identifier.level {
        Level::Patient => tags::PATIENT_ID,
        Level::Study => tags::STUDY_INSTANCE_UID,
        Level::Series => tags::SERIES_INSTANCE_UID,
        Level::Image => tags::SOP_INSTANCE_UID,
    };
    if !identifier.names(unique) {
        return Err(Unanswered(Status::MISMATCH, "the identifier does not say which, by the UIDs of its level".into()));
    }
    let (found, left) = identifier.search(asking.session, searching)?;
    if left {
        return Err(Unanswered(Status::MISMATCH, "what to retrieve is said by UIDs or a patient id alone".into()));
    }
    Ok(found)
}

fn fetch<'a>(asking: &Asking<'a>, found: &[Found]) -> Result<Images<'a>, Unanswered> {
    let files: Vec<FileId> = found.iter().map(|image| image.image).collect();
    let images = Images::fetch(asking.session, &files, true)?;
    for culprit in &images.culprits {
        (asking.told)(Told::Node(culprit.to_string()));
    }
    Ok(images)
}

/// What is to be said of an object before it is sent.
fn object(images: &Images<'_>, image: &Found) -> Result<Object, String> {
    if let Some(refusal) = images.refusal(image.image) {
        return Err(refusal.into());
    }
    let form = images.form(image.image).map_err(|error| error.to_string())?;
    let [class, instance, syntax] = match &form {
        Form::Original(original) => {
            let header = original.header().map_err(|error| error.to_string())?;
            let class = header.value(tags::SOP_CLASS_UID);
            [class, header.value(tags::SOP_INSTANCE_UID), Some(original.transfer_syntax().to_owned())]
        }
        Form::Deidentified => {
            let class = plain_value(image, tags::SOP_CLASS_UID);
            [class, plain_value(image, tags::SOP_INSTANCE_UID), plain_value(image, tags::TRANSFER_SYNTAX_UID)]
        }
    };
    let missing = || String::from("it does not say what it is");
    Ok(Object {
        file: image.image,
        form,
        class: class.ok_or_else(missing)?,
        instance: instance.ok_or_else(missing)?,
        syntax: syntax.ok_or_else(missing)?,
    })
}

/// Sends one object; the inner error is the peer's, the outer one that of the association.
fn send<S: Link>(
    association: &mut Association<S>,
    context: u8,
    number: u16,
    images: &Images<'_>,
    object: &Object,
    originator: Option<(&str, u16)>,
    asking: &Asking<'_>,
) -> Result<Result<bool, String>, Error> {
    let mut command = Command::request(C_STORE, number)
        .with_text(element::AFFECTED_SOP_CLASS, &object.class)
        .with_text(element::AFFECTED_SOP_INSTANCE, &object.instance)
        .with_number(element::PRIORITY, 0)
        .with_data_set();
    if let Some((title, message)) = originator {
        command = command.with_text(element::ORIGINATOR, title).with_number(element::ORIGINATOR_MESSAGE, message);
    }
    let mut begun = Begun { begin: Some((association, context, command)), outgoing: None };
    match images.write(object.file, &object.form, &mut begun) {
        Ok(()) => {}
        // Nothing was sent of it yet: the association goes on.
        Err(error) if begun.outgoing.is_none() => {
            (asking.told)(Told::NotSent(object.file, error.report()));
            return Ok(Err(error.to_string()));
        }
        Err(error) => {
            (asking.told)(Told::NotSent(object.file, error.report()));
            return Err(error.into());
        }
    }
    let Some(outgoing) = begun.outgoing else { return Ok(Err("it is empty".into())) };
    let association = outgoing.finish()?;
    let answer = association.receive()?.ok_or(Error::Protocol("a release in place of an answer"))?;
    if !answer.command.is_answer() {
        return Err(Error::Protocol("a request in place of an answer"));
    }
    Ok(match answer.command.status() {
        Some(Status::SUCCESS) => Ok(true),
        // Coercion, elements discarded: stored all the same.
        Some(Status(0xB000..=0xBFFF)) => Ok(false),
        Some(Status(status)) => Err(format!("the peer answered {status:04X}")),
        None => Err("the peer answered nothing".into()),
    })
}

/// Sends the command with the first bytes: before these are checked, nothing is said.
struct Begun<'a, S: Link> {
    begin: Option<(&'a mut Association<S>, u8, Command)>,
    outgoing: Option<super::association::Outgoing<'a, S>>,
}

impl<S: Link> std::io::Write for Begun<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some((association, context, command)) = self.begin.take() {
            self.outgoing = Some(association.begin(context, &command).map_err(std::io::Error::other)?);
        }
        match &mut self.outgoing {
            Some(outgoing) => outgoing.write(bytes),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn note(counts: &mut Counts, image: &Found, sent: Result<bool, String>, asking: &Asking<'_>) {
    match sent {
        Ok(true) => counts.completed = counts.completed.saturating_add(1),
        Ok(false) => counts.warning = counts.warning.saturating_add(1),
        Err(reason) => {
            counts.failed = counts.failed.saturating_add(1);
            counts.failures.extend(plain_value(image, tags::SOP_INSTANCE_UID));
            (asking.told)(Told::NotSent(image.image, reason));
        }
    }
}

fn counted(answer: Command, counts: &Counts) -> Command {
    answer
        .with_number(element::REMAINING, counts.remaining)
        .with_number(element::COMPLETED, counts.completed)
        .with_number(element::FAILED, counts.failed)
        .with_number(element::WARNING, counts.warning)
}

fn end<S: Link>(
    association: &mut Association<S>,
    message: &Message,
    encoding: Option<Encoding>,
    counts: &Counts,
    usual: Status,
) -> Result<(), Error> {
    let status = match usual {
        Status::CANCELLED => Status::CANCELLED,
        _ if counts.failed == 0 => usual,
        _ if counts.completed == 0 && counts.warning == 0 => Status::NONE_SENT,
        _ => Status::SOME_FAILED,
    };
    let mut last = counted(message.command.answer(status), counts);
    let Some(encoding) = encoding.filter(|_| !counts.failures.is_empty()) else {
        return association.send(message.context, &last, None);
    };
    last = last.with_data_set();
    let mut data = Vec::new();
    let mut list = counts.failures.join("\\").into_bytes();
    if list.len() % 2 == 1 {
        list.push(0);
    }
    write_element(&mut data, encoding, tags::FAILED_SOP_INSTANCE_UID_LIST, VR::UI, &list);
    association.send(message.context, &last, Some(&data))
}

fn count(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Images whose keys are asked for in one call.
const AT_ONCE: usize = 400;
/// More do not fit into one association.
const MAX_CONTEXTS: usize = 128;
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(120);
