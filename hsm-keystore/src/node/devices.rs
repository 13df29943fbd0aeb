//! Enrolments as they leave and enter the database: authenticated by the token's policy key, and checked at every read.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use eds_core::ids::{DeviceId, NodeId};

use crate::{
    hsm::{Hsm, HsmError},
    policy::enrolment::{Enrolment, Unreadable, mac_message},
    store::StoredDevice,
};

/// Seals and checks the enrolments of one node.
pub struct DeviceGuard {
    node: NodeId,
    hsm: Arc<dyn Hsm>,
}

/// A stored enrolment that must not be acted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Altered {
    /// Its HMAC is wrong.
    #[error("the enrolment was altered")]
    Mac,
    /// Its HMAC is right, but this release cannot read it.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// An enrolment that is too long to be stored, or a token that did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The enrolment is too long.
    #[error("the enrolment is too long")]
    TooLong,
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
}

impl DeviceGuard {
    /// A guard for the enrolments of this node.
    pub fn new(node: NodeId, hsm: Arc<dyn Hsm>) -> Self {
        Self { node, hsm }
    }

    /// Encodes and authenticates an enrolment.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, device: DeviceId, enrolment: &Enrolment) -> Result<StoredDevice, SealError> {
        let enrolment = enrolment.encode().map_err(|Unreadable| SealError::TooLong)?;
        let mac = self.mac(device, &enrolment)?;
        Ok(StoredDevice { device, enrolment, mac })
    }

    /// Checks and reads an enrolment.
    ///
    /// # Errors
    /// [`HsmError`] when the token could not say.
    pub fn open(&self, stored: &StoredDevice) -> Result<Result<Enrolment, Altered>, HsmError> {
        let mac = self.mac(stored.device, &stored.enrolment)?;
        if verify_slices_are_equal(&mac, &stored.mac).is_err() {
            return Ok(Err(Altered::Mac));
        }
        Ok(Enrolment::decode(&stored.enrolment).map_err(Altered::from))
    }

    fn mac(&self, device: DeviceId, enrolment: &[u8]) -> Result<Vec<u8>, HsmError> {
        let message = mac_message(&self.hsm.policy_key(), self.node, device, enrolment);
        // One message has one HMAC; none equals nothing that is stored.
        Ok(self.hsm.mac(vec![message])?.first().map(|mac| mac.to_vec()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use eds_core::manifest::Point;

    use super::*;
    use crate::{
        hsm::memory::MemoryHsm,
        policy::{AccessList, Subject},
    };

    #[test]
    fn only_what_was_sealed_for_this_device_on_this_node_opens() {
        let hsm = Arc::new(MemoryHsm::new().expect("made"));
        let guard = DeviceGuard::new(NodeId::from_bytes([1; 16]), hsm.clone());
        let owner =
            Subject { kind: "x509".into(), namespace: b"ca".to_vec(), name: b"a".to_vec(), display: "/CN=a".into() };
        let access = AccessList::of_new_key(owner, None);
        let enrolment = Enrolment { key: Point([3; 33]), name: "CT".into(), access, since: 7, revoked: None };
        let [one, two] = [[1; 16], [2; 16]].map(DeviceId::from_bytes);
        let sealed = guard.seal(one, &enrolment).expect("seals");
        assert_eq!(guard.open(&sealed).expect("answers"), Ok(enrolment.clone()));
        let refused = |stored: &StoredDevice| assert_eq!(guard.open(stored).expect("answers"), Err(Altered::Mac));
        for position in 0..sealed.enrolment.len() {
            let mut altered = sealed.clone();
            altered.enrolment[position] ^= 1;
            refused(&altered);
        }
        let mut altered = sealed.clone();
        altered.mac[31] ^= 1;
        refused(&altered);
        refused(&StoredDevice { mac: Vec::new(), ..sealed.clone() });
        refused(&StoredDevice { device: two, ..sealed.clone() });
        let revoked = guard.seal(one, &Enrolment { revoked: Some(8), ..enrolment }).expect("seals");
        refused(&StoredDevice { mac: sealed.mac.clone(), ..revoked });
        let elsewhere = DeviceGuard::new(NodeId::from_bytes([9; 16]), hsm);
        assert_eq!(elsewhere.open(&sealed).expect("answers"), Err(Altered::Mac));
    }
}
