//! `make demo`: the story of EDS in plain words, with real programs: three key servers with a token each, a real CT image.
//!
//! Every command that runs is shown. Every claim is checked, and a claim that does not hold ends the demo with an error.
//! Processes and files are gone at the end.

mod narrator;

use std::{
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
    dicom, files,
    user::{User, exit, watch},
};
use narrator::Narrator;

fn main() -> ExitCode {
    watch(narrator::command);
    let start = Instant::now();
    match story(&mut Narrator::default()) {
        Ok(()) => {
            println!(
                "\nThe demo took {:.1} s. Its key servers are stopped and its files removed.",
                start.elapsed().as_secs_f32()
            );
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            println!("\nThe demo stopped, because something did not go as told: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn story(tell: &mut Narrator) -> Outcome {
    tell.chapter("Three key servers");
    tell.say(
        "An authority, and three key servers on this machine, each with a security token (SoftHSM) of its own. Each \
         makes its keys inside its token. An officer puts their public keys into a directory and signs it.",
    );
    let mut cluster = Cluster::start(Plan { nodes: 3, floor: 2, relayed: &[2] })?;
    for node in cluster.nodes() {
        tell.say(&format!("Key server {} answers at {}.", node.number, node.url()));
    }

    tell.chapter("A physician with an image");
    tell.say("Alice has a certificate, trusts the directory by its fingerprint, and has a real CT image (of a test patient).");
    let alice = cluster.user("Alice")?;
    let scan = alice.home().join("scan.dcm");
    fs::copy(dicom::ct_small()?, &scan)?;
    let image = fs::read(&scan)?;
    let known: Vec<&str> =
        dicom::CT_PATIENT.into_iter().filter(|text| files::contains(&image, text.as_bytes())).collect();
    tell.say(&format!("In the file are, for everybody to read: {}.", known.join(", ")));
    tell.check("the original holds the patient's name and id", known.len() == dicom::CT_PATIENT.len())?;

    tell.chapter("Register: separate, encrypt, split the key, store");
    let registered = alice.eds(["register", "scan.dcm"])?.success()?;
    tell.output(&registered);
    let id = registered.id();
    look_for_the_patient(tell, &alice)?;

    tell.chapter("One key server is gone");
    cluster.node(3)?.kill()?;
    tell.say("Key server 3 was killed. Two of three are enough.");
    tell.output(&alice.eds(["key", "status", &id])?);
    retrieve_and_compare(tell, &alice, &id, &image)?;

    tell.chapter("Two key servers are gone");
    cluster.node(1)?.kill()?;
    tell.say("Now key server 1 is killed as well. One of three must not be enough.");
    let refused = alice.eds(["retrieve", &id, "-o", "never.dcm"])?.refused(exit::UNAVAILABLE, &[])?;
    tell.output(&refused);
    tell.check(
        "with one key server the image stays closed, and no file appears",
        !alice.home().join("never.dcm").exists(),
    )?;

    tell.chapter("A key server that answers wrongly");
    cluster.node(1)?.start()?;
    cluster.node(3)?.start()?;
    tell.say(
        "All three run again. Somebody with the database and the PIN of key server 1 changes its shares. Key server 2 has \
         a slow line today, so the wrong share is looked at.",
    );
    cluster.node(1)?.damage()?;
    cluster.node(2)?.relay()?.delay_answers(Duration::from_millis(700));
    let warned = alice.eds(["retrieve", &id, "--restore", "-o", "again.dcm"])?.success()?;
    tell.output(&warned);
    tell.check("the key server with the damaged share is named", warned.stderr.contains("node 1"))?;
    tell.check("and the image is right all the same", fs::read(alice.home().join("again.dcm"))? == image)?;

    tell.summary();
    Ok(())
}

fn look_for_the_patient(tell: &mut Narrator, alice: &User) -> Outcome {
    let stored = files::only(&alice.objects())?;
    let size = fs::metadata(&stored)?.len();
    let name = stored.strip_prefix(alice.home()).unwrap_or(&stored).display().to_string();
    tell.say(&format!("Stored: {name}, {size} bytes. Whoever runs the storage sees that name and that size."));
    let in_storage = files::holding(&alice.objects(), &dicom::CT_PATIENT)?;
    tell.check("the stored file holds nothing of the patient", in_storage.is_empty())?;
    let mut in_databases = files::holding(alice.home(), &dicom::CT_PATIENT)?;
    in_databases.retain(|(path, _)| is_database(path));
    tell.check("catalog and metadata databases hold nothing of the patient", in_databases.is_empty())
}

/// The database and what SQLite keeps beside it.
fn is_database(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".sqlite"))
}

fn retrieve_and_compare(tell: &mut Narrator, alice: &User, id: &str, image: &[u8]) -> Outcome {
    tell.say("A researcher's view, without the patient:");
    tell.output(&alice.eds(["retrieve", id, "-o", "research.dcm"])?.success()?);
    let research = fs::read(alice.home().join("research.dcm"))?;
    let left: Vec<&str> =
        dicom::CT_PATIENT.into_iter().filter(|text| files::contains(&research, text.as_bytes())).collect();
    tell.check("the image for research holds nothing of the patient", left.is_empty() && !research.is_empty())?;
    tell.say("The treating physician's view:");
    tell.output(&alice.eds(["retrieve", id, "--restore", "-o", "back.dcm"])?.success()?);
    tell.check(
        "the restored image equals the original, byte for byte",
        fs::read(alice.home().join("back.dcm"))? == image,
    )
}
