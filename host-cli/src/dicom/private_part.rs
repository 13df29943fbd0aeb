//! The private part of an image: the patient's data as it was received, and what binds it to its image.
//!
//! Format: `docs/private-part.md`. It is sealed in a container of its own, under a key of its own, before it is stored.
//! In memory it is wiped when dropped and never printed.

use std::{fmt, ops::Range};

use eds_core::{Error as FormatError, ids::FileId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::dicom::{Digests, Error, ImageBinding};

/// The format version of private parts of images of which nothing was blanked.
pub const VERSION: u8 = 1;
/// The format version of private parts that hold pixels.
pub const VERSION_BLANKED: u8 = 2;

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
    /// As [`Rest::Around`], and some of those bytes of the de-identified file were blanked.
    Blanked {
        /// Everything before the pixel data element.
        head: Zeroizing<Vec<u8>>,
        /// Where the pixel data element is in the de-identified file.
        pixels: Range<u64>,
        /// Everything after the pixel data element.
        tail: Zeroizing<Vec<u8>>,
        /// What was there.
        patches: Patches,
    },
}

/// Bytes that stand in the place of others.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Patches {
    /// How far each run is from the end of the one before, the first from the start, and how long it is.
    pub runs: Vec<(u64, u64)>,
    /// The bytes of all runs.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl Patches {
    /// Whether they lie within so many bytes, in rising order and apart.
    fn fit(&self, length: u64) -> bool {
        let mut end = 0u64;
        let apart = self.runs.iter().enumerate().all(|(number, (gap, run))| {
            let next = end.checked_add(*gap).and_then(|from| from.checked_add(*run));
            end = next.unwrap_or(u64::MAX);
            *run > 0 && (number == 0 || *gap > 0) && next.is_some_and(|end| end <= length)
        });
        let sum = self.runs.iter().try_fold(0u64, |sum, (_, run)| sum.checked_add(*run));
        apart && !self.runs.is_empty() && sum == u64::try_from(self.bytes.len()).ok()
    }
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
    Blanked { head: Bytes, pixels_start: u64, tail: Bytes, runs: Vec<(u64, u64)>, bytes: Bytes },
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
            Rest::Blanked { head, pixels, tail, patches } => BodyRest::Blanked {
                head: head.as_slice(),
                pixels_start: pixels.start,
                tail: tail.as_slice(),
                runs: patches.runs.clone(),
                bytes: patches.bytes.as_slice(),
            },
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
        out.push(self.rest.version());
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
        if version != VERSION && version != VERSION_BLANKED {
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
                BodyRest::Blanked { head, pixels_start, tail, runs, bytes } => Rest::Blanked {
                    head: held(head),
                    pixels: pixels_start..body.deidentified_length,
                    tail: held(tail),
                    patches: Patches { runs, bytes: held(bytes) },
                },
            },
        };
        part.check()?;
        // One private part has one encoding: a padded varint would be a second one, and so would another version.
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
        let around = |head: &[u8], pixels: &Range<u64>, tail: &[u8]| {
            let kept = pixels.end.checked_sub(pixels.start);
            let sum = kept.and_then(|kept| kept.checked_add(length(head))?.checked_add(length(tail)));
            pixels.end == self.deidentified_length && sum == Some(self.original_length)
        };
        let fits = match &self.rest {
            Rest::Around { head, pixels, tail } => around(head, pixels, tail),
            Rest::Blanked { head, pixels, tail, patches } => {
                around(head, pixels, tail) && patches.fit(pixels.end.saturating_sub(pixels.start))
            }
            Rest::Whole(original) => length(original) == self.original_length,
        };
        if fits { Ok(()) } else { Err(Error::PrivatePart(FormatError::Mismatch)) }
    }
}

impl Rest {
    /// Everything before the pixel data element, or the whole original.
    #[cfg(feature = "gateway")]
    pub(crate) fn head(&self) -> &[u8] {
        match self {
            Self::Around { head, .. } | Self::Blanked { head, .. } => head,
            Self::Whole(original) => original,
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Around { head, tail, .. } => head.len().saturating_add(tail.len()),
            Self::Whole(original) => original.len(),
            Self::Blanked { head, tail, patches, .. } => {
                let runs = patches.runs.len().saturating_mul(2 * MAX_VARINT);
                head.len().saturating_add(tail.len()).saturating_add(patches.bytes.len()).saturating_add(runs)
            }
        }
    }

    fn version(&self) -> u8 {
        if matches!(self, Self::Blanked { .. }) { VERSION_BLANKED } else { VERSION }
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

impl fmt::Debug for Patches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patches(<redacted>)")
    }
}

/// The longest varint of 64 bits.
const MAX_VARINT: usize = 10;
/// More than everything but the bytes of the original takes.
const MAX_FIXED: usize = 256;

#[cfg(test)]
mod tests;
