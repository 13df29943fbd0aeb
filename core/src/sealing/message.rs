//! The sealed message: version (1) ‖ suite (u16 LE) ‖ encapsulated key (65, uncompressed SEC 1) ‖ ciphertext ‖ tag (16).

use core::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroize;

use super::{DhKey, DhSecret, Info, PublicKey, SoftDhKey, hpke::Schedule};
use crate::{Error, directory::SUITE_P256_AES256GCM};

/// The format version this release writes.
pub const MESSAGE_VERSION: u8 = 1;
/// How much longer a message is than its plaintext, in bytes.
pub const OVERHEAD: usize = 1 + 2 + 65 + 16;

/// Why a message was not sealed or opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SealingError<E> {
    /// The message is not in the format, does not open, or the buffer is too small: [`Error::Rejected`] says that it is
    /// for somebody else, for something else, or was changed.
    Message(Error),
    /// The private key could not be used.
    Key(E),
}

impl<E: fmt::Display> fmt::Display for SealingError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(error) => write!(f, "sealed message: {error}"),
            Self::Key(_) => f.write_str("the private key could not be used"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for SealingError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Message(_) => None,
            Self::Key(error) => Some(error),
        }
    }
}

impl<E> From<Error> for SealingError<E> {
    fn from(error: Error) -> Self {
        Self::Message(error)
    }
}

/// Seals `plaintext` to a recipient, with a one-time key drawn from `rng`. The message is written into `out`, which must
/// be [`OVERHEAD`] bytes longer than the plaintext; returns the bytes used.
///
/// # Errors
/// [`Error::BufferTooSmall`].
pub fn seal<'a, R: CryptoRng + ?Sized>(
    info: &Info,
    aad: &[u8],
    recipient: &PublicKey,
    plaintext: &[u8],
    rng: &mut R,
    out: &'a mut [u8],
) -> Result<&'a [u8], Error> {
    seal_from(SoftDhKey::generate(rng), info, aad, recipient, plaintext, out).map_err(|error| match error {
        SealingError::Message(error) => error,
        SealingError::Key(_) => Error::Rejected,
    })
}

/// Like [`seal`], with a one-time key of the caller, such as an `AwsLcDhKey`. The key is consumed: to seal twice from one
/// key to one recipient would repeat an AES-GCM nonce.
///
/// # Errors
/// [`Error::BufferTooSmall`], or what the key says.
pub fn seal_from<'a, K: DhKey>(
    one_time: K,
    info: &Info,
    aad: &[u8],
    recipient: &PublicKey,
    plaintext: &[u8],
    out: &'a mut [u8],
) -> Result<&'a [u8], SealingError<K::Error>> {
    let used = plaintext.len().checked_add(OVERHEAD).ok_or(Error::TooLong)?;
    let message = out.get_mut(..used).ok_or(Error::BufferTooSmall)?;
    let enc = one_time.public_key();
    let dh = one_time.dh(recipient.as_bytes()).map_err(SealingError::Key)?;
    drop(one_time);

    let (head, rest) = message.split_at_mut(HEAD);
    let (body, tag) = rest.split_at_mut(plaintext.len());
    let [version, suite @ ..] = HEADER;
    let (first, head) = head.split_at_mut(1);
    let (second, third) = head.split_at_mut(2);
    first.copy_from_slice(&[version]);
    second.copy_from_slice(&suite);
    third.copy_from_slice(&enc);
    body.copy_from_slice(plaintext);
    tag.copy_from_slice(&Schedule::new(&dh, &enc, recipient.as_bytes(), info.as_bytes()).seal(aad, body));
    Ok(message)
}

/// Opens a message with a key at hand and returns the plaintext, which is in `out`. The caller wipes `out`.
///
/// # Errors
/// As [`SealedMessage::parse`] and [`SealedMessage::open_with_dh`], or what the key says.
pub fn open<'a, K: DhKey>(
    key: &K,
    info: &Info,
    aad: &[u8],
    message: &[u8],
    out: &'a mut [u8],
) -> Result<&'a mut [u8], SealingError<K::Error>> {
    let message = SealedMessage::parse(message)?;
    let dh = key.dh(message.peer()).map_err(SealingError::Key)?;
    Ok(message.open_with_dh(&dh, &key.public_key(), info, aad, out)?)
}

