//! What couriers deliver: who may, whose the keys are then, what is the same success, and every way to be refused.

use std::rc::Rc;

use eds_core::{
    api::{Binary, KeyState, KeysAnswer, RegisterRequest, device::DeviceRegisterRequest},
    directory::compressed,
    ids::{ClusterId, DeviceId, KeyId},
    manifest::{Manifest, Point},
    registrant::Registrant,
    sharing::ShareRecord,
};
use p256::ecdsa::SigningKey;

use super::harness::{Answer, Caller, TestNode, each, encoded, people, person};
use crate::{
    audit::{Operation, Outcome},
    policy::{AccessList, Permissions, enrolment::Enrolment},
    store::StoredDevice,
};

/// The number of the node under test.
const HERE: u16 = 2;

/// A device, as it is outside of the node.
struct Device {
    id: DeviceId,
    key: SigningKey,
}

/// What it made, as a courier carries it.
#[derive(Clone)]
struct Frame {
    manifest: Manifest,
    shares: Rc<Vec<ShareRecord>>,
    sealed: Vec<u8>,
}

impl Device {
    fn new(number: u8) -> Self {
        Self {
            id: DeviceId::from_bytes([number; 16]),
            key: SigningKey::from_slice(&[number; 32]).expect("in the field"),
        }
    }

    fn registrant(&self, cluster: &ClusterId) -> [u8; 32] {
        Registrant::device(cluster, &self.id).digest()
    }

    fn makes(&self, node: &TestNode, counter: u64) -> Frame {
        let (manifest, shares) = node.made();
        self.signs(node, manifest, Rc::new(shares), counter)
    }

    fn signs(&self, node: &TestNode, mut manifest: Manifest, shares: Rc<Vec<ShareRecord>>, counter: u64) -> Frame {
        manifest.sign_origin(self.id, counter, &self.key);
        let sealed = node.sealed(&manifest, &shares, HERE, &self.registrant(&node.node.directory.cluster));
        Frame { manifest, shares, sealed }
    }
}

impl Frame {
    fn key(&self) -> KeyId {
        self.manifest.key
    }

    fn request(&self) -> DeviceRegisterRequest {
        DeviceRegisterRequest { manifest: encoded(&self.manifest), sealed: Binary(self.sealed.clone()) }
    }
}

/// The list of the images of every device here.
fn list() -> AccessList {
    let mut list = AccessList::of_new_key(person("owner"), Some("/ward".into()));
    list.group_may = "lg".parse().expect("letters");
    list
}

fn enrolled(device: &Device, revoked: Option<u64>) -> Enrolment {
    let key: Point = compressed(device.key.verifying_key());
    Enrolment { key, name: "CT 3".into(), access: list(), since: 1, revoked }
}

fn enrol(node: &TestNode, device: &Device) {
    let stored = node.node.devices.seal(device.id, &enrolled(device, None)).expect("seals");
    assert!(node.node.store.enroll(&stored, 1).expect("stores"));
}

fn revoke(node: &TestNode, device: &Device) {
    let seen = node.node.store.device(device.id).expect("reads").expect("enrolled");
    let new = node.node.devices.seal(device.id, &enrolled(device, Some(2))).expect("seals");
    assert!(node.node.store.change_device(&seen, &new, 2).expect("changes"));
}

async fn deliver(node: &TestNode, caller: &Caller, request: &DeviceRegisterRequest) -> Answer {
    each(node.post::<KeysAnswer>(caller, "/v1/device/register", request).await).remove(0)
}

async fn state_after(node: &TestNode, caller: &Caller, request: &DeviceRegisterRequest) -> Option<KeyState> {
    node.post::<KeysAnswer>(caller, "/v1/device/register", request).await.expect("taken").results[0].state
}

async fn confirm(node: &TestNode, caller: &Caller, keys: &[KeyId]) -> Vec<Answer> {
    node.keys(caller, "/v1/device/confirm", keys).await
}

