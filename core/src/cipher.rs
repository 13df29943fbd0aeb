//! Cobblestone-256: chunked encryption after <https://c2sp.org/chunked-encryption> (v1, AES-256-GCM, SHA-512).
//!
//! A message is salt (24) ‖ commitment (32) ‖ chunks. Each chunk holds 16 KiB of plaintext and a 16-byte tag; the last
//! one is always shorter, which is what marks the end. Key, base nonce and commitment come from the input key, the salt
//! and a context; the commitment is checked before anything is decrypted, and a chunk is released only after its tag.
//!
//! | to | use |
//! |---|---|
//! | encrypt bytes as they come, without a chunk buffer | [`Sealer`] |
//! | encrypt whole chunks, on several threads | [`ChunkSealer`] |
//! | decrypt chunk k, or chunk after chunk | [`Opener`], [`SequentialOpener`] |
//! | map offsets and check lengths | [`geometry`] |
//!
//! The block cipher behind them is a value: [`soft::SoftCipher`] everywhere, `aws_lc::AwsLcCipher` on hosts, a hardware
//! engine on a device that has one. All of them make the same bytes.

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{Error, Opaque};

#[cfg(feature = "aws-lc-rs")]
pub mod aws_lc;
mod chunks;
mod derive;
pub mod geometry;
mod opener;
mod sealer;
pub mod soft;

pub use chunks::{ChunkSealer, FinalTicket, Ticket, Tickets};
pub use opener::{Opener, SequentialOpener};
pub use sealer::{Sealed, Sealer};

/// Bytes of a salt.
pub const SALT: usize = 24;
/// Bytes of a key commitment.
pub const COMMITMENT: usize = 32;
/// Bytes of a chunk's tag.
pub const TAG: usize = 16;
/// Bytes of a chunk's nonce.
pub const NONCE: usize = 12;

/// A 32-byte input key: uniformly random, or the output of a key derivation. Wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct InputKey([u8; 32]);

impl InputKey {
    /// The key with these bytes. The caller wipes its own copy.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for InputKey {
    type Error = Error;

    /// # Errors
    /// [`Error::OutOfRange`] unless there are exactly 32 bytes.
    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        <[u8; 32]>::try_from(bytes).map(Self).map_err(|_| Error::OutOfRange)
    }
}

impl fmt::Debug for InputKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InputKey(<redacted>)")
    }
}

/// How a message starts: salt ‖ commitment, 56 bytes, public. Two messages under one key differ in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Start {
    /// Random, once for each message.
    pub salt: [u8; SALT],
    /// Commits to the input key, the salt and the context.
    pub commitment: [u8; COMMITMENT],
}

impl Start {
    /// Bytes of a start.
    pub const LEN: usize = SALT + COMMITMENT;

    /// The start with these bytes.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut start = Self { salt: [0; SALT], commitment: [0; COMMITMENT] };
        let (salt, commitment) = bytes.split_at(SALT);
        start.salt.copy_from_slice(salt);
        start.commitment.copy_from_slice(commitment);
        start
    }

    /// The 56 bytes.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (salt, commitment) = bytes.split_at_mut(SALT);
        salt.copy_from_slice(&self.salt);
        commitment.copy_from_slice(&self.commitment);
        bytes
    }
}

/// The cipher engine itself failed: not the data, not the key. The message being written is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineFault;

impl From<EngineFault> for Error {
    fn from(_: EngineFault) -> Self {
        Self::Engine
    }
}

/// AES-256-GCM without associated data over a whole chunk in memory (NIST SP 800-38D, 96-bit nonce, 128-bit tag).
///
/// Implementers: wipe the key on drop, run in constant time, and pass the conformance suite in `cipher/tests.rs`.
/// Callers: never seal twice with one nonce. [`ChunkSealer`] and [`Sealer`] see to it.
pub trait ChunkCipher: Sized {
    /// A cipher with this key.
    ///
    /// # Errors
    /// [`EngineFault`] when the engine cannot be set up.
    fn new(key: &[u8; 32]) -> Result<Self, EngineFault>;

    /// Encrypts `data` in place and returns the tag.
    ///
    /// # Errors
    /// [`EngineFault`]; `data` is then wiped.
    fn seal_in_place(&self, nonce: &[u8; NONCE], data: &mut [u8]) -> Result<[u8; TAG], EngineFault>;

    /// Checks the tag and decrypts `data` in place.
    ///
    /// # Errors
    /// [`Opaque`] when the tag does not fit; `data` is then wiped.
    fn open_in_place(&self, nonce: &[u8; NONCE], data: &mut [u8], tag: &[u8; TAG]) -> Result<(), Opaque>;
}

/// AES-256-GCM encryption of one chunk at a time, in pieces of any size: what a [`Sealer`] needs.
///
/// It stands apart from [`ChunkCipher`] so that an engine that only encrypts, or that is built around a peripheral, can
/// implement it: see [`Sealer::begin_with`]. The same rules and the same conformance suite apply.
pub trait StreamingCipher {
    /// Begins a chunk; what was unfinished before is forgotten.
    ///
    /// # Errors
    /// [`EngineFault`].
    fn start(&mut self, nonce: &[u8; NONCE]) -> Result<(), EngineFault>;

    /// Encrypts the next piece of the chunk in place.
    ///
    /// # Errors
    /// [`EngineFault`]; `piece` may then still hold plaintext.
    fn update(&mut self, piece: &mut [u8]) -> Result<(), EngineFault>;

    /// Ends the chunk and returns its tag.
    ///
    /// # Errors
    /// [`EngineFault`].
    fn finish(&mut self) -> Result<[u8; TAG], EngineFault>;
}

/// Compares public-length secrets or tags without telling where they differ.
fn same(a: &[u8], b: &[u8]) -> Result<(), Opaque> {
    if bool::from(a.ct_eq(b)) { Ok(()) } else { Err(Opaque) }
}

#[cfg(test)]
mod tests;
