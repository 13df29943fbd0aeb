//! What is fuzzed beyond the formats of `core`: parsers of the key server's callers, of audit logs, and of images.
//!
//! As in [`fuzz_targets`](crate::fuzz_targets), a target is a plain function that panics when a property is broken;
//! `tests/fuzz` runs it under libFuzzer, `tests/tests/fuzz_smoke.rs` on its seeds and bounded mutations. A file of its
//! own, since these parsers are in the programs and not in `core`. What a certificate, revocation list or token is worth
//! is decided after parsing, and tested in `hsm-keystore/tests/authn`.

use std::{
    io::{Cursor, Read as _},
    sync::LazyLock,
};

use eds::dicom::{self, How, ImageBinding, PrivatePart, Profile, ProjectSecret, deidentify, restore};
use eds_audit::{
    checkpoint::{danger_read_unverified, origin},
    entry::Entry,
    log::segment::{Found, Header, put_record, read_record},
    tree::leaf_hash,
};
use eds_core::{
    ids::{FileId, NodeId},
    names,
};
use eds_keystore::authn::{
    certificate::Certificate,
    jwt::{KeySet, Token},
    trust::{Crl, SigningPolicy},
    voms::{attribute_certificate::parse_sequence, directory::parse_lsc},
};

use crate::fuzz_targets::Target;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "certificate", run: certificate, seeds: &[PROXY, PERSON] },
    Target { name: "revocation_list", run: revocation_list, seeds: &[REVOCATION_LIST] },
    Target { name: "token", run: token, seeds: &[TOKEN] },
    Target { name: "audit_entry", run: audit_entry, seeds: &[AUDIT_ENTRY, AUDIT_ENTRY_2] },
    Target { name: "audit_note", run: audit_note, seeds: &[AUDIT_NOTE] },
    Target { name: "audit_segment", run: audit_segment, seeds: &[AUDIT_ENTRY] },
    Target { name: "private_part", run: private_part, seeds: &[PRIVATE_WHOLE, PRIVATE_AROUND, PRIVATE_BLANKED] },
    Target { name: "image", run: image, seeds: &[IMAGE, REPORT] },
    Target { name: "profile", run: profile, seeds: &[PROFILE, dicom::profile::DEFAULT.as_bytes()] },
];

/// A certificate is all of the bytes, its names are names to client and node alike, and the attributes in a proxy are
/// parsed or refused.
pub fn certificate(bytes: &[u8]) {
    let Ok(parsed) = Certificate::from_der(bytes) else { return };
    assert_eq!(parsed.as_der(), bytes);
    for name in [parsed.issuer(), parsed.subject()] {
        let form = names::slash_form(name.as_der());
        assert!(form.is_none_or(|form| names::is_slash_form(&form)), "a slash form that is none");
        let _ = (name.matching(), name.to_string());
    }
    if let Some(attributes) = &parsed.extensions().voms {
        let _ = parse_sequence(attributes);
    }
}

/// A revocation list is parsed or refused; so are the text files beside it.
pub fn revocation_list(bytes: &[u8]) {
    let _ = Crl::from_der(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = (SigningPolicy::parse(&text), parse_lsc(&text), parse_sequence(bytes));
}

/// A token that is read shows nothing of itself, and is read alike by who sends it and who checks it.
pub fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(parsed) = Token::parse(&text) {
        assert_eq!(format!("{parsed:?}"), "Token(<redacted>)");
        if let Ok(sent) = eds::credentials::Token::parse(&text) {
            assert_eq!(parsed.issuer(), Some(sent.claims().issuer.as_str()));
        }
    }
    let _ = KeySet::parse(bytes);
}

/// An entry has one encoding.
pub fn audit_entry(bytes: &[u8]) {
    let Ok(entry) = Entry::decode(bytes) else { return };
    let mut again = Vec::new();
    entry.decision.encode(entry.sequence, &mut again).expect("it was decoded");
    assert_eq!(again, bytes);
}

/// A checkpoint has one text.
pub fn audit_note(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(checkpoint) = danger_read_unverified(&text) {
        assert!(text.starts_with(&checkpoint.text()), "the text is not what was read");
    }
}

/// A header has one encoding; what follows it is read record by record, and each record is what was written.
pub fn audit_segment(bytes: &[u8]) {
    if let Ok((header, length)) = Header::read(&mut Cursor::new(bytes)) {
        let length = usize::try_from(length).expect("small");
        assert_eq!(header.encode(), bytes[..length]);
    }
    // After a good header, so that the records behind it are reached.
    let header = Header { origin: origin(&NodeId::from_bytes([2; 16])), before: Default::default() }.encode();
    let mut file = [&header[..], bytes].concat();
    put_record(&mut file, bytes, &leaf_hash(bytes));
    let mut input = Cursor::new(&file);
    let Ok((_, length)) = Header::read(&mut input) else { panic!("a good header is refused") };
    assert_eq!(length, header.len() as u64);
    let mut entry = Vec::new();
    while let Ok(Found::Record(leaf)) = read_record(&mut input, &mut entry) {
        assert_eq!(leaf, leaf_hash(&entry));
    }
}

