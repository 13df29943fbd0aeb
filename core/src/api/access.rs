//! Access lists in the API: who may do what with a key, read, changed and explained.
//!
//! A list is identified by its digest, which nodes and clients compute alike and which leaves out what is only for
//! display. A change names the digest of the list that the caller saw, so that two changes at once do not undo each other,
//! and brings a higher version, so that an old list can be told from a new one.

pub mod typed;

use std::{string::String, vec::Vec};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{Binary, KeyState, KeyText, Problem};
use crate::{
    ids::KeyId,
    names,
    permissions::{Permission, Permissions},
    registrant::Registrant,
};

/// The kind of subjects that are DER names of certificates: namespace is the issuer, name the subject.
pub const KIND_X509: &str = "x509";
/// The kind of subjects that were typed: namespace is the DER name of the issuer, name the slash form of the subject in
/// UTF-8. It stands for the one [`KIND_X509`] subject of that issuer that is written like that.
pub const KIND_X509_SLASH: &str = "x509-slash";
/// The kind of subjects of tokens: namespace is the issuer's URL, name the `sub` claim.
pub const KIND_TOKEN: &str = "jwt";

/// The most entries of one access list.
pub const MAX_ENTRIES: usize = 1_000;
/// How much higher than the one before a version may be: repair brings a node over the changes that it missed.
pub const MAX_VERSION_STEP: u64 = 1 << 20;

/// A person or a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// How it is proven: one of [`KIND_X509`], [`KIND_X509_SLASH`], [`KIND_TOKEN`].
    pub kind: String,
    /// The authority that vouches for it.
    pub namespace: Binary,
    /// Its name within the namespace.
    pub name: Binary,
    /// For people, made by the node. Left out and ignored in requests.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display: String,
}

impl Subject {
    /// The subject as bytes that are compared.
    pub fn registrant(&self) -> Registrant<'_> {
        Registrant { kind: &self.kind, namespace: &self.namespace.0, subject: &self.name.0 }
    }

    /// The subject for people, made of its name alone: what a node wrote in `display` is not believed.
    pub fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.name.0);
        match self.kind.as_str() {
            KIND_X509 => names::display(&self.name.0),
            KIND_TOKEN => std::format!("{}#{}", String::from_utf8_lossy(&self.namespace.0), text.escape_debug()),
            _ => text.escape_debug().collect(),
        }
    }

    /// The authority for people.
    pub fn authority(&self) -> String {
        match self.kind.as_str() {
            KIND_X509 | KIND_X509_SLASH => names::display(&self.namespace.0),
            _ => String::from_utf8_lossy(&self.namespace.0).into_owned(),
        }
    }
}

impl Grantee {
    /// Whether both name the same person or the same group.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Subject(a), Self::Subject(b)) => names::same_subject(&a.registrant(), &b.registrant()),
            (Self::Group(a), Self::Group(b)) => a == b,
            _ => false,
        }
    }

    /// Whom it names, for people.
    pub fn shown(&self) -> String {
        match self {
            Self::Subject(subject) => subject.shown(),
            Self::Group(group) => group.escape_debug().collect(),
        }
    }
}

/// Whom an entry names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Grantee {
    /// A person or a service.
    Subject(Subject),
    /// Everybody who proves this group, such as a VOMS FQAN.
    Group(String),
}

/// A set of permissions as its eight letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PermissionsText(pub Permissions);

impl Serialize for PermissionsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PermissionsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whom it names.
    pub who: Grantee,
    /// What they may do.
    pub may: PermissionsText,
}

/// Who may do what with one key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AccessList {
    /// Rises with each change.
    #[serde(deserialize_with = "super::whole::number")]
    #[cfg_attr(feature = "schema", schemars(with = "u64", range(max = u64::MAX)))]
    pub version: u64,
    /// Who registered the key, or was given it.
    pub owner: Subject,
    /// The group of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What the owner may do.
    pub owner_may: PermissionsText,
    /// What holders of the group may do.
    pub group_may: PermissionsText,
    /// What everybody may do.
    pub others_may: PermissionsText,
    /// What further people and groups may do; each is named once.
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_ENTRIES)))]
    pub entries: Vec<Entry>,
}

impl AccessList {
    /// Identifies the list: SHA-256("eds/v1/access-list-digest" ‖ version (u64 LE) ‖ owner ‖ group ‖ bits of owner, group
    /// and others ‖ number of entries (u32 LE) ‖ entries); a subject is 1 and its 32-byte registrant digest, a group is 2
    /// and its bytes after their length (u32 LE), no group is 0; an entry is followed by its bits.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"eds/v1/access-list-digest");
        hash.update(self.version.to_le_bytes());
        hash_subject(&mut hash, &self.owner);
        match &self.group {
            Some(group) => hash_group(&mut hash, group),
            None => hash.update([0]),
        }
        hash.update([self.owner_may.0.bits(), self.group_may.0.bits(), self.others_may.0.bits()]);
        hash.update(length(self.entries.len()));
        for entry in &self.entries {
            match &entry.who {
                Grantee::Subject(subject) => hash_subject(&mut hash, subject),
                Grantee::Group(group) => hash_group(&mut hash, group),
            }
            hash.update([entry.may.0.bits()]);
        }
        hash.finalize().into()
    }
}

fn hash_subject(hash: &mut Sha256, subject: &Subject) {
    hash.update([1]);
    hash.update(subject.registrant().digest());
}

fn hash_group(hash: &mut Sha256, group: &str) {
    hash.update([2]);
    hash.update(length(group.len()));
    hash.update(group);
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// Answer to `POST /v1/access/read` (a [`super::KeysRequest`]; each key needs `l`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AccessAnswer {
    /// One entry for each key, in order.
    pub results: Vec<AccessResult>,
}

