//! Verifying many shares at once, for a node that takes in a batch.
//!
//! For share i with number xᵢ, value vᵢ, blinder bᵢ and commitments Cᵢⱼ, random weights rᵢ of 128 bits are drawn and one
//! equation is checked: (Σ rᵢvᵢ)·G + (Σ rᵢbᵢ)·H = Σⱼ xʲ·(Σᵢ rᵢ·Cᵢⱼ). A batch with a wrong share passes with probability
//! 2⁻¹²⁸ (the group has prime order). Shares of one number, which is all of them on a node, are summed together, so that
//! the points are only ever multiplied by the short weights. If the equation fails, every share is checked on its own.

use std::{collections::BTreeMap, vec, vec::Vec};

use p256::{AffinePoint, ProjectivePoint, Scalar, elliptic_curve::group::Group};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{
    ShareFault, ShareRecord, check_commitments, check_digest,
    pedersen::{commit, decode_point, times_index},
};
use crate::{ids::ShareIndex, manifest::Manifest, scalar};

/// A share of a batch that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchFault {
    /// Its position in the batch, from 0.
    pub position: usize,
    /// What is wrong with it.
    pub fault: ShareFault,
}

/// Checks every share against its manifest's digest and commitments.
///
/// # Errors
/// All shares that are wrong, in order of position.
pub fn verify_batch<R: CryptoRng + ?Sized>(
    pairs: &[(&Manifest, &ShareRecord)],
    rng: &mut R,
) -> Result<(), Vec<BatchFault>> {
    let faults = failing(pairs, check_digest);
    if !faults.is_empty() {
        return Err(faults);
    }
    if combination_holds(pairs, rng) == Some(true) {
        return Ok(());
    }
    let faults = failing(pairs, check_commitments);
    // The equation holds if every single one does, so there is a culprit here.
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn failing(
    pairs: &[(&Manifest, &ShareRecord)],
    check: impl Fn(&Manifest, &ShareRecord) -> Result<(), ShareFault>,
) -> Vec<BatchFault> {
    let failed = |(position, (manifest, record)): (usize, &(&Manifest, &ShareRecord))| {
        check(manifest, record).err().map(|fault| BatchFault { position, fault })
    };
    pairs.iter().enumerate().filter_map(failed).collect()
}

/// Whether the weighted sum of all equations holds; none if something in it is not a scalar or not a point.
fn combination_holds<R: CryptoRng + ?Sized>(pairs: &[(&Manifest, &ShareRecord)], rng: &mut R) -> Option<bool> {
    let mut value = Zeroizing::new(Scalar::ZERO);
    let mut blinder = Zeroizing::new(Scalar::ZERO);
    // For every share number: the weighted commitments to each coefficient.
    let mut terms: BTreeMap<ShareIndex, Vec<Vec<Term>>> = BTreeMap::new();
    for (manifest, record) in pairs {
        let mut weight = [0u8; 16];
        rng.fill_bytes(&mut weight);
        let scalar = Scalar::from(u128::from_be_bytes(weight));
        *value += scalar * *scalar::from_bytes(record.share.value())?;
        *blinder += scalar * *scalar::from_bytes(record.share.blinder())?;
        let coefficients = terms.entry(record.index()).or_default();
        if coefficients.len() < manifest.commitments.len() {
            coefficients.resize_with(manifest.commitments.len(), Vec::new);
        }
        for (slot, point) in coefficients.iter_mut().zip(&manifest.commitments) {
            slot.push(Term { weight, point: decode_point(point).ok()? });
        }
    }
    let mut expected = ProjectivePoint::IDENTITY;
    for (index, coefficients) in &terms {
        let mut at_index = ProjectivePoint::IDENTITY;
        for slot in coefficients.iter().rev() {
            at_index = times_index(&at_index, *index) + weighted_sum(slot);
        }
        expected += at_index;
    }
    Some(commit(&value, &blinder).ok()? == expected)
}

struct Term {
    // Big endian.
    weight: [u8; 16],
    point: AffinePoint,
}

/// Σ weight·point, by the bucket method (Pippenger). Variable time: the weights are of no use once they are drawn, and
/// the points are public.
fn weighted_sum(terms: &[Term]) -> ProjectivePoint {
    // Few points: 4 bits of the weight at a time; many: 8 bits.
    let bits = if terms.len() < 64 { 4 } else { 8 };
    let mut sum = ProjectivePoint::IDENTITY;
    for byte in 0..16 {
        for shift in (0..8).step_by(bits).rev() {
            for _ in 0..bits {
                sum = sum.double();
            }
            let digit = |term: &Term| term.weight.get(byte).map_or(0, |byte| usize::from(byte >> shift) % (1 << bits));
            sum += sum_of_digits(terms, digit, 1 << bits);
        }
    }
    sum
}

/// Σ digit·point for digits below `limit`: points of one digit are added first.
fn sum_of_digits(terms: &[Term], digit: impl Fn(&Term) -> usize, limit: usize) -> ProjectivePoint {
    let mut buckets = vec![ProjectivePoint::IDENTITY; limit];
    for term in terms {
        if let Some(bucket) = buckets.get_mut(digit(term)) {
            *bucket += term.point;
        }
    }
    let (mut running, mut sum) = (ProjectivePoint::IDENTITY, ProjectivePoint::IDENTITY);
    for bucket in buckets.iter().skip(1).rev() {
        running += bucket;
        sum += running;
    }
    sum
}
