//! Authorities as files: the grid's hashed directory, PEM bundles, and what must not be put together.

use std::fs;

use eds_keystore::authn::{
    chain::{Reason, verify},
    trust::{
        Settings, TrustError, TrustStore,
        directory::{LoadError, Sources, load},
        fingerprint,
    },
};

use crate::{
    chain::{authority, store},
    forge::{DAY, Issued, NOW, Template, crl, pem},
};

const POLICY: &str =
    "access_id_CA X509 '/DC=org/CN=CA'\npos_rights globus CA:sign\ncond_subjects globus '\"/DC=org/*\"'\n";

fn certificate(issued: &Issued) -> String {
    pem("CERTIFICATE", &issued.der)
}

fn sources(path: &std::path::Path) -> Sources {
    Sources { directories: vec![path.into()], bundles: Vec::new() }
}

struct Grid {
    directory: tempfile::TempDir,
    root: Issued,
    alice: Issued,
}

/// A directory with one authority under both hashes, as the grid ships it.
fn grid() -> Grid {
    let directory = tempfile::tempdir().expect("a directory");
    let root = Template::authority("/DC=org/CN=CA").self_signed();
    let alice = Template::person("/DC=org/CN=Alice").signed_by(&root);
    for hash in ["0a1b2c3d", "fedcba98"] {
        fs::write(directory.path().join(format!("{hash}.0")), certificate(&root)).expect("written");
        fs::write(directory.path().join(format!("{hash}.signing_policy")), POLICY).expect("written");
    }
    fs::write(directory.path().join("README"), "not a certificate").expect("written");
    fs::write(directory.path().join("igtf.info"), "not a certificate").expect("written");
    Grid { directory, root, alice }
}

#[test]
fn a_hashed_directory_is_loaded_whole() {
    let Grid { directory, root, alice } = grid();
    let (trust, warnings) = load(&sources(directory.path()), Settings::default()).expect("loads");
    assert_eq!((trust.authorities().len(), warnings.len()), (1, 0), "both hashes are one authority");
    verify(&[&alice], &trust, NOW).expect("good");
    let outside = Template::person("/DC=net/CN=M").signed_by(&root);
    assert_eq!(verify(&[&outside], &trust, NOW).expect_err("policy").reason, Reason::SigningPolicy);
    for (list, text) in [
        (crl(&root, &root.key, (NOW - DAY, NOW + DAY), &[&alice.serial], &[]), true),
        (crl(&root, &root.key, (NOW - DAY, NOW + DAY), &[&alice.serial], &[]), false),
    ] {
        let content = if text { pem("X509 CRL", &list).into_bytes() } else { list };
        fs::write(directory.path().join("fedcba98.r0"), content).expect("written");
        let (trust, _) = load(&sources(directory.path()), Settings::default()).expect("loads");
        assert_eq!(verify(&[&alice], &trust, NOW).expect_err("revoked").reason, Reason::Revoked);
    }
}

#[test]
fn unreadable_lists_and_policies_make_their_authority_unusable() {
    let delta = |root: &Issued| {
        let indicator = crate::forge::extension("2.5.29.27", true, &crate::forge::integer(&[1]));
        pem("X509 CRL", &crl(root, &root.key, (NOW - DAY, NOW + DAY), &[], &[indicator]))
    };
    for (file, content) in [
        ("fedcba98.r0", Some("garbage".to_owned())),
        ("fedcba98.r0", Some(String::new())),
        ("fedcba98.r0", None),
        ("fedcba98.signing_policy", Some(POLICY.replace("pos_rights", "neg_rights"))),
    ] {
        let Grid { directory, root, alice } = grid();
        fs::write(directory.path().join(file), content.unwrap_or_else(|| delta(&root))).expect("written");
        if file.ends_with("policy") {
            fs::remove_file(directory.path().join("0a1b2c3d.0")).expect("removed");
        }
        let (trust, warnings) = load(&sources(directory.path()), Settings::default()).expect("loads");
        assert!(warnings.iter().any(|line| line.contains(file)), "{warnings:?}");
        let refused = verify(&[&alice], &trust, NOW).expect_err("unusable").reason;
        assert!(matches!(refused, Reason::UnusableAuthority(_)), "{file}: {refused}");
    }
}

#[test]
fn an_unreadable_certificate_is_left_out_with_a_warning() {
    let Grid { directory, alice, .. } = grid();
    fs::write(directory.path().join("00000000.0"), "garbage").expect("written");
    let (trust, warnings) = load(&sources(directory.path()), Settings::default()).expect("loads");
    assert!(warnings[0].contains("00000000.0") && warnings.len() == 1, "{warnings:?}");
    verify(&[&alice], &trust, NOW).expect("the others count");
}

