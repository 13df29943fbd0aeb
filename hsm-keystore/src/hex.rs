//! Hexadecimal digits of fingerprints and ids, for configuration and display. Public values only.

use std::fmt::Write;

/// Lower-case digits.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Exactly `N` bytes from `2 N` digits of either case.
pub fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let digit = |character: u8| char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_and_bytes_are_each_other() {
        assert_eq!(super::encode(&[0x00, 0xfa]), "00fa");
        assert_eq!(super::decode_array::<2>("00Fa"), Some([0x00, 0xfa]));
        for wrong in ["00f", "00fa0", "00fg", "+0fa"] {
            assert_eq!(super::decode_array::<2>(wrong), None, "{wrong}");
        }
    }
}
