//! The two operations of P-256 keys, done outside a token: for the token in memory, and for key pairs that a token cannot
//! hold ([`crate::hsm::wrapped`]). Keys are wiped when they are dropped.

use eds_core::manifest::Point;
use p256::{
    PublicKey, SecretKey,
    ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner},
    elliptic_curve::sec1::ToSec1Point,
};
use zeroize::Zeroizing;

use crate::hsm::{HsmError, is_valid_point, memory::random};

/// A fresh private key, with its bytes.
///
/// # Errors
/// [`HsmError::Random`].
pub(crate) fn fresh_key() -> Result<(SecretKey, Zeroizing<[u8; 32]>), HsmError> {
    // A random string is no scalar once in 2³².
    loop {
        let bytes = random::<32>()?;
        if let Ok(key) = SecretKey::from_slice(bytes.as_slice()) {
            return Ok((key, bytes));
        }
    }
}

/// The compressed form of a public key.
pub(crate) fn compressed(key: &PublicKey) -> Point {
    let mut bytes = [0; 33];
    bytes.copy_from_slice(key.to_sec1_point(true).as_bytes());
    Point(bytes)
}

/// The x-coordinate of `key` times `peer`.
///
/// # Errors
/// [`HsmError::PeerPoint`].
pub(crate) fn dh(key: &SecretKey, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
    if !is_valid_point(peer) {
        return Err(HsmError::PeerPoint);
    }
    let peer = PublicKey::from_sec1_bytes(peer).map_err(|_| HsmError::PeerPoint)?;
    let shared = p256::elliptic_curve::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine());
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(shared.raw_secret_bytes());
    Ok(secret)
}

/// Signs a digest: `r ‖ s`.
///
/// # Errors
/// [`HsmError::Unavailable`].
pub(crate) fn sign(key: &SigningKey, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
    let signature: Result<Signature, _> = key.sign_prehash(digest);
    signature
        .map(|signature| signature.to_bytes().into())
        .map_err(|_| HsmError::Unavailable { operation: "sign", source: None })
}
