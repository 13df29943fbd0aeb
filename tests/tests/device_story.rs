//! An imaging device, a courier that cannot read, three key servers, a physician: the whole story, and everything that may go
//! wrong with it on the way.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use eds_core::{link::Bundle, sharing::combine};
use eds_tests::{
    Outcome, files,
    imaging::{Device, Made, send},
    kills, ports,
    process::Process,
    user::exit,
    ward::{carries, frame, ward},
};

#[test]
fn a_device_acquires_a_courier_delivers_and_a_physician_retrieves() -> Outcome {
    let mut ward = ward()?;
    let image = frame()?;
    let made = ward.takes(&image)?;
    let id = made.begin.file.to_string();
    let key = made.begin.key.to_string();
    ward.cluster.node(3)?.kill()?;

    // The line breaks three times; at the second, the courier loses its power, and another one goes on.
    let address = format!("127.0.0.1:{}", ports::free()?);
    let log = ward.courier.home().join("courier.log");
    let start = || {
        let words = ["courier", "--tcp-listen", &address, "--images", "1", "--quorum", "2"];
        let mut process = Process::start("courier", &mut ward.courier.command(words), &log)?;
        process.wait_for("listening on ", Duration::from_secs(30))?;
        Outcome::Ok(process)
    };
    let mut process = Some(start()?);
    let crossed = send(&address, &made.packets()?, 8, &[3, 40, 25], |connections| {
        if connections == 2 {
            if let Some(process) = process.take() {
                process.kill()?;
            }
            process = Some(start()?);
        }
        Ok(())
    })?;
    assert_eq!(crossed.connections, 4);
    let mut process = process.expect("it runs");
    let said = process.wait_for(&id, Duration::from_secs(60))?;
    assert_eq!(said, format!("{key}\t{}\t1", ward.device.id));
    assert!(process.ended_within(Duration::from_secs(60))?.success(), "{}", fs::read_to_string(&log)?);
    let told = fs::read_to_string(&log)?;
    for words in ["receiving ", "goes on ", "received ", "delivered ", "2 of 3 key servers", "node 3"] {
        assert!(told.contains(words), "{words}: {told}");
    }

    // Whose catalog does not know it gets it by its id, and anybody who may by its container.
    let retrieved = ward.retrieves(&made)?.success()?;
    assert_eq!(fs::read(ward.physician.home().join("image"))?, image);
    assert!(retrieved.stderr.contains(&format!("device {} made it", ward.device.id)), "{}", retrieved.stderr);
    let object = ward.object(&made);
    let container = object.display().to_string();
    ward.physician.eds(["decrypt", &container, "-o", "copy"])?.success()?;
    assert_eq!(fs::read(ward.physician.home().join("copy"))?, image);
    ward.physician.eds(["retrieve", &id, "--restore", "-o", "x"])?.refused(exit::USAGE, &["no private part"])?;

    // The courier carried it and cannot read it; nor can a colleague of the physician.
    for who in [&ward.courier, &ward.cluster.user("colleague")?] {
        who.eds(["decrypt", &container, "-o", "-"])?.refused(exit::DENIED, &["not permitted"])?;
    }
    ward.courier.eds(["retrieve", &id, "-o", "-"])?.refused(exit::DENIED, &["not permitted"])?;
    ward.courier.eds(["key", "rm", &key, "--yes"])?.failed(exit::UNAVAILABLE, &["not permitted"])?;

    // Its whole disk and everything that crossed the line hold not a row of the image.
    let rows: Vec<&[u8]> = image.chunks(256).filter(|row| row.iter().any(|byte| *byte != row[0])).collect();
    assert!(rows.len() > 100, "the image is empty");
    let holds = |bytes: &[u8]| rows.iter().any(|row| row.chunks(32).any(|part| files::contains(bytes, part)));
    assert!(holds(&image), "the test looks for nothing");
    assert!(!holds(&crossed.bytes), "the line shows the image");
    let disk = files::below(ward.courier.home())?;
    assert!(disk.len() > 5, "{disk:?}");
    for file in disk.iter().chain(&files::below(ward.cluster.node(1)?.folder())?) {
        assert!(!holds(&fs::read(file)?), "{} shows the image", file.display());
    }
    // What the courier had is sealed: with the bundle and one node's token nobody combines anything.
    let bundle = made.bundle()?;
    let bundle = Bundle::parse(&bundle)?;
    assert!(combine(bundle.manifest(), &[]).is_err());
    ward.cluster.node(2)?.kill()?;
    ward.retrieves(&made)?.refused(exit::UNAVAILABLE, &["1 of the 2 shares"])?;

    // The third node gets its share when it is back.
    ward.cluster.node(2)?.start()?;
    ward.cluster.node(3)?.start()?;
    let run = ward.courier.eds(["queue", "run"])?.success()?;
    assert!(run.text().contains("delivered") && run.text().contains(&key), "{run:?}");
    let status = ward.physician.eds(["key", "status", &key])?.success()?.text();
    assert_eq!(status.matches("active").count(), 3, "{status}");
    ward.cluster.node(1)?.kill()?;
    ward.retrieves(&made)?.success()?;
    assert_eq!(fs::read(ward.physician.home().join("image"))?, image);
    Ok(())
}

