//! Associations: the upper layer of DICOM (PS3.8), as acceptor and as requestor, over any stream.
//!
//! Data comes and goes as streams of fragments, so that no object is ever held whole. What is sent of an object ends with a
//! last fragment only when its sender says that it is whole; whoever fails before that aborts the association.
//! PDUs but those of data are read and written by `dicom-ul`.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::TcpStream,
};

use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationAC, AssociationRJ, AssociationRJResult,
    AssociationRJServiceUserReason, AssociationRJSource, AssociationRQ, Pdu, PresentationContextProposed,
    PresentationContextResult, PresentationContextResultReason, RequestorRoles, UserVariableItem, read_pdu, write_pdu,
};

use super::{Error, command::Command};

/// A connection that can tell whether there is something to read.
pub(super) trait Link: Read + Write + Send {
    /// Whether reading would not wait.
    fn is_ready(&self) -> bool;
}

impl Link for TcpStream {
    fn is_ready(&self) -> bool {
        let mut byte = [0];
        let peeked = self.set_nonblocking(true).and_then(|()| self.peek(&mut byte));
        // What broke will be noticed by whoever reads.
        self.set_nonblocking(false).is_ok() && peeked.is_ok()
    }
}

/// One of the kinds of messages that both sides agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Context {
    /// The abstract syntax: a SOP class.
    pub(super) class: String,
    /// The transfer syntax of data sets.
    pub(super) syntax: String,
}

/// What the acceptor makes of a proposed context.
pub(super) enum Verdict {
    /// Accepted with this transfer syntax.
    Accept(String),
    /// The SOP class is not known.
    NoSuchClass,
    /// None of the transfer syntaxes is known.
    NoSyntax,
    /// Not for this peer.
    Refuse,
}

/// Who asks for an association.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    /// Its AE title.
    pub(super) calling: String,
    /// The AE title that it wants to speak to.
    pub(super) called: String,
}

/// Why an association is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// The calling AE title, its address or its certificate is not on the list.
    Calling,
    /// Another AE title was called.
    Called,
}

/// An established association.
pub(super) struct Association<S: Link> {
    stream: S,
    contexts: BTreeMap<u8, Context>,
    /// The most bytes of one fragment that the peer takes.
    fragment: usize,
    /// What is left of the last data PDU: the bytes, and how far they were taken.
    received: Vec<u8>,
    taken: usize,
    ended: bool,
}

/// A message, whose data set, if it has one, is read next.
#[derive(Debug)]
pub(super) struct Message {
    /// The number of its context.
    pub(super) context: u8,
    /// What it says.
    pub(super) command: Command,
}

/// One fragment.
struct Fragment {
    context: u8,
    command: bool,
    last: bool,
    /// Where it is in `received`.
    start: usize,
    end: usize,
}

