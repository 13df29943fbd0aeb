//! The manifest: what was shared, among whom, with which digests.
//!
//! A manifest is public. It is believed only when it fits the key anchor of a container, when the catalog recorded its
//! digest, or when enough nodes return the same digest; never from one node's word (see `docs/formats.md`).
//! Invariants of a parsed manifest: m and n in range, one share digest for each node, m commitments, nodes in strictly
//! rising order.

use heapless::Vec;
use p256::ecdsa::{
    SigningKey, VerifyingKey,
    signature::{Signer, Verifier},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Error,
    ids::{ClusterId, DeviceId, Epoch, KeyId, MAX_NODES, MAX_THRESHOLD, ShareIndex, Threshold},
};

/// The format version this release writes.
pub const VERSION: u8 = 1;
/// Scheme 1: Shamir over the P-256 scalar field with Pedersen commitments.
pub const SCHEME_PEDERSEN_P256: u8 = 1;
/// The longest encoding of a manifest, in bytes.
pub const MAX_BYTES: usize = 2048;

/// A compressed SEC 1 point, 33 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point(pub [u8; 33]);

/// An ECDSA P-256 signature, r ‖ s, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature(pub [u8; 64]);

macro_rules! byte_array_serde {
    ($name:ident, $length:literal) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                let mut tuple = serializer.serialize_tuple($length)?;
                for byte in &self.0 {
                    tuple.serialize_element(byte)?;
                }
                tuple.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Bytes;
                impl<'de> serde::de::Visitor<'de> for Bytes {
                    type Value = [u8; $length];
                    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        f.write_str(concat!(stringify!($length), " bytes"))
                    }
                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                        let mut bytes = [0u8; $length];
                        for (position, byte) in bytes.iter_mut().enumerate() {
                            *byte =
                                seq.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(position, &self))?;
                        }
                        Ok(bytes)
                    }
                }
                deserializer.deserialize_tuple($length, Bytes).map(Self)
            }
        }
    };
}
byte_array_serde!(Point, 33);
byte_array_serde!(Signature, 64);

/// Which device made the key, signed by it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// The enrolled device.
    pub device: DeviceId,
    /// Rises with every bundle of the device.
    pub counter: u64,
    /// ECDSA P-256 with SHA-256 of the device, the message being the 32 bytes of [`Manifest::digest`].
    pub signature: Signature,
}

/// What was shared, among whom, with which digests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The key.
    pub key: KeyId,
    /// The cluster whose nodes hold the shares.
    pub cluster: ClusterId,
    /// The version of the cluster directory that the registrant used.
    pub directory_version: u64,
    /// The generation of these shares.
    pub epoch: Epoch,
    /// m of n.
    pub threshold: Threshold,
    /// For each node, in rising order of number: its number and the SHA-256 digest of its share.
    pub shares: Vec<(ShareIndex, [u8; 32]), MAX_NODES>,
    /// The Pedersen commitments C₀ … C₍m−1₎.
    pub commitments: Vec<Point, MAX_THRESHOLD>,
    /// The device that made the key, if one did.
    pub origin: Option<Origin>,
}

#[derive(Deserialize)]
struct Body {
    scheme: u8,
    key: KeyId,
    cluster: ClusterId,
    directory_version: u64,
    epoch: Epoch,
    needed: u8,
    shares: Vec<(ShareIndex, [u8; 32]), MAX_NODES>,
    commitments: Vec<Point, MAX_THRESHOLD>,
    origin: Option<(DeviceId, u64)>,
}

/// The same, to be written: a device has no memory for a second copy of the lists.
#[derive(Serialize)]
struct BodyRef<'a> {
    scheme: u8,
    key: KeyId,
    cluster: ClusterId,
    directory_version: u64,
    epoch: Epoch,
    needed: u8,
    shares: &'a Vec<(ShareIndex, [u8; 32]), MAX_NODES>,
    commitments: &'a Vec<Point, MAX_THRESHOLD>,
    origin: Option<(DeviceId, u64)>,
}

