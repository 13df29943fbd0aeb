//! A secret that the token wrapped, and what it is bound to.
//!
//! Record: version 2 ‖ suite u16 LE ‖ KEK id 16 ‖ nonce or IV ‖ ciphertext ‖ tag. The suite names the algorithms, since no
//! mechanism is common to all tokens ([`Suite`]). Nonces are random, so a KEK retires before 2³² records.
//! The additional data binds a record to suite, purpose, node, KEK and, for a private key, its public half: a record that
//! serves another purpose, or was moved to another node, does not open. Shares are sealed under a data key that is wrapped
//! like this ([`crate::shares`]).

use eds_core::{Error, ids::NodeId, manifest::Point};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::hsm::TokenKeyId;

/// The algorithms that wrap a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Suite {
    /// 1: AES-256-GCM (NIST SP 800-38D), 96-bit random nonce, 128-bit tag.
    Aes256Gcm,
    /// 2: AES-256-CBC with a random IV and the padding of PKCS#7, done outside the token; then HMAC-SHA-256 by a second
    /// key of the token over additional data, IV (after its length, u16 LE) and ciphertext. The HMAC is verified first.
    Aes256CbcHmac,
}

impl Suite {
    /// All of them, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Aes256Gcm, Self::Aes256CbcHmac];

    /// Its number in records.
    pub const fn code(self) -> u16 {
        match self {
            Self::Aes256Gcm => 1,
            Self::Aes256CbcHmac => 2,
        }
    }

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "AES-256-GCM",
            Self::Aes256CbcHmac => "AES-256-CBC with HMAC-SHA-256",
        }
    }

    /// Its name in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-gcm",
            Self::Aes256CbcHmac => "aes-cbc-hmac",
        }
    }

    /// The bytes of its nonce or IV.
    pub const fn iv_length(self) -> usize {
        match self {
            Self::Aes256Gcm => 12,
            Self::Aes256CbcHmac => 16,
        }
    }

    /// The bytes of its tag.
    pub const fn tag_length(self) -> usize {
        match self {
            Self::Aes256Gcm => 16,
            Self::Aes256CbcHmac => 32,
        }
    }

    /// The bytes of the record of a secret of this length.
    pub const fn record_length(self, secret: usize) -> usize {
        let ciphertext = match self {
            Self::Aes256Gcm => secret,
            Self::Aes256CbcHmac => (secret / 16 + 1) * 16,
        };
        HEADER + self.iv_length() + ciphertext + self.tag_length()
    }

    fn of_code(code: u16) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|suite| suite.code() == code).ok_or(Error::UnknownSuite(code))
    }
}

/// The format version this release writes.
pub const VERSION: u8 = 2;
/// The bytes of a record before nonce or IV.
pub const HEADER: usize = 1 + 2 + 16;

/// What a record is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordContext {
    /// What the secret is for.
    pub purpose: Purpose,
    /// The node whose secret it is.
    pub node: NodeId,
    /// SHA-256 of the public half of a private key; zeros for what has none.
    pub public: [u8; 32],
}

/// What a wrapped secret is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A key that seals the shares of one registration.
    DataKey,
    /// The known value that tells whether the KEK is the one that this database was written with.
    Canary,
    /// The private transport key of a node whose token cannot hold it.
    TransportKey,
    /// The private audit key of a node whose token cannot hold it.
    AuditKey,
}

impl RecordContext {
    /// The context of the data keys of a node.
    pub const fn data_key(node: NodeId) -> Self {
        Self { purpose: Purpose::DataKey, node, public: [0; 32] }
    }

    /// The context of the canary of a node's database.
    pub const fn canary(node: NodeId) -> Self {
        Self { purpose: Purpose::Canary, node, public: [0; 32] }
    }

    /// The context of a private key of the node's own.
    pub fn own_key(node: NodeId, purpose: Purpose, public: &Point) -> Self {
        Self { purpose, node, public: Sha256::digest(public.0).into() }
    }

