//! Key pairs of a node whose token has no elliptic curves: weaker than keys in a token, and only where officers said so.
//!
//! The private keys are made in software at the ceremony and kept in a file, wrapped by the KEK like shares, each bound to
//! node, purpose and public half. A start unwraps them, and they are in this process's memory while it serves. What that
//! costs: who reads the memory of a serving node has its transport key, and with it all shares that were ever sealed to
//! the node on the way there and recorded; with keys in a token, such a reader sees what is released meanwhile. The disk
//! alone is worth as little as before.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use base64ct::{Base64, Encoding};
use eds_core::{directory, ids::NodeId, manifest::Point};
use p256::{SecretKey, ecdsa::SigningKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    hex,
    hsm::{
        Custody, HsmError, Opened, RecordContext, Suite, ToUnwrap, ToWrap, TokenKeyId,
        record::{Purpose, Record},
        software,
    },
    whole_file,
};

/// A key pair of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pair {
    /// Opens shares that are sealed to the node.
    Transport,
    /// Signs checkpoints of the audit log.
    Audit,
}

impl Pair {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Transport, Self::Audit];

    /// Its label, in the token or in the file.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Transport => "eds-transport",
            Self::Audit => "eds-audit",
        }
    }

    const fn purpose(self) -> Purpose {
        match self {
            Self::Transport => Purpose::TransportKey,
            Self::Audit => Purpose::AuditKey,
        }
    }
}

/// The wrapped key pairs of a node, as their file has them. Nothing of it is secret without the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrappedKeys {
    /// The node whose keys they are.
    pub node: NodeId,
    keys: Vec<WrappedKey>,
}

/// A wrapped private key with its public half.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrappedKey {
    /// Which of the two it is.
    pub pair: Pair,
    /// The public half, which is part of what the record is bound to.
    pub public: Point,
    record: Vec<u8>,
}

/// Private keys in memory, wiped when they are dropped.
#[derive(Default)]
pub struct HeldKeys {
    transport: Option<SecretKey>,
    audit: Option<SigningKey>,
}

impl fmt::Debug for HeldKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldKeys(<redacted>)")
    }
}

/// Wrapped keys that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrappedError {
    /// The file cannot be read or written.
    #[error(
        "wrapped keys {file}\nhint: `eds-keystored init` writes this file once (hsm.weaker_wrapped_keys); keep a copy of it \
         with the backups of the database"
    )]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what `init` wrote.
    #[error("wrapped keys {file}: not as `eds-keystored init` wrote it\nhint: restore the file from a backup")]
    Malformed {
        /// The file.
        file: PathBuf,
    },
    /// A record does not open.
    #[error(
        "wrapped key {label:?} (wrapped by KEK {kek} for node {node}) does not open: it was altered, or it is of another \
         token or node\nhint: put the right token in place, or restore the file from a backup"
    )]
    Unreadable {
        /// The label of the key.
        label: &'static str,
        /// The id of the KEK that wrapped it.
        kek: String,
        /// The node that it is bound to.
        node: NodeId,
    },
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: String,
    note: String,
    node: String,
    keys: Vec<TextKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextKey {
    label: String,
    public: String,
    record: String,
}

const FORMAT: &str = "eds/v1/wrapped-keys";
const NOTE: &str =
    "WEAKER: these private keys are wrapped by the KEK in the token, and in the server's memory while it serves";

impl WrappedKeys {
    /// Makes key pairs for a node. `wrap` is the token's.
    ///
    /// # Errors
    /// [`HsmError`].
    pub fn make(
        node: NodeId,
        pairs: &[Pair],
        wrap: impl FnOnce(Vec<ToWrap>) -> Result<Vec<Vec<u8>>, HsmError>,
    ) -> Result<Self, HsmError> {
        let mut publics = Vec::new();
        let mut secrets = Vec::new();
        for pair in pairs {
            let (key, bytes) = software::fresh_key()?;
            let public = software::compressed(&key.public_key());
            let secret = Zeroizing::new(bytes.to_vec());
            secrets.push(ToWrap { context: RecordContext::own_key(node, pair.purpose(), &public), secret });
            publics.push((*pair, public));
        }
        let records = wrap(secrets)?;
        if records.len() != publics.len() {
            return Err(HsmError::Unavailable { operation: "encrypt", source: None });
        }
        let keys = publics.into_iter().zip(records).map(|((pair, public), record)| WrappedKey { pair, public, record });
        Ok(Self { node, keys: keys.collect() })
    }

