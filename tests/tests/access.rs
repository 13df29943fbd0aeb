//! Who may use a key, over real nodes: granted, revoked while nodes are away, repaired, explained, deleted; an image whose
//! patient data is a physician's alone.

use std::fs;

use eds_tests::{
    Outcome, Trouble,
    cluster::{Cluster, Plan},
    dicom, sample,
    user::{Run, User, exit},
};

/// Encrypts a file and returns its key.
fn encrypt(user: &User, needed: &str) -> Outcome<String> {
    fs::write(user.home().join("plain"), sample::bytes("content", 50_000))?;
    let done = user.eds(["encrypt", "plain", "-o", "cipher", "--force", "-m", needed])?.success()?;
    Ok(done.key())
}

/// Decrypts somebody else's file.
fn decrypt(user: &User, owner: &User) -> Outcome<Run> {
    let cipher = owner.home().join("cipher");
    user.eds(["decrypt".as_ref(), cipher.as_os_str(), "-o".as_ref(), "back".as_ref(), "--force".as_ref()])
}

fn assert_reads(user: &User, owner: &User) -> Outcome {
    decrypt(user, owner)?.success()?;
    assert_eq!(fs::read(user.home().join("back"))?, sample::bytes("content", 50_000));
    Ok(fs::remove_file(user.home().join("back"))?)
}

#[test]
fn a_revocation_is_told_as_effective_only_when_it_is() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 4, floor: 2, relayed: &[] })?;
    let (alice, bob) = (cluster.user("alice")?, cluster.user("bob")?);
    let key = encrypt(&alice, "2")?;
    let bob_name = bob.name()?;
    decrypt(&bob, &alice)?.refused(exit::DENIED, &["0 of the"])?;
    bob.eds(["key", "acl", &key])?.refused(exit::DENIED, &["node 1", "lacks the permission", "eds key why"])?;

    let granted = alice.eds(["key", "setacl", "-m", &format!("{bob_name}:g"), &key])?.success()?;
    assert!(
        granted.stderr.contains("is a name of ") && granted.stderr.contains("version 1 is on 4 of 4"),
        "{granted:?}"
    );
    assert_reads(&bob, &alice)?;
    // What is printed can be fed back, and changes nothing.
    let shown = alice.eds(["key", "acl", &key])?.success()?;
    fs::write(alice.home().join("acl"), &shown.stdout)?;
    let again = alice.eds(["key", "setacl", "-X", "acl", &key])?.success()?;
    assert!(again.stderr.contains("nothing to change"), "{again:?}");

    // One node is frozen: the three others are n - m + 1, so it is effective, and the fourth is named.
    cluster.node(4)?.pause()?;
    let revoked = alice.eds(["key", "setacl", "-d", &bob_name, &key])?.success()?;
    for said in ["warning: node 4", "version 2 is on 3 of 4", "takes nothing back that was fetched before"] {
        assert!(revoked.stderr.contains(said), "{said}: {revoked:?}");
    }
    cluster.node(4)?.resume()?;
    decrypt(&bob, &alice)?.refused(exit::DENIED, &["1 of the 2 shares"])?;
    let shown = alice.eds(["key", "sync", "--dry-run", &key])?.success()?.text();
    assert_eq!(shown.matches(", the list that counts").count(), 3, "{shown}");
    assert!(
        shown.contains(", differs") && shown.contains("  - # Version: 1") && shown.contains("  + # Version: 2"),
        "{shown}"
    );
    let synced = alice.eds(["key", "sync", &key])?.success()?;
    assert!(synced.stderr.contains("version 2 is on 4 of 4"), "{synced:?}");

    // Two nodes are away: as many as open the key still have the old list.
    alice.eds(["key", "setacl", "-m", &format!("{bob_name}:lg"), &key])?.success()?;
    for number in [3, 4] {
        cluster.node(number)?.kill()?;
    }
    let missing = ["NOT YET EFFECTIVE", "2 of 4 nodes", "3 must", "node 3", "node 4", "eds key sync"];
    alice.eds(["key", "setacl", "-d", &bob_name, &key])?.refused(exit::UNAVAILABLE, &missing)?;
    for number in [3, 4] {
        cluster.node(number)?.start()?;
    }
    // It was the truth.
    assert_reads(&bob, &alice)?;
    let synced = alice.eds(["key", "sync", &key])?.success()?;
    assert!(synced.stderr.contains("version 4 is on 4 of 4"), "{synced:?}");
    decrypt(&bob, &alice)?.refused(exit::DENIED, &["0 of the"])?;
    assert_reads(&alice, &alice)
}

