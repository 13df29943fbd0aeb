//! The bundle: what the key servers get of a device. Magic (8) ‖ version (1) ‖ n (1) ‖ manifest length (u16 LE) ‖ manifest ‖
//! n × (node id (16) ‖ length (u16 LE) ‖ sealed message).
//!
//! It is written as it is made, one sealed message after the other, and read where it lies. All of it is public or sealed.

use crate::{
    Error,
    container::Header,
    ids::{MAX_NODES, NodeId},
    link::Begin,
    manifest::{self, Manifest},
};

/// The first bytes of a bundle.
pub const BUNDLE_MAGIC: [u8; 8] = *b"\x89EDB\r\n\x1a\n";
/// The format version this release writes and reads.
pub const BUNDLE_VERSION: u8 = 1;
/// The longest sealed message in a bundle, in bytes. One with a single share has 173.
pub const MAX_SEALED: usize = 1024;
/// The longest bundle, in bytes.
pub const MAX_BUNDLE: usize = HEAD + manifest::MAX_BYTES + MAX_NODES * (16 + 2 + MAX_SEALED);

/// Writes a bundle piece by piece to a sink.
#[must_use = "a bundle is whole only when `finish` says so"]
pub struct BundleWriter {
    left: u8,
}

impl BundleWriter {
    /// Begins a bundle for `nodes` nodes with the encoded manifest.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for no or too many nodes, [`Error::TooLong`] for a manifest beyond its bound; those of the sink.
    pub fn begin<E: From<Error>>(
        nodes: u8,
        manifest: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        if nodes == 0 || usize::from(nodes) > MAX_NODES {
            return Err(Error::OutOfRange.into());
        }
        sink(&BUNDLE_MAGIC)?;
        sink(&[BUNDLE_VERSION, nodes])?;
        sink(&length(manifest, manifest::MAX_BYTES)?)?;
        sink(manifest)?;
        Ok(Self { left: nodes })
    }

    /// Adds the sealed message of the next node.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for more nodes than were announced, [`Error::TooLong`] beyond [`MAX_SEALED`]; those of the sink.
    pub fn share<E: From<Error>>(
        &mut self,
        node: NodeId,
        sealed: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.left = self.left.checked_sub(1).ok_or(Error::OutOfRange)?;
        sink(node.as_bytes())?;
        sink(&length(sealed, MAX_SEALED)?)?;
        sink(sealed)
    }

    /// Says that every node had its message.
    ///
    /// # Errors
    /// [`Error::Truncated`] when one had not.
    pub fn finish(self) -> Result<(), Error> {
        if self.left == 0 { Ok(()) } else { Err(Error::Truncated) }
    }
}

/// A bundle whose form was checked. What it says is for the nodes to check: they have the device's key.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    manifest: Manifest,
    manifest_bytes: &'a [u8],
    entries: &'a [u8],
}

impl<'a> Bundle<'a> {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`Error::BadMagic`], [`Error::UnknownVersion`], [`Error::Truncated`], [`Error::TrailingBytes`]; those of
    /// [`Manifest::decode`]; [`Error::Mismatch`] when there is not one message for each node of the manifest or no device
    /// is named, [`Error::Duplicate`] when a node id comes twice, [`Error::TooLong`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let rest = bytes.strip_prefix(&BUNDLE_MAGIC).ok_or(Error::BadMagic)?;
        let (&version, rest) = rest.split_first().ok_or(Error::Truncated)?;
        if version != BUNDLE_VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let (&nodes, rest) = rest.split_first().ok_or(Error::Truncated)?;
        let (manifest_bytes, entries) = counted(rest, manifest::MAX_BYTES)?;
        let manifest = Manifest::decode(manifest_bytes)?;
        if nodes != manifest.threshold.nodes() || manifest.origin.is_none() {
            return Err(Error::Mismatch);
        }
        let bundle = Self { manifest, manifest_bytes, entries };
        let mut rest = entries;
        for number in 0..nodes {
            let (node, _, after) = entry(rest)?;
            if bundle.shares().take(number.into()).any(|(earlier, _)| earlier == node) {
                return Err(Error::Duplicate);
            }
            rest = after;
        }
        if rest.is_empty() { Ok(bundle) } else { Err(Error::TrailingBytes) }
    }

    /// The manifest.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest as the device signed it.
    pub const fn manifest_bytes(&self) -> &'a [u8] {
        self.manifest_bytes
    }

    /// For each node its id and its sealed message, in the order of the bundle.
    pub fn shares(&self) -> impl Iterator<Item = (NodeId, &'a [u8])> + use<'a> {
        let mut rest = self.entries;
        core::iter::from_fn(move || {
            let (node, sealed, after) = entry(rest).ok()?;
            rest = after;
            Some((node, sealed))
        })
    }

    /// Says whether the first packet of the transfer, the bundle and the start of the container are of one image.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when they are not.
    pub fn check(&self, begin: &Begin, header: &Header) -> Result<(), Error> {
        let manifest = &self.manifest;
        let origin = manifest.origin.as_ref().ok_or(Error::Mismatch)?;
        let announced = begin.key == manifest.key && begin.device == origin.device && begin.counter == origin.counter;
        let contained = header.key == manifest.key
            && header.epoch == manifest.epoch
            && header.anchor == manifest.anchor()
            && header.file == begin.file;
        if announced && contained { Ok(()) } else { Err(Error::Mismatch) }
    }
}

fn length(bytes: &[u8], limit: usize) -> Result<[u8; 2], Error> {
    let length = u16::try_from(bytes.len()).ok().filter(|_| bytes.len() <= limit);
    length.map(u16::to_le_bytes).ok_or(Error::TooLong)
}

/// Bytes after their length as u16 LE, and what follows.
fn counted(bytes: &[u8], limit: usize) -> Result<(&[u8], &[u8]), Error> {
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or(Error::Truncated)?;
    let length = usize::from(u16::from_le_bytes(*length));
    if length > limit {
        return Err(Error::TooLong);
    }
    rest.split_at_checked(length).ok_or(Error::Truncated)
}

fn entry(bytes: &[u8]) -> Result<(NodeId, &[u8], &[u8]), Error> {
    let (node, rest) = bytes.split_first_chunk::<16>().ok_or(Error::Truncated)?;
    let (sealed, rest) = counted(rest, MAX_SEALED)?;
    Ok((NodeId::from_bytes(*node), sealed, rest))
}

const HEAD: usize = BUNDLE_MAGIC.len() + 1 + 1 + 2;
