//! The commands of gLite's EDS under their own names, for people who know nothing else: with a VOMS proxy, a `services.xml`
//! and a hashed directory of authorities, and no configuration of `eds`.

use std::fs;

use eds_tests::{
    Outcome,
    cluster::Cluster,
    grid::Grid,
    originals::{Original, services},
    sample,
    user::exit,
};

const ALICE: &str = "/DC=org/DC=example/OU=people/CN=Alice Radiologist";

/// A cluster that believes a grid, and its people.
fn people() -> Outcome<(Cluster, Grid, Original, Original)> {
    let mut cluster = Cluster::of_three()?;
    let grid = Grid::new(&cluster.folder().join("grid"))?;
    cluster.configure(&format!("\n[policy]\nadmins = [\"/myvo/Role=admin\"]\n{}", grid.settings()))?;
    let alice = grid.proxy("alice", &["/myvo/radiology", "/myvo"], &[])?;
    let alice = Original::new(&mut cluster, "alice", &alice)?;
    let bob = grid.proxy("bob", &["/myvo"], &[])?;
    let bob = Original::new(&mut cluster, "bob", &bob)?;
    fs::write(alice.home().join("my-file"), sample::bytes("image", 300_000))?;
    Ok((cluster, grid, alice, bob))
}

#[test]
fn what_is_encrypted_under_a_name_is_decrypted_by_it_and_by_nobody_without_permission() -> Outcome {
    let (_cluster, grid, alice, bob) = people()?;
    let run = alice.run("glite-eds-key-register /myvo/home/secret")?.success()?;
    assert_eq!(run.text(), "A key has been generated and registered for ID '/myvo/home/secret'");
    let run = alice.run("glite-eds-encrypt my-file secret")?.success()?;
    assert!(run.text().starts_with("File 'my-file' has been successfully encrypted"), "{}", run.text());
    // The forms with two arguments and with three.
    for (number, command) in [
        "glite-eds-decrypt /myvo/home/secret",
        "glite-eds-decrypt secret",
        "glite-eds-decrypt /myvo/home/secret secret",
        "glite-eds-decrypt -q lfn:/myvo/home/secret secret",
    ]
    .iter()
    .enumerate()
    {
        let run = alice.run(&format!("{command} back-{number}"))?.success()?;
        let quiet = command.contains("-q");
        assert_eq!(run.text().contains("has been successfully decrypted"), !quiet, "{}", run.text());
        assert_eq!(
            fs::read(alice.home().join(format!("back-{number}")))?,
            sample::bytes("image", 300_000),
            "{command}"
        );
    }

    // Bug 31583: what is registered stays as it is when somebody registers it again.
    let again = "glite-eds-key-register /myvo/home/secret";
    alice.run(again)?.refused(exit::CONFLICT, &["Error during glite_eds_register: "])?;
    bob.run(again)?.refused(exit::CONFLICT, &["Error during glite_eds_register: "])?;
    alice.run("glite-eds-decrypt /myvo/home/secret secret back")?.success()?;

    // A stranger learns nothing, not even whether the name exists.
    fs::copy(alice.home().join("secret"), bob.home().join("secret"))?;
    fs::copy(alice.home().join("my-file"), bob.home().join("my-file"))?;
    for name in ["/myvo/home/secret", "/myvo/home/nothing"] {
        let refused = |command: &str, words: &[&str]| bob.run(command)?.refused(exit::NOT_FOUND, words);
        refused(&format!("glite-eds-decrypt {name} secret out"), &["Error during glite_eds_decrypt_init: "])?;
        refused(&format!("glite-eds-encrypt {name} my-file out"), &["Error during glite_eds_encrypt_init: "])?;
        refused(&format!("glite-eds-getacl {name}"), &[&format!("ERROR Missing permission for {name}")])?;
        refused(&format!("glite-eds-chmod o+g {name}"), &[&format!("ERROR Missing permission for {name}")])?;
        refused(
            &format!("glite-eds-key-unregister {name}"),
            &["Error during glite_eds_unregister: ", "could not be found"],
        )?;
        assert!(!bob.home().join("out").exists());
    }
    alice
        .run("glite-eds-decrypt no-such-name/secretx out")?
        .failed(exit::NOT_FOUND, &["Cannot Open Local Input File secretx"])?;
    alice.run("glite-eds-encrypt nothing out")?.failed(exit::NOT_FOUND, &["Cannot Open Local Input File nothing"])?;

    // Under a name of somebody else's nothing is encrypted unseen: its owner could read it.
    bob.run("glite-eds-key-register /myvo/home/trap; glite-eds-chmod o+lg /myvo/home/trap")?.success()?;
    let refused = alice.run("glite-eds-encrypt /myvo/home/trap my-file out")?;
    let refused = refused.refused(exit::DENIED, &["CN=Bob Researcher", "group /myvo", "hint: "])?;
    assert!(!alice.home().join("out").exists(), "{}", refused.stderr);
    let bob_name = "/DC=org/DC=example/OU=people/CN=Bob Researcher";
    alice.run(&format!("glite-eds-encrypt --owner '{bob_name}' /myvo/home/trap my-file out"))?.success()?;

    // Two names that end alike: the form with two arguments says which there are.
    alice.run("glite-eds-key-register /myvo/other/secret")?.success()?;
    let names = ["/myvo/home/secret", "/myvo/other/secret"];
    alice.run("glite-eds-encrypt my-file secret")?.refused(exit::USAGE, &names)?;

    // An administrator may create and delete any entry; a name that is free can be registered again.
    let mut admin = bob;
    admin.set("X509_USER_PROXY", grid.proxy("bob", &["/myvo/Role=admin", "/myvo"], &[])?);
    let run = admin.run("glite-eds-key-unregister /myvo/home/secret")?.success()?;
    assert_eq!(run.text(), "The key has been unregistered for ID '/myvo/home/secret'");
    alice.run("glite-eds-key-unregister /myvo/home/secret")?.refused(exit::NOT_FOUND, &["could not be found"])?;
    alice.run("glite-eds-decrypt secret out2")?.refused(exit::NOT_FOUND, &["Error during glite_eds_decrypt_init: "])?;
    admin.run("glite-eds-key-register /myvo/home/secret")?.success()?;
    Ok(())
}

