//! How a token is: at work, in an outage from which it may come back, or beyond what this process can do.
//!
//! A server reads this to refuse work at once during an outage, and to end when only a restart can help.

use std::fmt;

/// The state of a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// It did what was asked.
    Working,
    /// It failed, calls are refused at once, and this process tries to bring it back.
    Recovering {
        /// What happened.
        reason: String,
    },
    /// It refused the PIN, or would lock at the next try. This process does not try again, and must not be restarted by
    /// a supervisor: each start would use up a try. An officer must act.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// This process cannot bring it back: the module hangs, or cannot be started anew. The process ends for its
    /// supervisor.
    Lost {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Working => f.write_str("works"),
            Self::Recovering { reason } => write!(f, "does not work, and is being brought back: {reason}"),
            Self::Refused { reason } => write!(f, "is not used: {reason}"),
            Self::Lost { reason } => write!(f, "cannot be brought back by this process: {reason}"),
        }
    }
}
