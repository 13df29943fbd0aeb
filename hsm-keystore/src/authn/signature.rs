//! Signatures of certificates, CRLs and attribute certificates.
//!
//! The algorithms are those of rustls' aws-lc-rs provider: RSA from 2048 bits (PKCS #1 and PSS) with SHA-256, SHA-384 or
//! SHA-512, ECDSA on P-256, P-384 and P-521, Ed25519. Algorithm identifiers are compared byte for byte, with their
//! parameters. SHA-1, MD5 and short RSA keys are not among them, so they fail here.

use rustls::pki_types::SignatureVerificationAlgorithm;

use super::fields::{Fields, Malformed};

/// A public key as certificates carry it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PublicKey {
    info: Vec<u8>,
    algorithm: Vec<u8>,
    bits: Vec<u8>,
}

/// Why a signature does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadSignature {
    /// The algorithm is unknown, too weak, or not one for the signer's kind of key.
    #[error("the signature algorithm is not accepted for the signer's key (SHA-1 and RSA below 2048 bits never are)")]
    Algorithm,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Wrong,
}

impl PublicKey {
    /// The key in a SubjectPublicKeyInfo with its tag and length.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_der(info: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::of_sequence(info)?;
        let algorithm = fields.value(der::Tag::Sequence)?.to_vec();
        let bits = fields.bits()?.to_vec();
        fields.finish()?;
        Ok(Self { info: info.to_vec(), algorithm, bits })
    }

    /// The SubjectPublicKeyInfo.
    pub fn as_der(&self) -> &[u8] {
        &self.info
    }

    /// The bits of the key: what RFC 5280's first method of a key identifier hashes.
    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Checks a signature; `algorithm` is the content of its AlgorithmIdentifier.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, algorithm: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let fits = |known: &&&dyn SignatureVerificationAlgorithm| {
            known.signature_alg_id().as_ref() == algorithm && known.public_key_alg_id().as_ref() == self.algorithm
        };
        let known = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let known = known.iter().find(fits).ok_or(BadSignature::Algorithm)?;
        known.verify_signature(&self.bits, message, signature).map_err(|_| BadSignature::Wrong)
    }
}
