//! The enrolment of an imaging device: its public key, and who may do what with the keys that it makes.
//!
//! Officers write it and nobody else: it stands in the database with an HMAC by the token's policy key over the exact bytes,
//! the node and the device, so that who can write the database can neither enrol a device, nor change whose its images are,
//! nor move an enrolment to another device or node. Bytes: version 1, then the enrolment in postcard.

use eds_core::{
    ids::{DeviceId, NodeId},
    manifest::Point,
};
use serde::{Deserialize, Serialize};

use crate::{
    hsm::TokenKeyId,
    policy::{
        AccessList,
        stored::{MAX_BYTES, labelled},
    },
};

/// The format version this release writes.
pub const VERSION: u8 = 1;

/// An enrolled device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Enrolment {
    /// The public key that it signs manifests with: ECDSA on P-256.
    pub key: Point,
    /// What people call it.
    pub name: String,
    /// The access list of every key that it makes.
    pub access: AccessList,
    /// When it was enrolled, in seconds since 1970.
    pub since: u64,
    /// When it was revoked, if it was: nothing of it is taken after that.
    pub revoked: Option<u64>,
}

/// Stored bytes that are no enrolment of this format, or would be too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the stored enrolment is not in a format that this release knows, or too long")]
pub struct Unreadable;

impl Enrolment {
    /// The bytes to store.
    ///
    /// # Errors
    /// [`Unreadable`] when they would be more than those of the longest access list.
    pub fn encode(&self) -> Result<Vec<u8>, Unreadable> {
        let bytes = postcard::to_extend(self, vec![VERSION]).map_err(|_| Unreadable)?;
        if bytes.len() > MAX_BYTES { Err(Unreadable) } else { Ok(bytes) }
    }

    /// Reads stored bytes. Check their HMAC first.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
                Ok((enrolment, [])) => Ok(enrolment),
                _ => Err(Unreadable),
            },
            _ => Err(Unreadable),
        }
    }
}

/// What the HMAC is computed over: label, HMAC key, node, device and stored bytes, each after its length as u32 LE.
pub fn mac_message(mac_key: &TokenKeyId, node: NodeId, device: DeviceId, stored: &[u8]) -> Vec<u8> {
    labelled([b"eds/v1/device", mac_key.as_bytes(), node.as_bytes(), device.as_bytes(), stored])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Grantee, Permissions, Subject};

    fn sample() -> Enrolment {
        let owner = Subject {
            kind: "x509".into(),
            namespace: b"ca".to_vec(),
            name: b"head of radiology".into(),
            display: "/CN=head of radiology".into(),
        };
        let mut access = AccessList::of_new_key(owner, Some("/ward".into()));
        access.entries.push((Grantee::Group("/research".into()), Permissions::from_bits(64)));
        Enrolment { key: Point([2; 33]), name: "CT 3, room 12".into(), access, since: 1_800_000_000, revoked: None }
    }

    #[test]
    fn an_enrolment_survives_its_stored_form() {
        for revoked in [None, Some(0), Some(u64::MAX)] {
            let enrolment = Enrolment { revoked, ..sample() };
            let bytes = enrolment.encode().expect("fits");
            assert_eq!(Enrolment::decode(&bytes), Ok(enrolment));
            for end in 0..bytes.len() {
                assert_eq!(Enrolment::decode(&bytes[..end]), Err(Unreadable), "cut at {end}");
            }
            assert_eq!(Enrolment::decode(&[&bytes[..], &[0]].concat()), Err(Unreadable));
            let mut later = bytes;
            later[0] = 2;
            assert_eq!(Enrolment::decode(&later), Err(Unreadable));
        }
        let long = Enrolment { name: "x".repeat(MAX_BYTES), ..sample() };
        assert_eq!(long.encode(), Err(Unreadable));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_enrolment_or_none(bytes: Vec<u8>) {
            if let Ok(enrolment) = Enrolment::decode(&[&[VERSION][..], &bytes].concat()) {
                proptest::prop_assert!(enrolment.encode().is_ok());
            }
        }
    }

    #[test]
    fn the_message_is_of_this_device_on_this_node_and_of_no_access_list() {
        let message = |mac: u8, node: u8, device: u8, stored: &[u8]| {
            let (node, device) = (NodeId::from_bytes([node; 16]), DeviceId::from_bytes([device; 16]));
            mac_message(&TokenKeyId::from_bytes([mac; 16]), node, device, stored)
        };
        let first = message(1, 1, 1, b"bytes");
        for other in [
            message(2, 1, 1, b"bytes"),
            message(1, 2, 1, b"bytes"),
            message(1, 1, 2, b"bytes"),
            message(1, 1, 1, b"byteS"),
        ] {
            assert_ne!(first, other);
        }
        let key = eds_core::ids::KeyId::from_bytes([1; 16]);
        let node = NodeId::from_bytes([1; 16]);
        let list = crate::policy::stored::mac_message(&TokenKeyId::from_bytes([1; 16]), node, key, b"bytes");
        assert_ne!(first, list, "an HMAC of an access list could be that of an enrolment");
    }
}
