//! Who asks: from what a connection or a token proves to a [`Principal`].
//!
//! A caller is known by its encoded name within the namespace of the authority that vouches for it, so that two
//! authorities cannot speak for one name. Rooms:
//! - [`chain`]: certificates and RFC 3820 proxies, up to the authorities of [`trust`];
//! - [`voms`]: groups that a VOMS server attests in a proxy;
//! - [`jwt`]: bearer tokens by listed issuers;
//! - [`x509`]: from the first two to a principal; [`authenticator`]: all of it at work in a node; [`setup`]: from the
//!   configuration to it;
//! - [`certificate`], [`name`], [`signature`]: what the others are made of.
//!
//! Verification is pure: bytes, configuration and a time go in, a principal or a refusal with its reason comes out. Only
//! loaders of directories and the fetching of an issuer's keys do I/O.

pub mod authenticator;
pub mod certificate;
pub mod chain;
mod fields;
pub mod jwt;
pub mod name;
pub mod setup;
pub mod signature;
pub mod trust;
pub mod voms;
pub mod x509;

use crate::policy::Subject;

pub use self::{authenticator::Authenticator, fields::Malformed};

/// The kind of subjects that come from tokens.
pub const TOKEN_KIND: &str = "jwt";

/// A caller who proved who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The proven name.
    pub subject: Subject,
    /// The proven groups, the primary one first.
    pub groups: Vec<String>,
    /// Whether the proof was a proxy.
    pub proxied: bool,
    /// Whether the proof was a limited proxy, which may read and write data but start no jobs.
    pub limited: bool,
    /// How it was proven, in words, for the audit log. Holds no secret.
    pub proof: String,
    /// When the proof ends, in seconds since 1970. A connection may outlive it; a request may not.
    pub valid_until: i64,
}

impl Principal {
    /// The principal of a verified token.
    pub fn of_token(proven: jwt::Proven) -> Self {
        let mut proof = format!("token of {}, {}", proven.issuer, proven.key);
        if let Some(id) = &proven.id {
            proof.push_str(", id ");
            proof.push_str(id);
        }
        let display = format!("{}#{}", proven.issuer, proven.subject.escape_debug());
        Self {
            subject: Subject {
                kind: TOKEN_KIND.into(),
                namespace: proven.issuer.into_bytes(),
                name: proven.subject.into_bytes(),
                display,
            },
            groups: proven.groups,
            proxied: false,
            limited: false,
            proof,
            valid_until: proven.valid_until,
        }
    }

    /// The digest that sealed registrations are bound to.
    pub fn registrant(&self) -> [u8; 32] {
        self.subject.registrant().digest()
    }

    /// Whether the proof still holds at `now`, in seconds since 1970.
    pub fn is_valid_at(&self, now: u64) -> bool {
        i64::try_from(now).is_ok_and(|now| now <= self.valid_until)
    }
}

/// Why a caller is not known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthnError {
    /// The certificates prove nobody.
    #[error(transparent)]
    Chain(#[from] chain::Refusal),
    /// The VOMS attributes cannot be believed.
    #[error(transparent)]
    Voms(#[from] voms::Refusal),
    /// The token proves nobody.
    #[error(transparent)]
    Token(#[from] jwt::Refusal),
    /// No token issuer is configured.
    #[error("this node accepts no tokens")]
    NoTokens,
}
