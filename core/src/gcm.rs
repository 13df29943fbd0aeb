//! AES-256-GCM (NIST SP 800-38D, 96-bit nonces) from `aes`, `ctr` and `ghash`, in one call or byte by byte.
//!
//! [`Gcm`] is a key schedule; a [`Message`] is the state of one message: under 200 bytes, and bytes go through it as they
//! come. The caller vouches for two things: a nonce is used once under a key, and a message is shorter than 64 GiB (the
//! 32-bit block counter; HPKE messages and chunks are far below). [`Message::decrypt`] gives out bytes that are not yet
//! authenticated: only [`Gcm::open_in_place`], which checks the tag first, is for data that leaves this crate.

use core::slice;

use aes::{
    Aes256,
    cipher::{Array, BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipherCore, consts::U16},
};
use ctr::{CtrCore, flavors::Ctr32BE};
use ghash::{GHash, universal_hash::UniversalHash};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::Opaque;

/// The length of a tag, in bytes.
pub(crate) const TAG_BYTES: usize = 16;

/// An AES-256-GCM key. `aes` and `ghash` wipe their state on drop.
pub(crate) struct Gcm {
    aes: Aes256,
    ghash: GHash,
}

impl Gcm {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let aes = Aes256::new(key.into());
        let mut subkey = Zeroizing::new([0u8; 16]);
        aes.encrypt_block((&mut *subkey).into());
        let ghash = GHash::new((&*subkey).into());
        Self { aes, ghash }
    }

    /// Begins a message with its associated data.
    pub(crate) fn start(&self, nonce: &[u8; 12], aad: &[u8]) -> Message {
        let mut mask = counter_block(nonce, 1);
        self.aes.encrypt_block((&mut mask).into());
        let mut ghash = self.ghash.clone();
        ghash.update_padded(aad);
        Message {
            ghash,
            nonce: *nonce,
            mask,
            aad_length: aad.len() as u64,
            length: 0,
            keystream: [0; 16],
            pending: [0; 16],
        }
    }

    /// Encrypts `data` in place and returns its tag.
    pub(crate) fn seal_in_place(&self, nonce: &[u8; 12], aad: &[u8], data: &mut [u8]) -> [u8; TAG_BYTES] {
        let mut message = self.start(nonce, aad);
        message.encrypt(self, data);
        message.tag()
    }

    /// Checks the tag, and decrypts `data` in place only if it is right.
    pub(crate) fn open_in_place(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Opaque> {
        let mut check = self.start(nonce, aad);
        check.absorb(data);
        check.length = data.len() as u64;
        if !bool::from(check.tag().ct_eq(tag)) {
            return Err(Opaque);
        }
        self.start(nonce, &[]).decrypt(self, data);
        Ok(())
    }

    fn apply_keystream(&self, nonce: &[u8; 12], first: u32, blocks: &mut [Array<u8, U16>]) {
        CtrCore::<&Aes256, Ctr32BE>::inner_iv_init(&self.aes, (&counter_block(nonce, first)).into())
            .apply_keystream_blocks(blocks);
    }
}

/// One message on its way. The key stays outside, so that a state is small; always pass the key it was started with.
pub(crate) struct Message {
    ghash: GHash,
    nonce: [u8; 12],
    mask: [u8; 16],
    aad_length: u64,
    length: u64,
    // The keystream and the ciphertext of the last, unfinished block.
    keystream: [u8; 16],
    pending: [u8; 16],
}

impl Message {
    /// Encrypts the next bytes in place.
    pub(crate) fn encrypt(&mut self, gcm: &Gcm, data: &mut [u8]) {
        self.process(gcm, data, true);
    }

    /// Decrypts the next bytes in place: they are not authenticated until the tag is compared.
    pub(crate) fn decrypt(&mut self, gcm: &Gcm, data: &mut [u8]) {
        self.process(gcm, data, false);
    }

    /// Ends the message.
    pub(crate) fn tag(mut self) -> [u8; TAG_BYTES] {
        if self.filled() != 0 {
            self.ghash.update(slice::from_ref((&self.pending).into()));
        }
        let mut lengths = [0u8; 16];
        let (aad, text) = lengths.split_at_mut(8);
        aad.copy_from_slice(&self.aad_length.wrapping_mul(8).to_be_bytes());
        text.copy_from_slice(&self.length.wrapping_mul(8).to_be_bytes());
        self.ghash.update(slice::from_ref((&lengths).into()));
        let mut tag: [u8; TAG_BYTES] = self.ghash.clone().finalize().into();
        xor(&mut tag, &self.mask);
        tag
    }

    fn process(&mut self, gcm: &Gcm, data: &mut [u8], encrypting: bool) {
        let filled = self.filled();
        let head = if filled == 0 { 0 } else { data.len().min(16 - filled) };
        let (head, rest) = data.split_at_mut(head);
        self.process_partial(filled, head, encrypting);
        if filled + head.len() == 16 {
            self.ghash.update(slice::from_ref((&self.pending).into()));
        }
        if rest.is_empty() {
            return;
        }

        // Here the position is at the start of a block.
        let (blocks, tail) = Array::<u8, U16>::slice_as_chunks_mut(rest);
        for part in blocks.chunks_mut(PASS_BLOCKS) {
            if !encrypting {
                self.ghash.update(part);
            }
            gcm.apply_keystream(&self.nonce, self.counter(), part);
            if encrypting {
                self.ghash.update(part);
            }
            self.length += 16 * part.len() as u64;
        }
        if !tail.is_empty() {
            self.keystream = counter_block(&self.nonce, self.counter());
            gcm.aes.encrypt_block((&mut self.keystream).into());
            self.pending = [0; 16];
            self.process_partial(0, tail, encrypting);
        }
    }

