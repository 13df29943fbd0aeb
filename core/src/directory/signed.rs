//! A directory file read where it lies: what a device with little memory uses in place of [`Directory`](super::Directory).
//!
//! The file stays in flash, and one node at a time is looked at. Exactly the files that [`Directory::verify`] accepts are
//! accepted here, for the same reasons and after the same checks.
//!
//! [`Directory::verify`]: super::Directory::verify

use heapless::Vec;
use serde::Deserialize;

use super::{check_floor, check_signature, strip_head};
use crate::{
    Error,
    ids::{ClusterId, MAX_NODES, NodeId, ShareIndex},
    manifest::Point,
};

/// A directory file whose signature was checked against the pinned key.
#[derive(Clone, Copy, Debug)]
pub struct SignedDirectory<'a> {
    cluster: ClusterId,
    version: u64,
    floor: u8,
    count: usize,
    nodes: &'a [u8],
}

/// One key server, as [`Node`](super::Node) has it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct NodeEntry<'a> {
    /// Its number, which is the index of its shares.
    pub number: ShareIndex,
    /// Its id.
    pub id: NodeId,
    /// Where it answers.
    pub url: &'a str,
    /// The public key that shares are sealed to.
    pub transport_key: Point,
    /// The public key that signs audit checkpoints, once there is one.
    pub audit_key: Option<Point>,
    /// The sealing suites it can open.
    pub suites: Vec<u16, 8>,
    /// False once the node takes no new shares.
    pub active: bool,
}

#[derive(Deserialize)]
struct Head<'a> {
    cluster: ClusterId,
    name: &'a str,
    cluster_key: Point,
    version: u64,
    floor: u8,
    // Of the list of nodes.
    count: usize,
}

impl<'a> SignedDirectory<'a> {
    /// Reads a directory file and checks it against the SHA-256 fingerprint of the pinned cluster key.
    ///
    /// # Errors
    /// As [`Directory::verify`](super::Directory::verify).
    pub fn verify(file: &'a [u8], pinned: &[u8; 32]) -> Result<Self, Error> {
        let (signed, signature) = file.split_last_chunk::<64>().ok_or(Error::Truncated)?;
        let body = strip_head(signed)?;
        let (head, nodes) = postcard::take_from_bytes::<Head<'_>>(body).map_err(|_| Error::Malformed)?;
        let directory =
            Self { cluster: head.cluster, version: head.version, floor: head.floor, count: head.count, nodes };
        if head.count > MAX_NODES || head.name.len() > 64 {
            return Err(Error::Malformed);
        }
        let mut rest = nodes;
        for _ in 0..head.count {
            let (_, after) = take(rest).filter(|(node, _)| node.url.len() <= 200).ok_or(Error::Malformed)?;
            rest = after;
        }
        if !rest.is_empty() {
            return Err(Error::TrailingBytes);
        }
        check_signature(signed, signature, &head.cluster_key, pinned)?;
        directory.check()?;
        Ok(directory)
    }

    /// The cluster.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Rises with each signed change.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The smallest m that may be used.
    pub const fn floor(&self) -> u8 {
        self.floor
    }

    /// All nodes, in strictly rising order of number.
    pub fn nodes(&self) -> impl Iterator<Item = NodeEntry<'a>> + Clone + use<'a> {
        let mut rest = self.nodes;
        (0..self.count).map_while({
            move |_| {
                let (node, after) = take(rest)?;
                rest = after;
                Some(node)
            }
        })
    }

    /// The active nodes, which get shares of new keys.
    pub fn active(&self) -> impl Iterator<Item = NodeEntry<'a>> + Clone + use<'a> {
        self.nodes().filter(|node| node.active)
    }

    fn check(&self) -> Result<(), Error> {
        check_floor(self.floor)?;
        for (position, node) in self.nodes().enumerate() {
            if self.nodes().skip(position + 1).any(|other| other.number <= node.number || other.id == node.id) {
                return Err(Error::Duplicate);
            }
        }
        Ok(())
    }
}

fn take(bytes: &[u8]) -> Option<(NodeEntry<'_>, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::directory::{Directory, MAX_BYTES, key_fingerprint, tests};

    fn same(file: &[u8], pin: &[u8; 32]) {
        let whole = Directory::verify(file, pin);
        let lean = SignedDirectory::verify(file, pin);
        match (&whole, &lean) {
            (Err(one), Err(other)) => assert_eq!(one, other),
            (Ok(whole), Ok(lean)) => {
                assert_eq!((whole.cluster, whole.version, whole.floor), (lean.cluster(), lean.version(), lean.floor()));
                assert_eq!(whole.nodes.len(), lean.nodes().count());
                for (node, entry) in whole.nodes.iter().zip(lean.nodes()) {
                    assert_eq!((node.number, node.id, node.url.as_str()), (entry.number, entry.id, entry.url));
                    assert_eq!((node.transport_key, node.audit_key), (entry.transport_key, entry.audit_key));
                    assert_eq!((&node.suites, node.active), (&entry.suites, entry.active));
                }
            }
            _ => panic!("one reader takes what the other refuses: {whole:?} {lean:?}"),
        }
    }

    #[test]
    fn both_readers_take_and_refuse_the_same() {
        let pin = key_fingerprint(&tests::sample().cluster_key);
        let mut buffer = [0; MAX_BYTES];
        let file = tests::sample().sign(&tests::key(), &mut buffer).expect("signs").to_vec();
        assert!(SignedDirectory::verify(&file, &pin).is_ok());
        same(&file, &[0; 32]);
        for position in 0..file.len() {
            same(&file[..position], &pin);
            for flip in [1, 0x80] {
                let mut changed = file.clone();
                changed[position] ^= flip;
                same(&changed, &pin);
            }
        }
    }

    proptest! {
        /// Whatever an officer's key signed, both readers see the same.
        #[test]
        fn a_signed_body_is_read_alike(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
            let pin = key_fingerprint(&tests::sample().cluster_key);
            let mut buffer = [0; MAX_BYTES];
            let mut file = tests::sample().sign(&tests::key(), &mut buffer).expect("signs").to_vec();
            let signed = file.len() - 64;
            for (at, value) in changes {
                file[at.index(signed)] = value;
            }
            let (body, signature) = file.split_at_mut(signed);
            signature.copy_from_slice(&crate::directory::signature(&tests::key(), body));
            same(&file, &pin);
        }
    }
}
