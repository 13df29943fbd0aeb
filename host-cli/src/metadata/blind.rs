//! Tokens by which a value is found that is not stored: HMAC-SHA-256 under the search key over the attribute and the
//! normalised value, cut to 16 bytes (`docs/metadata.md`, "Tokens").
//!
//! Whoever holds the database and not the search key learns which images have equal values, and how many; not which. Whoever
//! holds both can try values out: the search key has an access list of its own.

use std::fmt;

use dicom_core::{Tag, VR};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A token.
pub type Token = [u8; 16];

/// The key that tokens are made with.
#[derive(Clone)]
pub struct SearchKey(Zeroizing<[u8; 32]>);

impl SearchKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The tokens of a value of this attribute; none for a value that is empty or not of its form.
    pub fn tokens(&self, tag: Tag, vr: VR, value: &str) -> Vec<Token> {
        normal(vr, value).iter().map(|value| self.token(tag, value)).collect()
    }

    /// The token of a value that is in its normal form.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    pub fn token(&self, tag: Tag, normal: &str) -> Token {
        #[expect(clippy::unwrap_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).unwrap();
        mac.update(b"eds/v1/blind\0");
        mac.update(&tag.group().to_be_bytes());
        mac.update(&tag.element().to_be_bytes());
        mac.update(normal.as_bytes());
        let mut token = [0; 16];
        token.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
        token
    }
}

impl fmt::Debug for SearchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchKey(<redacted>)")
    }
}

/// The normal forms of a value, so that ways of writing the same are found as the same.
///
/// Person names: each group (alphabetic, ideographic, phonetic) by itself, in upper case, without empty components at the
/// end. Dates: eight digits. UIDs: as they are. All else: in upper case. Spaces around words do not count anywhere.
pub fn normal(vr: VR, value: &str) -> Vec<String> {
    let value = value.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    match vr {
        VR::PN => value.split('=').map(person).filter(|group| !group.is_empty()).collect(),
        VR::DA | VR::DT => date(value).into_iter().collect(),
        VR::UI => Some(String::from(value)).into_iter().filter(|value| !value.is_empty()).collect(),
        _ => Some(words(value)).into_iter().filter(|value| !value.is_empty()).collect(),
    }
}

fn person(group: &str) -> String {
    let joined = group.split('^').map(words).collect::<Vec<_>>().join("^");
    String::from(joined.trim_end_matches('^'))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase()
}

/// `YYYYMMDD` of a date, also of one with dots or hyphens, or of the start of a date with a time.
pub fn date(text: &str) -> Option<String> {
    let separated = text.get(4..5).filter(|at| *at == "." || *at == "-");
    let digits: String = match separated {
        Some(separator) => {
            let mut parts = text.splitn(3, separator);
            let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
            if (year.len(), month.len()) != (4, 2) {
                return None;
            }
            [year, month, day.get(..2)?].concat()
        }
        None => text.get(..8)?.into(),
    };
    let number = |range| digits.get(range).and_then(|part: &str| part.parse::<u8>().ok());
    let (month, day) = (number(4..6)?, number(6..8)?);
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits && (1..=12).contains(&month) && (1..=31).contains(&day)).then_some(digits)
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::tags;

    use super::*;

    #[test]
    fn ways_of_writing_the_same_are_one() {
        for (vr, one, other) in [
            (VR::PN, "Müller^Hans^^", " MÜLLER ^ hans"),
            (VR::PN, "Yamada^Tarou=山田^太郎=やまだ^たろう", "yamada^tarou=山田^太郎=やまだ^たろう"),
            (VR::DA, "20250131", "2025.01.31"),
            (VR::DA, "2025-01-31", "20250131"),
            (VR::DT, "20250131120000.000000", "20250131"),
            (VR::LO, "ab  12 ", "AB 12"),
            (VR::UI, "1.2.3\0", "1.2.3"),
        ] {
            assert_eq!(normal(vr, one), normal(vr, other), "{one:?} and {other:?}");
        }
        assert_eq!(normal(VR::PN, "Yamada^Tarou=山田^太郎"), ["YAMADA^TAROU", "山田^太郎"]);
    }

    #[test]
    fn what_is_no_value_has_no_token() {
        let key = SearchKey::new([1; 32]);
        for (vr, value) in
            [(VR::PN, "^^=="), (VR::DA, "20251301"), (VR::DA, "2025"), (VR::DA, "täglich!"), (VR::LO, " ")]
        {
            assert_eq!(key.tokens(tags::PATIENT_NAME, vr, value), Vec::<Token>::new(), "{value:?}");
        }
    }

    #[test]
    fn a_token_depends_on_key_attribute_and_value() {
        let key = SearchKey::new([1; 32]);
        let token = key.token(tags::PATIENT_ID, "1CT1");
        // Kept for ever: another token would hide what was stored. Computed with Python's `hmac`.
        assert_eq!(token, KNOWN);
        assert_ne!(token, key.token(tags::ACCESSION_NUMBER, "1CT1"));
        assert_ne!(token, key.token(tags::PATIENT_ID, "1CT2"));
        assert_ne!(token, SearchKey::new([2; 32]).token(tags::PATIENT_ID, "1CT1"));
        assert_eq!(format!("{key:?}"), "SearchKey(<redacted>)");
    }

    const KNOWN: Token =
        [0x62, 0x2f, 0x77, 0xc2, 0xc7, 0xf0, 0x3b, 0x3b, 0xe3, 0xf1, 0x5f, 0x66, 0x9a, 0xc5, 0x0d, 0x59];
}
