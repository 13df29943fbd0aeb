//! `POST /v1/register`: everything is verified before anything is stored, and a batch is stored whole or not at all.
//!
//! What must hold: the manifests are for this cluster and name this node; threshold and nodes are those that the signed
//! directory allows; the sealed list opens with the token's transport key *for this caller and these manifests*; each
//! share is the one that its manifest names, by digest and commitments. A node believes nothing else.
//!
//! A key may bring a name, which must be nobody else's here, and below no path that is reserved to others.
//!
//! A registration may come late, from the queue of a client, for keys that other nodes hold already. It then brings the
//! access list that those nodes hold, so that no older, wider one is ever in force here.

use std::collections::HashSet;

use axum::Json;
use eds_core::{
    api::{Binary, KeyResult, KeyState, KeyText, KeysAnswer, RegisterRequest, access, name::KeyName},
    ids::{Epoch, KeyId},
    manifest::Manifest,
    registrant::registration_aad,
    sealing::{self, Info, SealingError, ShareList},
    sharing::{ShareRecord, verify_batch},
};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};

use crate::{
    api::{
        ApiError, Call, Raw, Word,
        access::access_changes,
        check_batch,
        keys::{Found, found},
        parse, resolve,
        trail::{Note, Trail},
    },
    authn::Principal,
    hsm::transport::TransportKey,
    node::{Node, access::SealError},
    policy::{AccessList, wire},
    shares::{Sealed, ShareContext, ToSeal},
    store::{NewKey, Registered, Registration, StoredAccess},
};

pub(super) async fn handler(call: Call, Raw(body): Raw) -> Result<Json<KeysAnswer>, ApiError> {
    call.work(move |node, caller, trail| register(node, caller, trail, &body)).await
}

/// How often the KEK may be rotated during one registration.
const ROTATIONS: usize = 3;

fn register(node: &Node, caller: &Principal, trail: &Trail, body: &[u8]) -> Result<KeysAnswer, ApiError> {
    if !node.policy.may_create(node.policy.caller(&caller.subject, &caller.groups)) {
        tracing::info!("refused");
        let detail = format!("{} may not register keys on this node", caller.subject.display);
        return Err(ApiError::new(Word::NotPermitted, detail));
    }
    let request: RegisterRequest = parse(body)?;
    check_batch(request.manifests.len())?;
    let id = <[u8; 16]>::try_from(request.registration.0.as_slice())
        .map_err(|_| ApiError::new(Word::InvalidValue, "registration: not 16 bytes"))?;
    let manifests = manifests(node, &request)?;
    trail.asks_for(manifests.iter().map(|manifest| manifest.key));
    let digests: Vec<[u8; 32]> = manifests.iter().map(Manifest::digest).collect();
    let registrant = caller.registrant();

    let shares = open(node, &registrant, &digests, &request.sealed.0, "this caller")?;
    let lists = access_lists(caller, &manifests, &request.access)?;
    let names = names(node, caller, &manifests, &request.names)?;
    let content = content(&digests, &names);
    let registration = Registration { registrant, id, content, counter: None, at: node.clock.now() };
    let mut batch = Batch { registration, manifests, encoded: request.manifests, digests, shares, lists, names };
    let (registered, new) = batch.keep(node, trail, "create")?;
    if let Registered::Before(states) = &registered {
        catch_up(node, &request.access, &batch.lists, &new, states)?;
    }
    answer(registered, &batch.manifests)
}

/// Keys whose manifests were checked, and what came with them.
pub(super) struct Batch {
    pub(super) registration: Registration,
    pub(super) manifests: Vec<Manifest>,
    /// The manifests as they came, until they are stored.
    pub(super) encoded: Vec<Binary>,
    pub(super) digests: Vec<[u8; 32]>,
    pub(super) shares: Vec<ShareRecord>,
    pub(super) lists: Vec<(KeyId, AccessList)>,
    /// The name of each key; shorter when the last ones have none.
    pub(super) names: Vec<(KeyId, Option<KeyName>)>,
}

