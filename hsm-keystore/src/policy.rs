//! Who may do what with a key: permissions, access lists and the decision. Pure: no I/O, no clock, no crypto.
//!
//! The rules are those of the original (gLite Hydra): an administrator may do everything; else the owner, the group,
//! everybody and the entries of the access list are asked in this order, and the first whose set has the permission
//! allows. Nothing takes a permission away. Every node decides alone.

pub mod enrolment;
pub mod explain;
pub mod naming;
pub mod node;
pub mod stored;
pub mod wire;

use eds_core::{names, registrant::Registrant};
use serde::{Deserialize, Serialize};

use std::fmt;

pub use eds_core::permissions::{LETTERS, Permission, Permissions};

/// A person or a service, by encoded name within the namespace of the authority that vouches for it.
///
/// Two subjects are equal if kind, namespace and name are; the display form is for people and is never compared. A name
/// that was typed in slash form stands for the encoded name that is written like that ([`Subject::is`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// What names of this kind are: `x509`, `x509-slash` (never a caller's) or `jwt` (see [`eds_core::api::access`]).
    pub kind: String,
    /// The authority: DER of the issuer name of a certificate, or the issuer of a token.
    pub namespace: Vec<u8>,
    /// DER of the subject name of a certificate, its slash form where it was typed, or the subject of a token.
    pub name: Vec<u8>,
    /// For people: `/C=CH/O=Ward/CN=Dr Jones`.
    pub display: String,
}

impl Subject {
    /// The subject as the registrant of a key.
    pub fn registrant(&self) -> Registrant<'_> {
        Registrant { kind: &self.kind, namespace: &self.namespace, subject: &self.name }
    }

    /// Whether both are one person or service.
    pub fn is(&self, other: &Self) -> bool {
        names::same_subject(&self.registrant(), &other.registrant())
    }
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        self.registrant() == other.registrant()
    }
}

impl Eq for Subject {}

/// Whom an entry of an access list names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Grantee {
    /// A person or a service.
    Subject(Subject),
    /// Everybody who proves this group, such as a VOMS FQAN.
    Group(String),
}

impl Grantee {
    /// Whether the caller is named.
    pub fn names(&self, caller: Caller<'_>) -> bool {
        match self {
            Self::Subject(subject) => subject.is(caller.subject),
            Self::Group(group) => caller.groups.contains(group),
        }
    }
}

/// Who may do what with one key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessList {
    /// Who registered the key.
    pub owner: Subject,
    /// The group of the key.
    pub group: Option<String>,
    /// What the owner may do.
    pub owner_may: Permissions,
    /// What holders of the group may do.
    pub group_may: Permissions,
    /// What everybody may do.
    pub others_may: Permissions,
    /// What further people and groups may do.
    pub entries: Vec<(Grantee, Permissions)>,
    /// Rises with each change.
    pub version: u64,
}

impl AccessList {
    /// The access list of a new key: its owner may do everything but `x`, nobody else may do anything.
    pub fn of_new_key(owner: Subject, group: Option<String>) -> Self {
        Self {
            owner,
            group,
            owner_may: Permissions::OWNER,
            group_may: Permissions::NONE,
            others_may: Permissions::NONE,
            entries: Vec::new(),
            version: 0,
        }
    }

    /// The base permissions as people see them: `user pdrwl-gs, group --------, other --------`.
    pub fn base_permissions(&self) -> String {
        format!("user {}, group {}, other {}", self.owner_may, self.group_may, self.others_may)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The proven subject.
    pub subject: &'a Subject,
    /// The proven groups.
    pub groups: &'a [String],
    /// Whether the node's configuration names the caller as an administrator.
    pub administrator: bool,
}

/// The rule that allowed something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The caller is an administrator of the node.
    Administrator,
    /// The caller owns the key.
    Owner,
    /// The caller holds the group of the key.
    Group,
    /// Everybody may.
    Others,
    /// The entry of the access list at this position, counted from 0.
    Entry(usize),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Administrator => f.write_str("administrator"),
            Self::Owner => f.write_str("owner"),
            Self::Group => f.write_str("group"),
            Self::Others => f.write_str("others"),
            Self::Entry(position) => write!(f, "entry-{}", position + 1),
        }
    }
}

/// Decides whether the caller has the permission, and by which rule; `None` is no.
pub fn decide(list: &AccessList, caller: Caller<'_>, needed: Permission) -> Option<Rule> {
    if caller.administrator {
        return Some(Rule::Administrator);
    }
    if list.owner.is(caller.subject) && list.owner_may.has(needed) {
        return Some(Rule::Owner);
    }
    if list.group.as_ref().is_some_and(|group| caller.groups.contains(group)) && list.group_may.has(needed) {
        return Some(Rule::Group);
    }
    if list.others_may.has(needed) {
        return Some(Rule::Others);
    }
    list.entries.iter().position(|(grantee, may)| grantee.names(caller) && may.has(needed)).map(Rule::Entry)
}

#[cfg(test)]
mod tests;
