//! AES-256 behind a trait, and the chunk cipher over whatever implements it.
//!
//! [`AesEngine`] asks for the least that a peripheral can do: encrypt single blocks (ECB). [`EngineGcm`] makes counter mode and
//! GHASH around it, and is what every board uses, with [`SoftAes`] where there is no hardware. Both run through one
//! suite, [`crate::conformance::aes_engine`], in the host tests and at each start of a device.

use aes::{
    Aes256,
    cipher::{Array, BlockCipherEncrypt, KeyInit, consts::U16},
};
use eds_core::cipher::{EngineFault, NONCE, StreamingCipher, TAG};
use ghash::{GHash, universal_hash::UniversalHash};
use zeroize::{Zeroize, Zeroizing};

/// Encrypts blocks with AES-256 (FIPS 197).
///
/// Implementers: time must not depend on key or data; `clear_key` leaves no key material in registers or memory; an error
/// may leave anything in `blocks`. A fault of the peripheral (a timeout, an error flag) is an error, never a wait without end. Run
/// [`crate::conformance::aes_engine`]. Callers: set a key first; clear it when done.
pub trait AesEngine {
    /// Takes the key for the calls that follow.
    ///
    /// # Errors
    /// [`EngineFault`].
    fn set_key(&mut self, key: &[u8; 32]) -> Result<(), EngineFault>;

    /// Encrypts each block in place.
    ///
    /// # Errors
    /// [`EngineFault`], also without a key.
    fn encrypt_blocks(&mut self, blocks: &mut [[u8; 16]]) -> Result<(), EngineFault>;

    /// Forgets the key.
    fn clear_key(&mut self);
}

/// AES-256 in software: bitsliced, in constant time, a few hundred instructions for a byte.
#[derive(Default)]
pub struct SoftAes {
    key: Option<Aes256>,
}

impl SoftAes {
    /// An engine without a key.
    pub const fn new() -> Self {
        Self { key: None }
    }
}

impl AesEngine for SoftAes {
    fn set_key(&mut self, key: &[u8; 32]) -> Result<(), EngineFault> {
        self.key = Some(Aes256::new(key.into()));
        Ok(())
    }

    fn encrypt_blocks(&mut self, blocks: &mut [[u8; 16]]) -> Result<(), EngineFault> {
        let key = self.key.as_ref().ok_or(EngineFault)?;
        key.encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
        Ok(())
    }

    /// `Aes256` wipes its round keys when it is dropped.
    fn clear_key(&mut self) {
        self.key = None;
    }
}

/// AES-256-GCM encryption over an engine, in pieces of any size: the chunk cipher of a device.
pub struct EngineGcm<'e, A: AesEngine> {
    engine: &'e mut A,
    // With the hash key, before any block.
    fresh: GHash,
    chunk: Option<Chunk>,
}

struct Chunk {
    ghash: GHash,
    mask: [u8; 16],
    nonce: [u8; NONCE],
    counter: u32,
    keystream: [[u8; 16]; BATCH],
    // Bytes of the keystream that are used up.
    used: usize,
    // The ciphertext of an unfinished block.
    pending: [u8; 16],
    length: u64,
}

impl<'e, A: AesEngine> EngineGcm<'e, A> {
    /// The cipher with this key. The engine keeps the key until the cipher is dropped.
    ///
    /// # Errors
    /// [`EngineFault`].
    pub fn new(engine: &'e mut A, key: &[u8; 32]) -> Result<Self, EngineFault> {
        engine.set_key(key)?;
        let mut subkey = Zeroizing::new([[0u8; 16]; 1]);
        let encrypted = engine.encrypt_blocks(&mut *subkey);
        if encrypted.is_err() {
            engine.clear_key();
        }
        encrypted?;
        let fresh = GHash::new((subkey.as_flattened().first_chunk::<16>().ok_or(EngineFault)?).into());
        Ok(Self { engine, fresh, chunk: None })
    }
}

impl<A: AesEngine> Drop for EngineGcm<'_, A> {
    fn drop(&mut self) {
        self.engine.clear_key();
    }
}