impl Batch {
    /// Checks the shares, writes ahead what is allowed by this rule, and stores all of it or none.
    pub(super) fn keep(
        &mut self,
        node: &Node,
        trail: &Trail,
        rule: &str,
    ) -> Result<(Registered, Vec<NewKey>), ApiError> {
        let encoded = std::mem::take(&mut self.encoded);
        let Self { registration, manifests, digests, shares, lists, names, .. } = &*self;
        check_shares(node, manifests, shares)?;
        let access = seal(node, lists)?;
        let names = node.names.seal(names)?.into_iter().chain(std::iter::repeat(None));
        let checked = manifests.iter().zip(digests).zip(shares);
        let checked: Vec<_> = checked.map(|((manifest, digest), share)| to_seal(manifest, *digest, share)).collect();
        let seal_shares = || node.wrapping.seal(node.id, &checked);
        let vouched = |sealed: &Sealed, position: usize, access: StoredAccess| {
            let list = Sha256::digest(&access.list).into();
            access.vouched(checked.get(position).and_then(|share| sealed.voucher(&share.context, node.id, &list)))
        };
        let mut sealed = seal_shares()?;

        let keys: Vec<KeyId> = manifests.iter().map(|manifest| manifest.key).collect();
        let before = node.store.read(&keys)?;
        for (position, (access, before)) in access.iter().zip(&before).enumerate() {
            // A key that is there keeps its list, whatever is registered again: the log must not tell of another. A pending
            // one of the same registrant may get a later list (`catch_up`), and is told of here though there may be none.
            let sets = before
                .as_ref()
                .is_none_or(|found| found.state == KeyState::Pending && found.registrant == registration.registrant);
            let note = Note::allowed(rule);
            trail.note(position, if sets { note.with_access_list(Sha256::digest(&access.list).into()) } else { note });
        }
        trail.write_ahead(node)?;
        let mut new: Vec<NewKey> = manifests
            .iter()
            .zip(encoded)
            .zip(digests)
            .zip(std::mem::take(&mut sealed.records))
            .zip(access.into_iter().enumerate())
            .zip(names)
            .map(|(((((manifest, encoded), manifest_digest), record), (position, access)), name)| NewKey {
                key: manifest.key,
                epoch: manifest.epoch,
                manifest: encoded.0,
                manifest_digest: *manifest_digest,
                record,
                access: vouched(&sealed, position, access),
                name,
            })
            .collect();
        let mut registered = node.store.register(registration, &new)?;
        for _ in 0..ROTATIONS {
            if registered != Registered::OtherKek {
                break;
            }
            // Officers rotated the KEK since this process looked: the same shares are sealed anew, under the active one.
            node.wrapping.follow()?;
            let mut sealed = seal_shares()?;
            for (position, (new, record)) in new.iter_mut().zip(std::mem::take(&mut sealed.records)).enumerate() {
                (new.record, new.access) = (record, vouched(&sealed, position, new.access.clone()));
            }
            registered = node.store.register(registration, &new)?;
        }
        Ok((registered, new))
    }
}

/// Decodes the manifests and checks each against the directory.
fn manifests(node: &Node, request: &RegisterRequest) -> Result<Vec<Manifest>, ApiError> {
    let mut seen = HashSet::new();
    request
        .manifests
        .iter()
        .enumerate()
        .map(|(position, encoded)| {
            let manifest = Manifest::decode(&encoded.0)
                .map_err(|error| ApiError::new(Word::ManifestRejected, format!("manifest {position}: {error}")))?;
            if !seen.insert(manifest.key) {
                let detail = format!("manifest {position}: key {} is listed twice", manifest.key);
                return Err(ApiError::new(Word::InvalidValue, detail));
            }
            let rejected =
                |(word, reason)| ApiError::new(word, format!("manifest {position}, key {}: {reason}", manifest.key));
            if manifest.origin.is_some() {
                let reason = "comes from a device: a courier delivers it to /v1/device/register";
                return Err(rejected((Word::ManifestRejected, reason.to_owned())));
            }
            check_manifest(node, &manifest).map_err(rejected)?;
            Ok(manifest)
        })
        .collect()
}

