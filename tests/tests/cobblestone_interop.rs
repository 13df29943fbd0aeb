//! Our payload and Python's `cryptography.cobblestone` read each other, and we agree with the vectors that Python ships.
//!
//! Those vectors (`cryptography_vectors` 50, `chunked-encryption/vectors.json`) are of the general C2SP scheme with SHA-256
//! in place of SHA-512: no Cobblestone-256 message is among them, and `cryptography.cobblestone` refuses them as we do. So
//! they are run here over our ciphers, our geometry and the nonce rule, with the derivation done in the test; the same cases
//! under SHA-512 are Wycheproof's, which `core` runs over the whole of Cobblestone-256.
//!
//! Python is what `EDS_PYTHON` names, else `target/venv/bin/python`, which `make setup` fills.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64ct::{Base64, Encoding as _};
use eds_core::{
    Error,
    cipher::{
        ChunkCipher, ChunkSealer, InputKey, Sealer, SequentialOpener, Start,
        aws_lc::AwsLcCipher,
        geometry::{CHUNK, Geometry, SEALED_CHUNK},
        soft::SoftCipher,
    },
};
use getrandom::{SysRng, rand_core::UnwrapErr};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Around every boundary, and one real size.
const SIZES: [usize; 10] = [0, 1, 16_383, 16_384, 16_385, 32_768, 1_048_575, 1_048_576, 1_048_577, 50_000_000];
const CONTEXT: &[u8] = b"context \x00 of the interop test";
const KEY: [u8; 32] = *b"an input key of 32 random bytes.";

/// Decrypts every *.ours to *.back and encrypts every *.plain to *.theirs, in pieces of an odd size.
const SCRIPT: &str = r#"
import pathlib, sys
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
folder, key, context = pathlib.Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])
def through(machine, source, target):
    data = source.read_bytes()
    with open(target, "wb") as out:
        for position in range(0, len(data), 99_991):
            out.write(machine.update(data[position:position + 99_991]))
        out.write(machine.finalize())
for source in folder.glob("*.ours"):
    through(Cobblestone256Decryptor(key, context), source, source.with_suffix(".back"))
for source in folder.glob("*.plain"):
    through(Cobblestone256Encryptor(key, context), source, source.with_suffix(".theirs"))
"#;

#[test]
fn python_reads_what_we_write_and_we_read_what_python_writes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |size: usize, kind: &str| folder.path().join(format!("{size}.{kind}"));
    for size in SIZES {
        let plain = message(size);
        fs::write(path(size, "plain"), &plain).expect("writes");
        // The two ciphers make the same bytes (core's tests); half of the sizes each is enough to show that Python agrees.
        let ours = if size % 2 == 0 { seal_streaming(&plain) } else { seal_chunks(&plain) };
        fs::write(path(size, "ours"), ours).expect("writes");
    }
    python(&["-c", SCRIPT, &folder.path().to_string_lossy(), &hex(&KEY), &hex(CONTEXT)]);
    for size in SIZES {
        let plain = message(size);
        let back = fs::read(path(size, "back")).expect("Python wrote it");
        assert!(back == plain, "Python read something else from our {size} bytes");
        let theirs = fs::read(path(size, "theirs")).expect("Python wrote it");
        let key = InputKey::from_bytes(KEY);
        assert!(open::<AwsLcCipher>(&theirs, CONTEXT, &key) == (plain.clone(), Ok(())), "{size} bytes from Python");
        assert!(open::<SoftCipher>(&theirs, CONTEXT, &key) == (plain, Ok(())), "{size} bytes from Python");
    }
}

