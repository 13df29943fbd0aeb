//! `POST /v1/device/register` and `POST /v1/device/confirm`: what couriers deliver of imaging devices.
//!
//! Nothing is believed of a courier. A share is stored if an enrolled device, not revoked, signed the manifest, and the sealed
//! message was made by that device for this node and this manifest. Owner, group and permissions are those of the enrolment.
//! Couriers can bring keys to the node and confirm them, and can take nothing back: the device has forgotten the key by then.

use std::collections::BTreeMap;

use axum::Json;
use eds_core::{
    api::{KeyState, KeysAnswer, device::DeviceRegisterRequest},
    ids::{DeviceId, KeyId},
    manifest::{Manifest, Origin},
    registrant::Registrant,
};

use crate::{
    api::{
        ApiError, Call, Raw, Word,
        keys::{self, keys},
        parse,
        register::{Batch, answer, check_manifest, content, open},
        trail::{Note, Trail},
    },
    authn::Principal,
    node::Node,
    policy::enrolment::Enrolment,
    store::{Changed, DeviceCounter, RegistrantDigest, Registration, StoredKey},
};

/// `POST /v1/device/register`.
pub(super) async fn register(call: Call, Raw(body): Raw) -> Result<Json<KeysAnswer>, ApiError> {
    call.work(move |node, caller, trail| deliver(node, caller, trail, &body)).await
}

/// `POST /v1/device/confirm`.
pub(super) async fn confirm(call: Call, Raw(body): Raw) -> Result<Json<KeysAnswer>, ApiError> {
    let keys = keys(&body, &call.trail)?;
    call.work(move |node, caller, trail| confirm_all(node, caller, trail, &keys)).await
}

fn deliver(node: &Node, caller: &Principal, trail: &Trail, body: &[u8]) -> Result<KeysAnswer, ApiError> {
    let request: DeviceRegisterRequest = parse(body)?;
    check_courier(node, caller)?;
    let manifest = Manifest::decode(&request.manifest.0)
        .map_err(|error| ApiError::new(Word::ManifestRejected, format!("the manifest: {error}")))?;
    let key = manifest.key;
    trail.asks_for([key]);
    let rejected = |word, reason: String| ApiError::new(word, format!("key {key}: {reason}"));
    let Some(Origin { device, counter, .. }) = manifest.origin else {
        return Err(rejected(Word::ManifestRejected, "the manifest names no device".to_owned()));
    };
    check_manifest(node, &manifest).map_err(|(word, reason)| rejected(word, reason))?;
    let enrolment = enrolled(node, device)?;
    if manifest.verify_origin(&enrolment.key).is_err() {
        let reason = format!("the manifest is not signed by device {device}: it was altered, or is another device's");
        return Err(rejected(Word::ManifestRejected, reason));
    }

    let digests = vec![manifest.digest()];
    let registrant = registrant(node, &device);
    let shares = open(node, &registrant, &digests, &request.sealed.0, &format!("device {device}"))?;
    let content = content(&digests, &[]);
    let registration = Registration {
        registrant,
        // Every courier makes the same id of it: the same manifest is the same registration.
        id: content.first_chunk().copied().unwrap_or_default(),
        content,
        counter: Some(DeviceCounter { device, counter }),
        at: node.clock.now(),
    };
    let lists = vec![(key, enrolment.access)];
    let (manifests, encoded, names) = (vec![manifest], vec![request.manifest], Vec::new());
    let mut batch = Batch { registration, manifests, encoded, digests, shares, lists, names };
    let (registered, _) = batch.keep(node, trail, &rule(device))?;
    answer(registered, &batch.manifests)
}

fn check_courier(node: &Node, caller: &Principal) -> Result<(), ApiError> {
    if node.policy.may_deliver(node.policy.caller(&caller.subject, &caller.groups)) {
        return Ok(());
    }
    tracing::info!("refused");
    let detail = format!("{} may not deliver what devices made on this node", caller.subject.display);
    Err(ApiError::new(Word::NotPermitted, detail))
}