    /// Bytes within one block, from position `filled` of it.
    fn process_partial(&mut self, filled: usize, data: &mut [u8], encrypting: bool) {
        let keys = self.keystream.iter().skip(filled);
        let kept = self.pending.iter_mut().skip(filled);
        for ((byte, key), kept) in data.iter_mut().zip(keys).zip(kept) {
            let input = *byte;
            *byte ^= key;
            *kept = if encrypting { *byte } else { input };
        }
        self.length += data.len() as u64;
    }

    /// GHASH of a whole ciphertext.
    fn absorb(&mut self, ciphertext: &[u8]) {
        let (blocks, tail) = Array::<u8, U16>::slice_as_chunks(ciphertext);
        self.ghash.update(blocks);
        self.pending = [0; 16];
        for (kept, byte) in self.pending.iter_mut().zip(tail) {
            *kept = *byte;
        }
    }

    /// How many bytes of the current block are done, 0 to 15.
    fn filled(&self) -> usize {
        (self.length & 15) as usize
    }

    /// The counter of the current block: counter 1 makes the mask of the tag (SP 800-38D, section 7.1).
    fn counter(&self) -> u32 {
        ((self.length / 16) as u32).wrapping_add(2)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.mask.zeroize();
        self.keystream.zeroize();
        self.pending.zeroize();
    }
}

/// Blocks that are encrypted and hashed in one pass: 4 KiB stay in the first-level cache between the two.
const PASS_BLOCKS: usize = 256;

fn counter_block(nonce: &[u8; 12], counter: u32) -> [u8; 16] {
    let mut block = [0; 16];
    let (head, tail) = block.split_at_mut(12);
    head.copy_from_slice(nonce);
    tail.copy_from_slice(&counter.to_be_bytes());
    block
}

fn xor(block: &mut [u8; 16], other: &[u8; 16]) {
    for (byte, other) in block.iter_mut().zip(other) {
        *byte ^= other;
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    const KEY: [u8; 32] = hex!("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    const NONCE: [u8; 12] = hex!("cafebabefacedbaddecaf888");
    const AAD: [u8; 20] = hex!("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    const PLAINTEXT: [u8; 60] = hex!(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    );
    const CIPHERTEXT: [u8; 60] = hex!(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    );
    const TAG: [u8; 16] = hex!("76fc6ece0f4e1768cddf8853bb2d551b");

    /// Test case 16 of McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)", appendix B.
    #[test]
    fn gives_the_published_ciphertext_and_tag() {
        let gcm = Gcm::new(&KEY);
        let mut data = PLAINTEXT;
        assert_eq!(gcm.seal_in_place(&NONCE, &AAD, &mut data), TAG);
        assert_eq!(data, CIPHERTEXT);
        assert_eq!(gcm.open_in_place(&NONCE, &AAD, &mut data, &TAG), Ok(()));
        assert_eq!(data, PLAINTEXT);
    }

    #[test]
    fn a_changed_bit_anywhere_is_refused_and_nothing_is_decrypted() {
        let gcm = Gcm::new(&KEY);
        let mut data = CIPHERTEXT;
        for bit in 0..128 {
            let mut tag = TAG;
            tag[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(gcm.open_in_place(&NONCE, &AAD, &mut data, &tag), Err(Opaque));
        }
        assert_eq!(data, CIPHERTEXT);
        for position in 0..data.len() {
            data[position] ^= 0x80;
            let before = data;
            assert_eq!(gcm.open_in_place(&NONCE, &AAD, &mut data, &TAG), Err(Opaque));
            assert_eq!(data, before);
            data[position] ^= 0x80;
        }
        assert_eq!(gcm.open_in_place(&NONCE, &AAD[1..], &mut data, &TAG), Err(Opaque));
    }

    #[test]
    fn bytes_may_come_in_any_pieces() {
        let gcm = Gcm::new(&KEY);
        let whole: std::vec::Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        for length in [0, 1, 15, 16, 17, 31, 32, 33, 4095, 4096, 4097, 5000] {
            let mut sealed = whole[..length].to_vec();
            let tag = gcm.seal_in_place(&NONCE, &AAD, &mut sealed);
            for step in [1, 3, 15, 16, 17, 40, 4096, 5000] {
                let mut data = whole[..length].to_vec();
                let mut message = gcm.start(&NONCE, &AAD);
                data.chunks_mut(step).for_each(|piece| message.encrypt(&gcm, piece));
                assert_eq!((message.tag(), &data), (tag, &sealed), "{length} bytes by {step}");
                let mut message = gcm.start(&NONCE, &AAD);
                data.chunks_mut(step).for_each(|piece| message.decrypt(&gcm, piece));
                assert_eq!((message.tag(), &data[..]), (tag, &whole[..length]), "{length} bytes by {step}");
            }
        }
    }
}