    /// The additional data: each field after its length as u16 LE.
    pub fn additional_data(&self, suite: Suite, kek: &TokenKeyId) -> Vec<u8> {
        let label: &[u8] = match self.purpose {
            Purpose::DataKey => b"eds/v1/data-key",
            Purpose::Canary => b"eds/v1/canary",
            Purpose::TransportKey => b"eds/v1/transport-key",
            Purpose::AuditKey => b"eds/v1/audit-key",
        };
        let fields: [&[u8]; 5] =
            [label, &suite.code().to_le_bytes(), self.node.as_bytes(), kek.as_bytes(), &self.public];
        prefixed(&fields)
    }
}

/// Fields one after the other, each after its length as u16 LE. All that are used are shorter than 64 KiB.
pub(crate) fn prefixed(fields: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::with_capacity(fields.iter().map(|field| field.len() + 2).sum());
    for field in fields {
        data.extend_from_slice(&u16::try_from(field.len()).unwrap_or(u16::MAX).to_le_bytes());
        data.extend_from_slice(field);
    }
    data
}

/// A record taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The algorithm.
    pub suite: Suite,
    /// The key that wrapped it.
    pub kek: TokenKeyId,
    /// The nonce or IV.
    pub iv: &'a [u8],
    /// Ciphertext and tag.
    pub sealed: &'a [u8],
}

/// What the HMAC of suite 2 is over. The additional data tells its own end.
pub(crate) fn hmac_message(data: &[u8], iv: &[u8; 16], ciphertext: &[u8]) -> Vec<u8> {
    [data, &16_u16.to_le_bytes(), iv, ciphertext].concat()
}

/// Fills the secret up to whole blocks: 1 to 16 bytes, each of which is their number.
pub(crate) fn padded(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let padding = 16 - secret.len() % 16;
    // With its final size, so that no copy is left behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(secret.len() + padding));
    bytes.extend_from_slice(secret);
    bytes.resize(secret.len() + padding, padding as u8);
    bytes
}

/// Takes the padding off. Only after the HMAC was right: what is wrong here was written wrongly.
pub(crate) fn unpadded(mut bytes: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
    let last = usize::from(*bytes.last()?);
    let length = bytes.len().checked_sub(last).filter(|_| (1..=16).contains(&last))?;
    if bytes.get(length..)?.iter().any(|byte| usize::from(*byte) != last) {
        return None;
    }
    bytes.truncate(length);
    Some(bytes)
}

