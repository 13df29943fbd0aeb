//! What is fuzzed: one plain function for each parser of bytes from outside, and what must hold whatever the bytes are.
//!
//! `tests/fuzz` runs these functions under libFuzzer for hours, and `tests/tests/fuzz_smoke.rs` runs them in the ordinary
//! tests on the golden files and bounded mutations of them. A target panics when a property is broken; refusing the
//! bytes is always right. This file uses only `eds-core` and what it needs to sign, because `tests/fuzz` compiles it
//! without the rest of this crate.

use std::sync::LazyLock;

use eds_core::{
    Error, api,
    cipher::{InputKey, SequentialOpener, geometry, soft::SoftCipher},
    container::{Header, Opening},
    directory::{self, Directory},
    ids::{ClusterId, NodeId},
    link::{self, Begin, Bundle, End, Event, Packet, Reader, Receiver},
    manifest::{self, Manifest, Point},
    sealing::{DhKey, DhSecret, Info, SealedMessage, ShareList, SoftDhKey, encode_share_list},
    sharing::{check_commitments, check_digest},
};
use p256::ecdsa::{SigningKey, signature::Signer};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// One parser and its properties.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of the libFuzzer target.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Bytes to start from that the parser takes.
    pub seeds: &'static [&'static [u8]],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "container_header", run: container_header, seeds: &[CONTAINER] },
    Target { name: "container_open", run: container_open, seeds: &[CONTAINER] },
    Target { name: "manifest", run: manifest, seeds: &[MANIFEST, DEVICE_MANIFEST] },
    Target { name: "sealed_shares", run: sealed_shares, seeds: &[SEALED, SHARE_LIST] },
    Target { name: "directory", run: directory, seeds: &[DIRECTORY] },
    Target { name: "device_link", run: device_link, seeds: &[DEVICE_LINK] },
    Target { name: "api_json", run: api_json, seeds: API_BODIES },
];

/// A header has one encoding, and what is before the ciphertext is found where the header says.
pub fn container_header(bytes: &[u8]) {
    if let Ok((header, preamble)) = Header::decode(bytes) {
        assert!(bytes.starts_with(preamble.as_bytes()), "the preamble is not what the file starts with");
        assert_eq!(header.encode().expect("it was decoded").as_bytes(), preamble.as_bytes());
    }
    if let Ok(opening) = Opening::parse(bytes) {
        assert_eq!(Opening::len_of(bytes), Ok(opening.chunks_offset()));
        assert!(opening.chunks_offset() <= bytes.len());
    }
}

/// With the key of the golden container, only chunks of the golden plaintext ever come out, in their order, and only the
/// whole of it is called whole.
pub fn container_open(bytes: &[u8]) {
    let Ok(opening) = Opening::parse(bytes) else { return };
    let key = InputKey::from_bytes(core::array::from_fn(|n| 0x60 + n as u8));
    let Ok(_) = opening.opener::<SoftCipher>(&key) else { return };
    let golden: Vec<u8> = (0..16_484usize).map(|position| (position * 7 + position / 251) as u8).collect();
    let context = header_context(bytes, &opening);
    let mut opener = SequentialOpener::<SoftCipher>::new(&key, &context, &opening.fingerprint().start).expect("opened");
    let mut released = Vec::new();
    for chunk in bytes[opening.chunks_offset()..].chunks(geometry::SEALED_CHUNK) {
        let mut chunk = chunk.to_vec();
        match opener.open_next(&mut chunk) {
            Ok(plain) => released.extend_from_slice(plain),
            Err(_) => break,
        }
        assert!(golden.starts_with(&released), "something came out that was never put in");
    }
    if opener.finish().is_ok() {
        assert_eq!(released, golden, "a part was called whole");
    }
}

/// A manifest has one encoding, and no share that it does not name passes its checks.
pub fn manifest(bytes: &[u8]) {
    let Ok(decoded) = Manifest::decode(bytes) else { return };
    assert_eq!(decoded.encode(&mut [0; manifest::MAX_BYTES]), Ok(bytes));
    assert_eq!(decoded.shares.len(), usize::from(decoded.threshold.nodes()));
    assert_eq!(decoded.commitments.len(), usize::from(decoded.threshold.needed()));
    let golden = Manifest::decode(MANIFEST).expect("the golden manifest");
    for record in ShareList::parse(SHARE_LIST).expect("the golden list").iter() {
        if check_digest(&decoded, &record).is_ok() {
            assert_eq!(decoded.share_digest(record.index()), golden.share_digest(record.index()));
        }
        if decoded.anchor() == golden.anchor() && decoded.commitments != golden.commitments {
            assert!(check_commitments(&decoded, &record).is_err(), "a share fits other commitments");
        }
    }
}

