//! The frame table of an image as the metadata database keeps it: with a tag under the image's key, so that who can write
//! the database cannot have one frame shown for another.

use eds_core::{
    ids::{FileId, KeyId},
    sharing::FileSecret,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{Error, dicom::FrameTable};

/// The purpose of a key that authenticates frame tables.
const PURPOSE_FRAMES: &str = "frames";

/// The bytes of a table, and its tag.
pub(super) fn seal(table: &FrameTable, secret: &FileSecret, key: KeyId, file: FileId) -> Vec<u8> {
    // Numbers in memory: writing them cannot fail. An empty table opens nothing.
    let mut bytes = postcard::to_allocvec(table).unwrap_or_default();
    let tag = mac(&bytes, secret, key, file).finalize().into_bytes();
    bytes.extend_from_slice(&tag);
    bytes
}

/// The table, if its tag is right.
pub(super) fn open(sealed: &[u8], secret: &FileSecret, key: KeyId, file: FileId) -> Result<FrameTable, Error> {
    let damaged = || Error::FrameTable { file };
    let (bytes, tag) = sealed.split_last_chunk::<32>().ok_or_else(damaged)?;
    mac(bytes, secret, key, file).verify_slice(tag).map_err(|_| damaged())?;
    postcard::from_bytes(bytes).map_err(|_| damaged())
}

fn mac(bytes: &[u8], secret: &FileSecret, key: KeyId, file: FileId) -> Hmac<Sha256> {
    let key = secret.input_key(PURPOSE_FRAMES, key);
    #[expect(clippy::unwrap_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(b"eds/v1/frames\0");
    mac.update(file.as_bytes());
    mac.update(bytes);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dicom::Frames, keystore::NewKey};

    #[test]
    fn a_table_opens_unchanged_and_for_its_own_image_only() {
        let key = NewKey::random();
        let file = FileId::from_bytes([1; 16]);
        let table = FrameTable { element: 2, frames: Frames::Even { start: 10, length: 20, frames: 3 } };
        let sealed = seal(&table, &key.secret, key.id, file);
        assert_eq!(open(&sealed, &key.secret, key.id, file).expect("opens"), table);
        assert!(open(&sealed, &key.secret, key.id, FileId::from_bytes([2; 16])).is_err());
        assert!(open(&sealed, &NewKey::random().secret, key.id, file).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, &key.secret, key.id, file).is_err(), "byte {at}");
        }
        assert!(open(&[], &key.secret, key.id, file).is_err());
    }
}
