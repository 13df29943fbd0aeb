//! The message whose HMAC by a key in the token vouches for the name of a key.
//!
//! Who can write the database can so lead no name to another key, nor bring a name to another node: the HMAC covers the
//! name, the node and the key. An old row leads to a key that was deleted, which is nothing.

use eds_core::{
    api::name::KeyName,
    ids::{KeyId, NodeId},
};

use crate::{hsm::TokenKeyId, policy::stored::labelled};

/// What the HMAC is computed over: label, HMAC key, node, key and name, each after its length as u32 LE.
pub fn mac_message(mac_key: &TokenKeyId, node: NodeId, key: KeyId, name: &KeyName) -> Vec<u8> {
    labelled([b"eds/v1/name", mac_key.as_bytes(), node.as_bytes(), key.as_bytes(), name.as_str().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_key_node_mac_key_and_name() {
        let message = |mac: u8, node: u8, key: u8, name: &str| {
            let (node, key) = (NodeId::from_bytes([node; 16]), KeyId::from_bytes([key; 16]));
            mac_message(&TokenKeyId::from_bytes([mac; 16]), node, key, &KeyName::new(name).expect("a name"))
        };
        let first = message(1, 1, 1, "/a");
        for other in [message(2, 1, 1, "/a"), message(1, 2, 1, "/a"), message(1, 1, 2, "/a"), message(1, 1, 1, "/b")] {
            assert_ne!(first, other);
        }
    }
}