fn word(answer: &Answer) -> &str {
    answer.word.as_deref().unwrap_or("allowed")
}

fn state(node: &TestNode, key: KeyId) -> Option<KeyState> {
    node.node.store.read(&[key]).expect("reads").remove(0).map(|stored| stored.state)
}

#[tokio::test]
async fn couriers_and_administrators_deliver_and_confirm_and_nobody_else() {
    let (callers, device) = (people(), Device::new(7));
    // By hand; the others of the harness are refused, too.
    for (name, caller) in &callers {
        let node = TestNode::new();
        enrol(&node, &device);
        let frame = device.makes(&node, 1);
        let expected = match *name {
            "courier" | "admin" => "allowed",
            "expired" | "nobody" => "not-authenticated",
            _ => "not-permitted",
        };
        assert_eq!(
            word(&confirm(&node, caller, &[frame.key()]).await[0]),
            match expected {
                "allowed" => "key-not-found",
                other => other,
            }
        );
        let answer = deliver(&node, caller, &frame.request()).await;
        assert_eq!(word(&answer), expected, "{name} delivers");
        assert_eq!(state(&node, frame.key()), (expected == "allowed").then_some(KeyState::Pending), "{name}");
        deliver(&node, &callers["courier"], &frame.request()).await;
        assert_eq!(word(&confirm(&node, caller, &[frame.key()]).await[0]), expected, "{name} confirms");
        let after = if expected == "allowed" { KeyState::Active } else { KeyState::Pending };
        assert_eq!(state(&node, frame.key()), Some(after), "{name}");
    }
}

#[tokio::test]
async fn a_key_is_whose_the_enrolment_says_and_never_the_couriers() {
    let (callers, node, device) = (people(), TestNode::new(), Device::new(7));
    enrol(&node, &device);
    let frame = device.makes(&node, 1);
    let (courier, key) = (&callers["courier"], frame.key());
    assert!(deliver(&node, courier, &frame.request()).await.allowed);
    assert_eq!(node.stored(key), list());
    // Pending is for nobody: the device cannot ask, and the courier must not.
    for name in ["owner", "member", "courier"] {
        let refused = word(&node.fetch(&callers[name], &[key]).await[0]).to_owned();
        assert_eq!(refused, if name == "courier" { "not-permitted" } else { "key-pending" }, "{name}");
    }
    assert!(confirm(&node, courier, &[key]).await[0].allowed);
    for (name, may) in [("owner", true), ("member", true), ("friend", false), ("stranger", false), ("courier", false)] {
        assert_eq!(node.fetch(&callers[name], &[key]).await[0].allowed, may, "{name} fetches");
        assert_eq!(node.information(&callers[name], key).await.allowed, may, "{name} looks");
    }
    // What a courier brought it cannot take away, nor claim.
    for path in ["/v1/withdraw", "/v1/confirm", "/v1/unregister"] {
        assert_eq!(word(&node.keys(courier, path, &[key]).await[0]), "not-permitted", "{path}");
    }
    assert!(!node.change(courier, &[(key, super::harness::next_version)]).await[0].allowed);
    assert_eq!(state(&node, key), Some(KeyState::Active));
}

#[tokio::test]
async fn the_same_bundle_is_the_same_success_by_whatever_courier_and_in_whatever_order() {
    let (callers, node, device) = (people(), TestNode::new(), Device::new(7));
    enrol(&node, &device);
    let frames: Vec<Frame> = [9, 3, u64::MAX, 0, 4].map(|counter| device.makes(&node, counter)).into();
    for frame in &frames {
        assert_eq!(state_after(&node, &callers["courier"], &frame.request()).await, Some(KeyState::Pending));
    }
    for frame in &frames {
        assert_eq!(state_after(&node, &callers["admin"], &frame.request()).await, Some(KeyState::Pending));
        // Sealed anew, it is still the same manifest.
        let again = device.signs(&node, frame.manifest.clone(), frame.shares.clone(), origin_of(frame));
        assert_eq!(state_after(&node, &callers["courier"], &again.request()).await, Some(KeyState::Pending));
    }
    let keys: Vec<KeyId> = frames.iter().map(Frame::key).collect();
    for _ in 0..2 {
        assert!(confirm(&node, &callers["courier"], &keys).await.iter().all(|answer| answer.allowed));
    }
    for frame in &frames {
        assert_eq!(state_after(&node, &callers["courier"], &frame.request()).await, Some(KeyState::Active));
    }
}

