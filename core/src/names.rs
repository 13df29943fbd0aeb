//! Distinguished names in the slash form of the grid: `/C=CH/O=Ward/CN=Dr Jones`.
//!
//! A name is its DER, and DER is what is compared. The slash form is for people. Where somebody types it, it stands for the
//! one name that is written like that, which [`slash_form`] tells only for names that can be read in one way: one value in
//! each relative name, and neither `/`, `\` nor control characters within a value. [`display`] shows every name, with
//! such characters escaped, so that no name can look like another.

use std::{
    fmt::Write,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    api::access::{KIND_X509, KIND_X509_SLASH},
    registrant::Registrant,
};

/// The longest name of a group, in bytes.
pub const MAX_GROUP: usize = 512;

/// The slash form of an encoded name, if it stands for this name alone; `None` also for bytes that are no name.
///
/// Within one authority, two names that differ only in the encoding of the same characters have one form: they are one
/// name (RFC 5280, section 7.1).
pub fn slash_form(der: &[u8]) -> Option<String> {
    let mut text = String::new();
    for attributes in parse(der)? {
        let [(kind, value)] = attributes.as_slice() else { return None };
        let value = value.text().filter(|value| is_plain(value))?;
        // Writing to a String cannot fail.
        let _ = write!(text, "/{kind}={value}");
    }
    if text.is_empty() { None } else { Some(text) }
}

/// Whether a text may be the slash form of a name: attributes with plain values, one after the other.
pub fn is_slash_form(text: &str) -> bool {
    let Some(attributes) = text.strip_prefix('/') else { return false };
    attributes.split('/').all(|attribute| {
        attribute.split_once('=').is_some_and(|(kind, value)| {
            !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') && is_plain(value)
        })
    })
}

/// A name for people.
pub fn display(der: &[u8]) -> String {
    let Some(names) = parse(der) else { return "(unreadable name)".into() };
    let mut text = String::new();
    for attributes in names {
        for (position, (kind, value)) in attributes.iter().enumerate() {
            text.push(if position == 0 { '/' } else { '+' });
            let _ = write!(text, "{kind}=");
            match value.text() {
                Some(value) => value.chars().for_each(|character| match character {
                    '/' | '\\' => _ = write!(text, "\\x{:02X}", u32::from(character)),
                    control if control.is_control() => _ = write!(text, "\\x{:02X}", u32::from(control)),
                    plain => text.push(plain),
                }),
                None => value.bytes.iter().for_each(|byte| _ = write!(text, "\\x{byte:02X}")),
            }
        }
    }
    if text.is_empty() { "(empty name)".into() } else { text }
}

/// Whether the bytes are an encoded name that is not empty.
pub fn is_name(der: &[u8]) -> bool {
    parse(der).is_some_and(|names| !names.is_empty())
}

/// A group as callers prove it: a VOMS FQAN without the `/Role=NULL` and `/Capability=NULL` that tools append, or the name
/// of a group of a token. `None` for a text that is none, or that is the slash form of a person.
pub fn group(text: &str) -> Option<String> {
    let text = text.strip_suffix("/Capability=NULL").unwrap_or(text);
    let text = text.strip_suffix("/Role=NULL").unwrap_or(text);
    let first = text.strip_prefix('/').map_or("", |rest| rest.split('/').next().unwrap_or_default());
    let bad = text.is_empty()
        || text.len() > MAX_GROUP
        || text.chars().any(char::is_control)
        || first.contains('=')
        || (text.starts_with('/') && text.split('/').skip(1).any(str::is_empty));
    if bad { None } else { Some(text.into()) }
}

/// Whether two subjects are one: the same name within the same namespace. A name that was typed in slash form
/// ([`KIND_X509_SLASH`]) is the encoded name of the same authority that has this slash form.
pub fn same_subject(a: &Registrant<'_>, b: &Registrant<'_>) -> bool {
    let typed = |typed: &Registrant<'_>, encoded: &Registrant<'_>| {
        typed.kind == KIND_X509_SLASH
            && encoded.kind == KIND_X509
            && typed.namespace == encoded.namespace
            && slash_form(encoded.subject).is_some_and(|form| form.as_bytes() == typed.subject)
    };
    a == b || typed(a, b) || typed(b, a)
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && !value.contains(['/', '\\']) && !value.chars().any(char::is_control)
}

/// The value of an attribute, as it was encoded.
struct Value<'a> {
    tag: u8,
    bytes: &'a [u8],
}

