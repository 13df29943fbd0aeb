//! Access lists: read, change, list the keys that a caller may list, and explain decisions.
//!
//! A change is compare-and-swap: it names the digest of the list that the caller saw, brings a version that is higher,
//! and is stored only if the list is still that one. Every key of a batch is decided on its own, and a change touches no
//! other key.

use axum::Json;
use eds_core::{
    api::{
        Binary, KeyResult, KeyState, KeyText, KeysAnswer,
        access::{
            AccessAnswer, AccessResult, Change, ChangeRequest, ListAnswer, ListRequest, ListedKey, MAX_VERSION_STEP,
            WhyAnswer, WhyRequest,
        },
    },
    ids::KeyId,
};
use sha2::{Digest, Sha256};

use crate::{
    api::{
        ApiError, Call, Raw, Word, check_batch, check_distinct,
        keys::{Allowed, Found, allowed, found, keys, noted, result_of_allowed},
        parse,
        trail::{Note, Trail},
    },
    authn::Principal,
    node::{Node, access::SealError},
    policy::{AccessList, Caller, Permission, Rule, Subject, decide, explain, stored, wire},
    shares::Unwrapped,
    store::{AccessChange, Listed, StoredAccess, StoredBody, StoredKey},
};

/// How many keys a node looks at for one page of a listing.
const PAGE: usize = 1_000;

/// `POST /v1/access/read`.
pub(super) async fn read(call: Call, Raw(body): Raw) -> Result<Json<AccessAnswer>, ApiError> {
    let keys = keys(&body, &call.trail)?;
    call.work(move |node, caller, trail| access(node, caller, trail, &keys)).await
}

/// `POST /v1/access/change`.
pub(super) async fn change(call: Call, Raw(body): Raw) -> Result<Json<KeysAnswer>, ApiError> {
    let request: ChangeRequest = parse(&body)?;
    check_batch(request.changes.len())?;
    call.trail.asks_for(request.changes.iter().map(|change| change.key.0));
    call.work(move |node, caller, trail| change_lists(node, caller, trail, &request.changes)).await
}

/// `POST /v1/list`.
pub(super) async fn list(call: Call, Raw(body): Raw) -> Result<Json<ListAnswer>, ApiError> {
    let ListRequest { after } = parse(&body)?;
    call.work(move |node, caller, _| page(node, caller, after.map(|key| key.0))).await
}

/// `POST /v1/why`.
pub(super) async fn why(call: Call, Raw(body): Raw) -> Result<Json<WhyAnswer>, ApiError> {
    let request: WhyRequest = parse(&body)?;
    call.trail.asks_for([request.key.0]);
    call.work(move |node, caller, _| explained(node, caller, request)).await
}

fn access(node: &Node, caller: &Principal, trail: &Trail, keys: &[KeyId]) -> Result<AccessAnswer, ApiError> {
    let decided = allowed(node, caller, keys, &[Permission::List])?;
    for (position, decided) in decided.iter().enumerate() {
        trail.note(position, noted(decided));
    }
    let results = keys.iter().zip(decided).map(|(key, decided)| {
        let nothing = AccessResult { key: KeyText(*key), state: None, manifest: None, access: None, problem: None };
        match decided {
            Ok(allowed) => AccessResult {
                state: Some(allowed.stored.state),
                manifest: Some(Binary(allowed.body.manifest)),
                access: Some(wire::shown(&allowed.list)),
                ..nothing
            },
            Err(error) => AccessResult {
                state: (error.word() == Word::KeyDeleted).then_some(KeyState::Tombstone),
                problem: Some(error.problem(None)),
                ..nothing
            },
        }
    });
    Ok(AccessAnswer { results: results.collect() })
}

fn change_lists(node: &Node, caller: &Principal, trail: &Trail, changes: &[Change]) -> Result<KeysAnswer, ApiError> {
    let keys: Vec<KeyId> = changes.iter().map(|change| change.key.0).collect();
    check_distinct(&keys)?;
    let decided = allowed(node, caller, &keys, &[Permission::Change])?;
    let decided: Vec<Result<(Allowed, AccessList), ApiError>> = changes
        .iter()
        .zip(decided)
        .map(|(change, decided)| {
            let allowed = decided?;
            let list = acceptable(caller, &allowed, change)?;
            Ok((allowed, list))
        })
        .collect();
    let lists: Vec<(KeyId, AccessList)> =
        decided.iter().flatten().map(|(allowed, list)| (allowed.stored.key, list.clone())).collect();
    let sealed = node.access.seal(&lists).map_err(|error| match error {
        SealError::Hsm(error) => ApiError::from(error),
        SealError::TooLong => ApiError::internal(),
    })?;
    let mut sealed = sealed.into_iter();
    let mut later = Vec::with_capacity(keys.len());
    for (position, decided) in decided.iter().enumerate() {
        match decided {
            Ok((allowed, _)) => {
                let Some(new) = sealed.next() else {
                    return Err(ApiError::internal());
                };
                let digest = Sha256::digest(&new.list).into();
                trail.note(position, Note::allowed(allowed.rule).with_access_list(digest));
                later.push((&allowed.stored, &allowed.body, new));
            }
            Err(error) => trail.note(position, Note::refused(error.word())),
        }
    }
    let stored = access_changes(node, &later)?;
    trail.write_ahead(node)?;
    let mut changed = node.store.change_access(&stored, node.clock.now())?.into_iter();
    let results = keys.iter().zip(decided).enumerate().map(|(position, (key, decided))| match decided {
        Ok(_) => result_of_allowed(*key, changed.next(), position, trail),
        Err(error) => KeyResult { key: KeyText(*key), state: None, problem: Some(error.problem(None)) },
    });
    Ok(KeysAnswer { results: results.collect() })
}

