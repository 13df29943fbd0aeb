//! The Diffie-Hellman step with aws-lc-rs, for hosts: several times faster than the portable arithmetic.

use core::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};

use super::{DhKey, DhSecret, PublicKey};
use crate::{Error, Opaque};

/// A one-time private key of aws-lc-rs, which draws it from its own random source and wipes it.
pub struct AwsLcDhKey {
    private: PrivateKey,
    public: PublicKey,
}

impl AwsLcDhKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`Opaque`] when aws-lc-rs cannot make one.
    pub fn generate() -> Result<Self, Opaque> {
        let private = PrivateKey::generate(&ECDH_P256).map_err(|_| Opaque)?;
        let public = private.compute_public_key().map_err(|_| Opaque)?;
        let public = PublicKey::from_sec1(public.as_ref()).map_err(|_: Error| Opaque)?;
        Ok(Self { private, public })
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl DhKey for AwsLcDhKey {
    type Error = Opaque;

    fn public_key(&self) -> [u8; 65] {
        *self.public.as_bytes()
    }

    fn dh(&self, peer: &[u8; 65]) -> Result<DhSecret, Opaque> {
        agreement::agree(&self.private, UnparsedPublicKey::new(&ECDH_P256, peer), Opaque, |secret| {
            secret.try_into().map(DhSecret::from_bytes).map_err(|_| Opaque)
        })
    }
}

impl fmt::Debug for AwsLcDhKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsLcDhKey").field("public", &self.public.compressed()).finish_non_exhaustive()
    }
}
