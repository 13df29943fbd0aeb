//! The token of a node: the only place that speaks PKCS#11.
//!
//! A share at rest is sealed under a data key that is encrypted by a key (KEK) that never leaves the token; shares arrive sealed to a P-256 key whose
//! private half never leaves it; access lists carry an HMAC by a third key of it, and a fourth signs the checkpoints of the
//! audit log. [`Hsm`] is that service, with a PKCS#11 implementation ([`pkcs11`]) and an in-memory one for tests
//! ([`memory`]).
//!
//! Calls block, but never longer than the implementation's deadline: call them from a thread that may block. Every
//! caller gets an answer or an error in time, also when the vendor's library hangs.

pub mod command;
pub mod health;
pub mod measured;
pub mod memory;
pub mod pin;
pub mod pkcs11;
pub mod record;
pub mod self_test;
pub(crate) mod software;
pub mod transport;
pub mod uri;
pub mod wrapped;

use std::fmt;

use eds_core::{Opaque, manifest::Point};
use tokio::sync::watch;
use zeroize::Zeroizing;

pub use health::Health;
pub use record::{RecordContext, Suite};

use crate::hex;

/// The id (`CKA_ID`) of a key in the token: 16 random bytes, made with the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenKeyId([u8; 16]);

impl TokenKeyId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TokenKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for TokenKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeyId({self})")
    }
}

/// What may be known of a token's keys. Nothing of it is secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyFacts {
    /// The id of the key under which new records are wrapped.
    pub kek: TokenKeyId,
    /// The id of the HMAC key of access lists.
    pub policy: TokenKeyId,
    /// The public key that shares are sealed to.
    pub transport: Point,
    /// The public half of the key that signs audit checkpoints.
    pub audit: Point,
    /// Where the private halves of the two are.
    pub custody: Custody,
}

/// Where the private halves of the key pairs are: in the token, or in the memory of the process (see [`wrapped`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Custody {
    /// The transport key is in memory.
    pub transport_in_memory: bool,
    /// The audit key is in memory.
    pub audit_in_memory: bool,
}

impl Custody {
    /// What is weaker than with a token that holds all keys; nothing when it does.
    pub const fn weaker(self) -> Option<&'static str> {
        match (self.transport_in_memory, self.audit_in_memory) {
            (false, false) => None,
            (true, true) => {
                Some("transport key and audit key are wrapped by the KEK, and in the server's memory while it serves")
            }
            (true, false) => {
                Some("the transport key is wrapped by the KEK, and in the server's memory while it serves")
            }
            (false, true) => Some("the audit key is wrapped by the KEK, and in the server's memory while it serves"),
        }
    }
}

/// A secret with what its record is bound to.
pub struct ToWrap {
    /// What the record is bound to.
    pub context: RecordContext,
    /// The secret.
    pub secret: Zeroizing<Vec<u8>>,
}

/// A record with what it must be bound to.
pub struct ToUnwrap {
    /// What the record must be bound to.
    pub context: RecordContext,
    /// The record, as [`Hsm::wrap`] returned it.
    pub record: Vec<u8>,
}

/// What became of a record: its secret, or nothing that could be told.
pub type Opened = Result<Zeroizing<Vec<u8>>, Opaque>;

/// The service of a token.
///
/// Implementations are shared by all requests. They heal by themselves: a lost session is replaced, and what fails is
/// tried once more before [`HsmError::Unavailable`] is returned.
pub trait Hsm: Send + Sync {
    /// What may be known of its keys.
    fn facts(&self) -> KeyFacts;

    /// The key under which new records are wrapped.
    fn kek(&self) -> TokenKeyId {
        self.facts().kek
    }

    /// The HMAC key of access lists.
    fn policy_key(&self) -> TokenKeyId {
        self.facts().policy
    }

    /// The public key that shares are sealed to.
    fn transport_key(&self) -> Point {
        self.facts().transport
    }

    /// The public half of the key that signs audit checkpoints.
    fn audit_key(&self) -> Point {
        self.facts().audit
    }

