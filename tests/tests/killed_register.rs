//! A registration that is killed at any moment and started again: each image is there once, comes back byte for byte, and
//! nothing is left over, neither containers nor keys.
//!
//! `make soak` repeats this some hundreds of times.

use std::{collections::BTreeSet, fs, process::Stdio, time::Instant};

use eds_tests::{Outcome, cluster::Cluster, dicom, files, kills, user::User};

const SLICES: usize = 40;

#[test]
fn each_image_is_registered_once_whenever_the_kill_comes() -> Outcome {
    let cluster = Cluster::of_three()?;
    let measured = cluster.user("measured")?;
    dicom::write_study(&measured.home().join("ward"), SLICES)?;
    let start = Instant::now();
    measured.eds(["register", "ward", "--key-per", "series"])?.success()?;
    let usual = start.elapsed();

    let studies = kills::rounds().div_ceil(KILLS);
    let mut complete = 0;
    for study in 0..studies {
        let name = format!("killed{study}");
        let user = cluster.user(&name)?;
        let scope = if study % 2 == 0 { "series" } else { "image" };
        let arguments = ["register", "ward", "--key-per", scope];
        dicom::write_study(&user.home().join("ward"), SLICES)?;
        for kill in 0..KILLS {
            let moment = kills::moment(&format!("{study} {kill}"), usual);
            let mut child = user.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            kills::wait_until(Instant::now() + moment);
            child.kill()?;
            if child.wait()?.success() {
                complete += 1;
            }
        }
        let last = user.eds(arguments)?.success()?;
        let ids: BTreeSet<String> =
            last.text().lines().filter_map(|line| Some(line.split_once('\t')?.0.to_owned())).collect();
        assert_eq!(ids.len(), SLICES, "study {study}: one id for each image\n{}", last.stderr);
        check(&user, &ids, scope)?;
    }
    eprintln!("{complete} of {} runs were complete before the kill", studies * KILLS);
    Ok(())
}

/// That there is what was registered, and nothing else.
fn check(user: &User, ids: &BTreeSet<String>, scope: &str) -> Outcome {
    let found = user.eds(["search", "Modality=CT", "-o", "ids"])?.success()?.text();
    assert_eq!(found.lines().map(str::to_owned).collect::<BTreeSet<_>>(), *ids);
    assert_eq!(found.lines().count(), SLICES, "an image is there twice");
    assert_eq!(files::below(&user.objects())?.len(), SLICES, "containers are left over");
    user.eds(["retrieve", "--search", "Modality=CT", "--restore", "-o", "back"])?.success()?;
    let contents = |folder: &str| {
        files::below(&user.home().join(folder))?
            .iter()
            .map(|path| Ok(fs::read(path)?))
            .collect::<Outcome<BTreeSet<_>>>()
    };
    assert!(contents("back")? == contents("ward")?, "what comes back is not what went in");
    // Keys of images and private parts, and two of the project.
    let listed = user.eds(["key", "ls"])?.success()?.text();
    let keys = listed.lines().filter(|line| line.split_whitespace().any(|word| word.len() == 36)).count();
    let expected = if scope == "image" { 2 * SLICES + 2 } else { 4 };
    // A key of the project that was made in the moment before the kill stays: nobody knows that it is not used.
    assert!((expected..=expected + PROJECT_KEYS).contains(&keys), "{keys} keys instead of {expected}\n{listed}");
    Ok(())
}

/// Kills of one registration, before it is let through.
const KILLS: u64 = 5;
/// Of the project, so many can be left over by one who is killed while making them, each time.
const PROJECT_KEYS: usize = 2;