/// The access list of one key of a batch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AccessResult {
    /// The key.
    pub key: KeyText,
    /// Where it is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<KeyState>,
    /// Its manifest, which tells how many nodes are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Binary>,
    /// The list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessList>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// `POST /v1/access/change`: puts other lists in the place of those that the caller saw. Needs `p` for each key; another
/// owner is named by the owner or an administrator alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// The changes, each key once.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::MAX_BATCH)))]
    pub changes: Vec<Change>,
}

/// The change of one access list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The key.
    pub key: KeyText,
    /// The digest of the list that the caller saw.
    pub seen: Binary,
    /// The list to be, with a higher version.
    pub access: AccessList,
}

/// `POST /v1/list`: keys that the caller may list (`l`), a page at a time, in the order of their ids.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// Where the page before ended; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<KeyText>,
}

/// One page of a listing. It may be empty and yet not the last: a node looks at a bounded number of keys for each.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListAnswer {
    /// The keys.
    pub keys: Vec<ListedKey>,
    /// Where the next page starts; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<KeyText>,
}

/// A key of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListedKey {
    /// The key.
    pub key: KeyText,
    /// Where it is in its life.
    pub state: KeyState,
    /// The owner, for display.
    pub owner: String,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Permissions of owner, group and others, for display.
    pub permissions: String,
}

/// `POST /v1/why`: which rule allows or refuses what, for the caller or, for an administrator, for somebody else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WhyRequest {
    /// The key.
    pub key: KeyText,
    /// Somebody else; only administrators may ask.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::object::optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Asked>"))]
    pub principal: Option<Asked>,
}

/// Somebody whose permissions an administrator asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Who; absent for anybody with these groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Groups that they would prove.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// Answer to [`WhyRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WhyAnswer {
    /// The key.
    pub key: KeyText,
    /// Where it is in its life: what is pending is for its registrant alone.
    pub state: KeyState,
    /// For whom, for display.
    pub principal: String,
    /// With which groups.
    pub groups: Vec<String>,
    /// The version of the list that decides.
    pub version: u64,
    /// The eight permissions in printed order.
    pub decisions: Vec<Decision>,
}

/// The decision about one permission.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Decision {
    /// The letter.
    pub permission: char,
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rule that allowed it: `administrator`, `owner`, `group`, `others` or `entry-N`, counted from 1; or `none`.
    pub rule: String,
    /// The rule in words; when refused, what every rule that concerns the principal says.
    pub reason: String,
}

impl Decision {
    /// Whether it is about this permission.
    pub fn is_about(&self, permission: Permission) -> bool {
        self.permission == permission.letter()
    }
}

/// The request for these keys.
pub fn read_request(keys: impl IntoIterator<Item = KeyId>) -> super::KeysRequest {
    super::KeysRequest { keys: keys.into_iter().map(KeyText).collect() }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn subject(name: &str) -> Subject {
        Subject {
            kind: KIND_X509.into(),
            namespace: Binary(b"ca".to_vec()),
            name: Binary(name.as_bytes().to_vec()),
            display: std::format!("/CN={name}"),
        }
    }

    fn sample() -> AccessList {
        let entry = |who, may: &str| Entry { who, may: PermissionsText(may.parse().expect("letters")) };
        AccessList {
            version: 3,
            owner: subject("owner"),
            group: Some("/ward".into()),
            owner_may: PermissionsText(Permissions::OWNER),
            group_may: PermissionsText("g".parse().expect("letters")),
            others_may: PermissionsText(Permissions::NONE),
            entries: vec![
                entry(Grantee::Subject(subject("friend")), "----l-g-"),
                entry(Grantee::Group("/research".into()), "----l---"),
            ],
        }
    }

    #[test]
    fn the_digest_covers_everything_but_what_is_for_display() {
        let before = sample().digest();
        let mut renamed = sample();
        renamed.owner.display = "somebody".into();
        assert_eq!(renamed.digest(), before);
        let changes: [fn(&mut AccessList); 11] = [
            |list| list.version += 1,
            |list| list.owner = subject("other"),
            |list| list.owner.kind = KIND_TOKEN.into(),
            |list| list.owner.namespace.0.push(0),
            |list| list.group = None,
            |list| list.group = Some("/wards".into()),
            |list| list.owner_may = PermissionsText(Permissions::NONE),
            |list| list.group_may = list.owner_may,
            |list| list.others_may = list.owner_may,
            |list| list.entries.swap(0, 1),
            |list| list.entries.truncate(1),
        ];
        for (position, change) in changes.into_iter().enumerate() {
            let mut changed = sample();
            change(&mut changed);
            assert_ne!(changed.digest(), before, "change {position}");
        }
    }

    #[test]
    fn the_digest_is_fixed() {
        // Nodes of different releases must agree: these bytes never change.
        let hex = sample().digest().iter().fold(String::new(), |text, byte| text + &std::format!("{byte:02x}"));
        assert_eq!(hex, GOLDEN);
    }

    /// Computed by another program (Python) from the description of the digest.
    const GOLDEN: &str = "1c437c572ea133d983ff39fb6e6f2ae9197c796579cf849c14c5fe934e5f0c98";

    #[test]
    fn a_list_survives_json_and_unknown_fields_are_refused() {
        let json = serde_json::to_string(&sample()).expect("writes");
        assert!(json.contains(r#""may":"----l-g-""#), "{json}");
        assert_eq!(serde_json::from_str::<AccessList>(&json).expect("reads"), sample());
        let with_more = json.replacen('{', r#"{"admin":true,"#, 1);
        assert!(serde_json::from_str::<AccessList>(&with_more).is_err());
    }
}
