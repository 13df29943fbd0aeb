//! A container that storage damaged, cut, mixed up or extended: refused by name, nothing of it under the output's name.

use std::fs;

use eds_tests::{
    Outcome,
    cluster::Cluster,
    files, sample,
    user::{User, exit},
};

/// Length of a chunk in the file: 16 KiB and the tag.
const CHUNK: usize = 16_400;
/// Salt and key commitment before the first chunk.
const PREFIX: usize = 56;

struct Case {
    // Held so that the key servers run on.
    _cluster: Cluster,
    alice: User,
    content: Vec<u8>,
    cipher: Vec<u8>,
}

impl Case {
    /// A file of three chunks, the last of them short.
    fn new() -> Outcome<Self> {
        let cluster = Cluster::of_three()?;
        let alice = cluster.user("alice")?;
        let content = sample::bytes("three chunks", 2 * 16_384 + 100);
        fs::write(alice.home().join("plain"), &content)?;
        alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
        let cipher = fs::read(alice.home().join("cipher"))?;
        let case = Self { _cluster: cluster, alice, content, cipher };
        assert_eq!(case.cipher.len(), case.chunks_start() + 2 * CHUNK + 116, "the layout is not what this test knows");
        Ok(case)
    }

    /// Where the Cobblestone ciphertext starts: after magic, header length and header.
    fn ciphertext_start(&self) -> usize {
        match self.cipher.get(8..10) {
            Some(&[low, high]) => 10 + usize::from(u16::from_le_bytes([low, high])),
            _ => 0,
        }
    }

    fn chunks_start(&self) -> usize {
        self.ciphertext_start() + PREFIX
    }

    /// Expects a refusal of these bytes as a file, with no output and no new file.
    fn is_refused(&self, damaged: &[u8], what: &str) -> Outcome {
        let path = self.alice.home().join("damaged");
        fs::write(&path, damaged)?;
        let before = files::names(self.alice.home())?;
        let run = self.alice.eds(["decrypt", "damaged", "-o", "out"])?;
        let code = run.code.unwrap_or_default();
        assert!(REFUSALS.contains(&code), "{what}: exit code {code}\n{}", run.stderr);
        run.refused(code, &["eds: error: "])?;
        assert_eq!(files::names(self.alice.home())?, before, "{what}");
        Ok(())
    }

    /// Expects that nothing but a true beginning of the content comes out of a pipe, and that the exit code tells.
    fn is_refused_from_a_pipe(&self, damaged: &[u8], what: &str) -> Outcome {
        let run = self.alice.eds_fed(["decrypt", "-", "-o", "-"], damaged)?;
        assert!(self.content.starts_with(&run.stdout), "{what}: something else came out");
        assert!(run.stdout.len() < self.content.len() || damaged.len() > self.cipher.len(), "{what}: all came out");
        let code = run.code.unwrap_or_default();
        assert!(REFUSALS.contains(&code), "{what}: exit code {code}\n{}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{what}: {}", run.stderr);
        Ok(())
    }
}

#[test]
fn each_byte_of_the_header_counts() -> Outcome {
    let case = Case::new()?;
    for position in 0..case.chunks_start() {
        let mut damaged = case.cipher.clone();
        if let Some(byte) = damaged.get_mut(position) {
            *byte ^= 1 << (sample::below(&format!("bit {position}"), 8));
        }
        case.is_refused(&damaged, &format!("byte {position} changed"))?;
    }
    Ok(())
}

#[test]
fn a_changed_bit_of_any_chunk_is_caught() -> Outcome {
    let case = Case::new()?;
    let start = case.chunks_start();
    let places = [start, start + 16_383, start + 16_384, start + CHUNK - 1, start + CHUNK, case.cipher.len() - 1];
    for position in places {
        let mut damaged = case.cipher.clone();
        if let Some(byte) = damaged.get_mut(position) {
            *byte ^= 1;
        }
        case.is_refused(&damaged, &format!("byte {position} changed"))?;
        case.is_refused_from_a_pipe(&damaged, &format!("byte {position} changed"))?;
    }
    Ok(())
}

#[test]
fn a_cut_at_every_boundary_is_caught() -> Outcome {
    let case = Case::new()?;
    let (ciphertext, chunks) = (case.ciphertext_start(), case.chunks_start());
    let boundaries =
        [0, 8, 10, ciphertext, ciphertext + 24, chunks, chunks + CHUNK, chunks + 2 * CHUNK, case.cipher.len()];
    for boundary in boundaries {
        for length in [boundary.saturating_sub(1), boundary, boundary + 1] {
            if length < case.cipher.len() {
                let cut = case.cipher.get(..length).unwrap_or_default();
                case.is_refused(cut, &format!("cut to {length} bytes"))?;
                case.is_refused_from_a_pipe(cut, &format!("cut to {length} bytes"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn swapped_repeated_and_missing_chunks_are_caught() -> Outcome {
    let case = Case::new()?;
    let start = case.chunks_start();
    let piece = |from: usize, to: usize| case.cipher.get(from..to).unwrap_or_default();
    let (head, first, second) = (piece(0, start), piece(start, start + CHUNK), piece(start + CHUNK, start + 2 * CHUNK));
    let last = piece(start + 2 * CHUNK, case.cipher.len());
    let mixed = [
        ("swapped", [head, second, first, last].concat()),
        ("repeated", [head, first, first, second, last].concat()),
        ("the first missing", [head, second, last].concat()),
        ("the middle missing", [head, first, last].concat()),
        ("the last first", [head, last].concat()),
    ];
    for (what, damaged) in mixed {
        case.is_refused(&damaged, what)?;
        case.is_refused_from_a_pipe(&damaged, what)?;
    }
    Ok(())
}

#[test]
fn appended_bytes_are_caught() -> Outcome {
    let case = Case::new()?;
    for length in [1, 15, 16, 17, CHUNK - 116, CHUNK, 2 * CHUNK] {
        let longer = [case.cipher.as_slice(), &sample::bytes("appended", length)].concat();
        case.is_refused(&longer, &format!("{length} bytes appended"))?;
        case.is_refused_from_a_pipe(&longer, &format!("{length} bytes appended"))?;
    }
    Ok(())
}

#[test]
fn a_stored_image_that_was_exchanged_for_another_is_refused() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let mut stored = Vec::new();
    for name in ["CT_small.dcm", "MR_small.dcm"] {
        fs::copy(eds_tests::dicom::find(name)?, alice.home().join(name))?;
        let registered = alice.eds(["register", name])?.success()?;
        let known: Vec<_> = stored.iter().map(|(_, file): &(String, _)| std::path::PathBuf::clone(file)).collect();
        let new = files::below(&alice.objects())?.into_iter().find(|file| !known.contains(file));
        let id = registered.id();
        stored.push((id, new.ok_or_else(|| eds_tests::Trouble::new("nothing was stored"))?));
    }
    let [(ct, ct_file), (_, mr_file)] = stored.as_slice() else { panic!("two images") };
    fs::copy(mr_file, ct_file)?;
    alice.eds(["retrieve", ct, "-o", "out.dcm"])?.refused(exit::DAMAGED, &[])?;
    assert!(!alice.home().join("out.dcm").exists());
    Ok(())
}

/// Damaged data; a key id that nobody knows; an unknown format version.
const REFUSALS: [i32; 3] = [exit::DAMAGED, exit::NOT_FOUND, exit::UNSUPPORTED];
