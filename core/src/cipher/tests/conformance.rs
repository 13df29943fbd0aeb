//! What every cipher must do, run over each of them.

use hex_literal::hex;

use super::*;

/// The suite for ciphers that work on whole chunks.
fn chunk_cipher_conforms<C: ChunkCipher>() {
    known_answers(|key, nonce, data| C::new(key).expect("sets up").seal_in_place(nonce, data).expect("seals"));

    let (cipher, reference) = (C::new(&[7; 32]).expect("sets up"), SoftCipher::with_key(&[7; 32]));
    for length in (0..130).chain([255, 256, 257, 4095, CHUNK - 1, CHUNK]) {
        let plain = message(length);
        let mut sealed = plain.clone();
        let tag = cipher.seal_in_place(&[9; NONCE], &mut sealed).expect("seals");
        let mut same = plain.clone();
        assert_eq!(tag, reference.seal_in_place(&[9; NONCE], &mut same).expect("seals"), "{length} bytes");
        assert_eq!(sealed, same, "{length} bytes");

        let mut opened = sealed.clone();
        assert_eq!(cipher.open_in_place(&[9; NONCE], &mut opened, &tag), Ok(()));
        assert_eq!(opened, plain, "{length} bytes");

        let refuses = |nonce: [u8; NONCE], mut data: Vec<u8>, tag: [u8; TAG], what: &str| {
            assert_eq!(cipher.open_in_place(&nonce, &mut data, &tag), Err(Opaque), "{what}, {length} bytes");
            assert!(data.iter().all(|byte| *byte == 0), "{what}: something was released");
        };
        for position in 0..TAG {
            let mut wrong = tag;
            wrong[position] ^= 0x10;
            refuses([9; NONCE], sealed.clone(), wrong, "changed tag");
        }
        for position in [0, length / 2, length.saturating_sub(1)] {
            let mut wrong = sealed.clone();
            let Some(byte) = wrong.get_mut(position) else { continue };
            *byte ^= 1;
            refuses([9; NONCE], wrong, tag, "changed byte");
        }
        refuses([8; NONCE], sealed.clone(), tag, "other nonce");
        if length > 0 {
            refuses([9; NONCE], sealed[..length - 1].to_vec(), tag, "shorter");
        }
        refuses([9; NONCE], [&sealed[..], &[0]].concat(), tag, "longer");
    }
}

/// The suite for ciphers that work on pieces.
fn streaming_cipher_conforms<C: StreamingCipher>(engine: impl Fn(&[u8; 32]) -> Result<C, EngineFault>) {
    for piece in [1, 2, 3, 15, 16, 17, 31, 64, 1024, 5000] {
        let in_pieces = |key: &[u8; 32], nonce: &[u8; NONCE], data: &mut [u8]| {
            let mut cipher = engine(key).expect("sets up");
            cipher.start(nonce).expect("starts");
            for part in data.chunks_mut(piece) {
                cipher.update(part).expect("encrypts");
            }
            cipher.finish().expect("finishes")
        };
        known_answers(in_pieces);
        for length in (0..70).chain([CHUNK - 1, CHUNK]) {
            let (mut one, mut other) = (message(length), message(length));
            let whole = SoftCipher::with_key(&[7; 32]).seal_in_place(&[9; NONCE], &mut one).expect("seals");
            assert_eq!(in_pieces(&[7; 32], &[9; NONCE], &mut other), whole, "{length} bytes by {piece}");
            assert_eq!(one, other, "{length} bytes by {piece}");
        }
    }

    // A chunk begun anew forgets the one before, and a cipher that has not begun refuses.
    let mut cipher = engine(&[7; 32]).expect("sets up");
    assert_eq!(cipher.finish(), Err(EngineFault));
    assert_eq!(cipher.update(&mut [0]), Err(EngineFault));
    cipher.start(&[1; NONCE]).expect("starts");
    cipher.update(&mut [1, 2, 3]).expect("encrypts");
    cipher.start(&[9; NONCE]).expect("starts");
    let mut data = message(50);
    cipher.update(&mut data).expect("encrypts");
    let tag = cipher.finish().expect("finishes");
    assert_eq!(SoftCipher::with_key(&[7; 32]).seal_in_place(&[9; NONCE], &mut message(50)), Ok(tag));
    assert_eq!(cipher.finish(), Err(EngineFault));
}

/// AES-256-GCM without associated data, from "The Galois/Counter Mode of Operation" (McGrew, Viega), cases 13 to 15.
fn known_answers(seal: impl Fn(&[u8; 32], &[u8; NONCE], &mut [u8]) -> [u8; TAG]) {
    assert_eq!(seal(&[0; 32], &[0; NONCE], &mut []), hex!("530f8afbc74536b9a963b4f1c4cb738b"));
    let mut data = [0; 16];
    assert_eq!(seal(&[0; 32], &[0; NONCE], &mut data), hex!("d0d1c8a799996bf0265b98b5d48ab919"));
    assert_eq!(data, hex!("cea7403d4d606b6e074ec5d3baf39d18"));
    let mut data = hex!(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
    );
    let key = hex!("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let tag = seal(&key, &hex!("cafebabefacedbaddecaf888"), &mut data);
    assert_eq!(tag, hex!("b094dac5d93471bdec1a502270e3cc6c"));
    assert_eq!(
        data,
        hex!(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
        )
    );
}

#[test]
fn the_portable_cipher_conforms() {
    chunk_cipher_conforms::<SoftCipher>();
    streaming_cipher_conforms(|key| Ok(SoftCipher::with_key(key)));
}

#[cfg(feature = "aws-lc-rs")]
#[test]
fn the_host_cipher_conforms() {
    chunk_cipher_conforms::<aws_lc::AwsLcCipher>();
}