impl Manifest {
    /// Writes the manifest into `out` and returns the bytes used (at most [`MAX_BYTES`]).
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn encode<'a>(&self, out: &'a mut [u8]) -> Result<&'a [u8], Error> {
        self.check()?;
        let signed = self.encode_signed_part(out)?.len();
        let end = match &self.origin {
            None => signed,
            Some(origin) => {
                let end = signed + origin.signature.0.len();
                out.get_mut(signed..end).ok_or(Error::BufferTooSmall)?.copy_from_slice(&origin.signature.0);
                end
            }
        };
        out.get(..end).ok_or(Error::BufferTooSmall)
    }

    /// Reads a manifest and checks its invariants.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], [`Error::UnknownSuite`] for the scheme, [`Error::Malformed`], [`Error::TrailingBytes`],
    /// [`Error::OutOfRange`], [`Error::Mismatch`] when counts disagree, [`Error::Duplicate`] when nodes are not in
    /// strictly rising order.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (&version, rest) = bytes.split_first().ok_or(Error::Truncated)?;
        if version != VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let (body, rest) = postcard::take_from_bytes::<Body>(rest).map_err(|_| Error::Malformed)?;
        if body.scheme != SCHEME_PEDERSEN_P256 {
            return Err(Error::UnknownSuite(body.scheme.into()));
        }
        let (origin, rest) = match body.origin {
            None => (None, rest),
            Some((device, counter)) => {
                let (signature, rest) = rest.split_first_chunk::<64>().ok_or(Error::Truncated)?;
                (Some(Origin { device, counter, signature: Signature(*signature) }), rest)
            }
        };
        if !rest.is_empty() {
            return Err(Error::TrailingBytes);
        }
        let nodes = u8::try_from(body.shares.len()).map_err(|_| Error::OutOfRange)?;
        let manifest = Self {
            key: body.key,
            cluster: body.cluster,
            directory_version: body.directory_version,
            epoch: body.epoch,
            threshold: Threshold::new(body.needed, nodes)?,
            shares: body.shares,
            commitments: body.commitments,
            origin,
        };
        manifest.check()?;
        // One manifest has one encoding: a padded varint would be a second one with another digest.
        let mut again = [0u8; MAX_BYTES];
        if manifest.encode(&mut again)? != bytes {
            return Err(Error::Malformed);
        }
        Ok(manifest)
    }

    /// SHA-256 of everything but the signature bytes: what nodes compare, catalogs record and devices sign.
    #[inline(never)]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        // A flavor that hashes refuses nothing.
        postcard::serialize_with_flavor(&self.body(), Hashing(hash)).unwrap_or_default()
    }

    /// The key anchor: SHA-256("eds/v1/anchor" ‖ GUID ‖ cluster id ‖ scheme ‖ C₀). It stays true when shares are
    /// refreshed.
    pub fn anchor(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"eds/v1/anchor");
        hash.update(self.key.as_bytes());
        hash.update(self.cluster.as_bytes());
        hash.update([SCHEME_PEDERSEN_P256]);
        if let Some(first) = self.commitments.first() {
            hash.update(first.0);
        }
        hash.finalize().into()
    }

    /// Says which device made the key, and signs that with the device's key. `counter` must be higher than in any manifest
    /// that this device signed before.
    #[inline(never)]
    pub fn sign_origin(&mut self, device: DeviceId, counter: u64, key: &SigningKey) {
        // The digest covers device and counter, so they are set before it is taken.
        self.origin = Some(Origin { device, counter, signature: Signature([0; 64]) });
        let signature: p256::ecdsa::Signature = key.sign(&self.digest());
        self.origin = Some(Origin { device, counter, signature: Signature(signature.to_bytes().into()) });
    }

    /// Checks that the device with this public key signed the manifest, and returns the counter that it used. That the
    /// counter is new is for the caller to see.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the manifest names no device, [`Error::Malformed`] for a bad key, [`Error::Rejected`] when
    /// the signature is not that device's.
    pub fn verify_origin(&self, key: &Point) -> Result<u64, Error> {
        let origin = self.origin.as_ref().ok_or(Error::Mismatch)?;
        let key = VerifyingKey::from_sec1_bytes(&key.0).map_err(|_| Error::Malformed)?;
        let signature = p256::ecdsa::Signature::from_slice(&origin.signature.0).map_err(|_| Error::Rejected)?;
        key.verify(&self.digest(), &signature).map_err(|_| Error::Rejected)?;
        Ok(origin.counter)
    }

    /// The digest that the share of this node must have.
    pub fn share_digest(&self, index: ShareIndex) -> Option<&[u8; 32]> {
        self.shares.iter().find(|(number, _)| *number == index).map(|(_, digest)| digest)
    }

    fn encode_signed_part<'a>(&self, out: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let (version, rest) = out.split_first_mut().ok_or(Error::BufferTooSmall)?;
        *version = VERSION;
        let used = postcard::to_slice(&self.body(), rest).map_err(|_| Error::BufferTooSmall)?.len();
        out.get(..=used).ok_or(Error::BufferTooSmall)
    }

    fn body(&self) -> BodyRef<'_> {
        BodyRef {
            scheme: SCHEME_PEDERSEN_P256,
            key: self.key,
            cluster: self.cluster,
            directory_version: self.directory_version,
            epoch: self.epoch,
            needed: self.threshold.needed(),
            shares: &self.shares,
            commitments: &self.commitments,
            origin: self.origin.as_ref().map(|origin| (origin.device, origin.counter)),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.shares.len() != usize::from(self.threshold.nodes())
            || self.commitments.len() != usize::from(self.threshold.needed())
        {
            return Err(Error::Mismatch);
        }
        if self.shares.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a >= b)) {
            return Err(Error::Duplicate);
        }
        Ok(())
    }
}

