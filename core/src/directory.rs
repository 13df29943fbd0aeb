//! The cluster directory: the signed list of the key servers, and the root of trust of clients and devices.
//!
//! Officers keep the cluster key offline. Clients and devices pin its public half, refuse a directory that it did not
//! sign and refuse a version lower than the one they hold. No transport key, node or floor is believed from anywhere
//! else. File: magic ‖ postcard body ‖ 64-byte ECDSA P-256 signature over "eds/v1/directory" ‖ magic ‖ body.

use heapless::{String, Vec};
use p256::ecdsa::{
    SigningKey, VerifyingKey,
    signature::{Signer, Verifier},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Error,
    ids::{ClusterId, MAX_NODES, MAX_THRESHOLD, NodeId, ShareIndex},
    manifest::Point,
};

mod signed;

pub use signed::{NodeEntry, SignedDirectory};

/// The first bytes of a directory file.
pub const MAGIC: [u8; 8] = *b"\x89EDD\r\n\x1a\n";
/// The format version this release writes.
pub const VERSION: u8 = 1;
/// The longest directory file, in bytes.
pub const MAX_BYTES: usize = 16 * 1024;
/// HPKE suite 1: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
pub const SUITE_P256_AES256GCM: u16 = 1;

/// One key server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Its number, which is the index of its shares.
    pub number: ShareIndex,
    /// Its id.
    pub id: NodeId,
    /// Where it answers: `https://host:port`, at most 200 bytes.
    pub url: String<200>,
    /// The public key that shares are sealed to; the private half lives in the node's HSM.
    pub transport_key: Point,
    /// The public key that signs audit checkpoints, once there is one.
    pub audit_key: Option<Point>,
    /// The sealing suites it can open.
    pub suites: Vec<u16, 8>,
    /// False once the node takes no new shares. Its number is never given to another node.
    pub active: bool,
}

/// The list of the key servers of a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Directory {
    /// The cluster.
    pub cluster: ClusterId,
    /// A name for people, at most 64 bytes.
    pub name: String<64>,
    /// The public half of the cluster key.
    pub cluster_key: Point,
    /// Rises with each signed change.
    pub version: u64,
    /// The smallest m that a client of this cluster may use.
    pub floor: u8,
    /// The nodes, in strictly rising order of number.
    pub nodes: Vec<Node, MAX_NODES>,
}

impl Directory {
    /// The active nodes, which get shares of new keys.
    pub fn active(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.active)
    }

    /// The node with this number.
    pub fn node(&self, number: ShareIndex) -> Option<&Node> {
        self.nodes.iter().find(|node| node.number == number)
    }

    /// Writes the directory, signed with the cluster key, into `out` and returns the bytes used.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when `key` is not the private half of `cluster_key`, [`Error::BufferTooSmall`], or a broken
    /// invariant as in [`Directory::verify`].
    pub fn sign<'a>(&self, key: &SigningKey, out: &'a mut [u8]) -> Result<&'a [u8], Error> {
        self.check()?;
        if compressed(key.verifying_key()) != self.cluster_key {
            return Err(Error::Mismatch);
        }
        let (magic, rest) = out.split_at_mut_checked(MAGIC.len()).ok_or(Error::BufferTooSmall)?;
        magic.copy_from_slice(&MAGIC);
        let (version, rest) = rest.split_first_mut().ok_or(Error::BufferTooSmall)?;
        *version = VERSION;
        let end = MAGIC.len() + 1 + postcard::to_slice(self, rest).map_err(|_| Error::BufferTooSmall)?.len();
        let signature = signature(key, out.get(..end).ok_or(Error::BufferTooSmall)?);
        out.get_mut(end..end + 64).ok_or(Error::BufferTooSmall)?.copy_from_slice(&signature);
        out.get(..end + 64).ok_or(Error::BufferTooSmall)
    }

    /// Reads a directory file and checks it against the SHA-256 fingerprint of the pinned cluster key.
    ///
    /// # Errors
    /// [`Error::BadMagic`], [`Error::UnknownVersion`], [`Error::Malformed`], [`Error::Truncated`]; [`Error::Mismatch`]
    /// for a cluster key other than the pinned one, [`Error::Rejected`] for a wrong signature; [`Error::Duplicate`] when
    /// nodes are not in strictly rising order or share an id, [`Error::OutOfRange`] for a floor outside 1 to 16.
    pub fn verify(file: &[u8], pinned: &[u8; 32]) -> Result<Self, Error> {
        let (signed, signature) = file.split_last_chunk::<64>().ok_or(Error::Truncated)?;
        let directory = Self::parse(signed)?;
        check_signature(signed, signature, &directory.cluster_key, pinned)?;
        directory.check()?;
        Ok(directory)
    }

    fn parse(signed: &[u8]) -> Result<Self, Error> {
        let (directory, rest) = postcard::take_from_bytes::<Self>(strip_head(signed)?).map_err(|_| Error::Malformed)?;
        if rest.is_empty() { Ok(directory) } else { Err(Error::TrailingBytes) }
    }

    fn check(&self) -> Result<(), Error> {
        check_floor(self.floor)?;
        for (position, node) in self.nodes.iter().enumerate() {
            let later = self.nodes.iter().skip(position + 1);
            if later.clone().any(|other| other.number <= node.number || other.id == node.id) {
                return Err(Error::Duplicate);
            }
        }
        Ok(())
    }
}

