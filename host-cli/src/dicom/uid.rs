//! Replacing UIDs so that references stay consistent and nobody without the project key can tell the original.
//!
//! New UID = "2.25." followed by the decimal value of a UUID (PS3.5, section B.2) whose bits are HMAC-SHA-256 of the
//! original under the project key: the same UID gives the same replacement in every run and at every site of a project.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The project's secret for replacing UIDs.
#[derive(Clone)]
pub struct UidKey(Zeroizing<[u8; 32]>);

impl UidKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The replacement of a UID; surrounding spaces and zero bytes do not count.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    pub fn replace(&self, uid: &str) -> String {
        #[expect(clippy::unwrap_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).unwrap();
        mac.update(b"eds/v1/uid\0");
        mac.update(uid.trim_matches(|c: char| c == ' ' || c == '\0').as_bytes());
        let tag = mac.finalize().into_bytes();
        let mut uuid = [0u8; 16];
        uuid.iter_mut().zip(tag.iter()).for_each(|(to, from)| *to = *from);
        // RFC 9562, section 5.8: version 8, for what is made like this.
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        format!("2.25.{}", u128::from_be_bytes(uuid))
    }
}

impl fmt::Debug for UidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UidKey(<redacted>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_uid_gives_the_same_replacement_under_the_same_key() {
        let key = UidKey::new([7; 32]);
        let replaced = key.replace("1.2.3");
        // Kept for ever: a changed mapping would tear studies apart.
        assert_eq!(replaced, KNOWN);
        assert_eq!(key.replace("1.2.3\0"), replaced);
        assert_ne!(key.replace("1.2.4"), replaced);
        assert_ne!(UidKey::new([8; 32]).replace("1.2.3"), replaced);
        assert_eq!(format!("{key:?}"), "UidKey(<redacted>)");
    }

    #[test]
    fn replacements_are_valid_uids() {
        let key = UidKey::new([1; 32]);
        for number in 0..200 {
            let uid = key.replace(&format!("1.2.{number}"));
            let digits = uid.strip_prefix("2.25.").expect("the UUID root");
            assert!(uid.len() <= 64 && digits.parse::<u128>().expect("decimal") > 0);
            assert!(!digits.starts_with('0'));
        }
    }

    /// Computed with Python's `hmac`, not with this program.
    const KNOWN: &str = "2.25.186271539867405871435459441063720320860";
}