/// Checks a manifest against the directory, whoever made it.
pub(super) fn check_manifest(node: &Node, manifest: &Manifest) -> Result<(), (Word, String)> {
    let directory = &node.directory;
    if manifest.cluster != directory.cluster {
        return Err((Word::WrongNode, format!("is for cluster {}, not {}", manifest.cluster, directory.cluster)));
    }
    if manifest.directory_version > directory.version {
        let reason = format!(
            "was made with version {} of the cluster directory; this node has version {}: its officers must update it",
            manifest.directory_version, directory.version
        );
        return Err((Word::DirectoryOutdated, reason));
    }
    if manifest.directory_version == 0 {
        return Err((Word::ManifestRejected, "names no version of the cluster directory".into()));
    }
    if manifest.epoch != Epoch::new(0) {
        return Err((Word::ManifestRejected, "a new key starts with epoch 0".into()));
    }
    if manifest.threshold.needed() < directory.floor {
        let reason = format!("threshold {} is below the cluster's floor {}", manifest.threshold, directory.floor);
        return Err((Word::ManifestRejected, reason));
    }
    if let Some((unknown, _)) = manifest.shares.iter().find(|(number, _)| directory.node(*number).is_none()) {
        return Err((Word::ManifestRejected, format!("node {unknown} is not in the cluster directory")));
    }
    if manifest.share_digest(node.number).is_none() {
        return Err((Word::WrongNode, format!("names no share for this node, which is number {}", node.number)));
    }
    if directory.node(node.number).is_some_and(|entry| !entry.active) {
        return Err((Word::WrongNode, "this node takes no new shares".into()));
    }
    Ok(())
}

/// Opens the sealed list. It opens only for this registrant, named in words for the refusal, and these manifests.
pub(super) fn open(
    node: &Node,
    registrant: &[u8; 32],
    digests: &[[u8; 32]],
    sealed: &[u8],
    whom: &str,
) -> Result<Vec<ShareRecord>, ApiError> {
    let info = Info::share(node.directory.cluster, node.id);
    let aad = registration_aad(digests.iter().copied(), registrant);
    let key = TransportKey::of(node.hsm.as_ref())?;
    let list = sealing::open_vec(&key, &info, &aad, sealed).map_err(|error| match error {
        SealingError::Key(error) => ApiError::from(error),
        _ => ApiError::new(
            Word::ShareRejected,
            format!("the sealed shares do not open for this node, {whom} and these manifests"),
        ),
    })?;
    let list = ShareList::parse(&list)
        .map_err(|error| ApiError::new(Word::ShareRejected, format!("the list of shares: {error}")))?;
    Ok(list.iter().collect())
}

/// Each share must be the one of this node that its manifest names, and fit the commitments.
fn check_shares(node: &Node, manifests: &[Manifest], shares: &[ShareRecord]) -> Result<(), ApiError> {
    if manifests.len() != shares.len() {
        let detail = format!("{} manifests, {} shares", manifests.len(), shares.len());
        return Err(ApiError::new(Word::ShareRejected, detail));
    }
    // The manifest names the shares of all nodes; the number that a record is wrapped under is ours.
    if let Some(foreign) = shares.iter().find(|share| share.index() != node.number) {
        let detail = format!(
            "a share of key {} is of node {}; this node is number {}",
            foreign.key,
            foreign.index(),
            node.number
        );
        return Err(ApiError::new(Word::ShareRejected, detail));
    }
    let pairs: Vec<_> = manifests.iter().zip(shares).collect();
    verify_batch(&pairs, &mut UnwrapErr(SysRng)).map_err(|faults| {
        let named = faults.iter().take(5).filter_map(|fault| {
            let manifest = manifests.get(fault.position)?;
            Some(format!("share {} of key {} {}", fault.position, manifest.key, fault.fault))
        });
        let named: Vec<_> = named.collect();
        let more = if faults.len() > named.len() {
            format!(", and {} more", faults.len() - named.len())
        } else {
            String::new()
        };
        ApiError::new(Word::ShareRejected, format!("{}{more}", named.join(", ")))
    })
}

