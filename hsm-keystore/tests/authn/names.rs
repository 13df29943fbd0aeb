//! Names and principals: compared by their bytes, shown so that none looks like another.

use eds_keystore::authn::{Principal, chain, jwt, name::Name, x509};

use crate::{
    chain::store,
    forge::{NOW, Template, name, oid, rdn, seq, tlv},
};

fn of(parts: &[Vec<u8>]) -> Name {
    Name::from_der(&seq(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())).expect("a name")
}

#[test]
fn the_slash_form_is_that_of_openssl() {
    let dotted = of(&[rdn("1.2.3.4", 0x0c, b"x")]);
    for (name, shown, matching) in [
        (of(&[rdn("DC", 0x16, b"org"), rdn("CN", 0x13, b"Alice B.")]), "/DC=org/CN=Alice B.", "/DC=org/CN=Alice B."),
        (of(&[rdn("CN", 0x0c, "Zoë".as_bytes())]), "/CN=Zoë", "/CN=Zo\\xC3\\xAB"),
        (of(&[rdn("CN", 0x1e, &[0, b'B', 0, b'o'])]), "/CN=Bo", "/CN=Bo"),
        (of(&[rdn("emailAddress", 0x16, b"a@b.org")]), "/emailAddress=a@b.org", "/emailAddress=a@b.org"),
        (dotted, "/1.2.3.4=x", "/1.2.3.4=x"),
    ] {
        assert_eq!(name.to_string(), shown);
        assert_eq!(name.matching().as_deref(), Ok(matching));
    }
}

#[test]
fn a_name_that_can_be_read_in_two_ways_is_shown_escaped_and_never_matched() {
    let pair = |value: &[u8]| seq(&[&oid("2.5.4.3"), &tlv(0x0c, &[value])]);
    let two = of(&[tlv(0x31, &[&pair(b"a"), &pair(b"b")])]);
    for (name, shown) in [
        (of(&[rdn("O", 0x0c, b"Ward/CN=Dr Jones")]), "/O=Ward\\x2FCN=Dr Jones"),
        (of(&[rdn("O", 0x0c, b"Ward\n")]), "/O=Ward\\x0A"),
        (of(&[rdn("O", 0x0c, b"\\x2F")]), "/O=\\x5Cx2F"),
        (of(&[rdn("O", 0x0c, b"")]), "/O="),
        (two, "/CN=a+CN=b"),
        (of(&[]), "(empty name)"),
    ] {
        assert_eq!(name.to_string(), shown);
        assert!(name.matching().is_err(), "{shown}");
    }
}

#[test]
fn what_is_no_name_is_refused() {
    let set_without_attributes = seq(&[&tlv(0x31, &[])]);
    let many: Vec<Vec<u8>> = (0..65).map(|_| rdn("CN", 0x0c, b"x")).collect();
    let many = seq(&many.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let trailing = [name("/CN=x"), vec![0]].concat();
    for wrong in [&b""[..], b"noise", &tlv(0x31, &[]), &set_without_attributes, &many, &trailing] {
        assert!(Name::from_der(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_principal_is_its_encoded_name_within_its_authority() {
    let (one, two) = (Template::authority("/CN=One").self_signed(), Template::authority("/CN=Two").self_signed());
    let trust = store(&[&one, &two]);
    let principal = |issuer, subject: Vec<u8>| {
        let mut template = Template::person("/CN=x");
        template.subject = subject;
        let proven = chain::verify(&[&template.signed_by(issuer)], &trust, NOW).expect("good");
        x509::principal(&proven, None)
    };
    let jones = principal(&one, name("/O=Ward/CN=Dr Jones"));
    assert_eq!(jones.subject.display, "/O=Ward/CN=Dr Jones");
    assert_eq!(jones, principal(&one, name("/O=Ward/CN=Dr Jones")));
    let others = [
        principal(&two, name("/O=Ward/CN=Dr Jones")),
        principal(&one, seq(&[&rdn("O", 0x0c, b"Ward"), &rdn("CN", 0x13, b"Dr Jones")])),
    ];
    for other in others {
        assert_eq!(other.subject.display, jones.subject.display);
        assert_ne!(other.subject, jones.subject);
        assert_ne!(other.registrant(), jones.registrant());
    }
    let token = Principal::of_token(jwt::Proven {
        issuer: "https://a".into(),
        subject: "x\n".into(),
        groups: Vec::new(),
        valid_until: NOW,
        id: Some("7".into()),
        key: "ES256 1".into(),
    });
    assert_ne!(token.subject.kind, jones.subject.kind);
    assert_eq!(
        (token.subject.display.as_str(), token.proof.as_str()),
        ("https://a#x\\n", "token of https://a, ES256 1, id 7")
    );
}

#[test]
fn a_proof_ends_when_it_says() {
    let root = Template::authority("/CN=One").self_signed();
    let alice = Template::person("/CN=Alice").signed_by(&root);
    let proven = chain::verify(&[&alice], &store(&[&root]), NOW).expect("good");
    let principal = x509::principal(&proven, None);
    let end = u64::try_from(principal.valid_until).expect("after 1970");
    assert!(principal.is_valid_at(end) && !principal.is_valid_at(end + 1) && !principal.is_valid_at(u64::MAX));
}