fn origin_of(frame: &Frame) -> u64 {
    frame.manifest.origin.as_ref().expect("signed").counter
}

/// A name, what is delivered, and the word of the refusal.
type Refused = (&'static str, DeviceRegisterRequest, &'static str);

/// Every way to alter, swap or make up what a courier carries.
fn altered(node: &TestNode, device: &Device, other: &Device, stranger: &Device) -> Vec<Refused> {
    let cluster = node.node.directory.cluster;
    let (good, twin) = (device.makes(node, 100), device.makes(node, 101));
    let request = good.request();
    let with_manifest = |edit: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.manifest.clone();
        edit(&mut manifest);
        DeviceRegisterRequest { manifest: encoded(&manifest), ..request.clone() }
    };
    let with_sealed = |sealed: Vec<u8>| DeviceRegisterRequest { sealed: Binary(sealed), ..request.clone() };
    let resigned = |edit: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.manifest.clone();
        edit(&mut manifest);
        device.signs(node, manifest, good.shares.clone(), 100).request()
    };
    let flipped = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 1;
        bytes
    };
    let by_owner = node.sealed(&good.manifest, &good.shares, HERE, &person("owner").registrant().digest());
    let by_other = node.sealed(&good.manifest, &good.shares, HERE, &other.registrant(&cluster));
    let for_neighbour = node.sealed(&good.manifest, &good.shares, 3, &device.registrant(&cluster));
    let mut unsigned = good.manifest.clone();
    unsigned.origin = None;
    let end = request.manifest.0.len() - 1;
    let foreign = Manifest { cluster: ClusterId::from_bytes([1; 16]), ..good.manifest.clone() };
    vec![
        ("no manifest", DeviceRegisterRequest { manifest: Binary(vec![1, 2]), ..request.clone() }, "manifest-rejected"),
        ("no device", DeviceRegisterRequest { manifest: encoded(&unsigned), ..request.clone() }, "manifest-rejected"),
        (
            "an altered signature",
            DeviceRegisterRequest { manifest: Binary(flipped(request.manifest.0.clone(), end)), ..request.clone() },
            "manifest-rejected",
        ),
        (
            "another counter",
            with_manifest(&|manifest| manifest.origin.as_mut().expect("signed").counter += 1),
            "manifest-rejected",
        ),
        ("another key", with_manifest(&|manifest| manifest.key = KeyId::from_bytes([9; 16])), "manifest-rejected"),
        ("another digest", with_manifest(&|manifest| manifest.shares[1].1[0] ^= 1), "manifest-rejected"),
        ("another commitment", with_manifest(&|manifest| manifest.commitments.swap(0, 1)), "manifest-rejected"),
        (
            "another device's name",
            with_manifest(&|manifest| manifest.origin.as_mut().expect("signed").device = other.id),
            "manifest-rejected",
        ),
        (
            "another device's signature",
            {
                let key = SigningKey::from_slice(&[99; 32]).expect("in the field");
                Device { id: device.id, key }.makes(node, 102).request()
            },
            "manifest-rejected",
        ),
        ("a device that is not enrolled", stranger.makes(node, 1).request(), "device-unknown"),
        ("another cluster", device.signs(node, foreign, good.shares.clone(), 100).request(), "wrong-node"),
        ("a newer directory", resigned(&|manifest| manifest.directory_version = 6), "directory-outdated"),
        ("a later epoch", resigned(&|manifest| manifest.epoch = eds_core::ids::Epoch::new(1)), "manifest-rejected"),
        (
            "no share for this node",
            {
                let mut manifest = good.manifest.clone();
                manifest.shares[1].0 = super::harness::index(9);
                let mut shares = manifest.shares.clone();
                shares.sort_by_key(|share| share.0);
                manifest.shares = shares;
                device.signs(node, manifest, good.shares.clone(), 100).request()
            },
            "manifest-rejected",
        ),
        ("an altered sealed share", with_sealed(flipped(good.sealed.clone(), 90)), "share-rejected"),
        ("a cut sealed share", with_sealed(good.sealed[..good.sealed.len() - 1].to_vec()), "share-rejected"),
        ("nothing sealed", with_sealed(Vec::new()), "share-rejected"),
        ("the sealed share of another image", with_sealed(twin.sealed.clone()), "share-rejected"),
        ("the sealed share of another node", with_sealed(for_neighbour), "share-rejected"),
        ("sealed by a person", with_sealed(by_owner), "share-rejected"),
        ("sealed by another device", with_sealed(by_other), "share-rejected"),
        (
            "shares that are not those of the manifest",
            device.signs(node, good.manifest.clone(), twin.shares.clone(), 100).request(),
            "share-rejected",
        ),
    ]
}