#[test]
fn permissions_are_shown_and_changed_as_the_original_did() -> Outcome {
    let (_cluster, _grid, alice, bob) = people()?;
    alice
        .run(
            "glite-eds-key-register /myvo/a; glite-eds-key-register /myvo/b; glite-eds-encrypt /myvo/a my-file sealed",
        )?
        .success()?;
    let acl = |id: &str| Ok::<_, eds_tests::Trouble>(alice.run(&format!("glite-eds-getacl {id}"))?.success()?.text());
    let first = acl("/myvo/a")?;
    assert!(first.starts_with("# ENTRY: /myvo/a\n"), "{first}");
    assert!(first.contains(&format!("# User: {ALICE}")), "{first}");
    assert!(first.contains("# Group: /myvo/radiology\n"), "{first}");
    assert!(first.contains("# Base perms: user pdrwl-gs, group --------, other --------"), "{first}");

    let bob_name = "/DC=org/DC=example/OU=people/CN=Bob Researcher";
    let run = alice.run(&format!("glite-eds-setacl -v -m '{bob_name}:lg' -m /myvo/Role=nurse:g /myvo/a"))?.success()?;
    assert!(
        run.text().contains("# Using endpoint https://") && run.text().contains("# - service version: "),
        "{}",
        run.text()
    );
    assert!(run.text().ends_with("Changed ACLs on /myvo/a"), "{}", run.text());
    let changed = acl("/myvo/a")?;
    assert!(
        changed.contains(&format!("\n{bob_name}:----l-g-")) && changed.contains("\n/myvo/Role=nurse:------g-"),
        "{changed}"
    );
    // Bug 29851: the list of another entry is as it was.
    assert!(!acl("/myvo/b")?.contains("Bob"));

    fs::copy(alice.home().join("sealed"), bob.home().join("sealed"))?;
    bob.run("glite-eds-decrypt /myvo/a sealed back")?.success()?;
    assert_eq!(fs::read(bob.home().join("back"))?, sample::bytes("image", 300_000));
    // What he may not, he may not: each of a batch is decided on its own.
    let mixed = bob.run("glite-eds-getacl -b 2 /myvo/a /myvo/b /myvo/a2")?;
    let mixed = mixed
        .failed(exit::NOT_FOUND, &["ERROR Missing permission for /myvo/b", "ERROR Missing permission for /myvo/a2"])?;
    assert!(String::from_utf8_lossy(&mixed.stdout).starts_with("# ENTRY: /myvo/a\n"));
    bob.run("glite-eds-setacl -x NONE /myvo/a")?.refused(exit::DENIED, &["ERROR Missing permission for /myvo/a"])?;

    // What getacl prints can be fed back; nothing that changes nothing is sent.
    alice.run("glite-eds-getacl /myvo/a > list; glite-eds-setacl -x NONE /myvo/a")?.success()?;
    assert!(!acl("/myvo/a")?.contains("Bob"));
    bob.run("glite-eds-decrypt /myvo/a sealed back2")?.refused(exit::NOT_FOUND, &["glite_eds_decrypt_init"])?;
    alice.run("glite-eds-setacl -X list /myvo/a")?.success()?;
    assert!(acl("/myvo/a")?.contains("Bob"));
    let version = |text: &str| text.lines().find(|line| line.starts_with("# Version: ")).unwrap_or_default().to_owned();
    let before = version(&acl("/myvo/a")?);
    alice.run("glite-eds-setacl -M - /myvo/a < list")?.success()?;
    assert_eq!(version(&acl("/myvo/a")?), before, "a change that changes nothing was sent");
    alice.run("glite-eds-setacl -D list /myvo/a")?.success()?;
    assert!(!acl("/myvo/a")?.contains("Bob") && !acl("/myvo/a")?.contains("nurse"));

    let run = alice.run("glite-eds-chmod -v g+g,o=l /myvo/a")?.success()?;
    assert!(run.text().ends_with("Changed permissions on /myvo/a"), "{}", run.text());
    assert!(acl("/myvo/a")?.contains("user pdrwl-gs, group ------g-, other ----l---"));
    for wrong in
        ["-m /myvo:g -x NONE", "-M list -m /myvo:g", "-m /myvo:g -m /myvo:l", "-m nonsense", "-d /myvo/nobody", ""]
    {
        assert_ne!(alice.run(&format!("glite-eds-setacl {wrong} /myvo/a"))?.code, Some(0), "{wrong}");
    }
    Ok(())
}

