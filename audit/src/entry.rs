//! One entry of the audit log and its canonical bytes.
//!
//! The bytes are what the Merkle tree commits to, so there is exactly one encoding of an entry: fixed widths, little
//! endian, each text after its length. A decoder refuses everything that an encoder would not have written. Format
//! versions 1 and 2 are in `docs/audit.md`, with a golden file each in the tests: an entry without a detail is of version
//! 1, one with a detail is of version 2.

use std::{borrow::Cow, fmt, net::IpAddr};

use eds_core::{Error, ids::KeyId};

/// The format version of an entry without a detail.
pub const VERSION: u8 = 1;
/// The format version of an entry with a detail.
pub const VERSION_WITH_DETAIL: u8 = 2;
/// The most keys that one entry names: the most that one call can.
pub const MAX_KEYS: usize = eds_core::api::MAX_BATCH;
/// The longest operation name, in bytes.
pub const MAX_OPERATION: usize = 32;
/// The longest reason, in bytes; a longer one is cut.
pub const MAX_REASON: usize = 255;
/// The longest name of a rule, in bytes; a longer one is cut.
pub const MAX_RULE: usize = 64;
/// The longest display name of a principal, in bytes; a longer one is cut, and its digest still tells it apart.
pub const MAX_DISPLAY: usize = 1_024;
/// The longest proof in words, in bytes; a longer one is cut.
pub const MAX_EVIDENCE: usize = 512;
/// The longest detail, in bytes; a longer one is cut.
pub const MAX_DETAIL: usize = 512;
/// The longest encoded entry, in bytes.
pub const MAX_BYTES: usize = 1
    + 8
    + 8
    + 16
    + (2 + MAX_OPERATION)
    + 1
    + (2 + MAX_REASON)
    + (2 + MAX_RULE)
    + 1
    + (2 + MAX_DISPLAY)
    + 33
    + (2 + MAX_EVIDENCE)
    + 17
    + 33
    + 2
    + 16 * MAX_KEYS
    + (2 + MAX_DETAIL);

/// What was asked for, as a name of lower-case letters, digits, `.` and `-`, at most 32 bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Operation(Cow<'static, str>);

