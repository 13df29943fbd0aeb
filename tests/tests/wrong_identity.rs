//! Who is nobody the key servers know, or not the owner of a key, gets nothing; and a client talks to no impostor.

use std::fs;

use eds_tests::{
    Outcome,
    cluster::Cluster,
    files,
    pki::Authority,
    user::{User, exit},
};

/// A cluster, its user Alice, and her encrypted file, to be given to somebody else.
fn alices_cipher() -> Outcome<(Cluster, Vec<u8>)> {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), "for Alice alone")?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    let cipher = fs::read(alice.home().join("cipher"))?;
    Ok((cluster, cipher))
}

/// Expects that this user can neither open the cipher nor encrypt anything, and that nothing is left of the attempt.
fn is_turned_away(user: &User, cipher: &[u8], said: &[&str]) -> Outcome {
    fs::write(user.home().join("cipher"), cipher)?;
    fs::write(user.home().join("plain"), "something")?;
    let before = files::names(user.home())?;
    user.eds(["decrypt", "cipher", "-o", "out"])?.refused(exit::DENIED, said)?;
    user.eds(["decrypt", "cipher", "-o", "-"])?.refused(exit::DENIED, said)?;
    user.eds(["encrypt", "plain", "-o", "other"])?.refused(exit::DENIED, said)?;
    let mut after = files::names(user.home())?;
    after.retain(|name| name != "state");
    let mut before = before;
    before.retain(|name| name != "state");
    assert_eq!(after, before);
    Ok(())
}

#[test]
fn a_certificate_of_another_authority_is_turned_away() -> Outcome {
    let (cluster, cipher) = alices_cipher()?;
    let other = Authority::new("another CA")?;
    is_turned_away(&cluster.user_with("mallory", &other.person("alice")?)?, &cipher, &["node 1"])
}

#[test]
fn an_authority_of_the_same_name_is_turned_away() -> Outcome {
    let (cluster, cipher) = alices_cipher()?;
    let twin = Authority::new("EDS test CA")?;
    is_turned_away(&cluster.user_with("mallory", &twin.person("alice")?)?, &cipher, &["node 1"])
}

#[test]
fn an_expired_certificate_is_turned_away() -> Outcome {
    let (cluster, cipher) = alices_cipher()?;
    let expired = cluster.authority().expired_person("alice")?;
    is_turned_away(&cluster.user_with("late", &expired)?, &cipher, &["expired"])
}

#[test]
fn key_servers_of_an_unknown_authority_are_not_talked_to() -> Outcome {
    let (cluster, cipher) = alices_cipher()?;
    let other = cluster.folder().join("other-ca.crt");
    Authority::new("another CA")?.write(&other)?;
    let user = cluster.user_who_trusts("bob", &cluster.authority().person("bob")?, &other)?;
    is_turned_away(&user, &cipher, &["node 1", "TLS"])
}

#[test]
fn somebody_else_with_a_good_certificate_gets_no_share() -> Outcome {
    let (cluster, cipher) = alices_cipher()?;
    let bob = cluster.user("bob")?;
    fs::write(bob.home().join("cipher"), &cipher)?;
    bob.eds(["decrypt", "cipher", "-o", "out"])?.refused(exit::DENIED, &["node 1", "node 2"])?;
    assert!(!bob.home().join("out").exists());
    Ok(())
}

#[test]
fn a_key_file_that_others_may_read_is_not_used() -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;
    let (cluster, cipher) = alices_cipher()?;
    let careless = cluster.user("careless")?;
    fs::write(careless.home().join("cipher"), &cipher)?;
    fs::set_permissions(careless.home().join("me.key"), fs::Permissions::from_mode(0o644))?;
    careless.eds(["decrypt", "cipher", "-o", "out"])?.refused(exit::USAGE, &["me.key", "chmod 600"])?;
    Ok(())
}