#[test]
fn a_researcher_is_given_the_image_and_a_physician_the_patient_too() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let original = fs::read(dicom::ct_small()?)?;
    fs::write(alice.home().join("scan.dcm"), &original)?;
    let image = alice.eds(["register", "scan.dcm"])?.success()?.id();
    let (researcher, physician) = (cluster.user("researcher")?, cluster.user("physician")?);
    for user in [&researcher, &physician] {
        // One catalog, metadata service and storage for all.
        let mut config = fs::read_to_string(user.config())?;
        for place in ["objects", "catalog.sqlite", "metadata.sqlite"] {
            let shared = alice.home().join(place);
            config = config.replace(&format!("path = {place:?}"), &format!("path = {shared:?}"));
        }
        fs::write(user.config(), config)?;
        user.eds(["retrieve", &image, "-o", "scan"])?.refused(exit::DENIED, &[])?;
    }
    let may = |user: &User| Ok::<_, Trouble>(format!("{}:----l-g-", user.name()?));
    let (r, p) = (may(&researcher)?, may(&physician)?);
    alice.eds(["key", "setacl", "-m", &r, "-m", &p, &image])?.success()?;
    alice.eds(["key", "setacl", "-m", &p, "--private", &image])?.success()?;

    for user in [&researcher, &physician] {
        user.eds(["retrieve", &image, "-o", "scan"])?.success()?;
        assert_ne!(fs::read(user.home().join("scan"))?, original);
    }
    researcher.eds(["retrieve", &image, "--restore", "-o", "whole"])?.refused(exit::DENIED, &[])?;
    assert!(!researcher.home().join("whole").exists());
    physician.eds(["retrieve", &image, "--restore", "-o", "whole"])?.success()?;
    assert_eq!(fs::read(physician.home().join("whole"))?, original);
    // Each sees in the listing what is shared with them, and alice all of hers.
    let count = |user: &User| Ok::<_, Trouble>(user.eds(["key", "ls"])?.success()?.text().lines().count());
    assert_eq!((count(&researcher)?, count(&physician)?), (1, 2));
    assert!(count(&alice)? >= 2);
    Ok(())
}

#[test]
fn modes_owners_and_groups_are_changed_everywhere_and_who_lacks_the_permission_changes_nothing() -> Outcome {
    let cluster = Cluster::of_three()?;
    let (alice, bob) = (cluster.user("alice")?, cluster.user("bob")?);
    let key = encrypt(&alice, "2")?;
    let untouched = encrypt(&alice, "2")?;
    let before = alice.eds(["key", "acl", &untouched])?.success()?.text();
    alice.eds(["key", "chmod", "o+lg,u-rw", &key])?.success()?;
    let shown = bob.eds(["key", "acl", "-v", &key])?.success()?.text();
    assert_eq!(shown.matches("# Base perms: user pd--l-gs, group --------, other ----l-g-").count(), 3, "{shown}");
    assert_eq!(alice.eds(["key", "acl", &untouched])?.success()?.text(), before);
    bob.eds(["key", "chmod", "o+p", &key])?.refused(exit::DENIED, &["no node made the change", "node 3"])?;
    alice.eds(["key", "chmod", "o+p,", &key])?.refused(exit::USAGE, &["is not a mode", "hint: "])?;
    // Who may change permissions may not take the key from its owner.
    alice.eds(["key", "chmod", "o+p", &key])?.success()?;
    let bob_name = bob.name()?;
    bob.eds(["key", "chown", "--owner", &bob_name, &key])?
        .refused(exit::DENIED, &["by its owner or an administrator"])?;
    alice.eds(["key", "chown", "--owner", &bob_name, "--group", "/ward", &key])?.success()?;
    bob.eds(["key", "chmod", "o=,g+g", &key])?.success()?;
    let shown = bob.eds(["key", "acl", &key])?.success()?.text();
    for line in ["# Version: 4", "# Group: /ward", "# Base perms: user pd--l-gs, group ------g-, other --------"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains(&format!("# User: {bob_name} ")), "{shown}");
    alice.eds(["key", "acl", &key])?.refused(exit::DENIED, &[])?;
    Ok(())
}

#[test]
fn administrators_register_explain_and_delete_and_others_do_not() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let (alice, officer) = (cluster.user("alice")?, cluster.user("security officer")?);
    let key = encrypt(&alice, "2")?;
    let (alice_name, officer_name) = (alice.name()?, officer.name()?);
    let shown = alice.eds(["key", "acl", &key])?.success()?.text();
    let issuer = shown.split_once(" (of ").and_then(|(_, rest)| rest.split_once(")\n"));
    let (issuer, _) = issuer.ok_or_else(|| Trouble::new(shown.clone()))?;
    alice.eds(["key", "why", &key, "--principal", &officer_name])?.failed(exit::DENIED, &["no key server answered"])?;
    for node in cluster.nodes() {
        let section =
            format!("\n[policy]\nadmins = [{{ issuer = {issuer:?}, subject = {officer_name:?} }}]\ncreate = []\n");
        fs::write(node.config(), fs::read_to_string(node.config())? + &section)?;
        node.restart()?;
    }
    alice.eds(["encrypt", "plain", "-o", "other"])?.refused(exit::DENIED, &["may not register keys"])?;
    encrypt(&officer, "2")?;

    let why = alice.eds(["key", "why", &key])?.success()?.text();
    assert_eq!(why.matches("  g  allowed  owner: ").count(), 3, "{why}");
    assert_eq!(why.matches("  x  refused  none: owns the key, and its owner may pdrwl-gs; ").count(), 3, "{why}");
    let why = officer.eds(["key", "why", &key, "--principal", &alice_name])?.success()?.text();
    assert_eq!(why.matches("  g  allowed  owner: ").count(), 3, "{why}");
    let why = officer.eds(["key", "why", &key])?.success()?.text();
    assert_eq!(why.matches("allowed  administrator").count(), 3 * 8, "{why}");

    // Deleting asks first, and says what it means.
    let asked = officer.eds(["key", "rm", &key])?.refused(exit::USAGE, &["for ever", "was not confirmed"])?;
    assert!(asked.stderr.contains("on all 3 key servers"), "{asked:?}");
    officer.eds_fed(["key", "rm", &key], b"yes\n")?.refused(exit::USAGE, &[])?;
    assert_reads(&alice, &alice)?;
    officer.eds_fed(["key", "rm", &key], format!("{key}\n").as_bytes())?.success()?;
    decrypt(&alice, &alice)?.refused(exit::NOT_FOUND, &[])?;
    alice.eds(["key", "rm", "--yes", &key])?.success()?;
    Ok(())
}