impl Operation {
    /// Store shares of new keys.
    pub const REGISTER: Self = Self(Cow::Borrowed("key.register"));
    /// Make pending keys active.
    pub const CONFIRM: Self = Self(Cow::Borrowed("key.confirm"));
    /// Take back pending keys.
    pub const WITHDRAW: Self = Self(Cow::Borrowed("key.withdraw"));
    /// Delete keys for ever.
    pub const UNREGISTER: Self = Self(Cow::Borrowed("key.unregister"));
    /// Store the share of a key that an imaging device made.
    pub const DEVICE_REGISTER: Self = Self(Cow::Borrowed("device.register"));
    /// Make pending keys of imaging devices active.
    pub const DEVICE_CONFIRM: Self = Self(Cow::Borrowed("device.confirm"));
    /// Release shares.
    pub const FETCH: Self = Self(Cow::Borrowed("key.fetch"));
    /// Read what the node holds of a key.
    pub const STATE: Self = Self(Cow::Borrowed("key.state"));
    /// Find the key of a name.
    pub const RESOLVE: Self = Self(Cow::Borrowed("key.resolve"));
    /// List keys.
    pub const LIST: Self = Self(Cow::Borrowed("key.list"));
    /// Read an access list.
    pub const ACL_READ: Self = Self(Cow::Borrowed("acl.read"));
    /// Change owner, permissions or access list.
    pub const ACL_CHANGE: Self = Self(Cow::Borrowed("acl.change"));
    /// Read who the node is.
    pub const NODE_INFO: Self = Self(Cow::Borrowed("node.info"));
    /// Read whom the node takes the caller for.
    pub const WHOAMI: Self = Self(Cow::Borrowed("whoami"));
    /// The server started.
    pub const START: Self = Self(Cow::Borrowed("node.start"));
    /// The server stopped.
    pub const STOP: Self = Self(Cow::Borrowed("node.stop"));
    /// Officers made the keys of a node in its token.
    pub const TOKEN_CHANGE: Self = Self(Cow::Borrowed("token.change"));
    /// Officers made another KEK the active one.
    pub const KEK_ROTATE: Self = Self(Cow::Borrowed("kek.rotate"));
    /// Officers had records of older KEKs wrapped anew.
    pub const KEK_REWRAP: Self = Self(Cow::Borrowed("kek.rewrap"));
    /// Officers retired a KEK.
    pub const KEK_RETIRE: Self = Self(Cow::Borrowed("kek.retire"));
    /// Officers removed a retired KEK from the token.
    pub const KEK_DESTROY: Self = Self(Cow::Borrowed("kek.destroy"));
    /// Officers enrolled an imaging device.
    pub const DEVICE_ENROLL: Self = Self(Cow::Borrowed("device.enroll"));
    /// Officers changed whose the images of a device are, from then on.
    pub const DEVICE_CHANGE: Self = Self(Cow::Borrowed("device.change"));
    /// Officers revoked an imaging device.
    pub const DEVICE_REVOKE: Self = Self(Cow::Borrowed("device.revoke"));
    /// Officers wrote a backup of the database.
    pub const STORE_BACKUP: Self = Self(Cow::Borrowed("store.backup"));
    /// Officers made the database from a backup.
    pub const STORE_RESTORE: Self = Self(Cow::Borrowed("store.restore"));
    /// Officers made the audit log of a further process.
    pub const AUDIT_CREATE: Self = Self(Cow::Borrowed("audit.create"));
    /// The node's metrics were read.
    pub const METRICS_READ: Self = Self(Cow::Borrowed("metrics.read"));
    /// A checkpoint or a proof was read.
    pub const AUDIT_READ: Self = Self(Cow::Borrowed("audit.read"));
    /// Bytes of an unfinished write, never acknowledged, were set aside when the log was opened.
    pub const AUDIT_RECOVER: Self = Self(Cow::Borrowed("audit.recover"));
    /// A path or method that the API does not have.
    pub const UNKNOWN: Self = Self(Cow::Borrowed("unknown"));

    /// What officers do at a node's own command line.
    pub const OF_OFFICERS: [Self; 11] = [
        Self::TOKEN_CHANGE,
        Self::KEK_ROTATE,
        Self::KEK_REWRAP,
        Self::KEK_RETIRE,
        Self::KEK_DESTROY,
        Self::DEVICE_ENROLL,
        Self::DEVICE_CHANGE,
        Self::DEVICE_REVOKE,
        Self::STORE_BACKUP,
        Self::STORE_RESTORE,
        Self::AUDIT_CREATE,
    ];

    /// The operation with this name.
    ///
    /// # Errors
    /// [`Error::Malformed`] unless the name is 1 to 32 lower-case letters, digits, `.` and `-`.
    pub fn new(name: &str) -> Result<Self, Error> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        if name.is_empty() || name.len() > MAX_OPERATION || !name.bytes().all(allowed) {
            return Err(Error::Malformed);
        }
        Ok(Self(Cow::Owned(name.to_owned())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It was allowed, and the answer that says so may leave.
    Allowed,
    /// It was refused, for this reason.
    Refused(String),
    /// It was allowed, but the node could not do it, for this reason; nothing was released.
    Failed(String),
}

impl Outcome {
    /// The reason why not.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Allowed => None,
            Self::Refused(reason) | Self::Failed(reason) => Some(reason),
        }
    }
}

/// How the caller proved who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Proof {
    /// Not at all.
    Nothing,
    /// A certificate, in the TLS handshake.
    Certificate,
    /// An RFC 3820 proxy, in the TLS handshake.
    ProxyCertificate,
    /// A bearer token.
    Token,
    /// The signature of an imaging device.
    Device,
    /// An officer at the node's own command line.
    Console,
    /// The node itself acted.
    Node,
}