#[test]
fn every_vector_of_the_python_package_holds() {
    let vectors =
        python(&["-c", "import cryptography_vectors, sys; sys.stdout.write(cryptography_vectors.__path__[0])"]);
    let file = Path::new(&vectors).join("chunked-encryption/vectors.json");
    let text = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}: run `make setup`", file.display()));
    let file: VectorFile = serde_json::from_slice(&text).expect("the vectors are JSON");
    // The file holds the same 34 cases for three AEADs; ours is the second.
    let ours: Vec<Vector> = file.vectors.into_iter().filter(|vector| vector.aead == "AEAD_AES_256_GCM").collect();
    assert_eq!(ours.len(), 34, "the set has changed: read what is new");
    for vector in &ours {
        check::<SoftCipher>(vector);
        check::<AwsLcCipher>(vector);
    }
}

#[derive(Deserialize)]
struct VectorFile {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    aead: String,
    expect: String,
    key: String,
    context: String,
    ciphertext: Option<String>,
    #[serde(default)]
    compressed: bool,
    aead_key: Option<String>,
    base_nonce: Option<String>,
    payload_sha256: Option<String>,
    payload_length: Option<usize>,
}

fn check<C: ChunkCipher>(vector: &Vector) {
    let name = &vector.name;
    let mut sealed = Base64::decode_vec(vector.ciphertext.as_deref().unwrap_or("")).expect("base64");
    if vector.compressed {
        sealed = miniz_oxide::inflate::decompress_to_vec_zlib(&sealed).expect("zlib");
    }
    let (context, key) = (vector.context.as_bytes(), unhex(&vector.key));
    let Ok(input_key) = InputKey::try_from(&key[..]) else {
        assert!(key.len() != 32 && vector.expect == "failure", "{name}");
        return;
    };
    assert_eq!(open::<C>(&sealed, context, &input_key), (Vec::new(), Err(under_sha_512(&sealed))), "{name}");

    if let (Some(aead_key), Some(base_nonce)) = (&vector.aead_key, &vector.base_nonce) {
        let derived = derive_sha_256(&key, &sealed[..24], context);
        assert_eq!((&hex(&derived[..32]), &hex(&derived[32..44])), (aead_key, base_nonce), "{name}");
    }
    let (released, whole) = open_sha_256::<C>(&sealed, context, &key);
    assert_eq!(whole, vector.expect == "success", "{name}");
    assert_eq!(released.len(), vector.payload_length.unwrap_or(0), "{name}: bytes released");
    if let Some(digest) = &vector.payload_sha256 {
        assert_eq!(&hex(&Sha256::digest(&released)), digest, "{name}: plaintext");
    }
    // A valid vector with one changed bit, cut short, or with a byte more, is none.
    if whole {
        for position in [0, 24, 56, sealed.len() - 17, sealed.len() - 1] {
            let mut twin = sealed.clone();
            twin[position] ^= 1;
            assert!(!open_sha_256::<C>(&twin, context, &key).1, "{name}: byte {position} changed");
        }
        let longer = [&sealed[..], &[0]].concat();
        for twin in [&sealed[..sealed.len() - 1], &sealed[..56], &longer] {
            assert!(!open_sha_256::<C>(twin, context, &key).1, "{name}: {} bytes", twin.len());
        }
    }
}

/// What Cobblestone-256 says of a message under another hash: a wrong commitment, unless it is too short to have one.
fn under_sha_512(sealed: &[u8]) -> Error {
    if sealed.len() < Start::LEN { Error::Truncated } else { Error::Rejected }
}

/// Opens a message of the scheme with SHA-256 as from a pipe: what was released, and whether it was whole.
fn open_sha_256<C: ChunkCipher>(sealed: &[u8], context: &[u8], key: &[u8]) -> (Vec<u8>, bool) {
    let mut released = Vec::new();
    if sealed.len() < Start::LEN {
        return (released, false);
    }
    let derived = derive_sha_256(key, &sealed[..24], context);
    if sealed[24..56] != derived[44..] {
        return (released, false);
    }
    let cipher = C::new(derived[..32].try_into().expect("32 bytes")).expect("sets up");
    for (index, chunk) in (0u64..).zip(sealed[56..].chunks(SEALED_CHUNK)) {
        let mut nonce: [u8; 12] = derived[32..44].try_into().expect("12 bytes");
        nonce[4..].iter_mut().zip(index.to_be_bytes()).for_each(|(byte, counter)| *byte ^= counter);
        let mut chunk = chunk.to_vec();
        let Some((data, tag)) = chunk.split_last_chunk_mut() else { return (released, false) };
        if cipher.open_in_place(&nonce, data, tag).is_err() {
            return (released, false);
        }
        released.extend_from_slice(data);
    }
    let whole =
        Geometry::of_sealed(sealed.len() as u64).is_ok_and(|layout| layout.plain_len() == released.len() as u64);
    (released, whole)
}

