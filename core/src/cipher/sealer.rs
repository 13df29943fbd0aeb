//! Encrypts a message as its bytes come, in pieces of any size, with constant state and no chunk buffer.
//!
//! What comes out goes to the caller's sink in the order of the file. The last chunk, which is shorter than the others,
//! is written by [`Sealer::finish`] alone: whatever stops before leaves a message that every reader calls truncated.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{
    EngineFault, InputKey, SALT, Start, StreamingCipher,
    derive::{Nonces, derive},
    geometry::{CHUNK, Geometry, MAX_CHUNKS},
    soft::SoftCipher,
};
use crate::Error;

/// A message being encrypted. State below 1 KiB on 32-bit devices.
///
/// Output goes to a sink, `FnMut(&[u8]) -> Result<(), E>`, where `E` is the caller's error and can hold an
/// [`Error`]. After an error the sealer is spent: every later call returns [`Error::Spent`].
///
/// # Examples
/// ```
/// use eds_core::{Error, cipher::{InputKey, Sealer}};
/// # struct Counter(u8);
/// # impl rand_core::TryRng for Counter {
/// #     type Error = core::convert::Infallible;
/// #     fn try_next_u32(&mut self) -> Result<u32, Self::Error> { Ok(7) }
/// #     fn try_next_u64(&mut self) -> Result<u64, Self::Error> { Ok(7) }
/// #     fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> { bytes.fill(7); Ok(()) }
/// # }
/// # impl rand_core::TryCryptoRng for Counter {}
/// # let mut rng = Counter(0);
/// let key = InputKey::from_bytes([7; 32]);
/// let mut file = Vec::new();
/// let mut sink = |bytes: &[u8]| -> Result<(), Error> { file.extend_from_slice(bytes); Ok(()) };
/// let mut sealer = Sealer::begin(&key, b"context", &mut rng, &mut sink)?;
/// sealer.write(b"one line ", &mut sink)?;
/// sealer.write(b"and another", &mut sink)?;
/// sealer.finish(&mut sink)?;
/// assert_eq!(file.len(), 56 + 20 + 16);
/// # Ok::<(), Error>(())
/// ```
pub struct Sealer<C = SoftCipher> {
    cipher: C,
    nonces: Nonces,
    start: Start,
    /// The chunk that is open.
    chunk: u64,
    /// Bytes of it so far: less than [`CHUNK`].
    filled: usize,
    spent: bool,
}

/// What a finished message is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Salt and commitment.
    pub start: Start,
    /// Lengths and layout.
    pub geometry: Geometry,
}

impl Sealer {
    /// Begins a message with the portable cipher: draws the salt, derives the key, writes salt and commitment.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn begin<E: From<Error>>(
        key: &InputKey,
        context: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        Self::begin_with(|key| Ok(SoftCipher::with_key(key)), key, context, rng, sink)
    }
}

impl<C: StreamingCipher> Sealer<C> {
    /// Begins a message with the cipher that `engine` makes of the message key.
    ///
    /// # Errors
    /// Those of the engine ([`Error::Engine`]) and of the sink.
    pub fn begin_with<E: From<Error>>(
        engine: impl FnOnce(&[u8; 32]) -> Result<C, EngineFault>,
        key: &InputKey,
        context: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut salt = [0; SALT];
        rng.fill_bytes(&mut salt);
        Self::danger_begin_with_salt(engine, key, context, salt, sink)
    }

    /// Begins a message with a given salt. A salt used twice under one key gives both messages away: this is for
    /// vectors and golden files.
    ///
    /// # Errors
    /// Those of the engine ([`Error::Engine`]) and of the sink.
    pub fn danger_begin_with_salt<E: From<Error>>(
        engine: impl FnOnce(&[u8; 32]) -> Result<C, EngineFault>,
        key: &InputKey,
        context: &[u8],
        salt: [u8; SALT],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let derived = derive(key, &salt, context)?;
        let mut cipher = engine(&derived.key.0).map_err(Error::from)?;
        cipher.start(&derived.nonces.of(0)?).map_err(Error::from)?;
        sink(&derived.start.to_bytes())?;
        Ok(Self { cipher, nonces: derived.nonces, start: derived.start, chunk: 0, filled: 0, spent: false })
    }

    /// Salt and commitment of this message.
    pub const fn start(&self) -> &Start {
        &self.start
    }

    /// Encrypts the next bytes of the message, through a small buffer on the stack.
    ///
    /// # Errors
    /// Those of the engine and of the sink; [`Error::TooLong`] beyond 4 PiB − 1 byte; [`Error::Spent`].
    pub fn write<E: From<Error>>(
        &mut self,
        plain: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = Zeroizing::new([0; PIECE]);
        for piece in plain.chunks(PIECE) {
            let Some(copy) = buffer.get_mut(..piece.len()) else { continue };
            copy.copy_from_slice(piece);
            self.write_in_place(copy, sink)?;
        }
        Ok(())
    }

