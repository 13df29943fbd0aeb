//! Takes an image apart: gives the de-identified file as a stream, and the private part when that was read.
//!
//! The input is read twice, once for the header and once for the pixel data, and never held. What was put out is what
//! the digests cover, so a file that changes between the two is noticed when it is restored, or at once by its length.

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom},
};

use aws_lc_rs::digest::{Context, SHA256};
use dicom_object::FileMetaTableBuilder;
use eds_core::ids::FileId;

use crate::{
    dicom::{
        Error, PrivatePart, UidKey,
        private_part::Rest,
        profile,
        split::{self, Bytes, Split},
    },
    metadata::PublicAttributes,
};

/// An image taken apart.
pub struct Separated {
    /// The de-identified file before its pixel data.
    head: Vec<u8>,
    original: Split,
    attributes: PublicAttributes,
}

/// What ties a private part to the container of its image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageBinding {
    /// The file id of the container.
    pub file: FileId,
    /// Its salt.
    pub salt: [u8; 24],
    /// Its key commitment.
    pub commitment: [u8; 32],
}

/// SHA-256 of both files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digests {
    /// Of the de-identified file.
    pub deidentified: [u8; 32],
    /// Of the original.
    pub original: [u8; 32],
}

/// Takes an image apart.
///
/// # Errors
/// [`Error::is_unreadable`] tells files that are not DICOM, or not as this release understands it; [`Error::Read`].
pub fn separate<R: Read + Seek>(input: &mut R, key: &UidKey) -> Result<Separated, Error> {
    let original = split::split(input)?;
    let cleaned = profile::clean(original.bytes.dataset(), original.encoding, key)?;
    let attributes =
        PublicAttributes { transfer_syntax: Some(original.meta.transfer_syntax.clone()), ..cleaned.attributes };
    let sop_class = cleaned.sop_class.clone().or_else(|| original.meta.sop_class.clone());
    let mut head = Vec::with_capacity(cleaned.dataset.len() + 1024);
    head.resize(128, 0);
    head.extend_from_slice(b"DICM");
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(sop_class.unwrap_or_default())
        .media_storage_sop_instance_uid(cleaned.sop_instance.unwrap_or_default())
        .transfer_syntax(original.meta.transfer_syntax.clone())
        .implementation_class_uid(IMPLEMENTATION_CLASS)
        .implementation_version_name(IMPLEMENTATION_VERSION)
        .build();
    let unwritable = || Error::Malformed { at: 132, reason: "file meta information that cannot be written again" };
    meta.map_err(|_| unwritable())?.write(&mut head).map_err(|_| unwritable())?;
    head.extend_from_slice(&cleaned.dataset);
    Ok(Separated { head, original, attributes })
}

impl Separated {
    /// The attributes that may be kept in clear.
    pub fn attributes(&self) -> &PublicAttributes {
        &self.attributes
    }

    /// Length of the de-identified file in bytes.
    pub fn length(&self) -> u64 {
        held(&self.head) + self.pixel_length()
    }

    /// Length of the original file in bytes.
    pub fn original_length(&self) -> u64 {
        self.original.length
    }

    /// The de-identified file, as a stream. `input` is the same file again.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn deidentified<'a, R: Read + Seek + Send>(&'a self, input: &'a mut R) -> Result<Deidentified<'a>, Error> {
        let mut original_digest = Context::new(&SHA256);
        let (pixels, tail): (Box<dyn Read + Send + 'a>, &[u8]) = match &self.original.bytes {
            Bytes::Parts { head, pixels, tail, .. } => {
                input.seek(SeekFrom::Start(pixels.start)).map_err(Error::Read)?;
                original_digest.update(head);
                (Box::new(input.take(self.pixel_length())), tail.as_slice())
            }
            Bytes::Deflated { inflated, pixels, .. } => {
                (Box::new(inflated.get(pixels.clone()).unwrap_or_default()), &[])
            }
        };
        Ok(Deidentified {
            image: self,
            head: &self.head,
            pixels,
            left: self.pixel_length(),
            tail,
            deidentified_digest: Context::new(&SHA256),
            original_digest,
        })
    }

    /// The private part, once the de-identified file was read to its end and sealed.
    pub fn into_private_part(self, image: ImageBinding, digests: Digests) -> PrivatePart {
        let deidentified_length = self.length();
        let rest = match self.original.bytes {
            Bytes::Parts { head, tail, .. } => {
                Rest::Around { head, pixels: held(&self.head)..deidentified_length, tail }
            }
            Bytes::Deflated { original, .. } => Rest::Whole(original),
        };
        PrivatePart { image, digests, deidentified_length, original_length: self.original.length, rest }
    }

    fn pixel_length(&self) -> u64 {
        match &self.original.bytes {
            Bytes::Parts { pixels, .. } => pixels.end - pixels.start,
            Bytes::Deflated { pixels, .. } => u64::try_from(pixels.len()).unwrap_or(u64::MAX),
        }
    }
}

impl fmt::Debug for Separated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Separated(<redacted>, {} bytes)", self.original.length)
    }
}

/// The de-identified file, read from its beginning to its end.
pub struct Deidentified<'a> {
    image: &'a Separated,
    head: &'a [u8],
    pixels: Box<dyn Read + Send + 'a>,
    left: u64,
    tail: &'a [u8],
    deidentified_digest: Context,
    original_digest: Context,
}

impl Deidentified<'_> {
    /// The digests of both files.
    ///
    /// # Errors
    /// [`Error::Changed`] when the stream was not read to its end.
    pub fn finish(mut self) -> Result<Digests, Error> {
        if !self.head.is_empty() || self.left > 0 {
            return Err(Error::Changed);
        }
        let original = match &self.image.original.bytes {
            Bytes::Parts { .. } => {
                self.original_digest.update(self.tail);
                sha256(self.original_digest)
            }
            Bytes::Deflated { original, .. } => {
                let mut whole = Context::new(&SHA256);
                whole.update(original);
                sha256(whole)
            }
        };
        Ok(Digests { deidentified: sha256(self.deidentified_digest), original })
    }
}

impl Read for Deidentified<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.head.is_empty() {
            let read = self.head.read(buffer)?;
            self.deidentified_digest.update(buffer.get(..read).unwrap_or_default());
            return Ok(read);
        }
        let read = self.pixels.read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the image became shorter while it was read"));
        }
        self.left = self.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        let read_bytes = buffer.get(..read).unwrap_or_default();
        self.deidentified_digest.update(read_bytes);
        self.original_digest.update(read_bytes);
        Ok(read)
    }
}

impl fmt::Debug for Deidentified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deidentified(<redacted>)")
    }
}

pub(super) fn sha256(context: Context) -> [u8; 32] {
    let digest = context.finish();
    let mut bytes = [0; 32];
    // SHA-256 is 32 bytes long.
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}

fn held(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A UID of ours in the 2.25 arc, the same in every release.
const IMPLEMENTATION_CLASS: &str = "2.25.190146791043182537444806132342625375407";
const IMPLEMENTATION_VERSION: &str = "EDS_1";
