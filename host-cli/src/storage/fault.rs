//! What a storage elsewhere did not do, told apart by who must act: the caller, who runs the storage, or nobody but time.
//!
//! Texts from a server are shortened and stripped of control characters before they are shown.

use std::{error::Error as StdError, io, time::Duration};

use crate::error::Kind;

/// A failure of a storage elsewhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There is nothing of that name.
    #[error("there is no such object")]
    NotFound,
    /// There is something of that name.
    #[error("there is an object of that name already")]
    Exists,
    /// The storage does not know who is calling, or does not let them.
    #[error("the storage does not permit it: {0}")]
    Denied(String),
    /// No connection, or no TLS.
    #[error("the storage cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Nothing came for too long.
    #[error("the storage did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The storage says that it has too much to do, or is being repaired.
    #[error("the storage is not available: {0}")]
    Busy(String),
    /// There is no space left.
    #[error("the storage is full, or this caller's share of it: {0}")]
    Full(String),
    /// It does not want this, or cannot do it.
    #[error("the storage refused: {0}")]
    Refused(String),
    /// An answer that makes no sense.
    #[error("the storage answered badly: {0}")]
    Answer(String),
    /// What arrived there is not what was sent.
    #[error("the storage holds something else than what was sent: {0}")]
    Mismatch(String),
    /// Something of this machine: the file that is sent.
    #[error(transparent)]
    Io(io::Error),
}

impl Fault {
    /// Whether the same request may succeed in a moment.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Broken(_) | Self::Timeout(_) | Self::Busy(_))
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound => Kind::NotFound,
            Self::Exists => Kind::Conflict,
            Self::Denied(_) => Kind::Denied,
            Self::Unreachable(_) | Self::Broken(_) | Self::Timeout(_) | Self::Busy(_) => Kind::Unavailable,
            Self::Full(_) | Self::Refused(_) | Self::Answer(_) => Kind::Other,
            Self::Mismatch(_) => Kind::Damaged,
            Self::Io(error) => Kind::of_io(error),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotFound => "another site may have a copy; check the url of this one under [[storage.site]]",
            Self::Denied(_) => {
                "see whether the certificate, proxy, token or key of this site under [[storage.site]] is the right one \
                 and not too old, and ask who runs the storage to permit it"
            }
            Self::Unreachable(_) => "check the url, and ca for a server that is vouched for by an authority of its own",
            Self::Broken(_) | Self::Timeout(_) | Self::Busy(_) => "try again later; what was done stays done",
            Self::Full(_) => "ask who runs the storage for more space, or name another site first",
            Self::Mismatch(_) => "nothing of it was kept under its name; try again, and tell who runs the storage",
            Self::Exists | Self::Refused(_) | Self::Answer(_) | Self::Io(_) => return None,
        };
        Some(text.into())
    }
}

/// A text of a server, fit to be shown: one line, not too long.
pub(super) fn said(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|letter| !letter.is_control()).take(MAX_SAID).collect()
}

/// The innermost cause of an error, which is the one that says something.
pub(super) fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut deepest = error;
    while let Some(cause) = inner(deepest) {
        deepest = cause;
    }
    said(&deepest.to_string())
}

/// An I/O error gives out only the source of the error that it holds, not that error itself.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}

const MAX_SAID: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_time_may_heal_is_tried_again() {
        assert!(Fault::Busy(String::new()).may_pass() && Fault::Broken(String::new()).may_pass());
        for lasting in [Fault::NotFound, Fault::Exists, Fault::Denied(String::new()), Fault::Full(String::new())] {
            assert!(!lasting.may_pass(), "{lasting}");
        }
    }

    #[test]
    fn what_a_server_says_cannot_write_on_the_terminal() {
        assert_eq!(said("\n\n  no \x1b[2Jentry \nmore"), "no [2Jentry");
        assert_eq!(said(&"x".repeat(10_000)).len(), MAX_SAID);
    }
}
