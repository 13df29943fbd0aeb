//! The noise source of a device and its health tests (NIST SP 800-90B, section 4.4): repetition count and adaptive
//! proportion, on every byte that is ever taken from it.
//!
//! The tests find a source that broke: stuck, or with far less entropy than claimed. They do not show that a source is good;
//! its maker's assessment does, and is where [`EntropySource::MIN_ENTROPY_BITS`] comes from. A false alarm comes once in about 2²⁰
//! samples of the repetition test and windows of the proportion test, and costs one frame.

use core::fmt;

/// A physical noise source, raw: not conditioned, not whitened.
///
/// Implementers: give every sample once, never a stale one; an error flag of the peripheral (seed or clock error) is an error;
/// never wait without end. Run [`crate::conformance::entropy_source`] in the laboratory.
pub trait EntropySource {
    /// Why it gave no bytes.
    type Error: fmt::Debug;

    /// The min-entropy of one byte in bits, rounded down: 1 to 8, from the assessment of the source. Claim less when in doubt.
    const MIN_ENTROPY_BITS: u8;

    /// Fills `samples` with fresh noise.
    ///
    /// # Errors
    /// Whatever keeps the source from giving noise.
    fn fill(&mut self, samples: &mut [u8]) -> Result<(), Self::Error>;
}

/// Why there is no randomness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EntropyFault<E> {
    /// The source itself says so.
    Source(E),
    /// One value came too often in a row.
    Repetition,
    /// One value came too often in a window of 512.
    Proportion,
    /// It failed before, and stays out of use until the device is started anew.
    OutOfUse,
}

impl<E: fmt::Debug> fmt::Display for EntropyFault<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => write!(f, "the noise source failed: {error:?}"),
            Self::Repetition => f.write_str("the noise source failed its repetition count test"),
            Self::Proportion => f.write_str("the noise source failed its adaptive proportion test"),
            Self::OutOfUse => f.write_str("the noise source failed before; the device must be started anew"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for EntropyFault<E> {}

/// The two health tests, fed with every sample.
#[derive(Clone, Debug)]
pub struct Health {
    repetition_cutoff: u16,
    proportion_cutoff: u16,
    last: Option<u8>,
    repeated: u16,
    window_value: u8,
    window_seen: u16,
    window_count: u16,
}

impl Health {
    /// Samples of a window of the proportion test.
    pub const WINDOW: u16 = 512;

    /// Tests for a source with so many bits of min-entropy in a byte; numbers outside of 1 to 8 count as 1, the mildest
    /// claim with the mildest tests.
    pub fn new(min_entropy_bits: u8) -> Self {
        let row = usize::from(min_entropy_bits).wrapping_sub(1);
        let (repetition_cutoff, proportion_cutoff) = CUTOFFS.get(row).copied().unwrap_or(CUTOFFS[0]);
        Self {
            repetition_cutoff,
            proportion_cutoff,
            last: None,
            repeated: 0,
            window_value: 0,
            window_seen: 0,
            window_count: 0,
        }
    }

    /// Takes the next sample.
    ///
    /// # Errors
    /// [`EntropyFault::Repetition`], [`EntropyFault::Proportion`].
    pub fn take<E>(&mut self, sample: u8) -> Result<(), EntropyFault<E>> {
        self.repeated = if self.last == Some(sample) { self.repeated.saturating_add(1) } else { 1 };
        self.last = Some(sample);
        if self.repeated >= self.repetition_cutoff {
            return Err(EntropyFault::Repetition);
        }
        if self.window_seen == 0 {
            (self.window_value, self.window_count) = (sample, 0);
        }
        if sample == self.window_value {
            self.window_count += 1;
        }
        self.window_seen = (self.window_seen + 1) % Self::WINDOW;
        if self.window_count >= self.proportion_cutoff { Err(EntropyFault::Proportion) } else { Ok(()) }
    }
}

/// For 1 to 8 bits of min-entropy: the cutoffs of both tests at a false-alarm probability of 2⁻²⁰. 1 + ⌈20 / H⌉, and
/// 1 + the critical value of the binomial distribution of 512 samples of probability 2⁻ᴴ (SP 800-90B, 4.4.1 and 4.4.2).
const CUTOFFS: [(u16, u16); 8] = [(21, 311), (11, 177), (8, 103), (6, 62), (5, 39), (5, 25), (4, 18), (4, 13)];

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// The smallest k with P(X ≤ k) ≥ 1 − 2⁻²⁰ for X binomial (512, 2⁻ᴴ), from the definition.
    fn critical_value(bits: u8) -> u16 {
        let p = 0.5f64.powi(bits.into());
        let (mut term, mut tail) = ((1.0 - p).powi(512), Vec::new());
        for k in 0..=512u16 {
            tail.push(term);
            term *= f64::from(512 - k) / f64::from(k + 1) * p / (1.0 - p);
        }
        // Summed from the small end, so that nothing is lost.
        let mut above = 0.0;
        for (k, term) in tail.iter().enumerate().rev() {
            if above + term > 0.5f64.powi(20) {
                return k as u16;
            }
            above += term;
        }
        0
    }

    #[test]
    fn the_cutoffs_are_those_of_the_standard() {
        for (bits, (repetition, proportion)) in (1u8..).zip(CUTOFFS) {
            assert_eq!(repetition, 1 + 20u16.div_ceil(bits.into()));
            assert_eq!(proportion, 1 + critical_value(bits), "{bits} bits");
        }
    }

    fn first_alarm(bits: u8, samples: impl Iterator<Item = u8>) -> Option<(usize, EntropyFault<()>)> {
        let mut health = Health::new(bits);
        samples.enumerate().find_map(|(position, sample)| health.take(sample).err().map(|fault| (position, fault)))
    }

    #[test]
    fn a_stuck_source_is_found_at_the_cutoff() {
        let stuck = |bits| first_alarm(bits, core::iter::repeat(7)).expect("an alarm");
        assert_eq!(stuck(8), (3, EntropyFault::Repetition));
        assert_eq!(stuck(1), (20, EntropyFault::Repetition));
        // Good samples before do not help it.
        let later = (0..=255).chain(core::iter::repeat(9));
        assert_eq!(first_alarm(8, later), Some((256 + 3, EntropyFault::Repetition)));
    }

    #[test]
    fn a_source_that_favours_one_value_is_found_within_its_window() {
        // Never two in a row, but every third.
        let biased = (0u32..).map(|n| if n % 3 == 0 { 0xaa } else { (n * 7 % 251) as u8 });
        let (position, fault) = first_alarm(8, biased).expect("an alarm");
        assert_eq!(fault, EntropyFault::Proportion);
        assert_eq!(position, 36, "the 13th in the window");
    }

    #[test]
    fn an_even_source_passes_and_each_window_counts_anew() {
        let even = (0..100_000u32).map(|n| (n * 167 % 256) as u8);
        assert_eq!(first_alarm(8, even), None);
        // Ten of the first value of each window: below the cutoff in each, far above it in all.
        let tens = (0..100_000u32).map(|n| if n % 512 < 30 && n % 3 == 0 { 1 } else { 2 + (n % 250) as u8 });
        assert_eq!(first_alarm(8, tens), None);
    }
}
