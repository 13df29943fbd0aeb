//! The file secret: one uniformly random scalar, from which the input keys of any number of files are derived.

use core::fmt;

use p256::Scalar;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Error, scalar};

/// A uniformly random element of the P-256 scalar field. Wiped on drop.
pub struct FileSecret(Scalar);

impl FileSecret {
    /// A fresh secret.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(*scalar::random(rng))
    }

    /// The secret with these big-endian bytes.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a number that is not below the order of the group.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        scalar::from_bytes(bytes).map(|scalar| Self(*scalar)).ok_or(Error::OutOfRange)
    }

    /// The 32 big-endian bytes of the secret.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        scalar::to_bytes(&self.0)
    }

    pub(super) fn scalar(&self) -> &Scalar {
        &self.0
    }

    #[cfg(feature = "std")]
    pub(super) fn from_scalar(scalar: &Scalar) -> Self {
        Self(*scalar)
    }
}

impl ConstantTimeEq for FileSecret {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.to_bytes().ct_eq(&*other.to_bytes())
    }
}

impl Zeroize for FileSecret {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for FileSecret {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for FileSecret {}

impl fmt::Debug for FileSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileSecret(<redacted>)")
    }
}
