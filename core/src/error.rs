//! Errors of the core: one opaque error for what depends on a secret, one enum for format errors and misuse.

use core::fmt;

/// A cryptographic check failed. Deliberately says nothing more: what depends on a secret must not explain itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opaque;

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cryptographic check failed")
    }
}

impl core::error::Error for Opaque {}

/// Bytes that are not in the documented format, or a call that the documentation rules out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end before the structure does.
    Truncated,
    /// Bytes follow the end of the structure.
    TrailingBytes,
    /// The bytes are not a valid encoding of the structure.
    Malformed,
    /// The first bytes are not those of this kind of file.
    BadMagic,
    /// A format version that this release does not know.
    UnknownVersion(u8),
    /// A suite or scheme id that this release does not know.
    UnknownSuite(u16),
    /// A number is outside of its documented range.
    OutOfRange,
    /// The output buffer is too small.
    BufferTooSmall,
    /// More data than the format can carry.
    TooLong,
    /// A list names the same thing twice.
    Duplicate,
    /// Two parts that must agree do not.
    Mismatch,
    /// A signature or a secret-dependent check failed.
    Rejected,
    /// The cipher engine itself failed.
    Engine,
    /// An earlier call on the same object failed: it can only be dropped.
    Spent,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("truncated"),
            Self::TrailingBytes => f.write_str("bytes after the end"),
            Self::Malformed => f.write_str("malformed"),
            Self::BadMagic => f.write_str("not this kind of file"),
            Self::UnknownVersion(v) => write!(f, "format version {v} is not known to this release"),
            Self::UnknownSuite(s) => write!(f, "suite {s} is not known to this release"),
            Self::OutOfRange => f.write_str("a number is out of range"),
            Self::BufferTooSmall => f.write_str("output buffer too small"),
            Self::TooLong => f.write_str("too long for the format"),
            Self::Duplicate => f.write_str("listed twice"),
            Self::Mismatch => f.write_str("parts do not belong together"),
            Self::Rejected => f.write_str("cryptographic check failed"),
            Self::Engine => f.write_str("the cipher engine failed"),
            Self::Spent => f.write_str("used again after it failed"),
        }
    }
}

impl core::error::Error for Error {}

impl From<Opaque> for Error {
    fn from(_: Opaque) -> Self {
        Self::Rejected
    }
}
