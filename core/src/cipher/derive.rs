//! Key derivation of a message: HKDF-Expand-SHA-512 straight from the input key, without Extract, as C2SP
//! chunked-encryption "Key derivation" wants it. The `hkdf` crate refuses input keys shorter than the hash, so the two
//! rounds are written out over `hmac`.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{COMMITMENT, InputKey, NONCE, SALT, Start, geometry};
use crate::Error;

/// Key, base nonce and commitment of one message.
pub(super) struct Derived {
    pub(super) key: MessageKey,
    pub(super) nonces: Nonces,
    pub(super) start: Start,
}

/// The AES-256 key of one message.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct MessageKey(pub(super) [u8; 32]);

/// The base nonce of one message. Secret, as the spec treats it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Nonces([u8; NONCE]);

impl Nonces {
    /// The nonce of chunk `index`: the base nonce XOR the chunk number in big-endian.
    ///
    /// # Errors
    /// [`Error::TooLong`] from chunk 2³⁸ on.
    pub(super) fn of(&self, index: u64) -> Result<[u8; NONCE], Error> {
        if index >= geometry::MAX_CHUNKS {
            return Err(Error::TooLong);
        }
        let mut nonce = self.0;
        for (byte, counter) in nonce.iter_mut().rev().zip(index.to_le_bytes()) {
            *byte ^= counter;
        }
        Ok(nonce)
    }
}

/// Derives what one message needs.
///
/// # Errors
/// None in practice: HMAC takes keys of any length.
pub(super) fn derive(input: &InputKey, salt: &[u8; SALT], context: &[u8]) -> Result<Derived, Error> {
    let first = round(input, None, salt, context, 1)?;
    let second = round(input, Some(&first), salt, context, 2)?;
    let mut derived = Derived {
        key: MessageKey([0; 32]),
        nonces: Nonces([0; NONCE]),
        start: Start { salt: *salt, commitment: [0; COMMITMENT] },
    };
    let mut output = first.iter().chain(second.iter());
    let parts = [&mut derived.key.0[..], &mut derived.nonces.0[..], &mut derived.start.commitment[..]];
    for (target, byte) in parts.into_iter().flatten().zip(&mut output) {
        *target = *byte;
    }
    Ok(derived)
}

/// T(n) = HMAC(input key, T(n − 1) ‖ info ‖ n), RFC 5869 section 2.3.
fn round(
    input: &InputKey,
    previous: Option<&[u8; 64]>,
    salt: &[u8; SALT],
    context: &[u8],
    number: u8,
) -> Result<Zeroizing<[u8; 64]>, Error> {
    let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(input.as_bytes()).map_err(|_| Error::OutOfRange)?;
    mac.update(previous.map_or(&[], |bytes| &bytes[..]));
    mac.update(LABEL);
    mac.update(salt);
    mac.update(context);
    mac.update(&[number]);
    Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
}

/// "c2sp.org/chunked-encryption@v1+" ‖ IANA name of the AEAD ‖ 0.
const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";
