//! Who asks: from what the TLS connection proved to a [`Principal`].
//!
//! A caller is known by its encoded name within the namespace of the authority that vouches for it, so that two
//! authorities cannot speak for one name. For now this is the subject of a client certificate ([`x509`]); proxies, VOMS
//! attributes and tokens get rooms of their own beside it.

pub mod x509;

use crate::policy::{Caller, Subject};

/// A caller who proved who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The proven name.
    pub subject: Subject,
    /// The proven groups, the primary one first.
    pub groups: Vec<String>,
    /// When the proof ends, in seconds since 1970. A connection may outlive it; a request may not.
    pub valid_until: i64,
}

impl Principal {
    /// The caller as the policy sees it. Nobody is an administrator yet.
    pub fn caller(&self) -> Caller<'_> {
        Caller { subject: &self.subject, groups: &self.groups, administrator: false }
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

/// A proof that proves nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthnError {
    /// The certificate cannot be read.
    #[error("the client certificate is malformed")]
    Malformed,
    /// The certificate names nobody.
    #[error("the client certificate has an empty subject")]
    NoSubject,
}
