//! Officers enrol, list, change and revoke imaging devices, on real nodes, beside their servers and without them.

use std::fs;

use eds_tests::{
    Outcome, acts,
    cluster::{Cluster, Plan},
    imaging::Device,
    user::exit,
    ward::{frame, ward},
};

#[test]
fn officers_enrol_list_and_revoke_devices_and_the_audit_log_tells_of_it() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let (device, other) = (Device::new()?, Device::new()?);
    let owner = cluster.user("head of radiology")?.home().join("me.crt");
    let (key, ca) = (device.write_public_key(cluster.folder())?, cluster.ca());
    let id = device.id.to_string();
    let (key, ca, owner) = (key.display().to_string(), ca.display().to_string(), format!("@{}", owner.display()));
    let node = cluster.node(1)?;

    // The server runs: it writes what officers do.
    let words = ["device", "enroll", &id, "--key", &key, "--name", "CT 3, room 12", "--owner", &owner];
    let more = ["--ca", &ca, "--group", "/acme/radiology", "--mode", "g+lg", "--entry", "/CN=Dr Jones:lg"];
    let said = node.command_of(&[&words[..], &more].concat())?.success()?.text();
    assert!(said.contains(&format!("device {id} is enrolled")) && said.contains("every other node"), "{said}");
    let (begun, done) = acts::last_done(node, "device.enroll")?;
    assert!(begun.starts_with(&format!("device {id}, key ")) && done.contains(", enrolment "), "{begun} {done}");
    let listed = node.command_of(&["device", "list"])?.success()?.text();
    for told in [&id, "enrolled 20", "CT 3, room 12", "owner ", "head of radiology", "group /acme/radiology"] {
        assert!(listed.contains(told), "{told}: {listed}");
    }
    assert!(listed.contains("user pdrwl-gs, group ----l-g-, other --------\t/CN=Dr Jones:----l-g-"), "{listed}");
    let fingerprint = begun.rsplit(' ').next().unwrap_or_default();
    assert!(fingerprint.len() == 64 && listed.contains(fingerprint), "{fingerprint} {listed}");

    // Once only, and not without what makes an enrolment.
    node.command_of(&words)?.refused(1, &["is enrolled already", "new id"])?;
    assert!(acts::last_refused(node, "device.enroll")?.contains("is enrolled already"));
    let private = node.folder().join("tls.key").display().to_string();
    let second = other.id.to_string();
    let with = |changes: &[(usize, &str)]| {
        let mut words = words.map(str::to_owned);
        words[2].clone_from(&second);
        changes.iter().for_each(|(at, word)| words[*at] = (*word).to_owned());
        words
    };
    for (wrong, said) in [
        (with(&[(4, &private)]), &["no public key on P-256", "private key"]),
        (with(&[(4, "/nowhere.pem")]), &["/nowhere.pem", "cannot be read"]),
        (with(&[(6, " ")]), &["needs a name", "1 to 200"]),
        (with(&[(6, "a\u{7}b")]), &["needs a name", "control"]),
        (with(&[(8, "/CN=Dr Jones")]), &["no authority", "--ca"]),
        (with(&[(8, "/acme")]), &["neither a subject", "hint"]),
        (with(&[(8, "@/nowhere.crt")]), &["/nowhere.crt", "certificate"]),
    ] {
        let words: Vec<&str> = wrong.iter().map(String::as_str).collect();
        node.command_of(&words)?.refused(1, said)?;
    }
    node.command_of(&["device", "revoke", &second])?.refused(1, &["is not enrolled"])?;
    assert_eq!(node.command_of(&["device", "list"])?.success()?.text(), listed, "something was changed");

    // A backup has them, and the node of it too.
    let backup = node.folder().join("backup.db");
    node.command("backup", ["--to".as_ref(), backup.as_os_str()])?.success()?;
    node.stop()?;
    for name in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        let _ = fs::remove_file(node.folder().join(name));
    }
    node.command("restore", ["--from".as_ref(), backup.as_os_str()])?.success()?;
    assert_eq!(node.command_of(&["device", "list"])?.success()?.text(), listed);

    // Without a server: who writes the database is not believed.
    let database = rusqlite::Connection::open(node.database())?;
    let stored: Vec<u8> = database.query_row("SELECT enrolment FROM devices", [], |row| row.get(0))?;
    let at = stored.windows(4).position(|window| window == b"CT 3").expect("the name");
    let mut altered = stored.clone();
    altered[at] ^= 1;
    database.execute("UPDATE devices SET enrolment = ?1", [&altered])?;
    let told = node.command_of(&["device", "list"])?;
    assert!(told.code == Some(1) && told.stderr.contains("not as officers wrote it"), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stdout).contains(&format!("{id}\tALTERED")), "{told:?}");
    node.command_of(&["device", "revoke", &id])?.refused(1, &["was altered"])?;
    assert!(acts::last_refused(node, "device.revoke")?.contains("was altered"));
    database.execute("UPDATE devices SET enrolment = ?1", [&stored])?;
    drop(database);

    node.command_of(&["device", "revoke", &id])?.success()?;
    assert!(acts::last_done(node, "device.revoke")?.1.starts_with(&format!("device {id}, enrolment ")));
    let listed = node.command_of(&["device", "list"])?.success()?.text();
    assert!(listed.contains("REVOKED 20") && !listed.contains("enrolled 20"), "{listed}");
    node.command_of(&["device", "revoke", &id])?.success()?;
    node.command_of(&words)?.refused(1, &["or was revoked"])?;
    assert_eq!(node.command_of(&["device", "list"])?.success()?.text(), listed);
    node.start()?;
    node.command_of(&["audit", "verify"])?.success()?;
    Ok(())
}

