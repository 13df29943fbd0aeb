//! Paths and proxies: a good one of each kind, and everything that must be refused.

use eds_keystore::authn::{
    certificate::Certificate,
    chain::{Proven, Reason, Refusal, verify},
    signature::BadSignature,
    trust::{Authority, Crl, Settings, SigningPolicy, TrustStore},
};

use crate::forge::{
    CA_SIGN, CLIENT_AUTH, DAY, INHERIT_ALL, Issued, NOW, SERVER_AUTH, SIGN, Template, basic_constraints, crl,
    extension, key_usage, name, oid, purposes, rdn, seq, tlv,
};

pub(crate) fn authority(issued: &Issued) -> Authority {
    let certificate = Certificate::from_der(&issued.der).expect("a certificate");
    Authority { certificate, policy: None, unusable: None, source: "test".into() }
}

pub(crate) fn store(authorities: &[&Issued]) -> TrustStore {
    TrustStore::new(authorities.iter().map(|one| authority(one)).collect(), Vec::new(), Settings::default())
        .expect("a store")
}

pub(crate) fn reason(result: Result<Proven, Refusal>) -> Reason {
    result.expect_err("must be refused").reason
}

pub(crate) struct World {
    pub(crate) root: Issued,
    pub(crate) alice: Issued,
    pub(crate) trust: TrustStore,
}

pub(crate) fn world() -> World {
    let root = Template::authority("/DC=org/CN=CA").self_signed();
    let alice = Template::person("/DC=org/CN=Alice").signed_by(&root);
    let trust = store(&[&root]);
    World { root, alice, trust }
}

#[test]
fn a_certificate_proves_its_encoded_subject_in_the_namespace_of_its_issuer() {
    let World { root, alice, trust } = world();
    let proven = verify(&[&alice], &trust, NOW).expect("good");
    assert_eq!(proven.end_entity.subject().as_der(), alice.subject);
    assert_eq!(proven.end_entity.issuer().as_der(), root.subject);
    assert!(proven.proxies.is_empty() && !proven.limited);
    assert_eq!(proven.valid_until, NOW + DAY);
    assert_eq!(verify(&[&alice, &root], &trust, NOW).expect("with the root sent along").root.as_der(), root.subject);
}

#[test]
fn a_path_over_intermediates_is_found_in_any_order() {
    let root = Template::authority("/CN=Root").self_signed();
    let one = Template::authority("/CN=One").signed_by(&root);
    let two = Template::authority("/CN=Two").signed_by(&one);
    let alice = Template::person("/CN=Alice").signed_by(&two);
    let trust = store(&[&root]);
    for sent in [[&alice, &two, &one], [&alice, &one, &two]] {
        assert_eq!(verify(&sent, &trust, NOW).expect("good").root.to_string(), "/CN=Root");
    }
    assert_eq!(reason(verify(&[&alice, &one], &trust, NOW)), Reason::UnknownIssuer("/CN=Two".into()));
}

#[test]
fn a_configured_intermediate_is_checked_up_to_its_configured_root() {
    let root = Template::authority("/CN=Root").self_signed();
    let mut late = Template::authority("/CN=Sub");
    late.serial = vec![66];
    let sub = late.signed_by(&root);
    let alice = Template::person("/CN=Alice").signed_by(&sub);
    assert_eq!(verify(&[&alice], &store(&[&root, &sub]), NOW).expect("good").root.to_string(), "/CN=Root");
    assert_eq!(verify(&[&alice], &store(&[&sub]), NOW).expect("trusted by itself").root.to_string(), "/CN=Sub");
    let list = Crl::from_der(&crl(&root, &root.key, (NOW - DAY, NOW + DAY), &[&[66]], &[])).expect("a list");
    let trust =
        TrustStore::new(vec![authority(&root), authority(&sub)], vec![list], Settings::default()).expect("a store");
    assert_eq!(reason(verify(&[&alice], &trust, NOW)), Reason::Revoked);
}

