//! The gateway before real peers: dcmtk stores, asks, gets and moves; what comes back is what went in, and what a peer may not
//! have it does not see.
#![cfg(feature = "full")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use eds_tests::{
    Outcome,
    cluster::Cluster,
    dicom, files,
    gateway::{Gateway, Peer, data_sets, wait_for_port},
    pki::{Authority, CredentialFiles},
    ports,
    process::Process,
    storages::Lab,
    user::{Run, User},
};

/// A researcher who may fetch the images that this log of a gateway names, and neither the patients nor the search key.
fn researcher(cluster: &Cluster, owner: &User, log: &str) -> Outcome<User> {
    let user = cluster.user("researcher")?;
    let name = user.name()?;
    // The images lie in the owner's rooms; only who proves what they are differs.
    let settings = fs::read_to_string(user.config())?;
    let shared: String = settings
        .lines()
        .map(|line| match line {
            "path = \"objects\"" => format!("path = {:?}\n", owner.objects()),
            "path = \"catalog.sqlite\"" => format!("path = {:?}\n", owner.home().join("catalog.sqlite")),
            "path = \"metadata.sqlite\"" => format!("path = {:?}\n", owner.home().join("metadata.sqlite")),
            other => format!("{other}\n"),
        })
        .collect();
    fs::write(user.config(), shared)?;
    let keys: BTreeSet<&str> =
        log.lines().filter_map(|line| line.split("under key ").nth(1)?.split(',').next()).collect();
    assert!(!keys.is_empty(), "{log}");
    for key in keys {
        owner.eds(["key", "setacl", "-m", &format!("{name}:g"), key])?.success()?;
    }
    Ok(user)
}

fn gateway(cluster: &Cluster, runner: &User, peers: &[Peer<'_>]) -> Outcome<Gateway> {
    Gateway::start(&cluster.folder().join("gateway"), runner, peers, "key_for = \"study\"")
}

fn paths(written: &[PathBuf]) -> Vec<&Path> {
    written.iter().map(PathBuf::as_path).collect()
}

const STUDY: &str = dicom::CT_PATIENT[2];

#[test]
fn what_a_modality_stores_comes_back_as_it_was() -> Outcome {
    // In a network of its own: dcmtk's receiver cannot be told to listen on the loopback address alone.
    Lab::inside("what_a_modality_stores_comes_back_as_it_was", |_| stored_and_got_back())
}

fn stored_and_got_back() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let destination = ports::free()?;
    let archive = Peer { destination: Some(destination), ..Peer::of("ARCHIVE", &alice) };
    let gateway = gateway(&cluster, &alice, &[Peer::of("CT1", &alice), archive])?;
    gateway.peer("echoscu", "CT1", &[], &[])?.success()?;

    let ward = cluster.folder().join("ward");
    let written = dicom::write_study(&ward, 12)?;
    gateway.peer("storescu", "CT1", &["-v"], &paths(&written))?.success()?;
    // Sent again, as modalities do when an answer was lost: the same success, and nothing is there twice.
    gateway.peer("storescu", "CT1", &[], &paths(&written))?.success()?;
    assert_eq!(files::below(&alice.objects())?.len(), 12);
    assert_eq!(files::holding(&alice.objects(), &dicom::CT_PATIENT)?, []);
    let log = gateway.log()?;
    for text in dicom::CT_PATIENT {
        assert!(!log.contains(text), "{text} in {log}");
    }

    // By patient, by wildcard, by study.
    for key in ["PatientID=1CT1", "PatientName=compressed*", &format!("StudyInstanceUID={STUDY}")] {
        let found = gateway.peer(
            "findscu",
            "CT1",
            &[
                "-S",
                "-k",
                "QueryRetrieveLevel=STUDY",
                "-k",
                key,
                "-k",
                "StudyDescription",
                "-k",
                "ModalitiesInStudy",
                "-k",
                "NumberOfStudyRelatedInstances",
            ],
            &[],
        )?;
        let said = found.success()?;
        let said = format!("{}{}", said.text(), said.stderr);
        assert!(said.contains("[CT]") && said.contains("[12]"), "{key}: {said}");
    }

    // What storescu really sends of these files is what another receiver gets from it.
    let sent = cluster.folder().join("sent");
    fs::create_dir_all(&sent)?;
    let port = ports::free()?;
    let control = storescp(&cluster, port, &sent)?;
    let mut direct = std::process::Command::new("storescu");
    direct.args(["-aec", "ANY", "127.0.0.1", &port.to_string()]).args(&written);
    eds_tests::user::run(&mut direct)?.success()?;
    drop(control);

    let got = cluster.folder().join("got");
    fs::create_dir_all(&got)?;
    let out = got.display().to_string();
    let study = format!("StudyInstanceUID={STUDY}");
    let keys = ["-S", "+B", "-k", "QueryRetrieveLevel=STUDY", "-k", &study, "-od", &out];
    gateway.peer("getscu", "CT1", &keys, &[])?.success()?;
    assert!(data_sets(&got)? == data_sets(&sent)?, "C-GET gives back what was stored");

    let moved = cluster.folder().join("moved");
    fs::create_dir_all(&moved)?;
    let _archive = storescp(&cluster, destination, &moved)?;
    let keys = ["-S", "-aem", "ARCHIVE", "-k", "QueryRetrieveLevel=STUDY", "-k", &study];
    gateway.peer("movescu", "CT1", &keys, &[])?.success()?;
    assert!(data_sets(&moved)? == data_sets(&sent)?, "C-MOVE gives back what was stored");
    // An AE title that the settings do not know gets nothing.
    let keys = ["-v", "-S", "-aem", "STRANGER", "-k", "QueryRetrieveLevel=STUDY", "-k", &study];
    let refused = gateway.peer("movescu", "CT1", &keys, &[])?;
    assert!(said(&refused).contains("MoveDestinationUnknown"), "{}", said(&refused));
    Ok(())
}

