//! Every fault of a profile is told with its line, and what is valid says what it says.

use super::*;

const EVERYTHING: &str = include_str!("../../../../tests/fuzz/seeds/profile/everything.toml");

fn faults(text: &str) -> Vec<String> {
    Profile::parse(text.as_bytes()).expect_err("has faults").iter().map(ToString::to_string).collect()
}

#[test]
fn the_default_profile_is_valid_and_says_who_it_is() {
    let profile = Profile::default();
    assert_eq!((profile.name.as_str(), profile.version.as_str()), ("eds-default", "1"));
    let [program, name, digest] = profile.method();
    assert!(program.starts_with("EDS ") && program.ends_with("PS3.15 2026d"), "{program}");
    assert_eq!(name, "eds-default 1");
    assert_eq!(digest.len(), 64);
    let expected = [
        Column::RetainPatientCharacteristics,
        Column::RetainModifiedDates,
        Column::CleanDescriptors,
        Column::CleanStructuredContent,
    ];
    assert_eq!(profile.options, expected.into());
    assert_eq!(profile.suspects.burned_in, OnSuspect::Refuse);
}

#[test]
fn another_byte_is_another_identity() {
    let changed = format!("{DEFAULT}# changed\n");
    assert_ne!(Profile::parse(changed.as_bytes()).expect("valid").digest, Profile::default().digest);
}

#[test]
fn every_key_is_read() {
    let profile = Profile::parse(EVERYTHING.as_bytes()).expect("valid");
    assert_eq!(profile.options.len(), 9);
    assert_eq!(profile.patient, Patient { name: Stand::Table, id: Stand::Pseudonym, most_days: 100 });
    assert!(profile.words.contains("TWIST") && profile.words.contains("RECTUM") && profile.words.contains("CHEST"));
    for (tag, action) in [
        (Tag(0x0008, 0x1010), Some(Action::Keep)),
        (Tag(0x0018, 0x1030), Some(Action::Clean)),
        (Tag(0x0040, 0x1234), Some(Action::Remove)),
        (Tag(0x0008, 0x1070), Some(Action::Empty)),
        (Tag(0x0010, 0x4000), Some(Action::Dummy)),
        (Tag(0x0020, 0x000D), Some(Action::Uid)),
        (Tag(0x0010, 0x0010), None),
    ] {
        assert_eq!(profile.overridden(tag), action, "{tag}");
    }
    assert!(profile.is_safe_private(Tag(0x0019, 0x110C), "SIEMENS MR HEADER"));
    assert!(profile.is_safe_private(Tag(0x0019, 0x100E), "SIEMENS MR HEADER"));
    // Listed by the standard, not by the profile.
    assert!(profile.is_safe_private(Tag(0x0019, 0x110D), "SIEMENS MR HEADER"));
    assert!(!profile.is_safe_private(Tag(0x0019, 0x1110), "SIEMENS MR HEADER"));
    assert!(!profile.is_safe_private(Tag(0x0019, 0x110C), "SIEMENS CSA HEADER"));
    assert!(!profile.is_safe_private(Tag(0x0021, 0x110C), "SIEMENS MR HEADER"));
    assert_eq!(profile.suspects.heads, OnSuspect::Refuse);
    assert_eq!(profile.masks[0].regions[1], Region { x: 1000, y: 700, width: 24, height: 68 });
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line() {
    let text = r#"format = 2
name = "Krankenhaus Süd"
options = ["clean-descriptors", "clean-everything", "retain-longitudinal-full-dates", "retain-longitudinal-modified-dates"]
colour = "red"
[patient]
name = "smith"
most-days = 0
[overrides]
"0008,1010" = "keep"
StationName = "erase"
"0019xxxx" = "keep"
"(0012,0062)" = "empty"
[[safe-private]]
group = "0018"
creator = "X"
elements = ["0C", "100C"]
[[mask]]
rows = 10
columns = 10
regions = [[0, 0, 20, 5], [1, 2]]
"#;
    let told = faults(text);
    for expected in [
        "line 1: format: write format = 1",
        "line 2: name: give 1 to 31 letters",
        "line 1: version: missing",
        "line 3: options: \"clean-everything\" is none of retain-safe-private",
        "options: dates are kept in full or modified, not both",
        "options: [[safe-private]] is without effect unless retain-safe-private is taken",
        "line 4: colour: unknown key",
        "line 6: patient.name: \"smith\" is none of pseudonym, table",
        "line 7: patient.most-days: no whole number from 1 to 36500",
        "line 9: overrides.0008,1010: write a tag",
        "line 10: overrides.StationName: \"erase\" is none of keep",
        "line 11: overrides.0019xxxx: private elements go, and are kept by [[safe-private]] alone",
        "line 12: overrides.(0012,0062): says what was done",
        "line 14: safe-private.group: four hexadecimal digits of an odd group",
        "line 16: safe-private.elements: the last two hexadecimal digits each",
        "mask: name the manufacturer or the model",
        "mask.regions: 0,0,20,5 is not within the image",
        "line 20: mask.regions: write [x, y, width, height]",
    ] {
        assert!(told.iter().any(|fault| fault.contains(expected)), "{expected:?} is not among {told:#?}");
    }
}

#[test]
fn what_is_no_toml_is_told_and_nothing_of_it_is_used() {
    assert!(faults("name = \"half").iter().any(|fault| fault.contains("line 1: not TOML")));
    assert!(Profile::parse(b"\xff\xfe").is_err());
    assert!(Profile::parse(&vec![b' '; MAX_BYTES + 1]).is_err());
}

#[test]
fn an_exact_override_goes_before_a_pattern() {
    let text = DEFAULT.replace("[overrides]", "[overrides]\n\"0018xxxx\" = \"remove\"\nProtocolName = \"keep\"");
    let profile = Profile::parse(text.as_bytes()).expect("valid");
    assert_eq!(profile.overridden(Tag(0x0018, 0x1030)), Some(Action::Keep));
    assert_eq!(profile.overridden(Tag(0x0018, 0x1000)), Some(Action::Remove));
}

#[test]
fn known_words_are_words() {
    let profile = Profile::default();
    assert!(profile.words.len() > 300);
    for word in &profile.words {
        assert!(word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()), "{word}");
    }
}