#[test]
fn places_that_hold_no_authorities_are_errors() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(matches!(load(&sources(directory.path()), Settings::default()), Err(LoadError::Empty { .. })));
    assert!(matches!(
        load(&sources(&directory.path().join("none")), Settings::default()),
        Err(LoadError::Unreadable { .. })
    ));
    let file = directory.path().join("bundle.pem");
    for content in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(&file, content).expect("written");
        let sources = Sources { directories: Vec::new(), bundles: vec![file.clone()] };
        assert!(matches!(load(&sources, Settings::default()), Err(LoadError::NotCertificates { .. })), "{content:?}");
    }
}

#[test]
fn a_bundle_holds_several_authorities_and_their_lists() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, two) = (Template::authority("/CN=One").self_signed(), Template::authority("/CN=Two").self_signed());
    let list = crl(&one, &one.key, (NOW - DAY, NOW + DAY), &[&[7]], &[]);
    let file = directory.path().join("bundle.pem");
    fs::write(&file, format!("{}{}{}", certificate(&one), certificate(&two), pem("X509 CRL", &list))).expect("written");
    let (trust, _) =
        load(&Sources { directories: Vec::new(), bundles: vec![file] }, Settings::default()).expect("loads");
    let bob = Template::person("/CN=Bob").signed_by(&two);
    verify(&[&bob], &trust, NOW).expect("good");
    let alice = Template::person("/CN=Alice").signed_by(&one);
    assert_eq!(verify(&[&alice], &trust, NOW).expect_err("revoked").reason, Reason::Revoked);
}

#[test]
fn two_authorities_of_one_name_are_refused_unless_the_officer_says_that_they_are_one() {
    let (old, new) = (Template::authority("/CN=CA").self_signed(), Template::authority("/CN=CA").self_signed());
    let both = || vec![authority(&old), authority(&new)];
    let refused = TrustStore::new(both(), Vec::new(), Settings::default()).expect_err("two keys");
    let TrustError::SameName { fingerprint: told, .. } = &refused else { panic!("{refused}") };
    let stated = fingerprint(&authority(&new).certificate);
    assert_eq!(*told, eds_keystore::hex::encode(&stated));
    let settings = Settings { rekeyed: vec![stated], ..Settings::default() };
    let trust = TrustStore::new(both(), Vec::new(), settings).expect("stated");
    for issuer in [&old, &new] {
        let alice = Template::person("/CN=Alice").signed_by(issuer);
        verify(&[&alice], &trust, NOW).expect("under either key");
    }
    // The same key in a renewed certificate needs no statement.
    let mut renewed = Template::authority("/CN=CA");
    renewed.serial = vec![2];
    renewed.validity = (NOW - 2 * DAY, NOW - DAY);
    let expired = renewed.with_key_signed_by(old.key.clone(), &old);
    let alice = Template::person("/CN=Alice").signed_by(&old);
    verify(&[&alice], &store(&[&expired, &old]), NOW).expect("the certificate that is valid counts");
}

#[test]
fn what_is_not_an_authority_is_not_loaded_as_one() {
    let root = Template::authority("/CN=CA").self_signed();
    let mute = Template::new(crate::forge::name("/CN=Mute"), 1)
        .with(crate::forge::basic_constraints(true, None))
        .with(crate::forge::key_usage(0x80))
        .self_signed();
    let mut old = Template::new(crate::forge::name("/CN=Old CA"), 1);
    old.version = 1;
    let old = old.self_signed();
    for wrong in [
        &Template::person("/CN=Alice").signed_by(&root),
        &mute,
        &Template::new(crate::forge::name("/CN=X"), 1).self_signed(),
    ] {
        let result = TrustStore::new(vec![authority(wrong)], Vec::new(), Settings::default());
        assert!(matches!(result, Err(TrustError::NotAnAuthority { .. })));
    }
    let alice = Template::person("/CN=Alice").signed_by(&old);
    verify(&[&alice], &store(&[&old]), NOW).expect("a configured root of version 1");
}

#[test]
fn one_authority_with_two_policies_is_refused() {
    let Grid { directory, .. } = grid();
    fs::write(directory.path().join("fedcba98.signing_policy"), POLICY.replace("/DC=org/*", "/*")).expect("written");
    let result = load(&sources(directory.path()), Settings::default());
    assert!(matches!(result, Err(LoadError::Trust(TrustError::TwoPolicies { .. }))));
}
