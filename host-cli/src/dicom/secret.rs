//! Replacing what identifies so that it stays consistent and nobody without the secret of the project can tell the original.
//!
//! New UID = "2.25." followed by the decimal value of a UUID (PS3.5, section B.2) whose bits are HMAC-SHA-256 of the
//! original under the secret: the same UID gives the same replacement in every run and at every site of a project.
//! Pseudonyms of patients and the days by which their dates are shifted are made alike, each under a label of its own, so
//! that none of them tells another.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The secret of a project, from a key that the key servers hold.
#[derive(Clone)]
pub struct ProjectSecret(Zeroizing<[u8; 32]>);

impl ProjectSecret {
    /// The secret with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The replacement of a UID; surrounding spaces and zero bytes do not count.
    pub fn replace_uid(&self, uid: &str) -> String {
        let tag = self.tag(UID, uid.trim_matches(|c: char| c == ' ' || c == '\0').as_bytes());
        let mut uuid = first_16(&tag);
        // RFC 9562, section 5.8: version 8, for what is made like this.
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        format!("2.25.{}", u128::from_be_bytes(uuid))
    }

    /// A word of 16 capital letters and digits that stands for this one.
    pub fn pseudonym(&self, of: &[u8]) -> String {
        let bits = u128::from_be_bytes(first_16(&self.tag(PSEUDONYM, of)));
        (0..16).filter_map(|position| WORD.get(usize::try_from(bits >> (5 * position) & 31).ok()?)).copied().collect()
    }

    /// By how many days the dates of a patient go back: 1 to `most`.
    pub fn days(&self, patient: &[u8], most: u32) -> u32 {
        let number = u128::from_be_bytes(first_16(&self.tag(DAYS, patient)));
        1 + u32::try_from(number % u128::from(most.max(1))).unwrap_or(0)
    }

    fn tag(&self, label: &[u8], message: &[u8]) -> [u8; 32] {
        #[expect(clippy::unwrap_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).unwrap();
        mac.update(label);
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for ProjectSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProjectSecret(<redacted>)")
    }
}

fn first_16(tag: &[u8; 32]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(tag).for_each(|(to, from)| *to = *from);
    bytes
}

const UID: &[u8] = b"eds/v1/uid\0";
const PSEUDONYM: &[u8] = b"eds/v1/pseudonym\0";
const DAYS: &[u8] = b"eds/v1/days\0";
/// The letters of a pseudonym: RFC 4648 base 32.
const WORD: [char; 32] = [
    'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W',
    'X', 'Y', 'Z', '2', '3', '4', '5', '6', '7',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_uid_gives_the_same_replacement_under_the_same_secret() {
        let secret = ProjectSecret::new([7; 32]);
        let replaced = secret.replace_uid("1.2.3");
        // Kept for ever: a changed mapping would tear studies apart.
        assert_eq!(replaced, KNOWN_UID);
        assert_eq!(secret.replace_uid("1.2.3\0"), replaced);
        assert_ne!(secret.replace_uid("1.2.4"), replaced);
        assert_ne!(ProjectSecret::new([8; 32]).replace_uid("1.2.3"), replaced);
        assert_eq!(format!("{secret:?}"), "ProjectSecret(<redacted>)");
    }

    #[test]
    fn the_same_patient_gets_the_same_pseudonym_and_days_under_the_same_secret() {
        let (secret, other) = (ProjectSecret::new([7; 32]), ProjectSecret::new([8; 32]));
        // Kept for ever, as above.
        assert_eq!(secret.pseudonym(b"4711"), KNOWN_PSEUDONYM);
        assert_eq!(secret.days(b"4711", 3650), KNOWN_DAYS);
        assert_ne!(secret.pseudonym(b"4712"), KNOWN_PSEUDONYM);
        assert_ne!(other.pseudonym(b"4711"), KNOWN_PSEUDONYM);
        assert_ne!(other.days(b"4711", 1 << 30), secret.days(b"4711", 1 << 30));
    }

    #[test]
    fn replacements_are_valid_and_days_are_within_bounds() {
        let secret = ProjectSecret::new([1; 32]);
        for number in 0..200 {
            let uid = secret.replace_uid(&format!("1.2.{number}"));
            let digits = uid.strip_prefix("2.25.").expect("the UUID root");
            assert!(uid.len() <= 64 && digits.parse::<u128>().expect("decimal") > 0);
            assert!(!digits.starts_with('0'));
            let patient = format!("{number}");
            assert_eq!(secret.pseudonym(patient.as_bytes()).len(), 16);
            assert!((1..=20).contains(&secret.days(patient.as_bytes(), 20)));
            assert_eq!(secret.days(patient.as_bytes(), 0), 1, "never none");
        }
    }

    /// Computed with Python's `hmac`, not with this program.
    const KNOWN_UID: &str = "2.25.186271539867405871435459441063720320860";
    const KNOWN_PSEUDONYM: &str = "MPRNCOHLU2U6Y65O";
    const KNOWN_DAYS: u32 = 3306;
}
