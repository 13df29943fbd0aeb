//! What is on the other side of the device: the cluster's directory and private keys, and a workstation.

use std::{vec, vec::Vec};

use eds_core::{
    Error,
    cipher::{SequentialOpener, geometry::SEALED_CHUNK, soft::SoftCipher},
    container::Opening,
    directory::{self, Directory, Node, SUITE_P256_AES256GCM, SignedDirectory},
    ids::{ClusterId, DeviceId, NodeId, ShareIndex},
    link::{AbortReason, Begin, Bundle, Event, Packet, Reader, Receiver},
    manifest::Manifest,
    registrant::{Registrant, registration_aad},
    sealing::{Info, ShareList, SoftDhKey, open_vec},
    sharing::{ShareRecord, combine, verify},
};
use p256::ecdsa::SigningKey;
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};

use crate::{Device, Plan};

/// Nodes 1 to 4, of which number 2 takes no new shares; floor 2.
pub struct Hospital {
    /// The directory.
    pub directory: Directory,
    /// The same, signed.
    pub file: Vec<u8>,
    /// The fingerprint of the cluster key.
    pub pin: [u8; 32],
    /// What the device signs with.
    pub device_key: SigningKey,
    keys: Vec<SoftDhKey>,
}

impl Hospital {
    /// The device.
    pub const DEVICE: DeviceId = DeviceId::from_bytes([5; 16]);

    /// With fresh keys of the nodes.
    ///
    /// # Panics
    /// Never: all values are in range.
    pub fn new() -> Self {
        let keys: Vec<_> = (1..=4).map(|_| SoftDhKey::generate(&mut UnwrapErr(getrandom::SysRng))).collect();
        let cluster_key = SigningKey::from_slice(&[3; 32]).expect("in the field");
        let nodes = (1u8..=4).zip(&keys).map(|(number, key)| Node {
            number: ShareIndex::new(number.into()).expect("not zero"),
            id: NodeId::from_bytes([number; 16]),
            url: "https://node.example".try_into().expect("fits"),
            transport_key: key.public().compressed(),
            audit_key: None,
            suites: [SUITE_P256_AES256GCM].into_iter().collect(),
            active: number != 2,
        });
        let directory = Directory {
            cluster: ClusterId::from_bytes([9; 16]),
            name: "ward".try_into().expect("fits"),
            cluster_key: directory::compressed(cluster_key.verifying_key()),
            version: 4,
            floor: 2,
            nodes: nodes.collect(),
        };
        let mut buffer = vec![0; directory::MAX_BYTES];
        let file = directory.sign(&cluster_key, &mut buffer).expect("signs").to_vec();
        let pin = directory::key_fingerprint(&directory.cluster_key);
        let device_key = SigningKey::from_slice(&[7; 32]).expect("in the field");
        Self { directory, file, pin, device_key, keys }
    }

