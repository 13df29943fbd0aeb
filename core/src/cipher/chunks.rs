//! Encrypts whole chunks in memory, in any order and on several threads, without a nonce ever being used twice.
//!
//! [`Tickets`] hands out the chunk numbers one after the other; a [`Ticket`] is used up by sealing its chunk. One
//! thread at a time takes tickets (in the order of the plaintext), any number of them seal. Only the last chunk, made by
//! [`Tickets::finish`], is short: without it the message is truncated to every reader.

use rand_core::CryptoRng;

use super::{
    ChunkCipher, InputKey, SALT, Start, TAG,
    derive::{Nonces, derive},
    geometry::{CHUNK, MAX_CHUNKS},
};
use crate::Error;

/// Seals chunks against tickets. Shared between threads by reference.
pub struct ChunkSealer<C> {
    cipher: C,
    start: Start,
}

/// The chunk numbers of one message, each once.
pub struct Tickets {
    nonces: Nonces,
    next: u64,
}

/// The right to seal one full chunk, once.
pub struct Ticket {
    nonce: [u8; super::NONCE],
    index: u64,
}

/// The right to seal the last chunk, once.
pub struct FinalTicket(Ticket);

impl<C: ChunkCipher> ChunkSealer<C> {
    /// Begins a message: draws the salt and derives the key.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn begin(
        key: &InputKey,
        context: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<(Self, Tickets), Error> {
        let mut salt = [0; SALT];
        rng.fill_bytes(&mut salt);
        Self::danger_begin_with_salt(key, context, salt)
    }

    /// Begins a message with a given salt. A salt used twice under one key gives both messages away: this is for
    /// vectors and golden files.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn danger_begin_with_salt(key: &InputKey, context: &[u8], salt: [u8; SALT]) -> Result<(Self, Tickets), Error> {
        let derived = derive(key, &salt, context)?;
        let sealer = Self { cipher: C::new(&derived.key.0)?, start: derived.start };
        Ok((sealer, Tickets { nonces: derived.nonces, next: 0 }))
    }

    /// Salt and commitment, which come before the first chunk.
    pub const fn start(&self) -> &Start {
        &self.start
    }

    /// Encrypts a full chunk, 16 KiB, in place and returns its tag.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless `data` is exactly 16 KiB; [`Error::Engine`].
    pub fn seal(&self, ticket: Ticket, data: &mut [u8]) -> Result<[u8; TAG], Error> {
        if data.len() != CHUNK {
            return Err(Error::OutOfRange);
        }
        Ok(self.cipher.seal_in_place(&ticket.nonce, data)?)
    }

    /// Encrypts the last chunk, 0 to 16,383 bytes, in place and returns its tag.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] when `data` is 16 KiB or more; [`Error::Engine`].
    pub fn seal_final(&self, ticket: FinalTicket, data: &mut [u8]) -> Result<[u8; TAG], Error> {
        if data.len() >= CHUNK {
            return Err(Error::OutOfRange);
        }
        Ok(self.cipher.seal_in_place(&ticket.0.nonce, data)?)
    }
}

impl Tickets {
    /// The ticket of the next full chunk.
    ///
    /// # Errors
    /// [`Error::TooLong`] for chunk 2³⁸ − 1, which can only be the last one.
    pub fn take(&mut self) -> Result<Ticket, Error> {
        if self.next + 1 >= MAX_CHUNKS {
            return Err(Error::TooLong);
        }
        let ticket = Ticket { nonce: self.nonces.of(self.next)?, index: self.next };
        self.next += 1;
        Ok(ticket)
    }

    /// The ticket of the last chunk.
    ///
    /// # Errors
    /// None in practice: [`Tickets::take`] leaves a number for it.
    pub fn finish(self) -> Result<FinalTicket, Error> {
        Ok(FinalTicket(Ticket { nonce: self.nonces.of(self.next)?, index: self.next }))
    }
}

impl Ticket {
    /// The number of the chunk.
    pub const fn index(&self) -> u64 {
        self.index
    }
}

impl FinalTicket {
    /// The number of the chunk.
    pub const fn index(&self) -> u64 {
        self.0.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::soft::SoftCipher;

    #[test]
    fn the_last_chunk_number_is_kept_for_the_last_chunk() {
        let key = InputKey::from_bytes([1; 32]);
        let (_, mut tickets) = ChunkSealer::<SoftCipher>::danger_begin_with_salt(&key, b"", [0; SALT]).expect("begins");
        tickets.next = MAX_CHUNKS - 2;
        assert_eq!(tickets.take().expect("the last full one").index(), MAX_CHUNKS - 2);
        assert_eq!(tickets.take().err(), Some(Error::TooLong));
        assert_eq!(tickets.finish().expect("the last one").index(), MAX_CHUNKS - 1);
    }
}
