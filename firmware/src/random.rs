//! The random source of a device: noise, health tests, conditioning, generator.
//!
//! [`Random::start`] refuses a source that fails its tests over the first 1,024 samples. [`Random::frame`] reseeds
//! before each image from fresh noise that is tested as it comes, with the device id and the frame counter as additional
//! input, and lends out a generator for that image alone. A source that fails once stays out of use.
//!
//! Two images never share a generator state. The noise is new each time; and should a broken source give the very same noise after a
//! reset without its tests noticing, the counter, which never repeats, still makes every key, salt and one-time key another
//! (docs/for-firmware-engineers.md, "Nonces").

use eds_core::ids::DeviceId;
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::{
    drbg::HmacDrbg,
    entropy::{EntropyFault, EntropySource, Health},
};

/// A tested noise source and the generator that it seeds.
pub struct Random<S> {
    source: S,
    health: Health,
    drbg: HmacDrbg,
    out_of_use: bool,
}

impl<S: EntropySource> Random<S> {
    /// Tests the source and seeds the generator.
    ///
    /// # Errors
    /// [`EntropyFault`]: this device must not draw keys.
    #[inline(never)]
    pub fn start(mut source: S) -> Result<Self, EntropyFault<S::Error>> {
        let mut health = Health::new(S::MIN_ENTROPY_BITS);
        // Section 4.3: what the start-up tests look at is not used.
        gather(&mut source, &mut health, STARTUP_SAMPLES, &mut |_| ())?;
        let seed = seed(&mut source, &mut health)?;
        let drbg = HmacDrbg::new(&[&*seed, b"eds/v1/device"]);
        Ok(Self { source, health, drbg, out_of_use: false })
    }

    /// Reseeds for one image and lends the generator out.
    ///
    /// # Errors
    /// [`EntropyFault`], from then on always.
    pub fn frame(&mut self, device: DeviceId, counter: u64) -> Result<FrameRandom<'_>, EntropyFault<S::Error>> {
        if self.out_of_use {
            return Err(EntropyFault::OutOfUse);
        }
        self.out_of_use = true;
        let seed = seed(&mut self.source, &mut self.health)?;
        self.drbg.reseed(&[&*seed, device.as_bytes(), &counter.to_le_bytes()]);
        self.out_of_use = false;
        Ok(FrameRandom { drbg: &mut self.drbg })
    }
}

/// The generator, for one image: a `CryptoRng`.
pub struct FrameRandom<'a> {
    drbg: &'a mut HmacDrbg,
}

impl TryRng for FrameRandom<'_> {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.drbg.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.drbg.try_next_u64()
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.drbg.try_fill_bytes(out)
    }
}

impl TryCryptoRng for FrameRandom<'_> {}

/// Samples that are tested before the source is used.
const STARTUP_SAMPLES: usize = 1024;
/// Min-entropy of the noise behind each seed, in bits: the 256 of the generator's strength and its nonce, with room.
const SEED_BITS: usize = 512;

/// Noise with [`SEED_BITS`] of min-entropy, conditioned with SHA-512, a vetted function (SP 800-90B, section 3.1.5.1.1).
fn seed<S: EntropySource>(source: &mut S, health: &mut Health) -> Result<Zeroizing<[u8; 64]>, EntropyFault<S::Error>> {
    let mut hash = Sha512::new();
    let samples = SEED_BITS.div_ceil(usize::from(S::MIN_ENTROPY_BITS.clamp(1, 8)));
    gather(source, health, samples, &mut |piece| hash.update(piece))?;
    Ok(Zeroizing::new(hash.finalize().into()))
}

fn gather<S: EntropySource>(
    source: &mut S,
    health: &mut Health,
    samples: usize,
    keep: &mut impl FnMut(&[u8]),
) -> Result<(), EntropyFault<S::Error>> {
    let mut buffer = Zeroizing::new([0u8; 32]);
    let mut left = samples;
    while left > 0 {
        let Some(piece) = buffer.get_mut(..left.min(32)) else { break };
        source.fill(piece).map_err(EntropyFault::Source)?;
        for sample in piece.iter() {
            health.take(*sample)?;
        }
        keep(piece);
        left -= piece.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand_core::Rng;

    use super::*;
    use crate::simulator::SimulatedNoise;

    const DEVICE: DeviceId = DeviceId::from_bytes([5; 16]);

    fn bytes(random: &mut Random<SimulatedNoise>, counter: u64) -> [u8; 48] {
        let mut out = [0; 48];
        random.frame(DEVICE, counter).expect("healthy").fill_bytes(&mut out);
        out
    }

    #[test]
    fn a_source_that_fails_at_any_moment_of_the_start_is_refused() {
        let needed = STARTUP_SAMPLES + 64;
        for after in (0..needed).step_by(13) {
            let stuck = Random::start(SimulatedNoise::stuck_after(after)).map(|_| ());
            // The last few samples cannot show it any more; the next frame does.
            assert_eq!(stuck.is_err(), after + 3 <= needed, "stuck after {after}");
            assert!(matches!(
                Random::start(SimulatedNoise::failing_after(after)).map(|_| ()),
                Err(EntropyFault::Source(_))
            ));
        }
        assert_eq!(Random::start(SimulatedNoise::stuck_after(100)).map(|_| ()).err(), Some(EntropyFault::Repetition));
        assert_eq!(Random::start(SimulatedNoise::biased()).map(|_| ()).err(), Some(EntropyFault::Proportion));
    }

    #[test]
    fn a_source_that_breaks_between_two_images_stays_out_of_use() {
        let mut random = Random::start(SimulatedNoise::stuck_after(STARTUP_SAMPLES + 64 + 64)).expect("healthy");
        bytes(&mut random, 1);
        assert!(matches!(random.frame(DEVICE, 2).map(|_| ()), Err(EntropyFault::Repetition)));
        for counter in 3..6 {
            assert!(matches!(random.frame(DEVICE, counter).map(|_| ()), Err(EntropyFault::OutOfUse)));
        }
    }

    #[test]
    fn even_the_same_noise_after_a_reset_gives_other_bytes_under_another_counter() {
        let mut one = Random::start(SimulatedNoise::repeating(9)).expect("healthy");
        let mut other = Random::start(SimulatedNoise::repeating(9)).expect("healthy");
        assert_ne!(bytes(&mut one, 7), bytes(&mut other, 8));
        let mut again = Random::start(SimulatedNoise::repeating(9)).expect("healthy");
        let mut device = Random::start(SimulatedNoise::repeating(9)).expect("healthy");
        let mut out = [0; 48];
        device.frame(DeviceId::from_bytes([6; 16]), 7).expect("healthy").fill_bytes(&mut out);
        assert_ne!(bytes(&mut again, 7), out, "two devices with one noise");
    }
}
