//! `POST /v1/resolve`: the keys of names.
//!
//! Names tell what they should not to strangers. Who may neither read the list nor fetch, change or delete a key gets for
//! its name the answer of a name that nobody registered, and about as fast: what the stored bytes do not even claim to
//! allow is not asked of the token. The audit log holds the ids of keys, and no name.

use axum::Json;
use eds_core::api::{
    Binary, KeyState, KeyText,
    name::{KeyName, ResolveAnswer, ResolveRequest, ResolveResult},
};

use crate::{
    api::{
        ApiError, Call, Raw, Word, check_batch,
        keys::{Allowed, allowed},
        parse,
        trail::{Note, Trail},
    },
    authn::Principal,
    node::Node,
    policy::{Caller, Permission, decide, stored, wire},
    store::{StoredKey, StoredName},
};

/// Who has one of these for a key may know its name: each is needed by a call that names keys.
const ANY_OF: [Permission; 4] = [Permission::List, Permission::Fetch, Permission::Change, Permission::Delete];

pub(super) async fn handler(call: Call, Raw(body): Raw) -> Result<Json<ResolveAnswer>, ApiError> {
    let ResolveRequest { names } = parse(&body)?;
    check_batch(names.len())?;
    let names = names.iter().map(|name| parsed(name)).collect::<Result<Vec<_>, _>>()?;
    call.work(move |node, caller, trail| resolve(node, caller, trail, &names)).await
}

/// The name in a text of a request. What is wrong with it is told without it.
pub(super) fn parsed(text: &str) -> Result<KeyName, ApiError> {
    KeyName::new(text).map_err(|error| ApiError::new(Word::InvalidValue, error.to_string()))
}

/// A name that leads to a key that the stored list lets this caller know of, or seems to.
struct Candidate<'n> {
    position: usize,
    name: &'n KeyName,
    stored: &'n StoredName,
    /// Whether it does, by what the bytes claim: nobody vouched for them yet.
    claims: bool,
}

fn resolve(node: &Node, caller: &Principal, trail: &Trail, names: &[KeyName]) -> Result<ResolveAnswer, ApiError> {
    let asker = node.policy.caller(&caller.subject, &caller.groups);
    let named = node.store.named(names)?;
    let keys: Vec<_> = named.iter().flatten().map(|named| named.key).collect();
    let mut stored = node.store.read(&keys)?.into_iter();
    let mut candidates = Vec::with_capacity(keys.len());
    for (position, (name, named)) in names.iter().zip(&named).enumerate() {
        let Some(named) = named else { continue };
        let claims = stored.next().flatten().is_some_and(|key| may_know(&key, asker, caller));
        candidates.push(Candidate { position, name, stored: named, claims });
    }
    trail.asks_for(candidates.iter().map(|candidate| candidate.stored.key));
    let (known, hidden): (Vec<_>, Vec<_>) = candidates.iter().enumerate().partition(|(_, candidate)| candidate.claims);
    for (position, _) in hidden {
        trail.note(position, Note::refused(Word::NotPermitted));
    }
    let keys: Vec<_> = known.iter().map(|(_, candidate)| candidate.stored.key).collect();
    let decided = if keys.is_empty() { Vec::new() } else { allowed(node, caller, &keys, &ANY_OF)? };
    let rows: Vec<_> = known.iter().map(|(_, candidate)| (candidate.name, candidate.stored)).collect();
    let right = node.names.check(&rows)?;
    let mut results = vec![None; names.len()];
    for (((noted, candidate), decided), right) in known.into_iter().zip(decided).zip(right) {
        let result = answer(candidate, decided, right);
        trail.note(
            noted,
            match &result {
                Ok((_, rule)) => Note::allowed(rule),
                Err(error) => Note::refused(error.word()),
            },
        );
        if let Some(place) = results.get_mut(candidate.position) {
            *place = Some(result.map_or_else(refused, |(result, _)| result));
        }
    }
    if named.iter().any(Option::is_none) {
        trail.note_without_key(Note::refused(Word::NameNotFound));
    }
    let unknown = || refused(ApiError::new(Word::NameNotFound, NOT_KNOWN));
    Ok(ResolveAnswer { results: results.into_iter().map(|result| result.unwrap_or_else(unknown)).collect() })
}

/// Whether the stored list, if it is right, lets the caller know of the key.
fn may_know(key: &StoredKey, asker: Caller<'_>, caller: &Principal) -> bool {
    let Some(body) = &key.body else { return false };
    let foreign = key.state == KeyState::Pending && key.registrant != caller.registrant() && !asker.administrator;
    !foreign
        && stored::decode(&body.access.list)
            .is_ok_and(|list| ANY_OF.iter().any(|permission| decide(&list, asker, *permission).is_some()))
}

/// The answer for one name, and the rule that allows it.
fn answer(
    candidate: &Candidate<'_>,
    decided: Result<Allowed, ApiError>,
    right: bool,
) -> Result<(ResolveResult, String), ApiError> {
    let key = candidate.stored.key;
    let Allowed { stored, body, list, rule } = match decided {
        // It changed since it was looked at: as if it had been so from the beginning.
        Err(error) if error.word() != Word::AccessListAltered => {
            return Err(ApiError::new(Word::NameNotFound, NOT_KNOWN));
        }
        decided => decided?,
    };
    if !right {
        tracing::error!(%key, "the name of the key was altered; it is found for nobody");
        let detail = format!("the name of key {key} was altered; this node's officers must look at its database");
        return Err(ApiError::new(Word::NameAltered, detail));
    }
    let result = ResolveResult {
        key: Some(KeyText(key)),
        state: Some(stored.state),
        manifest: Some(Binary(body.manifest)),
        owner: Some(wire::shown_subject(&list.owner)),
        group: list.group,
        problem: None,
    };
    Ok((result, rule.to_string()))
}

fn refused(error: ApiError) -> ResolveResult {
    ResolveResult { problem: Some(error.problem(None)), ..ResolveResult::default() }
}

const NOT_KNOWN: &str = "nobody registered this name here, or the caller may do nothing with its key";