/// Everything that makes an end-entity certificate unacceptable.
#[test]
fn end_entities_that_must_be_refused() {
    let World { root, trust, .. } = world();
    let person = || Template::person("/DC=org/CN=Mallory");
    let plain = || Template::new(name("/DC=org/CN=Mallory"), 7);
    let mut early = person();
    early.validity = (NOW + 301, NOW + DAY);
    let mut late = person();
    late.validity = (NOW - DAY, NOW - 1);
    let mut old = plain();
    old.version = 1;
    let mut second = plain();
    second.version = 2;
    let mut nameless = person();
    nameless.subject = name("");
    let table: Vec<(&str, Template, Reason)> = vec![
        ("not yet valid", early, Reason::NotYetValid),
        ("expired", late, Reason::Expired),
        ("version 1", old, Reason::Version(1)),
        ("version 2", second, Reason::Version(2)),
        ("no subject", nameless, Reason::NoSubject),
        ("an authority", Template::authority("/DC=org/CN=Sub"), Reason::IsAnAuthority),
        ("keyUsage", plain().with(key_usage(0x20)), Reason::MayNotSign),
        ("extKeyUsage", plain().with(purposes(&[SERVER_AUTH])), Reason::NotForClients),
        ("any extKeyUsage", plain().with(purposes(&["2.5.29.37.0"])), Reason::NotForClients),
        ("critical", person().with(extension("1.2.3.4", true, &[5, 0])), Reason::CriticalExtension("1.2.3.4".into())),
        (
            "policyConstraints",
            person().with(extension("2.5.29.36", true, &seq(&[]))),
            Reason::CriticalExtension("2.5.29.36".into()),
        ),
        ("Globus 3", person().with(extension("1.3.6.1.4.1.3536.1.222", true, &seq(&[]))), Reason::LegacyGt3),
    ];
    for (what, template, wanted) in table {
        assert_eq!(reason(verify(&[&template.signed_by(&root)], &trust, NOW)), wanted, "{what}");
    }
}

#[test]
fn end_entities_that_must_be_accepted() {
    let World { root, trust, .. } = world();
    let plain = || Template::new(name("/DC=org/CN=Bob"), 7);
    let mut fresh = plain();
    fresh.validity = (NOW + 299, NOW + DAY);
    for (what, template) in [
        ("no extensions", plain()),
        ("within the skew", fresh),
        ("unknown but not critical", plain().with(extension("1.2.3.4", false, &[5, 0]))),
        ("critical policies", plain().with(extension("2.5.29.32", true, &seq(&[&seq(&[&oid("2.5.29.32.0")])])))),
        ("both purposes", plain().with(purposes(&[SERVER_AUTH, CLIENT_AUTH]))),
        ("an encoded FALSE", plain().with(seq(&[&oid("1.2.3.4"), &tlv(1, &[&[0]]), &tlv(4, &[&[]])]))),
    ] {
        verify(&[&template.signed_by(&root)], &trust, NOW).expect(what);
    }
}

#[test]
fn the_start_of_validity_knows_a_skew_and_the_end_does_not() {
    let World { root, trust, .. } = world();
    let mut template = Template::person("/CN=Bob");
    template.validity = (NOW, NOW + 10);
    let bob = template.signed_by(&root);
    for (now, wanted) in
        [(NOW - 300, None), (NOW - 301, Some(Reason::NotYetValid)), (NOW + 10, None), (NOW + 11, Some(Reason::Expired))]
    {
        assert_eq!(verify(&[&bob], &trust, now).err().map(|refusal| refusal.reason), wanted, "{now}");
    }
}

