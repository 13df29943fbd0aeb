//! The private part of an image: the patient's data as it was received, and what binds it to its image.
//!
//! Format: `docs/private-part.md`. It is sealed in a container of its own, under a key of its own, before it is stored.
//! In memory it is wiped when dropped and never printed.

use std::{fmt, ops::Range};

use eds_core::{Error as FormatError, ids::FileId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::dicom::{Digests, Error, ImageBinding};

/// The format version this release writes.
pub const VERSION: u8 = 1;

/// The private part of an image.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivatePart {
    /// The container of the de-identified image.
    pub image: ImageBinding,
    /// What the de-identified and the original file must be.
    pub digests: Digests,
    /// Length of the de-identified file in bytes.
    pub deidentified_length: u64,
    /// Length of the original file in bytes.
    pub original_length: u64,
    /// What the original had besides its pixel data.
    pub rest: Rest,
}

/// What the original had besides its pixel data.
#[derive(Clone, PartialEq, Eq)]
pub enum Rest {
    /// The original is `head` ‖ bytes `pixels` of the de-identified file ‖ `tail`.
    Around {
        /// Everything before the pixel data element.
        head: Zeroizing<Vec<u8>>,
        /// Where the pixel data element is in the de-identified file; it is the end of it, and may be empty.
        pixels: Range<u64>,
        /// Everything after the pixel data element.
        tail: Zeroizing<Vec<u8>>,
    },
    /// The original itself, for files that were deflated.
    Whole(Zeroizing<Vec<u8>>),
}

#[derive(Serialize, Deserialize)]
struct Body<Bytes> {
    image: FileId,
    image_salt: [u8; 24],
    image_commitment: [u8; 32],
    deidentified_digest: [u8; 32],
    deidentified_length: u64,
    original_digest: [u8; 32],
    original_length: u64,
    rest: BodyRest<Bytes>,
}

#[derive(Serialize, Deserialize)]
enum BodyRest<Bytes> {
    Around { head: Bytes, pixels_start: u64, tail: Bytes },
    Whole { original: Bytes },
}

impl PrivatePart {
    /// Writes the private part.
    ///
    /// # Errors
    /// [`Error::PrivatePart`] when its lengths do not add up.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.check()?;
        let rest = match &self.rest {
            Rest::Around { head, pixels, tail } => {
                BodyRest::Around { head: head.as_slice(), pixels_start: pixels.start, tail: tail.as_slice() }
            }
            Rest::Whole(original) => BodyRest::Whole { original: original.as_slice() },
        };
        let body = Body {
            image: self.image.file,
            image_salt: self.image.salt,
            image_commitment: self.image.commitment,
            deidentified_digest: self.digests.deidentified,
            deidentified_length: self.deidentified_length,
            original_digest: self.digests.original,
            original_length: self.original_length,
            rest,
        };
        // Reserved beforehand, so that no copy is left behind by a growing buffer.
        let mut out = Zeroizing::new(Vec::with_capacity(self.rest.held() + MAX_FIXED));
        out.push(VERSION);
        let written = postcard::to_extend(&body, std::mem::take(&mut *out));
        *out = written.map_err(|_| Error::PrivatePart(FormatError::Malformed))?;
        Ok(out)
    }

    /// Reads a private part.
    ///
    /// # Errors
    /// [`Error::PrivatePart`] with [`FormatError::UnknownVersion`], [`FormatError::Truncated`],
    /// [`FormatError::Malformed`], [`FormatError::TrailingBytes`] or, when its lengths do not add up,
    /// [`FormatError::Mismatch`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (&version, rest) = bytes.split_first().ok_or(Error::PrivatePart(FormatError::Truncated))?;
        if version != VERSION {
            return Err(Error::PrivatePart(FormatError::UnknownVersion(version)));
        }
        // Borrowed from the input: nothing is allocated for lengths that the input only claims.
        let (body, trailing) =
            postcard::take_from_bytes::<Body<&[u8]>>(rest).map_err(|_| Error::PrivatePart(FormatError::Malformed))?;
        if !trailing.is_empty() {
            return Err(Error::PrivatePart(FormatError::TrailingBytes));
        }
        let held = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        let part = Self {
            image: ImageBinding { file: body.image, salt: body.image_salt, commitment: body.image_commitment },
            digests: Digests { deidentified: body.deidentified_digest, original: body.original_digest },
            deidentified_length: body.deidentified_length,
            original_length: body.original_length,
            rest: match body.rest {
                BodyRest::Around { head, pixels_start, tail } => {
                    Rest::Around { head: held(head), pixels: pixels_start..body.deidentified_length, tail: held(tail) }
                }
                BodyRest::Whole { original } => Rest::Whole(held(original)),
            },
        };
        part.check()?;
        // One private part has one encoding: a padded varint would be a second one.
        if part.encode()?.as_slice() == bytes { Ok(part) } else { Err(Error::PrivatePart(FormatError::Malformed)) }
    }

    /// Checks that this is the private part of the image in this container.
    ///
    /// # Errors
    /// [`Error::OtherImage`].
    pub fn check_image(&self, image: &ImageBinding) -> Result<(), Error> {
        if self.image == *image { Ok(()) } else { Err(Error::OtherImage) }
    }

    fn check(&self) -> Result<(), Error> {
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let fits = match &self.rest {
            Rest::Around { head, pixels, tail } => {
                let kept = pixels.end.checked_sub(pixels.start);
                let sum = kept.and_then(|kept| kept.checked_add(length(head))?.checked_add(length(tail)));
                pixels.end == self.deidentified_length && sum == Some(self.original_length)
            }
            Rest::Whole(original) => length(original) == self.original_length,
        };
        if fits { Ok(()) } else { Err(Error::PrivatePart(FormatError::Mismatch)) }
    }
}

impl Rest {
    fn held(&self) -> usize {
        match self {
            Self::Around { head, tail, .. } => head.len().saturating_add(tail.len()),
            Self::Whole(original) => original.len(),
        }
    }
}

impl fmt::Debug for PrivatePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivatePart(of {}, <redacted>)", self.image.file)
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rest(<redacted>)")
    }
}

/// More than everything but the bytes of the original takes.
const MAX_FIXED: usize = 256;

#[cfg(test)]
mod tests;
