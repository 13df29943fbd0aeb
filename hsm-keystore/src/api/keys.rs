//! The life of registered keys: confirm, withdraw, unregister, and what is known of a key.

use axum::Json;
use eds_core::{
    api::{Binary, KeyInfo, KeyResult, KeyState, KeyText, KeysAnswer, KeysRequest},
    ids::KeyId,
};

use crate::{
    api::{
        ApiError, Call, Raw, Segments, Word, check_batch, check_distinct, parse,
        trail::{Note, Trail},
    },
    authn::Principal,
    node::Node,
    policy::{AccessList, Permission, Rule, decide},
    store::{Changed, RegistrantDigest, ShareStore, StoredAccess, StoredBody, StoredKey, life::may_move},
};

/// `POST /v1/confirm`.
pub(super) async fn confirm(call: Call, Raw(body): Raw) -> Result<Json<KeysAnswer>, ApiError> {
    by_registrant(call, &body, KeyState::Active, |store, keys, by, at| store.confirm(keys, by, at)).await
}

/// `POST /v1/withdraw`.
pub(super) async fn withdraw(call: Call, Raw(body): Raw) -> Result<Json<KeysAnswer>, ApiError> {
    by_registrant(call, &body, KeyState::Tombstone, |store, keys, by, at| store.withdraw(keys, by, at)).await
}

/// What only the registrant of keys may do; the store decides with it.
type RegistrantsChange =
    fn(&dyn ShareStore, &[KeyId], &RegistrantDigest, u64) -> Result<Vec<Changed>, crate::store::StoreError>;

async fn by_registrant(
    call: Call,
    body: &[u8],
    to: KeyState,
    change: RegistrantsChange,
) -> Result<Json<KeysAnswer>, ApiError> {
    let keys = keys(body, &call.trail)?;
    call.work(move |node, caller, trail| {
        let by = caller.registrant();
        let stored = node.store.read(&keys)?;
        let foreseen: Vec<Changed> = stored.iter().map(|found| foreseen(found.as_ref(), &by, to)).collect();
        note_foreseen(trail, &foreseen, REGISTRANT);
        trail.write_ahead(node)?;
        let changed = change(node.store.as_ref(), &keys, &by, node.clock.now())?;
        Ok(answer(&keys, changed, &foreseen, trail, REGISTRANT))
    })
    .await
}

/// The rule by which a registrant acts.
const REGISTRANT: &str = "registrant";

/// What the store will decide, if nobody else changes the key meanwhile.
pub(super) fn foreseen(found: Option<&StoredKey>, by: &RegistrantDigest, to: KeyState) -> Changed {
    match may_move(found.map(|stored| (stored.state, stored.registrant)), by, to) {
        Ok(()) => Changed::Done(to),
        Err(answer) => answer,
    }
}

/// Notes what the store will decide, to be written ahead: nothing is changed of which the log does not know.
pub(super) fn note_foreseen(trail: &Trail, foreseen: &[Changed], rule: &str) {
    for (position, changed) in foreseen.iter().enumerate() {
        trail.note(position, told(*changed, rule));
    }
}

fn told(changed: Changed, rule: &str) -> Note {
    problem(changed).map_or_else(|| Note::allowed(rule), |(word, _)| Note::refused(word))
}

/// `POST /v1/unregister`.
pub(super) async fn unregister(call: Call, Raw(body): Raw) -> Result<Json<KeysAnswer>, ApiError> {
    let keys = keys(&body, &call.trail)?;
    call.work(move |node, caller, trail| delete(node, caller, trail, &keys)).await
}

/// `GET /v1/keys/{id}`.
pub(super) async fn information(call: Call, Segments(id): Segments<String>) -> Result<Json<KeyInfo>, ApiError> {
    let key: KeyId = id.parse().map_err(|_| {
        ApiError::new(Word::BadRequest, "the path ends in something that is no key id; write it as `eds key` shows it")
    })?;
    call.trail.asks_for([key]);
    call.work(move |node, caller, trail| describe(node, caller, trail, key)).await
}

/// A key that exists, with its access list, before any decision.
pub(super) struct Found {
    pub(super) stored: StoredKey,
    pub(super) body: StoredBody,
    pub(super) list: AccessList,
}

/// A key that may be acted on, and the rule that says so.
pub(super) struct Allowed {
    pub(super) stored: StoredKey,
    pub(super) body: StoredBody,
    pub(super) list: AccessList,
    pub(super) rule: Rule,
}

/// Reads keys and checks their access lists: the same path for every call.
///
/// # Errors
/// For the whole batch when store or token fail; else each key has its own error.
pub(super) fn found(node: &Node, keys: &[KeyId]) -> Result<Vec<Result<Found, ApiError>>, ApiError> {
    Ok(checked(node, keys, rows(node, keys)?)?.collect())
}