impl Value<'_> {
    /// The value, when it is of a type whose bytes are UTF-8.
    fn text(&self) -> Option<&str> {
        match self.tag {
            UTF8_STRING | NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING => {
                core::str::from_utf8(self.bytes).ok()
            }
            _ => None,
        }
    }
}

/// The attributes of each relative name, with their labels.
fn parse(der: &[u8]) -> Option<Vec<Vec<(String, Value<'_>)>>> {
    let (mut names, rest) = field(der, SEQUENCE)?;
    let mut parsed = Vec::new();
    while !names.is_empty() {
        let (mut set, others) = field(names, SET)?;
        names = others;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let (attribute, others) = field(set, SEQUENCE)?;
            set = others;
            let (kind, value) = field(attribute, OBJECT_IDENTIFIER)?;
            let (tag, bytes, end) = any(value)?;
            attributes.push((attribute_label(kind)?, Value { tag, bytes }));
            if !end.is_empty() {
                return None;
            }
        }
        parsed.push(attributes);
    }
    if rest.is_empty() { Some(parsed) } else { None }
}

fn field(bytes: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    any(bytes).filter(|(tag, ..)| *tag == expected).map(|(_, value, rest)| (value, rest))
}

/// Tag, content, and what comes after, of a DER value with a one-byte tag and a length below 64 KiB.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = match rest {
        [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x81, length @ 0x80..=0xff, rest @ ..] => (usize::from(*length), rest),
        [0x82, high @ 1..=0xff, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

/// The short name of an attribute type as OpenSSL prints it, or its dotted form; the type is the content of an OBJECT
/// IDENTIFIER. `None` for bytes that are none.
pub fn attribute_label(oid: &[u8]) -> Option<String> {
    match LABELS.iter().find(|(known, _)| *known == oid) {
        Some((_, label)) => Some((*label).into()),
        None => dotted(oid),
    }
}

/// The dotted form of the content of an OBJECT IDENTIFIER; `None` for bytes that are none.
pub fn dotted(oid: &[u8]) -> Option<String> {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc: u64 = 0;
    let mut open = false;
    for byte in oid {
        if !open && *byte == 0x80 {
            return None;
        }
        arc = arc.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        open = byte & 0x80 != 0;
        if !open {
            arcs.push(core::mem::take(&mut arc));
        }
    }
    let (first, others) = arcs.split_first().filter(|_| !open)?;
    let top = (first / 40).min(2);
    Some(others.iter().fold(std::format!("{top}.{}", first - top * 40), |text, arc| text + "." + &arc.to_string()))
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;

/// OpenSSL's short names.
const LABELS: [(&[u8], &str); 21] = [
    (&[0x55, 0x04, 0x03], "CN"),
    (&[0x55, 0x04, 0x04], "SN"),
    (&[0x55, 0x04, 0x05], "serialNumber"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "street"),
    (&[0x55, 0x04, 0x0a], "O"),
    (&[0x55, 0x04, 0x0b], "OU"),
    (&[0x55, 0x04, 0x0c], "title"),
    (&[0x55, 0x04, 0x0d], "description"),
    (&[0x55, 0x04, 0x11], "postalCode"),
    (&[0x55, 0x04, 0x29], "name"),
    (&[0x55, 0x04, 0x2a], "GN"),
    (&[0x55, 0x04, 0x2b], "initials"),
    (&[0x55, 0x04, 0x2e], "dnQualifier"),
    (&[0x55, 0x04, 0x41], "pseudonym"),
    (&[0x55, 0x04, 0x61], "organizationIdentifier"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(value.len()).expect("short")][..], value].concat()
    }

    fn attribute(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        tlv(SEQUENCE, &[tlv(OBJECT_IDENTIFIER, oid), tlv(tag, value)].concat())
    }

    const CN: &[u8] = &[0x55, 0x04, 0x03];
    const O: &[u8] = &[0x55, 0x04, 0x0a];

    fn name(relative: &[&[Vec<u8>]]) -> Vec<u8> {
        let sets: Vec<Vec<u8>> = relative.iter().map(|attributes| tlv(SET, &attributes.concat())).collect();
        tlv(SEQUENCE, &sets.concat())
    }

    #[test]
    fn a_plain_name_has_one_form_in_every_encoding() {
        for tag in [UTF8_STRING, PRINTABLE_STRING] {
            let der = name(&[&[attribute(O, UTF8_STRING, b"Ward")], &[attribute(CN, tag, b"Dr Jones")]]);
            assert_eq!(slash_form(&der).as_deref(), Some("/O=Ward/CN=Dr Jones"));
            assert_eq!(display(&der), "/O=Ward/CN=Dr Jones");
        }
        let unicode = name(&[&[attribute(CN, UTF8_STRING, "Müller".as_bytes())]]);
        assert_eq!(slash_form(&unicode).as_deref(), Some("/CN=Müller"));
        let unknown = name(&[&[attribute(&[0x2a, 0x86, 0x48, 0x01], UTF8_STRING, b"x")]]);
        assert_eq!(slash_form(&unknown).as_deref(), Some("/1.2.840.1=x"));
    }

    #[test]
    fn a_name_that_could_be_read_as_another_has_no_slash_form() {
        let utf8 = |value: &[u8]| attribute(CN, UTF8_STRING, value);
        for (der, shown) in [
            (name(&[&[utf8(b"a/CN=b")]]), "/CN=a\\x2FCN=b"),
            (name(&[&[utf8(b"a\\x2FCN=b")]]), "/CN=a\\x5Cx2FCN=b"),
            (name(&[&[utf8(b"a\n")]]), "/CN=a\\x0A"),
            (name(&[&[utf8(b"")]]), "/CN="),
            (name(&[&[utf8(b"a"), attribute(O, UTF8_STRING, b"b")]]), "/CN=a+O=b"),
            (name(&[&[attribute(CN, 0x1e, &[0, 0x61])]]), "/CN=\\x00\\x61"),
            (name(&[&[utf8(&[0xff])]]), "/CN=\\xFF"),
            (name(&[]), "(empty name)"),
        ] {
            assert_eq!(slash_form(&der), None, "{shown}");
            assert_eq!(display(&der), shown);
        }
    }

    #[test]
    fn what_is_no_name_is_shown_as_such() {
        let good = name(&[&[attribute(CN, UTF8_STRING, b"a")]]);
        for end in 0..good.len() {
            assert_eq!(slash_form(&good[..end]), None, "cut at {end}");
        }
        assert_eq!(slash_form(&[&good[..], &[0]].concat()), None);
        assert_eq!(display(b"noise"), "(unreadable name)");
    }

    #[test]
    fn groups_are_told_from_people() {
        for (text, found) in [
            ("/acme", Some("/acme")),
            ("/acme/ward/Role=head", Some("/acme/ward/Role=head")),
            ("/acme/Role=NULL/Capability=NULL", Some("/acme")),
            ("researchers", Some("researchers")),
            ("/CN=a", None),
            ("", None),
            ("/", None),
            ("/acme//ward", None),
            ("a\nb", None),
        ] {
            assert_eq!(group(text).as_deref(), found, "{text:?}");
        }
    }

    #[test]
    fn a_typed_name_is_the_one_of_its_authority() {
        let der = name(&[&[attribute(CN, UTF8_STRING, b"bob")]]);
        let sly = name(&[&[attribute(CN, UTF8_STRING, b"x/CN=bob")]]);
        let of = |kind, namespace, subject| Registrant { kind, namespace, subject };
        let encoded = of(KIND_X509, b"ca".as_slice(), der.as_slice());
        let typed = of(KIND_X509_SLASH, b"ca".as_slice(), b"/CN=bob".as_slice());
        assert!(same_subject(&encoded, &encoded) && same_subject(&encoded, &typed) && same_subject(&typed, &encoded));
        for other in [
            of(KIND_X509, b"other", &der),
            of(KIND_X509, b"ca", &sly),
            of("jwt", b"ca", &der),
            of(KIND_X509_SLASH, b"other", b"/CN=bob"),
            of(KIND_X509_SLASH, b"ca", b"/CN=Bob"),
            of("jwt", b"ca", b"/CN=bob"),
        ] {
            assert!(!same_subject(&typed, &other), "{other:?}");
        }
    }

    #[test]
    fn typed_forms_are_told_from_groups() {
        for good in ["/CN=a", "/C=CH/O=Ward/CN=Dr Jones", "/1.2.840.1=x", "/CN=a=b"] {
            assert!(is_slash_form(good), "{good}");
        }
        for bad in ["", "/", "CN=a", "/acme", "/acme/Role=x", "/CN=", "/CN=a/", "/CN=a//O=b", "/CN=a\\x2Fb", "/C N=a"] {
            assert!(!is_slash_form(bad), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_name_or_none(bytes: Vec<u8>) {
            let form = slash_form(&bytes);
            proptest::prop_assert!(form.is_none_or(|form| is_slash_form(&form)));
            let _ = display(&bytes);
        }
    }
}