fn said(run: &Run) -> String {
    format!("{}{}", run.text(), run.stderr)
}

/// dcmtk's receiver, which takes what it is sent into `folder`.
fn storescp(cluster: &Cluster, port: u16, folder: &Path) -> Outcome<Process> {
    let mut command = std::process::Command::new("storescp");
    command.args(["-v", "+B", "-od", &folder.display().to_string(), &port.to_string()]);
    let process = Process::start("storescp", &mut command, &cluster.folder().join("storescp.log"))?;
    wait_for_port(port)?;
    Ok(process)
}

#[test]
fn a_researcher_gets_the_images_without_the_patient() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let ward = cluster.folder().join("ward");
    let written = dicom::write_study(&ward, 3)?;
    let first = gateway(&cluster, &alice, &[Peer::of("CT1", &alice)])?;
    first.peer("storescu", "CT1", &[], &paths(&written))?.success()?;
    let log = first.log()?;
    drop(first);

    let bob = researcher(&cluster, &alice, &log)?;
    let mallory = cluster.user("mallory")?;
    fs::write(mallory.config(), fs::read_to_string(bob.config())?.replace("researcher", "mallory"))?;
    let peers = [Peer::of("LAB", &bob), Peer::of("OTHER", &mallory)];
    let gateway = Gateway::start(&cluster.folder().join("second"), &bob, &peers, "")?;
    let found = gateway.peer(
        "findscu",
        "LAB",
        &[
            "-S",
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            "StudyInstanceUID",
            "-k",
            "PatientName",
            "-k",
            "PatientID",
            "-k",
            "ModalitiesInStudy",
        ],
        &[],
    )?;
    let found = said(&found.success()?);
    assert!(found.contains("[CT]") && found.contains("2.25."), "{found}");
    for text in dicom::CT_PATIENT {
        assert!(!found.contains(text), "{text} in {found}");
    }
    let study = found.split("2.25.").nth(1).and_then(|rest| rest.split([']', '\0']).next()).unwrap_or_default();
    let study = format!("StudyInstanceUID=2.25.{study}");
    // By the patient, the researcher cannot even ask.
    let refused =
        gateway.peer("findscu", "LAB", &["-v", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=1CT1"], &[])?;
    assert!(said(&refused).contains("0x124"), "{}", said(&refused));

    for (title, images) in [("LAB", 3), ("OTHER", 0)] {
        let got = cluster.folder().join(title);
        fs::create_dir_all(&got)?;
        let out = got.display().to_string();
        gateway.peer("getscu", title, &["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", &study, "-od", &out], &[])?;
        assert_eq!(files::below(&got)?.len(), images, "{title}: {}", gateway.log()?);
        assert_eq!(files::holding(&got, &dicom::CT_PATIENT)?, []);
    }
    Ok(())
}

#[test]
fn strangers_and_wrong_objects_are_refused() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let peers =
        [Peer { may: &["store"], ..Peer::of("CT1", &alice) }, Peer { may: &["find"], ..Peer::of("DESK", &alice) }];
    let gateway = gateway(&cluster, &alice, &peers)?;
    let ward = cluster.folder().join("ward");
    let written = dicom::write_study(&ward, 2)?;
    let ours = paths(&written);
    assert_ne!(gateway.peer("storescu", "CT2", &[], &ours)?.code, Some(0), "an unknown AE title");
    assert_ne!(gateway.peer("storescu", "DESK", &[], &ours)?.code, Some(0), "a peer that may not store");
    let asked = gateway.peer("findscu", "CT1", &["-S", "-k", "QueryRetrieveLevel=STUDY"], &[])?;
    assert_ne!(asked.code, Some(0), "a peer that may not ask");
    assert_eq!(files::below(&alice.objects()).unwrap_or_default(), Vec::<PathBuf>::new());

    gateway.peer("storescu", "CT1", &[], &ours)?.success()?;
    // Other pixels under the same UID.
    let other = cluster.folder().join("other.dcm");
    let mut bytes = fs::read(&written[0])?;
    if let Some(pixel) = bytes.len().checked_sub(2_000).and_then(|at| bytes.get_mut(at)) {
        *pixel ^= 0xFF;
    }
    fs::write(&other, bytes)?;
    let refused = gateway.peer("storescu", "CT1", &["-v"], &[&other])?;
    assert!(said(&refused).contains("0x111"), "{}", said(&refused));
    assert_eq!(files::below(&alice.objects())?.len(), 2);
    Ok(())
}

