//! The list of shares inside a sealed message, in both directions: version (1) ‖ count (u16 LE) ‖ count × entry.
//!
//! Entry, 86 bytes: key GUID (16) ‖ epoch (u32 LE) ‖ index (u16 LE) ‖ value (32, big endian) ‖ blinder (32, big endian):
//! exactly the bytes whose SHA-256 is the share's digest. All of a list is secret; whoever holds the buffer wipes it.

use crate::{
    Error,
    ids::{Epoch, KeyId, ShareIndex},
    sharing::{Share, ShareRecord},
};

/// The format version this release writes.
pub const LIST_VERSION: u8 = 1;
/// The length of one entry, in bytes.
pub const ENTRY_BYTES: usize = 86;

/// The length of a list of so many shares, in bytes.
pub const fn share_list_len(count: usize) -> usize {
    HEAD + count * ENTRY_BYTES
}

/// Writes a list into `out` and returns the bytes used ([`share_list_len`]).
///
/// # Errors
/// [`Error::TooLong`] for more than 65,535 shares, [`Error::BufferTooSmall`].
pub fn encode_share_list<'r, 'a>(
    records: impl ExactSizeIterator<Item = &'r ShareRecord>,
    out: &'a mut [u8],
) -> Result<&'a [u8], Error> {
    let count = u16::try_from(records.len()).map_err(|_| Error::TooLong)?;
    let used = share_list_len(count.into());
    let list = out.get_mut(..used).ok_or(Error::BufferTooSmall)?;
    let (head, entries) = list.split_at_mut(HEAD);
    let (version, number) = head.split_at_mut(1);
    version.copy_from_slice(&[LIST_VERSION]);
    number.copy_from_slice(&count.to_le_bytes());
    for (entry, record) in entries.chunks_exact_mut(ENTRY_BYTES).zip(records) {
        let (key, rest) = entry.split_at_mut(16);
        let (epoch, rest) = rest.split_at_mut(4);
        let (index, rest) = rest.split_at_mut(2);
        let (value, blinder) = rest.split_at_mut(32);
        key.copy_from_slice(record.key.as_bytes());
        epoch.copy_from_slice(&record.epoch.value().to_le_bytes());
        index.copy_from_slice(&record.index().value().to_le_bytes());
        value.copy_from_slice(record.share.value());
        blinder.copy_from_slice(record.share.blinder());
    }
    Ok(list)
}

/// A list whose format was checked.
#[derive(Clone, Copy)]
pub struct ShareList<'a> {
    entries: &'a [u8],
}

impl<'a> ShareList<'a> {
    /// Reads a list.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], [`Error::Truncated`], [`Error::TrailingBytes`]; [`Error::OutOfRange`] for a share
    /// with index 0.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (&version, rest) = bytes.split_first().ok_or(Error::Truncated)?;
        if version != LIST_VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let (count, entries) = rest.split_first_chunk::<2>().ok_or(Error::Truncated)?;
        let length = usize::from(u16::from_le_bytes(*count)) * ENTRY_BYTES;
        if entries.len() < length {
            return Err(Error::Truncated);
        }
        if entries.len() > length {
            return Err(Error::TrailingBytes);
        }
        if entries.chunks_exact(ENTRY_BYTES).any(|entry| parse_entry(entry).is_none()) {
            return Err(Error::OutOfRange);
        }
        Ok(Self { entries })
    }

    /// How many shares there are.
    pub const fn len(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The shares, in order.
    pub fn iter(&self) -> impl Iterator<Item = ShareRecord> + use<'a> {
        self.entries.chunks_exact(ENTRY_BYTES).filter_map(parse_entry)
    }
}

impl core::fmt::Debug for ShareList<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ShareList({} shares, <redacted>)", self.len())
    }
}

const HEAD: usize = 3;

/// None if the index is 0, the only thing in an entry of the right length that can be wrong.
fn parse_entry(entry: &[u8]) -> Option<ShareRecord> {
    let (key, rest) = entry.split_first_chunk::<16>()?;
    let (epoch, rest) = rest.split_first_chunk::<4>()?;
    let (index, rest) = rest.split_first_chunk::<2>()?;
    let index = ShareIndex::new(u16::from_le_bytes(*index)).ok()?;
    Some(ShareRecord {
        key: KeyId::from_bytes(*key),
        epoch: Epoch::new(u32::from_le_bytes(*epoch)),
        share: Share::from_bytes(index, rest.try_into().ok()?),
    })
}
