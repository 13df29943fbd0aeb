//! Dates go back by the days that were asked for, texts keep no unknown word, and dummies are what their VR says.

use proptest::prelude::*;

use super::*;

fn day(vr: VR, value: &str, days: u32) -> Option<String> {
    shifted(vr, value.as_bytes(), days).map(|bytes| String::from_utf8(bytes).expect("ASCII"))
}

#[test]
fn dates_are_set_back_over_months_and_leap_years() {
    for (date, days, before) in [
        ("20240301", 1, "20240229"),
        ("20230301", 1, "20230228"),
        ("20000101", 1, "19991231"),
        ("19000301", 1, "19000228"),
        ("20241124", 3650, "20141127"),
        ("20240101\\20240102", 1, "20231231\\20240101 "),
        ("", 5, ""),
    ] {
        assert_eq!(day(VR::DA, date, days).as_deref(), Some(before), "{date}");
    }
    assert_eq!(day(VR::DT, "20240301101112.5+0100", 1).as_deref(), Some("20240229101112.5+0100 "));
    assert_eq!(day(VR::DT, "202403", 1).as_deref(), Some("202402"));
    assert_eq!(day(VR::DT, "2024", 366).as_deref(), Some("2022"));
    assert_eq!(day(VR::TM, "101112.123456", 9).as_deref(), Some("101112.123456 "));
}

#[test]
fn what_is_no_date_is_not_kept() {
    for (vr, value) in [
        (VR::DA, "SMITH"),
        (VR::DA, "2024"),
        (VR::DA, "20241301"),
        (VR::DA, "2024.03.01"),
        (VR::DA, "20240301 SMITH"),
        (VR::DT, "20240301SMITH"),
        (VR::DT, "20240301101112+SMIT"),
        (VR::TM, "SMITH"),
        (VR::TM, "10:11:SM"),
        (VR::LO, "20240301"),
        (VR::DA, "00010101"),
    ] {
        assert_eq!(day(vr, value, 400), None, "{value}");
    }
}

#[test]
fn of_a_text_known_words_and_measures_stay() {
    let words: BTreeSet<String> = ["HEAD", "CT", "WITH", "CONTRAST"].map(String::from).into();
    let kept =
        |text: &str| known_words(VR::LO, text.as_bytes(), &words).map(|bytes| String::from_utf8(bytes).expect("ASCII"));
    assert_eq!(kept("CT Head, Smith 4711, with contrast 5mm").as_deref(), Some("CT Head with contrast 5mm "));
    assert_eq!(kept("CT HEAD^J\u{fc}rgen").as_deref(), Some("CT HEAD "));
    assert_eq!(kept("Smith 12345 1977"), None);
    assert_eq!(kept("HEADSMITH"), None);
    assert_eq!(kept(""), None);
}

#[test]
fn dummies_are_valid_and_even() {
    for vr in [
        VR::AE,
        VR::AS,
        VR::AT,
        VR::CS,
        VR::DA,
        VR::DS,
        VR::DT,
        VR::FD,
        VR::FL,
        VR::IS,
        VR::LO,
        VR::LT,
        VR::OB,
        VR::OD,
        VR::OF,
        VR::OL,
        VR::OV,
        VR::OW,
        VR::PN,
        VR::SH,
        VR::SL,
        VR::SS,
        VR::ST,
        VR::SV,
        VR::TM,
        VR::UC,
        VR::UI,
        VR::UL,
        VR::UN,
        VR::UR,
        VR::US,
        VR::UT,
        VR::UV,
    ] {
        let value = dummy(vr, &[b' '; 24]).expect("not a sequence");
        assert!(!value.is_empty() && value.len().is_multiple_of(2), "{vr:?}");
        assert!(fits(vr, &value), "{vr:?}");
    }
    assert_eq!(dummy(VR::FL, &[1; 24]).map(|value| value.len()), Some(24), "as many numbers as before");
    assert_eq!(dummy(VR::DS, b"1.5\\2.5\\3").as_deref(), Some(&b"0\\0\\0 "[..]));
    assert_eq!(dummy(VR::SQ, b""), None);
}

#[test]
fn values_that_are_not_what_their_vr_says_are_found() {
    for (vr, good, bad) in [
        (VR::CS, "ORIGINAL\\PRIMARY", "original"),
        (VR::CS, "HEAD ", "JOHN WILLIAM SMITH JR"),
        (VR::DS, "1.5e-3\\-2 ", "SMITH"),
        (VR::IS, "-12", "1.5"),
        (VR::UI, "1.2.3\0", "1.2.SMITH"),
        (VR::AS, "077Y", "SMIT"),
        (VR::DA, "20240301", "JAN 1977"),
        (VR::TM, "10:11:12", "NOON"),
    ] {
        assert!(fits(vr, good.as_bytes()), "{good}");
        assert!(!fits(vr, bad.as_bytes()), "{bad}");
    }
}

proptest! {
    #[test]
    fn days_between_dates_are_kept(first in 1i64..800_000, second in 1i64..800_000, back in 1u32..300) {
        let (first, second) = (first + 400, second + 400);
        let text = |days| { let (y, m, d) = civil(days); format!("{y:04}{m:02}{d:02}") };
        let back_to_days = |date: &str| {
            let n = |range| date.get(range).and_then(|digits: &str| digits.parse::<i64>().ok()).expect("digits");
            days_of(n(0..4), n(4..6), n(6..8))
        };
        let moved = |days| back_to_days(&day(VR::DA, &text(days), back).expect("a date"));
        prop_assert_eq!(back_to_days(&text(first)), first);
        prop_assert_eq!(moved(first) - moved(second), first - second);
        prop_assert_eq!(first - moved(first), i64::from(back));
    }

    #[test]
    fn no_unknown_word_of_any_text_is_kept(text in "\\PC{0,60}") {
        let words: BTreeSet<String> = ["CT", "HEAD"].map(String::from).into();
        if let Some(kept) = known_words(VR::LO, text.as_bytes(), &words) {
            let kept = String::from_utf8(kept).expect("ASCII");
            for word in kept.split_whitespace() {
                let word = word.to_uppercase();
                prop_assert!(words.contains(&word) || word.starts_with(|c: char| c.is_ascii_digit()));
            }
        }
    }
}
