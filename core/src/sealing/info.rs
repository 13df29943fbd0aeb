//! The HPKE info of the two kinds of message: what a message is for and for whom.

use crate::{
    directory::SUITE_P256_AES256GCM,
    ids::{ClusterId, NodeId},
};

/// The info bytes: label, suite (u16 LE), cluster id, node id, each after its length as u16 LE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    bytes: [u8; 64],
    length: usize,
}

impl Info {
    /// For shares on their way to a node; label "eds/v1/share".
    pub fn share(cluster: ClusterId, node: NodeId) -> Self {
        Self::new(b"eds/v1/share", cluster, node)
    }

    /// For shares on their way from a node to a client; label "eds/v1/answer".
    pub fn answer(cluster: ClusterId, node: NodeId) -> Self {
        Self::new(b"eds/v1/answer", cluster, node)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.length).0
    }

    fn new(label: &[u8], cluster: ClusterId, node: NodeId) -> Self {
        let suite = SUITE_P256_AES256GCM.to_le_bytes();
        let mut info = Self { bytes: [0; 64], length: 0 };
        for field in [label, &suite, cluster.as_bytes(), node.as_bytes()] {
            info.push(&(field.len() as u16).to_le_bytes());
            info.push(field);
        }
        info
    }

    /// The longest info is 2 + 13 + 2 + 2 + 2 + 16 + 2 + 16 = 55 bytes.
    fn push(&mut self, part: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(part) {
            *slot = *byte;
        }
        self.length += part.len();
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn the_bytes_are_as_documented() {
        let (cluster, node) = (ClusterId::from_bytes([0xcc; 16]), NodeId::from_bytes([0xdd; 16]));
        let share = Info::share(cluster, node);
        let expected = hex!(
            "0c00 6564732f76312f7368617265 0200 0100"
            "1000 cccccccccccccccccccccccccccccccc 1000 dddddddddddddddddddddddddddddddd"
        );
        assert_eq!(share.as_bytes(), expected);
        let answer = Info::answer(cluster, node);
        assert_eq!(answer.as_bytes().len(), 55);
        assert_eq!(&answer.as_bytes()[..15], b"\x0d\x00eds/v1/answer");
    }
}