    /// The device as its firmware knows it.
    pub fn device(&self) -> Device<'_> {
        Device { id: Self::DEVICE, key: &self.device_key }
    }

    /// For whom it encrypts.
    ///
    /// # Panics
    /// Never: the directory is signed.
    pub fn plan(&self, needed: u8) -> Plan<'_> {
        Plan { directory: SignedDirectory::verify(&self.file, &self.pin).expect("signed"), needed }
    }

    /// What nodes and a physician do: every node checks device, counter and its share; two of them open the image.
    ///
    /// # Errors
    /// What is wrong with the parts.
    ///
    /// # Panics
    /// When a share does not open or does not fit.
    pub fn open(&self, bundle: &[u8], container: &[u8], begin: &Begin) -> Result<Vec<u8>, Error> {
        let bundle = Bundle::parse(bundle)?;
        let manifest = bundle.manifest();
        let counter = manifest.verify_origin(&directory::compressed(self.device_key.verifying_key()))?;
        assert_eq!(counter, begin.counter);
        let mut records = self.records(&bundle);
        assert_eq!(records.iter().map(|record| record.index().value()).collect::<Vec<_>>(), [1, 3, 4]);
        records.remove(counter as usize % 3);
        let secret = combine(manifest, &records).map_err(|_| Error::Rejected)?;

        let opening = Opening::parse(container)?;
        bundle.check(begin, opening.header())?;
        let context: [u8; 32] = Sha256::digest(&container[..opening.ciphertext_offset()]).into();
        let key = secret.input_key("image", manifest.key);
        let mut opener = SequentialOpener::<SoftCipher>::new(&key, &context, &opening.fingerprint().start)?;
        let mut opened = Vec::new();
        for chunk in container[opening.chunks_offset()..].chunks(SEALED_CHUNK) {
            opened.extend_from_slice(opener.open_next(&mut chunk.to_vec())?);
        }
        opener.finish()?;
        Ok(opened)
    }

    /// The shares of all nodes: what none of them has alone.
    ///
    /// # Panics
    /// When a share does not open or does not fit.
    pub fn records(&self, bundle: &Bundle<'_>) -> Vec<ShareRecord> {
        bundle.shares().map(|(node, sealed)| self.record(bundle.manifest(), node, sealed)).collect()
    }

    fn record(&self, manifest: &Manifest, node: NodeId, sealed: &[u8]) -> ShareRecord {
        let position = self.directory.nodes.iter().position(|known| known.id == node).expect("a node");
        let cluster = self.directory.cluster;
        let registrant = Registrant::device(&cluster, &Self::DEVICE).digest();
        let aad = registration_aad([manifest.digest()], &registrant);
        let list = open_vec(&self.keys[position], &Info::share(cluster, node), &aad, sealed).expect("opens");
        let record = ShareList::parse(&list).expect("a list").iter().next().expect("one share");
        assert_eq!(verify(manifest, &record), Ok(()));
        record
    }
}

impl Default for Hospital {
    fn default() -> Self {
        Self::new()
    }
}

/// A transfer as it arrived.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// What it says it is.
    pub begin: Begin,
    /// Its stream.
    pub stream: u32,
    /// The bundle, or a part of it.
    pub bundle: Vec<u8>,
    /// The container, or a part of it.
    pub container: Vec<u8>,
    /// Whether all of it is here.
    pub complete: bool,
    /// Why the device gave it up.
    pub aborted: Option<AbortReason>,
}

/// The workstation: keeps every transfer, whole or not.
#[derive(Default)]
pub struct Workstation {
    reader: Reader,
    receiver: Receiver,
    /// In the order in which they began.
    pub transfers: Vec<Delivered>,
}

impl Workstation {
    /// Takes a byte of the link; returns what to answer.
    ///
    /// # Panics
    /// On what no device of this version sends.
    pub fn feed(&mut self, byte: u8) -> Option<Packet<'static>> {
        let packet = match self.reader.push(byte)? {
            Ok(packet) => packet,
            Err(_) => return self.receiver.resume().map(|reply| reply.packet()),
        };
        let (event, reply) = self.receiver.take(&packet).expect("a device of this version");
        match event {
            Event::Begun { begin, .. } => self.transfers.push(Delivered {
                begin,
                stream: packet.stream,
                bundle: Vec::new(),
                container: Vec::new(),
                complete: false,
                aborted: None,
            }),
            Event::Bundle(bytes) => last(&mut self.transfers).bundle.extend_from_slice(bytes),
            Event::Container(bytes) => last(&mut self.transfers).container.extend_from_slice(bytes),
            Event::Complete(_) => last(&mut self.transfers).complete = true,
            Event::Aborted(reason) => last(&mut self.transfers).aborted = Some(reason),
            _ => {}
        }
        reply.map(|reply| reply.packet())
    }
}

fn last(transfers: &mut [Delivered]) -> &mut Delivered {
    transfers.last_mut().expect("a transfer has begun")
}
