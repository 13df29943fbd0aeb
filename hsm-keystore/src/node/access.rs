//! Access lists as they leave and enter the database: authenticated by the token's policy key, and checked at every read.
//!
//! A list whose HMAC is wrong was altered by somebody who can write the database but does not have the token: its key is
//! released to nobody. HMACs that were right are remembered, so that a key that is fetched often costs the token one
//! HMAC; what is remembered is a digest over the whole message and its HMAC, so that a changed byte is a new question.
//! A fetch needs neither where the data key of the share vouches for the list ([`crate::shares::Voucher`]).

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use eds_core::ids::{KeyId, NodeId};
use sha2::{Digest, Sha256};

use crate::{
    hsm::{Hsm, HsmError},
    policy::{
        AccessList,
        stored::{Unreadable, decode, encode, mac_message},
    },
    store::StoredAccess,
};

/// How many right HMACs are remembered: 32 bytes each.
const REMEMBERED: usize = 100_000;

/// Seals and checks the access lists of one node.
pub struct AccessGuard {
    node: NodeId,
    hsm: Arc<dyn Hsm>,
    right: Mutex<HashSet<[u8; 32]>>,
}

/// A stored access list that must not be acted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Altered {
    /// Its HMAC is wrong.
    #[error("the access list was altered")]
    Mac,
    /// Its HMAC is right, but this release cannot read it.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// A list that is too long to be stored, or a token that did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The list is too long.
    #[error("the access list is too long")]
    TooLong,
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
}

impl AccessGuard {
    /// A guard for the lists of this node.
    pub fn new(node: NodeId, hsm: Arc<dyn Hsm>) -> Self {
        Self { node, hsm, right: Mutex::default() }
    }

    /// Encodes and authenticates lists, in order.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, lists: &[(KeyId, AccessList)]) -> Result<Vec<StoredAccess>, SealError> {
        let encoded: Vec<Vec<u8>> = lists
            .iter()
            .map(|(_, list)| encode(list).map_err(|Unreadable| SealError::TooLong))
            .collect::<Result<_, _>>()?;
        let messages = lists.iter().zip(&encoded).map(|((key, _), list)| self.message(*key, list)).collect();
        let macs = self.hsm.mac(messages)?;
        Ok(encoded.into_iter().zip(macs).map(|(list, mac)| StoredAccess::new(list, &mac)).collect())
    }

    /// Checks and reads lists, in order.
    ///
    /// # Errors
    /// [`HsmError`] when the token could not say.
    pub fn open(&self, stored: &[(KeyId, &StoredAccess)]) -> Result<Vec<Result<AccessList, Altered>>, HsmError> {
        let messages: Vec<Vec<u8>> = stored.iter().map(|(key, access)| self.message(*key, &access.list)).collect();
        let digests: Vec<[u8; 32]> =
            messages.iter().zip(stored).map(|(message, (_, access))| digest(message, &access.mac)).collect();
        let known: Vec<bool> = {
            let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            digests.iter().map(|digest| right.contains(digest)).collect()
        };
        let asked = messages.into_iter().zip(&known).filter(|(_, known)| !**known).map(|(message, _)| message);
        let asked: Vec<_> = asked.collect();
        let mut macs = if asked.is_empty() { Vec::new() } else { self.hsm.mac(asked)? }.into_iter();
        let mut newly = Vec::new();
        let opened = stored
            .iter()
            .zip(known)
            .zip(digests)
            .map(|(((_, access), known), digest)| {
                if !known {
                    let both = macs.next().zip(access.hmac());
                    if both.is_none_or(|(right, stored)| verify_slices_are_equal(&right, stored).is_err()) {
                        return Err(Altered::Mac);
                    }
                    newly.push(digest);
                }
                Ok(decode(&access.list)?)
            })
            .collect();
        self.remember(newly);
        Ok(opened)
    }

    fn remember(&self, newly: Vec<[u8; 32]>) {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() + newly.len() > REMEMBERED {
            right.clear();
        }
        right.extend(newly.into_iter().take(REMEMBERED));
    }

    fn message(&self, key: KeyId, list: &[u8]) -> Vec<u8> {
        mac_message(&self.hsm.policy_key(), self.node, key, list)
    }
}

/// The message tells its own end, and the policy key.
fn digest(message: &[u8], mac: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(message);
    hash.update(mac);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hsm::memory::MemoryHsm, policy::Subject};

    fn list(name: &str) -> AccessList {
        let subject = Subject {
            kind: "x509".into(),
            namespace: b"ca".to_vec(),
            name: name.as_bytes().into(),
            display: format!("/CN={name}"),
        };
        AccessList::of_new_key(subject, None)
    }

    #[test]
    fn only_what_was_sealed_for_this_key_on_this_node_opens() {
        let hsm = Arc::new(MemoryHsm::new().expect("made"));
        let guard = AccessGuard::new(NodeId::from_bytes([1; 16]), hsm.clone());
        let (a, b) = (KeyId::from_bytes([2; 16]), KeyId::from_bytes([3; 16]));
        let sealed = guard.seal(&[(a, list("a")), (b, list("b"))]).expect("seals");
        // Twice: the second answer comes from memory.
        for _ in 0..2 {
            let opened = guard.open(&[(a, &sealed[0]), (b, &sealed[1]), (a, &sealed[1])]).expect("answers");
            assert_eq!(opened, [Ok(list("a")), Ok(list("b")), Err(Altered::Mac)]);
        }
        for position in 0..sealed[0].list.len() {
            let mut altered = sealed[0].clone();
            altered.list[position] ^= 1;
            assert_eq!(guard.open(&[(a, &altered)]).expect("answers"), [Err(Altered::Mac)], "byte {position}");
        }
        let mut altered = sealed[0].clone();
        altered.mac[0] ^= 1;
        let cut = StoredAccess { list: sealed[0].list.clone(), mac: Vec::new() };
        assert_eq!(guard.open(&[(a, &altered), (a, &cut)]).expect("answers"), [Err(Altered::Mac), Err(Altered::Mac)]);
        let elsewhere = AccessGuard::new(NodeId::from_bytes([9; 16]), hsm);
        assert_eq!(elsewhere.open(&[(a, &sealed[0])]).expect("answers"), [Err(Altered::Mac)]);
    }

    #[test]
    fn what_was_right_needs_no_token_and_what_is_new_does() {
        let hsm = Arc::new(MemoryHsm::new().expect("made"));
        let guard = AccessGuard::new(NodeId::from_bytes([1; 16]), hsm.clone());
        let key = KeyId::from_bytes([2; 16]);
        let sealed = guard.seal(&[(key, list("a")), (key, list("b"))]).expect("seals");
        guard.open(&[(key, &sealed[0])]).expect("answers");
        hsm.set_out_of_order(true);
        assert_eq!(guard.open(&[(key, &sealed[0])]).expect("from memory"), [Ok(list("a"))]);
        assert!(guard.open(&[(key, &sealed[1])]).is_err());
    }
}