impl<S: Link> Association<S> {
    /// Answers a request for an association. `admit` says who may speak at all, `judge` what about.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Protocol`]; [`Error::Refused`] when the request was refused, which was answered.
    pub(super) fn accept<P>(
        mut stream: S,
        admit: impl FnOnce(&Caller) -> Result<P, Refusal>,
        judge: impl Fn(&P, &str, &[String]) -> Verdict,
    ) -> Result<(Self, Caller, P), Error> {
        let request = match read_other(&mut stream)? {
            Pdu::AssociationRQ(request) => request,
            _ => return Err(Error::Protocol("the first message asks for no association")),
        };
        let trimmed = |title: &str| title.trim_matches(|c| c == ' ' || c == '\0').to_owned();
        let caller = Caller { calling: trimmed(&request.calling_ae_title), called: trimmed(&request.called_ae_title) };
        let peer = match admit(&caller) {
            Ok(peer) => peer,
            Err(refusal) => {
                let reason = match refusal {
                    Refusal::Calling => AssociationRJServiceUserReason::CallingAETitleNotRecognized,
                    Refusal::Called => AssociationRJServiceUserReason::CalledAETitleNotRecognized,
                };
                let refused = AssociationRJ {
                    result: AssociationRJResult::Permanent,
                    source: AssociationRJSource::ServiceUser(reason),
                };
                write_other(&mut stream, &Pdu::AssociationRJ(refused))?;
                return Err(Error::Refused(format!("{} is not admitted ({refusal:?})", caller.calling)));
            }
        };
        let mut contexts = BTreeMap::new();
        let mut results = Vec::with_capacity(request.presentation_contexts.len());
        for PresentationContextProposed { id, abstract_syntax, transfer_syntaxes } in &request.presentation_contexts {
            let class = trimmed(abstract_syntax);
            let syntaxes: Vec<String> = transfer_syntaxes.iter().map(|syntax| trimmed(syntax)).collect();
            let (reason, transfer_syntax) = match judge(&peer, &class, &syntaxes) {
                Verdict::Accept(syntax) => {
                    contexts.insert(*id, Context { class, syntax: syntax.clone() });
                    (PresentationContextResultReason::Acceptance, syntax)
                }
                Verdict::NoSuchClass => {
                    (PresentationContextResultReason::AbstractSyntaxNotSupported, IMPLICIT_LITTLE.into())
                }
                Verdict::NoSyntax => {
                    (PresentationContextResultReason::TransferSyntaxesNotSupported, IMPLICIT_LITTLE.into())
                }
                Verdict::Refuse => (PresentationContextResultReason::UserRejection, IMPLICIT_LITTLE.into()),
            };
            results.push(PresentationContextResult { id: *id, reason, transfer_syntax });
        }
        let mut user_variables = our_variables();
        // Who gets images over its own association receives them in the role of a provider (C-GET).
        for variable in &request.user_variables {
            if let UserVariableItem::ScuScpRoleSelectionSubItem(class, roles) = variable {
                let granted = RequestorRoles { scu: roles.scu, scp: roles.scp };
                user_variables.push(UserVariableItem::ScuScpRoleSelectionSubItem(class.clone(), granted));
            }
        }
        let answer = AssociationAC {
            protocol_version: 1,
            calling_ae_title: request.calling_ae_title.clone(),
            called_ae_title: request.called_ae_title.clone(),
            application_context_name: request.application_context_name.clone(),
            presentation_contexts: results,
            user_variables,
        };
        write_other(&mut stream, &Pdu::AssociationAC(answer))?;
        Ok((Self::established(stream, contexts, &request.user_variables), caller, peer))
    }

    /// Asks for an association with these contexts, each one SOP class with one transfer syntax.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Protocol`], [`Error::Refused`].
    pub(super) fn request(mut stream: S, caller: &Caller, wanted: &[Context]) -> Result<Self, Error> {
        // Numbers of contexts are odd.
        let proposed: Vec<(u8, &Context)> = (1..=255).step_by(2).zip(wanted).collect();
        let request = AssociationRQ {
            protocol_version: 1,
            calling_ae_title: caller.calling.clone(),
            called_ae_title: caller.called.clone(),
            application_context_name: APPLICATION_CONTEXT.into(),
            presentation_contexts: proposed
                .iter()
                .map(|(id, context)| PresentationContextProposed {
                    id: *id,
                    abstract_syntax: context.class.clone(),
                    transfer_syntaxes: vec![context.syntax.clone()],
                })
                .collect(),
            user_variables: our_variables(),
        };
        write_other(&mut stream, &Pdu::AssociationRQ(request))?;
        let answer = match read_other(&mut stream)? {
            Pdu::AssociationAC(answer) => answer,
            Pdu::AssociationRJ(refused) => return Err(Error::Refused(format!("{:?}", refused.source))),
            Pdu::AbortRQ { .. } => return Err(Error::Aborted),
            _ => return Err(Error::Protocol("no answer to the request for an association")),
        };
        let accepted = |id: &u8| {
            answer
                .presentation_contexts
                .iter()
                .any(|result| result.id == *id && result.reason == PresentationContextResultReason::Acceptance)
        };
        let contexts: BTreeMap<u8, Context> =
            proposed.into_iter().filter(|(id, _)| accepted(id)).map(|(id, context)| (id, context.clone())).collect();
        Ok(Self::established(stream, contexts, &answer.user_variables))
    }

