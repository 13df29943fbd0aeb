//! AES-256-GCM from RustCrypto's `aes`, `ctr` and `ghash`: constant time, on every target, in pieces of any size.
//!
//! GCM after NIST SP 800-38D with a 96-bit nonce and no associated data: the counter block is nonce ‖ 32-bit counter;
//! counter 1 masks the tag, counters from 2 on encrypt. A chunk has 1,024 blocks at most, so the counter never wraps.

use aes::{
    Aes256Enc,
    cipher::{Array, BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipherCore},
};
use ctr::{CtrCore, flavors::Ctr32BE};
use ghash::{GHash, universal_hash::UniversalHash};
use zeroize::{Zeroize, Zeroizing};

use super::{ChunkCipher, EngineFault, NONCE, StreamingCipher, TAG, same};
use crate::Opaque;

/// The portable cipher.
pub struct SoftCipher {
    block_cipher: Aes256Enc,
    hash_key: Zeroizing<[u8; BLOCK]>,
    /// The chunk being streamed.
    chunk: Option<Chunk>,
}

impl SoftCipher {
    /// The cipher with this key.
    pub fn with_key(key: &[u8; 32]) -> Self {
        let block_cipher = Aes256Enc::new(&(*key).into());
        let mut hash_key = Array::from([0; BLOCK]);
        block_cipher.encrypt_block(&mut hash_key);
        let cipher = Self { block_cipher, hash_key: Zeroizing::new(hash_key.into()), chunk: None };
        hash_key.zeroize();
        cipher
    }

    /// E(K, nonce ‖ 1), which masks the tag.
    fn tag_mask(&self, nonce: &[u8; NONCE]) -> Block {
        let mut block = Array::from(counter_block(nonce, 1));
        self.block_cipher.encrypt_block(&mut block);
        block
    }
}

impl ChunkCipher for SoftCipher {
    fn new(key: &[u8; 32]) -> Result<Self, EngineFault> {
        Ok(Self::with_key(key))
    }

    fn seal_in_place(&self, nonce: &[u8; NONCE], data: &mut [u8]) -> Result<[u8; TAG], EngineFault> {
        let mut chunk = Chunk::start(&self.hash_key, nonce);
        chunk.encrypt(&self.block_cipher, data);
        Ok(chunk.finish(self))
    }

    fn open_in_place(&self, nonce: &[u8; NONCE], data: &mut [u8], tag: &[u8; TAG]) -> Result<(), Opaque> {
        let mut chunk = Chunk::start(&self.hash_key, nonce);
        chunk.hash.update_padded(data);
        chunk.length = data.len() as u64;
        let expected = chunk.tag(self);
        if same(&expected, tag).is_err() {
            data.zeroize();
            return Err(Opaque);
        }
        let mut keystream = Chunk::start(&self.hash_key, nonce);
        let (blocks, tail) = Array::slice_as_chunks_mut(data);
        keystream.apply_blocks(&self.block_cipher, blocks);
        keystream.next_keystream(&self.block_cipher);
        for (byte, key) in tail.iter_mut().zip(&keystream.keystream) {
            *byte ^= key;
        }
        Ok(())
    }
}

impl StreamingCipher for SoftCipher {
    fn start(&mut self, nonce: &[u8; NONCE]) -> Result<(), EngineFault> {
        self.chunk = Some(Chunk::start(&self.hash_key, nonce));
        Ok(())
    }

    fn update(&mut self, piece: &mut [u8]) -> Result<(), EngineFault> {
        self.chunk.as_mut().ok_or(EngineFault)?.encrypt(&self.block_cipher, piece);
        Ok(())
    }

    fn finish(&mut self) -> Result<[u8; TAG], EngineFault> {
        Ok(self.chunk.take().ok_or(EngineFault)?.finish(self))
    }
}

/// One chunk on its way: the running hash, the counter, and the block that a piece ended in.
struct Chunk {
    hash: GHash,
    nonce: [u8; NONCE],
    /// The counter of the next block.
    counter: u32,
    /// Bytes encrypted so far.
    length: u64,
    /// Keystream of the block that the last piece ended in.
    keystream: [u8; BLOCK],
    /// Ciphertext of that block, as far as it is there; the rest is zero.
    partial: [u8; BLOCK],
}

