//! Who may do what with a key: permissions, access lists and the decision. Pure: no I/O, no clock, no crypto.
//!
//! The rules are those of the original (gLite Hydra): an administrator may do everything; else the owner, the group,
//! everybody and the entries of the access list are asked in this order, and the first whose set has the permission
//! allows. Nothing takes a permission away. Every node decides alone.

pub mod stored;

use std::fmt;

use eds_core::registrant::Registrant;
use serde::{Deserialize, Serialize};

/// One thing that may be done with a key, as a bit of a [`Permissions`] set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Permission {
    /// `p`: change owner, permissions and access list.
    Change = 1,
    /// `d`: delete the key.
    Delete = 2,
    /// `r`: read (kept for the original's commands; nothing here needs it).
    Read = 4,
    /// `w`: write (kept for the original's commands).
    Write = 8,
    /// `x`: execute (kept for the original's commands).
    Execute = 16,
    /// `l`: read what is known of the key, and its access list.
    List = 32,
    /// `g`: fetch the share.
    Fetch = 64,
    /// `s`: set metadata (kept for the original's commands).
    SetMetadata = 128,
}

/// The permissions in the order in which they are printed, with their letters.
pub const LETTERS: [(Permission, char); 8] = [
    (Permission::Change, 'p'),
    (Permission::Delete, 'd'),
    (Permission::Read, 'r'),
    (Permission::Write, 'w'),
    (Permission::List, 'l'),
    (Permission::Execute, 'x'),
    (Permission::Fetch, 'g'),
    (Permission::SetMetadata, 's'),
];

/// A set of permissions, printed as eight characters such as `pdrwl-gs`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Permissions(u8);

impl Permissions {
    /// No permission.
    pub const NONE: Self = Self(0);
    /// What the owner of a new key may do: `pdrwl-gs`, everything but `x`.
    pub const OWNER: Self = Self(!(Permission::Execute as u8));

    /// The set with these bits.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits of the set.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether the permission is in the set.
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & permission as u8 != 0
    }

    /// The set with the permission added.
    #[must_use]
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | permission as u8)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LETTERS.iter().try_for_each(|(permission, letter)| {
            let shown = if self.has(*permission) { *letter } else { '-' };
            write!(f, "{shown}")
        })
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({self})")
    }
}

/// A person or a service, by encoded name within the namespace of the authority that vouches for it.
///
/// Two subjects are the same if kind, namespace and name are; the display form is for people and is never compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// How names of this kind are proven: `x509`, later `jwt`.
    pub kind: String,
    /// The authority: DER of the issuer name of a certificate.
    pub namespace: Vec<u8>,
    /// DER of the subject name of a certificate.
    pub name: Vec<u8>,
    /// For people: `/C=CH/O=Ward/CN=Dr Jones`.
    pub display: String,
}

impl Subject {
    /// The subject as the registrant of a key.
    pub fn registrant(&self) -> Registrant<'_> {
        Registrant { kind: &self.kind, namespace: &self.namespace, subject: &self.name }
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
            Self::Entry(position) => write!(f, "entry-{position}"),
        }
    }
}

/// Decides whether the caller has the permission, and by which rule; `None` is no.
pub fn decide(list: &AccessList, caller: Caller<'_>, needed: Permission) -> Option<Rule> {
    if caller.administrator {
        return Some(Rule::Administrator);
    }
    if *caller.subject == list.owner && list.owner_may.has(needed) {
        return Some(Rule::Owner);
    }
    let holds = |group: &String| caller.groups.contains(group);
    if list.group.as_ref().is_some_and(holds) && list.group_may.has(needed) {
        return Some(Rule::Group);
    }
    if list.others_may.has(needed) {
        return Some(Rule::Others);
    }
    let names = |grantee: &Grantee| match grantee {
        Grantee::Subject(subject) => subject == caller.subject,
        Grantee::Group(group) => holds(group),
    };
    list.entries.iter().position(|(grantee, may)| names(grantee) && may.has(needed)).map(Rule::Entry)
}

#[cfg(test)]
mod tests;