#[test]
fn over_tls_the_certificate_decides_too() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let folder = cluster.folder().join("tls");
    fs::create_dir_all(&folder)?;
    let own = cluster.authority().server("gateway")?.write(&folder, "gateway")?;
    let ct1 = cluster.authority().person("ct1.radiology")?.write(&folder, "ct1")?;
    let ct2 = cluster.authority().person("ct2.radiology")?.write(&folder, "ct2")?;
    let stranger = Authority::new("another CA")?.person("ct1.radiology")?.write(&folder, "stranger")?;
    let tls =
        format!("\n[tls]\ncertificate = {:?}\nkey = {:?}\npeers_ca = {:?}\n", own.certificate, own.key, cluster.ca());
    let peer = Peer { certificate: Some("ct1.radiology"), ..Peer::of("CT1", &alice) };
    let gateway = Gateway::start(&folder, &alice, &[peer], &tls)?;
    let ca = cluster.ca().display().to_string();
    let as_whom = |files: &CredentialFiles, title: &str| {
        let (key, certificate) = (files.key.display().to_string(), files.certificate.display().to_string());
        gateway.peer("storescu", title, &["+tls", &key, &certificate, "+cf", &ca], &[&dicom::ct_small()?])
    };
    as_whom(&ct1, "CT1")?.success()?;
    assert_eq!(files::below(&alice.objects())?.len(), 1);
    assert_ne!(as_whom(&ct2, "CT1")?.code, Some(0), "the certificate of another device");
    assert_ne!(as_whom(&stranger, "CT1")?.code, Some(0), "a certificate of another authority");
    assert_ne!(gateway.peer("echoscu", "CT1", &[], &[])?.code, Some(0), "no TLS at all");
    Ok(())
}