    /// Wraps secrets: one record for each, in order. Two records of one secret are different.
    ///
    /// # Errors
    /// [`HsmError`] when not all of them could be wrapped.
    fn wrap(&self, secrets: Vec<ToWrap>) -> Result<Vec<Vec<u8>>, HsmError>;

    /// Unwraps records, in order, each by the KEK of this token that it names. A record that was altered, is bound to
    /// something else or was wrapped by a key that is not here is [`Opaque`] and spoils no other.
    ///
    /// # Errors
    /// [`HsmError`] when the token could not decide.
    fn unwrap(&self, records: Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError>;

    /// Wraps new records under this KEK from now on, if it can do all that a KEK must.
    ///
    /// # Errors
    /// [`HsmError::Setup`] when it is not in the token, or not as it must be; the KEK stays the one it was.
    fn adopt(&self, kek: TokenKeyId) -> Result<(), HsmError>;

    /// The Diffie-Hellman step of opening a sealed message: the x-coordinate of the private transport key times `peer`,
    /// an uncompressed SEC 1 point.
    ///
    /// # Errors
    /// [`HsmError::PeerPoint`] when `peer` is not on the curve; the token is not asked then.
    fn dh(&self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError>;

    /// The HMAC-SHA-256 of each message by the policy key, in order. Compare in constant time.
    ///
    /// # Errors
    /// [`HsmError`].
    fn mac(&self, messages: Vec<Vec<u8>>) -> Result<Vec<[u8; 32]>, HsmError>;

    /// Signs a SHA-256 digest with the audit key: ECDSA, `r ‖ s`, each 32 bytes, big endian.
    ///
    /// # Errors
    /// [`HsmError`].
    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError>;

    /// Whether the token works right now: it encrypts and decrypts.
    ///
    /// # Errors
    /// [`HsmError`] when it does not.
    fn canary(&self) -> Result<(), HsmError>;

    /// What only the implementation can look at: attributes of the keys, their number, refusal to give them out.
    ///
    /// # Errors
    /// [`HsmError`] when the token could not be asked.
    fn inspect(&self) -> Result<Vec<self_test::Check>, HsmError>;

    /// How the token is, and what becomes of it: a server ends when it is [`Health::Lost`].
    fn health(&self) -> watch::Receiver<Health>;
}

/// The token did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HsmError {
    /// The caller's point is not on the curve, or is the point at infinity.
    #[error("the sender's public key is not a point of the curve P-256")]
    PeerPoint,
    /// More calls wait for the token than it may hold.
    #[error("the token is busy: too many calls wait for it")]
    Busy,
    /// The token did not answer in time.
    #[error("the token did not answer in time")]
    Deadline,
    /// The token failed, twice.
    #[error("the token failed to {operation}")]
    Unavailable {
        /// What it was to do.
        operation: &'static str,
        /// What the module said.
        #[source]
        source: Option<cryptoki::error::Error>,
    },
    /// The token refused the PIN, or must not be tried. Only a restart, by a person, tries again.
    #[error("the token {token:?} cannot be logged in to: {reason}")]
    Pin {
        /// The label of the token.
        token: String,
        /// Why.
        reason: String,
    },
    /// The token or its module is not what the configuration says.
    #[error("the token {token:?}: {reason}")]
    Setup {
        /// The label of the token.
        token: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
}

/// Who must act on an [`HsmError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HsmErrorKind {
    /// The caller sent something impossible.
    Caller,
    /// The same call may work later.
    Retry,
    /// An officer must put something right first.
    Officer,
}

impl HsmError {
    /// Who must act.
    pub fn kind(&self) -> HsmErrorKind {
        match self {
            Self::PeerPoint => HsmErrorKind::Caller,
            Self::Busy | Self::Deadline | Self::Unavailable { .. } | Self::Random => HsmErrorKind::Retry,
            Self::Pin { .. } | Self::Setup { .. } => HsmErrorKind::Officer,
        }
    }
}

/// Whether these bytes are an uncompressed point of P-256, other than the point at infinity.
///
/// Checked in software before the token sees a point: tokens answer a bad point with codes that look like an outage.
pub fn is_valid_point(point: &[u8; 65]) -> bool {
    point.first() == Some(&4) && p256::PublicKey::from_sec1_bytes(point).is_ok()
}