/// [`seal_from`] into a vector.
///
/// # Errors
/// What the key says.
#[cfg(feature = "std")]
pub fn seal_vec<K: DhKey>(
    one_time: K,
    info: &Info,
    aad: &[u8],
    recipient: &PublicKey,
    plaintext: &[u8],
) -> Result<std::vec::Vec<u8>, SealingError<K::Error>> {
    let mut message = std::vec![0; plaintext.len() + OVERHEAD];
    seal_from(one_time, info, aad, recipient, plaintext, &mut message)?;
    Ok(message)
}

/// [`open`] into a vector that is wiped on drop.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "std")]
pub fn open_vec<K: DhKey>(
    key: &K,
    info: &Info,
    aad: &[u8],
    message: &[u8],
) -> Result<zeroize::Zeroizing<std::vec::Vec<u8>>, SealingError<K::Error>> {
    let mut plaintext = zeroize::Zeroizing::new(std::vec![0; message.len().saturating_sub(OVERHEAD)]);
    open(key, info, aad, message, &mut plaintext)?;
    Ok(plaintext)
}

/// A message whose format was checked and whose encapsulated key is a point of the curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedMessage<'a> {
    enc: &'a [u8; 65],
    ciphertext: &'a [u8],
    tag: &'a [u8; 16],
}

impl<'a> SealedMessage<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], [`Error::UnknownSuite`], [`Error::Truncated`]; [`Error::Malformed`] when the
    /// encapsulated key is not an uncompressed point of the curve.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (&version, rest) = bytes.split_first().ok_or(Error::Truncated)?;
        if version != MESSAGE_VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let (suite, rest) = rest.split_first_chunk::<2>().ok_or(Error::Truncated)?;
        let suite = u16::from_le_bytes(*suite);
        if suite != SUITE_P256_AES256GCM {
            return Err(Error::UnknownSuite(suite));
        }
        let (enc, rest) = rest.split_first_chunk::<65>().ok_or(Error::Truncated)?;
        let (ciphertext, tag) = rest.split_last_chunk::<16>().ok_or(Error::Truncated)?;
        PublicKey::from_sec1(enc)?;
        Ok(Self { enc, ciphertext, tag })
    }

    /// The point that the recipient's key is applied to, uncompressed SEC 1; checked to be on the curve.
    pub const fn peer(&self) -> &'a [u8; 65] {
        self.enc
    }

    /// The length of the plaintext, in bytes.
    pub const fn plaintext_len(&self) -> usize {
        self.ciphertext.len()
    }

    /// Opens the message with the result of the recipient's Diffie-Hellman step and returns the plaintext, which is in
    /// `out`. On an error `out` holds nothing of the plaintext.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] when `out` is shorter than [`SealedMessage::plaintext_len`]; [`Error::Rejected`] when
    /// the message is not for this key, this info and this associated data, or was changed.
    pub fn open_with_dh<'b>(
        &self,
        dh: &DhSecret,
        own_public: &[u8; 65],
        info: &Info,
        aad: &[u8],
        out: &'b mut [u8],
    ) -> Result<&'b mut [u8], Error> {
        let plaintext = out.get_mut(..self.ciphertext.len()).ok_or(Error::BufferTooSmall)?;
        plaintext.copy_from_slice(self.ciphertext);
        match Schedule::new(dh, self.enc, own_public, info.as_bytes()).open(aad, plaintext, self.tag) {
            Ok(()) => Ok(plaintext),
            Err(error) => {
                plaintext.zeroize();
                Err(error.into())
            }
        }
    }
}

/// version ‖ suite.
const HEADER: [u8; 3] = [MESSAGE_VERSION, SUITE_P256_AES256GCM.to_le_bytes()[0], SUITE_P256_AES256GCM.to_le_bytes()[1]];
/// version ‖ suite ‖ encapsulated key.
const HEAD: usize = HEADER.len() + 65;
