//! The beginning of a file, up to its pixel data: what peers are told of an image, and where its data set starts.

use std::io::{Cursor, Read, Seek};

use super::{
    Error, Header,
    dataset::Encoding,
    deidentify,
    split::{self, Bytes},
};

/// The attributes of a file, read to its pixel data.
pub struct Head {
    bytes: Bytes,
    encoding: Encoding,
    transfer_syntax: String,
    offset: usize,
}

impl Head {
    /// Of a file.
    ///
    /// # Errors
    /// As [`deidentify::deidentify`], for files that cannot be read.
    pub fn read_from<R: Read + Seek>(input: &mut R) -> Result<Self, Error> {
        let split = split::split(input)?;
        let offset = match &split.bytes {
            Bytes::Parts { dataset, .. } => *dataset,
            Bytes::Deflated { .. } => return Err(Error::TransferSyntax("Deflated Explicit VR Little Endian".into())),
        };
        Ok(Self { bytes: split.bytes, encoding: split.encoding, transfer_syntax: split.meta.transfer_syntax, offset })
    }

    /// Of the bytes before the pixel data.
    ///
    /// # Errors
    /// As [`Head::read_from`].
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        Self::read_from(&mut Cursor::new(bytes))
    }

    /// The attributes.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn header(&self) -> Result<Header<'_>, Error> {
        Header::parse(self.bytes.dataset(), self.encoding)
    }

    /// The transfer syntax of the data set.
    pub fn transfer_syntax(&self) -> &str {
        &self.transfer_syntax
    }

    /// Where the data set starts.
    pub fn dataset(&self) -> usize {
        self.offset
    }
}

/// Where the data set starts in a file that EDS wrote; nothing when too few bytes are there to tell.
pub(crate) fn dataset_offset(start: &[u8]) -> Option<usize> {
    // Preamble, prefix, and (0002,0000) UL 4: the length of what follows it.
    let length = start.get(140..144)?.try_into().ok().map(u32::from_le_bytes)?;
    usize::try_from(length).ok()?.checked_add(144)
}

/// What comes before the data set of an object that arrived over the network. It is the same whoever sent it, so that an
/// object that is sent again is the same file.
pub(crate) fn preface(class: &str, instance: &str, syntax: &str) -> Vec<u8> {
    deidentify::file(&[], Some(&class.into()), Some(&instance.into()), syntax)
}
