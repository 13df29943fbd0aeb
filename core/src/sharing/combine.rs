//! Verifying and combining with `vsss-rs`.
//!
//! A wrong share must never become a wrong key. Every share is compared with its digest before anything is computed, and
//! value and blinder are both interpolated and must open C₀, so that even a manifest whose digests were made for wrong
//! shares gives an error and the names.

use std::vec::Vec;

use p256::{ProjectivePoint, Scalar};
use vsss_rs::{
    DefaultShare, IdentifierPrimeField, PedersenVerifierSet, ReadableShareSet, Share as _, ValueGroup, ValuePrimeField,
};
use zeroize::{Zeroize, Zeroizing};

use super::{FileSecret, ShareFault, ShareRecord, check_commitments, check_digest, pedersen};
use crate::{
    ids::{Epoch, KeyId, ShareIndex},
    manifest::Manifest,
    scalar,
};

/// A share that was refused, by the number of its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Culprit {
    /// The number that the share carries.
    pub index: ShareIndex,
    /// What is wrong with it.
    pub fault: ShareFault,
}

/// Why no secret came out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CombineError {
    /// Some of the shares are wrong. Set them aside and ask other nodes.
    #[error("{}; {good} of {needed} needed shares of key {key} are good", list(.culprits))]
    Faulty {
        /// The key.
        key: KeyId,
        /// The shares that are wrong.
        culprits: Vec<Culprit>,
        /// How many of the others are good.
        good: usize,
        /// How many are needed.
        needed: usize,
    },
    /// All shares are good, but there are too few.
    #[error("{} more share(s) of key {key}, epoch {epoch}, are needed: {have} of {needed} are here", .needed - .have)]
    TooFew {
        /// The key.
        key: KeyId,
        /// Its epoch.
        epoch: Epoch,
        /// How many shares there are.
        have: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The shares have the registered digests and fit the commitments, but do not open C₀. This cannot happen with the
    /// manifest of an honest or dishonest registrant; it means that something is broken here.
    #[error("the shares of key {key} do not open its commitment")]
    DoesNotOpen {
        /// The key.
        key: KeyId,
    },
}

/// Combines m shares into the secret. The shares may be more than m; all of them are checked, the first m are used.
///
/// # Errors
/// [`CombineError`]: every wrong, swapped, duplicated or foreign share is named, and then nothing is combined, even if
/// enough good shares are left: the caller sets the culprits aside and calls again.
pub fn combine(manifest: &Manifest, records: &[ShareRecord]) -> Result<FileSecret, CombineError> {
    let needed = usize::from(manifest.threshold.needed());
    let culprits = faults(records, |record| check_digest(manifest, record));
    let good = records.len() - culprits.len();
    if !culprits.is_empty() {
        return Err(CombineError::Faulty { key: manifest.key, culprits, good, needed });
    }
    let Some(used) = records.get(..needed) else {
        return Err(CombineError::TooFew { key: manifest.key, epoch: manifest.epoch, have: good, needed });
    };

    if let Some((value, blinder)) = interpolate(used)
        && opens(manifest, &value, &blinder)
    {
        return Ok(FileSecret::from_scalar(&value));
    }
    let culprits = faults(records, |record| check_commitments(manifest, record));
    if culprits.is_empty() {
        return Err(CombineError::DoesNotOpen { key: manifest.key });
    }
    let good = records.len() - culprits.len();
    Err(CombineError::Faulty { key: manifest.key, culprits, good, needed })
}

/// Checks a share against its digest, and with `vsss-rs` against the commitments: what a node does before it stores one.
///
/// # Errors
/// The first fault found.
pub fn verify(manifest: &Manifest, record: &ShareRecord) -> Result<(), ShareFault> {
    check_digest(manifest, record)?;
    let mut set = std::vec![
        ValueGroup(ProjectivePoint::GENERATOR),
        ValueGroup(pedersen::second_generator().map_err(|_| ShareFault::BadCommitments)?),
    ];
    for point in &manifest.commitments {
        let point = pedersen::decode_point(point).map_err(|_| ShareFault::BadCommitments)?;
        set.push(ValueGroup(point.into()));
    }
    let (mut value, mut blinder) = vsss_shares(record).ok_or(ShareFault::OffPolynomial)?;
    let verified = set.verify_share_and_blinder(&value, &blinder);
    value.value.0.zeroize();
    blinder.value.0.zeroize();
    verified.map_err(|_| ShareFault::OffPolynomial)
}

type VsssShare = DefaultShare<IdentifierPrimeField<Scalar>, ValuePrimeField<Scalar>>;

/// The records that fail the check, or that carry the number of an earlier one.
fn faults(records: &[ShareRecord], check: impl Fn(&ShareRecord) -> Result<(), ShareFault>) -> Vec<Culprit> {
    let mut culprits = Vec::new();
    for (position, record) in records.iter().enumerate() {
        let earlier = records.iter().take(position);
        let fault = match check(record) {
            Err(fault) => Some(fault),
            Ok(()) if earlier.clone().any(|other| other.index() == record.index() && check(other).is_ok()) => {
                Some(ShareFault::Duplicate)
            }
            Ok(()) => None,
        };
        culprits.extend(fault.map(|fault| Culprit { index: record.index(), fault }));
    }
    culprits
}

/// Both polynomials at 0, from shares with distinct numbers.
fn interpolate(records: &[ShareRecord]) -> Option<(Zeroizing<Scalar>, Zeroizing<Scalar>)> {
    if let [only] = records {
        // 1 of n: every share is the secret itself. `vsss-rs` asks for two shares at least.
        return Some((scalar::from_bytes(only.share.value())?, scalar::from_bytes(only.share.blinder())?));
    }
    let mut values = Wiped(Vec::with_capacity(records.len()));
    let mut blinders = Wiped(Vec::with_capacity(records.len()));
    for record in records {
        let (value, blinder) = vsss_shares(record)?;
        values.0.push(value);
        blinders.0.push(blinder);
    }
    let value = values.0.combine().ok()?;
    let blinder = blinders.0.combine().ok()?;
    Some((Zeroizing::new(value.0), Zeroizing::new(blinder.0)))
}

fn opens(manifest: &Manifest, value: &Scalar, blinder: &Scalar) -> bool {
    let Some(first) = manifest.commitments.first().and_then(|point| pedersen::decode_point(point).ok()) else {
        return false;
    };
    pedersen::commit(value, blinder).is_ok_and(|found| found == ProjectivePoint::from(first))
}

fn vsss_shares(record: &ShareRecord) -> Option<(VsssShare, VsssShare)> {
    let index = IdentifierPrimeField(Scalar::from(u32::from(record.index().value())));
    let value = scalar::from_bytes(record.share.value())?;
    let blinder = scalar::from_bytes(record.share.blinder())?;
    Some((
        VsssShare::with_identifier_and_value(index, IdentifierPrimeField(*value)),
        VsssShare::with_identifier_and_value(index, IdentifierPrimeField(*blinder)),
    ))
}

/// Shares in the form of `vsss-rs`, which does not wipe them itself.
struct Wiped(Vec<VsssShare>);

impl Drop for Wiped {
    fn drop(&mut self) {
        for share in &mut self.0 {
            share.value.0.zeroize();
        }
    }
}

fn list(culprits: &[Culprit]) -> std::string::String {
    let named: Vec<_> =
        culprits.iter().map(|culprit| std::format!("share {} {}", culprit.index, culprit.fault)).collect();
    named.join(", ")
}
