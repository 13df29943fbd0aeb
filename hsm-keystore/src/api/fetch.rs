//! `POST /v1/fetch`: shares for whoever may have them, sealed to a one-time key of the caller.
//!
//! Every key of a batch is decided on its own. The answer is bound to the bytes of the request, so that it fits no other
//! question. Shares, and the data keys that open them, are in this process only between token and seal, and are wiped.
//! Calls that wait together go to database and token together; no data key outlasts them.

use std::sync::Arc;

use axum::{Json, body::Bytes};
use eds_core::{
    Opaque,
    api::{Binary, FetchAnswer, FetchRequest, FetchResult, KeyText},
    ids::KeyId,
    sealing::{AwsLcDhKey, Info, PublicKey, encode_share_list, seal_vec, share_list_len},
    sharing::{Share, ShareRecord},
};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::{
    api::{
        ApiError, Call, Raw, Word, check_batch, check_distinct,
        gathering::Gathering,
        keys::{Allowed, decided, found},
        parse,
        trail::{Note, Trail},
    },
    authn::Principal,
    node::Node,
    policy::Permission,
    shares::{self, ShareBytes},
};

pub(super) async fn handler(call: Call, Raw(body): Raw) -> Result<Json<FetchAnswer>, ApiError> {
    let Call { shared, caller, trail } = call;
    let (answer, answered) = oneshot::channel();
    let weight = body.len();
    shared.fetches.ask(&shared.node, Asked { caller, trail, body, answer }, weight);
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

/// Answers calls that came together: the database is read once for all of them, and the token is asked once. Everything
/// else is each call's own: who asks, what is decided, what the audit log says, and to whom shares are sealed.
pub(super) fn fetch_all(node: &Node, asked: Vec<Asked>) {
    let mut calls = Vec::with_capacity(asked.len());
    for asked in asked.into_iter().filter(|asked| !asked.answer.is_closed()) {
        match understood(&asked.body) {
            Ok(request) => {
                asked.trail.asks_for(request.keys.iter().copied());
                calls.push((asked, request));
            }
            Err(error) => asked.answer(Err(error)),
        }
    }
    let keys: Vec<KeyId> = calls.iter().flat_map(|(_, request)| &request.keys).copied().collect();
    let mut found = match found(node, &keys) {
        Ok(found) => found.into_iter(),
        Err(error) => return calls.into_iter().for_each(|(asked, _)| asked.answer(Err(error.clone()))),
    };
    let decisions = calls.iter().map(|(asked, Request { keys, .. })| {
        decided(node, &asked.caller, keys, found.by_ref().take(keys.len()), &[Permission::Fetch])
    });
    let decisions: Vec<Vec<_>> = decisions.collect();
    let allowed = decisions.iter().flatten().flatten();
    let records: Vec<_> = allowed.map(|allowed| node.to_open(&allowed.stored, &allowed.body)).collect();
    let mut opened = match shares::open(node.hsm.as_ref(), node.id, &records) {
        Ok(opened) => opened.into_iter(),
        Err(error) => {
            let error = ApiError::from(error);
            return calls.into_iter().for_each(|(asked, _)| asked.answer(Err(error.clone())));
        }
    };
    for ((asked, request), decided) in calls.into_iter().zip(decisions) {
        let answer = fetch(node, &asked, &request, decided, &mut opened);
        asked.answer(answer);
    }
}

fn understood(body: &[u8]) -> Result<Request, ApiError> {
    let request: FetchRequest = parse(body)?;
    check_batch(request.keys.len())?;
    let reply_key = PublicKey::from_sec1(&request.reply_key.0)
        .ok()
        .filter(|key| key.as_bytes().as_slice() == request.reply_key.0)
        .ok_or_else(|| ApiError::new(Word::InvalidValue, "reply_key: not an uncompressed point of P-256"))?;
    let keys: Vec<KeyId> = request.keys.into_iter().map(|KeyText(key)| key).collect();
    check_distinct(&keys)?;
    Ok(Request { keys, reply_key })
}

/// The answer to one call. Of the shares that were opened, it takes one for each key that is allowed.
fn fetch(
    node: &Node,
    asked: &Asked,
    Request { keys, reply_key }: &Request,
    decided: Vec<Result<Allowed, ApiError>>,
    opened: &mut impl Iterator<Item = Result<ShareBytes, Opaque>>,
) -> Result<FetchAnswer, ApiError> {
    let trail = &asked.trail;
    let mut released = Vec::with_capacity(keys.len());
    let results = keys.iter().zip(decided).enumerate().map(|(position, (key, decided))| {
        let rule = decided.as_ref().map(|allowed| allowed.rule).ok();
        match decided.and_then(|allowed| release(node, allowed, opened.next(), &mut released)) {
            Ok(manifest) => {
                trail.note(position, Note::allowed(rule.map(|rule| rule.to_string()).unwrap_or_default()));
                FetchResult { key: KeyText(*key), manifest: Some(Binary(manifest)), problem: None }
            }
            Err(error) => {
                trail.note(position, Note::refused(error.word()));
                FetchResult { key: KeyText(*key), manifest: None, problem: Some(error.problem(None)) }
            }
        }
    });
    let results = results.collect();
    let sealed = if released.is_empty() { None } else { Some(seal(node, &released, reply_key, &asked.body)?) };
    Ok(FetchAnswer { results, sealed })
}

/// Takes an opened share into the answer and returns its manifest.
fn release(
    node: &Node,
    allowed: Allowed,
    opened: Option<Result<ShareBytes, Opaque>>,
    shares: &mut Vec<ShareRecord>,
) -> Result<Vec<u8>, ApiError> {
    let key = allowed.stored.key;
    let Some(Ok(bytes)) = opened else {
        tracing::error!(%key, "the share does not open: its row was altered, or the token has another KEK");
        let detail = format!("key {key}: this node's officers must look at its database and token; use other nodes");
        return Err(ApiError::new(Word::ShareUnreadable, detail));
    };
    shares.push(ShareRecord { key, epoch: allowed.body.epoch, share: Share::from_bytes(node.number, &bytes) });
    Ok(allowed.body.manifest)
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
