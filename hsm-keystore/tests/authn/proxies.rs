//! RFC 3820 proxies: good ones, and every rule that refuses one.

use eds_keystore::authn::{
    chain::{Reason, verify},
    signature::BadSignature,
};

use crate::{
    chain::{World, reason, world},
    forge::{
        DAY, INDEPENDENT, INHERIT_ALL, Issued, LIMITED, NOW, SERVER_AUTH, SIGN, Template, basic_constraints, extension,
        key_usage, name, oid, proxy_cert_info, purposes, rdn, seq, tlv, with_cn,
    },
};

#[test]
fn proxies_speak_for_their_end_entity() {
    let World { alice, trust, .. } = world();
    let mut short = Template::proxy(&alice, "1", INHERIT_ALL);
    short.validity = (NOW - 10, NOW + 60);
    let first = short.signed_by(&alice);
    let second = Template::proxy(&first, "2", INHERIT_ALL).signed_by(&first);
    let proven = verify(&[&second, &first, &alice], &trust, NOW).expect("good");
    assert_eq!(proven.end_entity.subject().as_der(), alice.subject);
    assert_eq!(proven.proxies.len(), 2);
    assert_eq!(proven.valid_until, NOW + 60, "the shortest validity of the chain counts");
    assert!(!proven.limited);
    assert!(proven.how().to_string().starts_with("proxy, serial 07 of /DC=org/CN=CA"), "{}", proven.how());
}

#[test]
fn limitedness_is_inherited() {
    let World { alice, trust, .. } = world();
    let first = Template::proxy(&alice, "1", LIMITED).signed_by(&alice);
    let second = Template::proxy(&first, "2", INHERIT_ALL).signed_by(&first);
    assert!(verify(&[&first, &alice], &trust, NOW).expect("good").limited);
    assert!(verify(&[&second, &first, &alice], &trust, NOW).expect("good").limited);
}

#[test]
fn proxies_that_must_be_refused() {
    let World { root, alice, trust } = world();
    let bare = |cn: &str| Template::new(with_cn(&alice.subject, cn), 9);
    let proxy = || Template::proxy(&alice, "1", INHERIT_ALL);
    let info = |critical, language, policy| bare("1").with(proxy_cert_info(critical, None, language, policy));
    let mut early = proxy();
    early.validity = (NOW + 301, NOW + DAY);
    let mut late = proxy();
    late.validity = (NOW - DAY, NOW - 1);
    let mut two_names = proxy();
    two_names.subject = with_cn(&with_cn(&alice.subject, "1"), "2");
    let mut no_name = proxy();
    no_name.subject = alice.subject.clone();
    let mut other_name = proxy();
    other_name.subject = with_cn(&name("/DC=org/CN=Root"), "1");
    let mut not_cn = proxy();
    let inner = &alice.subject[2..];
    not_cn.subject = seq(&[inner, &rdn("OU", 0x0c, b"1")]);
    let mut double = proxy();
    let two =
        tlv(0x31, &[&seq(&[&oid("2.5.4.3"), &tlv(0x0c, &[b"1"])]), &seq(&[&oid("2.5.4.10"), &tlv(0x0c, &[b"1"])])]);
    double.subject = seq(&[inner, &two]);
    let other = "1.2.3.4";
    let table: Vec<(&str, Template, Reason)> = vec![
        ("proxyCertInfo not critical", info(false, INHERIT_ALL, None), Reason::ProxyInfoNotCritical),
        ("independent", info(true, INDEPENDENT, None), Reason::IndependentProxy),
        ("another language", info(true, other, Some(b"x")), Reason::ProxyPolicy(other.into())),
        ("policy with inherit-all", info(true, INHERIT_ALL, Some(b"x")), Reason::ProxyPolicyText),
        ("policy with limited", info(true, LIMITED, Some(b"x")), Reason::ProxyPolicyText),
        ("an authority", proxy().with(basic_constraints(true, None)), Reason::ProxyTooPowerful),
        (
            "signs certificates",
            bare("1").with(key_usage(SIGN | 0x04)).with(proxy_cert_info(true, None, INHERIT_ALL, None)),
            Reason::ProxyTooPowerful,
        ),
        (
            "signs commitments",
            bare("1").with(key_usage(SIGN | 0x40)).with(proxy_cert_info(true, None, INHERIT_ALL, None)),
            Reason::ProxyTooPowerful,
        ),
        (
            "may not sign",
            bare("1").with(key_usage(0x20)).with(proxy_cert_info(true, None, INHERIT_ALL, None)),
            Reason::MayNotSign,
        ),
        (
            "subjectAltName",
            proxy().with(extension("2.5.29.17", false, &seq(&[&tlv(0x82, &[b"x"])]))),
            Reason::ProxyAlternativeName,
        ),
        (
            "issuerAltName",
            proxy().with(extension("2.5.29.18", false, &seq(&[&tlv(0x82, &[b"x"])]))),
            Reason::ProxyAlternativeName,
        ),
        ("purpose", proxy().with(purposes(&[SERVER_AUTH])), Reason::NotForClients),
        ("critical", proxy().with(extension(other, true, &[5, 0])), Reason::CriticalExtension(other.into())),
        ("not yet valid", early, Reason::NotYetValid),
        ("expired", late, Reason::Expired),
        ("two more names", two_names, Reason::ProxySubject),
        ("no more name", no_name, Reason::ProxySubject),
        ("another name", other_name, Reason::ProxySubject),
        ("not a common name", not_cn, Reason::ProxySubject),
        ("a name of two attributes", double, Reason::ProxySubject),
        ("draft", proxy().with(extension("1.3.6.1.4.1.3536.1.222", true, &seq(&[]))), Reason::LegacyGt3),
        ("draft only", bare("1").with(extension("1.3.6.1.4.1.3536.1.222", true, &seq(&[]))), Reason::LegacyGt3),
        ("Globus 2", bare("proxy"), Reason::LegacyGt2("proxy".into())),
        ("Globus 2, limited", bare("limited proxy"), Reason::LegacyGt2("limited proxy".into())),
        ("no proxyCertInfo", bare("1"), Reason::NotAnAuthority),
    ];
    for (what, template, wanted) in table {
        let proxy = template.signed_by(&alice);
        assert_eq!(reason(verify(&[&proxy, &alice], &trust, NOW)), wanted, "{what}");
    }
    // By whom it is issued.
    let by_root = Template::proxy(&root, "1", INHERIT_ALL).signed_by(&root);
    assert_eq!(reason(verify(&[&by_root, &root], &trust, NOW)), Reason::ProxyOfAuthority);
    assert_eq!(reason(verify(&[&by_root], &trust, NOW)), Reason::ProxyOfAuthority, "even if the authority is not sent");
    let good = proxy().signed_by(&alice);
    assert_eq!(reason(verify(&[&good], &trust, NOW)), Reason::ProxyIssuerMissing);
    let bob = Template::person("/DC=org/CN=Alice").signed_by(&root);
    assert_eq!(
        reason(verify(&[&good, &bob], &trust, NOW)),
        Reason::Signature(BadSignature::Wrong),
        "of the same name, another key"
    );
    let mute = Template::new(name("/DC=org/CN=Mute"), 8).with(key_usage(0x20)).signed_by(&root);
    let of_mute = Template::proxy(&mute, "1", INHERIT_ALL).signed_by(&mute);
    assert_eq!(reason(verify(&[&of_mute, &mute], &trust, NOW)), Reason::MayNotSign, "its issuer may not sign");
    let mut expired = Template::person("/DC=org/CN=Old");
    expired.validity = (NOW - DAY, NOW - 1);
    let expired = expired.signed_by(&root);
    let of_expired = Template::proxy(&expired, "1", INHERIT_ALL).signed_by(&expired);
    assert_eq!(reason(verify(&[&of_expired, &expired], &trust, NOW)), Reason::Expired, "validity of the end entity");
}

