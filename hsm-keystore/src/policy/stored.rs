//! An access list as it stands in the database, and the message whose HMAC by a key in the token vouches for it.
//!
//! Who can write the database can so write no policy: the HMAC covers the exact stored bytes, the node and the key, so
//! that a list can neither be altered nor moved to another key or node. Bytes: version 1, then the list in postcard.

use eds_core::ids::{KeyId, NodeId};

use crate::{hsm::TokenKeyId, policy::AccessList};

/// The format version this release writes.
pub const VERSION: u8 = 1;
/// The longest stored access list, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// A stored access list that cannot be read: not this format, or longer than allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the stored access list is not in a format that this release knows")]
pub struct Unreadable;

/// The bytes to store.
///
/// # Errors
/// [`Unreadable`] when the list would be longer than [`MAX_BYTES`].
pub fn encode(list: &AccessList) -> Result<Vec<u8>, Unreadable> {
    let bytes = postcard::to_extend(list, vec![VERSION]).map_err(|_| Unreadable)?;
    if bytes.len() > MAX_BYTES { Err(Unreadable) } else { Ok(bytes) }
}

/// Reads stored bytes. Check their HMAC first.
///
/// # Errors
/// [`Unreadable`].
pub fn decode(bytes: &[u8]) -> Result<AccessList, Unreadable> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((list, [])) => Ok(list),
            _ => Err(Unreadable),
        },
        _ => Err(Unreadable),
    }
}

/// What the HMAC is computed over: label, HMAC key, node, key and stored bytes, each after its length as u32 LE.
pub fn mac_message(mac_key: &TokenKeyId, node: NodeId, key: KeyId, stored: &[u8]) -> Vec<u8> {
    labelled([b"eds/v1/access-list", mac_key.as_bytes(), node.as_bytes(), key.as_bytes(), stored])
}

/// Fields of a message, each after its length as u32 LE; the first one is its label.
pub(super) fn labelled(fields: [&[u8]; 5]) -> Vec<u8> {
    let mut message = Vec::with_capacity(fields.iter().map(|field| field.len() + 4).sum());
    for field in fields {
        // Fields are bounded: the longest is `MAX_BYTES`.
        message.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_le_bytes());
        message.extend_from_slice(field);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Grantee, Permissions, Subject};

    fn sample() -> AccessList {
        let subject = |name: &str| Subject {
            kind: "x509".into(),
            namespace: b"ca".to_vec(),
            name: name.as_bytes().into(),
            display: format!("/CN={name}"),
        };
        let mut list = AccessList::of_new_key(subject("owner"), Some("/ward".into()));
        list.entries.push((Grantee::Subject(subject("friend")), Permissions::from_bits(64)));
        list.entries.push((Grantee::Group("/research".into()), Permissions::from_bits(32)));
        list
    }

    #[test]
    fn a_list_survives_its_stored_form() {
        let bytes = encode(&sample()).expect("fits");
        assert_eq!(decode(&bytes), Ok(sample()));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Err(Unreadable), "cut at {end}");
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(Unreadable));
        let mut later = bytes;
        later[0] = 2;
        assert_eq!(decode(&later), Err(Unreadable));
    }

    #[test]
    fn a_list_that_is_too_long_is_refused() {
        let mut list = sample();
        list.group = Some("x".repeat(MAX_BYTES));
        assert_eq!(encode(&list), Err(Unreadable));
    }

    proptest::proptest! {
        #[test]
        fn altered_bytes_are_another_list_or_none(position: proptest::sample::Index, flip in 1u8..) {
            let mut bytes = encode(&sample()).expect("fits");
            let position = position.index(bytes.len());
            bytes[position] ^= flip;
            if let Ok(list) = decode(&bytes) {
                proptest::prop_assert_ne!((list.clone(), displays(&list)), (sample(), displays(&sample())));
            }
        }

        #[test]
        fn any_bytes_are_a_list_or_none(bytes: Vec<u8>) {
            let _ = decode(&[&[VERSION][..], &bytes].concat());
        }
    }

    /// The display forms, which the comparison of subjects leaves out.
    fn displays(list: &AccessList) -> Vec<String> {
        let of_entry = |(grantee, _): &(Grantee, Permissions)| match grantee {
            Grantee::Subject(subject) => subject.display.clone(),
            Grantee::Group(group) => group.clone(),
        };
        std::iter::once(list.owner.display.clone()).chain(list.entries.iter().map(of_entry)).collect()
    }

    #[test]
    fn the_message_names_key_node_and_mac_key() {
        let message = |mac: u8, node: u8, key: u8, stored: &[u8]| {
            let (node, key) = (NodeId::from_bytes([node; 16]), KeyId::from_bytes([key; 16]));
            mac_message(&TokenKeyId::from_bytes([mac; 16]), node, key, stored)
        };
        let first = message(1, 1, 1, b"list");
        for other in
            [message(2, 1, 1, b"list"), message(1, 2, 1, b"list"), message(1, 1, 2, b"list"), message(1, 1, 1, b"lisT")]
        {
            assert_ne!(first, other);
        }
    }
}
