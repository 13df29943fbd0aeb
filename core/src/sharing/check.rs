//! What can be said about one share and a manifest, without the other shares.

use core::fmt;

use subtle::ConstantTimeEq;

use super::{ShareRecord, pedersen};
use crate::{manifest::Manifest, scalar};

/// What is wrong with a share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ShareFault {
    /// It is a share of another key.
    OtherKey,
    /// It is of another generation of shares.
    OtherEpoch,
    /// The manifest knows no node of this number.
    NotInManifest,
    /// There is another share of the same node.
    Duplicate,
    /// It is not the share that was registered for this node: its digest differs.
    WrongDigest,
    /// It does not fit the commitments. If its digest is right, the registrant made it wrong.
    OffPolynomial,
    /// The commitments of the manifest are not points of the curve: the registrant made them wrong.
    BadCommitments,
}

impl fmt::Display for ShareFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherKey => "belongs to another key",
            Self::OtherEpoch => "belongs to another epoch",
            Self::NotInManifest => "is of a node that the manifest does not name",
            Self::Duplicate => "was given more than once",
            Self::WrongDigest => "is not the share that was registered for this node",
            Self::OffPolynomial => "does not fit the commitments",
            Self::BadCommitments => "cannot be checked: the manifest's commitments are not points of the curve",
        })
    }
}

impl core::error::Error for ShareFault {}

/// Checks that a share is the one that the manifest names for its node: key, epoch, number and digest.
///
/// One hash. This is what names a lying node; it says nothing about the commitments.
///
/// # Errors
/// The first fault found.
pub fn check_digest(manifest: &Manifest, record: &ShareRecord) -> Result<(), ShareFault> {
    if record.key != manifest.key {
        return Err(ShareFault::OtherKey);
    }
    if record.epoch != manifest.epoch {
        return Err(ShareFault::OtherEpoch);
    }
    let expected = manifest.share_digest(record.index()).ok_or(ShareFault::NotInManifest)?;
    if bool::from(record.digest().ct_eq(expected)) { Ok(()) } else { Err(ShareFault::WrongDigest) }
}

/// Checks that a share fits the commitments: value·G + blinder·H = C₀ + C₁·x + … at x = its index.
///
/// This is our own arithmetic, for devices and batches; `verify` asks `vsss-rs`. It does not look at the digest.
///
/// # Errors
/// [`ShareFault::OffPolynomial`], [`ShareFault::BadCommitments`].
pub fn check_commitments(manifest: &Manifest, record: &ShareRecord) -> Result<(), ShareFault> {
    let value = scalar::from_bytes(record.share.value()).ok_or(ShareFault::OffPolynomial)?;
    let blinder = scalar::from_bytes(record.share.blinder()).ok_or(ShareFault::OffPolynomial)?;
    let expected = pedersen::commitment_at(manifest, record.index()).map_err(|_| ShareFault::BadCommitments)?;
    let found = pedersen::commit(&value, &blinder).map_err(|_| ShareFault::BadCommitments)?;
    if found == expected { Ok(()) } else { Err(ShareFault::OffPolynomial) }
}
