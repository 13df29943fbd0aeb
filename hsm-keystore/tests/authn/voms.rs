//! VOMS attributes made by the test's own hand: good ones, targets, and a table of forgeries.

use eds_keystore::authn::{
    chain::{self, Proven},
    trust::TrustStore,
    voms::{Attested, Refusal, VomsDirectory, directory::parse_lsc, verify},
};

use crate::{
    chain::store,
    forge::{
        Attributes, DAY, INHERIT_ALL, Issued, Key, NOW, Template, authority_key_id, extension, name, seq, targets, tlv,
        voms_extension,
    },
};

const SERVER: &str = "/DC=org/CN=voms.example.org";

pub(crate) struct Grid {
    pub(crate) root: Issued,
    pub(crate) server: Issued,
    pub(crate) alice: Issued,
    pub(crate) trust: TrustStore,
    pub(crate) vomsdir: VomsDirectory,
}

pub(crate) fn grid() -> Grid {
    let root = Template::authority("/DC=org/CN=CA").self_signed();
    let server = Template::person(SERVER).signed_by(&root);
    let alice = Template::person("/DC=org/CN=Alice").signed_by(&root);
    let trust = store(&[&root]);
    let mut vomsdir = VomsDirectory::default();
    vomsdir.list("myvo", "voms.example.org", parse_lsc(&format!("{SERVER}\n/DC=org/CN=CA\n")).expect("pairs"));
    Grid { root, server, alice, trust, vomsdir }
}

impl Grid {
    pub(crate) fn attributes(&self) -> Attributes {
        Attributes::new(&self.alice, &self.server, &[], &["/myvo/radiology/Role=physician", "/myvo"])
    }

    fn proven(&self, holder: &Issued, extension: Vec<u8>) -> Proven {
        let proxy = Template::proxy(holder, "1", INHERIT_ALL).with(extension).signed_by(holder);
        chain::verify(&[&proxy, holder], &self.trust, NOW).expect("the chain is good")
    }

    fn judge(&self, certificates: &[&[u8]]) -> Result<Option<Attested>, Refusal> {
        let proven = self.proven(&self.alice, voms_extension(certificates));
        verify(&proven, &self.trust, &self.vomsdir, &["eds.example.org".into()], NOW)
    }
}

#[test]
fn fqans_come_in_order_and_in_their_shortest_form() {
    let grid = grid();
    let long = [
        "/myvo/radiology/Role=physician/Capability=NULL",
        "/myvo/Role=NULL/Capability=NULL",
        "/myvo/radiology/Role=NULL",
        "/myvo",
    ];
    let certificate = Attributes::new(&grid.alice, &grid.server, &[], &long).signed_by(&grid.server.key);
    let attested = grid.judge(&[&certificate]).expect("good").expect("some");
    assert_eq!(attested.fqans, ["/myvo/radiology/Role=physician", "/myvo", "/myvo/radiology"]);
    assert_eq!(attested.sources, ["VO myvo, server voms.example.org, serial 2a"]);
    assert_eq!(attested.valid_until, NOW + DAY / 2);
}

#[test]
fn a_chain_without_attributes_has_no_groups() {
    let grid = grid();
    let proxy = Template::proxy(&grid.alice, "1", INHERIT_ALL).signed_by(&grid.alice);
    let proven = chain::verify(&[&proxy, &grid.alice], &grid.trust, NOW).expect("good");
    assert_eq!(verify(&proven, &grid.trust, &grid.vomsdir, &[], NOW), Ok(None));
}

