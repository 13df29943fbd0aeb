//! An auditor without access to the nodes' machines: signed heads against those seen before, and exported logs, whole and
//! tampered with.

use std::{fs, path::Path};

use eds_tests::{Outcome, cluster::Cluster, user::exit};

fn copy(from: &Path, to: &Path) -> Outcome {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        // The socket of a server is no part of a log.
        if file.path().is_file() {
            fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    Ok(())
}

/// Ends the nodes in order, so that each signs the head of its log, and starts them again.
fn sign(cluster: &mut Cluster) -> Outcome {
    for node in cluster.nodes() {
        node.stop()?;
        node.start()?;
    }
    Ok(())
}

#[test]
fn a_log_that_no_longer_continues_what_was_seen_is_found_from_outside() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let (alice, auditor) = (cluster.user("alice")?, cluster.user("auditor")?);
    fs::write(alice.home().join("plain"), "something")?;
    let encrypt = ["encrypt", "plain", "-o", "cipher", "--force"];
    alice.eds(encrypt)?.success()?;
    sign(&mut cluster)?;
    let verify = ["audit", "verify"];
    let said = auditor.eds(verify)?.success()?.text();
    assert_eq!(said.matches("  ok    ").count(), 3, "{said}");
    assert_eq!(said.matches("seen for the first time").count(), 3, "{said}");
    // What node 2 is to forget is done after its disk is copied.
    let second = cluster.node(2)?;
    second.stop()?;
    let (log, old) = (second.folder().join("audit"), second.folder().join("old-audit"));
    copy(&log, &old)?;
    second.start()?;
    alice.eds(encrypt)?.success()?;
    sign(&mut cluster)?;
    let said = auditor.eds(verify)?.success()?.text();
    assert_eq!(said.matches("; continues the ").count(), 3, "{said}");

    // The disk is put back: the node starts, since its files fit each other, and its key signs another head.
    let second = cluster.node(2)?;
    second.stop()?;
    copy(&old, &log)?;
    second.start()?;
    let told =
        auditor.eds(verify)?.failed(exit::DAMAGED, &["the audit log of 1 node(s) is not in order", "hint: keep"])?;
    let said = told.text();
    assert!(said.contains("node 2  BAD   its key signed ") && said.contains("exclude each other"), "{said}");
    assert_eq!(said.matches("  ok    ").count(), 2, "{said}");
    let evidence: Vec<&str> = said.split_whitespace().filter(|word| word.ends_with(".note")).collect();
    assert!(evidence.len() == 2 && evidence.iter().all(|file| auditor.home().join(file).exists()), "{said}");
    // It stays found, whatever is done to the log later, since what was seen is not replaced.
    for _ in 0..30 {
        alice.eds(["key", "ls"])?.success()?;
    }
    sign(&mut cluster)?;
    auditor.eds(["audit", "verify", "--node", "2"])?.failed(exit::DAMAGED, &["not in order"])?;
    auditor.eds(["audit", "verify", "--node", "1"])?.success()?;
    auditor.eds(["audit", "verify", "--node", "9"])?.refused(exit::USAGE, &["has no node 9"])?;
    cluster.node(3)?.kill()?;
    auditor.eds(["audit", "verify", "--node", "3"])?.failed(exit::UNAVAILABLE, &["node 3", "cannot be reached"])?;

    // The same with the files: the log of node 1 is in order, that of node 2 does not fit what the auditor saw.
    let exported = auditor.home().join("exported");
    let whole = |from: &Path| {
        copy(from, &exported)?;
        auditor.eds(["audit", "verify", "--log", "exported"])
    };
    let first = cluster.node(1)?.folder().join("audit");
    let said = whole(&first)?.success()?.text();
    assert!(said.ends_with("ok") && said.contains("log eds/"), "{said}");
    let told = whole(&log)?.failed(exit::DAMAGED, &["not in order"])?.text();
    assert!(told.contains("does not fit the checkpoint of") && told.contains("first bad entry: "), "{told}");
    let told = whole(&old)?.failed(exit::DAMAGED, &["not in order"])?.text();
    assert!(told.contains("entries were dropped"), "{told}");

    // One byte of one entry.
    copy(&first, &exported)?;
    let segment = fs::read_dir(&exported)?.filter_map(Result::ok).map(|file| file.path());
    let segment = segment.filter(|path| path.extension().is_some_and(|kind| kind == "eda")).min().unwrap_or_default();
    let mut bytes = fs::read(&segment)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes)?;
    let told = auditor.eds(["audit", "verify", "--log", "exported"])?.failed(exit::DAMAGED, &[])?.text();
    assert!(told.contains("the record was altered") && told.contains("first bad entry: "), "{told}");
    fs::write(auditor.home().join("empty"), "")?;
    auditor.eds(["audit", "verify", "--log", "nowhere"])?.refused(exit::NOT_FOUND, &["cannot read nowhere"])?;
    Ok(())
}