    /// Unwraps the keys. `unwrap` is the token's.
    ///
    /// # Errors
    /// [`WrappedError::Unreadable`] names the key that does not open; [`WrappedError::Hsm`].
    pub fn open(
        &self,
        unwrap: impl FnOnce(Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError>,
    ) -> Result<HeldKeys, WrappedError> {
        let mut held = HeldKeys::default();
        for (key, secret) in self.keys.iter().zip(self.opened(unwrap)?) {
            let secret = SecretKey::from_slice(&secret).map_err(|_| self.unreadable(key))?;
            if software::compressed(&secret.public_key()) != key.public {
                return Err(self.unreadable(key));
            }
            match key.pair {
                Pair::Transport => held.transport = Some(secret),
                Pair::Audit => held.audit = Some(SigningKey::from(secret)),
            }
        }
        Ok(held)
    }

    /// The same keys wrapped anew, for a KEK that takes the place of another.
    ///
    /// # Errors
    /// As [`WrappedKeys::open`].
    pub fn wrapped_anew(
        &self,
        unwrap: impl FnOnce(Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError>,
        wrap: impl FnOnce(Vec<ToWrap>) -> Result<Vec<Vec<u8>>, HsmError>,
    ) -> Result<Self, WrappedError> {
        let opened = self.opened(unwrap)?;
        let secrets = self.keys.iter().zip(opened);
        let secrets = secrets.map(|(key, secret)| ToWrap { context: self.context(key), secret });
        let records = wrap(secrets.collect())?;
        let anew = self.keys.iter().zip(records).map(|(key, record)| WrappedKey { record, ..key.clone() });
        let anew = Self { node: self.node, keys: anew.collect() };
        if anew.keys.len() != self.keys.len() {
            return Err(HsmError::Unavailable { operation: "encrypt", source: None }.into());
        }
        Ok(anew)
    }

    /// The secrets of the keys, in order.
    fn opened(
        &self,
        unwrap: impl FnOnce(Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError>,
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, WrappedError> {
        let items = self.keys.iter().map(|key| ToUnwrap { context: self.context(key), record: key.record.clone() });
        let opened = unwrap(items.collect())?;
        if opened.len() != self.keys.len() {
            return Err(HsmError::Unavailable { operation: "decrypt", source: None }.into());
        }
        let pairs = self.keys.iter().zip(opened);
        pairs.map(|(key, secret)| secret.map_err(|_| self.unreadable(key))).collect()
    }

    fn context(&self, key: &WrappedKey) -> RecordContext {
        RecordContext::own_key(self.node, key.pair.purpose(), &key.public)
    }

    fn unreadable(&self, key: &WrappedKey) -> WrappedError {
        let kek = key.wrapped_by().map_or_else(|| "of an unreadable id".to_owned(), |(_, kek)| kek.to_string());
        WrappedError::Unreadable { label: key.pair.label(), kek, node: self.node }
    }

    /// The wrapped keys.
    pub fn keys(&self) -> &[WrappedKey] {
        &self.keys
    }

    /// The public half of a pair that is here.
    pub fn public(&self, pair: Pair) -> Option<Point> {
        self.keys.iter().find(|key| key.pair == pair).map(|key| key.public)
    }

    /// Which pairs are here.
    pub fn custody(&self) -> Custody {
        Custody {
            transport_in_memory: self.public(Pair::Transport).is_some(),
            audit_in_memory: self.public(Pair::Audit).is_some(),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`WrappedError::Io`], [`WrappedError::Malformed`].
    pub fn load(file: &Path) -> Result<Self, WrappedError> {
        let text = fs::read_to_string(file).map_err(|source| WrappedError::Io { file: file.to_owned(), source })?;
        Self::parse(&text).ok_or_else(|| WrappedError::Malformed { file: file.to_owned() })
    }

    fn parse(text: &str) -> Option<Self> {
        let text: Text = serde_json::from_str(text).ok().filter(|text: &Text| text.format == FORMAT)?;
        let key = |text: TextKey| {
            Some(WrappedKey {
                pair: Pair::ALL.into_iter().find(|pair| pair.label() == text.label)?,
                public: Point(hex::decode_array(&text.public)?),
                record: Base64::decode_vec(&text.record).ok()?,
            })
        };
        let keys: Vec<_> = text.keys.into_iter().map(key).collect::<Option<_>>()?;
        let distinct = match keys.as_slice() {
            [_] => true,
            [first, second] => first.pair != second.pair,
            _ => false,
        };
        distinct.then_some(Self { node: text.node.parse().ok()?, keys })
    }

    /// Writes a new file: whole or not at all, and never over another.
    ///
    /// # Errors
    /// [`WrappedError::Io`], also when the file exists.
    pub fn create(&self, file: &Path) -> Result<(), WrappedError> {
        self.write(file, whole_file::create)
    }

    /// Writes the file in the place of the one that is there: whole, or as it was.
    ///
    /// # Errors
    /// [`WrappedError::Io`].
    pub fn replace(&self, file: &Path) -> Result<(), WrappedError> {
        self.write(file, whole_file::replace)
    }

    fn write(&self, file: &Path, to: fn(&Path, &[u8], u32) -> io::Result<()>) -> Result<(), WrappedError> {
        let key = |key: &WrappedKey| TextKey {
            label: key.pair.label().to_owned(),
            public: hex::encode(&key.public.0),
            record: Base64::encode_string(&key.record),
        };
        let keys = self.keys.iter().map(key).collect();
        let text = Text { format: FORMAT.to_owned(), note: NOTE.to_owned(), node: self.node.to_string(), keys };
        serde_json::to_string_pretty(&text)
            .map_err(io::Error::other)
            .and_then(|text| to(file, format!("{text}\n").as_bytes(), 0o600))
            .map_err(|source| WrappedError::Io { file: file.to_owned(), source })
    }
}

impl WrappedKey {
    /// The suite and the KEK that it was wrapped with, if it is a record.
    pub fn wrapped_by(&self) -> Option<(Suite, TokenKeyId)> {
        Record::parse(&self.record).ok().map(|record| (record.suite, record.kek))
    }
}

impl HeldKeys {
    /// The Diffie-Hellman step, if the transport key is here.
    pub fn dh(&self, peer: &[u8; 65]) -> Option<Result<Zeroizing<[u8; 32]>, HsmError>> {
        self.transport.as_ref().map(|key| software::dh(key, peer))
    }

    /// Signs a digest, if the audit key is here.
    pub fn sign(&self, digest: &[u8; 32]) -> Option<Result<[u8; 64], HsmError>> {
        self.audit.as_ref().map(|key| software::sign(key, digest))
    }

    /// The public half of a pair that is here.
    pub fn public(&self, pair: Pair) -> Option<Point> {
        match pair {
            Pair::Transport => self.transport.as_ref().map(|key| software::compressed(&key.public_key())),
            Pair::Audit => self.audit.as_ref().map(|key| directory::compressed(key.verifying_key())),
        }
    }
}

#[cfg(test)]
mod tests;