#[test]
fn a_server_that_is_away_stops_registrations_and_changes_and_nothing_else() -> Outcome {
    let (mut cluster, _grid, alice, _bob) = people()?;
    alice.run("glite-eds-key-register /myvo/a; glite-eds-encrypt /myvo/a my-file sealed")?.success()?;
    cluster.node(2)?.stop()?;
    alice.run("glite-eds-encrypt /myvo/a my-file sealed; glite-eds-decrypt /myvo/a sealed back")?.success()?;
    assert_eq!(fs::read(alice.home().join("back"))?, sample::bytes("image", 300_000));
    alice
        .run("glite-eds-key-register /myvo/new")?
        .refused(exit::UNAVAILABLE, &["Error during glite_eds_register: ", "node 2"])?;
    alice
        .run("glite-eds-chmod g+g /myvo/a")?
        .refused(exit::UNAVAILABLE, &["ERROR Change failed on /myvo/a", "node 2"])?;
    let shown = alice.run("glite-eds-getacl -v /myvo/a")?.success()?.text();
    assert!(shown.contains("HTTP error") && shown.matches("# ENDPOINT: ").count() == 3, "{shown}");
    cluster.node(2)?.start()?;
    // The registration left nothing: its name is free.
    alice.run("glite-eds-key-register /myvo/new")?.success()?;
    // One server missed the change: they disagree, and that is said.
    alice.run("glite-eds-getacl /myvo/a")?.refused(exit::DAMAGED, &["ERROR Corrupted permissions for /myvo/a"])?;
    Ok(())
}