impl Proof {
    const CODES: [(u8, Self, &'static str); 7] = [
        (0, Self::Nothing, "nothing"),
        (1, Self::Certificate, "certificate"),
        (2, Self::ProxyCertificate, "proxy-certificate"),
        (3, Self::Token, "token"),
        (4, Self::Device, "device"),
        (5, Self::Console, "console"),
        (6, Self::Node, "node"),
    ];

    /// The name, for people and exports.
    pub fn as_str(self) -> &'static str {
        Self::CODES.iter().find(|(_, proof, _)| *proof == self).map_or("nothing", |(_, _, name)| name)
    }

    fn code(self) -> u8 {
        Self::CODES.iter().find(|(_, proof, _)| *proof == self).map_or(0, |(code, ..)| *code)
    }

    fn of_code(code: u8) -> Result<Self, Error> {
        Self::CODES.iter().find(|(known, ..)| *known == code).map(|(_, proof, _)| *proof).ok_or(Error::Malformed)
    }
}

/// Who asked, and how that was proven.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Who {
    /// How it was proven.
    pub proof: Proof,
    /// The subject, for people: `/C=CH/O=Ward/CN=Dr Jones`; empty without proof.
    pub display: String,
    /// The subject, exactly: [`eds_core::registrant::Registrant::digest`].
    pub subject: Option<[u8; 32]>,
    /// The proof, in words: which certificate, or which token of which issuer. Never the token itself.
    pub evidence: String,
}

impl Who {
    /// Nobody: the caller proved nothing.
    pub const NOBODY: Self =
        Self { proof: Proof::Nothing, display: String::new(), subject: None, evidence: String::new() };

    /// The node itself.
    pub fn node() -> Self {
        Self { proof: Proof::Node, ..Self::NOBODY }
    }
}

/// The id of a request, which is also in the answer and in the server's own log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

/// A decision, as the server hands it to the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Decision {
    /// When, in milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
    pub time: u64,
    /// In which request.
    pub request: RequestId,
    /// What was asked for.
    pub operation: Operation,
    /// What became of it.
    pub outcome: Outcome,
    /// The rule of the policy that decided; empty when none was asked.
    pub rule: String,
    /// Who asked.
    pub who: Who,
    /// From where.
    pub peer: Option<IpAddr>,
    /// The keys that were asked for and to which outcome and rule apply, at most [`MAX_KEYS`].
    pub keys: Vec<KeyId>,
    /// SHA-256 of the access list as it is after a change.
    pub access_list: Option<[u8; 32]>,
    /// What was done, in words, where the operation and the keys do not say it all: which KEK, how many records.
    pub detail: String,
}

impl Decision {
    /// An operation that was allowed by no rule and concerns no key, such as what the node does itself.
    pub fn plain(time: u64, operation: Operation, who: Who) -> Self {
        Self {
            time,
            request: RequestId([0; 16]),
            operation,
            outcome: Outcome::Allowed,
            rule: String::new(),
            who,
            peer: None,
            keys: Vec::new(),
            access_list: None,
            detail: String::new(),
        }
    }
}

/// A decision in its place in the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// Its place: the first entry is 0, and there are no gaps.
    pub sequence: u64,
    /// The decision.
    pub decision: Decision,
}