/// SHA-256 of the compressed cluster key: what officers read out to each other and clients pin.
pub fn key_fingerprint(key: &Point) -> [u8; 32] {
    Sha256::digest(key.0).into()
}

/// The compressed form of a verifying key.
pub fn compressed(key: &VerifyingKey) -> Point {
    let encoded = key.to_sec1_point(true);
    let mut bytes = [0; 33];
    bytes.copy_from_slice(encoded.as_bytes());
    Point(bytes)
}

/// What follows magic and version.
fn strip_head(signed: &[u8]) -> Result<&[u8], Error> {
    let rest = signed.strip_prefix(&MAGIC).ok_or(Error::BadMagic)?;
    let (&version, rest) = rest.split_first().ok_or(Error::Truncated)?;
    if version == VERSION { Ok(rest) } else { Err(Error::UnknownVersion(version)) }
}

/// The pinned key is the directory's, and signed it.
#[inline(never)]
fn check_signature(signed: &[u8], signature: &[u8; 64], key: &Point, pinned: &[u8; 32]) -> Result<(), Error> {
    if key_fingerprint(key) != *pinned {
        return Err(Error::Mismatch);
    }
    let key = VerifyingKey::from_sec1_bytes(&key.0).map_err(|_| Error::Malformed)?;
    let signature = p256::ecdsa::Signature::from_slice(signature).map_err(|_| Error::Rejected)?;
    key.verify(&signed_digest(signed), &signature).map_err(|_| Error::Rejected)
}

fn check_floor(floor: u8) -> Result<(), Error> {
    if floor == 0 || usize::from(floor) > MAX_THRESHOLD { Err(Error::OutOfRange) } else { Ok(()) }
}

fn signature(key: &SigningKey, signed: &[u8]) -> [u8; 64] {
    let signature: p256::ecdsa::Signature = key.sign(&signed_digest(signed));
    signature.to_bytes().into()
}

fn signed_digest(signed: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"eds/v1/directory");
    hash.update(signed);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn key() -> SigningKey {
        SigningKey::from_slice(&[7; 32]).expect("in the field")
    }

    pub(super) fn sample() -> Directory {
        let node = |number: u16| Node {
            number: ShareIndex::new(number).expect("not zero"),
            id: NodeId::from_bytes([number as u8; 16]),
            url: String::try_from("https://127.0.0.1:7443").expect("fits"),
            transport_key: compressed(key().verifying_key()),
            audit_key: None,
            suites: Vec::from_slice(&[SUITE_P256_AES256GCM]).expect("fits"),
            active: number != 2,
        };
        Directory {
            cluster: ClusterId::from_bytes([9; 16]),
            name: String::try_from("ward").expect("fits"),
            cluster_key: compressed(key().verifying_key()),
            version: 4,
            floor: 2,
            nodes: [1, 2, 3].map(node).into_iter().collect(),
        }
    }

    #[test]
    fn only_what_the_pinned_key_signed_is_read() {
        let pin = key_fingerprint(&sample().cluster_key);
        let mut buffer = [0; MAX_BYTES];
        let file = sample().sign(&key(), &mut buffer).expect("signs").to_vec();
        assert_eq!(Directory::verify(&file, &pin), Ok(sample()));
        assert_eq!(sample().active().count(), 2);
        assert_eq!(Directory::verify(&file, &[0; 32]), Err(Error::Mismatch));
        for position in 0..file.len() {
            let mut changed = file.clone();
            changed[position] ^= 1;
            assert!(Directory::verify(&changed, &pin).is_err(), "byte {position} may be changed");
            assert!(Directory::verify(&file[..position], &pin).is_err(), "may be cut at {position}");
        }
    }

    #[test]
    fn a_number_or_id_is_given_once() {
        let mut twice = sample();
        twice.nodes[1].number = twice.nodes[0].number;
        assert_eq!(twice.sign(&key(), &mut [0; MAX_BYTES]), Err(Error::Duplicate));
        let mut same = sample();
        same.nodes[2].id = same.nodes[0].id;
        assert_eq!(same.sign(&key(), &mut [0; MAX_BYTES]), Err(Error::Duplicate));
        let other = SigningKey::from_slice(&[8; 32]).expect("in the field");
        assert_eq!(sample().sign(&other, &mut [0; MAX_BYTES]), Err(Error::Mismatch));
    }
}