/// Hashes what is serialized.
struct Hashing(Sha256);

impl postcard::ser_flavors::Flavor for Hashing {
    type Output = [u8; 32];

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.update([byte]);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.update(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<[u8; 32]> {
        Ok(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest of `needed` of `nodes` with made-up digests, for format tests.
    fn sample(needed: u8, nodes: u8, device: bool) -> Manifest {
        Manifest {
            key: KeyId::from_bytes([0x11; 16]),
            cluster: ClusterId::from_bytes([0x22; 16]),
            directory_version: 300,
            epoch: Epoch::new(0),
            threshold: Threshold::new(needed, nodes).expect("in range"),
            shares: (1..=nodes).map(|n| (ShareIndex::new(n.into()).expect("not zero"), [n; 32])).collect(),
            commitments: (0..needed).map(|n| Point([n; 33])).collect(),
            origin: device.then_some(Origin {
                device: DeviceId::from_bytes([0x33; 16]),
                counter: u64::MAX,
                signature: Signature([0x44; 64]),
            }),
        }
    }

    #[test]
    fn survives_its_encoding_at_every_size() {
        for (needed, nodes) in [(1, 1), (2, 3), (16, 32)] {
            for device in [false, true] {
                let manifest = sample(needed, nodes, device);
                let mut buffer = [0; MAX_BYTES];
                let bytes = manifest.encode(&mut buffer).expect("fits");
                assert_eq!(Manifest::decode(bytes), Ok(manifest));
                for end in 0..bytes.len() {
                    assert!(Manifest::decode(&bytes[..end]).is_err(), "cut at {end}");
                }
            }
        }
    }

    #[test]
    fn refuses_what_does_not_add_up() {
        let mut buffer = [0; MAX_BYTES];
        let good = sample(2, 3, false).encode(&mut buffer).expect("fits").to_vec();
        assert_eq!(Manifest::decode(&[&good[..], &[0]].concat()), Err(Error::TrailingBytes));
        let mut version = good.clone();
        version[0] = 2;
        assert_eq!(Manifest::decode(&version), Err(Error::UnknownVersion(2)));
        let mut scheme = good.clone();
        scheme[1] = 9;
        assert_eq!(Manifest::decode(&scheme), Err(Error::UnknownSuite(9)));
        let mut twice = sample(2, 3, false);
        twice.shares[1].0 = twice.shares[0].0;
        assert_eq!(twice.encode(&mut buffer), Err(Error::Duplicate));
        let mut short = sample(2, 3, false);
        short.commitments.pop();
        assert_eq!(short.encode(&mut buffer), Err(Error::Mismatch));
    }

    #[test]
    fn the_digest_covers_all_but_the_signature() {
        let signed = sample(2, 3, true);
        let mut resigned = signed.clone();
        resigned.origin.as_mut().expect("has one").signature = Signature([0; 64]);
        assert_eq!(signed.digest(), resigned.digest());
        let mut recounted = signed.clone();
        recounted.origin.as_mut().expect("has one").counter = 1;
        assert_ne!(signed.digest(), recounted.digest());
    }

    #[test]
    fn only_the_device_that_signed_is_believed() {
        let key = SigningKey::from_slice(&[7; 32]).expect("in the field");
        let public = crate::directory::compressed(key.verifying_key());
        let mut manifest = sample(2, 3, false);
        assert_eq!(manifest.verify_origin(&public), Err(Error::Mismatch));
        manifest.sign_origin(DeviceId::from_bytes([0x33; 16]), 9, &key);
        assert_eq!(manifest.verify_origin(&public), Ok(9));
        let other = SigningKey::from_slice(&[8; 32]).expect("in the field");
        let stranger = crate::directory::compressed(other.verifying_key());
        assert_eq!(manifest.verify_origin(&stranger), Err(Error::Rejected));
        let mut recounted = manifest.clone();
        recounted.origin.as_mut().expect("has one").counter = 10;
        assert_eq!(recounted.verify_origin(&public), Err(Error::Rejected));
        let mut moved = manifest.clone();
        moved.origin.as_mut().expect("has one").device = DeviceId::from_bytes([0x34; 16]);
        assert_eq!(moved.verify_origin(&public), Err(Error::Rejected));
        let mut reshared = manifest;
        reshared.shares[0].1[0] ^= 1;
        assert_eq!(reshared.verify_origin(&public), Err(Error::Rejected));
    }
}
