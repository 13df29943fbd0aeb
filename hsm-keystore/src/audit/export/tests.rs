//! Messages fit the schema of DICOM PS3.15, A.5.1, say what happened, and hold nothing that could break out of its place.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr},
    process::Command,
};

use eds_audit::testing::sample;

use super::*;
use crate::audit::{Who, entry::Entry, tree::leaf_hash};

const ORIGIN: &str = "eds/00000000-0000-0000-0000-000000000002";

fn record(sequence: u64, decision: Decision) -> Record {
    let mut bytes = Vec::new();
    decision.encode(sequence, &mut bytes).expect("encoded");
    let entry = Entry::decode(&bytes).expect("decoded");
    Record { entry, leaf: leaf_hash(&bytes), bytes }
}

fn xml(decision: Decision) -> String {
    messages(ORIGIN, &record(41, decision)).remove(0).xml
}

/// One decision of every operation, with every outcome, and the hostile ones.
fn decisions() -> Vec<Decision> {
    let operations = [
        Operation::REGISTER,
        Operation::CONFIRM,
        Operation::WITHDRAW,
        Operation::UNREGISTER,
        Operation::FETCH,
        Operation::STATE,
        Operation::RESOLVE,
        Operation::LIST,
        Operation::ACL_READ,
        Operation::ACL_CHANGE,
        Operation::NODE_INFO,
        Operation::START,
        Operation::STOP,
        Operation::TOKEN_CHANGE,
        Operation::AUDIT_READ,
        Operation::AUDIT_RECOVER,
        Operation::UNKNOWN,
    ];
    let mut all = Vec::new();
    for operation in operations {
        for outcome in [Outcome::Allowed, Outcome::Refused("not <this>".into()), Outcome::Failed("disk".into())] {
            let access_list = Some([9; 32]);
            all.push(Decision { operation: operation.clone(), outcome, access_list, ..sample(0) });
        }
    }
    all.push(Decision { who: Who::NOBODY, peer: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)), keys: Vec::new(), ..sample(2) });
    all.push(Decision { who: Who::node(), peer: None, operation: Operation::START, ..sample(0) });
    all.push(hostile());
    all
}

/// A name that somebody gave himself to write entries of his own.
fn hostile() -> Decision {
    let mut decision = sample(2);
    decision.who.display =
        "/CN=\"/></ActiveParticipant><x y='&amp;'>\u{0}\u{1b}[2J\r\n\t]]>\u{ffff}é\u{1f600}".to_owned();
    decision.rule = "<!--".to_owned();
    decision.outcome = Outcome::Refused("&lt;<![CDATA[".to_owned());
    decision
}