#[tokio::test]
async fn what_was_altered_swapped_or_made_up_is_refused_by_name_and_leaves_nothing() {
    let (callers, node) = (people(), TestNode::new());
    let [device, other, stranger] = [7, 8, 9].map(Device::new);
    enrol(&node, &device);
    enrol(&node, &other);
    let cases = altered(&node, &device, &other, &stranger);
    for (what, request, expected) in &cases {
        let answer = deliver(&node, &callers["courier"], request).await;
        assert_eq!(word(&answer), *expected, "{what}: {answer:?}");
        if let Ok(manifest) = Manifest::decode(&request.manifest.0) {
            assert_eq!(state(&node, manifest.key), None, "{what} left something");
        }
        let last = node.decisions().pop().expect("logged");
        assert_eq!(last.operation, Operation::DEVICE_REGISTER);
        assert_eq!(last.outcome, Outcome::Refused((*expected).to_owned()), "{what}");
    }
    // None of them used up the counter.
    let frame = device.makes(&node, 100);
    assert!(deliver(&node, &callers["courier"], &frame.request()).await.allowed);
    let last = node.decisions().pop().expect("logged");
    assert_eq!((last.outcome, last.keys), (Outcome::Allowed, vec![frame.key()]));
    assert_eq!(last.rule, format!("courier of device {}", device.id));
    assert!(last.access_list.is_some());
}