    /// Encrypts the next bytes of the message where they are, and hands them to the sink from there.
    ///
    /// # Errors
    /// As [`Sealer::write`].
    pub fn write_in_place<E: From<Error>>(
        &mut self,
        plain: &mut [u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.guarded(|sealer| {
            let mut rest = plain;
            while !rest.is_empty() {
                let room = CHUNK.saturating_sub(sealer.filled).min(rest.len());
                let Some((piece, after)) = rest.split_at_mut_checked(room) else { break };
                sealer.cipher.update(piece).map_err(Error::from)?;
                sink(piece)?;
                sealer.filled += room;
                if sealer.filled == CHUNK {
                    sealer.next_chunk(sink)?;
                }
                rest = after;
            }
            Ok(())
        })
    }

    /// Encrypts the next bytes of the message into `out` and returns how many bytes came out: as many as
    /// [`Sealer::output_len`] says.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] before anything is done; otherwise as [`Sealer::write`].
    pub fn write_to_slice(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let length = self.output_len(plain.len());
        let mut free = out.get_mut(..length).ok_or(Error::BufferTooSmall)?;
        self.write(plain, &mut |bytes: &[u8]| {
            let (now, later) =
                core::mem::take(&mut free).split_at_mut_checked(bytes.len()).ok_or(Error::BufferTooSmall)?;
            now.copy_from_slice(bytes);
            free = later;
            Ok::<(), Error>(())
        })?;
        Ok(length)
    }

    /// How many bytes the next `plain` bytes make: themselves, and a tag for each chunk that they fill.
    pub const fn output_len(&self, plain: usize) -> usize {
        let tags = self.filled.saturating_add(plain) / CHUNK;
        plain.saturating_add(tags.saturating_mul(super::TAG))
    }

    /// Writes the last chunk. Only now is the message whole.
    ///
    /// # Errors
    /// As [`Sealer::write`].
    pub fn finish<E: From<Error>>(mut self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<Sealed, E> {
        self.guarded(|sealer| {
            let geometry = Geometry::of_plain(sealer.written())?;
            let tag = sealer.cipher.finish().map_err(Error::from)?;
            sink(&tag)?;
            Ok(Sealed { start: sealer.start, geometry })
        })
    }

    /// Bytes of plaintext so far.
    pub const fn written(&self) -> u64 {
        self.chunk * CHUNK as u64 + self.filled as u64
    }

    fn next_chunk<E: From<Error>>(&mut self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let tag = self.cipher.finish().map_err(Error::from)?;
        sink(&tag)?;
        let next = self.chunk + 1;
        if next >= MAX_CHUNKS {
            // A full chunk must be followed by another one, and there is none left.
            return Err(Error::TooLong.into());
        }
        self.cipher.start(&self.nonces.of(next)?).map_err(Error::from)?;
        self.chunk = next;
        self.filled = 0;
        Ok(())
    }

    /// Runs a step; a failed one spends the sealer, since output may then lack bytes.
    fn guarded<E: From<Error>, T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        if core::mem::replace(&mut self.spent, true) {
            return Err(Error::Spent.into());
        }
        let value = step(self)?;
        self.spent = false;
        Ok(value)
    }
}

/// Bytes encrypted at a time by [`Sealer::write`].
const PIECE: usize = 256;

// A device has room for this; AES round keys take most of it. The 64-bit code of `aes` holds twice as many.
#[cfg(target_pointer_width = "32")]
const _: () = assert!(cfg!(target_family = "wasm") || size_of::<Sealer>() < 1024);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunk_after_the_last_is_refused() {
        let mut sink = |_: &[u8]| Ok::<(), Error>(());
        let key = InputKey::from_bytes([1; 32]);
        let engine = |key: &[u8; 32]| Ok(SoftCipher::with_key(key));
        let mut sealer = Sealer::danger_begin_with_salt(engine, &key, b"", [0; SALT], &mut sink).expect("begins");
        sealer.chunk = MAX_CHUNKS - 1;
        assert_eq!(sealer.write(&[0; CHUNK - 1], &mut sink), Ok(()));
        assert_eq!(sealer.written(), crate::cipher::geometry::MAX_PLAIN);
        assert_eq!(sealer.write(&[0], &mut sink), Err(Error::TooLong));
        assert_eq!(sealer.finish(&mut sink), Err(Error::Spent));
    }
}
