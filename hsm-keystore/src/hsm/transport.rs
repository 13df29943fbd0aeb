//! The token's transport key as the private key of sealed messages: the Diffie-Hellman step is done in the token.

use eds_core::sealing::{DhKey, DhSecret, PublicKey};

use crate::hsm::{Hsm, HsmError};

/// The transport key of a token.
pub struct TransportKey<'a> {
    hsm: &'a dyn Hsm,
    public: PublicKey,
}

impl<'a> TransportKey<'a> {
    /// The transport key of this token.
    ///
    /// # Errors
    /// [`HsmError::Unavailable`] when the public key that the token told is none.
    pub fn of(hsm: &'a dyn Hsm) -> Result<Self, HsmError> {
        let unusable = |_| HsmError::Unavailable { operation: "tell its public transport key", source: None };
        Ok(Self { hsm, public: PublicKey::try_from(&hsm.transport_key()).map_err(unusable)? })
    }
}

impl DhKey for TransportKey<'_> {
    type Error = HsmError;

    fn public_key(&self) -> [u8; 65] {
        *self.public.as_bytes()
    }

    fn dh(&self, peer: &[u8; 65]) -> Result<DhSecret, HsmError> {
        // Both copies are wiped when they are dropped.
        self.hsm.dh(peer).map(|secret| DhSecret::from_bytes(*secret))
    }
}