#[test]
fn the_attributes_nearest_to_the_key_count_and_several_servers_add_up() {
    let grid = grid();
    let one = Attributes::new(&grid.alice, &grid.server, &[], &["/myvo"]).signed_by(&grid.server.key);
    let two = Attributes::new(&grid.alice, &grid.server, &[], &["/myvo/a", "/myvo"]).signed_by(&grid.server.key);
    assert_eq!(grid.judge(&[&one, &two]).expect("good").expect("some").fqans, ["/myvo", "/myvo/a"]);
    let first = Template::proxy(&grid.alice, "1", INHERIT_ALL).with(voms_extension(&[&one])).signed_by(&grid.alice);
    let second = Template::proxy(&first, "2", INHERIT_ALL).with(voms_extension(&[&two])).signed_by(&first);
    let proven = chain::verify(&[&second, &first, &grid.alice], &grid.trust, NOW).expect("good");
    let attested = verify(&proven, &grid.trust, &grid.vomsdir, &[], NOW).expect("good").expect("some");
    assert_eq!(attested.fqans, ["/myvo/a", "/myvo"]);
}

#[test]
fn attributes_in_a_delegated_proxy_are_found() {
    let grid = grid();
    let certificate = grid.attributes().signed_by(&grid.server.key);
    let first =
        Template::proxy(&grid.alice, "1", INHERIT_ALL).with(voms_extension(&[&certificate])).signed_by(&grid.alice);
    let second = Template::proxy(&first, "2", INHERIT_ALL).signed_by(&first);
    let proven = chain::verify(&[&second, &first, &grid.alice], &grid.trust, NOW).expect("good");
    assert!(verify(&proven, &grid.trust, &grid.vomsdir, &[], NOW).expect("good").is_some());
}

#[test]
fn targets_admit_this_node_only() {
    let grid = grid();
    let judge = |extension: Vec<u8>| grid.judge(&[&grid.attributes().with(extension).signed_by(&grid.server.key)]);
    let raw = |critical, targets: &[u8]| extension("2.5.29.55", critical, &seq(&[targets]));
    let host = |host: &str| tlv(0xa0, &[&tlv(0x82, &[host.as_bytes()])]);
    for (what, extension) in [
        ("as VOMS writes it", targets(&["eds.example.org"])),
        ("one of several", targets(&["other.example.org", "EDS.example.org"])),
        ("as a URI", targets(&["https://eds.example.org:7443/v1"])),
        ("as RFC 5755 writes it", raw(true, &seq(&[&host("eds.example.org")]))),
        ("not critical", raw(false, &seq(&[&host("eds.example.org")]))),
    ] {
        judge(extension).expect(what);
    }
    let group = tlv(0xa1, &[&tlv(0x82, &[b"eds.example.org"])]);
    for (what, extension) in [
        ("another host", targets(&["other.example.org"])),
        ("a longer host", targets(&["eds.example.org.evil.org"])),
        ("user info in front", targets(&["https://eds.example.org@evil.org"])),
        ("none, as voms-proxy-fake writes it", extension("2.5.29.55", true, &seq(&[&seq(&[])]))),
        ("a group of that name", raw(true, &seq(&[&group]))),
        ("not critical, another host", raw(false, &seq(&[&host("other.example.org")]))),
    ] {
        assert_eq!(judge(extension), Err(Refusal::OtherTarget), "{what}");
    }
}

