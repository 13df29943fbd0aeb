//! The encrypted file: magic ‖ u16 LE header length ‖ header ‖ Cobblestone-256 ciphertext; spec in `docs/formats.md`.
//!
//! The header tells what is needed to find the key and nothing of what is inside. The context of the cipher is the
//! SHA-256 of every byte before the ciphertext, so a changed header is a wrong key and is caught by the commitment
//! before anything is decrypted. A header has one encoding, and an unknown version is refused.
//!
//! [`ContainerWriter`] writes a file as its bytes come; [`Opening`] reads how one starts and yields the [`Opener`].

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Error, Opaque,
    cipher::{ChunkCipher, InputKey, Opener, Start},
    ids::{Epoch, FileId, KeyId},
};

mod writer;

pub use writer::{ContainerWriter, Written};

/// The first eight bytes of a container. As in PNG: not text, and a transfer that changes line ends or strips the
/// eighth bit is noticed.
pub const MAGIC: [u8; 8] = *b"\x89EDS\r\n\x1a\n";
/// The format version this release writes and reads.
pub const VERSION: u8 = 1;
/// Magic and header length: how much of a file tells how long its header is.
pub const PREFIX: usize = MAGIC.len() + 2;
/// The longest encoded header, in bytes.
pub const MAX_HEADER: usize = 70;
/// The most bytes before the first chunk: prefix, header, salt and commitment.
pub const MAX_OPENING: usize = PREFIX + MAX_HEADER + Start::LEN;

/// What a container says of itself, in the clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// This file.
    pub file: FileId,
    /// The key whose file secret opens it.
    pub key: KeyId,
    /// The epoch of the key when the file was written.
    pub epoch: Epoch,
    /// The key anchor: which manifest may be believed (see [`crate::manifest::Manifest::anchor`]).
    pub anchor: [u8; 32],
}

/// The bytes before the ciphertext: magic, header length, header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preamble(heapless::Vec<u8, { PREFIX + MAX_HEADER }>);

impl Header {
    /// Encodes everything that stands before the ciphertext.
    ///
    /// # Errors
    /// None in practice: every header fits.
    pub fn encode(&self) -> Result<Preamble, Error> {
        let mut body = [0; MAX_HEADER];
        let (version, rest) = body.split_first_mut().ok_or(Error::BufferTooSmall)?;
        *version = VERSION;
        let used = 1 + postcard::to_slice(self, rest).map_err(|_| Error::BufferTooSmall)?.len();
        let length = u16::try_from(used).map_err(|_| Error::TooLong)?.to_le_bytes();
        let mut bytes = heapless::Vec::new();
        for part in [&MAGIC[..], &length, body.get(..used).ok_or(Error::BufferTooSmall)?] {
            bytes.extend_from_slice(part).map_err(|_| Error::BufferTooSmall)?;
        }
        Ok(Preamble(bytes))
    }

    /// Decodes the header at the start of a container; returns it with its exact bytes. What follows is not looked at.
    ///
    /// # Errors
    /// [`Error::BadMagic`], [`Error::Truncated`], [`Error::UnknownVersion`], [`Error::Malformed`] for anything but the
    /// one encoding of a header.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Preamble), Error> {
        let length = preamble_len(bytes)?;
        let preamble = bytes.get(..length).ok_or(Error::Truncated)?;
        let body = preamble.get(PREFIX + 1..).ok_or(Error::Truncated)?;
        let (header, rest) = postcard::take_from_bytes::<Self>(body).map_err(|_| Error::Malformed)?;
        if !rest.is_empty() {
            return Err(Error::TrailingBytes);
        }
        // One header has one encoding: a padded varint would be a second one.
        let again = header.encode()?;
        if again.as_bytes() != preamble { Err(Error::Malformed) } else { Ok((header, again)) }
    }
}