#[test]
fn an_authority_that_cannot_be_one_is_refused() {
    let root = Template::authority("/CN=Root").self_signed();
    let trust = store(&[&root]);
    let named = || Template::new(name("/CN=Sub"), 2);
    let mut late = Template::authority("/CN=Sub");
    late.validity = (NOW - DAY, NOW - 1);
    let mut old = named();
    old.version = 1;
    let table: Vec<(&str, Template, Reason)> = vec![
        ("no basicConstraints", named().with(key_usage(CA_SIGN)), Reason::NotAnAuthority),
        ("CA false", named().with(basic_constraints(false, None)), Reason::NotAnAuthority),
        ("a person", Template::person("/CN=Sub"), Reason::NotAnAuthority),
        ("keyUsage", named().with(basic_constraints(true, None)).with(key_usage(SIGN)), Reason::MayNotSignCertificates),
        ("purpose", Template::authority("/CN=Sub").with(purposes(&[SERVER_AUTH])), Reason::NotForClients),
        ("expired", late, Reason::Expired),
        ("version 1", old, Reason::Version(1)),
        (
            "critical",
            Template::authority("/CN=Sub").with(extension("1.2.3.4", true, &[5, 0])),
            Reason::CriticalExtension("1.2.3.4".into()),
        ),
    ];
    for (what, template, wanted) in table {
        let sub = template.signed_by(&root);
        let alice = Template::person("/CN=Alice").signed_by(&sub);
        assert_eq!(reason(verify(&[&alice, &sub], &trust, NOW)), wanted, "{what}");
    }
    let any = Template::authority("/CN=Sub").with(purposes(&["2.5.29.37.0"])).signed_by(&root);
    let alice = Template::person("/CN=Alice").signed_by(&any);
    verify(&[&alice, &any], &trust, NOW).expect("any purpose below this authority");
}

#[test]
fn an_expired_or_strange_root_is_refused() {
    let mut template = Template::authority("/CN=Root");
    template.validity = (NOW - DAY, NOW - 1);
    let root = template.self_signed();
    let alice = Template::person("/CN=Alice").signed_by(&root);
    assert_eq!(reason(verify(&[&alice], &store(&[&root]), NOW)), Reason::Expired);
    let root = Template::authority("/CN=Root").with(extension("1.2.3.4", true, &[5, 0])).self_signed();
    let alice = Template::person("/CN=Alice").signed_by(&root);
    assert_eq!(reason(verify(&[&alice], &store(&[&root]), NOW)), Reason::CriticalExtension("1.2.3.4".into()));
}

#[test]
fn path_lengths_are_counted_in_authorities() {
    let limited = |length| {
        Template::new(name("/CN=Root"), 1).with(basic_constraints(true, length)).with(key_usage(CA_SIGN)).self_signed()
    };
    for (length, depth, good) in
        [(Some(0), 0, true), (Some(0), 1, false), (Some(1), 1, true), (Some(1), 2, false), (None, 3, true)]
    {
        let root = limited(length);
        let mut chain: Vec<Issued> = Vec::new();
        for level in 0..depth {
            let above = chain.last().unwrap_or(&root);
            let next = Template::authority(&format!("/CN=Sub {level}")).signed_by(above);
            chain.push(next);
        }
        let alice = Template::person("/CN=Alice").signed_by(chain.last().unwrap_or(&root));
        let sent: Vec<&Issued> = std::iter::once(&alice).chain(&chain).collect();
        let result = verify(&sent, &store(&[&root]), NOW);
        assert_eq!(
            result.as_ref().err().map(|refusal| &refusal.reason),
            if good { None } else { Some(&Reason::PathLength) },
            "{length:?} {depth}"
        );
    }
    // Proxies are not authorities and do not count.
    let root = limited(Some(0));
    let alice = Template::person("/CN=Alice").signed_by(&root);
    let proxy = Template::proxy(&alice, "1", INHERIT_ALL).signed_by(&alice);
    verify(&[&proxy, &alice], &store(&[&root]), NOW).expect("a proxy below path length 0");
}

#[test]
fn a_tangle_of_authorities_ends() {
    // Authorities that certify each other with one key each: no root, many paths.
    let root = Template::authority("/CN=Root").self_signed();
    let all: Vec<Issued> = (0..7).map(|n| Template::authority(&format!("/CN=A{n}")).self_signed()).collect();
    let mut sent = vec![Template::person("/CN=Alice").signed_by(&all[0]).der];
    for (from, to) in
        [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2), (3, 4), (4, 3), (4, 5), (5, 4), (5, 0), (0, 5), (1, 5), (5, 1)]
    {
        let mut cross = Template::authority(&format!("/CN=A{to}"));
        cross.serial = vec![from + 1, to + 1];
        sent.push(cross.with_key_signed_by(all[usize::from(to)].key.clone(), &all[usize::from(from)]).der);
    }
    let refused = verify(&sent, &store(&[&root]), NOW).expect_err("no way to the root").reason;
    assert!(matches!(refused, Reason::TooTangled | Reason::UnknownIssuer(_)), "{refused}");
}

