//! Decrypts chunks: the commitment is checked when the opener is made, each chunk before any byte of it is released.
//!
//! [`Opener`] opens chunk k of a message, for random access and for several threads. A full chunk is never the last one
//! and a short one always is, but only who knows the length of the ciphertext, or reads to its end, knows that nothing is
//! missing: [`super::geometry::Geometry::of_sealed`] checks the length, and [`SequentialOpener`] keeps the books of a pipe.

use super::{
    ChunkCipher, InputKey, Start, TAG,
    derive::{Nonces, derive},
    geometry::{CHUNK, Geometry, MAX_CHUNKS, SEALED_CHUNK},
    same,
};
use crate::{Error, Opaque};

/// Opens the chunks of one message.
pub struct Opener<C> {
    cipher: C,
    nonces: Nonces,
}

impl<C: ChunkCipher> Opener<C> {
    /// Derives the message key and compares the commitment, in constant time.
    ///
    /// # Errors
    /// [`Opaque`] when input key, context and start do not belong together.
    pub fn new(key: &InputKey, context: &[u8], start: &Start) -> Result<Self, Opaque> {
        let derived = derive(key, &start.salt, context).map_err(|_| Opaque)?;
        same(&derived.start.commitment, &start.commitment)?;
        Ok(Self { cipher: C::new(&derived.key.0).map_err(|_| Opaque)?, nonces: derived.nonces })
    }

    /// Checks chunk `index`, ciphertext ‖ tag, and decrypts it in place; returns the plaintext.
    ///
    /// # Errors
    /// [`Error::Truncated`] below 16 bytes, [`Error::TooLong`] above 16,400 bytes, beyond chunk 2³⁸ − 1, or when that one is full;
    /// [`Error::Rejected`] when the tag does not fit: the bytes are then wiped.
    pub fn open<'a>(&self, index: u64, chunk: &'a mut [u8]) -> Result<&'a mut [u8], Error> {
        let last_and_full = chunk.len() == SEALED_CHUNK && index + 1 >= MAX_CHUNKS;
        if chunk.len() > SEALED_CHUNK || index >= MAX_CHUNKS || last_and_full {
            return Err(Error::TooLong);
        }
        let (data, tag) = chunk.split_last_chunk_mut::<TAG>().ok_or(Error::Truncated)?;
        self.cipher.open_in_place(&self.nonces.of(index)?, data, tag)?;
        Ok(data)
    }

    /// Checks the last chunk of a message of this layout: with it, the length is authentic. `chunk` is used as scratch.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when `chunk` has not the length of the last chunk; otherwise as [`Opener::open`].
    pub fn open_last<'a>(&self, geometry: Geometry, chunk: &'a mut [u8]) -> Result<&'a mut [u8], Error> {
        let range = geometry.sealed_range(geometry.last())?;
        if u64::try_from(chunk.len()) != Ok(range.end - range.start) {
            return Err(Error::Mismatch);
        }
        self.open(geometry.last(), chunk)
    }
}

/// Opens the chunks of one message in their order and knows if the end was there.
pub struct SequentialOpener<C> {
    opener: Opener<C>,
    next: u64,
    plain: u64,
    ended: bool,
}

impl<C: ChunkCipher> SequentialOpener<C> {
    /// As [`Opener::new`].
    ///
    /// # Errors
    /// [`Opaque`] when input key, context and start do not belong together.
    pub fn new(key: &InputKey, context: &[u8], start: &Start) -> Result<Self, Opaque> {
        Opener::new(key, context, start).map(Self::from)
    }

    /// Checks and decrypts the next chunk in place. Give it 16,400 bytes as long as the source has them, then the rest,
    /// which may be as short as a tag.
    ///
    /// # Errors
    /// [`Error::TrailingBytes`] after the last chunk; otherwise as [`Opener::open`].
    pub fn open_next<'a>(&mut self, chunk: &'a mut [u8]) -> Result<&'a mut [u8], Error> {
        if self.ended {
            return Err(Error::TrailingBytes);
        }
        let plain = self.opener.open(self.next, chunk)?;
        self.next += 1;
        self.plain += plain.len() as u64;
        self.ended = plain.len() < CHUNK;
        Ok(plain)
    }

    /// Whether the last chunk has been opened.
    pub const fn ended(&self) -> bool {
        self.ended
    }

    /// The source is at its end: says if the message was whole, and its layout.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the last chunk has not been there.
    pub fn finish(self) -> Result<Geometry, Error> {
        if self.ended { Geometry::of_plain(self.plain) } else { Err(Error::Truncated) }
    }
}

impl<C> From<Opener<C>> for SequentialOpener<C> {
    fn from(opener: Opener<C>) -> Self {
        Self { opener, next: 0, plain: 0, ended: false }
    }
}
