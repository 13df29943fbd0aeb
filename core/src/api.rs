//! Request and answer bodies of the key servers' HTTP API, version 1 (JSON; binary fields are base64).
//!
//! Every path is below `/v1`. Errors are RFC 9457 problem documents ([`Problem`]). Up to [`MAX_BATCH`] keys go into one
//! call, and every key of a batch is decided on its own.

pub mod access;
pub mod device;
pub mod name;
pub mod object;
#[cfg(feature = "schema")]
pub mod schema;
pub mod whoami;
pub mod whole;

use std::{string::String, vec::Vec};

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Epoch, KeyId, NodeId, ShareIndex};

/// The most keys in one register or fetch call.
pub const MAX_BATCH: usize = 1_000;

/// Bytes that are base64 (RFC 4648, section 4, padded) in JSON.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Binary(pub Vec<u8>);

impl Serialize for Binary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Base64::decode_vec(&text).map(Self).map_err(|_| serde::de::Error::custom("not base64"))
    }
}

macro_rules! text_form {
    ($($module:ident: $type:ty),*) => {$(
        /// Serde of the id as text, for `#[serde(with = …)]`.
        pub mod $module {
            use std::string::ToString;

            use serde::{Deserialize, Deserializer, Serializer};

            /// Writes the text form.
            pub fn serialize<S: Serializer>(id: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&id.to_string())
            }

            /// Reads the text form.
            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
text_form!(key_text: crate::ids::KeyId, cluster_text: crate::ids::ClusterId, node_text: crate::ids::NodeId);

/// A list of key ids as text, for the calls that need nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyText(pub KeyId);

impl Serialize for KeyText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        key_text::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        key_text::deserialize(deserializer).map(Self)
    }
}

/// `POST /v1/register`: stores this node's shares of new keys, all of the batch or none. The keys are pending until they
/// are confirmed. The same call again, by the same caller, is the same success.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// 16 random bytes: the registration, which a repeated call names again.
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::registration"))]
    pub registration: Binary,
    /// The manifest of each key.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_BATCH)))]
    pub manifests: Vec<Binary>,
    /// The sealed list of this node's shares, in the order of the manifests.
    pub sealed: Binary,
    /// For keys that other nodes hold already: the access list that each comes up with, in the order of the manifests.
    /// Empty for new keys; a key without one is its registrant's alone. While a key is pending, the same registration
    /// with a later list replaces the one that is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_BATCH)))]
    pub access: Vec<Option<access::AccessList>>,
    /// The name of each key, in the order of the manifests (see [`name`]). Empty when none has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_BATCH)))]
    pub names: Vec<Option<String>>,
}

/// `POST /v1/confirm` (enough nodes stored the keys: pending → active), `POST /v1/withdraw` (takes back pending keys; only
/// their registrant) and `POST /v1/unregister` (deletes keys for ever; needs `d`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeysRequest {
    /// The keys.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_BATCH)))]
    pub keys: Vec<KeyText>,
}

/// Answer to register, confirm, withdraw and unregister: one entry for each key, in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeysAnswer {
    /// What became of each key.
    pub results: Vec<KeyResult>,
}

/// What became of one key of a batch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyResult {
    /// The key.
    pub key: KeyText,
    /// Its state after the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<KeyState>,
    /// Why the call did not do what was asked for this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Where a key is in its life on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Stored, not yet confirmed: only its registrant can fetch it or take it back.
    Pending,
    /// Stored and confirmed.
    Active,
    /// Deleted or taken back; the id can never be registered again.
    Tombstone,
}

/// `POST /v1/fetch`: this node's shares, sealed to a one-time key of the caller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    /// The keys.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_BATCH)))]
    pub keys: Vec<KeyText>,
    /// A P-256 public key made for this call, uncompressed SEC 1, 65 bytes.
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::point"))]
    pub reply_key: Binary,
}

/// Answer to fetch. The shares of the keys that were released are in `sealed`, in order, bound to the SHA-256 of the
/// request body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FetchAnswer {
    /// One entry for each key of the request, in order.
    pub results: Vec<FetchResult>,
    /// The sealed list of shares; absent when none was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Binary>,
}

/// One key of a fetch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FetchResult {
    /// The key.
    pub key: KeyText,
    /// Its manifest, when the share was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Binary>,
    /// Why the share was not released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// `GET /v1/keys/{guid}`: what this node holds of a key. Never the share.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyInfo {
    /// The key.
    pub key: KeyText,
    /// Where it is in its life.
    pub state: KeyState,
    /// The generation of the share; absent for a tombstone, as are the fields below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u32>"))]
    pub epoch: Option<Epoch>,
    /// The manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Binary>,
    /// The owner, for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Permissions of owner, group and others, for display: `user pdrwl-gs, group --------, other --------`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<String>,
}

/// `GET /v1/node`: who this node is. For display and diagnosis: clients believe the signed directory, not this.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeInfo {
    /// Its cluster.
    #[cfg_attr(feature = "schema", schemars(with = "KeyText"))]
    #[serde(with = "cluster_text")]
    pub cluster: ClusterId,
    /// Its id.
    #[cfg_attr(feature = "schema", schemars(with = "KeyText"))]
    #[serde(with = "node_text")]
    pub node: NodeId,
    /// Its directory number.
    #[cfg_attr(feature = "schema", schemars(with = "u16"))]
    pub number: ShareIndex,
    /// The version of the directory it works with.
    pub directory_version: u64,
    /// The compressed public key that shares are sealed to.
    pub transport_key: Binary,
    /// The sealing suites it can open.
    pub suites: Vec<u16>,
    /// What protects its private keys less than a token does, in words; absent when the token holds all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weaker: Option<String>,
    /// The release that is running.
    pub version: String,
    /// Who the node takes the caller for.
    pub caller: String,
}

/// An error as RFC 9457 describes it (`application/problem+json`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `urn:eds:problem:` and a word that programs may match on.
    #[serde(rename = "type")]
    pub kind: String,
    /// What went wrong, in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong with what, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request id, as in the node's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl Problem {
    /// The word after `urn:eds:problem:`.
    pub fn word(&self) -> &str {
        self.kind.strip_prefix("urn:eds:problem:").unwrap_or(&self.kind)
    }
}