#[test]
fn the_option_alone_keeps_what_the_standard_lists_and_no_line_of_the_list_is_lost() {
    let with =
        |options: &str| Profile::parse(format!("format = 1\nname = \"x\"\nversion = \"1\"\n{options}").as_bytes());
    let profile = with("options = [\"retain-safe-private\"]\n").expect("valid");
    let lines = include_str!("safe-private.txt").lines().filter(|line| !line.starts_with('#'));
    assert_eq!(profile.safe_private.len(), lines.count());
    assert!(profile.safe_private.iter().all(|safe| safe.group % 2 == 1 && !safe.elements.is_empty()));
    assert!(profile.is_safe_private(Tag(0x7053, 0x1009), "Philips PET Private Group"));
    assert!(!profile.is_safe_private(Tag(0x7053, 0x1009), "Somebody else"));
    assert!(!with("").expect("valid").is_safe_private(Tag(0x7053, 0x1009), "Philips PET Private Group"));
}

#[test]
fn what_a_profile_says_of_private_elements_by_tag_is_refused_with_its_line_since_it_would_do_nothing() {
    for action in Action::ALL {
        let text = format!(
            "format = 1\nname = \"x\"\nversion = \"1\"\n[overrides]\n\"(0019,100C)\" = \"{}\"\n",
            action.name()
        );
        let [fault] = &faults(&text)[..] else { panic!("{action:?}") };
        assert!(fault.starts_with("line 5: overrides.(0019,100C): private elements go"), "{fault}");
    }
}