/// What opens with the golden key is what was sealed, and a list has one encoding.
pub fn sealed_shares(bytes: &[u8]) {
    if let Ok(list) = ShareList::parse(bytes) {
        let records: Vec<_> = list.iter().collect();
        assert_eq!(records.len(), list.len());
        assert_eq!(encode_share_list(records.iter(), &mut vec![0; bytes.len()]), Ok(bytes));
    }
    if let Ok(message) = SealedMessage::parse(bytes) {
        // The step that costs most is done once for the encapsulated key of the golden message.
        static GOLDEN_DH: LazyLock<DhSecret> = LazyLock::new(|| {
            let peer = SealedMessage::parse(SEALED).expect("the golden message").peer();
            golden_node().dh(peer).expect("a good point")
        });
        let key = golden_node();
        let golden = SealedMessage::parse(SEALED).expect("the golden message");
        let info = Info::share(ClusterId::from_bytes([0x22; 16]), NodeId::from_bytes([0x33; 16]));
        let mut out = vec![0; message.plaintext_len()];
        let opened = if message.peer() == golden.peer() {
            message.open_with_dh(&GOLDEN_DH, &key.public_key(), &info, &golden_aad(), &mut out)
        } else {
            let dh = key.dh(message.peer()).expect("a good point");
            message.open_with_dh(&dh, &key.public_key(), &info, &golden_aad(), &mut out)
        };
        if let Ok(plaintext) = opened {
            assert_eq!(plaintext, SHARE_LIST, "something else opened");
        }
    }
}

/// Whatever an officer's key signed is read without harm, and what is read can be signed and read again. The last 64
/// bytes are replaced by a true signature, or nothing but the first check would ever be reached.
pub fn directory(bytes: &[u8]) {
    let key = SigningKey::from_slice(&GOLDEN_CLUSTER_KEY).expect("in the field");
    let pin = directory::key_fingerprint(&GOLDEN_CLUSTER_POINT);
    match Directory::verify(bytes, &pin) {
        Ok(read) => {
            let golden = Directory::verify(DIRECTORY, &pin).expect("the golden directory");
            assert_eq!(read, golden, "a directory that nobody signed was believed");
        }
        Err(Error::Rejected) => {
            let Some((signed, _)) = bytes.split_last_chunk::<64>() else { return };
            let digest = Sha256::new().chain_update(b"eds/v1/directory").chain_update(signed).finalize();
            let signature: p256::ecdsa::Signature = key.sign(&digest);
            let file = [signed, &signature.to_bytes()[..]].concat();
            if let Ok(read) = Directory::verify(&file, &pin) {
                let mut buffer = [0; directory::MAX_BYTES];
                let again = read.sign(&key, &mut buffer).expect("it was read");
                assert_eq!(Directory::verify(again, &pin), Ok(read));
            }
        }
        // Refused before the signature was looked at: a true one would change nothing.
        Err(_) => {}
    }
}

/// Whatever a device or a line sends: what is called complete fits its lengths and its digest, a bundle has one encoding, and
/// a packet that is read is written alike.
pub fn device_link(bytes: &[u8]) {
    let (mut reader, mut receiver) = (Reader::new(), Receiver::new());
    let (mut start, mut bundle, mut container) = (Vec::new(), Vec::new(), Vec::new());
    for byte in bytes {
        let Some(Ok(packet)) = reader.push(*byte) else { continue };
        assert!(packet.payload.len() <= link::MAX_PAYLOAD);
        let mut again = [0; link::MAX_PACKET];
        let wire = link::encode(&packet, &mut again).expect("it was read");
        assert_eq!(read_packet(wire), Some((packet.kind, packet.stream, packet.sequence, packet.payload.to_vec())));
        match receiver.take(&packet) {
            Ok((Event::Begun { begin, .. }, _)) => {
                assert_eq!(Begin::from_bytes(&begin.to_bytes()), Ok(begin));
                (start, bundle, container) = (begin.to_bytes().to_vec(), Vec::new(), Vec::new());
            }
            Ok((Event::Bundle(piece), _)) => bundle.extend_from_slice(piece),
            Ok((Event::Container(piece), _)) => container.extend_from_slice(piece),
            Ok((Event::Complete(end), _)) => {
                let digest = [&b"eds/v1/transfer"[..], &start, &bundle, &container].concat();
                let lengths = (bundle.len() as u32, container.len() as u64);
                let expected = End { bundle: lengths.0, container: lengths.1, digest: Sha256::digest(digest).into() };
                assert_eq!(end, expected, "called complete, and is not what was announced");
                assert_eq!(receiver.incomplete(), None);
            }
            _ => {}
        }
    }
    for bytes in [bytes, &bundle] {
        let Ok(parsed) = Bundle::parse(bytes) else { continue };
        let mut again = Vec::new();
        let mut sink = |piece: &[u8]| {
            again.extend_from_slice(piece);
            Ok::<(), Error>(())
        };
        let nodes = parsed.manifest().threshold.nodes();
        let mut writer = link::BundleWriter::begin(nodes, parsed.manifest_bytes(), &mut sink).expect("it was read");
        for (node, sealed) in parsed.shares() {
            writer.share(node, sealed, &mut sink).expect("it was read");
        }
        writer.finish().expect("it was read");
        assert_eq!(again, bytes);
    }
}

