//! Engine, noise and counter of a simulated device.

use std::{cell::Cell, rc::Rc, vec::Vec};

use aes::{
    Aes256,
    cipher::{Array, BlockCipherEncrypt, KeyInit},
};
use eds_core::cipher::EngineFault;
use sha2::{Digest, Sha256};

use crate::{AesEngine, Counter, EntropySource};

/// A peripheral with key registers, as microcontrollers have them.
#[derive(Default)]
pub(crate) struct SimulatedAes {
    key: [u8; 32],
    loaded: bool,
    /// The peripheral reports an error from this call on.
    pub(crate) fail_after: Option<usize>,
    /// `clear_key` does nothing.
    pub(crate) keeps_key: bool,
    /// One bit of the output register is stuck.
    pub(crate) stuck_bit: bool,
    /// The ninth block of a call is left out.
    pub(crate) skips_ninth: bool,
}

impl SimulatedAes {
    pub(crate) fn failing_after(calls: usize) -> Self {
        Self { fail_after: Some(calls), ..Self::default() }
    }

    pub(crate) fn with_stuck_bit() -> Self {
        Self { stuck_bit: true, ..Self::default() }
    }

    /// What a debugger would see.
    pub(crate) fn registers(&self) -> [u8; 32] {
        self.key
    }

    fn call(&mut self) -> Result<(), EngineFault> {
        match &mut self.fail_after {
            Some(0) => Err(EngineFault),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl AesEngine for SimulatedAes {
    fn set_key(&mut self, key: &[u8; 32]) -> Result<(), EngineFault> {
        self.call()?;
        (self.key, self.loaded) = (*key, true);
        Ok(())
    }

    fn encrypt_blocks(&mut self, blocks: &mut [[u8; 16]]) -> Result<(), EngineFault> {
        self.call()?;
        if !self.loaded {
            return Err(EngineFault);
        }
        for (number, block) in blocks.iter_mut().enumerate() {
            if self.skips_ninth && number == 8 {
                continue;
            }
            // One block at a time, as a register interface does it.
            Aes256::new((&self.key).into()).encrypt_block(Array::cast_from_core_mut(block));
            if self.stuck_bit {
                block[5] |= 0x80;
            }
        }
        Ok(())
    }

    fn clear_key(&mut self) {
        if !self.keeps_key {
            (self.key, self.loaded) = ([0; 32], false);
        }
    }
}

/// Noise from a seed: SHA-256 in counter mode. It can be stuck, biased, or fail from a sample on.
pub(crate) struct SimulatedNoise {
    seed: u64,
    taken: usize,
    last: u8,
    stuck_after: Option<usize>,
    fails_after: Option<usize>,
    biased: bool,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct NoiseFailed;

impl SimulatedNoise {
    /// The same noise for the same seed: what a broken source might give after each reset.
    pub(crate) fn repeating(seed: u64) -> Self {
        Self { seed, taken: 0, last: 7, stuck_after: None, fails_after: None, biased: false }
    }

    pub(crate) fn good() -> Self {
        Self::repeating(1)
    }

    pub(crate) fn stuck_after(samples: usize) -> Self {
        Self { stuck_after: Some(samples), ..Self::good() }
    }

    pub(crate) fn failing_after(samples: usize) -> Self {
        Self { fails_after: Some(samples), ..Self::good() }
    }

    /// One value comes every third time, and never twice in a row.
    pub(crate) fn biased() -> Self {
        Self { biased: true, ..Self::good() }
    }
}

impl EntropySource for SimulatedNoise {
    type Error = NoiseFailed;
    const MIN_ENTROPY_BITS: u8 = 8;

    fn fill(&mut self, samples: &mut [u8]) -> Result<(), NoiseFailed> {
        for sample in samples {
            if self.fails_after.is_some_and(|after| self.taken >= after) {
                return Err(NoiseFailed);
            }
            if self.stuck_after.is_none_or(|after| self.taken < after) {
                let position = (self.seed, self.taken as u64);
                let block = Sha256::new().chain_update(position.0.to_le_bytes()).chain_update(position.1.to_le_bytes());
                self.last = block.finalize()[0];
                if self.biased {
                    self.last = if self.taken.is_multiple_of(3) { 0xaa } else { self.last & 0x7f };
                }
            }
            *sample = self.last;
            self.taken += 1;
        }
        Ok(())
    }
}

/// A counter in memory that outlives a reset of the device.
#[derive(Clone, Default)]
pub(crate) struct SimulatedCounter {
    pub(crate) stored: Rc<Cell<u64>>,
    pub(crate) worn_out: bool,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct WornOut;

impl Counter for SimulatedCounter {
    type Error = WornOut;

    fn advance(&mut self) -> Result<u64, WornOut> {
        if self.worn_out {
            return Err(WornOut);
        }
        self.stored.set(self.stored.get() + 1);
        Ok(self.stored.get())
    }
}

/// Bytes that look like an image.
pub(crate) fn picture(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 % 251) as u8).collect()
}