#[test]
fn signatures_and_names_must_fit() {
    let World { root, alice, trust } = world();
    let impostor = Template::authority("/DC=org/CN=CA").self_signed();
    let mallory = Template::person("/DC=org/CN=Alice").signed_by(&impostor);
    assert_eq!(
        reason(verify(&[&mallory], &trust, NOW)),
        Reason::Signature(BadSignature::Wrong),
        "a self-made CA of the same name"
    );
    assert_eq!(
        reason(verify(&[&mallory, &impostor], &trust, NOW)),
        Reason::Signature(BadSignature::Wrong),
        "sent along"
    );
    let stranger = Template::authority("/DC=org/CN=Other CA").self_signed();
    let eve = Template::person("/DC=org/CN=Alice").signed_by(&stranger);
    assert_eq!(reason(verify(&[&eve, &stranger], &trust, NOW)), Reason::UnknownIssuer("/DC=org/CN=Other CA".into()));
    // The same name in another string type is another name.
    let mut printable = Template::person("/DC=org/CN=Alice");
    printable.issuer = seq(&[&rdn("DC", 0x0c, b"org"), &rdn("CN", 0x13, b"CA")]);
    assert!(matches!(reason(verify(&[&printable.signed_by(&root)], &trust, NOW)), Reason::UnknownIssuer(_)));
    // Key identifiers that differ rule an issuer out.
    let other_key = Template::person("/DC=org/CN=Alice").with(crate::forge::authority_key_id(b"other"));
    let root =
        Template::authority("/DC=org/CN=CA").with(extension("2.5.29.14", false, &tlv(4, &[b"this"]))).self_signed();
    assert!(matches!(reason(verify(&[&other_key.signed_by(&root)], &store(&[&root]), NOW)), Reason::UnknownIssuer(_)));
    // An end entity does not issue certificates.
    let below = Template::person("/DC=org/CN=Bob").signed_by(&alice);
    assert_eq!(reason(verify(&[&below, &alice], &trust, NOW)), Reason::NotAnAuthority);
}

#[test]
fn algorithms_that_are_too_weak_or_strange_are_refused() {
    let World { root, alice, trust } = world();
    // ecdsa-with-SHA256 replaced by ecdsa-with-SHA1 (1.2.840.10045.4.1), inside and outside.
    let from = crate::forge::ecdsa_sha256();
    let to = seq(&[&oid("1.2.840.10045.4.1")]);
    let der = &alice.der;
    let mut fields = 0;
    let mut weak = Vec::new();
    let mut rest = der.as_slice();
    while let Some(byte) = rest.first() {
        if rest.starts_with(&from) {
            weak.extend(&to);
            rest = &rest[from.len()..];
            fields += 1;
        } else {
            weak.push(*byte);
            rest = &rest[1..];
        }
    }
    assert_eq!(fields, 2);
    // Both algorithm fields are one byte shorter: repair the lengths of TBS and certificate.
    let shorten = |weak: &mut Vec<u8>, at: usize, by: u16| {
        let length = u16::from_be_bytes([weak[at + 2], weak[at + 3]]) - by;
        weak[at + 2..at + 4].copy_from_slice(&length.to_be_bytes());
    };
    shorten(&mut weak, 0, 2);
    shorten(&mut weak, 4, 1);
    assert_eq!(reason(verify(&[&weak], &trust, NOW)), Reason::Signature(BadSignature::Algorithm));
    drop(root);
}

#[test]
fn what_cannot_be_parsed_or_is_too_much_is_refused() {
    let World { root, alice, trust } = world();
    assert_eq!(reason(verify::<Vec<u8>>(&[], &trust, NOW)), Reason::Empty);
    assert_eq!(reason(verify(&[&alice.der[..], b"no certificate"], &trust, NOW)), Reason::Malformed(1));
    assert_eq!(reason(verify(&[&alice; 17], &trust, NOW)), Reason::TooLong);
    let trailing = [&alice.der[..], &[0]].concat();
    assert_eq!(reason(verify(&[trailing], &trust, NOW)), Reason::Malformed(0));
    let big = Template::person("/CN=Big").with(extension("1.2.3.4", false, &vec![0; 60_000])).signed_by(&root);
    assert_eq!(reason(verify(&[&big; 5], &trust, NOW)), Reason::TooLong);
    let twice = Template::person("/CN=Twice").with(key_usage(SIGN)).signed_by(&root);
    assert_eq!(reason(verify(&[&twice], &trust, NOW)), Reason::Malformed(0), "an extension twice");
}

