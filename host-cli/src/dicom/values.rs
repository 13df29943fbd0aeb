//! Values that stand for others: dummies of each VR, dates that are shifted, texts of which known words stay.
//!
//! All of it works on bytes as they are in the file, in any character set: what is not ASCII is never kept by a filter.

use std::collections::BTreeSet;

use dicom_core::VR;

use super::dataset::text;

/// A value that is valid for its VR and says nothing; none for sequences.
pub(crate) fn dummy(vr: VR, original: &[u8]) -> Option<Vec<u8>> {
    let length = original.len();
    let text: &[u8] = match vr {
        VR::PN => b"REMOVED^",
        VR::AE | VR::CS | VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UT => b"REMOVED ",
        VR::UR => b"urn:removed ",
        VR::DA => b"19000101",
        VR::TM => b"000000",
        VR::DT => b"19000101000000",
        VR::AS => b"000Y",
        VR::DS | VR::IS => {
            // As many numbers as before.
            let zeros: Vec<&str> = original.split(|b| *b == b'\\').map(|_| "0").collect();
            return Some(padded(vr, zeros.join("\\").into_bytes()));
        }
        VR::UI => b"2.25.0",
        VR::US | VR::SS => return Some(vec![0; 2]),
        VR::UL | VR::SL | VR::FL | VR::AT | VR::OF | VR::OL => return Some(vec![0; words(length, 4)]),
        VR::FD | VR::SV | VR::UV | VR::OD | VR::OV => return Some(vec![0; words(length, 8)]),
        VR::OB | VR::OW | VR::UN => return Some(vec![0; 2]),
        VR::SQ => return None,
    };
    Some(text.into())
}

/// As many bytes as before, at least one number.
fn words(length: usize, size: usize) -> usize {
    (length / size).max(1) * size
}

/// The value with each date set back by so many days; `None` when a date is not one, so that nothing of it is kept.
pub(crate) fn shifted(vr: VR, value: &[u8], days: u32) -> Option<Vec<u8>> {
    let text = text(value)?;
    let one = |one: &str| match vr {
        _ if one.trim().is_empty() => Some(String::new()),
        VR::DA => set_back(one.trim(), days).filter(|date| date.len() == 8),
        VR::DT => {
            let one = one.trim();
            let end = one.find(|c: char| !c.is_ascii_digit()).unwrap_or(one.len()).min(8);
            let rest = one.get(end..)?;
            is_time_or_zone(rest).then_some(())?;
            Some(set_back(one.get(..end)?, days)? + rest)
        }
        // A time of day is the same on another day.
        VR::TM => is_time(one.trim()).then(|| one.into()),
        _ => None,
    };
    let shifted: Option<Vec<_>> = text.split('\\').map(one).collect();
    Some(padded(vr, shifted?.join("\\").into_bytes()))
}

/// A date of 4, 6 or 8 digits, set back.
fn set_back(date: &str, days: u32) -> Option<String> {
    let part = |from: usize, to: usize| match date.get(from..to) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<i64>().ok(),
        Some(_) => None,
        None => Some(1),
    };
    matches!(date.len(), 4 | 6 | 8).then_some(())?;
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year == 0 {
        return None;
    }
    let (year, month, day) = civil(days_of(year, month, day) - i64::from(days));
    let text = format!("{year:04}{month:02}{day:02}");
    (year > 0).then(|| text.get(..date.len()).map(String::from)).flatten()
}

/// Days since 1 March of year 0, in the Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 153 + 2) / 5 + day - 1
}

fn civil(days: i64) -> (i64, i64, i64) {
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str, most| text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    let colons = whole.len() == 8 && whole.bytes().enumerate().all(|(at, b)| (b == b':') == (at % 3 == 2));
    (digits(whole, 6) || colons && whole.bytes().all(|b| b.is_ascii_digit() || b == b':')) && digits(fraction, 6)
}

fn is_time_or_zone(text: &str) -> bool {
    let (time, zone) = text.find(['+', '-']).map_or((text, ""), |at| text.split_at(at));
    is_time(time) && (zone.is_empty() || zone.len() == 5 && zone.bytes().skip(1).all(|b| b.is_ascii_digit()))
}

/// What is left of a text when only known words stay, and numbers with a unit; `None` when nothing is.
pub(crate) fn known_words(vr: VR, value: &[u8], words: &BTreeSet<String>) -> Option<Vec<u8>> {
    let mut kept: Vec<u8> = Vec::with_capacity(value.len());
    for word in value.split(|b| !is_word(*b)).filter(|word| !word.is_empty()) {
        let known = std::str::from_utf8(word).is_ok_and(|word| {
            let word = word.to_uppercase();
            words.contains(&word) || is_measure(&word)
        });
        if known {
            if !kept.is_empty() {
                kept.push(b' ');
            }
            kept.extend_from_slice(word);
        }
    }
    (!kept.is_empty()).then(|| padded(vr, kept))
}

/// Letters, digits, and every byte that is part of another character set.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || byte == 0x1B
}

/// Up to three digits and a unit.
fn is_measure(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    (1..=3).contains(&digits) && word.get(digits..).is_some_and(|unit| UNITS.contains(&unit))
}

const UNITS: [&str; 17] =
    ["MM", "CM", "UM", "NM", "ML", "CC", "MG", "KG", "MIN", "SEC", "S", "MS", "T", "HZ", "KV", "KVP", "GY"];

/// The value with its padding to an even length.
pub(crate) fn padded(vr: VR, mut value: Vec<u8>) -> Vec<u8> {
    if value.len() % 2 == 1 {
        value.push(if vr == VR::UI { 0 } else { b' ' });
    }
    value
}

/// Whether a value is what its VR says (PS3.5, section 6.2), so that it may be kept; texts are not looked at.
pub(crate) fn fits(vr: VR, value: &[u8]) -> bool {
    let each = |longest: usize, allowed: fn(u8) -> bool| {
        text(value).is_some_and(|text| {
            let mut parts = text.split('\\');
            parts.all(|one| one.trim().len() <= longest && one.bytes().all(allowed))
        })
    };
    match vr {
        VR::CS => {
            each(16, |b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'_' | b'.' | b'-' | b'/'))
        }
        VR::DS => each(16, |b| b.is_ascii_digit() || matches!(b, b' ' | b'+' | b'-' | b'.' | b'e' | b'E')),
        VR::IS => each(12, |b| b.is_ascii_digit() || matches!(b, b' ' | b'+' | b'-')),
        VR::UI => each(64, |b| b.is_ascii_digit() || b == b'.'),
        VR::AS => each(4, |b| b.is_ascii_digit() || matches!(b, b'D' | b'W' | b'M' | b'Y')),
        VR::DA | VR::TM | VR::DT => shifted(vr, value, 1).is_some(),
        VR::AE => each(16, |b| (b' '..0x7f).contains(&b)),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
