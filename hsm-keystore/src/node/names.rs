//! Names of keys as they leave and enter the database: authenticated by the token's policy key, and checked at every read.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use eds_core::{
    api::name::KeyName,
    ids::{KeyId, NodeId},
};

use crate::{
    hsm::{Hsm, HsmError},
    policy::naming::mac_message,
    store::{NewName, StoredName},
};

/// Seals and checks the names of one node.
pub struct NameGuard {
    node: NodeId,
    hsm: Arc<dyn Hsm>,
}

impl NameGuard {
    /// A guard for the names of this node.
    pub fn new(node: NodeId, hsm: Arc<dyn Hsm>) -> Self {
        Self { node, hsm }
    }

    /// Authenticates the names that some of these keys have, in order.
    ///
    /// # Errors
    /// [`HsmError`].
    pub fn seal(&self, names: &[(KeyId, Option<KeyName>)]) -> Result<Vec<Option<NewName>>, HsmError> {
        let given = names.iter().filter_map(|(key, name)| Some((*key, name.as_ref()?)));
        let mut macs = self.macs(given)?.into_iter();
        let sealed = |(_, name): &(KeyId, Option<KeyName>)| {
            let name = name.clone()?;
            Some(NewName { name, mac: macs.next().unwrap_or_default() })
        };
        Ok(names.iter().map(sealed).collect())
    }

    /// Whether each of these names is that of its key, in order.
    ///
    /// # Errors
    /// [`HsmError`] when the token could not say.
    pub fn check(&self, stored: &[(&KeyName, &StoredName)]) -> Result<Vec<bool>, HsmError> {
        let macs = self.macs(stored.iter().map(|(name, stored)| (stored.key, *name)))?;
        let right = |((_, stored), mac): (&(&KeyName, &StoredName), Vec<u8>)| {
            !mac.is_empty() && verify_slices_are_equal(&mac, &stored.mac).is_ok()
        };
        Ok(stored.iter().zip(macs.into_iter().chain(std::iter::repeat(Vec::new()))).map(right).collect())
    }

    fn macs<'n>(&self, names: impl Iterator<Item = (KeyId, &'n KeyName)>) -> Result<Vec<Vec<u8>>, HsmError> {
        let key = self.hsm.policy_key();
        let messages: Vec<_> = names.map(|(of, name)| mac_message(&key, self.node, of, name)).collect();
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.hsm.mac(messages)?.into_iter().map(|mac| mac.to_vec()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::memory::MemoryHsm;

    #[test]
    fn only_the_name_that_was_sealed_for_this_key_on_this_node_is_right() {
        let hsm = Arc::new(MemoryHsm::new().expect("made"));
        let guard = NameGuard::new(NodeId::from_bytes([1; 16]), hsm.clone());
        let [one, two] = [[1; 16], [2; 16]].map(KeyId::from_bytes);
        let [a, b] = ["/vo/a", "/vo/b"].map(|text| KeyName::new(text).expect("a name"));
        let sealed = guard.seal(&[(two, None), (one, Some(a.clone()))]).expect("seals");
        assert_eq!(sealed[0], None);
        let mac = sealed[1].as_ref().expect("sealed").mac.clone();
        let row = |key, mac: &[u8]| StoredName { key, mac: mac.to_vec() };
        let mut flipped = mac.clone();
        flipped[31] ^= 1;
        let rows = [row(one, &mac), row(two, &mac), row(one, &flipped), row(one, &[])];
        let asked = [(&a, &rows[0]), (&a, &rows[1]), (&a, &rows[2]), (&a, &rows[3]), (&b, &rows[0])];
        assert_eq!(guard.check(&asked).expect("answers"), [true, false, false, false, false]);
        let elsewhere = NameGuard::new(NodeId::from_bytes([9; 16]), hsm);
        assert_eq!(elsewhere.check(&asked[..1]).expect("answers"), [false]);
    }
}
