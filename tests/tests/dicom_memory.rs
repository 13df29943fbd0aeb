//! Taking an image apart needs memory for its header, not for its pixel data. A test binary of its own: the peak that
//! is measured is that of the process.

use std::{
    fs::{self, File},
    io::Read as _,
};

use eds::dicom::{How, Profile, ProjectSecret, deidentify};

#[test]
fn memory_does_not_grow_with_the_pixel_data() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("large.dcm");
    // An explicit VR little endian file with 1 GiB of pixel data, zeros that take no space on the disk.
    let mut head = vec![0; 128];
    head.extend_from_slice(b"DICM\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0");
    head.extend_from_slice(b"\x08\x00\x60\x00CS\x02\x00CT\xe0\x7f\x10\x00OW\0\0");
    head.extend_from_slice(&(1u32 << 30).to_le_bytes());
    fs::write(&path, &head).expect("writes");
    let file = File::options().write(true).open(&path).expect("opens");
    file.set_len(u64::try_from(head.len()).expect("small") + (1 << 30)).expect("grows");
    let before = peak_kib();
    let mut input = File::open(&path).expect("opens");
    let (profile, secret) = (Profile::default(), ProjectSecret::new([1; 32]));
    let separated = deidentify(&mut input, &How::new(&profile, &secret)).expect("separates");
    assert!(separated.length() > 1 << 30);
    let mut stream = separated.deidentified(&mut input).expect("starts");
    let read = std::io::copy(&mut (&mut stream).take(64 << 20), &mut std::io::sink()).expect("reads");
    assert_eq!(read, 64 << 20);
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "the peak of memory rose by {grown} KiB");
}

/// The most memory this process has held so far.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("reads");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("is there");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}
