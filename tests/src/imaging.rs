//! An imaging device that encrypts at source, as far as key servers and courier see it: what it made, and its link.
//!
//! It is made of `core` alone, which is what runs on a device; it keeps nothing of an image but the packets on their way.

mod link;

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
};

use eds_core::{
    container::{ContainerWriter, Header},
    directory::Directory,
    ids::{DeviceId, Epoch, FileId, KeyId, NodeId, ShareIndex, Threshold},
    link::{Begin, BundleWriter, Kind, MAX_PACKET, MAX_PAYLOAD, Packet, Totals, encode},
    manifest::{MAX_BYTES, Manifest},
    registrant::{Registrant, registration_aad},
    sealing::{AwsLcDhKey, Info, PublicKey, encode_share_list, seal_vec, share_list_len},
    sharing::{FileSecret, SplitParams, split},
};
use p256::{
    ecdsa::SigningKey,
    pkcs8::{EncodePublicKey as _, LineEnding},
};
use rand_core::{CryptoRng, UnwrapErr};

pub use self::link::{Crossed, send};
use crate::{Outcome, Trouble, cluster::Cluster, trouble::During as _};

/// A device.
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    key: SigningKey,
    counter: Cell<u64>,
}

/// For each node its sealed message.
pub type Sealed = Vec<(NodeId, Vec<u8>)>;

/// What a device made of one image, in parts that a courier may carry, or swap.
#[derive(Clone)]
pub struct Made {
    /// The first packet; on a link without a way back, its window is 0.
    pub begin: Begin,
    /// The signed manifest.
    pub manifest: Vec<u8>,
    /// For each node its sealed message.
    pub shares: Sealed,
    /// The encrypted image.
    pub container: Vec<u8>,
}

impl Device {
    /// A device with a key of its own.
    ///
    /// # Errors
    /// When no key can be drawn.
    pub fn new() -> Outcome<Self> {
        let rng = &mut UnwrapErr(getrandom::SysRng);
        // Of 32 random bytes nearly all are a key.
        let key = (0..8).find_map(|_| {
            let mut bytes = [0; 32];
            rand_core::Rng::fill_bytes(rng, &mut bytes);
            SigningKey::from_slice(&bytes).ok()
        });
        let key = key.ok_or_else(|| Trouble::new("no key for the device"))?;
        Ok(Self { id: DeviceId::random(rng), key, counter: Cell::new(0) })
    }

    /// Its private key, as it is provisioned.
    pub fn private_key(&self) -> [u8; 32] {
        self.key.to_bytes().into()
    }

