//! A wrapped secret as it stands in the database, and what it is bound to.
//!
//! Record: version 1 ‖ suite u16 LE ‖ KEK id 16 ‖ nonce 12 ‖ ciphertext ‖ tag 16. The suite names the algorithm, since no
//! mechanism is common to all tokens; suite 1 is AES-256-GCM with a random nonce, so a KEK retires before 2³² records.
//! The additional data binds a record to suite, purpose, key, node, epoch, share index, KEK and manifest: a record that
//! was moved, or whose row was altered, does not open.

use eds_core::{
    Error,
    ids::{Epoch, KeyId, NodeId, ShareIndex},
};

use crate::hsm::TokenKeyId;

/// AES-256-GCM, 96-bit random nonce, 128-bit tag.
pub const SUITE_AES256_GCM: u16 = 1;
/// The format version this release writes.
pub const VERSION: u8 = 1;
/// The bytes of a record beside the secret.
pub const OVERHEAD: usize = 1 + 2 + 16 + 12 + 16;

const FIRST: ShareIndex = match ShareIndex::new(1) {
    Ok(index) => index,
    Err(_) => panic!("1 is an index"), // decided at compile time
};

/// What a record is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordContext {
    /// What the secret is for.
    pub purpose: Purpose,
    /// The key that the share belongs to.
    pub key: KeyId,
    /// The node that holds the share.
    pub node: NodeId,
    /// The generation of the share.
    pub epoch: Epoch,
    /// The index of the share.
    pub index: ShareIndex,
    /// The digest of the manifest that the share was checked against.
    pub manifest: [u8; 32],
}

/// What a wrapped secret is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A share of a key.
    Share,
    /// The known value that tells whether the KEK is the one that this database was written with.
    Canary,
}

impl RecordContext {
    /// The context of the canary of a node's database.
    pub fn canary(node: NodeId) -> Self {
        Self {
            purpose: Purpose::Canary,
            key: KeyId::from_bytes([0; 16]),
            node,
            epoch: Epoch::new(0),
            index: FIRST,
            manifest: [0; 32],
        }
    }

    /// The additional data: each field after its length as u16 LE.
    pub fn additional_data(&self, suite: u16, kek: &TokenKeyId) -> Vec<u8> {
        let label: &[u8] = match self.purpose {
            Purpose::Share => b"eds/v1/record",
            Purpose::Canary => b"eds/v1/canary",
        };
        let fields: [&[u8]; 8] = [
            label,
            &suite.to_le_bytes(),
            self.key.as_bytes(),
            self.node.as_bytes(),
            &self.epoch.value().to_le_bytes(),
            &self.index.value().to_le_bytes(),
            kek.as_bytes(),
            &self.manifest,
        ];
        let mut data = Vec::with_capacity(128);
        for field in fields {
            // All fields are shorter than 64 bytes.
            data.extend_from_slice(&u16::try_from(field.len()).unwrap_or(u16::MAX).to_le_bytes());
            data.extend_from_slice(field);
        }
        data
    }
}

/// A record taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The algorithm.
    pub suite: u16,
    /// The key that wrapped it.
    pub kek: TokenKeyId,
    /// The nonce.
    pub nonce: [u8; 12],
    /// Ciphertext and tag.
    pub sealed: &'a [u8],
}

impl<'a> Record<'a> {
    /// Writes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(OVERHEAD + self.sealed.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.suite.to_le_bytes());
        bytes.extend_from_slice(self.kek.as_bytes());
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(self.sealed);
        bytes
    }

    /// Takes a record apart.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownVersion`], [`Error::UnknownSuite`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (&version, rest) = bytes.split_first().ok_or(Error::Truncated)?;
        if version != VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let (suite, rest) = rest.split_first_chunk::<2>().ok_or(Error::Truncated)?;
        let suite = u16::from_le_bytes(*suite);
        if suite != SUITE_AES256_GCM {
            return Err(Error::UnknownSuite(suite));
        }
        let (kek, rest) = rest.split_first_chunk::<16>().ok_or(Error::Truncated)?;
        let (nonce, sealed) = rest.split_first_chunk::<12>().ok_or(Error::Truncated)?;
        if sealed.len() < 16 {
            return Err(Error::Truncated);
        }
        Ok(Self { suite, kek: TokenKeyId::from_bytes(*kek), nonce: *nonce, sealed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_encoding() {
        let kek = TokenKeyId::from_bytes([5; 16]);
        let record = Record { suite: SUITE_AES256_GCM, kek, nonce: [6; 12], sealed: &[7; 80] };
        let bytes = record.encode();
        assert_eq!(bytes.len(), OVERHEAD + 64);
        assert_eq!(Record::parse(&bytes), Ok(record));
        for end in 0..OVERHEAD {
            assert_eq!(Record::parse(&bytes[..end]), Err(Error::Truncated), "cut at {end}");
        }
        let mut version = bytes.clone();
        version[0] = 2;
        assert_eq!(Record::parse(&version), Err(Error::UnknownVersion(2)));
        let mut suite = bytes;
        suite[1] = 9;
        assert_eq!(Record::parse(&suite), Err(Error::UnknownSuite(9)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_record_that_encodes_to_them_or_none(bytes: Vec<u8>, well_begun: bool) {
            let bytes = if well_begun { [&[VERSION, 1, 0][..], &bytes].concat() } else { bytes };
            if let Ok(record) = Record::parse(&bytes) {
                proptest::prop_assert_eq!(record.encode(), bytes);
            }
        }
    }

    #[test]
    fn every_field_changes_the_additional_data() {
        let kek = TokenKeyId::from_bytes([5; 16]);
        let base = RecordContext {
            purpose: Purpose::Share,
            key: KeyId::from_bytes([1; 16]),
            node: NodeId::from_bytes([2; 16]),
            epoch: Epoch::new(3),
            index: ShareIndex::new(4).expect("not zero"),
            manifest: [5; 32],
        };
        let first = base.additional_data(1, &kek);
        let others = [
            RecordContext { purpose: Purpose::Canary, ..base },
            RecordContext { key: KeyId::from_bytes([9; 16]), ..base },
            RecordContext { node: NodeId::from_bytes([9; 16]), ..base },
            RecordContext { epoch: Epoch::new(9), ..base },
            RecordContext { index: ShareIndex::new(9).expect("not zero"), ..base },
            RecordContext { manifest: [9; 32], ..base },
        ];
        for other in others {
            assert_ne!(other.additional_data(1, &kek), first);
            assert_eq!(other.additional_data(1, &kek).len(), first.len());
        }
        assert_ne!(base.additional_data(2, &kek), first);
        assert_ne!(base.additional_data(1, &TokenKeyId::from_bytes([9; 16])), first);
    }
}
