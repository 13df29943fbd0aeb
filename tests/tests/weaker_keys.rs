//! A node whose token has no elliptic curves: it serves beside others with wrapped key pairs, which are named weaker wherever
//! they show; and it is refused without the officers' word, or with wrapped keys that are not its own.

use std::{
    fs,
    time::{Duration, Instant},
};

use eds_tests::{
    Outcome, acts,
    cluster::{Cluster, Plan},
    give_up,
    node::{NO_CURVES, Node, Token, WEAKER},
    user::{User, exit},
};

const CONTENT: &[u8] = b"an image";
const FILE: &str = "node.wrapped-keys.json";
const PATIENCE: Duration = Duration::from_secs(90);

fn alone() -> Outcome<Cluster> {
    Cluster::make_on(Plan { nodes: 1, floor: 1, relayed: &[] }, &[(1, Token::WithoutCurves)])
}

/// A user with a file that is encrypted as `sealed`.
fn encrypted(cluster: &Cluster) -> Outcome<User> {
    let user = cluster.user("alice")?;
    fs::write(user.home().join("plain"), CONTENT)?;
    user.eds(["encrypt", "plain", "-o", "sealed"])?.success()?;
    Ok(user)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_serves_beside_others_and_is_named_weaker_everywhere() -> Outcome {
    let mut cluster = Cluster::make_on(Plan { nodes: 3, floor: 2, relayed: &[] }, &[(3, Token::WithoutCurves)])?;
    for node in cluster.nodes() {
        node.start()?;
    }
    let user = encrypted(&cluster)?;
    let doctor = text(&user.eds(["doctor"])?.success()?.stdout);
    let weaker: Vec<_> = doctor.lines().filter(|line| line.contains("WEAKER")).collect();
    assert!(matches!(weaker.as_slice(), [line] if line.contains("node 3")), "{doctor}");
    // Without node 1, the two others must both release their shares.
    cluster.node(1)?.kill()?;
    user.eds(["decrypt", "sealed", "-o", "copy"])?.success()?;
    assert_eq!(fs::read(user.home().join("copy"))?, CONTENT);

    let node = cluster.node(3)?;
    let log = fs::read_to_string(node.log())?;
    assert!(log.contains("WARN") && log.contains("private keys are weaker than in a token"), "{log}");
    let record = fs::read_to_string(node.folder().join("node.ceremony.json"))?;
    assert!(
        record.contains("\"weaker\": \"transport key and audit key") && record.contains("MechanismInvalid"),
        "{record}"
    );
    node.stop()?;
    let checked = text(&node.command("check", [""; 0])?.success()?.stdout);
    assert!(checked.contains("private keys: WEAKER"), "{checked}");
    // The wrapped audit key signed what happened meanwhile.
    let verified = node.command("audit verify", [""; 0])?.success()?;
    assert!(text(&verified.stdout).contains("not yet covered by one: 0"), "{}", text(&verified.stdout));
    let others = text(&cluster.node(2)?.command("hsm status", [""; 0])?.success()?.stdout);
    assert!(!others.contains("WEAKER"), "{others}");
    Ok(())
}

#[test]
fn without_the_officers_word_no_node_is_made_and_none_starts() -> Outcome {
    let mut cluster = alone()?;
    let node = cluster.node(1)?;
    let permitted = fs::read_to_string(node.config())?;
    fs::write(node.config(), permitted.replace(WEAKER, ""))?;
    let said = node.start_refused()?;
    assert!(said.contains("no key \"eds-transport\"") && said.contains("hsm.weaker_wrapped_keys"), "{said}");

    // A new node with a token of the same kind.
    node.new_token("new", &node.token_label())?;
    node.daemon()?.kill()?;
    node.daemon()?.restart()?;
    let old = node.folder().join("old");
    fs::create_dir(&old)?;
    for name in ["node.json", "store.sqlite", "audit", "node.ceremony.json", FILE] {
        fs::rename(node.folder().join(name), old.join(name))?;
    }
    let refused = node.command("init", [""; 0])?;
    assert_eq!(refused.code, Some(1));
    for told in ["MechanismInvalid", "weaker", &format!("add to [hsm]: {WEAKER}")] {
        assert!(refused.stderr.contains(told), "{told}: {}", refused.stderr);
    }
    assert!(!node.folder().join("node.json").exists());

    // A token that fails in another way is out of order, and that is no reason for weaker keys.
    fs::write(node.config(), &permitted)?;
    node.daemon()?.faults("C_GenerateKeyPair fail 48")?;
    let failed = node.command("init", [""; 0])?;
    assert!(failed.code == Some(1) && failed.stderr.contains("eds-transport"), "{}", failed.stderr);
    assert!(!node.folder().join(FILE).exists() && !node.folder().join("node.json").exists());
    // A key pair that the token can hold is made in it, although the line is there.
    node.daemon()?.mend()?;
    let made = text(&node.command("init", [""; 0])?.success()?.stdout);
    assert!(!made.contains("WEAKER") && !node.folder().join(FILE).exists(), "{made}");
    Ok(())
}

#[test]
fn a_token_that_makes_curves_and_cannot_agree_keeps_the_audit_key() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let node = cluster.node(1)?;
    node.put_behind_daemon()?;
    node.set_hsm(WEAKER)?;
    node.new_token("new", &node.token_label())?;
    node.daemon()?.kill()?;
    node.daemon()?.restart()?;
    node.daemon()?.faults("C_DeriveKey fail 84")?; // CKR_FUNCTION_NOT_SUPPORTED
    fs::remove_dir_all(node.folder().join("audit"))?;
    for name in ["node.json", "store.sqlite", "node.ceremony.json"] {
        fs::remove_file(node.folder().join(name))?;
    }
    let made = text(&node.command("init", [""; 0])?.success()?.stdout);
    assert!(made.contains("key eds-transport: EC P-256, WEAKER"), "{made}");
    assert!(made.contains("key eds-audit: EC P-256, id "), "{made}");
    node.command("hsm check", [""; 0])?.success()?;
    Ok(())
}

