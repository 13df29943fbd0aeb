//! Identifiers and small numbers as types, so that one cannot be passed for another.
//!
//! The 128-bit ids are random and are shown as UUIDs (`8-4-4-4-12` lower-case hex digits); their bytes are in the order
//! of the text. All of them are public values.

use core::{fmt, str::FromStr};

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::Error;

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// A fresh random id.
            pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
                let mut bytes = [0; 16];
                rng.fill_bytes(&mut bytes);
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                parse_uuid(text).map(Self)
            }
        }
    };
}

id128!(
    /// The GUID of a key: one file secret, split over the nodes of a cluster.
    KeyId
);
id128!(
    /// The id of a cluster of key servers.
    ClusterId
);
id128!(
    /// The id of one key server.
    NodeId
);
id128!(
    /// The id of one encrypted file.
    FileId
);
id128!(
    /// The id of an imaging device.
    DeviceId
);

/// The directory number of a node, which is also the index of its shares: 1 to 65,535, never reused in a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct ShareIndex(u16);

impl ShareIndex {
    /// # Errors
    /// [`Error::OutOfRange`] for 0: the share at 0 would be the secret.
    pub const fn new(number: u16) -> Result<Self, Error> {
        if number == 0 { Err(Error::OutOfRange) } else { Ok(Self(number)) }
    }

    /// The number itself.
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for ShareIndex {
    type Error = Error;
    fn try_from(number: u16) -> Result<Self, Error> {
        Self::new(number)
    }
}

impl From<ShareIndex> for u16 {
    fn from(index: ShareIndex) -> Self {
        index.0
    }
}

impl fmt::Display for ShareIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The generation of the shares of a key: 0 when registered, one more at each refresh.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The most nodes that hold shares of one key.
pub const MAX_NODES: usize = 32;
/// The largest number of shares that can be asked for to open a key.
pub const MAX_THRESHOLD: usize = 16;

/// m of n: how many shares are needed and how many there are; 1 ≤ m ≤ min(n, 16), n ≤ 32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Threshold {
    needed: u8,
    nodes: u8,
}

impl Threshold {
    /// # Errors
    /// [`Error::OutOfRange`] unless 1 ≤ needed ≤ min(nodes, 16) and nodes ≤ 32.
    pub const fn new(needed: u8, nodes: u8) -> Result<Self, Error> {
        if needed == 0 || needed > nodes || needed as usize > MAX_THRESHOLD || nodes as usize > MAX_NODES {
            return Err(Error::OutOfRange);
        }
        Ok(Self { needed, nodes })
    }

    /// The usual threshold for this many nodes: ⌊n/2⌋ + 1, at most 16.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless 1 ≤ nodes ≤ 32.
    pub const fn majority(nodes: u8) -> Result<Self, Error> {
        let half = nodes / 2 + 1;
        Self::new(if half as usize > MAX_THRESHOLD { MAX_THRESHOLD as u8 } else { half }, nodes)
    }

    /// m, the number of shares needed.
    pub const fn needed(self) -> u8 {
        self.needed
    }

    /// n, the number of shares there are.
    pub const fn nodes(self) -> u8 {
        self.nodes
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.needed, self.nodes)
    }
}

fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    let mut text = [b'-'; 36];
    let places = text.iter_mut().enumerate().filter(|(place, _)| !matches!(place, 8 | 13 | 18 | 23));
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    for ((_, place), digit) in places.zip(digits) {
        *place = digit;
    }
    // Digits and hyphens are text.
    f.write_str(core::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn parse_uuid(text: &str) -> Result<[u8; 16], Error> {
    let mut bytes = [0u8; 16];
    let mut digits = 0usize;
    for (position, character) in text.bytes().enumerate() {
        if matches!(position, 8 | 13 | 18 | 23) {
            if character != b'-' {
                return Err(Error::Malformed);
            }
            continue;
        }
        let digit = (character as char).to_digit(16).ok_or(Error::Malformed)?;
        let slot = bytes.get_mut(digits / 2).ok_or(Error::TrailingBytes)?;
        *slot = (*slot << 4) | digit as u8;
        digits += 1;
    }
    if digits == 32 { Ok(bytes) } else { Err(Error::Truncated) }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_id_survives_its_text_form() {
        let text = "01234567-89ab-cdef-0123-456789abcdef";
        let id: KeyId = text.parse().expect("a valid id");
        assert_eq!(id.to_string(), text);
        assert_eq!(id.as_bytes()[..3], [0x01, 0x23, 0x45]);
        for wrong in [
            "",
            "0123",
            "01234567089ab-cdef-0123-456789abcdef",
            "01234567-89ab-cdef-0123-456789abcdeg",
            "01234567-89ab-cdef-0123-456789abcdef0",
        ] {
            assert!(wrong.parse::<KeyId>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn thresholds_keep_their_bounds() {
        assert!(Threshold::new(0, 3).is_err());
        assert!(Threshold::new(4, 3).is_err());
        assert!(Threshold::new(17, 32).is_err());
        assert!(Threshold::new(1, 33).is_err());
        assert_eq!(Threshold::majority(3), Threshold::new(2, 3));
        assert_eq!(Threshold::majority(32), Threshold::new(16, 32));
        assert!(Threshold::majority(0).is_err());
    }
}
