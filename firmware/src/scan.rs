//! One scan: a key of its own, split and sealed first, then a container written as the frame bytes come.

use core::fmt;

use eds_core::{
    Error,
    container::{ContainerWriter, Header, Written},
    directory::{Directory, Node},
    ids::{ClusterId, DeviceId, Epoch, FileId, KeyId, MAX_NODES, NodeId, ShareIndex, Threshold},
    manifest::{self, Manifest},
    registrant::{Registrant, registration_aad},
    sealing::{ENTRY_BYTES, Info, OVERHEAD, PublicKey, encode_share_list, seal, share_list_len},
    sharing::{FileSecret, ShareRecord, SplitParams, split},
};
use embedded_io::Write;
use heapless::Vec;
use p256::ecdsa::SigningKey;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// The device as the key servers know it.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    /// Its id.
    pub id: DeviceId,
    /// The key that it was enrolled with.
    pub key: &'a SigningKey,
    /// Higher than in any scan before. The device keeps it where a loss of power does not turn it back.
    pub counter: u64,
}

/// For whom a scan is encrypted.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The cluster directory, verified with the pinned cluster key.
    pub directory: &'a Directory,
    /// m: how many nodes are needed to open the scan; not below the directory's floor.
    pub needed: u8,
}

/// What the courier carries to the key servers. It is all public or sealed.
#[derive(Clone, Copy, Debug)]
pub enum Delivery<'a> {
    /// The signed manifest, for every node.
    Manifest(&'a [u8]),
    /// The sealed share of one node.
    Shares {
        /// The node.
        node: NodeId,
        /// The sealed message.
        sealed: &'a [u8],
    },
}

/// Why a scan was not encrypted.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScanError<E> {
    /// The plan cannot be carried out, or the scan is longer than the format allows.
    Core(Error),
    /// The storage or the courier refused bytes.
    Output(E),
}

impl<E> From<Error> for ScanError<E> {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl<E: fmt::Debug> fmt::Display for ScanError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(error) => write!(f, "encrypting the scan: {error}"),
            Self::Output(error) => write!(f, "writing the scan: {error:?}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for ScanError<E> {}

/// A scan being encrypted. Dropped unfinished, what it wrote is a truncated file to every reader.
pub struct Scan<W> {
    writer: ContainerWriter,
    out: W,
}

impl<W: Write> Scan<W> {
    /// Makes the key of this scan, gives its sealed shares to the courier, and writes the start of the container.
    ///
    /// # Errors
    /// [`ScanError::Core`] with [`Error::OutOfRange`] when m is below the directory's floor or above the number of active
    /// nodes, [`Error::Malformed`] when a node's transport key is not a key; [`ScanError::Output`].
    pub fn begin<R: CryptoRng + ?Sized>(
        plan: &Plan<'_>,
        device: &Device<'_>,
        rng: &mut R,
        courier: &mut impl FnMut(Delivery<'_>) -> Result<(), W::Error>,
        mut out: W,
    ) -> Result<Self, ScanError<W::Error>> {
        let key = KeyId::random(rng);
        let secret = FileSecret::random(rng);
        let anchor = share(&secret, key, plan, device, rng, courier)?;

        let header = Header { file: FileId::random(rng), key, epoch: Epoch::new(0), anchor };
        let input_key = secret.input_key("image", key);
        drop(secret);
        let mut sink = |bytes: &[u8]| out.write_all(bytes).map_err(ScanError::Output);
        let writer = ContainerWriter::begin(&header, &input_key, rng, &mut sink)?;
        Ok(Self { writer, out })
    }

    /// Encrypts the next bytes of the image.
    ///
    /// # Errors
    /// [`ScanError::Output`]; then the scan is lost and begins again with a key of its own.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ScanError<W::Error>> {
        let out = &mut self.out;
        self.writer.write(bytes, &mut |bytes: &[u8]| out.write_all(bytes).map_err(ScanError::Output))
    }

    /// Ends the image and flushes. Only now is the file whole.
    ///
    /// # Errors
    /// [`ScanError::Output`].
    pub fn finish(mut self) -> Result<(Written, W), ScanError<W::Error>> {
        let out = &mut self.out;
        let written = self.writer.finish(&mut |bytes: &[u8]| out.write_all(bytes).map_err(ScanError::Output))?;
        self.out.flush().map_err(ScanError::Output)?;
        Ok((written, self.out))
    }
}

/// Splits and seals; returns the key anchor. Shares live in this call only.
fn share<R: CryptoRng + ?Sized, E>(
    secret: &FileSecret,
    key: KeyId,
    plan: &Plan<'_>,
    device: &Device<'_>,
    rng: &mut R,
    courier: &mut impl FnMut(Delivery<'_>) -> Result<(), E>,
) -> Result<[u8; 32], ScanError<E>> {
    let directory = plan.directory;
    let nodes: Vec<ShareIndex, MAX_NODES> = directory.active().map(|node| node.number).collect();
    if plan.needed < directory.floor {
        return Err(Error::OutOfRange.into());
    }
    let params = SplitParams {
        key,
        cluster: directory.cluster,
        directory_version: directory.version,
        epoch: Epoch::new(0),
        threshold: Threshold::new(plan.needed, u8::try_from(nodes.len()).map_err(|_| Error::OutOfRange)?)?,
        nodes: &nodes,
    };
    let (mut manifest, records) = split(secret, &params, rng)?;
    manifest.sign_origin(device.id, device.counter, device.key);
    deliver_manifest(&manifest, courier)?;

    let (cluster, id) = (directory.cluster, device.id);
    let registrant = Registrant { kind: "device", namespace: cluster.as_bytes(), subject: id.as_bytes() }.digest();
    let aad = registration_aad([manifest.digest()], &registrant);
    for record in &records {
        let node = directory.node(record.index()).ok_or(Error::Mismatch)?;
        deliver_share(cluster, node, record, &aad, rng, courier)?;
    }
    Ok(manifest.anchor())
}

fn deliver_manifest<E>(
    manifest: &Manifest,
    courier: &mut impl FnMut(Delivery<'_>) -> Result<(), E>,
) -> Result<(), ScanError<E>> {
    let mut buffer = [0; manifest::MAX_BYTES];
    courier(Delivery::Manifest(manifest.encode(&mut buffer)?)).map_err(ScanError::Output)
}

fn deliver_share<R: CryptoRng + ?Sized, E>(
    cluster: ClusterId,
    node: &Node,
    record: &ShareRecord,
    aad: &[u8],
    rng: &mut R,
    courier: &mut impl FnMut(Delivery<'_>) -> Result<(), E>,
) -> Result<(), ScanError<E>> {
    let mut list = Zeroizing::new([0; LIST_BYTES]);
    encode_share_list(core::iter::once(record), &mut *list)?;
    let recipient = PublicKey::try_from(&node.transport_key)?;
    let mut message = [0; LIST_BYTES + OVERHEAD];
    let sealed = seal(&Info::share(cluster, node.id), aad, &recipient, &*list, rng, &mut message)?;
    courier(Delivery::Shares { node: node.id, sealed }).map_err(ScanError::Output)
}

/// A list of one share.
const LIST_BYTES: usize = share_list_len(1);
const _: () = assert!(LIST_BYTES == 3 + ENTRY_BYTES);

#[cfg(test)]
mod tests;