/// What is stored of a key, if it can be read.
pub(super) type Row = Result<Option<StoredKey>, ApiError>;

/// Reads keys. A row that cannot be read fails its own key: others may have been asked for by somebody else.
///
/// # Errors
/// When nothing can be read.
pub(super) fn rows(node: &Node, keys: &[KeyId]) -> Result<Vec<Row>, ApiError> {
    let failed = match node.store.read(keys) {
        Ok(rows) => return Ok(rows.into_iter().map(Ok).collect()),
        Err(failed) if keys.len() == 1 || failed.may_pass() => return Err(failed.into()),
        Err(failed) => failed,
    };
    let read_one = |key: &KeyId| match node.store.read(&[*key]) {
        Ok(mut rows) => Ok(rows.pop().flatten()),
        Err(error) => {
            tracing::error!(%key, "what is stored of the key cannot be read");
            Err(ApiError::from(error))
        }
    };
    let rows: Vec<Row> = keys.iter().map(read_one).collect();
    if rows.iter().all(Result::is_err) { Err(failed.into()) } else { Ok(rows) }
}

/// Checks the access lists of keys that were read. What is wrong with one is logged when it is taken, so that it is logged for
/// the request that takes it.
///
/// # Errors
/// When the token fails; else each key has its own error.
pub(super) fn checked<'a>(
    node: &Node,
    keys: &'a [KeyId],
    rows: Vec<Row>,
) -> Result<impl Iterator<Item = Result<Found, ApiError>> + use<'a>, ApiError> {
    let stored = rows.iter().flatten().flatten();
    let lists: Vec<_> = stored.filter_map(|key| Some((key.key, &key.body.as_ref()?.access))).collect();
    let mut lists = node.access.open(&lists)?.into_iter();
    let find_one = move |(key, row): (&KeyId, Row)| {
        let Some(mut stored) = row? else {
            return Err(ApiError::new(Word::KeyNotFound, format!("key {key} is not on this node; ask other nodes")));
        };
        let Some(body) = stored.body.take() else {
            return Err(ApiError::new(Word::KeyDeleted, format!("key {key} was deleted and cannot come back")));
        };
        match lists.next() {
            Some(Ok(list)) => Ok(Found { stored, body, list }),
            Some(Err(altered)) => {
                tracing::error!(%key, "{altered}; the key is released to nobody");
                let detail = format!("key {key}: {altered}; this node's officers must look at its database");
                Err(ApiError::new(Word::AccessListAltered, detail))
            }
            None => Err(ApiError::internal()),
        }
    };
    Ok(keys.iter().zip(rows).map(find_one))
}

/// Finds keys and decides for each one whether the caller has any of the permissions.
///
/// # Errors
/// As [`found`].
pub(super) fn allowed(
    node: &Node,
    caller: &Principal,
    keys: &[KeyId],
    any_of: &[Permission],
) -> Result<Vec<Result<Allowed, ApiError>>, ApiError> {
    let found = found(node, keys)?;
    Ok(keys.iter().zip(found).map(|(key, found)| decided(node, caller, *key, found, any_of)).collect())
}

/// Decides for a key that was looked for whether the caller has any of the permissions.
///
/// # Errors
/// Why not.
pub(super) fn decided(
    node: &Node,
    caller: &Principal,
    key: KeyId,
    found: Result<Found, ApiError>,
    any_of: &[Permission],
) -> Result<Allowed, ApiError> {
    let asker = node.policy.caller(&caller.subject, &caller.groups);
    let Found { stored, body, list } = found?;
    let permitted = any_of.iter().find_map(|permission| Some((*permission, decide(&list, asker, *permission)?)));
    let Some((permission, rule)) = permitted else {
        tracing::info!(%key, "refused");
        let detail = format!("{} lacks the permission for key {key}", caller.subject.display);
        return Err(ApiError::new(Word::NotPermitted, detail));
    };
    tracing::debug!(%key, %rule, "allowed");
    // An administrator can clear away what a registrant left behind, but not use it.
    let clears = rule == Rule::Administrator && matches!(permission, Permission::List | Permission::Delete);
    if stored.state == KeyState::Pending && stored.registrant != caller.registrant() && !clears {
        let detail = format!("key {key} is for its registrant alone until all nodes have confirmed it");
        return Err(ApiError::new(Word::KeyPending, detail));
    }
    Ok(Allowed { stored, body, list, rule })
}