#[tokio::test]
async fn a_known_guid_a_used_counter_and_a_deleted_key_refuse_other_bundles() {
    let (callers, node, device) = (people(), TestNode::new(), Device::new(7));
    let courier = &callers["courier"];
    enrol(&node, &device);
    let frame = device.makes(&node, 5);
    assert!(deliver(&node, courier, &frame.request()).await.allowed);
    let mut same_key = device.makes(&node, 6);
    same_key.manifest.key = frame.key();
    // A device that draws one GUID twice: its shares name the key, so they are made for it.
    let shares = same_key.shares.iter().map(|record| {
        let share = eds_core::sharing::Share::from_bytes(record.index(), &record.share.to_bytes());
        ShareRecord { key: frame.key(), epoch: record.epoch, share }
    });
    let shares: Rc<Vec<ShareRecord>> = Rc::new(shares.collect());
    let mut manifest = same_key.manifest.clone();
    for ((_, digest), share) in manifest.shares.iter_mut().zip(shares.iter()) {
        *digest = share.digest();
    }
    let same_key = device.signs(&node, manifest, shares, 6);
    assert_eq!(word(&deliver(&node, courier, &same_key.request()).await), "key-exists");
    let same_counter = device.makes(&node, 5);
    let answer = deliver(&node, courier, &same_counter.request()).await;
    assert_eq!((answer.status, word(&answer)), (409, "counter-used"));
    assert_eq!(state(&node, same_counter.key()), None);

    let twice = confirm(&node, courier, &[frame.key(), frame.key()]).await;
    assert_eq!((twice[0].status, word(&twice[0])), (422, "invalid-value"));
    assert!(confirm(&node, courier, &[frame.key()]).await[0].allowed);
    // Again the same success; the log tells of no access list, since none is set.
    assert!(deliver(&node, courier, &frame.request()).await.allowed);
    let again = node.decisions().pop().expect("logged");
    assert_eq!((again.operation, again.access_list), (Operation::DEVICE_REGISTER, None));
    assert!(node.unregister(&callers["owner"], &[frame.key()]).await[0].allowed);
    for bundle in [&frame, &same_key] {
        assert_eq!(word(&deliver(&node, courier, &bundle.request()).await), "key-deleted");
    }
    assert_eq!(word(&confirm(&node, courier, &[frame.key()]).await[0]), "key-deleted");
    assert_eq!(word(&deliver(&node, courier, &same_counter.request()).await), "counter-used", "a counter came back");
    // The key that was refused for its GUID used no counter up.
    assert!(deliver(&node, courier, &device.makes(&node, 6).request()).await.allowed);
}

#[tokio::test]
async fn of_a_revoked_device_nothing_is_taken_or_confirmed_and_what_was_confirmed_stays() {
    let (callers, node) = (people(), TestNode::new());
    let (device, other) = (Device::new(7), Device::new(8));
    let courier = &callers["courier"];
    enrol(&node, &device);
    enrol(&node, &other);
    let [confirmed, before, after] = [1, 2, 3].map(|counter| device.makes(&node, counter));
    let others = other.makes(&node, 1);
    for frame in [&confirmed, &before, &others] {
        assert!(deliver(&node, courier, &frame.request()).await.allowed);
    }
    assert!(confirm(&node, courier, &[confirmed.key()]).await[0].allowed);
    revoke(&node, &device);
    for frame in [&confirmed, &before, &after] {
        assert_eq!(word(&deliver(&node, courier, &frame.request()).await), "device-revoked");
    }
    assert_eq!((state(&node, before.key()), state(&node, after.key())), (Some(KeyState::Pending), None));

    let (keys, told) = ([before.key(), others.key(), confirmed.key()], node.decisions().len());
    let answers = confirm(&node, courier, &keys).await;
    assert_eq!(answers.iter().map(word).collect::<Vec<_>>(), ["device-revoked", "allowed", "allowed"]);
    assert_eq!(keys.map(|key| state(&node, key)), [KeyState::Pending, KeyState::Active, KeyState::Active].map(Some));
    // Each key stands once in the log, with what was decided for it.
    let entries: Vec<_> = node.decisions().into_iter().skip(told).collect();
    let outcome = |key: KeyId| {
        let of_key: Vec<_> = entries.iter().filter(|entry| entry.keys.contains(&key)).collect();
        assert_eq!(of_key.len(), 1, "{entries:?}");
        of_key[0].outcome.clone()
    };
    assert_eq!(keys.map(outcome), [Outcome::Refused("device-revoked".into()), Outcome::Allowed, Outcome::Allowed]);
    assert!(node.fetch(&callers["owner"], &[confirmed.key()]).await[0].allowed);
    assert_eq!(word(&node.fetch(&callers["owner"], &[before.key()]).await[0]), "key-pending");
    // Administrators clear it away.
    assert!(node.unregister(&callers["admin"], &[before.key()]).await[0].allowed);
}

