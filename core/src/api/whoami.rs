//! `GET /v1/whoami`: whom the node takes the caller for.

use std::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::Binary;

/// Answer to `GET /v1/whoami`. Everybody who proves who they are may ask, and is told about themselves alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhoAmI {
    /// The kind of the subject: `x509` or `jwt`.
    pub kind: String,
    /// The caller's name, for people.
    pub subject: String,
    /// The authority that vouches for it, for people.
    pub authority: String,
    /// What the name is to the node, exactly: the digest that sealed registrations are bound to, 32 bytes.
    pub registrant: Binary,
    /// The groups, the primary one first.
    pub groups: Vec<String>,
    /// How it was proven, in words, as the audit log has it.
    pub proof: String,
    /// Whether the proof is a limited proxy.
    pub limited: bool,
    /// When the proof ends, in seconds since 1970.
    pub valid_until: i64,
    /// Whether the caller administers the node.
    pub administrator: bool,
    /// Whether the caller may register keys on the node.
    pub may_register: bool,
    /// Whether the caller may deliver what imaging devices made.
    #[serde(default)]
    pub may_deliver: bool,
}