#[test]
fn forgeries_that_must_fail() {
    let grid = grid();
    let Grid { root, server, alice, .. } = &grid;
    let good = || grid.attributes();
    let bob = Template::person("/DC=org/CN=Bob");
    let mut bob = bob;
    bob.serial = vec![8];
    let bob = bob.signed_by(root);
    // A self-made CA of the same name, with a server of the same name.
    let fake_root = Template::authority("/DC=org/CN=CA").self_signed();
    let fake_server = Template::person(SERVER).signed_by(&fake_root);
    let unlisted = Template::person("/DC=org/CN=other.example.org").signed_by(root);
    let mute = Template::new(name(SERVER), 3).with(crate::forge::key_usage(0x20)).signed_by(root);
    let mut expired_server = Template::person(SERVER);
    expired_server.validity = (NOW - DAY, NOW - 1);
    let expired_server = expired_server.signed_by(root);
    let of = |holder: &Issued, by: &Issued, above: &[&Issued]| Attributes::new(holder, by, above, &["/myvo"]);
    let mut subject_as_issuer = good();
    subject_as_issuer.holder_issuer = alice.subject.clone();
    let mut other_issuer = good();
    other_issuer.issuer = name("/DC=org/CN=other.example.org");
    let mut expired = good();
    expired.validity = (NOW - DAY, NOW - 1);
    let mut early = good();
    early.validity = (NOW + 301, NOW + DAY);
    let with_uri = |uri: &str| Attributes { uri: uri.into(), ..good() };
    let with_fqan = |fqan: &str| Attributes { fqans: vec!["/myvo".into(), fqan.into()], ..good() };
    let not_listed = || Refusal::NotListed { vo: "myvo".into(), host: "voms.example.org".into() };
    let unknown = |vo: &str, host: &str| Refusal::UnknownServer { vo: vo.into(), host: host.into() };
    let outside = || Refusal::OutsideOfVo { vo: "myvo".into() };
    let table: Vec<(&str, Vec<u8>, Refusal)> = vec![
        ("the attributes of Bob", of(&bob, server, &[]).signed_by(&server.key), Refusal::OtherHolder),
        ("a holder named by subject", subject_as_issuer.signed_by(&server.key), Refusal::OtherHolder),
        ("another issuer", other_issuer.signed_by(&server.key), Refusal::OtherIssuer),
        ("expired", expired.signed_by(&server.key), Refusal::Expired),
        ("not yet valid", early.signed_by(&server.key), Refusal::NotYetValid),
        ("signed by Alice", good().signed_by(&alice.key), Refusal::Signature),
        ("signed by another key", good().signed_by(&Key::new()), Refusal::Signature),
        ("a server that is not listed", of(alice, &unlisted, &[]).signed_by(&unlisted.key), not_listed()),
        ("a longer chain than listed", of(alice, server, &[root]).signed_by(&server.key), not_listed()),
        ("no certificates", good().replace(0, None).signed_by(&server.key), not_listed()),
        (
            "no .lsc for the host",
            with_uri("myvo://x.example.org:1").signed_by(&server.key),
            unknown("myvo", "x.example.org"),
        ),
        (
            "no .lsc for the VO",
            with_uri("othervo://voms.example.org:1").signed_by(&server.key),
            unknown("othervo", "voms.example.org"),
        ),
        ("no VO", with_uri("voms.example.org").signed_by(&server.key), Refusal::NoVo),
        ("a VO that leads elsewhere", with_uri("..://voms.example.org:1").signed_by(&server.key), Refusal::NoVo),
        ("a host that leads elsewhere", with_uri("myvo://../voms:1").signed_by(&server.key), Refusal::NoVo),
        ("a group of another VO", with_fqan("/othervo/admin").signed_by(&server.key), outside()),
        ("a VO that begins alike", with_fqan("/myvo2").signed_by(&server.key), outside()),
        ("not an FQAN", with_fqan("/myvo/\u{0}").signed_by(&server.key), outside()),
        (
            "an unknown critical extension",
            good().with(extension("1.2.3.4", true, &[5, 0])).signed_by(&server.key),
            Refusal::CriticalExtension("1.2.3.4".into()),
        ),
        ("no noRevAvail", good().replace(1, None).signed_by(&server.key), Refusal::Revocable),
        ("no authorityKeyIdentifier", good().replace(2, None).signed_by(&server.key), Refusal::KeyIdentifier),
        (
            "another key identifier",
            good().replace(2, Some(authority_key_id(b"other"))).signed_by(&server.key),
            Refusal::KeyIdentifier,
        ),
        (
            "an empty key identifier",
            good().replace(2, Some(extension("2.5.29.35", false, &seq(&[])))).signed_by(&server.key),
            Refusal::KeyIdentifier,
        ),
        ("an extension twice", good().with(crate::forge::no_revocation()).signed_by(&server.key), Refusal::Malformed),
        ("no FQAN", Attributes { fqans: Vec::new(), ..good() }.signed_by(&server.key), Refusal::Malformed),
    ];
    for (what, certificate, wanted) in table {
        assert_eq!(grid.judge(&[&certificate]), Err(wanted), "{what}");
    }
    for (what, by) in [
        ("a self-made CA", &fake_server),
        ("a server that may not sign", &mute),
        ("an expired server", &expired_server),
    ] {
        let certificate = of(alice, by, &[]).signed_by(&by.key);
        assert!(matches!(grid.judge(&[&certificate]), Err(Refusal::Signer(_))), "{what}");
    }
    // The self-made CA sent along, listed pair by pair by a careless officer: its certificate is still no authority.
    let mut careless = grid.vomsdir.clone();
    careless.list(
        "myvo",
        "voms.example.org",
        parse_lsc(&format!("{SERVER}\n/DC=org/CN=CA\n/DC=org/CN=CA\n/DC=org/CN=CA\n")).expect("pairs"),
    );
    let certificate = of(alice, &fake_server, &[&fake_root]).signed_by(&fake_server.key);
    let proven = grid.proven(alice, voms_extension(&[&certificate]));
    assert!(matches!(verify(&proven, &grid.trust, &careless, &[], NOW), Err(Refusal::Signer(_))));
    // One bad certificate beside a good one.
    let bad = of(&bob, server, &[]).signed_by(&server.key);
    assert_eq!(grid.judge(&[&good().signed_by(&server.key), &bad]), Err(Refusal::OtherHolder));
    // Too many, none, garbage.
    let one = good().signed_by(&server.key);
    assert_eq!(grid.judge(&[one.as_slice(); 9]), Err(Refusal::TooMany));
    assert_eq!(grid.judge(&[]), Err(Refusal::Malformed));
    let proven = grid.proven(alice, extension("1.3.6.1.4.1.8005.100.100.5", false, b"garbage"));
    assert_eq!(verify(&proven, &grid.trust, &grid.vomsdir, &[], NOW), Err(Refusal::Malformed));
}