#[tokio::test]
async fn an_enrolment_that_was_altered_in_the_database_counts_for_nothing() {
    let (callers, device, other) = (people(), Device::new(7), Device::new(8));
    type Edit = fn(&mut StoredDevice, &StoredDevice);
    let edits: [(&str, Edit); 4] = [
        ("another owner", |stored, _| {
            let mut enrolment = Enrolment::decode(&stored.enrolment).expect("reads");
            enrolment.access.others_may = Permissions::from_bits(255);
            stored.enrolment = enrolment.encode().expect("fits");
        }),
        ("another device's enrolment", |stored, other| {
            (stored.enrolment, stored.mac) = (other.enrolment.clone(), other.mac.clone());
        }),
        ("no HMAC", |stored, _| stored.mac.clear()),
        ("another HMAC", |stored, _| stored.mac[0] ^= 1),
    ];
    for (what, edit) in edits {
        let node = TestNode::new();
        enrol(&node, &device);
        enrol(&node, &other);
        let earlier = device.makes(&node, 7);
        assert!(deliver(&node, &callers["courier"], &earlier.request()).await.allowed);
        let read = |id| node.node.store.device(id).expect("reads").expect("enrolled");
        let (seen, others) = (read(device.id), read(other.id));
        let mut new = seen.clone();
        edit(&mut new, &others);
        assert!(node.node.store.change_device(&seen, &new, 3).expect("changes"));
        let frame = device.makes(&node, 1);
        let answer = deliver(&node, &callers["courier"], &frame.request()).await;
        assert_eq!((answer.status, word(&answer)), (500, "enrolment-altered"), "{what}");
        assert_eq!(state(&node, frame.key()), None, "{what}");
        assert_eq!(node.decisions().pop().expect("logged").outcome, Outcome::Failed("enrolment-altered".into()));
        assert_eq!(
            word(&confirm(&node, &callers["courier"], &[earlier.key()]).await[0]),
            "enrolment-altered",
            "{what}"
        );
        assert_eq!(state(&node, earlier.key()), Some(KeyState::Pending), "{what}");
    }
}

#[tokio::test]
async fn couriers_confirm_keys_of_devices_alone_each_on_its_own() {
    let (callers, node) = (people(), TestNode::new());
    let courier = &callers["courier"];
    let (one, two) = (Device::new(7), Device::new(8));
    enrol(&node, &one);
    enrol(&node, &two);
    let persons = node.store(&list(), true);
    let (first, second) = (one.makes(&node, 1), two.makes(&node, 1));
    for frame in [&first, &second] {
        assert!(deliver(&node, courier, &frame.request()).await.allowed);
    }
    let keys = [first.key(), persons, KeyId::from_bytes([9; 16]), second.key()];
    let words: Vec<String> =
        confirm(&node, courier, &keys).await.iter().map(|answer| word(answer).to_owned()).collect();
    assert_eq!(words, ["allowed", "not-permitted", "key-not-found", "allowed"]);
    assert_eq!(state(&node, persons), Some(KeyState::Pending));
    let last = node.decisions();
    assert!(last.iter().any(|entry| entry.operation == Operation::DEVICE_CONFIRM && entry.rule == "courier"));
}

#[tokio::test]
async fn what_a_device_made_is_not_registered_by_a_person() {
    let (callers, node, device) = (people(), TestNode::new(), Device::new(7));
    enrol(&node, &device);
    let frame = device.makes(&node, 1);
    let request = RegisterRequest {
        registration: Binary(vec![1; 16]),
        manifests: vec![encoded(&frame.manifest)],
        sealed: Binary(frame.sealed.clone()),
        access: Vec::new(),
        names: Vec::new(),
    };
    for name in ["courier", "admin", "owner"] {
        let refused = each(node.post::<KeysAnswer>(&callers[name], "/v1/register", &request).await).remove(0);
        assert_eq!(word(&refused), "manifest-rejected", "{name}");
    }
    assert_eq!(state(&node, frame.key()), None);
}