#[test]
fn wrapped_keys_that_are_not_the_nodes_own_are_refused() -> Outcome {
    let plan = Plan { nodes: 2, floor: 1, relayed: &[] };
    let mut cluster = Cluster::make_on(plan, &[(1, Token::WithoutCurves), (2, Token::WithoutCurves)])?;
    let foreign = fs::read_to_string(cluster.node(2)?.folder().join(FILE))?;
    let (other, other_tokens) =
        (fs::read_to_string(cluster.node(2)?.card())?, cluster.node(2)?.folder().join("tokens"));
    let node = cluster.node(1)?;
    let (file, card) = (node.folder().join(FILE), node.card());
    let own = fs::read_to_string(&file)?;
    let refused_with = |node: &Node, text: &str| -> Outcome<String> {
        fs::write(&file, text)?;
        let said = node.start_refused()?;
        fs::write(&file, &own)?;
        Ok(said)
    };
    let flipped = |record: &str| if record.ends_with('A') { "B" } else { "A" };
    let Some((before, record)) = own.split_once("\"record\": \"") else { give_up!("no record in {own}") };
    let altered = format!("{before}\"record\": \"{}{}{}", &record[..80], flipped(&record[..81]), &record[81..]);
    let said = refused_with(node, &altered)?;
    assert!(said.contains("\"eds-transport\"") && said.contains("does not open"), "{said}");
    // Of another node with another token.
    let said = refused_with(node, &foreign)?;
    assert!(said.contains("does not open") && said.contains("another token or node"), "{said}");
    // For the other purpose.
    let swapped =
        own.replace("eds-audit", "eds-x").replace("eds-transport", "eds-audit").replace("eds-x", "eds-transport");
    let said = refused_with(node, &swapped)?;
    assert!(said.contains("does not open"), "{said}");
    let said = refused_with(node, &own[..own.len() / 2])?;
    assert!(said.contains("not as `eds-keystored init` wrote it"), "{said}");
    fs::remove_file(&file)?;
    let said = node.start_refused()?;
    assert!(said.contains("no key \"eds-transport\"") && said.contains("weaker_wrapped_keys"), "{said}");
    fs::write(&file, &own)?;
    // Its own keys beside another node's identity file.
    let kept = fs::read_to_string(&card)?;
    fs::write(&card, other)?;
    let said = node.start_refused()?;
    assert!(said.contains("node of the wrapped keys"), "{said}");
    fs::write(&card, kept)?;
    // Another KEK: the other node's token, under its label.
    let (label, other_label) = (node.token_label(), "eds-node-2");
    let (tokens, settings) = (node.folder().join("tokens"), fs::read_to_string(node.config())?);
    fs::rename(&tokens, node.folder().join("tokens-kept"))?;
    fs::rename(other_tokens, &tokens)?;
    fs::write(node.config(), settings.replace(&label, other_label))?;
    node.daemon()?.kill()?;
    node.daemon()?.restart()?;
    let said = node.start_refused()?;
    assert!(said.contains("does not open") && said.contains("another token or node"), "{said}");
    // As it was, it starts.
    fs::remove_dir_all(&tokens)?;
    fs::rename(node.folder().join("tokens-kept"), &tokens)?;
    fs::write(node.config(), settings)?;
    node.daemon()?.kill()?;
    node.daemon()?.restart()?;
    node.start()?;
    node.stop()
}