/// Puts lists with their HMACs in the place of those that were read and checked. The data keys of the shares vouch for
/// them; for a share whose data key does not unwrap, the HMAC alone does.
pub(super) fn access_changes(
    node: &Node,
    later: &[(&StoredKey, &StoredBody, StoredAccess)],
) -> Result<Vec<AccessChange>, ApiError> {
    let records: Vec<_> = later.iter().map(|(stored, body, _)| node.to_open(stored, body)).collect();
    let keys = Unwrapped::of(node.hsm.as_ref(), node.id, &records)?;
    let changes = later.iter().enumerate().map(|(position, (stored, body, new))| AccessChange {
        key: stored.key,
        seen: body.access.clone(),
        new: new.clone().vouched(keys.voucher(position, &Sha256::digest(&new.list).into())),
    });
    Ok(changes.collect())
}

/// The list that is to be stored, if the change may be made by this caller from the list that is there.
fn acceptable(caller: &Principal, allowed: &Allowed, change: &Change) -> Result<AccessList, ApiError> {
    let key = allowed.stored.key;
    let bad = |why: String| ApiError::new(Word::InvalidValue, format!("key {key}: {why}"));
    let current = &allowed.list;
    if wire::shown(current).digest() != *change.seen.0 {
        let detail = format!("the access list of key {key} is not the one that you saw; look at it and try again");
        return Err(ApiError::new(Word::KeyChanged, detail));
    }
    let list = wire::asked(&change.access).map_err(bad)?;
    let rises = list.version.checked_sub(current.version).is_some_and(|step| (1..=MAX_VERSION_STEP).contains(&step));
    if !rises {
        let version = current.version;
        return Err(bad(format!(
            "version {} does not follow {version}: it must rise, by 1 for a change",
            list.version
        )));
    }
    let owner = current.owner.is(&caller.subject);
    if list.owner != current.owner && !owner && allowed.rule != Rule::Administrator {
        let detail = format!("key {key} is given to another owner by its owner or an administrator alone");
        return Err(ApiError::new(Word::NotPermitted, detail));
    }
    stored::encode(&list).map_err(|_| bad("the access list is too long".into()))?;
    Ok(list)
}

fn page(node: &Node, caller: &Principal, after: Option<KeyId>) -> Result<ListAnswer, ApiError> {
    let asker = node.policy.caller(&caller.subject, &caller.groups);
    let seen = node.store.page(after, PAGE)?;
    let next = seen.last().filter(|_| seen.len() == PAGE).map(|last| KeyText(last.key));
    // What the stored bytes do not even claim to allow costs the token nothing.
    let candidates: Vec<(&Listed, &StoredAccess)> = seen
        .iter()
        .filter_map(|listed| Some((listed, listed.access.as_ref()?)))
        .filter(|(listed, access)| {
            stored::decode(&access.list).is_ok_and(|list| may_list(&list, asker, listed, caller))
        })
        .collect();
    let lists: Vec<_> = candidates.iter().map(|(listed, access)| (listed.key, *access)).collect();
    let opened = if lists.is_empty() { Vec::new() } else { node.access.open(&lists)? };
    let mut keys = Vec::new();
    for ((listed, _), list) in candidates.into_iter().zip(opened) {
        match list {
            Ok(list) if may_list(&list, asker, listed, caller) => keys.push(ListedKey {
                key: KeyText(listed.key),
                state: listed.state,
                owner: list.owner.display.clone(),
                group: list.group.clone(),
                permissions: list.base_permissions(),
            }),
            Ok(_) => {}
            Err(altered) => tracing::error!(key = %listed.key, "{altered}; the key is not listed"),
        }
    }
    Ok(ListAnswer { keys, next })
}

fn may_list(list: &AccessList, asker: Caller<'_>, listed: &Listed, caller: &Principal) -> bool {
    let hidden = listed.state == KeyState::Pending && listed.registrant != caller.registrant() && !asker.administrator;
    !hidden && decide(list, asker, Permission::List).is_some()
}

fn explained(node: &Node, caller: &Principal, request: WhyRequest) -> Result<WhyAnswer, ApiError> {
    let key = request.key.0;
    let asker = node.policy.caller(&caller.subject, &caller.groups);
    let (subject, groups) = match request.principal {
        None => (caller.subject.clone(), caller.groups.clone()),
        Some(_) if !asker.administrator => {
            let detail = "only an administrator of this node may ask for somebody else";
            return Err(ApiError::new(Word::NotPermitted, detail));
        }
        Some(asked) => {
            let bad = |why| ApiError::new(Word::InvalidValue, why);
            let groups = asked.groups.iter().map(|group| wire::asked_group(group)).collect::<Result<_, _>>();
            let subject = asked.subject.as_ref().map(wire::asked_subject).transpose().map_err(bad)?;
            (subject.unwrap_or_else(nobody), groups.map_err(bad)?)
        }
    };
    let Some(Found { stored, list, .. }) = found(node, &[key])?.pop().transpose()? else {
        return Err(ApiError::internal());
    };
    Ok(WhyAnswer {
        key: KeyText(key),
        state: stored.state,
        principal: subject.display.clone(),
        version: list.version,
        decisions: explain::explain(&list, node.policy.caller(&subject, &groups)),
        groups,
    })
}

/// Somebody of whom only the groups are known.
fn nobody() -> Subject {
    Subject { kind: String::new(), namespace: Vec::new(), name: Vec::new(), display: "anybody".into() }
}