#[test]
fn a_stolen_certificate_does_not_fit_another_proxy() {
    let grid = grid();
    let mut bob = Template::person("/DC=org/CN=Bob");
    bob.serial = vec![8];
    let bob = bob.signed_by(&grid.root);
    let stolen = grid.attributes().signed_by(&grid.server.key);
    let proven = grid.proven(&bob, voms_extension(&[&stolen]));
    assert_eq!(verify(&proven, &grid.trust, &grid.vomsdir, &[], NOW), Err(Refusal::OtherHolder));
    // The same serial number under another authority is another holder.
    let other_root = Template::authority("/DC=org/CN=Other CA").self_signed();
    let namesake = Template::person("/DC=org/CN=Alice").signed_by(&other_root);
    let trust = store(&[&grid.root, &other_root]);
    let proxy = Template::proxy(&namesake, "1", INHERIT_ALL).with(voms_extension(&[&stolen])).signed_by(&namesake);
    let proven = chain::verify(&[&proxy, &namesake], &trust, NOW).expect("good");
    assert_eq!(verify(&proven, &trust, &grid.vomsdir, &[], NOW), Err(Refusal::OtherHolder));
}

#[test]
fn the_server_of_one_vo_does_not_attest_for_another() {
    let mut grid = grid();
    let other = Template::person("/DC=org/CN=voms.other.org").signed_by(&grid.root);
    grid.vomsdir.list(
        "othervo",
        "voms.example.org",
        parse_lsc("/DC=org/CN=voms.other.org\n/DC=org/CN=CA\n").expect("a pair"),
    );
    // Signed by the server of myvo, in the name of the other VO, and the other way round.
    let mut foreign = Attributes::new(&grid.alice, &grid.server, &[], &["/othervo"]);
    foreign.uri = "othervo://voms.example.org:15000".into();
    let refused = Refusal::NotListed { vo: "othervo".into(), host: "voms.example.org".into() };
    assert_eq!(grid.judge(&[&foreign.signed_by(&grid.server.key)]), Err(refused));
    let foreign = Attributes::new(&grid.alice, &other, &[], &["/myvo"]);
    let refused = Refusal::NotListed { vo: "myvo".into(), host: "voms.example.org".into() };
    assert_eq!(grid.judge(&[&foreign.signed_by(&other.key)]), Err(refused));
}