impl Preamble {
    /// The bytes, as they stand in the file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The context of the cipher: SHA-256 of the bytes.
    pub fn context(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// What a catalog records of a container and compares before output: files under one key cannot be swapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint {
    /// The id in the header.
    pub file: FileId,
    /// Salt and commitment of the ciphertext.
    pub start: Start,
}

impl Fingerprint {
    /// Bytes of a recorded fingerprint.
    pub const LEN: usize = 16 + Start::LEN;

    /// File id ‖ salt ‖ commitment.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (file, start) = bytes.split_at_mut(16);
        file.copy_from_slice(self.file.as_bytes());
        start.copy_from_slice(&self.start.to_bytes());
        bytes
    }

    /// A recorded fingerprint.
    ///
    /// # Errors
    /// [`Error::Malformed`] unless there are 72 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (file, start) = bytes.split_first_chunk::<16>().ok_or(Error::Malformed)?;
        let start: &[u8; Start::LEN] = start.try_into().map_err(|_| Error::Malformed)?;
        Ok(Self { file: FileId::from_bytes(*file), start: Start::from_bytes(start) })
    }
}

/// How a container starts: everything before its first chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    header: Header,
    preamble: Preamble,
    start: Start,
}

impl Opening {
    /// How many bytes of the file [`Opening::parse`] needs, told by its first [`PREFIX`] + 1 bytes or more.
    ///
    /// # Errors
    /// [`Error::BadMagic`], [`Error::Truncated`] for fewer bytes, [`Error::UnknownVersion`], [`Error::Malformed`].
    pub fn len_of(bytes: &[u8]) -> Result<usize, Error> {
        Ok(preamble_len(bytes)? + Start::LEN)
    }

    /// Reads the start of a container; bytes after it are not looked at.
    ///
    /// # Errors
    /// As [`Header::decode`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (header, preamble) = Header::decode(bytes)?;
        let rest = bytes.get(preamble.as_bytes().len()..).ok_or(Error::Truncated)?;
        let (start, _) = rest.split_first_chunk::<{ Start::LEN }>().ok_or(Error::Truncated)?;
        Ok(Self { header, preamble, start: Start::from_bytes(start) })
    }

    /// The header: which key to ask for. Nothing of it is authentic before [`Opening::opener`] succeeded.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What to compare with the catalog.
    pub const fn fingerprint(&self) -> Fingerprint {
        Fingerprint { file: self.header.file, start: self.start }
    }

    /// Where in the file the ciphertext starts: [`crate::cipher::geometry`] counts from here.
    pub fn ciphertext_offset(&self) -> usize {
        self.preamble.as_bytes().len()
    }

    /// Where in the file the first chunk starts.
    pub fn chunks_offset(&self) -> usize {
        self.ciphertext_offset() + Start::LEN
    }

    /// Checks that key, header, salt and commitment belong together, and opens the file.
    ///
    /// # Errors
    /// [`Opaque`] when they do not: wrong key, or a changed header.
    pub fn opener<C: ChunkCipher>(&self, key: &InputKey) -> Result<Opener<C>, Opaque> {
        Opener::new(key, &self.preamble.context(), &self.start)
    }
}

/// The length of magic, header length and header, told by at least [`PREFIX`] + 1 bytes.
fn preamble_len(bytes: &[u8]) -> Result<usize, Error> {
    let (magic, rest) = bytes.split_at(bytes.len().min(MAGIC.len()));
    if !MAGIC.starts_with(magic) {
        return Err(Error::BadMagic);
    }
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(Error::Truncated)?;
    let length = usize::from(u16::from_le_bytes(*length));
    let version = *rest.first().ok_or(Error::Truncated)?;
    // The version comes first: a later one may have a header of any length.
    if version != VERSION {
        return Err(Error::UnknownVersion(version));
    }
    if !(MIN_HEADER..=MAX_HEADER).contains(&length) {
        return Err(Error::Malformed);
    }
    Ok(PREFIX + length)
}

/// The shortest encoded header: version, two ids, an epoch of one byte, the anchor.
const MIN_HEADER: usize = 66;

#[cfg(test)]
mod tests;
