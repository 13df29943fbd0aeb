//! A scan from the first frame byte to an image that two of three nodes open.

use std::{vec, vec::Vec};

use eds_core::{
    cipher::{SequentialOpener, geometry::SEALED_CHUNK, soft::SoftCipher},
    container::Opening,
    directory::{self, SUITE_P256_AES256GCM},
    sealing::{ShareList, SoftDhKey, open_vec},
    sharing::{combine, verify},
};
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};

use super::*;

struct Cluster {
    directory: Directory,
    keys: Vec<SoftDhKey>,
}

fn index(number: u16) -> ShareIndex {
    ShareIndex::new(number).expect("not zero")
}

/// Nodes 1 to 4; number 2 takes no new shares.
fn cluster() -> Cluster {
    let keys: Vec<_> = (1..=4).map(|_| SoftDhKey::generate(&mut UnwrapErr(getrandom::SysRng))).collect();
    let nodes = (1..=4).zip(&keys).map(|(number, key)| Node {
        number: index(number),
        id: NodeId::from_bytes([number as u8; 16]),
        url: heapless::String::try_from("https://node.example").expect("fits"),
        transport_key: key.public().compressed(),
        audit_key: None,
        suites: Vec::from([SUITE_P256_AES256GCM]).into_iter().collect(),
        active: number != 2,
    });
    let directory = Directory {
        cluster: ClusterId::from_bytes([9; 16]),
        name: heapless::String::try_from("ward").expect("fits"),
        cluster_key: keys[0].public().compressed(),
        version: 4,
        floor: 2,
        nodes: nodes.collect(),
    };
    Cluster { directory, keys }
}

fn device_key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).expect("in the field")
}

#[derive(Default)]
struct Delivered {
    manifest: Vec<u8>,
    sealed: Vec<(NodeId, Vec<u8>)>,
}

fn begin(
    cluster: &Cluster,
    needed: u8,
    out: Vec<u8>,
) -> Result<(Scan<Vec<u8>>, Delivered), ScanError<core::convert::Infallible>> {
    let mut delivered = Delivered::default();
    let mut courier = |delivery: Delivery<'_>| {
        match delivery {
            Delivery::Manifest(bytes) => delivered.manifest = bytes.to_vec(),
            Delivery::Shares { node, sealed } => delivered.sealed.push((node, sealed.to_vec())),
        }
        Ok(())
    };
    let key = device_key();
    let device = Device { id: DeviceId::from_bytes([5; 16]), key: &key, counter: 12 };
    let plan = Plan { directory: &cluster.directory, needed };
    let scan = Scan::begin(&plan, &device, &mut UnwrapErr(getrandom::SysRng), &mut courier, out)?;
    Ok((scan, delivered))
}

#[test]
fn two_of_three_nodes_open_what_the_device_made() {
    let cluster = cluster();
    let image: Vec<u8> = (0..50_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let (mut scan, delivered) = begin(&cluster, 2, Vec::new()).expect("begins");
    for line in image.chunks(777) {
        scan.write(line).expect("writes");
    }
    let (written, file) = scan.finish().expect("finishes");
    assert_eq!((written.plain_len, written.container_len), (50_000, file.len() as u64));

    // The nodes: each opens its message, and verifies share and device.
    let manifest = Manifest::decode(&delivered.manifest).expect("a manifest");
    let key = device_key();
    assert_eq!(manifest.verify_origin(&directory::compressed(key.verifying_key())), Ok(12));
    let registrant =
        Registrant { kind: "device", namespace: cluster.directory.cluster.as_bytes(), subject: &[5; 16] }.digest();
    let aad = registration_aad([manifest.digest()], &registrant);
    let mut records = Vec::new();
    for (id, sealed) in &delivered.sealed {
        let position = cluster.directory.nodes.iter().position(|node| node.id == *id).expect("a node");
        let info = Info::share(cluster.directory.cluster, *id);
        let list = open_vec(&cluster.keys[position], &info, &aad, sealed).expect("opens");
        let record = ShareList::parse(&list).expect("a list").iter().next().expect("one share");
        assert_eq!(record.index(), cluster.directory.nodes[position].number);
        assert_eq!(verify(&manifest, &record), Ok(()));
        records.push(record);
    }
    assert_eq!(records.iter().map(ShareRecord::index).collect::<Vec<_>>(), [1, 3, 4].map(index));

    // A client with two of the shares.
    records.remove(1);
    let secret = combine(&manifest, &records).expect("two are enough");
    let opening = Opening::parse(&file).expect("a container");
    assert_eq!(opening.header().anchor, manifest.anchor());
    assert_eq!(opening.fingerprint(), written.fingerprint);
    let context: [u8; 32] = Sha256::digest(&file[..opening.ciphertext_offset()]).into();
    let input_key = secret.input_key("image", manifest.key);
    let mut opener =
        SequentialOpener::<SoftCipher>::new(&input_key, &context, &opening.fingerprint().start).expect("the right key");
    let mut opened = Vec::new();
    for chunk in file[opening.chunks_offset()..].chunks(SEALED_CHUNK) {
        opened.extend_from_slice(opener.open_next(&mut chunk.to_vec()).expect("whole"));
    }
    opener.finish().expect("whole");
    assert!(opened == image, "another image came out");
}

#[test]
fn a_plan_below_the_floor_or_beyond_the_nodes_is_refused() {
    for needed in [0, 1, 4] {
        let result = begin(&cluster(), needed, vec![]).map(|_| ());
        assert!(matches!(result, Err(ScanError::Core(Error::OutOfRange))), "{needed}: {result:?}");
    }
}

#[test]
fn a_full_card_is_reported_and_leaves_no_whole_file() {
    let cluster = cluster();
    let mut card = [0u8; 20_000];
    let key = device_key();
    let device = Device { id: DeviceId::from_bytes([5; 16]), key: &key, counter: 12 };
    let plan = Plan { directory: &cluster.directory, needed: 2 };
    let rng = &mut UnwrapErr(getrandom::SysRng);
    let mut scan = Scan::begin(&plan, &device, rng, &mut |_| Ok(()), &mut card[..]).expect("begins");
    assert!(matches!(scan.write(&[1; 30_000]), Err(ScanError::Output(_))));
    assert!(scan.write(&[1]).is_err(), "a scan goes on after a loss");
    assert!(scan.finish().is_err(), "a scan is called whole after a loss");
}