/// The access lists that the keys come up with: those that came along, else the caller's alone. Who registers a key owns
/// it and could put any list in the place of the first one, so naming it at once gives nobody more rights.
fn access_lists(
    caller: &Principal,
    manifests: &[Manifest],
    given: &[Option<access::AccessList>],
) -> Result<Vec<(KeyId, AccessList)>, ApiError> {
    if !given.is_empty() && given.len() != manifests.len() {
        let detail = format!("{} manifests, {} access lists", manifests.len(), given.len());
        return Err(ApiError::new(Word::InvalidValue, detail));
    }
    let list = |(manifest, given): (&Manifest, Option<&access::AccessList>)| {
        let key = manifest.key;
        let bad = |why: String| ApiError::new(Word::InvalidValue, format!("access list of key {key}: {why}"));
        let list = match given {
            None => AccessList::of_new_key(caller.subject.clone(), caller.groups.first().cloned()),
            Some(given) if given.version > access::MAX_VERSION_STEP => {
                return Err(bad(format!("version {} is not one of a new key", given.version)));
            }
            Some(given) => wire::asked(given).map_err(bad)?,
        };
        Ok((key, list))
    };
    let given = given.iter().map(Option::as_ref).chain(std::iter::repeat(None));
    manifests.iter().zip(given).map(list).collect()
}

/// The names that the keys come with, each once, and each one that the caller may give.
fn names(
    node: &Node,
    caller: &Principal,
    manifests: &[Manifest],
    given: &[Option<String>],
) -> Result<Vec<(KeyId, Option<KeyName>)>, ApiError> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    if given.len() != manifests.len() {
        let detail = format!("{} manifests, {} names", manifests.len(), given.len());
        return Err(ApiError::new(Word::InvalidValue, detail));
    }
    let asker = node.policy.caller(&caller.subject, &caller.groups);
    let mut seen = HashSet::new();
    let name = |(manifest, text): (&Manifest, &Option<String>)| {
        let key = manifest.key;
        let Some(text) = text else { return Ok((key, None)) };
        let name = resolve::parsed(text)?;
        if !node.policy.may_name(asker, &name) {
            tracing::info!(%key, "refused");
            let detail = format!("the name of key {key} is below a path that this node reserves to others");
            return Err(ApiError::new(Word::NotPermitted, detail));
        }
        if !seen.insert(name.clone()) {
            return Err(ApiError::new(Word::InvalidValue, format!("the name of key {key} is given twice")));
        }
        Ok((key, Some(name)))
    };
    manifests.iter().zip(given).map(name).collect()
}

fn seal(node: &Node, lists: &[(KeyId, AccessList)]) -> Result<Vec<StoredAccess>, ApiError> {
    node.access.seal(lists).map_err(|error| match error {
        SealError::Hsm(error) => error.into(),
        SealError::TooLong => {
            ApiError::new(Word::InvalidValue, "an access list, or the caller's name in it, is too long")
        }
    })
}

