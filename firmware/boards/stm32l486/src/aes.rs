//! The AES peripheral (RM0351, chapter 28), as an engine for single blocks: ECB, encryption, 256-bit key, no DMA.

use eds_core::cipher::EngineFault;
use eds_firmware::AesEngine;

use crate::pac;

pub(crate) struct Aes {
    registers: pac::AES,
    keyed: bool,
}

impl Aes {
    pub(crate) const fn new(registers: pac::AES) -> Self {
        Self { registers, keyed: false }
    }

    /// Waits for the end of a computation, but not for ever: 256-bit ECB takes about 300 cycles.
    fn finish(&self) -> Result<(), EngineFault> {
        for _ in 0..10_000 {
            let status = self.registers.sr().read();
            if status.rderr().bit_is_set() || status.wrerr().bit_is_set() {
                return Err(EngineFault);
            }
            if status.ccf().bit_is_set() {
                return Ok(());
            }
        }
        Err(EngineFault)
    }

    fn write_key(&self, key: &[u8; 32]) {
        let words = key.as_chunks::<4>().0.iter().map(|bytes| u32::from_be_bytes(*bytes));
        // KEYR7 is the most significant word, KEYR0 the least.
        for (number, word) in words.enumerate() {
            match number {
                0 => self.registers.keyr7().write(|w| w.key().set(word)),
                1 => self.registers.keyr6().write(|w| w.key().set(word)),
                2 => self.registers.keyr5().write(|w| w.key().set(word)),
                3 => self.registers.keyr4().write(|w| w.key().set(word)),
                4 => self.registers.keyr3().write(|w| w.key().set(word)),
                5 => self.registers.keyr2().write(|w| w.key().set(word)),
                6 => self.registers.keyr1().write(|w| w.key().set(word)),
                _ => self.registers.keyr0().write(|w| w.key().set(word)),
            };
        }
    }
}

impl AesEngine for Aes {
    fn set_key(&mut self, key: &[u8; 32]) -> Result<(), EngineFault> {
        // Mode, chaining and key may only be changed while the peripheral is off.
        self.registers.cr().write(|w| w.en().clear_bit());
        self.registers.cr().write(|w| w.keysize().set_bit().chmod().ecb().mode().mode1().datatype().byte());
        self.write_key(key);
        self.registers.cr().modify(|_, w| w.en().set_bit());
        self.keyed = true;
        Ok(())
    }

    fn encrypt_blocks(&mut self, blocks: &mut [[u8; 16]]) -> Result<(), EngineFault> {
        if !self.keyed {
            return Err(EngineFault);
        }
        for block in blocks {
            // With DATATYPE = byte the peripheral swaps the bytes of each word: words are little-endian here.
            for bytes in block.as_chunks::<4>().0 {
                self.registers.dinr().write(|w| w.din().set(u32::from_le_bytes(*bytes)));
            }
            self.finish()?;
            for bytes in block.as_chunks_mut::<4>().0 {
                *bytes = self.registers.doutr().read().bits().to_le_bytes();
            }
            self.registers.cr().modify(|_, w| w.ccfc().set_bit());
        }
        Ok(())
    }

    fn clear_key(&mut self) {
        self.registers.cr().write(|w| w.en().clear_bit());
        self.write_key(&[0; 32]);
        self.keyed = false;
    }
}