    /// Writes its public key as officers get it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_public_key(&self, folder: &Path) -> Outcome<PathBuf> {
        let file = folder.join(format!("{}.pub", self.id));
        let pem = p256::PublicKey::from(self.key.verifying_key()).to_public_key_pem(LineEnding::LF);
        fs::write(&file, pem.map_err(|error| Trouble::new(format!("the device's key: {error}")))?)?;
        Ok(file)
    }

    /// Has officers enrol it on every node, for this owner.
    ///
    /// # Errors
    /// When a node refuses.
    pub fn enroll(&self, cluster: &mut Cluster, owner: &Path, more: &[&str]) -> Outcome {
        let key = self.write_public_key(cluster.folder())?;
        let (id, owner) = (self.id.to_string(), format!("@{}", owner.display()));
        let key = key.display().to_string();
        for node in cluster.nodes() {
            let words = ["device", "enroll", &id, "--key", &key, "--name", "CT 3", "--owner", &owner];
            node.command_of(&[&words, more].concat())?.success().during(format_args!("node {}", node.number))?;
        }
        Ok(())
    }

    /// Takes an image: a key of its own, split over the active nodes, and the image encrypted under it.
    ///
    /// # Errors
    /// When the plan does not fit the directory.
    pub fn takes(&self, directory: &Directory, needed: u8, image: &[u8]) -> Outcome<Made> {
        self.counter.set(self.counter.get() + 1);
        self.takes_as_number(self.counter.get(), directory, needed, image)
    }

    /// The same, with this counter.
    ///
    /// # Errors
    /// As [`Device::takes`].
    pub fn takes_as_number(&self, counter: u64, directory: &Directory, needed: u8, image: &[u8]) -> Outcome<Made> {
        let rng = &mut UnwrapErr(getrandom::SysRng);
        let (key, secret) = (KeyId::random(rng), FileSecret::random(rng));
        let (manifest, shares) = self.splits(&secret, key, counter, directory, needed, rng)?;
        let header = Header { file: FileId::random(rng), key, epoch: Epoch::new(0), anchor: manifest.anchor() };
        let mut container = Vec::new();
        let sink = &mut |bytes: &[u8]| {
            container.extend_from_slice(bytes);
            Ok::<_, eds_core::Error>(())
        };
        let mut writer = ContainerWriter::begin(&header, &secret.input_key("image", key), rng, sink)?;
        writer.write(image, sink)?;
        writer.finish(sink)?;
        let begin = Begin { window: 8, device: self.id, counter, key, file: header.file };
        let manifest = manifest.encode(&mut [0; MAX_BYTES])?.to_vec();
        Ok(Made { begin, manifest, shares, container })
    }

    fn splits<R: CryptoRng>(
        &self,
        secret: &FileSecret,
        key: KeyId,
        counter: u64,
        directory: &Directory,
        needed: u8,
        rng: &mut R,
    ) -> Outcome<(Manifest, Sealed)> {
        let nodes: Vec<ShareIndex> = directory.active().map(|node| node.number).collect();
        let params = SplitParams {
            key,
            cluster: directory.cluster,
            directory_version: directory.version,
            epoch: Epoch::new(0),
            threshold: Threshold::new(needed, u8::try_from(nodes.len())?)?,
            nodes: &nodes,
        };
        let (mut manifest, records) = split(secret, &params, rng)?;
        manifest.sign_origin(self.id, counter, &self.key);
        let registrant = Registrant::device(&directory.cluster, &self.id).digest();
        let aad = registration_aad([manifest.digest()], &registrant);
        let mut shares = Vec::new();
        for (node, record) in directory.active().zip(&records) {
            let mut list = vec![0; share_list_len(1)];
            encode_share_list(std::iter::once(record), &mut list)?;
            let recipient = PublicKey::try_from(&node.transport_key)?;
            let info = Info::share(directory.cluster, node.id);
            let sealed = seal_vec(AwsLcDhKey::generate()?, &info, &aad, &recipient, &list);
            shares.push((node.id, sealed.map_err(|error| Trouble::new(format!("a share: {error:?}")))?));
        }
        Ok((manifest, shares))
    }
}

impl Made {
    /// The bundle, in the form of the link.
    ///
    /// # Errors
    /// When a part is longer than the format allows.
    pub fn bundle(&self) -> Outcome<Vec<u8>> {
        let mut bundle = Vec::new();
        let sink = &mut |bytes: &[u8]| {
            bundle.extend_from_slice(bytes);
            Ok::<_, eds_core::Error>(())
        };
        let mut writer = BundleWriter::begin(u8::try_from(self.shares.len())?, &self.manifest, sink)?;
        for (node, sealed) in &self.shares {
            writer.share(*node, sealed, sink)?;
        }
        writer.finish()?;
        Ok(bundle)
    }

    /// Every packet of the transfer, as it goes on the wire.
    ///
    /// # Errors
    /// As [`Made::bundle`].
    pub fn packets(&self) -> Outcome<Vec<Vec<u8>>> {
        let mut stream = [0; 4];
        rand_core::Rng::fill_bytes(&mut UnwrapErr(getrandom::SysRng), &mut stream);
        let stream = u32::from_le_bytes(stream).max(1);
        let (begin, bundle) = (self.begin.to_bytes(), self.bundle()?);
        let mut totals = Totals::new(&begin);
        totals.bundle(&bundle)?;
        totals.container(&self.container)?;
        let end = totals.end().to_bytes();
        let pieces =
            |kind, bytes: &'_ [u8]| bytes.chunks(MAX_PAYLOAD).map(|piece| (kind, piece.to_vec())).collect::<Vec<_>>();
        let mut payloads = vec![(Kind::Begin, begin.to_vec())];
        payloads.extend(pieces(Kind::Bundle, &bundle));
        payloads.extend(pieces(Kind::Container, &self.container));
        payloads.push((Kind::End, end.to_vec()));
        let mut packets = Vec::with_capacity(payloads.len());
        for (sequence, (kind, payload)) in (0..).zip(payloads) {
            let packet = Packet { kind, stream, sequence, payload: &payload };
            let mut buffer = [0; MAX_PACKET];
            packets.push(encode(&packet, &mut buffer).ok_or_else(|| Trouble::new("a long packet"))?.to_vec());
        }
        Ok(packets)
    }

    /// The same on a link without a way back, as a memory card has it.
    ///
    /// # Errors
    /// As [`Made::bundle`].
    pub fn recording(&self) -> Outcome<Vec<u8>> {
        let one_way = Self { begin: Begin { window: 0, ..self.begin }, ..self.clone() };
        Ok(one_way.packets()?.concat())
    }
}
