//! The gateway is killed at any moment while a modality stores: what was acknowledged is there, whole, and nothing else is
//! half there; sent again, everything is there once.
//!
//! 5 kills over 60 objects each, in `make soak` 50 over 500; `EDS_SEED` repeats a run.
#![cfg(feature = "full")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use eds_tests::{
    Outcome, Trouble,
    cluster::Cluster,
    dicom, files,
    gateway::{Gateway, Peer, data_set, data_sets},
    kills, sample,
    user::{self, User},
};

fn rounds() -> (usize, usize) {
    if std::env::var_os("EDS_SOAK").is_some() { (50, 500) } else { (5, 60) }
}

/// The files that a `storescu -v` was told are stored, by what it said.
fn acknowledged(said: &str, all: &[PathBuf]) -> usize {
    let mut acknowledged = 0;
    let mut sending = false;
    for line in said.lines() {
        sending |= line.contains("Sending file:");
        if sending && line.contains("Received Store Response (Success)") {
            acknowledged += 1;
            sending = false;
        }
    }
    acknowledged.min(all.len())
}

fn files_of(found: &Path) -> Outcome<BTreeSet<Vec<u8>>> {
    if found.is_dir() { data_sets(found) } else { Ok(BTreeSet::new()) }
}

/// Everything of the study, as the gateway gives it back.
fn all_of_the_study(gateway: &Gateway, alice: &User, round: usize) -> Outcome<BTreeSet<Vec<u8>>> {
    let got = alice.home().join(format!("got-{round}"));
    fs::create_dir_all(&got)?;
    let (out, study) = (got.display().to_string(), format!("StudyInstanceUID={}", dicom::CT_PATIENT[2]));
    let keys = ["-S", "+B", "-k", "QueryRetrieveLevel=STUDY", "-k", &study, "-od", &out];
    gateway.peer("getscu", "CT1", &keys, &[])?;
    let sets = files_of(&got)?;
    fs::remove_dir_all(&got)?;
    Ok(sets)
}

/// The objects of a round.
fn ward(cluster: &Cluster, image: &[u8], round: usize, objects: usize) -> Outcome<Vec<PathBuf>> {
    let ward = cluster.folder().join(format!("ward-{round}"));
    fs::create_dir_all(&ward)?;
    let mut written = Vec::new();
    for number in 0..objects {
        let path = ward.join(format!("{number:04}.dcm"));
        fs::write(&path, dicom::slice(image, round * objects + number))?;
        written.push(path);
    }
    Ok(written)
}

fn paths(written: &[PathBuf]) -> Vec<&Path> {
    written.iter().map(PathBuf::as_path).collect()
}

#[test]
fn what_was_acknowledged_is_there_whoever_dies() -> Outcome {
    let (rounds, objects) = rounds();
    eprintln!("{rounds} kills, seed: EDS_SEED={}", sample::seed());
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let mut gateway =
        Gateway::start(&cluster.folder().join("gateway"), &alice, &[Peer::of("CT1", &alice)], "key_for = \"series\"")?;
    // Without the padding at its end, which dcmtk does not send: what it sends is what is in the file.
    let plain = cluster.folder().join("plain.dcm");
    let mut dcmconv = Command::new("dcmconv");
    dcmconv.arg("--padding-off").args([dicom::ct_small()?.as_path(), &plain]);
    user::run(&mut dcmconv)?.success()?;
    let image = fs::read(&plain)?;
    let mut stored = BTreeSet::new();
    // One round without a kill tells how long it takes.
    let written = ward(&cluster, &image, rounds, objects)?;
    let start = Instant::now();
    gateway.peer("storescu", "CT1", &[], &paths(&written))?.success()?;
    let usual = start.elapsed();
    stored.extend(written.iter().map(|path| data_set(path)).collect::<Outcome<Vec<_>>>()?);
    let mut killed_within = 0;
    for round in 0..rounds {
        let written = ward(&cluster, &image, round, objects)?;
        let all = paths(&written);
        let mut command = gateway.dcmtk("storescu", "CT1", &["-v"], &all);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Up to nine tenths of the way: a kill after the end would meet nothing.
        kills::wait_until(Instant::now() + kills::moment(&format!("gateway {round}"), usual.mul_f64(0.6)));
        gateway.kill()?;
        let output = child.wait_with_output()?;
        let said = [output.stdout, output.stderr].concat();
        let safe = acknowledged(&String::from_utf8_lossy(&said), &written);
        gateway.restart()?;

        let there = all_of_the_study(&gateway, &alice, round)?;
        for path in written.iter().take(safe) {
            if !there.contains(&data_set(path)?) {
                return Err(Trouble::new(format!("round {round}: {} was acknowledged and is lost", path.display())));
            }
        }
        for path in &written {
            stored.insert(data_set(path)?);
        }
        assert!(there.is_subset(&stored), "round {round}: something came back that nobody sent");
        gateway.peer("storescu", "CT1", &[], &all)?.success()?;
        killed_within += u32::from(safe < objects);
        eprintln!("round {round}: {safe} of {objects} were acknowledged before the kill");
    }
    assert!(killed_within > 0, "no kill met the gateway at work");
    assert!(all_of_the_study(&gateway, &alice, rounds)? == stored, "everything is there once");
    assert_eq!(files::below(&alice.objects())?.len(), stored.len(), "and nothing else");
    Ok(())
}