impl<'a> Record<'a> {
    /// Writes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.iv.len() + self.sealed.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.suite.code().to_le_bytes());
        bytes.extend_from_slice(self.kek.as_bytes());
        bytes.extend_from_slice(self.iv);
        bytes.extend_from_slice(self.sealed);
        bytes
    }

    /// Takes a record apart.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::UnknownVersion`], [`Error::UnknownSuite`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (suite, rest) = Self::suite_of(bytes)?;
        let (kek, rest) = rest.split_first_chunk::<16>().ok_or(Error::Truncated)?;
        let (iv, sealed) = rest.split_at_checked(suite.iv_length()).ok_or(Error::Truncated)?;
        if sealed.len() < suite.tag_length() {
            return Err(Error::Truncated);
        }
        Ok(Self { suite, kek: TokenKeyId::from_bytes(*kek), iv, sealed })
    }

    /// Parts the record of a secret of this length, which these bytes begin with, from what follows it.
    ///
    /// # Errors
    /// As [`Record::parse`].
    pub fn split(bytes: &[u8], secret: usize) -> Result<(&[u8], &[u8]), Error> {
        let (suite, _) = Self::suite_of(bytes)?;
        bytes.split_at_checked(suite.record_length(secret)).ok_or(Error::Truncated)
    }

    fn suite_of(bytes: &[u8]) -> Result<(Suite, &[u8]), Error> {
        let (&version, rest) = bytes.split_first().ok_or(Error::Truncated)?;
        if version != VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let (suite, rest) = rest.split_first_chunk::<2>().ok_or(Error::Truncated)?;
        Ok((Suite::of_code(u16::from_le_bytes(*suite))?, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_encoding() {
        let kek = TokenKeyId::from_bytes([5; 16]);
        for (suite, sealed) in [(Suite::Aes256Gcm, 64 + 16), (Suite::Aes256CbcHmac, 80 + 32)] {
            let (iv, sealed) = (vec![6; suite.iv_length()], vec![7; sealed]);
            let record = Record { suite, kek, iv: &iv, sealed: &sealed };
            let bytes = record.encode();
            assert_eq!(bytes.len(), suite.record_length(64));
            assert_eq!(Record::parse(&bytes), Ok(record));
            for end in 0..HEADER + suite.iv_length() + suite.tag_length() {
                assert_eq!(Record::parse(&bytes[..end]), Err(Error::Truncated), "cut at {end}");
            }
            for other in [0, 1, 3] {
                let mut version = bytes.clone();
                version[0] = other;
                assert_eq!(Record::parse(&version), Err(Error::UnknownVersion(other)));
            }
            let followed = [bytes.as_slice(), b"more"].concat();
            assert_eq!(Record::split(&followed, 64), Ok((bytes.as_slice(), b"more".as_slice())));
            assert_eq!(Record::split(&bytes[..bytes.len() - 1], 64), Err(Error::Truncated));
            let mut unknown = bytes;
            unknown[1] = 9;
            assert_eq!(Record::parse(&unknown), Err(Error::UnknownSuite(9)));
        }
    }

    #[test]
    fn padding_comes_off_as_it_went_on_and_no_other_does() {
        for length in 0..50 {
            let secret = vec![3; length];
            let bytes = padded(&secret);
            assert!(bytes.len().is_multiple_of(16) && bytes.len() > length);
            assert_eq!(unpadded(bytes).as_deref(), Some(&secret));
        }
        for wrong in [&[][..], &[0; 16], &[17; 16], &[2; 1], &[1, 2, 3, 3]] {
            assert_eq!(unpadded(Zeroizing::new(wrong.to_vec())), None, "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_record_that_encodes_to_them_or_none(bytes: Vec<u8>, well_begun: bool) {
            let suite = bytes.first().map_or(1, |byte| byte % 2 + 1);
            let bytes = if well_begun { [&[VERSION, suite, 0][..], &bytes].concat() } else { bytes };
            if let Ok(record) = Record::parse(&bytes) {
                proptest::prop_assert_eq!(record.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_private_key_of_the_node_is_bound_to_node_purpose_and_public_half() {
        let kek = TokenKeyId::from_bytes([5; 16]);
        let (node, other) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let (public, another) = (Point([2; 33]), Point([3; 33]));
        let all = [
            RecordContext::own_key(node, Purpose::TransportKey, &public),
            RecordContext::own_key(node, Purpose::AuditKey, &public),
            RecordContext::own_key(other, Purpose::TransportKey, &public),
            RecordContext::own_key(node, Purpose::TransportKey, &another),
            RecordContext::canary(node),
            RecordContext::data_key(node),
        ];
        let data = all.map(|context| context.additional_data(Suite::Aes256CbcHmac, &kek));
        for (first, second) in (0..6).flat_map(|first| (0..first).map(move |second| (first, second))) {
            assert_ne!(data[first], data[second]);
        }
    }

    #[test]
    fn every_field_changes_the_additional_data() {
        let kek = TokenKeyId::from_bytes([5; 16]);
        let base = RecordContext { purpose: Purpose::DataKey, node: NodeId::from_bytes([2; 16]), public: [5; 32] };
        let first = base.additional_data(Suite::Aes256Gcm, &kek);
        let others = [
            RecordContext { purpose: Purpose::Canary, ..base },
            RecordContext { purpose: Purpose::TransportKey, ..base },
            RecordContext { purpose: Purpose::AuditKey, ..base },
            RecordContext { node: NodeId::from_bytes([9; 16]), ..base },
            RecordContext { public: [9; 32], ..base },
        ];
        for other in others {
            assert_ne!(other.additional_data(Suite::Aes256Gcm, &kek), first);
        }
        assert_ne!(base.additional_data(Suite::Aes256CbcHmac, &kek), first);
        assert_ne!(base.additional_data(Suite::Aes256Gcm, &TokenKeyId::from_bytes([9; 16])), first);
    }
}