impl Entry {
    /// Reads the bytes of an entry.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], [`Error::Truncated`], [`Error::TrailingBytes`], or [`Error::Malformed`] and
    /// [`Error::TooLong`] for bytes that no encoder writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Input(bytes);
        let [version] = input.array()?;
        if !matches!(version, VERSION | VERSION_WITH_DETAIL) {
            return Err(Error::UnknownVersion(version));
        }
        let sequence = u64::from_le_bytes(input.array()?);
        let time = u64::from_le_bytes(input.array()?);
        let request = RequestId(input.array()?);
        let operation = Operation::new(input.text(MAX_OPERATION)?)?;
        let [outcome] = input.array()?;
        let reason = input.text(MAX_REASON)?;
        let outcome = match outcome {
            0 if reason.is_empty() => Outcome::Allowed,
            1 => Outcome::Refused(reason.to_owned()),
            2 => Outcome::Failed(reason.to_owned()),
            _ => return Err(Error::Malformed),
        };
        let rule = input.text(MAX_RULE)?.to_owned();
        let [proof] = input.array()?;
        let who = Who {
            proof: Proof::of_code(proof)?,
            display: input.text(MAX_DISPLAY)?.to_owned(),
            subject: input.digest()?,
            evidence: input.text(MAX_EVIDENCE)?.to_owned(),
        };
        let peer = match input.array()? {
            [0] => None,
            [4] => Some(IpAddr::from(input.array::<4>()?)),
            [6] => Some(IpAddr::from(input.array::<16>()?)),
            _ => return Err(Error::Malformed),
        };
        let access_list = input.digest()?;
        let count = usize::from(u16::from_le_bytes(input.array()?));
        if count > MAX_KEYS {
            return Err(Error::TooLong);
        }
        let keys = (0..count).map(|_| input.array().map(KeyId::from_bytes)).collect::<Result<_, _>>()?;
        let detail = match version {
            VERSION_WITH_DETAIL => input.text(MAX_DETAIL)?.to_owned(),
            _ => String::new(),
        };
        if !input.0.is_empty() {
            return Err(Error::TrailingBytes);
        }
        if version == VERSION_WITH_DETAIL && detail.is_empty() {
            return Err(Error::Malformed);
        }
        let decision = Decision { time, request, operation, outcome, rule, who, peer, keys, access_list, detail };
        Ok(Self { sequence, decision })
    }
}

impl Decision {
    /// Appends the bytes of the entry that this decision becomes at `sequence` to `out`. Texts that are too long are
    /// cut.
    ///
    /// # Errors
    /// [`Error::TooLong`] for more than [`MAX_KEYS`] keys; `out` is unchanged then.
    pub fn encode(&self, sequence: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        let count = u16::try_from(self.keys.len()).map_err(|_| Error::TooLong)?;
        if self.keys.len() > MAX_KEYS {
            return Err(Error::TooLong);
        }
        out.push(if self.detail.is_empty() { VERSION } else { VERSION_WITH_DETAIL });
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.request.0);
        put_text(out, self.operation.as_str(), MAX_OPERATION);
        out.push(match self.outcome {
            Outcome::Allowed => 0,
            Outcome::Refused(_) => 1,
            Outcome::Failed(_) => 2,
        });
        put_text(out, self.outcome.reason().unwrap_or_default(), MAX_REASON);
        put_text(out, &self.rule, MAX_RULE);
        out.push(self.who.proof.code());
        put_text(out, &self.who.display, MAX_DISPLAY);
        put_digest(out, self.who.subject.as_ref());
        put_text(out, &self.who.evidence, MAX_EVIDENCE);
        match self.peer {
            None => out.push(0),
            Some(IpAddr::V4(address)) => {
                out.push(4);
                out.extend_from_slice(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                out.push(6);
                out.extend_from_slice(&address.octets());
            }
        }
        put_digest(out, self.access_list.as_ref());
        out.extend_from_slice(&count.to_le_bytes());
        for key in &self.keys {
            out.extend_from_slice(key.as_bytes());
        }
        if !self.detail.is_empty() {
            put_text(out, &self.detail, MAX_DETAIL);
        }
        Ok(())
    }
}

fn put_text(out: &mut Vec<u8>, text: &str, most: usize) {
    let text = cut(text, most);
    // No limit above exceeds 1,024.
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or_default().to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_digest(out: &mut Vec<u8>, digest: Option<&[u8; 32]>) {
    out.push(u8::from(digest.is_some()));
    out.extend_from_slice(digest.map_or(&[], |digest| digest.as_slice()));
}

/// The longest start of `text` that has at most `most` bytes and ends between characters.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn text(&mut self, most: usize) -> Result<&'a str, Error> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        if length > most {
            return Err(Error::TooLong);
        }
        let (text, rest) = self.0.split_at_checked(length).ok_or(Error::Truncated)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Error::Malformed)
    }

    fn digest(&mut self) -> Result<Option<[u8; 32]>, Error> {
        match self.array()? {
            [0] => Ok(None),
            [1] => self.array().map(Some),
            _ => Err(Error::Malformed),
        }
    }
}

#[cfg(test)]
mod tests;
