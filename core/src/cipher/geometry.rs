//! Where the chunks of a message are, and which lengths a message can have.
//!
//! Offsets count from the first byte of the ciphertext, which is the first byte of the salt. All of it is public and
//! exact: one plaintext length has one ciphertext length, and a length that no message has is refused.

use core::ops::Range;

use super::{Start, TAG};
use crate::Error;

/// Plaintext bytes of every chunk but the last.
pub const CHUNK: usize = 16 * 1024;
/// Ciphertext bytes of every chunk but the last: the plaintext and its tag.
pub const SEALED_CHUNK: usize = CHUNK + TAG;
/// A message has at most so many chunks: 2³⁸.
pub const MAX_CHUNKS: u64 = 1 << 38;
/// The longest plaintext: 4 PiB − 1 byte.
pub const MAX_PLAIN: u64 = MAX_CHUNKS * CHUNK64 - 1;

/// The layout of one message of known length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    plain: u64,
}

impl Geometry {
    /// The layout of a message with this many bytes of plaintext.
    ///
    /// # Errors
    /// [`Error::TooLong`] beyond [`MAX_PLAIN`].
    pub const fn of_plain(length: u64) -> Result<Self, Error> {
        if length > MAX_PLAIN { Err(Error::TooLong) } else { Ok(Self { plain: length }) }
    }

    /// The layout of a message with this many bytes of ciphertext, salt and commitment included.
    ///
    /// # Errors
    /// [`Error::Truncated`] for a length that no whole message has; [`Error::TooLong`].
    pub const fn of_sealed(length: u64) -> Result<Self, Error> {
        let Some(body) = length.checked_sub(START64) else { return Err(Error::Truncated) };
        let Some(last) = (body % SEALED64).checked_sub(TAG64) else { return Err(Error::Truncated) };
        let full = body / SEALED64;
        if full >= MAX_CHUNKS { Err(Error::TooLong) } else { Ok(Self { plain: full * CHUNK64 + last }) }
    }

    /// Bytes of plaintext.
    pub const fn plain_len(self) -> u64 {
        self.plain
    }

    /// Bytes of ciphertext, salt and commitment included.
    pub const fn sealed_len(self) -> u64 {
        START64 + self.plain + self.chunks() * TAG64
    }

    /// How many chunks there are: at least 1, at most [`MAX_CHUNKS`].
    pub const fn chunks(self) -> u64 {
        self.plain / CHUNK64 + 1
    }

    /// The number of the last chunk, the short one.
    pub const fn last(self) -> u64 {
        self.plain / CHUNK64
    }

    /// Where the bytes of chunk `index`, tag included, are in the ciphertext.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] when there is no such chunk.
    pub const fn sealed_range(self, index: u64) -> Result<Range<u64>, Error> {
        match self.plain_range(index) {
            Err(error) => Err(error),
            Ok(plain) => {
                let start = sealed_offset(index);
                Ok(start..start + (plain.end - plain.start) + TAG64)
            }
        }
    }

    /// Which bytes of the plaintext are in chunk `index`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] when there is no such chunk.
    pub const fn plain_range(self, index: u64) -> Result<Range<u64>, Error> {
        if index > self.last() {
            return Err(Error::OutOfRange);
        }
        let start = index * CHUNK64;
        Ok(start..if index == self.last() { self.plain } else { start + CHUNK64 })
    }

    /// The chunks that hold the plaintext bytes `range`; none for an empty range.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] when the range is reversed or ends beyond the plaintext.
    pub const fn chunks_of(self, range: Range<u64>) -> Result<Range<u64>, Error> {
        if range.start > range.end || range.end > self.plain {
            return Err(Error::OutOfRange);
        }
        let first = range.start / CHUNK64;
        Ok(first..if range.start == range.end { first } else { (range.end - 1) / CHUNK64 + 1 })
    }
}

/// Where chunk `index` (below [`MAX_CHUNKS`]) starts in the ciphertext: 56 + 16,400 · index.
pub const fn sealed_offset(index: u64) -> u64 {
    START64.saturating_add(index.saturating_mul(SEALED64))
}

const CHUNK64: u64 = CHUNK as u64;
const SEALED64: u64 = SEALED_CHUNK as u64;
const TAG64: u64 = TAG as u64;
const START64: u64 = Start::LEN as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_valid_length_has_one_layout_and_every_other_is_refused() {
        let mut plain = 0;
        for sealed in 0..56 + 3 * SEALED64 + 40 {
            match Geometry::of_sealed(sealed) {
                Ok(layout) => {
                    assert_eq!(layout.plain_len(), plain, "lengths rise one by one");
                    assert_eq!(layout.sealed_len(), sealed);
                    assert_eq!(Geometry::of_plain(plain), Ok(layout));
                    plain += 1;
                }
                Err(error) => {
                    assert_eq!(error, Error::Truncated);
                    assert!(sealed < 72 || (sealed - 56) % SEALED64 < 16, "{sealed} was refused");
                }
            }
        }
        assert_eq!(plain, 3 * CHUNK64 + 24);
    }

    #[test]
    fn ranges_tile_the_message() {
        for length in [0, 1, CHUNK64 - 1, CHUNK64, CHUNK64 + 1, 5 * CHUNK64, MAX_PLAIN] {
            let layout = Geometry::of_plain(length).expect("in range");
            assert_eq!(layout.plain_range(0).expect("there is a first").start, 0);
            assert_eq!(layout.sealed_range(0).expect("there is a first").start, 56);
            assert_eq!(layout.plain_range(layout.last()).expect("there is a last").end, length);
            assert_eq!(layout.sealed_range(layout.last()).expect("there is a last").end, layout.sealed_len());
            assert_eq!(layout.sealed_range(layout.chunks()), Err(Error::OutOfRange));
            assert_eq!(layout.chunks_of(0..length), Ok(0..length.div_ceil(CHUNK64)));
            assert!(layout.chunks_of(0..length + 1).is_err());
        }
        let layout = Geometry::of_plain(40_000).expect("in range");
        assert_eq!(layout.chunks_of(16_383..16_385), Ok(0..2));
        assert_eq!(layout.chunks_of(16_384..16_385), Ok(1..2));
        assert_eq!(layout.chunks_of(16_384..16_384), Ok(1..1));
        #[expect(clippy::reversed_empty_ranges, reason = "a reversed range is what is refused")]
        let reversed = 2..1;
        assert!(layout.chunks_of(reversed).is_err());
    }

    #[test]
    fn the_limits_are_those_of_the_spec() {
        assert_eq!(MAX_PLAIN, (1 << 52) - 1);
        assert_eq!(Geometry::of_plain(MAX_PLAIN).expect("the longest").chunks(), MAX_CHUNKS);
        assert_eq!(Geometry::of_plain(MAX_PLAIN + 1), Err(Error::TooLong));
        let longest = Geometry::of_plain(MAX_PLAIN).expect("the longest").sealed_len();
        assert_eq!(Geometry::of_sealed(longest).expect("the longest").plain_len(), MAX_PLAIN);
        assert_eq!(Geometry::of_sealed(longest + 17), Err(Error::TooLong));
        assert!(Geometry::of_sealed(u64::MAX).is_err());
    }
}