#[test]
fn a_changed_owner_has_the_images_from_then_on_and_no_earlier_one() -> Outcome {
    let mut ward = ward()?;
    let image = frame()?;
    let (before, later) = (ward.takes(&image)?, ward.takes(&image)?);
    let card = ward.card("before", &before)?;
    ward.carries(&card)?.success()?;

    let other = ward.cluster.user("other physician")?;
    let id = ward.device.id.to_string();
    let owner = format!("@{}", other.home().join("me.crt").display());
    let change = ["device", "change", &id, "--owner", &owner, "--group", "/acme/night", "--mode", "g+g"];
    for node in ward.cluster.nodes() {
        let said = node.command_of(&change)?.success()?.text();
        assert!(
            said.contains("is changed") && said.contains("from now on") && said.contains("other physician"),
            "{said}"
        );
        let (begun, done) = acts::last_done(node, "device.change")?;
        assert_eq!(begun, format!("device {id}"));
        let digests: Vec<&str> = done.split(" ").filter(|word| word.len() >= 64).collect();
        assert!(digests.len() == 2 && digests[0].trim_end_matches(',') != digests[1], "{done}");
        let listed = node.command_of(&["device", "list"])?.success()?.text();
        assert!(
            listed.contains("CT 3\t") && listed.contains("group /acme/night\tuser pdrwl-gs, group ------g-"),
            "{listed}"
        );
    }
    // What was delivered stays its owner's, also when the courier brings it once more; what comes from now on is the other's.
    ward.carries(&card)?.success()?;
    ward.carries(&ward.card("later", &later)?)?.success()?;
    ward.retrieves(&before)?.success()?;
    let key = later.begin.key.to_string();
    ward.physician.eds(["key", "acl", &key])?.failed(exit::DENIED, &[])?;
    let list = other.eds(["key", "acl", &key])?.success()?.text();
    assert!(list.contains("other physician") && list.contains("/acme/night"), "{list}");
    other.eds(["key", "acl", &before.begin.key.to_string()])?.failed(exit::DENIED, &[])?;

    // What is not named stays; what is taken away is gone; nothing at all, and what was revoked, is refused.
    let node = ward.cluster.node(1)?;
    let more = ["device", "change", &id, "--name", "CT 4", "--entry", "/acme/day:g", "--no-group"];
    let said = node.command_of(&more)?.success()?.text();
    assert!(said.contains("CT 4") && said.contains("group none") && said.contains("/acme/day:------g-"), "{said}");
    assert!(said.contains("other physician"), "{said}");
    let said = node.command_of(&["device", "change", &id, "--no-entries"])?.success()?.text();
    assert!(!said.contains("/acme/day"), "{said}");
    assert_ne!(node.command_of(&["device", "change", &id])?.code, Some(0), "nothing is to be changed");
    node.command_of(&["device", "change", &id, "--owner", "/acme"])?.refused(1, &["neither a subject"])?;
    node.command_of(&["device", "revoke", &id])?.success()?;
    node.command_of(&["device", "change", &id, "--name", "CT 5"])?.refused(1, &["was revoked", "new id"])?;
    assert!(acts::last_refused(node, "device.change")?.contains("was revoked"));
    let stranger = Device::new()?.id.to_string();
    node.command_of(&["device", "change", &stranger, "--name", "CT 5"])?.refused(1, &["is not enrolled"])?;
    node.command_of(&["audit", "verify"])?.success()?;
    Ok(())
}