fn delete(node: &Node, caller: &Principal, trail: &Trail, keys: &[KeyId]) -> Result<KeysAnswer, ApiError> {
    let decided = allowed(node, caller, keys, &[Permission::Delete])?;
    let seen: Vec<(KeyId, StoredAccess)> =
        decided.iter().flatten().map(|allowed| (allowed.stored.key, allowed.body.access.clone())).collect();
    for (position, decided) in decided.iter().enumerate() {
        trail.note(position, noted(decided));
    }
    trail.write_ahead(node)?;
    let mut changed = node.store.delete(&seen, node.clock.now())?.into_iter();
    let results = keys.iter().zip(decided).enumerate().map(|(position, (key, decided))| match decided {
        Ok(_) => result_of_allowed(*key, changed.next(), position, trail),
        Err(error) => KeyResult {
            key: KeyText(*key),
            state: (error.word() == Word::KeyDeleted).then_some(KeyState::Tombstone),
            problem: Some(error.problem(None)),
        },
    });
    Ok(KeysAnswer { results: results.collect() })
}

/// What the log says of a decision.
pub(super) fn noted(decided: &Result<Allowed, ApiError>) -> Note {
    match decided {
        Ok(allowed) => Note::allowed(allowed.rule),
        Err(error) => Note::refused(error.word()),
    }
}

fn describe(node: &Node, caller: &Principal, trail: &Trail, key: KeyId) -> Result<KeyInfo, ApiError> {
    let nothing =
        |state| KeyInfo { key: KeyText(key), state, epoch: None, manifest: None, owner: None, permissions: None };
    let mut decided = allowed(node, caller, &[key], &[Permission::List, Permission::Fetch])?;
    if let Some(decided) = decided.first() {
        trail.note(0, noted(decided));
    }
    match decided.pop() {
        Some(Ok(Allowed { stored, body, list, .. })) => Ok(KeyInfo {
            epoch: Some(body.epoch),
            manifest: Some(Binary(body.manifest)),
            owner: Some(list.owner.display.clone()),
            permissions: Some(list.base_permissions()),
            ..nothing(stored.state)
        }),
        Some(Err(error)) if error.word() == Word::KeyDeleted => Ok(nothing(KeyState::Tombstone)),
        Some(Err(error)) => Err(error),
        None => Err(ApiError::internal()),
    }
}

pub(super) fn keys(body: &[u8], trail: &Trail) -> Result<Vec<KeyId>, ApiError> {
    let request: KeysRequest = parse(body)?;
    named(request.keys, trail)
}

/// The keys that a body names, each once. The log learns of them also when they are refused.
pub(super) fn named(keys: Vec<KeyText>, trail: &Trail) -> Result<Vec<KeyId>, ApiError> {
    check_batch(keys.len())?;
    let keys: Vec<KeyId> = keys.into_iter().map(|KeyText(key)| key).collect();
    trail.asks_for(keys.iter().copied());
    check_distinct(&keys)?;
    Ok(keys)
}

/// The answer to what only the registrant may do, or a courier for the device that is the registrant.
pub(super) fn answer(
    keys: &[KeyId],
    changed: Vec<Changed>,
    foreseen: &[Changed],
    trail: &Trail,
    rule: &str,
) -> KeysAnswer {
    let results = keys.iter().zip(changed).enumerate().map(|(position, (key, changed))| {
        if foreseen.get(position) != Some(&changed) {
            trail.note(position, told(changed, rule));
        }
        result(*key, changed).0
    });
    KeysAnswer { results: results.collect() }
}

/// What came of a change that was allowed; the log learns when it was not made all the same.
pub(super) fn result_of_allowed(key: KeyId, changed: Option<Changed>, position: usize, trail: &Trail) -> KeyResult {
    let (result, word) = result(key, changed.unwrap_or(Changed::Stale));
    if let Some(word) = word {
        trail.note(position, Note::refused(word));
    }
    result
}

fn result(key: KeyId, changed: Changed) -> (KeyResult, Option<Word>) {
    let state = match changed {
        Changed::Done(state) | Changed::Refused(state) => Some(state),
        _ => None,
    };
    let problem = problem(changed);
    let word = problem.map(|(word, _)| word);
    let problem = problem.map(|(word, why)| ApiError::new(word, format!("key {key} {why}")).problem(None));
    (KeyResult { key: KeyText(key), state, problem }, word)
}

/// Why a change was not made.
fn problem(changed: Changed) -> Option<(Word, &'static str)> {
    match changed {
        Changed::Done(_) => None,
        Changed::Missing => Some((Word::KeyNotFound, "is not on this node")),
        Changed::NotRegistrant => Some((Word::NotPermitted, "was registered by somebody else")),
        Changed::Refused(KeyState::Tombstone) => Some((Word::KeyDeleted, "was deleted and cannot come back")),
        Changed::Refused(_) => Some((Word::KeyActive, "is confirmed; unregister it instead")),
        Changed::Stale | Changed::OtherKek => Some((Word::KeyChanged, "changed meanwhile; look at it and try again")),
    }
}
