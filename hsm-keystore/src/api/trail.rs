//! What a request leaves in the audit log.
//!
//! The outermost layer makes a [`Trail`] for each request and puts it into the request. Handlers note what they decided
//! for each key. Before the answer leaves, the layer writes what was noted; where nothing was noted, it writes how the
//! whole call ended. A handler that changes something writes what it decided before it does it ([`Trail::write_ahead`]).
//! When the log cannot be written, the answer is replaced, and nothing is released.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use eds_core::{api::MAX_BATCH, ids::KeyId};

use crate::{
    api::{ApiError, Word},
    audit::{AppendError, Decision, Operation, Outcome, Proof, RequestId, Who},
    authn::Principal,
    logging::Trouble,
    node::Node,
};

/// Where a connection comes from; the server puts it into each request.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// The decisions of one request.
pub(super) struct Trail(Mutex<Inner>);

struct Inner {
    request: RequestId,
    time: u64,
    operation: Operation,
    who: Who,
    peer: Option<IpAddr>,
    keys: Vec<Asked>,
    /// What was decided of something that has no key.
    keyless: Option<Note>,
    finished: bool,
}

/// A key that the request names.
struct Asked {
    key: KeyId,
    note: Option<Note>,
    written: bool,
}

/// What was decided for one key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Note {
    outcome: Outcome,
    rule: String,
    access_list: Option<[u8; 32]>,
}

impl Note {
    /// It was allowed by this rule.
    pub(super) fn allowed(rule: impl ToString) -> Self {
        Self { outcome: Outcome::Allowed, rule: rule.to_string(), access_list: None }
    }

    /// It was allowed by this rule, and makes this the key's access list.
    pub(super) fn with_access_list(self, digest: [u8; 32]) -> Self {
        Self { access_list: Some(digest), ..self }
    }

    /// It was not done, for this reason.
    pub(super) fn refused(word: Word) -> Self {
        Self { outcome: outcome(word), rule: String::new(), access_list: None }
    }
}

impl Trail {
    pub(super) fn new(request: [u8; 16], time: u64, operation: Operation, peer: Option<IpAddr>) -> Self {
        let request = RequestId(request);
        let (who, keys) = (Who::NOBODY, Vec::new());
        Self(Mutex::new(Inner { request, time, operation, who, peer, keys, keyless: None, finished: false }))
    }

    /// Who asks, once that is known.
    pub(super) fn caller(&self, principal: &Principal) {
        let proof = match principal.subject.kind.as_str() {
            "x509" if principal.proxied => Proof::ProxyCertificate,
            "x509" => Proof::Certificate,
            "jwt" => Proof::Token,
            "device" => Proof::Device,
            _ => Proof::Nothing,
        };
        let display = principal.subject.display.clone();
        let subject = Some(principal.registrant());
        self.inner().who = Who { proof, display, subject, evidence: principal.proof.clone() };
    }

    /// Whether the caller proved nothing.
    pub(super) fn of_stranger(&self) -> bool {
        self.inner().who.proof == Proof::Nothing
    }

    /// The keys that the request names, in order.
    pub(super) fn asks_for(&self, keys: impl IntoIterator<Item = KeyId>) {
        let asked = keys.into_iter().map(|key| Asked { key, note: None, written: false });
        self.inner().keys = asked.collect();
    }

    /// What was decided for the key at this position.
    pub(super) fn note(&self, position: usize, note: Note) {
        if let Some(asked) = self.inner().keys.get_mut(position) {
            (asked.note, asked.written) = (Some(note), false);
        }
    }

    /// What was decided of something in the request that leads to no key.
    pub(super) fn note_without_key(&self, note: Note) {
        self.inner().keyless = Some(note);
    }

    /// Writes what was noted, before it is done. Blocks.
    ///
    /// # Errors
    /// When the log cannot be written, or the call took too long and was answered without this: do nothing then.
    pub(super) fn write_ahead(&self, node: &Node) -> Result<(), ApiError> {
        let decisions = self.ahead()?;
        if decisions.is_empty() {
            return Ok(());
        }
        node.audit.append_blocking(decisions).map(drop).map_err(|error| unwritable(&error))
    }