#[test]
fn services_and_credentials_are_found_where_the_variables_say() -> Outcome {
    let (mut cluster, grid, mut alice, _bob) = people()?;
    let urls: Vec<String> = cluster.nodes().iter().map(eds_tests::node::Node::url).collect();
    let right = fs::read_to_string(alice.services())?;
    let refused =
        |alice: &Original, words: &[&str]| alice.run("glite-eds-key-register /myvo/x")?.refused(exit::USAGE, words);
    // The signed directory is believed, and never the file.
    fs::write(alice.services(), services(&urls[..2]))?;
    refused(&alice, &["is not among the services", "hint: "])?;
    let mut others = urls.clone();
    others[2] = "https://127.0.0.1:9".into();
    fs::write(alice.services(), services(&others))?;
    refused(&alice, &["hydra-3", "no key server of the signed directory"])?;
    fs::write(alice.services(), "<services>")?;
    refused(&alice, &["ends too early"])?;
    fs::write(alice.services(), &right)?;
    alice.set("GLITE_SD_PLUGIN", "bdii");
    refused(&alice, &["GLITE_SD_PLUGIN", "bdii"])?;
    alice.set("GLITE_SD_PLUGIN", "file");
    alice.run("glite-eds-key-register /myvo/x; glite-eds-getacl -s hydra-1 /myvo/x")?.success()?;
    alice.run("glite-eds-getacl -s hydra-9 /myvo/x")?.refused(exit::USAGE, &["hydra-9"])?;
    // Without the file, the directory alone.
    alice.unset("GLITE_SD_SERVICES_XML");
    alice.unset("GLITE_SD_PLUGIN");
    alice.run("glite-eds-getacl /myvo/x")?.success()?;

    // Authorities that do not vouch for the servers.
    let authorities = alice.home().join("certificates");
    let kept = alice.home().join("kept");
    fs::rename(&authorities, &kept)?;
    fs::create_dir(&authorities)?;
    assert_ne!(alice.run("glite-eds-getacl /myvo/x")?.code, Some(0), "servers were believed without an authority");
    fs::remove_dir(&authorities)?;
    fs::rename(&kept, &authorities)?;

    // The certificate instead of the proxy, by variables and in its usual place.
    let person = grid.person("alice");
    alice.unset("X509_USER_PROXY");
    assert_ne!(alice.run("glite-eds-getacl /myvo/x")?.code, Some(0), "somebody was known without a proof");
    alice.set("X509_USER_CERT", &person.certificate);
    alice.set("X509_USER_KEY", &person.key);
    alice.run("glite-eds-getacl /myvo/x")?.success()?;
    alice.unset("X509_USER_CERT");
    alice.unset("X509_USER_KEY");
    let globus = alice.home().join(".globus");
    fs::create_dir(&globus)?;
    fs::copy(&person.certificate, globus.join("usercert.pem"))?;
    fs::copy(&person.key, globus.join("userkey.pem"))?;
    alice.run("glite-eds-getacl /myvo/x")?.success()?;
    Ok(())
}

#[test]
fn files_are_put_got_and_removed_with_their_keys() -> Outcome {
    let (_cluster, _grid, alice, _bob) = people()?;
    let stored = alice.home().join("stored");
    let url = format!("file://{}", stored.display());
    alice.run(&format!("glite-eds-put my-file {url}"))?.success()?;
    let plain = sample::bytes("image", 300_000);
    assert!(!fs::read(&stored)?.windows(64).any(|window| window == &plain[..64]), "it is stored in the clear");
    alice.run(&format!("glite-eds-get {url} back"))?.success()?;
    assert_eq!(fs::read(alice.home().join("back"))?, plain);
    alice.run(&format!("glite-eds-put my-file {url}"))?.refused(exit::CONFLICT, &["Error during glite_eds_put: "])?;
    alice.run("glite-eds-put -u -i /myvo/only my-file nowhere; glite-eds-getacl /myvo/only")?.success()?;
    assert!(!alice.home().join("nowhere").exists());
    alice.run("glite-eds-put my-file srm://se.example/x")?.refused(exit::USAGE, &["srm://se.example/x"])?;
    alice.run(&format!("glite-eds-rm {url}"))?.success()?;
    assert!(!stored.exists());
    alice.run(&format!("glite-eds-getacl {}", stored.display()))?.refused(exit::NOT_FOUND, &["Missing permission"])?;
    Ok(())
}

#[test]
fn names_are_links_that_replace_nothing() -> Outcome {
    let cluster = Cluster::make(eds_tests::cluster::Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let user = cluster.user("alice")?;
    fs::create_dir(user.home().join("bin"))?;
    user.eds(["install-names", "bin"])?.success()?;
    user.eds(["install-names", "bin"])?.success()?;
    assert_eq!(fs::read_dir(user.home().join("bin"))?.count(), 10);
    let name = user.home().join("bin/glite-eds-encrypt");
    fs::remove_file(&name)?;
    fs::write(&name, "somebody's own")?;
    user.eds(["install-names", "bin"])?.refused(exit::CONFLICT, &["glite-eds-encrypt"])?;
    assert_eq!(fs::read_to_string(&name)?, "somebody's own");
    Ok(())
}