/// The enrolment of a device that may make keys.
fn enrolled(node: &Node, device: DeviceId) -> Result<Enrolment, ApiError> {
    let Some(stored) = node.store.device(device)? else {
        let detail = format!("device {device}: this node's officers enrol it with `eds-keystored device enroll`");
        return Err(ApiError::new(Word::DeviceUnknown, detail));
    };
    match node.devices.open(&stored)? {
        Ok(Enrolment { revoked: Some(_), .. }) => {
            let detail = format!("device {device} was revoked on this node; nothing of it is taken any more");
            Err(ApiError::new(Word::DeviceRevoked, detail))
        }
        Ok(enrolment) => Ok(enrolment),
        Err(altered) => {
            tracing::error!(%device, "{altered}; nothing of the device is taken");
            let detail = format!("device {device}: {altered}; this node's officers must look at its database");
            Err(ApiError::new(Word::EnrolmentAltered, detail))
        }
    }
}

fn registrant(node: &Node, device: &DeviceId) -> RegistrantDigest {
    Registrant::device(&node.directory.cluster, device).digest()
}

/// What the audit log says of a key that is taken.
fn rule(device: DeviceId) -> String {
    format!("courier of device {device}")
}

/// Keys of one device are confirmed together, as their registrant would; of a device that is revoked or whose enrolment
/// counts for nothing, none that is pending.
fn confirm_all(node: &Node, caller: &Principal, trail: &Trail, keys: &[KeyId]) -> Result<KeysAnswer, ApiError> {
    check_courier(node, caller)?;
    let stored = node.store.read(keys)?;
    let mut changed: Vec<Changed> = stored.iter().map(|found| without_device(found.as_ref())).collect();
    let mut of_devices: BTreeMap<DeviceId, Vec<usize>> = BTreeMap::new();
    for (position, found) in stored.iter().enumerate() {
        if let Some((device, registrant)) = found.as_ref().and_then(|found| device_of(node, found)) {
            if let Some(changed) = changed.get_mut(position) {
                *changed = keys::foreseen(found.as_ref(), &registrant, KeyState::Active);
            }
            of_devices.entry(device).or_default().push(position);
        }
    }
    let mut refused: BTreeMap<usize, ApiError> = BTreeMap::new();
    for (device, positions) in &mut of_devices {
        let pending = |position: &usize| is_pending(stored.get(*position).and_then(Option::as_ref));
        if !positions.iter().any(pending) {
            continue;
        }
        match enrolled(node, *device) {
            Ok(_) => {}
            Err(error)
                if matches!(error.word(), Word::DeviceRevoked | Word::DeviceUnknown | Word::EnrolmentAltered) =>
            {
                refused.extend(
                    positions.extract_if(.., |position| pending(position)).map(|position| (position, error.clone())),
                );
            }
            Err(error) => return Err(error),
        }
    }
    let foreseen = changed.clone();
    keys::note_foreseen(trail, &foreseen, COURIER);
    for (position, error) in &refused {
        trail.note(*position, Note::refused(error.word()));
    }
    trail.write_ahead(node)?;
    for (device, positions) in of_devices {
        let registrant = registrant(node, &device);
        let of_device: Vec<KeyId> = positions.iter().filter_map(|position| keys.get(*position).copied()).collect();
        let confirmed = node.store.confirm(&of_device, &registrant, node.clock.now())?;
        for (position, confirmed) in positions.into_iter().zip(confirmed) {
            if let Some(changed) = changed.get_mut(position) {
                *changed = confirmed;
            }
        }
    }
    let mut answer = keys::answer(keys, changed, &foreseen, trail, COURIER);
    for (position, error) in refused {
        if let Some(result) = answer.results.get_mut(position) {
            (result.state, result.problem) = (Some(KeyState::Pending), Some(error.problem(None)));
        }
    }
    Ok(answer)
}

/// The rule by which a courier acts.
const COURIER: &str = "courier";

/// The device that made a key, and the registrant that it is.
fn device_of(node: &Node, stored: &StoredKey) -> Option<(DeviceId, RegistrantDigest)> {
    let device = Manifest::decode(&stored.body.as_ref()?.manifest).ok()?.origin?.device;
    let registrant = registrant(node, &device);
    (registrant == stored.registrant).then_some((device, registrant))
}

fn is_pending(stored: Option<&StoredKey>) -> bool {
    stored.is_some_and(|stored| stored.state == KeyState::Pending)
}

/// What is said of a key that no device made.
fn without_device(stored: Option<&StoredKey>) -> Changed {
    match stored.map(|stored| stored.state) {
        None => Changed::Missing,
        Some(KeyState::Tombstone) => Changed::Refused(KeyState::Tombstone),
        Some(_) => Changed::NotRegistrant,
    }
}
