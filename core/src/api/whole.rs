//! Whole numbers as JSON Schema knows them: `7.0` is one, too.

use std::{fmt, format};

use serde::{
    Deserializer,
    de::{Error, Visitor},
};

/// For `#[serde(deserialize_with = …)]`.
///
/// # Errors
/// What the format says, and for numbers that are not whole or not within 64 bits.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_u64(Whole)
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of 64 bits")
    }

    fn visit_u64<E>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
        // Text is exact where it is whole, and too long where it does not fit.
        format!("{number}").parse().map_err(|_| E::custom("not a whole number of 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<u64> {
        number(&mut serde_json::Deserializer::from_str(text)).ok()
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        for (text, value) in [("7", 7), ("7.0", 7), ("1e3", 1_000), ("18446744073709551615", u64::MAX)] {
            assert_eq!(read(text), Some(value), "{text}");
        }
        for wrong in ["7.5", "-1", "-1.0", "18446744073709551616", "1e20", "1e300", "\"7\"", "null", "true"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
