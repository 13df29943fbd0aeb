//! What is written into a device when it is put into service: one blob, in flash that firmware only reads.
//!
//! Magic (8) ‖ version (1) ‖ postcard body. The directory in it is a file signed by the cluster key; the rest is the device's own.
//! The device key signs manifests and opens nothing: who steals it can register images in the device's name until it is
//! revoked, and reads none.

use core::fmt;

use eds_core::{Error, ids::DeviceId};
use p256::ecdsa::SigningKey;
use serde::{Deserialize, Serialize};

/// The first bytes of a blob.
pub const PROVISION_MAGIC: [u8; 8] = *b"\x89EDP\r\n\x1a\n";
/// The format version this release writes and reads.
pub const PROVISION_VERSION: u8 = 1;

/// A blob, read where it lies.
#[derive(Serialize, Deserialize)]
pub struct Provision<'a> {
    /// The id that the device was enrolled under.
    pub device: DeviceId,
    /// The device's private key, 32 bytes big-endian.
    pub key: [u8; 32],
    /// SHA-256 of the compressed cluster key.
    pub pin: [u8; 32],
    /// The lowest version of the directory that is believed.
    pub lowest: u64,
    /// m of new images.
    pub needed: u8,
    /// The directory file.
    pub directory: &'a [u8],
}

impl<'a> Provision<'a> {
    /// Reads a blob; what follows it in the flash is not looked at.
    ///
    /// # Errors
    /// [`Error::BadMagic`] for flash that was never written, [`Error::UnknownVersion`], [`Error::Malformed`].
    pub fn read(flash: &'a [u8]) -> Result<Self, Error> {
        let rest = flash.strip_prefix(&PROVISION_MAGIC).ok_or(Error::BadMagic)?;
        let (&version, rest) = rest.split_first().ok_or(Error::Truncated)?;
        if version != PROVISION_VERSION {
            return Err(Error::UnknownVersion(version));
        }
        postcard::take_from_bytes(rest).map(|(blob, _)| blob).map_err(|_| Error::Malformed)
    }

    /// Writes a blob and returns the bytes used.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn write<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], Error> {
        let (head, rest) = out.split_first_chunk_mut::<9>().ok_or(Error::BufferTooSmall)?;
        let (magic, version) = head.split_at_mut(8);
        magic.copy_from_slice(&PROVISION_MAGIC);
        version.copy_from_slice(&[PROVISION_VERSION]);
        let used = 9 + postcard::to_slice(self, rest).map_err(|_| Error::BufferTooSmall)?.len();
        out.get(..used).ok_or(Error::BufferTooSmall)
    }

    /// The key that signs manifests.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for bytes that are no key.
    #[inline(never)]
    pub fn signing_key(&self) -> Result<SigningKey, Error> {
        SigningKey::from_slice(&self.key).map_err(|_| Error::OutOfRange)
    }
}

impl fmt::Debug for Provision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provision").field("device", &self.device).field("needed", &self.needed).finish_non_exhaustive()
    }
}

impl Drop for Provision<'_> {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_read_where_it_lies_and_shows_no_key() {
        let blob = Provision {
            device: DeviceId::from_bytes([5; 16]),
            key: [7; 32],
            pin: [8; 32],
            lowest: 300,
            needed: 2,
            directory: b"a directory file",
        };
        let mut flash = [0xff; 256];
        let used = blob.write(&mut flash).expect("fits").len();
        let read = Provision::read(&flash).expect("a blob");
        assert_eq!((read.device, read.key, read.pin), (blob.device, blob.key, blob.pin));
        assert_eq!((read.lowest, read.needed, read.directory), (300, 2, &b"a directory file"[..]));
        assert!(read.signing_key().is_ok());
        assert!(!std::format!("{read:?}").contains("key"));
        for end in 0..used {
            assert!(Provision::read(&flash[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(Provision::read(&[0xff; 64]).err(), Some(Error::BadMagic));
        drop(read);
        flash[8] = 2;
        assert_eq!(Provision::read(&flash).err(), Some(Error::UnknownVersion(2)));
    }
}