#[test]
fn wrapped_keys_go_with_their_kek_when_it_is_rotated() -> Outcome {
    let mut cluster = alone()?;
    cluster.node(1)?.start()?;
    let user = encrypted(&cluster)?;
    let reads = |user: &User| -> Outcome {
        user.eds(["decrypt", "sealed", "-o", "copy", "--force"])?.success()?;
        assert_eq!(fs::read(user.home().join("copy"))?, CONTENT);
        Ok(())
    };
    let node = cluster.node(1)?;
    let file = node.folder().join(FILE);
    let (identity, before) = (fs::read_to_string(node.folder().join("node.json"))?, fs::read_to_string(&file)?);
    let (first, ..) = node.keks()?.remove(0);
    node.command_of(&["hsm", "rotate"])?.success()?;
    let (second, ..) = node.keks()?.remove(1);
    assert_eq!(fs::read_to_string(&file)?, before, "a rotation alone wraps nothing anew");
    node.command_of(&["hsm", "retire", &first])?.refused(1, &["wraps the key pairs in", FILE, "hsm rewrap"])?;
    // A node that starts between the two opens its keys under the older KEK.
    node.restart()?;
    reads(&user)?;

    let node = cluster.node(1)?;
    node.command_of(&["hsm", "rewrap"])?.success()?;
    let done = acts::last_done(node, "kek.rewrap")?.1;
    assert_eq!(done, format!("1 records and 2 key pairs wrapped by KEK {second}; 0 do not open"));
    let after = fs::read_to_string(&file)?;
    assert_ne!(after, before);
    // Once more finds nothing to do, and leaves the file as it is.
    node.command_of(&["hsm", "rewrap"])?.success()?;
    assert_eq!(fs::read_to_string(&file)?, after);
    node.command_of(&["hsm", "retire", &first])?.success()?;
    rusqlite::Connection::open(node.database())?.execute("UPDATE keks SET since = since - 600 WHERE state = 2", [])?;
    node.command_of(&["hsm", "retire", &first, "--destroy"])?.success()?;

    // The server that runs has them in memory; one that starts opens the new file without the KEK of before.
    reads(&user)?;
    let node = cluster.node(1)?;
    node.restart()?;
    let checked = text(&node.command("hsm check", [""; 0])?.success()?.stdout);
    assert!(checked.contains("private keys: WEAKER"), "{checked}");
    assert_eq!(fs::read_to_string(node.folder().join("node.json"))?, identity, "the keys are the ones they were");
    reads(&user)?;
    user.eds(["encrypt", "plain", "-o", "more"])?.success()?;
    // The file of before is worth nothing now.
    let node = cluster.node(1)?;
    node.stop()?;
    fs::write(&file, before)?;
    let said = node.start_refused()?;
    assert!(said.contains("eds-transport") && !said.contains("panicked"), "{said}");
    Ok(())
}

#[test]
fn what_is_in_memory_serves_nothing_while_the_token_is_away() -> Outcome {
    let mut cluster = alone()?;
    cluster.node(1)?.set_hsm("deadline_ms = 1500")?;
    cluster.node(1)?.start()?;
    let user = encrypted(&cluster)?;
    let process = cluster.node(1)?.process_id();
    cluster.node(1)?.daemon()?.kill()?;
    for _ in 0..3 {
        for words in [["decrypt", "sealed", "-o", "copy"], ["encrypt", "plain", "-o", "more"]] {
            assert_eq!(user.eds(words)?.code, Some(exit::UNAVAILABLE), "{words:?}");
        }
    }
    cluster.node(1)?.daemon()?.restart()?;
    cluster.node(1)?.daemon()?.faults(NO_CURVES)?;
    let until = Instant::now() + PATIENCE;
    while user.eds(["decrypt", "sealed", "-o", "copy", "--force"])?.code != Some(0) {
        if Instant::now() > until {
            give_up!("the node does not come back:\n{}", fs::read_to_string(cluster.node(1)?.log())?);
        }
    }
    assert_eq!(fs::read(user.home().join("copy"))?, CONTENT);
    user.eds(["encrypt", "plain", "-o", "more", "--force"])?.success()?;
    assert_eq!(cluster.node(1)?.process_id(), process);
    cluster.node(1)?.stop()
}