    fn established(stream: S, contexts: BTreeMap<u8, Context>, peer: &[UserVariableItem]) -> Self {
        let told = peer.iter().find_map(|variable| match variable {
            UserVariableItem::MaxLength(length) => usize::try_from(*length).ok(),
            _ => None,
        });
        // Zero is no limit.
        let pdu = told.filter(|length| *length != 0).unwrap_or(MAX_PDU).clamp(MIN_PDU, MAX_PDU);
        let fragment = (pdu - FRAGMENT_HEADER) & !1;
        Self { stream, contexts, fragment, received: Vec::new(), taken: 0, ended: false }
    }

    /// A context by its number.
    pub(super) fn context(&self, number: u8) -> Option<&Context> {
        self.contexts.get(&number)
    }

    /// A context for objects of this class in this transfer syntax.
    pub(super) fn context_for(&self, class: &str, syntax: &str) -> Option<u8> {
        let fits = |context: &Context| context.class == class && context.syntax == syntax;
        self.contexts.iter().find(|(_, context)| fits(context)).map(|(number, _)| *number)
    }

    /// Whether a message has begun to arrive.
    pub(super) fn is_ready(&self) -> bool {
        self.taken < self.received.len() || self.stream.is_ready()
    }

    /// The next message; nothing when the peer released the association, which was answered.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Aborted`], [`Error::Protocol`].
    pub(super) fn receive(&mut self) -> Result<Option<Message>, Error> {
        let mut bytes = Vec::new();
        loop {
            let Some(fragment) = self.fragment()? else {
                return if bytes.is_empty() { Ok(None) } else { Err(Error::Protocol("a release within a message")) };
            };
            if !fragment.command {
                return Err(Error::Protocol("data without a command"));
            }
            bytes.extend_from_slice(self.received.get(fragment.start..fragment.end).unwrap_or_default());
            if bytes.len() > MAX_COMMAND {
                return Err(Error::Protocol("a command of more than 64 KiB"));
            }
            if fragment.last {
                if !self.contexts.contains_key(&fragment.context) {
                    return Err(Error::Protocol("a message in a context that was not agreed on"));
                }
                let command = Command::decode(&bytes).ok_or(Error::Protocol("a malformed command"))?;
                return Ok(Some(Message { context: fragment.context, command }));
            }
        }
    }