fn read_packet(wire: &[u8]) -> Option<(link::Kind, u32, u32, Vec<u8>)> {
    let mut reader = Reader::new();
    let own = |packet: Packet<'_>| (packet.kind, packet.stream, packet.sequence, packet.payload.to_vec());
    wire.iter().find_map(|byte| reader.push(*byte).and_then(Result::ok).map(own))
}

/// Every body of the HTTP API: what is read is written so that it is read alike.
pub fn api_json(bytes: &[u8]) {
    round_trip::<api::RegisterRequest>(bytes);
    round_trip::<api::KeysRequest>(bytes);
    round_trip::<api::KeysAnswer>(bytes);
    round_trip::<api::FetchRequest>(bytes);
    round_trip::<api::FetchAnswer>(bytes);
    round_trip::<api::KeyInfo>(bytes);
    round_trip::<api::NodeInfo>(bytes);
    round_trip::<api::Problem>(bytes);
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug>(bytes: &[u8]) {
    if let Ok(body) = serde_json::from_slice::<T>(bytes) {
        let text = serde_json::to_vec(&body).expect("it was read");
        assert_eq!(serde_json::from_slice::<T>(&text).expect("it was written"), body);
    }
}

fn golden_node() -> &'static SoftDhKey {
    static KEY: LazyLock<SoftDhKey> = LazyLock::new(|| SoftDhKey::from_bytes(&GOLDEN_NODE_KEY).expect("in the field"));
    &KEY
}

fn header_context(bytes: &[u8], opening: &Opening) -> [u8; 32] {
    Sha256::digest(&bytes[..opening.ciphertext_offset()]).into()
}

/// The associated data of the golden message, as `sharing-v1.py` writes it.
fn golden_aad() -> [u8; 64] {
    let registrant =
        eds_core::registrant::Registrant { kind: "x509", namespace: b"golden issuer", subject: b"golden subject" };
    let digest = Manifest::decode(MANIFEST).expect("the golden manifest").digest();
    eds_core::registrant::registration_aad([digest], &registrant.digest())
}

const CONTAINER: &[u8] = include_bytes!("../../core/tests/golden/container-v1.eds");
const MANIFEST: &[u8] = include_bytes!("../../core/tests/golden/manifest-v1.bin");
const DEVICE_MANIFEST: &[u8] = include_bytes!("../../core/tests/golden/manifest-device-v1.bin");
const SHARE_LIST: &[u8] = include_bytes!("../../core/tests/golden/share-list-v1.bin");
const SEALED: &[u8] = include_bytes!("../../core/tests/golden/sealed-message-v1.bin");
const DIRECTORY: &[u8] = include_bytes!("../../core/tests/golden/directory-v1.edd");
const DEVICE_LINK: &[u8] = include_bytes!("../../core/tests/golden/device-link-v1.bin");
const API_BODIES: &[&[u8]] = &[
    include_bytes!("../fuzz/seeds/api_json/register.json"),
    include_bytes!("../fuzz/seeds/api_json/keys.json"),
    include_bytes!("../fuzz/seeds/api_json/keys-answer.json"),
    include_bytes!("../fuzz/seeds/api_json/fetch.json"),
    include_bytes!("../fuzz/seeds/api_json/fetch-answer.json"),
    include_bytes!("../fuzz/seeds/api_json/key-info.json"),
    include_bytes!("../fuzz/seeds/api_json/node-info.json"),
    include_bytes!("../fuzz/seeds/api_json/problem.json"),
];

/// SHA-512("golden node") modulo the order of P-256.
const GOLDEN_NODE_KEY: [u8; 32] = [
    0xfb, 0x4d, 0xd3, 0x78, 0xd5, 0x14, 0x4d, 0xf1, 0xaf, 0x37, 0x47, 0x44, 0xb6, 0x00, 0xaa, 0xf2, //
    0xfa, 0xc6, 0x91, 0x64, 0x7c, 0x46, 0x2f, 0x47, 0x13, 0xa0, 0x00, 0xae, 0xfe, 0x00, 0x69, 0xb4, //
];
/// SHA-512("golden cluster") modulo the order of P-256.
const GOLDEN_CLUSTER_KEY: [u8; 32] = [
    0x4d, 0x52, 0xf6, 0xf1, 0x9a, 0x09, 0x5c, 0x73, 0xd5, 0xbf, 0xd5, 0x43, 0x42, 0x14, 0xeb, 0xba, //
    0x8b, 0x15, 0x93, 0x4f, 0x90, 0x83, 0x7d, 0x3e, 0xc4, 0x0e, 0x71, 0x78, 0x83, 0x35, 0x14, 0x0f, //
];
/// Its public half.
const GOLDEN_CLUSTER_POINT: Point = Point([
    0x03, //
    0xcb, 0x69, 0xea, 0x15, 0x5a, 0x4e, 0x4e, 0x65, 0x4d, 0xe5, 0xe2, 0xc7, 0x2f, 0xe0, 0xa0, 0x6f, //
    0xbf, 0xe3, 0x50, 0x29, 0x51, 0x5a, 0x05, 0xe8, 0x2c, 0x8c, 0x1a, 0xbe, 0xa2, 0x3a, 0x3a, 0x6d, //
]);