#[test]
fn name_constraints_bind_everything_below() {
    let directory = |text: &str| tlv(0xa4, &[&name(text)]);
    let host = |text: &str| tlv(0x82, &[text.as_bytes()]);
    let email = |text: &str| tlv(0x81, &[text.as_bytes()]);
    let constraint = |permitted: &[Vec<u8>], excluded: &[Vec<u8>]| {
        let list = |tag: u8, bases: &[Vec<u8>]| {
            let trees: Vec<Vec<u8>> = bases.iter().map(|base| seq(&[base])).collect();
            if trees.is_empty() { Vec::new() } else { tlv(tag, &trees.iter().map(Vec::as_slice).collect::<Vec<_>>()) }
        };
        extension("2.5.29.30", true, &seq(&[&list(0xa0, permitted), &list(0xa1, excluded)]))
    };
    let alternative =
        |names: &[Vec<u8>]| extension("2.5.29.17", false, &seq(&names.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    let person = |subject: &str| Template::person(subject);
    let table: Vec<(&str, Vec<u8>, Template, bool)> = vec![
        ("permitted", constraint(&[directory("/O=Ward")], &[]), person("/O=Ward/CN=A"), true),
        ("case and spaces", constraint(&[directory("/O=My Ward")], &[]), person("/O=my  ward/CN=A"), true),
        ("outside", constraint(&[directory("/O=Ward")], &[]), person("/O=Lab/CN=A"), false),
        ("a longer value is not below", constraint(&[directory("/O=Ward")], &[]), person("/O=Wards/CN=A"), false),
        ("excluded", constraint(&[], &[directory("/O=Lab")]), person("/O=LAB/CN=A"), false),
        ("not excluded", constraint(&[], &[directory("/O=Lab")]), person("/O=Ward/CN=A"), true),
        ("host", constraint(&[host("ward.org")], &[]), person("/CN=A").with(alternative(&[host("pc.ward.org")])), true),
        (
            "other host",
            constraint(&[host("ward.org")], &[]),
            person("/CN=A").with(alternative(&[host("pc.lab.org")])),
            false,
        ),
        (
            "host by suffix",
            constraint(&[host("ward.org")], &[]),
            person("/CN=A").with(alternative(&[host("evilward.org")])),
            false,
        ),
        (
            "mail",
            constraint(&[email("ward.org")], &[]),
            person("/CN=A").with(alternative(&[email("a@ward.org")])),
            true,
        ),
        (
            "other mail",
            constraint(&[email("ward.org")], &[]),
            person("/CN=A").with(alternative(&[email("a@lab.org")])),
            false,
        ),
        ("mail in the subject", constraint(&[email("ward.org")], &[]), person("/CN=A/emailAddress=a@lab.org"), false),
        (
            "excluded mail domain",
            constraint(&[], &[email(".lab.org")]),
            person("/CN=A").with(alternative(&[email("a@x.lab.org")])),
            false,
        ),
        (
            "a form that is not judged",
            constraint(&[tlv(0x87, &[&[10, 0, 0, 0, 255, 0, 0, 0]])], &[]),
            person("/CN=A").with(alternative(&[tlv(0x87, &[&[10, 0, 0, 1]])])),
            false,
        ),
        ("another form only", constraint(&[tlv(0x87, &[&[10, 0, 0, 0, 255, 0, 0, 0]])], &[]), person("/CN=A"), true),
    ];
    for (what, constraint, person, good) in table {
        let root = Template::authority("/CN=Root").with(constraint).self_signed();
        let sub = Template::authority("/CN=Sub").signed_by(&root);
        for issuer in [&root, &sub] {
            let alice = person.clone().signed_by(issuer);
            let result = verify(&[&alice, &sub], &store(&[&root]), NOW);
            // The intermediate itself must fit, too: directory constraints exclude it.
            let sub_fits = !what.contains("permitted") && !what.contains("case") || std::ptr::eq(issuer, &root);
            if good && sub_fits {
                result.expect(what);
            } else {
                assert!(matches!(reason(result), Reason::NameConstraints(_)), "{what}");
            }
        }
    }
}

#[test]
fn a_signing_policy_limits_its_authority() {
    let World { root, .. } = world();
    let policy = |subjects: &str| {
        let text = format!(
            "access_id_CA X509 '/DC=org/CN=CA'\npos_rights globus CA:sign\ncond_subjects globus '{subjects}'\n"
        );
        SigningPolicy::parse(&text).expect("a policy")
    };
    let with = |policy| {
        let authority = Authority { policy: Some(policy), ..authority(&root) };
        TrustStore::new(vec![authority], Vec::new(), Settings::default()).expect("a store")
    };
    let alice = Template::person("/DC=org/CN=Alice").signed_by(&root);
    verify(&[&alice], &with(policy("\"/DC=org/*\"")), NOW).expect("allowed");
    verify(&[&alice], &with(policy("\"/DC=net/*\" \"/DC=org/*\"")), NOW).expect("allowed by the second pattern");
    assert_eq!(reason(verify(&[&alice], &with(policy("\"/DC=net/*\"")), NOW)), Reason::SigningPolicy);
    let other =
        SigningPolicy::parse("access_id_CA X509 '/CN=X'\npos_rights globus CA:sign\ncond_subjects globus '\"*\"'")
            .expect("a policy");
    assert_eq!(reason(verify(&[&alice], &with(other), NOW)), Reason::SigningPolicy, "a policy for another authority");
    // A slash inside of a value cannot be told from two values.
    let mut slash = Template::person("/CN=x");
    slash.subject = seq(&[&rdn("DC", 0x0c, b"org/CN=Alice")]);
    let slash = slash.signed_by(&root);
    assert_eq!(reason(verify(&[&slash], &with(policy("\"/DC=org/*\"")), NOW)), Reason::SigningPolicy);
    // Another certificate of the same authority, sent by the caller, does not evade the policy.
    let top = Template::authority("/CN=Top").self_signed();
    let configured = Template::authority("/CN=Sub").signed_by(&top);
    let text = "access_id_CA X509 '/CN=Sub'\npos_rights globus CA:sign\ncond_subjects globus '\"/DC=org/*\"'\n";
    let strict = Authority { policy: Some(SigningPolicy::parse(text).expect("a policy")), ..authority(&configured) };
    let trust = TrustStore::new(vec![authority(&top), strict], Vec::new(), Settings::default()).expect("a store");
    let mallory = Template::person("/DC=net/CN=M").signed_by(&configured);
    let mut again = Template::authority("/CN=Sub");
    again.serial = vec![99];
    let again = again.with_key_signed_by(configured.key, &top);
    assert_eq!(reason(verify(&[&mallory.der, &again.der], &trust, NOW)), Reason::SigningPolicy);
}

#[test]
fn revocation_lists_must_be_genuine_and_current() {
    let World { root, alice, .. } = world();
    let other = crate::forge::Key::new();
    let current = (NOW - DAY, NOW + DAY);
    let lists = |lists: &[Vec<u8>], settings: Settings| {
        let lists = lists.iter().map(|der| Crl::from_der(der).expect("a list")).collect();
        TrustStore::new(vec![authority(&root)], lists, settings).expect("a store")
    };
    let strict = Settings { require_crl: true, ..Settings::default() };
    let patient = Settings { crl_grace: DAY, ..Settings::default() };
    let good = crl(&root, &root.key, current, &[&[1], &[2]], &[]);
    verify(&[&alice], &lists(std::slice::from_ref(&good), strict.clone()), NOW).expect("not listed");
    let mine: &[u8] = &alice.serial;
    let stale = || crl(&root, &root.key, (NOW - 2 * DAY, NOW - 1), &[], &[]);
    let table: Vec<(&str, Vec<Vec<u8>>, Settings, Reason)> = vec![
        ("none but required", vec![], strict, Reason::NoCrl),
        ("revoked", vec![crl(&root, &root.key, current, &[&[1], mine], &[])], Settings::default(), Reason::Revoked),
        (
            "revoked in one of two",
            vec![good, crl(&root, &root.key, (NOW - 2 * DAY, NOW - 1), &[mine], &[])],
            Settings::default(),
            Reason::Revoked,
        ),
        ("stale", vec![stale()], Settings::default(), Reason::CrlNotCurrent),
        (
            "from the future",
            vec![crl(&root, &root.key, (NOW + 301, NOW + DAY), &[], &[])],
            Settings::default(),
            Reason::CrlNotCurrent,
        ),
        ("another key", vec![crl(&root, &other, current, &[], &[])], Settings::default(), Reason::CrlNotGenuine),
    ];
    for (what, list, settings, wanted) in table {
        assert_eq!(reason(verify(&[&alice], &lists(&list, settings), NOW)), wanted, "{what}");
    }
    verify(&[&alice], &lists(&[stale()], patient), NOW).expect("within the officer's grace");
    // An authority that may not sign lists.
    let root = Template::new(name("/CN=R"), 1).with(basic_constraints(true, None)).with(key_usage(0x04)).self_signed();
    let alice = Template::person("/CN=Alice").signed_by(&root);
    let list = Crl::from_der(&crl(&root, &root.key, current, &[], &[])).expect("a list");
    let trust = TrustStore::new(vec![authority(&root)], vec![list], Settings::default()).expect("a store");
    assert_eq!(reason(verify(&[&alice], &trust, NOW)), Reason::CrlNotGenuine);
}

#[test]
fn an_authority_with_unreadable_files_is_not_used() {
    let World { root, alice, .. } = world();
    let broken = Authority { unusable: Some("its list cannot be read".into()), ..authority(&root) };
    let trust = TrustStore::new(vec![broken], Vec::new(), Settings::default()).expect("a store");
    assert_eq!(reason(verify(&[&alice], &trust, NOW)), Reason::UnusableAuthority("its list cannot be read".into()));
}

#[test]
fn one_root_cannot_speak_for_the_people_of_another() {
    let ward = Template::authority("/CN=Ward CA").self_signed();
    let ward_sub = Template::authority("/CN=Ward Users").signed_by(&ward);
    let alice = Template::person("/CN=Alice").signed_by(&ward_sub);
    let lab = Template::authority("/CN=Lab CA").self_signed();
    // The laboratory makes an intermediate with the ward's name, and with the ward's root's name.
    let lab_fake = Template::authority("/CN=Ward Users").signed_by(&lab);
    let fake = Template::person("/CN=Alice").signed_by(&lab_fake);
    let lab_root = Template::authority("/CN=Ward CA").signed_by(&lab);
    let fake_root = Template::person("/CN=Alice").signed_by(&lab_root);

    let both = store(&[&ward, &ward_sub, &lab]);
    verify(&[&alice], &both, NOW).expect("a configured issuer");
    assert!(matches!(
        reason(verify(&[&fake, &lab_fake], &both, NOW)),
        Reason::Signature(_) | Reason::UnlistedIssuer(_)
    ));
    assert!(matches!(
        reason(verify(&[&fake_root, &lab_root], &both, NOW)),
        Reason::Signature(_) | Reason::UnlistedIssuer(_)
    ));
    let unlisted = store(&[&ward, &lab]);
    for (person, issuer) in [(&alice, &ward_sub), (&fake, &lab_fake)] {
        assert_eq!(reason(verify(&[person, issuer], &unlisted, NOW)), Reason::UnlistedIssuer("/CN=Ward Users".into()));
    }
    verify(&[&alice, &ward_sub], &store(&[&ward]), NOW).expect("with one root, it answers for all below it");
}

#[test]
fn rsa_and_elliptic_keys_sign_for_each_other() {
    use crate::forge::Key;
    let root = Template::authority("/CN=Root").self_signed_by(Key::rsa());
    let sub = Template::authority("/CN=Sub").signed_by(&root);
    let alice = Template::person("/CN=Alice").with_key_signed_by(Key::rsa(), &sub);
    let proxy = Template::proxy(&alice, "1", INHERIT_ALL).signed_by(&alice);
    verify(&[&proxy, &alice, &sub], &store(&[&root]), NOW).expect("good");
}