    /// The data set of the message that was received last. What is not read of it is to be [`Data::skip`]ped.
    pub(super) fn data(&mut self, context: u8) -> Data<'_, S> {
        Data { association: self, context, at: 0, end: 0, last: false }
    }

    /// The data set of the last message, which is not expected to be large.
    ///
    /// # Errors
    /// As [`Association::receive`].
    pub(super) fn small_data(&mut self, context: u8) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut data = self.data(context);
        let read = (&mut data).take(MAX_IDENTIFIER).read_to_end(&mut bytes);
        read.map_err(Error::Connection)?;
        if !data.is_at_end()? {
            return Err(Error::Protocol("an identifier of more than 1 MiB"));
        }
        Ok(bytes)
    }

    /// Sends a message with a small data set, or none.
    ///
    /// # Errors
    /// [`Error::Connection`].
    pub(super) fn send(&mut self, context: u8, command: &Command, data: Option<&[u8]>) -> Result<(), Error> {
        let mut out = Vec::new();
        append(&mut out, context, COMMAND | LAST, &command.encode());
        if let Some(data) = data {
            let mut fragments = data.chunks(self.fragment).peekable();
            while let Some(fragment) = fragments.next() {
                let last = if fragments.peek().is_none() { LAST } else { 0 };
                append(&mut out, context, last, fragment);
            }
        }
        self.stream.write_all(&out).and_then(|()| self.stream.flush()).map_err(Error::Connection)
    }

    /// Begins a message whose data set is written next.
    ///
    /// # Errors
    /// [`Error::Connection`].
    pub(super) fn begin(&mut self, context: u8, command: &Command) -> Result<Outgoing<'_, S>, Error> {
        let mut out = Vec::new();
        append(&mut out, context, COMMAND | LAST, &command.encode());
        self.stream.write_all(&out).map_err(Error::Connection)?;
        let held = Vec::with_capacity(self.fragment);
        Ok(Outgoing { association: self, context, held })
    }

    /// Ends the association at once: what was sent of an object is not one.
    pub(super) fn abort(mut self) {
        // The connection may be what failed.
        let source = AbortRQSource::ServiceProvider(AbortRQServiceProviderReason::ReasonNotSpecified);
        let _ = write_other(&mut self.stream, &Pdu::AbortRQ { source });
    }

    /// Releases an association that this side asked for.
    ///
    /// # Errors
    /// [`Error::Connection`].
    pub(super) fn release(mut self) -> Result<(), Error> {
        write_other(&mut self.stream, &Pdu::ReleaseRQ)?;
        match read_other(&mut self.stream) {
            // The peer may be gone already; all that it got was answered.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The next fragment; nothing when the peer released the association.
    fn fragment(&mut self) -> Result<Option<Fragment>, Error> {
        while self.taken >= self.received.len() {
            if self.ended {
                return Ok(None);
            }
            let (kind, length) = read_header(&mut self.stream)?;
            if kind != DATA_PDU {
                match read_body(&mut self.stream, kind, length)? {
                    Pdu::ReleaseRQ => {
                        write_other(&mut self.stream, &Pdu::ReleaseRP)?;
                        self.ended = true;
                        return Ok(None);
                    }
                    Pdu::AbortRQ { .. } => return Err(Error::Aborted),
                    _ => return Err(Error::Protocol("a PDU out of its place")),
                }
            }
            if length > MAX_PDU {
                return Err(Error::Protocol("a PDU larger than was agreed on"));
            }
            self.received.resize(length, 0);
            self.stream.read_exact(&mut self.received).map_err(Error::Connection)?;
            self.taken = 0;
        }
        let wrong = || Error::Protocol("a malformed data PDU");
        let rest = self.received.get(self.taken..).ok_or_else(wrong)?;
        let (header, body) = rest.split_first_chunk::<FRAGMENT_HEADER>().ok_or_else(wrong)?;
        let [l0, l1, l2, l3, context, flags] = *header;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).map_err(|_| wrong())?;
        let length = length.checked_sub(2).filter(|length| *length <= body.len()).ok_or_else(wrong)?;
        let start = self.taken + FRAGMENT_HEADER;
        self.taken = start + length;
        Ok(Some(Fragment {
            context,
            command: flags & COMMAND != 0,
            last: flags & LAST != 0,
            start,
            end: start + length,
        }))
    }
}

/// A data set that arrives.
pub(super) struct Data<'a, S: Link> {
    association: &'a mut Association<S>,
    context: u8,
    at: usize,
    end: usize,
    last: bool,
}

impl<S: Link> Data<'_, S> {
    /// Reads what is left of it, and forgets it.
    ///
    /// # Errors
    /// As [`Association::receive`].
    pub(super) fn skip(mut self) -> Result<(), Error> {
        while !self.is_at_end()? {
            self.at = self.end;
        }
        Ok(())
    }

    /// Whether all of it was read.
    fn is_at_end(&mut self) -> Result<bool, Error> {
        while self.at >= self.end {
            if self.last {
                return Ok(true);
            }
            let fragment = self.association.fragment()?.ok_or(Error::Protocol("a release within a message"))?;
            if fragment.command || fragment.context != self.context {
                return Err(Error::Protocol("another message within a data set"));
            }
            (self.at, self.end, self.last) = (fragment.start, fragment.end, fragment.last);
        }
        Ok(false)
    }
}

impl<S: Link> Read for Data<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.is_at_end().map_err(io::Error::other)? {
            return Ok(0);
        }
        let bytes = self.association.received.get(self.at..self.end).unwrap_or_default();
        let length = bytes.len().min(buffer.len());
        buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.at += length;
        Ok(length)
    }
}

/// A data set that is sent. It is whole for the peer only when it was [finished](Outgoing::finish); dropped before that,
/// the association must be aborted.
pub(super) struct Outgoing<'a, S: Link> {
    association: &'a mut Association<S>,
    context: u8,
    /// Kept back, since it may be the last fragment.
    held: Vec<u8>,
}