#[test]
fn the_issuer_is_found_among_others_of_its_name() {
    let World { alice, trust, .. } = world();
    let mut sent = vec![Template::proxy(&alice, "1", INHERIT_ALL).signed_by(&alice).der];
    for _ in 0..7 {
        let twin = Template::person("/DC=org/CN=Alice").self_signed();
        sent.push(twin.der);
    }
    let refused = reason(verify(&sent, &trust, NOW));
    assert_eq!(refused, Reason::Signature(BadSignature::Wrong));
    let mut chain = vec![alice];
    for depth in 0..7 {
        let above = chain.last().expect("one");
        let next = Template::proxy(above, &depth.to_string(), INHERIT_ALL).signed_by(above);
        chain.push(next);
    }
    // For each proxy a twin of its issuer with another key comes first.
    let mut sent: Vec<Vec<u8>> = vec![chain[7].der.clone()];
    for level in (1..7).rev() {
        let twin =
            Template::proxy(&chain[level - 1], &(level - 1).to_string(), INHERIT_ALL).signed_by(&chain[level - 1]);
        sent.extend([twin.der, chain[level].der.clone()]);
    }
    sent.push(chain[0].der.clone());
    assert_eq!(sent.len(), 14);
    assert_eq!(verify(&sent, &trust, NOW).expect("good").proxies.len(), 7);
}

#[test]
fn proxy_path_lengths_are_counted_in_proxies() {
    let World { alice, trust, .. } = world();
    for (length, below, good) in
        [(Some(0), 0, true), (Some(0), 1, false), (Some(1), 1, true), (Some(1), 2, false), (None, 5, true)]
    {
        let template =
            Template::new(with_cn(&alice.subject, "1"), 9).with(proxy_cert_info(true, length, INHERIT_ALL, None));
        let mut chain = vec![template.signed_by(&alice)];
        for _ in 0..below {
            let above = chain.last().expect("one");
            chain.push(Template::proxy(above, "2", INHERIT_ALL).signed_by(above));
        }
        let sent: Vec<&Issued> = chain.iter().rev().chain([&alice]).collect();
        let refused = verify(&sent, &trust, NOW).err().map(|refusal| refusal.reason);
        assert_eq!(refused, if good { None } else { Some(Reason::ProxyPathLength) }, "{length:?} {below}");
    }
}

#[test]
fn any_flipped_bit_of_a_proxy_chain_is_refused_or_changes_nothing() {
    let World { alice, trust, .. } = world();
    let proxy = Template::proxy(&alice, "1", INHERIT_ALL).signed_by(&alice);
    for position in 0..proxy.der.len() {
        for bit in 0..8 {
            let mut changed = proxy.der.clone();
            changed[position] ^= 1 << bit;
            assert!(verify(&[&changed, &alice.der], &trust, NOW).is_err(), "byte {position} bit {bit}");
        }
    }
}