/// A registration that came before, and comes again with later lists: pending keys take them. What is confirmed is
/// changed by who has the permission, and not here.
fn catch_up(
    node: &Node,
    given: &[Option<access::AccessList>],
    lists: &[(KeyId, AccessList)],
    new: &[NewKey],
    states: &[KeyState],
) -> Result<(), ApiError> {
    let pending = given.iter().zip(lists).zip(new).zip(states);
    let pending: Vec<(&(KeyId, AccessList), &NewKey)> = pending
        .filter(|(((given, _), _), state)| given.is_some() && **state == KeyState::Pending)
        .map(|(((_, list), new), _)| (list, new))
        .collect();
    if pending.is_empty() {
        return Ok(());
    }
    let keys: Vec<KeyId> = pending.iter().map(|((key, _), _)| *key).collect();
    let later = pending.iter().zip(found(node, &keys)?).filter_map(|(((_, list), new), found)| {
        // Where it was altered or deleted meanwhile there is nothing to replace.
        let Found { stored, body, list: old } = found.ok()?;
        (list.version > old.version).then(|| (stored, body, new.access.clone()))
    });
    let later: Vec<_> = later.collect();
    let later: Vec<_> = later.iter().map(|(stored, body, new)| (stored, body, new.clone())).collect();
    if !later.is_empty() {
        node.store.change_access(&access_changes(node, &later)?, node.clock.now())?;
    }
    Ok(())
}

/// A share that was checked against its manifest, as it is stored.
fn to_seal(manifest: &Manifest, digest: [u8; 32], record: &ShareRecord) -> ToSeal {
    let (key, epoch, index) = (manifest.key, manifest.epoch, record.index());
    ToSeal { context: ShareContext { key, epoch, index, manifest: digest }, share: record.share.to_bytes() }
}

/// What makes two registrations the same: their manifests, which hold the digest of every share, and their names.
pub(super) fn content(digests: &[[u8; 32]], names: &[(KeyId, Option<KeyName>)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"eds/v1/registration");
    digests.iter().for_each(|digest| hash.update(digest));
    for (key, name) in names.iter().filter_map(|(key, name)| Some((key, name.as_ref()?))) {
        hash.update(key.as_bytes());
        hash.update([u8::try_from(name.as_str().len()).unwrap_or(u8::MAX)]);
        hash.update(name.as_str());
    }
    hash.finalize().into()
}

pub(super) fn answer(registered: Registered, manifests: &[Manifest]) -> Result<KeysAnswer, ApiError> {
    let states = match registered {
        Registered::Stored => vec![KeyState::Pending; manifests.len()],
        Registered::Before(states) => states,
        Registered::IdTaken => {
            let detail = "the caller used this registration id before, for other keys; choose a new random one";
            return Err(ApiError::new(Word::RegistrationConflict, detail));
        }
        Registered::KeyExists(key) => {
            let detail = format!("key {key} exists already and was not changed; nothing of this call was stored");
            return Err(ApiError::new(Word::KeyExists, detail));
        }
        Registered::CounterUsed(other) => {
            let origin = manifests.first().and_then(|manifest| manifest.origin.as_ref());
            let (device, counter) =
                origin.map(|origin| (origin.device.to_string(), origin.counter)).unwrap_or_default();
            let detail = format!(
                "device {device} used counter {counter} for key {other} before: its counter went back, or another device has \
                 its key; its officers must look at it"
            );
            return Err(ApiError::new(Word::CounterUsed, detail));
        }
        Registered::NameTaken(key) => {
            let detail = format!("the name of key {key} is that of another key; nothing of this call was stored");
            return Err(ApiError::new(Word::NameTaken, detail));
        }
        Registered::OtherKek => {
            return Err(ApiError::new(Word::Busy, "this node's KEK is being changed; nothing was stored, try again"));
        }
        Registered::KeyDeleted(key) => {
            let detail = format!("key {key} was deleted and cannot come back; nothing of this call was stored");
            return Err(ApiError::new(Word::KeyDeleted, detail));
        }
    };
    if let Some((manifest, _)) = manifests.iter().zip(&states).find(|(_, state)| **state == KeyState::Tombstone) {
        let detail = format!("key {} of this registration was deleted meanwhile", manifest.key);
        return Err(ApiError::new(Word::KeyDeleted, detail));
    }
    let results = manifests.iter().zip(states).map(|(manifest, state)| KeyResult {
        key: KeyText(manifest.key),
        state: Some(state),
        problem: None,
    });
    Ok(KeysAnswer { results: results.collect() })
}