impl<'a, S: Link> Outgoing<'a, S> {
    /// Sends the last fragment; the association is for the answer.
    ///
    /// # Errors
    /// [`Error::Connection`].
    pub(super) fn finish(mut self) -> Result<&'a mut Association<S>, Error> {
        self.put(LAST).and_then(|()| self.association.stream.flush()).map_err(Error::Connection)?;
        Ok(self.association)
    }

    fn put(&mut self, last: u8) -> io::Result<()> {
        let mut out = Vec::with_capacity(self.held.len() + PDU_HEADER + FRAGMENT_HEADER);
        append(&mut out, self.context, last, &self.held);
        self.held.clear();
        self.association.stream.write_all(&out)
    }
}

impl<S: Link> Write for Outgoing<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() >= self.association.fragment {
            self.put(0)?;
        }
        let room = self.association.fragment.saturating_sub(self.held.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.held.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn our_variables() -> Vec<UserVariableItem> {
    vec![
        UserVariableItem::MaxLength(u32::try_from(MAX_PDU).unwrap_or(u32::MAX)),
        UserVariableItem::ImplementationClassUID(crate::dicom::IMPLEMENTATION_CLASS.into()),
        UserVariableItem::ImplementationVersionName(crate::dicom::IMPLEMENTATION_VERSION.into()),
    ]
}

/// Adds a PDU of one fragment.
fn append(out: &mut Vec<u8>, context: u8, flags: u8, fragment: &[u8]) {
    let length = |more: usize| u32::try_from(fragment.len() + more).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[DATA_PDU, 0]);
    out.extend_from_slice(&length(FRAGMENT_HEADER));
    out.extend_from_slice(&length(2));
    out.extend_from_slice(&[context, flags]);
    out.extend_from_slice(fragment);
}

fn read_header(stream: &mut impl Read) -> Result<(u8, usize), Error> {
    let mut header = [0; PDU_HEADER];
    stream.read_exact(&mut header).map_err(Error::Connection)?;
    let [kind, _, l0, l1, l2, l3] = header;
    let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    Ok((kind, length))
}

fn read_body(stream: &mut impl Read, kind: u8, length: usize) -> Result<Pdu, Error> {
    if length > MAX_OTHER {
        return Err(Error::Protocol("a PDU of more than 1 MiB that holds no data"));
    }
    let mut bytes = vec![0; PDU_HEADER + length];
    let told = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let header = [kind, 0, told[0], told[1], told[2], told[3]];
    bytes.iter_mut().zip(header).for_each(|(to, from)| *to = from);
    stream.read_exact(bytes.get_mut(PDU_HEADER..).unwrap_or_default()).map_err(Error::Connection)?;
    match read_pdu(bytes.as_slice(), u32::try_from(MAX_OTHER).unwrap_or(u32::MAX), false) {
        Ok(Some(pdu)) => Ok(pdu),
        Ok(None) | Err(_) => Err(Error::Protocol("a malformed PDU")),
    }
}

fn read_other(stream: &mut impl Read) -> Result<Pdu, Error> {
    let (kind, length) = read_header(stream)?;
    read_body(stream, kind, length)
}

fn write_other(stream: &mut impl Write, pdu: &Pdu) -> Result<(), Error> {
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, pdu).map_err(|_| Error::Protocol("an answer that cannot be written"))?;
    stream.write_all(&bytes).and_then(|()| stream.flush()).map_err(Error::Connection)
}

/// What is announced, and the most that is sent: bytes after the header of a PDU.
const MAX_PDU: usize = 128 * 1024;
/// A peer that takes less is given this much: none does.
const MIN_PDU: usize = 1024;
const PDU_HEADER: usize = 6;
/// Length, context and flags.
const FRAGMENT_HEADER: usize = 6;
const DATA_PDU: u8 = 4;
const COMMAND: u8 = 1;
const LAST: u8 = 2;
const MAX_COMMAND: usize = 64 * 1024;
const MAX_IDENTIFIER: u64 = 1 << 20;
const MAX_OTHER: usize = 1 << 20;
const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";

#[cfg(test)]
mod tests;
