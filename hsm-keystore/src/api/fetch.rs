//! `POST /v1/fetch`: shares for whoever may have them, sealed to a one-time key of the caller.
//!
//! Every key of a batch is decided on its own. The answer is bound to the bytes of the request, so that it fits no other
//! question. Shares, and the data keys that
//! open them, are in this process only between token and seal, and are wiped.

use axum::Json;
use eds_core::{
    Opaque,
    api::{Binary, FetchAnswer, FetchRequest, FetchResult, KeyText},
    ids::KeyId,
    sealing::{AwsLcDhKey, Info, PublicKey, encode_share_list, seal_vec, share_list_len},
    sharing::{Share, ShareRecord},
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    api::{
        ApiError, Call, Raw, Word, check_batch,
        keys::{Allowed, allowed},
        parse,
        trail::{Note, Trail},
    },
    authn::Principal,
    node::Node,
    policy::Permission,
    shares::{self, ShareBytes},
};

pub(super) async fn handler(call: Call, Raw(body): Raw) -> Result<Json<FetchAnswer>, ApiError> {
    call.work(move |node, caller, trail| fetch(node, caller, trail, &body)).await
}

fn fetch(node: &Node, caller: &Principal, trail: &Trail, body: &[u8]) -> Result<FetchAnswer, ApiError> {
    let request: FetchRequest = parse(body)?;
    check_batch(request.keys.len())?;
    let reply_key = PublicKey::from_sec1(&request.reply_key.0)
        .ok()
        .filter(|key| key.as_bytes().as_slice() == request.reply_key.0)
        .ok_or_else(|| ApiError::new(Word::InvalidValue, "reply_key: not an uncompressed point of P-256"))?;
    let keys: Vec<KeyId> = request.keys.into_iter().map(|KeyText(key)| key).collect();

    trail.asks_for(keys.iter().copied());

    let decided = allowed(node, caller, &keys, &[Permission::Fetch])?;
    let records: Vec<_> =
        decided.iter().flatten().map(|allowed| node.to_open(&allowed.stored, &allowed.body)).collect();
    let mut opened = shares::open(node.hsm.as_ref(), node.id, &records)?.into_iter();

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
    let sealed = if released.is_empty() { None } else { Some(seal(node, &released, &reply_key, body)?) };
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
