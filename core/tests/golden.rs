//! The golden files of sharing, sealing and the directory: each is read, means what the specification says, and is
//! written again with the same bytes. `golden/sharing-v1.py` made them without code of EDS; they are kept for ever.
#![cfg(feature = "std")]

use eds_core::{
    directory::{self, Directory},
    ids::{ClusterId, DeviceId, Epoch, KeyId, NodeId, ShareIndex, Threshold},
    manifest::{self, Manifest},
    registrant::{Registrant, registration_aad},
    sealing::{DhKey, Info, PublicKey, SealedMessage, ShareList, SoftDhKey, encode_share_list, open_vec, seal_vec},
    sharing::{ShareRecord, check_commitments, combine, verify, verify_batch},
};
use p256::{
    Scalar,
    ecdsa::SigningKey,
    elliptic_curve::group::ff::{FromUniformBytes, PrimeField},
};
use rand_core::UnwrapErr;
use sha2::{Digest, Sha512};

const MANIFEST: &[u8] = include_bytes!("golden/manifest-v1.bin");
const DEVICE_MANIFEST: &[u8] = include_bytes!("golden/manifest-device-v1.bin");
const SHARE_LIST: &[u8] = include_bytes!("golden/share-list-v1.bin");
const SEALED: &[u8] = include_bytes!("golden/sealed-message-v1.bin");
const DIRECTORY: &[u8] = include_bytes!("golden/directory-v1.edd");

/// SHA-512 of a label, reduced: the secrets of the golden files.
fn secret(label: &str) -> [u8; 32] {
    Scalar::from_uniform_bytes(&Sha512::digest(label).into()).to_repr().into()
}

fn signing_key(label: &str) -> SigningKey {
    SigningKey::from_slice(&secret(label)).expect("in the field")
}

fn dh_key(label: &str) -> SoftDhKey {
    SoftDhKey::from_bytes(&secret(label)).expect("in the field")
}

fn index(number: u16) -> ShareIndex {
    ShareIndex::new(number).expect("not zero")
}

fn records() -> Vec<ShareRecord> {
    ShareList::parse(SHARE_LIST).expect("well formed").iter().collect()
}

#[test]
fn the_manifest_is_read_and_written_alike() {
    for (bytes, device) in [(MANIFEST, false), (DEVICE_MANIFEST, true)] {
        let manifest = Manifest::decode(bytes).expect("well formed");
        assert_eq!(manifest.key, KeyId::from_bytes([0x11; 16]));
        assert_eq!(manifest.cluster, ClusterId::from_bytes([0x22; 16]));
        assert_eq!(manifest.directory_version, 7);
        assert_eq!(manifest.epoch, Epoch::new(300));
        assert_eq!(manifest.threshold, Threshold::new(2, 3).expect("in range"));
        let numbers: Vec<_> = manifest.shares.iter().map(|(number, _)| number.value()).collect();
        assert_eq!(numbers, [1, 2, 1000]);
        assert_eq!(manifest.origin.is_some(), device);
        assert_eq!(manifest.encode(&mut [0; manifest::MAX_BYTES]), Ok(bytes));
    }
    let anchors = [MANIFEST, DEVICE_MANIFEST].map(|bytes| Manifest::decode(bytes).expect("well formed").anchor());
    assert_eq!(anchors[0], anchors[1], "the anchor does not depend on who registered");
}

#[test]
fn the_device_signed_its_manifest() {
    let key = signing_key("golden device");
    let manifest = Manifest::decode(DEVICE_MANIFEST).expect("well formed");
    assert_eq!(manifest.verify_origin(&directory::compressed(key.verifying_key())), Ok(5));
    // Signatures are deterministic (RFC 6979): signing again gives the same bytes.
    let mut again = Manifest::decode(MANIFEST).expect("well formed");
    again.sign_origin(DeviceId::from_bytes([0x44; 16]), 5, &key);
    assert_eq!(again, manifest);
}

#[test]
fn the_shares_fit_the_manifest_and_open_the_secret() {
    let manifest = Manifest::decode(MANIFEST).expect("well formed");
    let all = records();
    for record in &all {
        assert_eq!(verify(&manifest, record), Ok(()));
        assert_eq!(check_commitments(&manifest, record), Ok(()));
    }
    let pairs: Vec<_> = all.iter().map(|record| (&manifest, record)).collect();
    assert_eq!(verify_batch(&pairs, &mut UnwrapErr(getrandom::SysRng)), Ok(()));
    for left_out in 0..3 {
        let mut chosen = records();
        chosen.remove(left_out);
        let combined = combine(&manifest, &chosen).expect("two are enough");
        assert_eq!(*combined.to_bytes(), secret("golden secret"), "without the {left_out}th");
    }
}

#[test]
fn the_share_list_is_read_and_written_alike() {
    let mut buffer = vec![0; SHARE_LIST.len()];
    assert_eq!(encode_share_list(records().iter(), &mut buffer), Ok(SHARE_LIST));
    assert_eq!(records().iter().map(|record| record.index()).collect::<Vec<_>>(), [1, 2, 1000].map(index));
}

#[test]
fn the_sealed_message_is_opened_and_sealed_alike() {
    let info = Info::share(ClusterId::from_bytes([0x22; 16]), NodeId::from_bytes([0x33; 16]));
    let registrant = Registrant { kind: "x509", namespace: b"golden issuer", subject: b"golden subject" };
    let manifest = Manifest::decode(MANIFEST).expect("well formed");
    let aad = registration_aad([manifest.digest()], &registrant.digest());
    let (node, one_time) = (dh_key("golden node"), dh_key("golden one-time"));
    assert_eq!(SealedMessage::parse(SEALED).expect("well formed").peer(), &one_time.public_key());
    assert_eq!(&open_vec(&node, &info, &aad, SEALED).expect("opens")[..], SHARE_LIST);
    assert_eq!(seal_vec(one_time, &info, &aad, node.public(), SHARE_LIST).expect("seals"), SEALED);
}

#[test]
fn the_directory_is_verified_and_signed_alike() {
    let key = signing_key("golden cluster");
    let cluster_key = directory::compressed(key.verifying_key());
    let directory = Directory::verify(DIRECTORY, &directory::key_fingerprint(&cluster_key)).expect("signed");
    assert_eq!(directory.cluster, ClusterId::from_bytes([0x22; 16]));
    assert_eq!((directory.name.as_str(), directory.version, directory.floor), ("golden ward", 1000, 2));
    let active: Vec<_> = directory.active().map(|node| (node.number, node.url.as_str())).collect();
    let expected = [(index(1), "https://node1.example:7443"), (index(1000), "https://node1000.example:7443")];
    assert_eq!(active, expected);
    let first = directory.node(index(1)).expect("is there");
    assert!(first.audit_key.is_some());
    assert_eq!(PublicKey::try_from(&first.transport_key), Ok(*dh_key("golden node").public()));
    assert_eq!(directory.sign(&key, &mut [0; directory::MAX_BYTES]), Ok(DIRECTORY));
}
