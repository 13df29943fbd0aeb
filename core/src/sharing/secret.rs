//! The file secret: one uniformly random scalar, from which the input keys of any number of files are derived.

use core::fmt;

use hkdf::Hkdf;
use p256::Scalar;
use rand_core::CryptoRng;
use sha2::Sha512;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Error, cipher::InputKey, ids::KeyId, scalar};

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

    /// The input key for one purpose: HKDF-SHA-512 (RFC 5869) with the secret as input keying material, no salt, and
    /// info "eds/v1/" ‖ purpose ‖ 0 ‖ GUID of the key.
    ///
    /// Purposes in use: `image`, `private`, `file`.
    #[inline(never)]
    pub fn input_key(&self, purpose: &str, key: KeyId) -> InputKey {
        let mut output = Zeroizing::new([0u8; 32]);
        let info: [&[u8]; 4] = [b"eds/v1/", purpose.as_bytes(), &[0], key.as_bytes()];
        // HKDF-SHA-512 refuses only outputs beyond 255 × 64 bytes.
        let done = Hkdf::<Sha512>::new(None, &*self.to_bytes()).expand_multi_info(&info, &mut *output);
        debug_assert!(done.is_ok(), "32 bytes are within what HKDF-SHA-512 gives");
        InputKey::from_bytes(*output)
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
