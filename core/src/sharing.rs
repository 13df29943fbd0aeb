//! Sharing of a file secret: m of n shares open it, m − 1 tell nothing.
//!
//! Shamir over the P-256 scalar field with Pedersen commitments. Two random polynomials of degree m − 1 are drawn: f with
//! f(0) = the secret, and a blinding polynomial g. Node number x gets f(x) and g(x); the manifest carries the commitments
//! Cⱼ = fⱼ·G + gⱼ·H to the coefficients, and a SHA-256 digest of each share. The commitments hide f perfectly, so
//! secrecy against m − 1 nodes rests on no assumption for the shares and on SHA-256 for the digests.
//!
//! | to | use |
//! |---|---|
//! | share a secret | [`split`] |
//! | see whether an answer is the registered share | [`check_digest`]: one hash |
//! | see whether a share fits the commitments | [`check_commitments`]; with `std` also `verify` and `verify_batch` |
//! | get the secret back | `combine` (`std`) |
//!
//! Splitting is ours, because it must run on a device and wipe its polynomials. With `std`, `vsss-rs` verifies and
//! combines; tests check each against the other. Nothing here is believed about the manifest itself: whoever calls has
//! established that it is the right one (`docs/formats.md`, "Manifest").

use core::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::ids::{Epoch, KeyId, ShareIndex};

#[cfg(feature = "std")]
mod batch;
mod check;
#[cfg(feature = "std")]
mod combine;
mod pedersen;
mod secret;
mod split;
#[cfg(all(test, feature = "std"))]
mod tests;

#[cfg(feature = "std")]
pub use batch::{BatchFault, verify_batch};
pub use check::{ShareFault, check_commitments, check_digest};
#[cfg(feature = "std")]
pub use combine::{CombineError, Culprit, combine, verify};
pub use pedersen::{SECOND_GENERATOR, SECOND_GENERATOR_DST, SECOND_GENERATOR_MESSAGE};
pub use secret::FileSecret;
pub use split::{Dealer, SplitParams, split};

/// One node's share: two scalars, big endian. Wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Share {
    #[zeroize(skip)]
    index: ShareIndex,
    value: [u8; 32],
    blinder: [u8; 32],
}

impl Share {
    /// The share with these scalars. The caller wipes its own copies.
    pub const fn new(index: ShareIndex, value: [u8; 32], blinder: [u8; 32]) -> Self {
        Self { index, value, blinder }
    }

    /// The share whose 64 bytes are value ‖ blinder, as [`Share::to_bytes`] gives them.
    pub fn from_bytes(index: ShareIndex, bytes: &[u8; 64]) -> Self {
        let mut share = Self { index, value: [0; 32], blinder: [0; 32] };
        let (value, blinder) = bytes.split_at(32);
        share.value.copy_from_slice(value);
        share.blinder.copy_from_slice(blinder);
        share
    }

    /// value ‖ blinder: what a node wraps and stores.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 64]> {
        let mut bytes = Zeroizing::new([0; 64]);
        let (value, blinder) = bytes.split_at_mut(32);
        value.copy_from_slice(&self.value);
        blinder.copy_from_slice(&self.blinder);
        bytes
    }

    /// The number of the node it is for.
    pub const fn index(&self) -> ShareIndex {
        self.index
    }

    /// f(index).
    pub const fn value(&self) -> &[u8; 32] {
        &self.value
    }

    /// g(index).
    pub const fn blinder(&self) -> &[u8; 32] {
        &self.blinder
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share {{ index: {}, <redacted> }}", self.index)
    }
}

/// A share and what it is a share of.
#[derive(Debug)]
pub struct ShareRecord {
    /// The key.
    pub key: KeyId,
    /// The generation of shares that this one belongs to.
    pub epoch: Epoch,
    /// The share.
    pub share: Share,
}

impl ShareRecord {
    /// The number of the node the share is for.
    pub const fn index(&self) -> ShareIndex {
        self.share.index
    }

    /// The digest that the manifest holds: SHA-256 over 86 bytes without a label: GUID (16) ‖ epoch (u32 LE) ‖ index
    /// (u16 LE) ‖ value (32, big endian) ‖ blinder (32, big endian).
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.key.as_bytes());
        hash.update(self.epoch.value().to_le_bytes());
        hash.update(self.share.index.value().to_le_bytes());
        hash.update(self.share.value);
        hash.update(self.share.blinder);
        hash.finalize().into()
    }
}

/// In constant time where the shares themselves are compared.
impl PartialEq for ShareRecord {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
            && self.epoch == other.epoch
            && self.share.index == other.share.index
            && bool::from(self.share.value.ct_eq(&other.share.value) & self.share.blinder.ct_eq(&other.share.blinder))
    }
}

impl Eq for ShareRecord {}