impl<A: AesEngine> StreamingCipher for EngineGcm<'_, A> {
    fn start(&mut self, nonce: &[u8; NONCE]) -> Result<(), EngineFault> {
        self.chunk = None;
        let mut mask = Zeroizing::new([counter_block(nonce, 1)]);
        self.engine.encrypt_blocks(&mut *mask)?;
        let [mask] = *mask;
        self.chunk = Some(Chunk {
            ghash: self.fresh.clone(),
            mask,
            nonce: *nonce,
            counter: 2,
            keystream: [[0; 16]; BATCH],
            used: KEYSTREAM,
            pending: [0; 16],
            length: 0,
        });
        Ok(())
    }

    fn update(&mut self, piece: &mut [u8]) -> Result<(), EngineFault> {
        let chunk = self.chunk.as_mut().ok_or(EngineFault)?;
        let mut rest = piece;
        while !rest.is_empty() {
            if chunk.used >= KEYSTREAM {
                chunk.refill(self.engine)?;
            }
            let (now, later) = rest.split_at_mut(rest.len().min(KEYSTREAM - chunk.used));
            let keys = chunk.keystream.as_flattened().get(chunk.used..).unwrap_or_default();
            for (byte, key) in now.iter_mut().zip(keys) {
                *byte ^= key;
            }
            chunk.absorb(now);
            chunk.used += now.len();
            rest = later;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<[u8; TAG], EngineFault> {
        let chunk = self.chunk.as_mut().ok_or(EngineFault)?;
        let tag = chunk.tag();
        self.chunk = None;
        Ok(tag)
    }
}

impl Chunk {
    fn refill(&mut self, engine: &mut impl AesEngine) -> Result<(), EngineFault> {
        for block in &mut self.keystream {
            *block = counter_block(&self.nonce, self.counter);
            self.counter = self.counter.wrapping_add(1);
        }
        engine.encrypt_blocks(&mut self.keystream)?;
        self.used = 0;
        Ok(())
    }

    /// GHASH of ciphertext; blocks do not cross the end of the keystream, so only the first and the last can be in parts.
    fn absorb(&mut self, ciphertext: &[u8]) {
        let filled = (self.length % 16) as usize;
        self.length += ciphertext.len() as u64;
        let (head, rest) = ciphertext.split_at(if filled == 0 { 0 } else { ciphertext.len().min(16 - filled) });
        self.keep(filled, head);
        if !head.is_empty() && filled + head.len() == 16 {
            self.ghash.update(core::slice::from_ref((&self.pending).into()));
        }
        let (blocks, tail) = Array::<u8, U16>::slice_as_chunks(rest);
        self.ghash.update(blocks);
        self.keep(0, tail);
    }

    fn keep(&mut self, filled: usize, bytes: &[u8]) {
        for (kept, byte) in self.pending.iter_mut().skip(filled).zip(bytes) {
            *kept = *byte;
        }
    }

    fn tag(&mut self) -> [u8; TAG] {
        if let Some(pending) = self.pending.get(..(self.length % 16) as usize) {
            self.ghash.update_padded(pending);
        }
        let mut last = [0; 16];
        let (_, bits) = last.split_at_mut(8);
        bits.copy_from_slice(&(self.length * 8).to_be_bytes());
        self.ghash.update(core::slice::from_ref((&last).into()));
        let mut tag: [u8; TAG] = self.ghash.clone().finalize().into();
        for (byte, mask) in tag.iter_mut().zip(&self.mask) {
            *byte ^= mask;
        }
        tag
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.mask.zeroize();
        self.keystream.zeroize();
        self.pending.zeroize();
    }
}

fn counter_block(nonce: &[u8; NONCE], counter: u32) -> [u8; 16] {
    let mut block = [0; 16];
    let (head, tail) = block.split_at_mut(NONCE);
    head.copy_from_slice(nonce);
    tail.copy_from_slice(&counter.to_be_bytes());
    block
}

/// Blocks of keystream made at a time: enough for an engine that takes several at once, little enough for a small memory.
const BATCH: usize = 8;
const KEYSTREAM: usize = 16 * BATCH;

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use eds_core::cipher::{ChunkCipher, soft::SoftCipher};
    use proptest::prelude::*;

    use super::*;
    use crate::simulator::SimulatedAes;

    /// The generic cipher over an engine makes the bytes of core's cipher, in pieces of any size, chunk after chunk.
    fn agrees_with_core(engine: &mut impl AesEngine, key: [u8; 32], plain: &[u8], pieces: &[usize]) {
        let mut cipher = EngineGcm::new(engine, &key).expect("sets up");
        for nonce in [[9; NONCE], [0xff; NONCE]] {
            let mut expected = plain.to_vec();
            let expected_tag = SoftCipher::with_key(&key).seal_in_place(&nonce, &mut expected).expect("seals");
            let mut data = plain.to_vec();
            cipher.start(&nonce).expect("starts");
            let mut rest = &mut data[..];
            for length in pieces.iter().cycle() {
                let (now, later) = rest.split_at_mut((*length).clamp(1, 400).min(rest.len()));
                cipher.update(now).expect("encrypts");
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            assert_eq!(cipher.finish(), Ok(expected_tag));
            assert!(data == expected);
        }
        assert_eq!(cipher.finish(), Err(EngineFault));
        assert_eq!(cipher.update(&mut [0]), Err(EngineFault));
    }

    proptest! {
        #[test]
        fn every_engine_makes_the_bytes_of_core(
            key: [u8; 32],
            plain in proptest::collection::vec(any::<u8>(), 0..1200),
            pieces in proptest::collection::vec(1usize..400, 1..6),
        ) {
            agrees_with_core(&mut SoftAes::new(), key, &plain, &pieces);
            agrees_with_core(&mut SimulatedAes::default(), key, &plain, &pieces);
        }
    }

    #[test]
    fn the_engine_forgets_the_key_with_the_cipher() {
        let mut engine = SimulatedAes::default();
        let mut cipher = EngineGcm::new(&mut engine, &[7; 32]).expect("sets up");
        cipher.start(&[1; NONCE]).expect("starts");
        drop(cipher);
        assert_eq!(engine.encrypt_blocks(&mut [[0; 16]]), Err(EngineFault));
        assert!(engine.registers().iter().all(|byte| *byte == 0), "key material is left in the engine");
    }

    #[test]
    fn a_fault_of_the_engine_is_an_error_at_every_step() {
        for after in 0..12 {
            let mut engine = SimulatedAes::failing_after(after);
            let result = EngineGcm::new(&mut engine, &[7; 32]).and_then(|mut cipher| {
                cipher.start(&[1; NONCE])?;
                cipher.update(&mut Vec::from([0; 1000]))?;
                cipher.finish()
            });
            assert_eq!(result.is_err(), after < 11, "failing after {after} calls");
            assert!(engine.registers().iter().all(|byte| *byte == 0), "key material is left in the engine");
        }
    }
}
