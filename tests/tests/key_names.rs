//! Names of keys, from the command line to the databases of real key servers: where they are, where they never are, and what
//! somebody can do who alters or loses them.

use std::{fs, path::Path};

use eds_tests::{
    Outcome,
    cluster::Cluster,
    sample,
    user::{User, exit},
};

const NAME: &str = "/ward/a-telling-name/secret";

fn alice(cluster: &Cluster) -> Outcome<User> {
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), sample::bytes("image", 50_000))?;
    Ok(alice)
}

#[test]
fn a_name_stands_for_its_key_in_every_command_and_is_written_nowhere_but_in_the_databases() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let (alice, bob) = (alice(&cluster)?, cluster.user("bob")?);
    let key = alice.eds(["key", "register", NAME])?.success()?.id();
    let sealed = alice.eds(["encrypt", "plain", "--key", NAME, "-o", "sealed"])?.success()?;
    assert_eq!(sealed.key(), key);
    alice.eds(["key", "status", NAME])?.success()?;
    assert!(alice.eds(["key", "acl", NAME])?.success()?.text().contains("# ENTRY: "));
    alice.eds(["key", "chmod", "o+lg", NAME])?.success()?;
    // What is refused is not logged by its name either.
    bob.eds(["key", "register", NAME])?.refused(exit::CONFLICT, &["node 1"])?;
    bob.eds(["key", "status", "/ward/a-telling-name/other"])?.failed(exit::NOT_FOUND, &["could not be found"])?;
    alice
        .eds(["key", "register", "/ward/../a-telling-name"])?
        .refused(exit::USAGE, &["cannot be the name of a key"])?;

    // Under a name of somebody else's nothing is encrypted before its owner is named, by option or once for all.
    fs::write(bob.home().join("plain"), "of bob")?;
    let words = ["encrypt", "plain", "--key", NAME, "-o", "sealed"];
    let owner = alice.name()?;
    bob.eds(words)?.refused(exit::DENIED, &[&owner, "without a group", "--owner"])?;
    assert!(!bob.home().join("sealed").exists());
    bob.eds(words.into_iter().chain(["--owner", "/CN=somebody else"]))?.refused(exit::DENIED, &[&owner])?;
    bob.eds(words.into_iter().chain(["--owner", &owner]))?.success()?;
    bob.add_settings(&format!("\n[keys]\ntrusted_owners = [{owner:?}]\n"))?;
    bob.eds(["encrypt", "plain", "--key", NAME, "-o", "sealed-2"])?.success()?;

    for node in cluster.nodes() {
        node.stop()?;
        assert!(holds(&node.database(), NAME)?, "the test looks for something that is nowhere");
        let mut files = 0;
        for file in files_below(node.folder())? {
            if !file.starts_with(&node.database().display().to_string()) {
                assert!(!holds(Path::new(&file), "a-telling-name")?, "{file}");
                files += 1;
            }
        }
        assert!(files > 3, "{files} files were looked at");
    }
    for file in files_below(alice.home())?.iter().chain(&files_below(bob.home())?) {
        assert!(!holds(Path::new(file), "a-telling-name")?, "{file}");
    }
    Ok(())
}

#[test]
fn a_name_that_one_node_altered_or_lost_leads_where_the_others_say() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let alice = alice(&cluster)?;
    let key = alice.eds(["key", "register", NAME])?.success()?.id();
    let other = alice.eds(["key", "register", "/ward/other"])?.success()?.id();
    assert_ne!(key, other);
    let under = |number: u8| -> Outcome<String> {
        Ok(alice.eds(["encrypt", "plain", "--key", NAME, "-o", &format!("sealed-{number}")])?.success()?.key())
    };
    // One node leads the name to the other key, whose own name it exchanges for it.
    alter(&mut cluster, 1, "DELETE FROM names WHERE name = CAST('/ward/other' AS BLOB)")?;
    alter(&mut cluster, 1, "UPDATE names SET key = (SELECT id FROM keys WHERE id NOT IN (SELECT key FROM names))")?;
    assert_eq!(under(1)?, key);
    // Another one has lost it: one is left, and one is not enough.
    alter(&mut cluster, 2, "DELETE FROM names")?;
    let refused = alice.eds(["encrypt", "plain", "--key", NAME, "-o", "out"])?;
    assert_ne!(refused.code, Some(0), "one node was believed");
    assert!(refused.stderr.contains("1 node(s) lead the name to the same key, and 2 must"), "{}", refused.stderr);
    assert!(!alice.home().join("out").exists());
    // The key itself is as it was.
    alice.eds(["decrypt", "sealed-1", "-o", "back"])?.success()?;
    assert_eq!(fs::read(alice.home().join("back"))?, sample::bytes("image", 50_000));
    Ok(())
}

/// Does something to the database of a node that does not run meanwhile.
fn alter(cluster: &mut Cluster, node: u16, statement: &str) -> Outcome {
    let node = cluster.node(node)?;
    node.stop()?;
    let changed = rusqlite::Connection::open(node.database())?.execute(statement, [])?;
    assert!(changed > 0, "{statement}");
    node.start()
}

fn holds(file: &Path, text: &str) -> Outcome<bool> {
    Ok(fs::read(file)?.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// Every file below a folder.
fn files_below(folder: &Path) -> Outcome<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else if entry.file_type()?.is_file() {
            files.push(entry.path().display().to_string());
        }
    }
    Ok(files)
}