/// Key ‖ base nonce ‖ commitment by HKDF-Expand-SHA-256.
fn derive_sha_256(key: &[u8], salt: &[u8], context: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    let mut block = Vec::new();
    for number in 1..=3 {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("takes keys of any length");
        let label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";
        [&block[..], label, salt, context, &[number]].iter().for_each(|part| mac.update(part));
        block = mac.finalize().into_bytes().to_vec();
        output.extend_from_slice(&block);
    }
    output.truncate(76);
    output
}

/// What a reader of a pipe gets: the bytes released, and how it ended.
fn open<C: ChunkCipher>(sealed: &[u8], context: &[u8], key: &InputKey) -> (Vec<u8>, Result<(), Error>) {
    let mut released = Vec::new();
    let result = (|| {
        let (start, body) = sealed.split_first_chunk::<{ Start::LEN }>().ok_or(Error::Truncated)?;
        let mut opener = SequentialOpener::<C>::new(key, context, &Start::from_bytes(start))?;
        for chunk in body.chunks(SEALED_CHUNK) {
            released.extend_from_slice(opener.open_next(&mut chunk.to_vec())?);
        }
        assert_eq!(opener.finish(), Geometry::of_sealed(sealed.len() as u64).map_err(|_| Error::Truncated));
        Geometry::of_sealed(sealed.len() as u64).map(drop)
    })();
    (released, result)
}

fn seal_streaming(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() + plain.len() / 1000 + 100);
    let mut sink = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok::<(), Error>(())
    };
    let (key, mut rng) = (InputKey::from_bytes(KEY), UnwrapErr(SysRng));
    let mut sealer = Sealer::begin(&key, CONTEXT, &mut rng, &mut sink).expect("begins");
    for piece in plain.chunks(77_777) {
        sealer.write(piece, &mut sink).expect("writes");
    }
    sealer.finish(&mut sink).expect("finishes");
    out
}

fn seal_chunks(plain: &[u8]) -> Vec<u8> {
    let (key, mut rng) = (InputKey::from_bytes(KEY), UnwrapErr(SysRng));
    let (sealer, mut tickets) = ChunkSealer::<AwsLcCipher>::begin(&key, CONTEXT, &mut rng).expect("begins");
    let mut out = sealer.start().to_bytes().to_vec();
    let chunks = plain.chunks_exact(CHUNK);
    let mut last = chunks.remainder().to_vec();
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        let tag = sealer.seal(tickets.take().expect("below the limit"), &mut chunk).expect("seals");
        out.extend([&chunk[..], &tag].concat());
    }
    let tag = sealer.seal_final(tickets.finish().expect("a last one"), &mut last).expect("seals");
    out.extend([&last[..], &tag].concat());
    out
}

fn message(size: usize) -> Vec<u8> {
    (0..size).map(|position| (position * 131 + position / 256) as u8).collect()
}

/// Runs Python and returns what it printed.
fn python(arguments: &[&str]) -> String {
    let program = std::env::var_os("EDS_PYTHON")
        .map_or_else(|| eds_tests::binaries::source_root().join("target/venv/bin/python"), PathBuf::from);
    let output = Command::new(&program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{} does not run ({error}): run `make setup`", program.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} failed: run `make setup` if a module is missing\n{errors}", program.display());
    String::from_utf8(output.stdout).expect("Python prints UTF-8")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits");
    (0..text.len()).step_by(2).map(digits).collect()
}
