//! `POST /v1/fetch`: shares for whoever may have them, sealed to a one-time key of the caller.
//!
//! Every key of a batch is decided on its own ([`super::release`]). The answer is bound to the bytes of the request, so that it fits no other
//! question. Shares, and the data keys that open them, are in this process only between token and seal, and are wiped.
//! Calls that wait together go to database, token and audit log together; no data key outlasts them.

use std::sync::Arc;

use axum::{Json, body::Bytes};
use eds_core::{
    api::{Binary, FetchAnswer, FetchRequest, FetchResult, KeyText},
    ids::KeyId,
    sealing::{AwsLcDhKey, Info, PublicKey, encode_share_list, seal_vec, share_list_len},
    sharing::{Share, ShareRecord},
};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tracing::Span;
use zeroize::Zeroizing;

use crate::{
    api::{
        ApiError, Call, Raw, Word,
        gathering::Gathering,
        keys::named,
        parse,
        release::{Outcome, Released, Wanted, release},
        trail::{Note, Trail, unwritable},
    },
    authn::Principal,
    node::Node,
};

pub(super) async fn handler(call: Call, Raw(body): Raw) -> Result<Json<FetchAnswer>, ApiError> {
    let Call { shared, caller, trail } = call;
    let (answer, answered) = oneshot::channel();
    let weight = body.len();
    // What is logged on the thread is of this request.
    let asked = Asked { caller, trail, body, answer, request: Span::current() };
    shared.fetches.ask(&shared.node, asked, weight);
    // A thread that panicked dropped the other end.
    answered.await.unwrap_or_else(|_| Err(ApiError::internal())).map(Json)
}

/// Calls that wait for a thread.
pub(super) type Fetches = Gathering<Node, Asked>;

/// Calls that are done together.
pub(super) fn fetches() -> Fetches {
    Gathering::new(fetch_all)
}

/// A call, and where its answer goes.
pub(super) struct Asked {
    pub(super) caller: Arc<Principal>,
    pub(super) trail: Arc<Trail>,
    pub(super) body: Bytes,
    pub(super) answer: oneshot::Sender<Result<FetchAnswer, ApiError>>,
    pub(super) request: Span,
}

impl Asked {
    fn answer(self, answer: Result<FetchAnswer, ApiError>) {
        // Nobody waits any more when the time of the request is over.
        let _ = self.answer.send(answer);
    }
}

/// What a call asks for.
struct Request {
    keys: Vec<KeyId>,
    reply_key: PublicKey,
}

/// Answers calls that came together: database, token and audit log are each gone to once for all of them. Everything else
/// is each call's own: who asks, what is decided, what the audit log says, and to whom shares are sealed.
pub(super) fn fetch_all(node: &Node, asked: Vec<Asked>) {
    let mut calls = Vec::with_capacity(asked.len());
    for asked in asked.into_iter().filter(|asked| !asked.answer.is_closed()) {
        match understood(&asked) {
            Ok(request) => calls.push((asked, request)),
            Err(error) => asked.answer(Err(error)),
        }
    }
    let wanted = calls.iter().flat_map(|(asked, request)| {
        let wanted = |key: &KeyId| Wanted { caller: &asked.caller, key: *key, request: &asked.request };
        request.keys.iter().map(wanted)
    });
    let mut released = match release(node, &wanted.collect::<Vec<_>>()) {
        Ok(released) => released.into_iter(),
        Err(error) => return calls.into_iter().for_each(|(asked, _)| asked.answer(Err(error.clone()))),
    };
    let (mut decisions, mut answers) = (Vec::new(), Vec::with_capacity(calls.len()));
    for (asked, request) in calls {
        let released = released.by_ref().take(request.keys.len());
        let answer = asked.request.in_scope(|| fetch(node, &asked, &request, released));
        match answer.and_then(|answer| Ok((asked.trail.ahead()?, answer))) {
            Ok((noted, answer)) => {
                decisions.extend(noted);
                answers.push((asked, answer));
            }
            Err(error) => asked.answer(Err(error)),
        }
    }
    if answers.is_empty() {
        return;
    }
    // Before any of them leaves.
    node.audit.append_then(decisions, move |written| {
        let unwritten = written.map_err(|error| unwritable(&error)).err();
        answers.into_iter().for_each(|(asked, answer)| asked.answer(unwritten.clone().map_or(Ok(answer), Err)));
    });
}

fn understood(Asked { body, trail, .. }: &Asked) -> Result<Request, ApiError> {
    let request: FetchRequest = parse(body)?;
    let keys = named(request.keys, trail)?;
    let reply_key = PublicKey::from_sec1(&request.reply_key.0)
        .ok()
        .filter(|key| key.as_bytes().as_slice() == request.reply_key.0)
        .ok_or_else(|| ApiError::new(Word::InvalidValue, "reply_key: not an uncompressed point of P-256"))?;
    Ok(Request { keys, reply_key })
}

/// The answer to one call, of what became of its keys.
fn fetch(
    node: &Node,
    asked: &Asked,
    Request { keys, reply_key }: &Request,
    outcomes: impl Iterator<Item = Outcome>,
) -> Result<FetchAnswer, ApiError> {
    let trail = &asked.trail;
    let mut shares = Vec::with_capacity(keys.len());
    let results = keys.iter().zip(outcomes).enumerate().map(|(position, (key, Outcome { rule, share }))| match share {
        Ok(Released { epoch, share, manifest }) => {
            trail.note(position, Note::allowed(rule.map(|rule| rule.to_string()).unwrap_or_default()));
            shares.push(ShareRecord { key: *key, epoch, share: Share::from_bytes(node.number, &share) });
            FetchResult { key: KeyText(*key), manifest: Some(Binary(manifest)), problem: None }
        }
        Err(error) => {
            trail.note(position, Note::refused(error.word()));
            FetchResult { key: KeyText(*key), manifest: None, problem: Some(error.problem(None)) }
        }
    });
    let results = results.collect();
    let sealed = if shares.is_empty() { None } else { Some(seal(node, &shares, reply_key, &asked.body)?) };
    Ok(FetchAnswer { results, sealed })
}

/// Seals the shares to the caller's key, bound to the request.
fn seal(node: &Node, shares: &[ShareRecord], reply_key: &PublicKey, body: &[u8]) -> Result<Binary, ApiError> {
    let internal = ApiError::internal;
    let mut list = Zeroizing::new(vec![0; share_list_len(shares.len())]);
    encode_share_list(shares.iter(), &mut list).map_err(|_| internal())?;
    let one_time = AwsLcDhKey::generate().map_err(|_| internal())?;
    let info = Info::answer(node.directory.cluster, node.id);
    seal_vec(one_time, &info, &Sha256::digest(body), reply_key, &list).map(Binary).map_err(|_| internal())
}