#[test]
fn a_revoked_device_a_wrong_courier_and_an_unknown_device_are_refused_by_name() -> Outcome {
    let mut ward = ward()?;
    let image = frame()?;
    let made = ward.takes(&image)?;
    let card = ward.card("card", &made)?;

    // Somebody who is no courier: nothing is stored, and it waits for officers to say otherwise.
    let other = ward.cluster.user("somebody")?;
    carries(&other, &card, &[])?
        .refused(exit::DENIED, &["may not deliver", "policy.couriers", "wait on this workstation"])?;
    ward.physician.eds(["key", "status", &made.begin.key.to_string()])?.failed(exit::NOT_FOUND, &["no such key"])?;

    // A device that one node does not know yet: the other two are enough, and its share waits.
    let stranger = Device::new()?;
    let strange = stranger.takes(&ward.directory, 2, &image)?;
    let strange_card = ward.card("strange", &strange)?;
    ward.carries(&strange_card)?.refused(exit::DENIED, &["is not enrolled", "device enroll", "nothing is lost"])?;
    let (owner, key) = (ward.physician.home().join("me.crt"), stranger.write_public_key(ward.cluster.folder())?);
    let (id, owner, key) = (stranger.id.to_string(), format!("@{}", owner.display()), key.display().to_string());
    let enroll = ["device", "enroll", &id, "--key", &key, "--name", "MR 1", "--owner", &owner];
    for number in [1, 2] {
        ward.cluster.node(number)?.command_of(&enroll)?.success()?;
    }
    let empty = ward.card_of("empty", &[])?;
    let run = carries(&ward.courier, &empty, &["--quorum", "2"])?.success()?;
    assert!(run.text().starts_with(&strange.begin.file.to_string()) && run.stderr.contains("node 3"), "{run:?}");
    ward.retrieves(&strange)?.success()?;
    ward.courier.eds(["queue", "run"])?.failed(exit::DENIED, &["wait on this computer for node 3"])?;
    ward.cluster.node(3)?.command_of(&enroll)?.success()?;
    ward.courier.eds(["queue", "run"])?.success()?;

    // Revoked on two of three: no quorum is left, for ever.
    let device = ward.device.id.to_string();
    for number in [1, 2] {
        ward.cluster.node(number)?.command_of(&["device", "revoke", &device])?.success()?;
    }
    let refused = carries(&ward.courier, &card, &["--quorum", "2"])?;
    let refused = refused.refused(exit::DENIED, &["REFUSED", "was revoked", "never be delivered"])?;
    assert_eq!(files::names(&ward.courier.state().join("courier/aside"))?.len(), 1, "{}", refused.stderr);
    ward.retrieves(&made)?.refused(exit::NOT_FOUND, &["0 of the 2 shares needed"])?;
    Ok(())
}

