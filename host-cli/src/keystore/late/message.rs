//! What one node is sent at a registration, complete: the same bytes at once or much later.

use eds_core::{
    api::{RegisterRequest, access::AccessList, device::DeviceRegisterRequest},
    ids::{DeviceId, KeyId, NodeId, ShareIndex},
    manifest::{Manifest, Point},
};

use crate::keystore::{register::post, transport::Call};

/// What one node is to be sent to hold its shares of some keys.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// The number of the node.
    pub node: ShareIndex,
    /// The id of the node, which the seal names.
    pub node_id: NodeId,
    /// The key that the shares are sealed to.
    pub transport_key: Point,
    /// Who registers: nobody else can deliver it.
    pub registrant: [u8; 32],
    /// What is sent, without access lists.
    pub request: RegisterRequest,
    manifests: Vec<Manifest>,
}

impl Message {
    /// A message of these parts.
    ///
    /// # Errors
    /// When a manifest cannot be read, or there is none.
    pub fn new(
        node: ShareIndex,
        node_id: NodeId,
        transport_key: Point,
        registrant: [u8; 32],
        request: RegisterRequest,
    ) -> Result<Self, eds_core::Error> {
        let manifests: Vec<Manifest> =
            request.manifests.iter().map(|bytes| Manifest::decode(&bytes.0)).collect::<Result<_, _>>()?;
        if manifests.is_empty() {
            return Err(eds_core::Error::Truncated);
        }
        Ok(Self { node, node_id, transport_key, registrant, request, manifests })
    }

    /// The keys whose shares are in it, in order.
    pub fn keys(&self) -> Vec<KeyId> {
        self.manifests.iter().map(|manifest| manifest.key).collect()
    }

    /// The manifests of these keys, in order.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// The imaging device that made the key, if one did. Whoever is a courier delivers that.
    pub fn device(&self) -> Option<DeviceId> {
        match self.manifests.as_slice() {
            [manifest] => manifest.origin.as_ref().map(|origin| origin.device),
            _ => None,
        }
    }

    /// Where the keys are confirmed.
    pub(in crate::keystore) fn confirms_at(&self) -> &'static str {
        if self.device().is_some() { "/v1/device/confirm" } else { "/v1/confirm" }
    }

    /// The call that delivers it, with the access list of each key; none for new keys, nor for those that a device made.
    pub(in crate::keystore) fn call(&self, access: Vec<Option<AccessList>>) -> Call {
        if let (Some(_), [manifest]) = (self.device(), self.request.manifests.as_slice()) {
            let part = DeviceRegisterRequest { manifest: manifest.clone(), sealed: self.request.sealed.clone() };
            return post("/v1/device/register", &part);
        }
        post("/v1/register", &RegisterRequest { access, ..self.request.clone() })
    }
}