/// The schema in RELAX NG compact syntax; `jing` is the validator that reads it.
#[test]
fn every_message_fits_the_schema_of_dicom() {
    let directory = tempfile::tempdir().expect("a directory");
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dicom-audit-message.rnc");
    let mut files = Vec::new();
    for (number, decision) in decisions().into_iter().enumerate() {
        let file = directory.path().join(format!("{number}.xml"));
        fs::write(&file, xml(decision)).expect("written");
        files.push(file);
    }
    let wrong = directory.path().join("wrong.xml");
    fs::write(&wrong, xml(sample(0)).replace("UserIsRequestor=\"true\"", "UserIsRequestor=\"perhaps\""))
        .expect("written");
    let jing = |files: &[std::path::PathBuf]| {
        let output = Command::new("jing").arg("-c").arg(schema).args(files).output();
        let output = output.expect("jing, of the Debian package of that name, validates");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (valid, said) = jing(&files);
    assert!(valid, "{said}");
    assert!(!jing(&[wrong]).0, "the validator takes anything");
}

#[test]
fn what_happened_is_told_by_the_codes_of_dicom() {
    for (operation, outcome, expected) in [
        (Operation::FETCH, Outcome::Allowed, ["csd-code=\"110103\"", "EventActionCode=\"R\"", "Indicator=\"0\""]),
        (Operation::FETCH, Outcome::Failed("x".into()), ["csd-code=\"110103\"", "Code=\"R\"", "Indicator=\"8\""]),
        (
            Operation::FETCH,
            Outcome::Refused("x".into()),
            ["csd-code=\"110113\"", "csd-code=\"110132\"", "Indicator=\"4\""],
        ),
        (Operation::REGISTER, Outcome::Allowed, ["csd-code=\"110103\"", "EventActionCode=\"C\"", "Indicator=\"0\""]),
        (Operation::UNREGISTER, Outcome::Allowed, ["csd-code=\"110103\"", "EventActionCode=\"D\"", "Indicator=\"0\""]),
        (Operation::ACL_CHANGE, Outcome::Allowed, ["csd-code=\"110113\"", "csd-code=\"110135\"", "Alert Description"]),
        (Operation::STATE, Outcome::Allowed, ["csd-code=\"110112\"", "ParticipantObjectQuery", "Indicator=\"0\""]),
        (Operation::START, Outcome::Allowed, ["csd-code=\"110100\"", "csd-code=\"110120\"", "Indicator=\"0\""]),
        (Operation::AUDIT_READ, Outcome::Allowed, ["csd-code=\"110101\"", "EventActionCode=\"R\"", "Indicator=\"0\""]),
    ] {
        let text = xml(Decision { operation, outcome, ..sample(0) });
        for part in expected {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    let unknown = xml(Decision { who: Who::NOBODY, ..sample(2) });
    assert!(unknown.contains("UserID=\"anonymous\"") && unknown.contains("csd-code=\"110126\""), "{unknown}");
}

#[test]
fn a_message_names_who_from_where_which_key_and_the_leaf() {
    let record = record(41, sample(0));
    let text = &messages(ORIGIN, &record)[0].xml;
    for part in [
        "UserID=\"/C=CH/O=Ward/CN=Dr Jones\"",
        "NetworkAccessPointID=\"192.0.2.7\" NetworkAccessPointTypeCode=\"2\"",
        "ParticipantObjectID=\"00000000-0000-0000-0000-000000000000\"",
        "ParticipantObjectID=\"07070707070707070707070707070707\"",
        "EventDateTime=\"2025-11-24T16:00:00.000Z\"",
        "AuditSourceID=\"00000000-0000-0000-0000-000000000002\"",
        &format!("type=\"leaf\" value=\"{}\"", Base64::encode_string(&record.leaf)),
        &format!("type=\"entry\" value=\"{}\"", Base64::encode_string(b"41")),
        &format!("type=\"rule\" value=\"{}\"", Base64::encode_string(b"owner")),
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_hostile_name_stays_a_name() {
    let text = xml(hostile());
    assert_eq!(text.matches("<ActiveParticipant").count(), 2);
    assert!(text.contains("UserID=\"/CN=&quot;/&gt;&lt;/ActiveParticipant&gt;&lt;x y='&amp;amp;'&gt;\u{fffd}\u{fffd}[2J&#13;&#10;&#9;]]&gt;\u{fffd}é\u{1f600}\""), "{text}");
    assert!(!text.contains("<!") && !text.contains('\u{1b}') && !text.contains('\0'));
}

#[test]
fn a_large_batch_is_spread_over_messages_of_limited_size_and_names_every_key_once() {
    let mut decision = sample(0);
    decision.keys = (0..1_000u128).map(|number| KeyId::from_bytes(number.to_be_bytes())).collect();
    decision.who.display = "é".repeat(512);
    let messages = messages(ORIGIN, &record(7, decision.clone()));
    assert_eq!(messages.len(), 1_000usize.div_ceil(KEYS_PER_MESSAGE));
    let all: String = messages.iter().map(|message| message.xml.as_str()).collect();
    let named = all.split("ParticipantObjectID=\"").filter_map(|rest| rest.split('"').next()?.parse::<KeyId>().ok());
    assert!(named.eq(decision.keys.iter().copied()));
    let header = syslog::Header { host: "n".repeat(64), process: u32::MAX };
    for message in &messages {
        assert!(syslog::frame(&header, message).len() <= 8_192, "{}", syslog::frame(&header, message).len());
    }
}