/// A private part has one encoding.
pub fn private_part(bytes: &[u8]) {
    let Ok(part) = PrivatePart::decode(bytes) else { return };
    assert_eq!(part.encode().expect("it was decoded").as_slice(), bytes);
}

/// Bytes that are taken for an image are taken apart and put together again.
pub fn image(bytes: &[u8]) {
    static HOW: LazyLock<(Profile, ProjectSecret)> =
        LazyLock::new(|| (Profile::default(), ProjectSecret::new([7; 32])));
    let how = How { pass_suspect: true, report: true, ..How::new(&HOW.0, &HOW.1) };
    if let Ok(separated) = deidentify(&mut Cursor::new(bytes), &how) {
        assert_eq!(separated.original_length(), bytes.len() as u64);
        let (Ok(original), Ok(cleaned)) = (separated.original_header(), separated.deidentified_header()) else {
            panic!("what was taken apart cannot be read again");
        };
        look(&original, &cleaned);
        if let Ok(Some(table)) = separated.frames(&mut Cursor::new(bytes), &original) {
            let inside = |(start, length): (u64, u64)| start + length <= separated.length();
            assert!((1..=table.count().min(8)).filter_map(|number| table.pieces(number)).flatten().all(inside));
        }
        let image = ImageBinding { file: FileId::from_bytes([1; 16]), salt: [2; 24], commitment: [3; 32] };
        let mut input = Cursor::new(bytes);
        let mut stream = separated.deidentified(&mut input).expect("starts");
        let mut cleaned = Vec::new();
        stream.read_to_end(&mut cleaned).expect("reads");
        assert_eq!(cleaned.len() as u64, separated.length());
        let finished = stream.finish().expect("was read to its end");
        let part = separated.into_private_part(image, finished);
        let mut original = Vec::new();
        restore(&mut Cursor::new(cleaned), &part, &mut original).expect("restores");
        assert_eq!(original, bytes);
    }
}

/// A text is a profile that can be applied, or refused with every fault on a line that it has.
pub fn profile(bytes: &[u8]) {
    match Profile::parse(bytes) {
        Ok(profile) => {
            assert!(profile.method().iter().all(|text| text.len() <= 64));
            let secret = ProjectSecret::new([7; 32]);
            let how = How { pass_suspect: true, ..How::new(&profile, &secret) };
            deidentify(&mut Cursor::new(IMAGE), &how).map(drop).unwrap_or_default();
        }
        Err(faults) => {
            let lines = bytes.split(|b| *b == b'\n').count();
            assert!(!faults.is_empty() && faults.iter().all(|fault| (1..=lines).contains(&fault.line)));
        }
    }
}

/// What the metadata database takes of an image.
fn look(original: &eds::dicom::Header<'_>, cleaned: &eds::dicom::Header<'_>) {
    use eds::metadata::{attributes::Place, blind::SearchKey, policy::Policy};
    let (policy, key) = (Policy::default(), SearchKey::new([8; 32]));
    let place = Place::of(eds_core::ids::FileId::from_bytes([9; 16]), original, cleaned, "", &policy, &key);
    assert!(place.nodes().iter().all(|(_, node)| !node.name.is_empty() && !node.json().is_empty()));
}

const PROXY: &[u8] = include_bytes!("../fuzz/seeds/certificate/proxy-with-attributes.der");
const PERSON: &[u8] = include_bytes!("../fuzz/seeds/certificate/person.der");
const REVOCATION_LIST: &[u8] = include_bytes!("../fuzz/seeds/revocation_list/list.crl");
const TOKEN: &[u8] = include_bytes!("../fuzz/seeds/token/token.jwt");
const AUDIT_ENTRY: &[u8] = include_bytes!("../../audit/tests/data/audit-entry-v1.bin");
const AUDIT_ENTRY_2: &[u8] = include_bytes!("../../audit/tests/data/audit-entry-v2.bin");
const AUDIT_NOTE: &[u8] = include_bytes!("../fuzz/seeds/audit_note/checkpoint.txt");
const PRIVATE_WHOLE: &[u8] = include_bytes!("../../host-cli/tests/golden/private-part-v1-whole.bin");
const PRIVATE_AROUND: &[u8] = include_bytes!("../../host-cli/tests/golden/private-part-v1-around.bin");
const PRIVATE_BLANKED: &[u8] = include_bytes!("../../host-cli/tests/golden/private-part-v2-blanked.bin");
const IMAGE: &[u8] = include_bytes!("../fuzz/seeds/image/ct.dcm");
const REPORT: &[u8] = include_bytes!("../fuzz/seeds/image/report.dcm");
const PROFILE: &[u8] = include_bytes!("../fuzz/seeds/profile/everything.toml");