    /// What was noted and not written yet: the caller writes it before it is done.
    ///
    /// # Errors
    /// When the call took too long and was answered without this: do nothing then.
    pub(super) fn ahead(&self) -> Result<Vec<Decision>, ApiError> {
        let mut inner = self.inner();
        if inner.finished {
            return Err(ApiError::new(Word::Timeout, "the call was answered before its work was begun"));
        }
        Ok(inner.noted())
    }

    /// Everything that is not written yet, for a call that ended like this.
    pub(super) fn finish(&self, refused: Option<Word>) -> Vec<Decision> {
        self.inner().finish(refused)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn noted(&mut self) -> Vec<Decision> {
        let mut groups: Vec<(Note, Vec<KeyId>)> = Vec::new();
        for asked in &mut self.keys {
            let Some(note) = asked.note.as_ref().filter(|_| !asked.written) else { continue };
            asked.written = true;
            match groups.iter_mut().find(|(other, keys)| other == note && keys.len() < MAX_BATCH) {
                Some((_, keys)) => keys.push(asked.key),
                None => groups.push((note.clone(), vec![asked.key])),
            }
        }
        groups.into_iter().map(|(note, keys)| self.decision(note, keys)).collect()
    }

    fn finish(&mut self, refused: Option<Word>) -> Vec<Decision> {
        if std::mem::replace(&mut self.finished, true) {
            return Vec::new();
        }
        let of_call = match refused {
            Some(word) => Note::refused(word),
            None => Note::allowed(""),
        };
        let keyless = self.keyless.take().filter(|_| refused.is_none());
        let mut keyless: Vec<Decision> = keyless.map(|note| self.decision(note, Vec::new())).into_iter().collect();
        if self.keys.is_empty() {
            if keyless.is_empty() {
                keyless.push(self.decision(of_call, Vec::new()));
            }
            return keyless;
        }
        for asked in &mut self.keys {
            match (&asked.note, refused) {
                (None, _) => asked.note = Some(of_call.clone()),
                // The work goes on, and what was written ahead of it is done: the caller alone does not learn of it.
                (Some(_), Some(Word::Timeout)) if asked.written => {}
                // What was allowed, and perhaps written ahead, did not happen after all.
                (Some(note), Some(word)) if note.outcome == Outcome::Allowed => {
                    (asked.note, asked.written) =
                        (Some(Note { rule: note.rule.clone(), ..Note::refused(word) }), false);
                }
                (Some(_), _) => {}
            }
        }
        let mut all = self.noted();
        all.extend(keyless);
        all
    }

    fn decision(&self, note: Note, keys: Vec<KeyId>) -> Decision {
        Decision {
            time: self.time,
            request: self.request,
            operation: self.operation.clone(),
            outcome: note.outcome,
            rule: note.rule,
            who: self.who.clone(),
            peer: self.peer,
            keys,
            access_list: note.access_list,
            detail: String::new(),
        }
    }
}

fn outcome(word: Word) -> Outcome {
    let reason = word.as_str().to_owned();
    match word {
        Word::HsmUnavailable
        | Word::Busy
        | Word::Timeout
        | Word::Internal
        | Word::ShareUnreadable
        | Word::AccessListAltered
        | Word::NameAltered
        | Word::EnrolmentAltered
        | Word::AuditUnavailable => Outcome::Failed(reason),
        _ => Outcome::Refused(reason),
    }
}

static NOTHING_RELEASED: Trouble = Trouble::new();

/// The answer when the log cannot be written.
pub(super) fn unwritable(error: &AppendError) -> ApiError {
    if NOTHING_RELEASED.calls() {
        tracing::error!(%error, "the audit log cannot be written, and nothing is released");
    } else {
        tracing::warn!(%error, "the audit log cannot be written, and nothing is released");
    }
    ApiError::new(Word::AuditUnavailable, "this node cannot write its audit log, and releases nothing; use other nodes")
}

#[cfg(test)]
mod tests;
