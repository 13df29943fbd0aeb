//! What a courier delivers of an imaging device: bundles (`docs/device-link.md`), one node's part at a time.

use serde::{Deserialize, Serialize};

use super::Binary;

/// `POST /v1/device/register`: stores this node's share of a key that an enrolled device made. Owner, group and permissions of
/// the key are those of the enrolment. The key is pending until `POST /v1/device/confirm`. The same call again, by whatever
/// courier, is the same success. Answered with [`super::KeysAnswer`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceRegisterRequest {
    /// The manifest, signed by the device.
    pub manifest: Binary,
    /// The sealed list of one share, as the device made it for this node.
    pub sealed: Binary,
}