/// What is altered, how, what the courier or the reader says, and with which exit code.
type Altered = (&'static str, fn(&mut Made, &Made), &'static [&'static str], i32);

const ON_THE_WAY: [Altered; 8] = [
    (
        "a byte of the manifest's signature",
        |made, _| *made.manifest.last_mut().expect("long") ^= 1,
        &["not signed by device"],
        exit::UNAVAILABLE,
    ),
    (
        "a sealed share",
        |made, _| made.shares[1].1[100] ^= 1,
        &["node 2", "sealed shares do not open"],
        exit::UNAVAILABLE,
    ),
    (
        "shares of two nodes",
        |made, _| {
            let (one, two) = (made.shares[0].1.clone(), made.shares[1].1.clone());
            (made.shares[0].1, made.shares[1].1) = (two, one);
        },
        &["node 1", "node 2", "sealed shares do not open"],
        exit::UNAVAILABLE,
    ),
    (
        "the share of another image",
        |made, other| made.shares[2].1.clone_from(&other.shares[2].1),
        &["node 3", "sealed shares do not open"],
        exit::UNAVAILABLE,
    ),
    (
        "a share that was dropped",
        |made, _| drop(made.shares.pop()),
        &["its bundle is not in the format"],
        exit::DAMAGED,
    ),
    (
        "the container of another image",
        |made, other| made.container.clone_from(&other.container),
        &["not of one image", "exchanged"],
        exit::DAMAGED,
    ),
    (
        "the bundle of another image",
        |made, other| {
            made.manifest.clone_from(&other.manifest);
            made.shares.clone_from(&other.shares);
        },
        &["not of one image", "exchanged"],
        exit::DAMAGED,
    ),
    (
        "a container that was cut",
        |made, _| made.container.truncate(made.container.len() - 10),
        &["container is not in the format"],
        exit::DAMAGED,
    ),
];

#[test]
fn what_a_line_or_a_courier_altered_swapped_or_dropped_is_named() -> Outcome {
    let mut ward = ward()?;
    let image = frame()?;
    let other = ward.takes(&image)?;
    for (what, alter, said, code) in ON_THE_WAY {
        let mut made = ward.takes(&image)?;
        alter(&mut made, &other);
        let card = ward.card("altered", &made)?;
        let run = ward.carries(&card)?;
        run.refused(code, &[said, &["REFUSED"]].concat())
            .map_err(|error| eds_tests::Trouble::new(format!("{what}: {error}")))?;
        assert!(ward.retrieves(&made)?.code != Some(0), "{what} was opened");
    }

    // A recording that ends too soon, or has another end, is no image.
    let made = ward.takes(&image)?;
    let packets = Made { begin: eds_core::link::Begin { window: 0, ..made.begin }, ..made.clone() }.packets()?;
    let cut = ward.card_of("cut", &packets[..packets.len() - 1].concat())?;
    ward.carries(&cut)?.refused(exit::DAMAGED, &["INCOMPLETE", "did not come whole"])?;
    let gap = [&packets[..20], &packets[21..]].concat();
    ward.carries(&ward.card_of("gap", &gap.concat())?)?.refused(exit::DAMAGED, &["INCOMPLETE"])?;

    // Delivered, and then altered where it lies: the reader says so.
    let (first, second) = (ward.takes(&image)?, ward.takes(&image)?);
    for made in [&first, &second] {
        ward.carries(&ward.card("card", made)?)?.success()?;
        // The same card again is the same success.
        ward.carries(&ward.card("card", made)?)?.success()?;
        ward.retrieves(made)?.success()?;
    }
    let (one, two) = (ward.object(&first), ward.object(&second));
    let (kept, kept_too) = (fs::read(&one)?, fs::read(&two)?);
    let put = |path: &Path, bytes: &[u8]| {
        fs::remove_file(path)?;
        fs::write(path, bytes)
    };
    put(&one, &kept_too)?;
    put(&two, &kept)?;
    ward.retrieves(&first)?.refused(exit::DAMAGED, &[&first.begin.file.to_string(), "exchanged"])?;
    let mut bytes = kept.clone();
    bytes[20_000] ^= 1;
    put(&one, &bytes)?;
    ward.retrieves(&first)?.refused(exit::DAMAGED, &["damaged in bytes"])?;
    put(&one, &kept[..kept.len() - 1])?;
    ward.retrieves(&first)?.refused(exit::DAMAGED, &[&first.begin.file.to_string()])?;
    put(&one, &kept)?;
    ward.retrieves(&first)?.success()?;

    // What was deleted does not come back from a card that somebody kept.
    let key = first.begin.key.to_string();
    ward.physician.eds(["key", "rm", &key, "--yes"])?.success()?;
    ward.carries(&ward.card("card", &first)?)?.refused(exit::NOT_FOUND, &["REFUSED", "was deleted"])?;
    // Another image under a number that the device used before: its counter went back.
    let again = ward.device.takes_as_number(second.begin.counter, &ward.directory, 2, &image)?;
    ward.carries(&ward.card("card", &again)?)?.refused(exit::UNAVAILABLE, &["REFUSED", "used counter"])?;
    ward.cluster.node(1)?.command_of(&["audit", "verify"])?.success()?;
    Ok(())
}

#[test]
fn what_was_acknowledged_is_delivered_whenever_the_courier_is_killed() -> Outcome {
    let ward = ward()?;
    let image = frame()?;
    let empty = ward.card_of("empty", &[])?;
    let address = format!("127.0.0.1:{}", ports::free()?);
    let log = ward.courier.home().join("courier.log");
    // How long the rest usually takes, from the last acknowledgement on.
    let mut usual = Duration::ZERO;
    for round in 0..=kills::rounds() {
        let made = ward.takes(&image)?;
        let mut process =
            Process::start("courier", &mut ward.courier.command(["courier", "--tcp-listen", &address]), &log)?;
        process.wait_for("listening on ", Duration::from_secs(30))?;
        send(&address, &made.packets()?, 8, &[], |_| Ok(()))?;
        let acknowledged = Instant::now();
        if round == 0 {
            process.wait_for(&made.begin.file.to_string(), Duration::from_secs(60))?;
            usual = acknowledged.elapsed();
        }
        kills::wait_until(acknowledged + kills::moment(&format!("courier {round}"), usual));
        process.kill()?;
        // What is left to do is done by the next one, once.
        let next = carries(&ward.courier, &empty, &[])?.success()?;
        ward.retrieves(&made)?.success()?;
        assert_eq!(fs::read(ward.physician.home().join("image"))?, image, "round {round}: {}", next.stderr);
        assert_eq!(files::names(&ward.courier.state().join("courier"))?, ["aside", "last", "lock"], "round {round}");
        assert_eq!(ward.courier.eds(["queue", "list"])?.success()?.text(), "", "round {round}");
    }
    Ok(())
}

#[test]
fn a_device_that_lost_its_power_without_a_word_is_heard_when_it_connects_anew() -> Outcome {
    let ward = ward()?;
    let image = frame()?;
    let address = format!("127.0.0.1:{}", ports::free()?);
    let log = ward.courier.home().join("courier.log");
    let words = ["courier", "--tcp-listen", &address, "--images", "1"];
    let mut courier = Process::start("courier", &mut ward.courier.command(words), &log)?;
    courier.wait_for("listening on ", Duration::from_secs(30))?;
    // This end stays open for the system, as that of a machine without power does.
    let mut silent = std::net::TcpStream::connect(&address)?;
    let lost = ward.takes(&image)?;
    std::io::Write::write_all(&mut silent, &lost.packets()?.iter().take(5).flatten().copied().collect::<Vec<_>>())?;
    let made = ward.takes(&image)?;
    send(&address, &made.packets()?, 8, &[], |_| Ok(()))?;
    courier.wait_for(&made.begin.file.to_string(), Duration::from_secs(60))?;
    drop(silent);
    assert!(courier.ended_within(Duration::from_secs(60))?.success(), "{}", fs::read_to_string(&log)?);
    let told = fs::read_to_string(&log)?;
    assert!(
        told.contains(&format!("INCOMPLETE file {}", lost.begin.file)) && told.contains("connected anew"),
        "{told}"
    );
    ward.retrieves(&made)?.success()?;
    Ok(())
}
