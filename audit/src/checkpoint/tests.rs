//! Notes are read back only when they are whole, of this log and signed by its key.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::*;
use crate::testing::MemorySigner;

fn sample() -> Checkpoint {
    Checkpoint { origin: "eds/c/n".to_owned(), size: 20_852_163, root: [5; 32], time: 1_764_000_000 }
}

#[test]
fn the_golden_note_reads_and_writes_as_ever() {
    let golden = include_str!("../../tests/data/audit-checkpoint-v1.txt");
    let (vkey, note) = golden.split_once('\n').expect("a key and a note");
    let signer = MemorySigner::new(1);
    assert_eq!(signer.verifier("eds/c/n").to_vkey(), vkey);
    assert_eq!(sample().sign(&signer).expect("signed"), note, "deterministic ECDSA of RFC 6979");
    assert_eq!(Verifier::from_vkey(vkey).expect("a key").open(note), Ok(sample()));
}

#[test]
fn every_altered_character_is_refused() {
    let signer = MemorySigner::new(1);
    let verifier = signer.verifier("eds/c/n");
    let note = sample().sign(&signer).expect("signed");
    for (position, character) in note.char_indices() {
        let mut altered = note.clone();
        let other = if character == '1' { "2" } else { "1" };
        altered.replace_range(position..position + character.len_utf8(), other);
        assert!(verifier.open(&altered).is_err(), "{altered}");
        assert!(verifier.open(&note[..position]).is_err(), "cut at {position}");
    }
}

#[test]
fn other_logs_other_keys_and_foreign_signatures_are_told_apart() {
    let signer = MemorySigner::new(1);
    let note = sample().sign(&signer).expect("signed");
    assert_eq!(MemorySigner::new(2).verifier("eds/c/n").open(&note), Err(NoteError::Unsigned));
    assert_eq!(signer.verifier("eds/c/m").open(&note), Err(NoteError::Origin));
    let witness = "\u{2014} witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2\n";
    assert_eq!(signer.verifier("eds/c/n").open(&format!("{note}{witness}")), Ok(sample()));
    let unsigned = format!("{}\n{witness}", sample().text());
    assert_eq!(signer.verifier("eds/c/n").open(&unsigned), Err(NoteError::Unsigned));
}

#[test]
fn a_signer_that_returns_rubbish_makes_no_note() {
    struct Broken;
    impl Signer for Broken {
        fn public_key(&self) -> Point {
            MemorySigner::new(1).public_key()
        }
        fn sign_digest(&self, digest: &[u8; 32]) -> Result<[u8; 64], SignerError> {
            MemorySigner::new(2).sign_digest(digest)
        }
    }
    assert!(sample().sign(&Broken).is_err());
}

#[test]
fn verifier_keys_in_other_forms_are_refused() {
    let vkey = MemorySigner::new(1).verifier("eds/c/n").to_vkey();
    assert!(Verifier::from_vkey(&vkey).is_some());
    let (name, rest) = vkey.split_once('+').expect("three parts");
    let (id, key) = rest.split_once('+').expect("three parts");
    for wrong in [
        String::new(),
        format!("{name}+{id}"),
        format!("+{id}+{key}"),
        format!("{name}+0{id}+{key}"),
        format!("{name}+00000000+{key}"),
        format!("{name}+{id}+AT{}", &key[2..]),
        format!("{name}+{id}+{}", &key[..key.len() - 4]),
        format!("{name}+{id}+{key} "),
    ] {
        assert!(Verifier::from_vkey(&wrong).is_none(), "{wrong:?}");
    }
}

/// What an auditor without this program does: openssl checks the signature over the text of the note.
#[test]
fn openssl_verifies_a_checkpoint() {
    let directory = tempfile::tempdir().expect("a directory");
    let signer = MemorySigner::new(3);
    let note = sample().sign(&signer).expect("signed");
    let (_, text, signatures) = split(&note).expect("a note");
    let path = |name: &str| directory.path().join(name);
    let key = VerifyingKey::from_sec1_bytes(&signer.public_key().0).expect("a key");
    std::fs::write(path("key.der"), public_key_info(&key)).expect("written");
    std::fs::write(path("signature"), &signatures[0].2).expect("written");
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-keyform", "DER", "-verify"])
        .arg(path("key.der"))
        .arg("-signature")
        .arg(path("signature"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("openssl is part of every Debian system with certificates");
    openssl.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    assert!(openssl.wait().expect("ended").success());
}
