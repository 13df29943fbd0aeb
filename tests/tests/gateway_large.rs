//! A large object goes through the gateway in constant memory, and comes back.
#![cfg(feature = "full")]

use std::{fs, path::Path};

use eds_tests::{
    Outcome,
    cluster::Cluster,
    files,
    gateway::{Gateway, Peer, data_set},
};

/// 256 frames of 512 x 512 pixels of two bytes: 128 MiB.
fn large(path: &Path) -> Outcome {
    let mut head = vec![0; 128];
    let uid = |out: &mut Vec<u8>, tag: [u8; 4], value: &str| {
        let mut value = value.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(0);
        }
        out.extend_from_slice(&tag);
        out.extend_from_slice(b"UI");
        out.extend_from_slice(&u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
        out.extend_from_slice(&value);
    };
    let mut meta = Vec::new();
    uid(&mut meta, [2, 0, 2, 0], "1.2.840.10008.5.1.4.1.1.2.1");
    uid(&mut meta, [2, 0, 3, 0], "1.2.826.0.1.3680043.2.1125.9.1");
    uid(&mut meta, [2, 0, 0x10, 0], "1.2.840.10008.1.2.1");
    uid(&mut meta, [2, 0, 0x12, 0], "1.2.826.0.1.3680043.2.1125.9.9");
    head.extend_from_slice(b"DICM\x02\x00\x00\x00UL\x04\x00");
    head.extend_from_slice(&u32::try_from(meta.len())?.to_le_bytes());
    head.extend_from_slice(&meta);
    uid(&mut head, [8, 0, 0x16, 0], "1.2.840.10008.5.1.4.1.1.2.1");
    uid(&mut head, [8, 0, 0x18, 0], "1.2.826.0.1.3680043.2.1125.9.1");
    head.extend_from_slice(b"\x08\x00\x60\x00CS\x02\x00CT");
    head.extend_from_slice(b"\x10\x00\x10\x00PN\x08\x00Doe^Jane\x10\x00\x20\x00LO\x04\x004711");
    uid(&mut head, [0x20, 0, 0x0D, 0], "1.2.826.0.1.3680043.2.1125.9.2");
    uid(&mut head, [0x20, 0, 0x0E, 0], "1.2.826.0.1.3680043.2.1125.9.3");
    head.extend_from_slice(b"\x28\x00\x02\x00US\x02\x00\x01\x00\x28\x00\x04\x00CS\x0C\x00MONOCHROME2 ");
    head.extend_from_slice(b"\x28\x00\x08\x00IS\x04\x00256 \x28\x00\x10\x00US\x02\x00\x00\x02");
    head.extend_from_slice(b"\x28\x00\x11\x00US\x02\x00\x00\x02\x28\x00\x00\x01US\x02\x00\x10\x00");
    head.extend_from_slice(b"\x28\x00\x01\x01US\x02\x00\x10\x00\x28\x00\x02\x01US\x02\x00\x0F\x00");
    head.extend_from_slice(b"\x28\x00\x03\x01US\x02\x00\x00\x00\xe0\x7f\x10\x00OW\0\0");
    head.extend_from_slice(&PIXELS.to_le_bytes());
    let frame: Vec<u8> = (0..512u32 * 512 * 2).map(|at| u8::try_from(at % 241).unwrap_or_default()).collect();
    for number in 0..256u32 {
        head.extend_from_slice(&number.to_le_bytes());
        head.extend_from_slice(frame.get(4..).unwrap_or_default());
    }
    Ok(fs::write(path, head)?)
}

const PIXELS: u32 = 256 * 512 * 512 * 2;

#[test]
fn a_large_object_goes_through_in_constant_memory() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let gateway = Gateway::start(&cluster.folder().join("gateway"), &alice, &[Peer::of("CT1", &alice)], "")?;
    gateway.peer("echoscu", "CT1", &[], &[])?.success()?;
    let path = cluster.folder().join("large.dcm");
    large(&path)?;
    gateway.peer("storescu", "CT1", &[], &[&path])?.success()?;
    let peak = gateway.peak_kib()?;
    eprintln!("{} MiB were stored with a peak of {} MiB", PIXELS >> 20, peak >> 10);
    assert!(peak < 64 << 10, "{peak} KiB");

    let got = cluster.folder().join("got");
    fs::create_dir_all(&got)?;
    let out = got.display().to_string();
    let study = "StudyInstanceUID=1.2.826.0.1.3680043.2.1125.9.2";
    gateway
        .peer("getscu", "CT1", &["-S", "+B", "-k", "QueryRetrieveLevel=STUDY", "-k", study, "-od", &out], &[])?
        .success()?;
    assert!(data_set(&files::only(&got)?)? == data_set(&path)?);
    let peak = gateway.peak_kib()?;
    assert!(peak < 64 << 10, "{peak} KiB after it was sent");
    Ok(())
}
