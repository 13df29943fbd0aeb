//! One scan: a key of its own, split and sealed first, then a container written as the frame bytes come.

use core::fmt;

use eds_core::{
    Error,
    cipher::{EngineFault, StreamingCipher},
    container::{ContainerWriter, Header, Written},
    directory::{NodeEntry, SignedDirectory},
    ids::{ClusterId, DeviceId, Epoch, FileId, KeyId, MAX_NODES, ShareIndex, Threshold},
    link::{AbortReason, BundleWriter},
    manifest::{self, Manifest},
    registrant::{Registrant, registration_aad},
    sealing::{ENTRY_BYTES, Info, OVERHEAD, PublicKey, encode_share_list, seal, share_list_len},
    sharing::{Dealer, FileSecret, SplitParams},
};
use heapless::Vec;
use p256::ecdsa::SigningKey;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// The device as the key servers know it.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    /// Its id.
    pub id: DeviceId,
    /// The key that it was enrolled with. It signs; it opens nothing.
    pub key: &'a SigningKey,
}

/// For whom a scan is encrypted.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The cluster directory, verified with the pinned cluster key.
    pub directory: SignedDirectory<'a>,
    /// m: how many nodes are needed to open the scan; not below the directory's floor.
    pub needed: u8,
}

/// What a scan is called on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announced {
    /// The device.
    pub device: DeviceId,
    /// Its counter.
    pub counter: u64,
    /// The key of the scan.
    pub key: KeyId,
    /// The container.
    pub file: FileId,
    /// Random, not zero: names the transfer on a link.
    pub stream: u32,
}

/// Where a scan goes: first what the courier carries to the key servers, then the container. All of it is public or sealed.
///
/// Implementers: whoever reads what came out must be able to tell a scan whose `end` never came from a whole one. Callers:
/// `begin`, `bundle` as often as there are pieces, `container` likewise, `end`; or `abort` at any time.
pub trait Output {
    /// Why bytes were refused.
    type Error: fmt::Debug;

    /// A scan starts.
    ///
    /// # Errors
    /// Whatever keeps it from being written.
    fn begin(&mut self, scan: &Announced) -> Result<(), Self::Error>;

