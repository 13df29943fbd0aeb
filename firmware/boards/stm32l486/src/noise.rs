//! The random number generator (RM0351, chapter 27): 32 bits at a time, with its own checks of clock and seed.

use eds_firmware::EntropySource;

use crate::pac;

pub(crate) struct Noise(pac::RNG);

/// What the generator says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NoiseFault {
    Seed,
    Clock,
    Late,
}

impl Noise {
    pub(crate) fn new(registers: pac::RNG) -> Self {
        registers.cr().write(|w| w.rngen().set_bit());
        Self(registers)
    }

    fn word(&self) -> Result<u32, NoiseFault> {
        for _ in 0..10_000 {
            let status = self.0.sr().read();
            if status.secs().bit_is_set() || status.seis().bit_is_set() {
                return Err(NoiseFault::Seed);
            }
            if status.cecs().bit_is_set() || status.ceis().bit_is_set() {
                return Err(NoiseFault::Clock);
            }
            if status.drdy().bit_is_set() {
                return Ok(self.0.dr().read().bits());
            }
        }
        Err(NoiseFault::Late)
    }
}

impl EntropySource for Noise {
    type Error = NoiseFault;

    /// What is read is already mixed in the peripheral, and ST publishes no assessment of this part that could be cited: claim
    /// little. The tests are mild at this figure, and the pipeline takes eight times as many samples.
    const MIN_ENTROPY_BITS: u8 = 1;

    fn fill(&mut self, samples: &mut [u8]) -> Result<(), NoiseFault> {
        for piece in samples.chunks_mut(4) {
            let word = self.word()?.to_le_bytes();
            for (sample, byte) in piece.iter_mut().zip(word) {
                *sample = byte;
            }
        }
        Ok(())
    }
}
