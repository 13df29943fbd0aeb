//! A device in QEMU: from its sensor to two of three nodes; its memory afterwards; and its power lost in the middle.

use std::{collections::HashSet, fs, path::PathBuf, time::Duration};

use eds_core::{container::Opening, link::Bundle, sharing::combine};
use eds_firmware::{Provision, SCRUB_DEPTH, simulator::Delivered};
use eds_tests::{
    Outcome, Trouble,
    emulated::{self, Imaging},
    ports,
    process::Process,
    sample,
    ward::{Ward, ward},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;

fn last(transfers: &[Delivered]) -> Outcome<&Delivered> {
    transfers.last().ok_or_else(|| Trouble::new("nothing arrived"))
}

/// Everything secret of an image, in the forms in which arithmetic has it: scalars in both orders of their bytes.
fn secrets(imaging: &Imaging, arrived: &Delivered) -> Outcome<Vec<(String, Vec<u8>)>> {
    let bundle = Bundle::parse(&arrived.bundle)?;
    let mut records = imaging.hospital.records(&bundle);
    let mut found = Vec::new();
    let mut scalar = |name: String, bytes: &[u8; 32]| {
        found.push((name.clone(), bytes.to_vec()));
        found.push((name + ", reversed", bytes.iter().rev().copied().collect()));
    };
    for record in &records {
        scalar(format!("value {}", record.index()), record.share.value());
        scalar(format!("blinder {}", record.index()), record.share.blinder());
    }
    records.truncate(2);
    let secret = combine(bundle.manifest(), &records)?;
    scalar("file secret".into(), &secret.to_bytes());

    let input = secret.input_key("image", bundle.manifest().key);
    found.push(("input key".into(), input.as_bytes().to_vec()));
    let opening = Opening::parse(&arrived.container)?;
    // C2SP chunked-encryption, "Key derivation": the first block of HKDF-Expand is key and base nonce.
    let mut mac = Hmac::<Sha512>::new_from_slice(input.as_bytes())?;
    mac.update(b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0");
    mac.update(&opening.fingerprint().start.salt);
    mac.update(&<sha2::Sha256 as sha2::Digest>::digest(&arrived.container[..opening.ciphertext_offset()]));
    mac.update(&[1]);
    let output = mac.finalize().into_bytes();
    found.push(("message key".into(), output[..32].to_vec()));
    found.push(("base nonce".into(), output[32..44].to_vec()));
    // Pixels that are not the same everywhere.
    let pixels = &imaging.image[6_300..];
    for (number, piece) in pixels.chunks(16).enumerate() {
        if piece.iter().collect::<HashSet<_>>().len() > 10 {
            found.push((format!("pixels at {}", 16 * number), piece.to_vec()));
        }
    }
    Ok(found)
}

/// Which of them are in the memory, whole or by half.
fn left_in(memory: &[u8], secrets: &[(String, Vec<u8>)]) -> Vec<String> {
    let halves = |bytes: &[u8]| -> Vec<Vec<u8>> {
        if bytes.len() < 32 { vec![bytes.to_vec()] } else { bytes.chunks(16).map(<[u8]>::to_vec).collect() }
    };
    let place = |piece: &Vec<u8>| memory.windows(piece.len()).position(|window| window == piece.as_slice());
    let found =
        |(name, bytes): &(String, Vec<u8>)| Some(format!("{name} at {:#x}", halves(bytes).iter().find_map(place)?));
    secrets.iter().filter_map(found).collect()
}

#[test]
fn an_image_taken_in_qemu_is_opened_by_two_of_three_nodes_and_nothing_of_it_is_left_in_the_device() -> Outcome {
    let imaging = Imaging::new()?;
    let mut machine = imaging.start()?;
    // In the middle of the image the device must have what it encrypts with: shows that the search would find it.
    let middle =
        |_: usize, transfers: &[Delivered]| transfers.last().is_some_and(|transfer| transfer.container.len() > 20_000);
    assert!(machine.receive(middle)?, "the device gave up: {:?}", machine.end());
    let during = machine.memory()?;
    let complete = |_: usize, transfers: &[Delivered]| transfers.last().is_some_and(|transfer| transfer.complete);
    assert!(machine.receive(complete)?, "the device gave up: {:?}", machine.end());
    // The end is here and not acknowledged: the device does not know that it is done, and has forgotten the image.
    let after = machine.memory()?;
    let arrived = last(&machine.workstation.transfers)?.clone();

    let opened = imaging.hospital.open(&arrived.bundle, &arrived.container, &arrived.begin)?;
    assert!(opened == imaging.image, "another image came out");
    let secrets = secrets(&imaging, &arrived)?;
    assert!(
        left_in(&during, &secrets).iter().any(|found| found.starts_with("base nonce")),
        "the search finds nothing even while it is there"
    );
    assert_eq!(left_in(&after, &secrets), Vec::<String>::new(), "left in the device's memory");

    assert!(!machine.receive(|_, _| false)?);
    let (code, words) = machine.end()?;
    assert_eq!(code, 0, "{words}");
    // What was overwritten of the stack reaches below all that an image used: below it nothing was, but the calls of the wiping. Its
    // upper end is used again by what sends the end.
    let (wiped, below) =
        (emulated::figure(&words, "wiped")? as usize, emulated::figure(&words, "below_wiped")? as usize);
    assert!(wiped + 2048 >= SCRUB_DEPTH && wiped <= SCRUB_DEPTH + 2048, "not what was to be wiped: {words}");
    assert!(below <= 128, "an image used stack below the {SCRUB_DEPTH} bytes that are wiped: {words}");
    println!("the device said: {words}");
    Ok(())
}

#[test]
fn power_lost_at_twenty_moments_leaves_parts_that_nobody_takes_for_a_whole() -> Outcome {
    let imaging = Imaging::new()?;
    let mut seen = HashSet::new();
    let mut fresh = |what: &str, bytes: &[u8]| assert!(seen.insert(bytes.to_vec()), "{what} is used a second time");
    let mut distinct = |arrived: &Delivered| {
        fresh("the stream", &arrived.stream.to_le_bytes());
        fresh("the key", arrived.begin.key.as_bytes());
        fresh("the counter", &arrived.begin.counter.to_be_bytes());
        if let Ok(opening) = Opening::parse(&arrived.container) {
            fresh("the salt", &opening.fingerprint().start.salt);
            fresh("the commitment", &opening.fingerprint().start.commitment);
        }
    };
    // A whole one first: how many bytes there are.
    let whole = |distinct: &mut dyn FnMut(&Delivered)| -> Outcome<usize> {
        let mut machine = imaging.start()?;
        machine.receive(|_, _| false)?;
        let arrived = last(&machine.workstation.transfers)?;
        assert!(arrived.complete);
        assert!(imaging.hospital.open(&arrived.bundle, &arrived.container, &arrived.begin)? == imaging.image);
        distinct(arrived);
        let received = machine.received;
        assert_eq!(machine.end()?.0, 0);
        Ok(received)
    };
    let length = whole(&mut distinct)?;
    // The first bytes, the last one, and eighteen moments of this run's seed between them.
    let between = (0..18).map(|number| 1 + sample::below(&format!("power {number}"), length as u64 - 2) as usize);
    for cut in [1, length - 1].into_iter().chain(between) {
        let mut machine = imaging.start()?;
        assert!(machine.receive(|received, _| received == cut)?, "the device gave up before byte {cut}");
        let parts = machine.workstation.transfers.clone();
        drop(machine);
        if let Some(arrived) = parts.last() {
            assert!(!arrived.complete, "cut at {cut}");
            let opened = imaging.hospital.open(&arrived.bundle, &arrived.container, &arrived.begin);
            // The container may be whole when only the end is missing; then it is the image and nothing else.
            assert!(opened.is_err() || opened == Ok(imaging.image.clone()), "cut at {cut}");
            distinct(arrived);
        }
    }
    whole(&mut distinct)?;
    Ok(())
}

/// The whole story: a device in QEMU, a courier that dies in the middle, three real key servers of which one is away, and a
/// physician.
#[test]
fn an_image_taken_in_qemu_reaches_a_physician_through_a_courier_and_two_of_three_nodes() -> Outcome {
    let mut ward = ward()?;
    ward.cluster.node(3)?.kill()?;
    let (folder, image) = provisioned(&ward)?;
    let port = ports::free()?;
    let device = emulated::start_on_tcp(&emulated::build()?.join("device"), &folder, port)?;

    let (address, log) = (format!("127.0.0.1:{port}"), ward.courier.home().join("courier.log"));
    let start = || {
        let words = ["courier", "--tcp", &address, "--images", "1", "--quorum", "2"];
        Process::start("courier", &mut ward.courier.command(words), &log)
    };
    // The first courier is killed as soon as it has a part of the image on its disk.
    let first = start()?;
    let spool = ward.courier.state().join("courier");
    let deadline = std::time::Instant::now() + PATIENCE;
    let has_part = || {
        let files = eds_tests::files::below(&spool).unwrap_or_default();
        let part = files.iter().find(|file| file.extension().is_some_and(|extension| extension == "link"));
        part.and_then(|part| fs::metadata(part).ok()).is_some_and(|part| part.len() > 10_000)
    };
    while !has_part() {
        assert!(std::time::Instant::now() < deadline, "nothing arrives: {}", fs::read_to_string(&log)?);
        std::thread::yield_now();
    }
    first.kill()?;
    let mut second = start()?;
    let said = second.wait_for("", PATIENCE)?;
    let id = said.split('\t').next().unwrap_or_default().to_owned();
    assert!(said.contains(&ward.device.id.to_string()), "{said}");
    assert!(second.ended_within(PATIENCE)?.success(), "{}", fs::read_to_string(&log)?);
    assert!(fs::read_to_string(&log)?.contains("goes on "), "the first courier had nothing yet");
    // The device knows that its image arrived.
    let status = device.ended_within(PATIENCE)?;
    assert!(status.success(), "{}", fs::read_to_string(folder.join("words"))?);

    ward.physician.eds(["retrieve", &id, "-o", "image"])?.success()?;
    assert!(fs::read(ward.physician.home().join("image"))? == image, "another image came out");
    Ok(())
}

/// The same over a serial port.
#[test]
fn an_image_taken_in_qemu_goes_over_a_serial_port() -> Outcome {
    let ward = ward()?;
    let (folder, image) = provisioned(&ward)?;
    let (device, terminal) = emulated::start_on_terminal(&emulated::build()?.join("device"), &folder)?;
    let port = terminal.display().to_string();
    let words = ["courier", "--serial", &port, "--speed", "230400", "--images", "1"];
    let said = ward.courier.eds(words)?.success()?.text();
    assert!(device.ended_within(PATIENCE)?.success(), "{}", fs::read_to_string(folder.join("words"))?);
    let id = said.split('\t').next().unwrap_or_default();
    ward.physician.eds(["retrieve", id, "-o", "image"])?.success()?;
    assert!(fs::read(ward.physician.home().join("image"))? == image, "another image came out");
    Ok(())
}

/// A folder of the ward's device, provisioned and with an image before its sensor; returns what it will make of it.
fn provisioned(ward: &Ward) -> Outcome<(PathBuf, Vec<u8>)> {
    let folder = ward.cluster.folder().join("device");
    fs::create_dir_all(&folder)?;
    let image = emulated::put_before_sensor(&folder)?;
    let directory = fs::read(ward.cluster.directory())?;
    let blob = Provision {
        device: ward.device.id,
        key: ward.device.private_key(),
        pin: eds_core::directory::key_fingerprint(&ward.directory.cluster_key),
        lowest: ward.directory.version,
        needed: 2,
        directory: &directory,
    };
    emulated::provision(&folder, &blob)?;
    drop(blob);
    Ok((folder, image))
}

const PATIENCE: Duration = Duration::from_secs(120);