#[test]
fn a_server_may_be_pinned_by_its_certificate_instead() {
    let grid = grid();
    let certificate = grid.attributes().replace(0, None).signed_by(&grid.server.key);
    let proven = grid.proven(&grid.alice, voms_extension(&[&certificate]));
    let mut pinned = VomsDirectory::default();
    pinned
        .pin("myvo", eds_keystore::authn::certificate::Certificate::from_der(&grid.server.der).expect("a certificate"));
    assert!(verify(&proven, &grid.trust, &pinned, &[], NOW).expect("good").is_some());
    let mut other = VomsDirectory::default();
    other.pin(
        "othervo",
        eds_keystore::authn::certificate::Certificate::from_der(&grid.server.der).expect("a certificate"),
    );
    let refused = Refusal::UnknownServer { vo: "myvo".into(), host: "voms.example.org".into() };
    assert_eq!(verify(&proven, &grid.trust, &other, &[], NOW), Err(refused), "pinned for another VO");
}

#[test]
fn an_intermediate_above_the_server_is_used_but_not_trusted() {
    let grid = grid();
    let sub = Template::authority("/DC=org/CN=Sub").signed_by(&grid.root);
    let server = Template::person(SERVER).signed_by(&sub);
    let mut vomsdir = VomsDirectory::default();
    let lines = format!("{SERVER}\n/DC=org/CN=Sub\n/DC=org/CN=Sub\n/DC=org/CN=CA\n");
    vomsdir.list("myvo", "voms.example.org", parse_lsc(&lines).expect("pairs"));
    let certificate = Attributes::new(&grid.alice, &server, &[&sub], &["/myvo"]).signed_by(&server.key);
    let proven = grid.proven(&grid.alice, voms_extension(&[&certificate]));
    assert!(verify(&proven, &grid.trust, &vomsdir, &[], NOW).expect("good").is_some());
    let fake_sub = Template::authority("/DC=org/CN=Sub").signed_by(&Template::authority("/DC=org/CN=CA").self_signed());
    let server = Template::person(SERVER).signed_by(&fake_sub);
    let certificate = Attributes::new(&grid.alice, &server, &[&fake_sub], &["/myvo"]).signed_by(&server.key);
    let proven = grid.proven(&grid.alice, voms_extension(&[&certificate]));
    assert!(matches!(verify(&proven, &grid.trust, &vomsdir, &[], NOW), Err(Refusal::Signer(_))));
}

#[test]
fn any_flipped_bit_of_the_attributes_is_refused() {
    let grid = grid();
    let certificate = grid.attributes().signed_by(&grid.server.key);
    let extension = seq(&[&seq(&[&certificate])]);
    let mut proven = grid.proven(&grid.alice, voms_extension(&[&certificate]));
    let proxy = proven.proxies.remove(0);
    let whole = proxy.extensions().voms.clone().expect("attributes");
    assert_eq!(whole, extension);
    // The embedded certificate of the server is long: every byte, one bit of each, in turn.
    for position in 0..extension.len() {
        let mut changed = extension.clone();
        changed[position] ^= 1 << (position % 8);
        let raw = crate::forge::extension("1.3.6.1.4.1.8005.100.100.5", false, &changed);
        let proxy = Template::proxy(&grid.alice, "1", INHERIT_ALL).with(raw).signed_by(&grid.alice);
        let proven = chain::verify(&[&proxy, &grid.alice], &grid.trust, NOW).expect("the chain is good");
        assert!(verify(&proven, &grid.trust, &grid.vomsdir, &[], NOW).is_err(), "byte {position}");
    }
}