impl Chunk {
    fn start(hash_key: &[u8; BLOCK], nonce: &[u8; NONCE]) -> Self {
        let mut key = Array::from(*hash_key);
        let hash = GHash::new(&key);
        key.zeroize();
        Self { hash, nonce: *nonce, counter: FIRST_DATA_COUNTER, length: 0, keystream: [0; BLOCK], partial: [0; BLOCK] }
    }

    fn encrypt(&mut self, cipher: &Aes256Enc, piece: &mut [u8]) {
        let filled = self.filled();
        let piece_len = piece.len() as u64;
        let to_fill = if filled == 0 { 0 } else { (BLOCK - filled).min(piece.len()) };
        let Some((head, rest)) = piece.split_at_mut_checked(to_fill) else { return };
        if !head.is_empty() {
            self.encrypt_within_block(filled, head);
            if filled + to_fill == BLOCK {
                self.hash.update(&[self.partial.into()]);
            }
        }
        // In batches, so that the hash finds in the first-level cache what the cipher just wrote.
        let (blocks, tail) = Array::slice_as_chunks_mut(rest);
        for batch in blocks.chunks_mut(BATCH) {
            self.apply_blocks(cipher, batch);
            self.hash.update(batch);
        }
        if !tail.is_empty() {
            self.next_keystream(cipher);
            self.partial = [0; BLOCK];
            self.encrypt_within_block(0, tail);
        }
        self.length = self.length.wrapping_add(piece_len);
    }

    /// Encrypts bytes of one block from position `from` on, and keeps them for the hash.
    fn encrypt_within_block(&mut self, from: usize, bytes: &mut [u8]) {
        let kept = self.keystream.iter().zip(&mut self.partial).skip(from);
        for (byte, (key, kept)) in bytes.iter_mut().zip(kept) {
            *byte ^= key;
            *kept = *byte;
        }
    }

    /// Applies the keystream to whole blocks.
    fn apply_blocks(&mut self, cipher: &Aes256Enc, blocks: &mut [Block]) {
        let block = counter_block(&self.nonce, self.counter);
        CtrCore::<_, Ctr32BE>::inner_iv_init(cipher, &block.into()).apply_keystream_blocks(blocks);
        self.counter = self.counter.wrapping_add(blocks.len() as u32);
    }

    /// Prepares the keystream of one more block.
    fn next_keystream(&mut self, cipher: &Aes256Enc) {
        let mut block = [Array::from([0; BLOCK])];
        self.apply_blocks(cipher, &mut block);
        let [block] = block;
        self.keystream = block.into();
    }

    /// How many bytes the block that the last piece ended in has.
    fn filled(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    fn finish(mut self, cipher: &SoftCipher) -> [u8; TAG] {
        if self.filled() != 0 {
            self.hash.update(&[self.partial.into()]);
        }
        self.tag(cipher)
    }

    /// The tag, when all blocks are in the hash.
    fn tag(&mut self, cipher: &SoftCipher) -> [u8; TAG] {
        let mut lengths = [0; BLOCK];
        let (_, bits) = lengths.split_at_mut(BLOCK / 2);
        bits.copy_from_slice(&self.length.wrapping_mul(8).to_be_bytes());
        self.hash.update(&[lengths.into()]);
        let mut tag: [u8; TAG] = self.hash.clone().finalize().into();
        for (byte, mask) in tag.iter_mut().zip(cipher.tag_mask(&self.nonce)) {
            *byte ^= mask;
        }
        tag
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // The hash wipes itself.
        self.keystream.zeroize();
        self.nonce.zeroize();
    }
}

fn counter_block(nonce: &[u8; NONCE], counter: u32) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (left, right) = block.split_at_mut(NONCE);
    left.copy_from_slice(nonce);
    right.copy_from_slice(&counter.to_be_bytes());
    block
}

type Block = Array<u8, aes::cipher::consts::U16>;
const BLOCK: usize = 16;
const FIRST_DATA_COUNTER: u32 = 2;
/// Blocks encrypted before they are hashed.
const BATCH: usize = 64;