    /// The next bytes of the bundle.
    ///
    /// # Errors
    /// As `begin`; then the scan is lost.
    fn bundle(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The next bytes of the container.
    ///
    /// # Errors
    /// As `begin`; then the scan is lost.
    fn container(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// The scan is whole. Returns when it is delivered as surely as this output can tell.
    ///
    /// # Errors
    /// As `begin`; then the scan may have arrived or not.
    fn end(&mut self) -> Result<(), Self::Error>;

    /// The scan will never be whole. Best effort.
    fn abort(&mut self, reason: AbortReason);
}

/// Why a scan was not encrypted.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScanError<E> {
    /// The plan cannot be carried out, the engine failed, or the scan is longer than the format allows.
    Core(Error),
    /// The output refused bytes.
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
pub struct Scan<C> {
    writer: ContainerWriter<C>,
}

impl<C: StreamingCipher> Scan<C> {
    /// Makes the key of this scan, writes manifest and sealed shares, and the start of the container. `counter` is higher than
    /// in any scan of this device before; `engine` makes a cipher of the message key.
    ///
    /// # Errors
    /// [`ScanError::Core`] with [`Error::OutOfRange`] when m is below the directory's floor or above the number of active
    /// nodes, [`Error::Malformed`] when a node's transport key is not a key; [`ScanError::Output`].
    #[inline(never)]
    pub fn begin<R: CryptoRng + ?Sized, O: Output>(
        plan: &Plan<'_>,
        device: &Device<'_>,
        counter: u64,
        rng: &mut R,
        engine: impl FnOnce(&[u8; 32]) -> Result<C, EngineFault>,
        out: &mut O,
    ) -> Result<Self, ScanError<O::Error>> {
        let key = KeyId::random(rng);
        let file = FileId::random(rng);
        // Zero is no stream; that it comes up twice as often as other numbers harms nobody.
        let stream = rng.next_u32().max(1);
        out.begin(&Announced { device: device.id, counter, key, file, stream }).map_err(ScanError::Output)?;

        let secret = FileSecret::random(rng);
        let anchor = share(&secret, key, plan, device, counter, rng, out)?;
        let header = Header { file, key, epoch: Epoch::new(0), anchor };
        Self::open(engine, &header, secret, rng, out)
    }

    /// Begins the container. Apart from `begin`, whose frame is there while shares are made.
    #[inline(never)]
    fn open<R: CryptoRng + ?Sized, O: Output>(
        engine: impl FnOnce(&[u8; 32]) -> Result<C, EngineFault>,
        header: &Header,
        secret: FileSecret,
        rng: &mut R,
        out: &mut O,
    ) -> Result<Self, ScanError<O::Error>> {
        let input_key = secret.input_key("image", header.key);
        drop(secret);
        let mut sink = |bytes: &[u8]| out.container(bytes).map_err(ScanError::Output);
        let writer = ContainerWriter::begin_with(engine, header, &input_key, rng, &mut sink)?;
        Ok(Self { writer })
    }

    /// Encrypts the next bytes of the image where they are.
    ///
    /// # Errors
    /// [`ScanError::Output`], [`ScanError::Core`] with [`Error::Engine`]; then the scan is lost and begins again with a key
    /// of its own.
    #[inline(never)]
    pub fn write_in_place<O: Output>(&mut self, bytes: &mut [u8], out: &mut O) -> Result<(), ScanError<O::Error>> {
        self.writer.write_in_place(bytes, &mut |bytes: &[u8]| out.container(bytes).map_err(ScanError::Output))
    }

    /// Encrypts the next bytes of the image, through a small buffer on the stack.
    ///
    /// # Errors
    /// As [`Scan::write_in_place`].
    #[inline(never)]
    pub fn write<O: Output>(&mut self, bytes: &[u8], out: &mut O) -> Result<(), ScanError<O::Error>> {
        self.writer.write(bytes, &mut |bytes: &[u8]| out.container(bytes).map_err(ScanError::Output))
    }

    /// Ends the image. Only now is the container whole; [`Output::end`] is for the caller, when the key is forgotten.
    ///
    /// # Errors
    /// As [`Scan::write_in_place`].
    #[inline(never)]
    pub fn finish<O: Output>(self, out: &mut O) -> Result<Written, ScanError<O::Error>> {
        self.writer.finish(&mut |bytes: &[u8]| out.container(bytes).map_err(ScanError::Output))
    }
}

/// Splits and seals; returns the key anchor. Shares live in this call only.
#[inline(never)]
fn share<R: CryptoRng + ?Sized, O: Output>(
    secret: &FileSecret,
    key: KeyId,
    plan: &Plan<'_>,
    device: &Device<'_>,
    counter: u64,
    rng: &mut R,
    out: &mut O,
) -> Result<[u8; 32], ScanError<O::Error>> {
    let directory = &plan.directory;
    let nodes: Vec<ShareIndex, MAX_NODES> = directory.active().map(|node| node.number).collect();
    if plan.needed < directory.floor() {
        return Err(Error::OutOfRange.into());
    }
    let count = u8::try_from(nodes.len()).map_err(|_| Error::OutOfRange)?;
    let params = SplitParams {
        key,
        cluster: directory.cluster(),
        directory_version: directory.version(),
        epoch: Epoch::new(0),
        threshold: Threshold::new(plan.needed, count)?,
        nodes: &nodes,
    };
    // Looked at where they are: `?` would move them, and a moved value takes its memory twice.
    let dealer = Dealer::new(secret, &params, rng);
    let dealer = dealer.as_ref().map_err(|error| *error)?;
    let mut manifest = params.outline();
    dealer.describe(&params, &mut manifest)?;
    manifest.sign_origin(device.id, counter, device.key);
    let mut sink = |bytes: &[u8]| out.bundle(bytes).map_err(ScanError::Output);
    let mut bundle = begin_bundle(&manifest, count, &mut sink)?;

    let cluster = directory.cluster();
    let registrant = Registrant::device(&cluster, &device.id).digest();
    let aad = registration_aad([manifest.digest()], &registrant);
    for node in directory.active() {
        seal_share(cluster, &node, dealer, &aad, rng, &mut |sealed: &[u8]| bundle.share(node.id, sealed, &mut sink))?;
    }
    bundle.finish()?;
    Ok(manifest.anchor())
}

#[inline(never)]
fn begin_bundle<E: From<Error>>(
    manifest: &Manifest,
    nodes: u8,
    sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<BundleWriter, E> {
    let mut buffer = [0; manifest::MAX_BYTES];
    BundleWriter::begin(nodes, manifest.encode(&mut buffer)?, sink)
}

#[inline(never)]
fn seal_share<R: CryptoRng + ?Sized, E: From<Error>>(
    cluster: ClusterId,
    node: &NodeEntry<'_>,
    dealer: &Dealer,
    aad: &[u8],
    rng: &mut R,
    sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut list = Zeroizing::new([0; LIST_BYTES]);
    encode_share_list(core::iter::once(&dealer.share(node.number)), &mut *list)?;
    let recipient = PublicKey::try_from(&node.transport_key)?;
    let mut message = [0; LIST_BYTES + OVERHEAD];
    sink(seal(&Info::share(cluster, node.id), aad, &recipient, &*list, rng, &mut message)?)
}

/// A list of one share.
const LIST_BYTES: usize = share_list_len(1);
const _: () = assert!(LIST_BYTES == 3 + ENTRY_BYTES);

#[cfg(test)]
mod tests;
