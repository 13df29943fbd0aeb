//! What every board's hardware must do, as code that runs anywhere: in host tests over simulated hardware, and on the device
//! at each start ([`crate::Imager::start`] runs [`aes_engine`]; [`crate::Random::start`] runs the tests of the noise source).

use core::fmt;

use crate::{
    engine::AesEngine,
    entropy::{EntropySource, Health},
};

/// What failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure(pub &'static str);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hardware does not conform: {}", self.0)
    }
}

impl core::error::Error for Failure {}

/// An AES engine: known answers, any number of blocks, a change of key, refusal without a key.
///
/// # Errors
/// What is wrong with it.
#[inline(never)]
pub fn aes_engine(engine: &mut impl AesEngine) -> Result<(), Failure> {
    let outcome = check_engine(engine);
    engine.clear_key();
    outcome
}

fn check_engine(engine: &mut impl AesEngine) -> Result<(), Failure> {
    engine.clear_key();
    if engine.encrypt_blocks(&mut [[0; 16]]).is_ok() {
        return Err(Failure("it encrypts without a key"));
    }
    // FIPS 197, appendix C.3.
    encrypts(engine, &FIPS_KEY, FIPS_PLAIN, FIPS_CIPHER)?;
    // SP 800-38A, section F.1.5, block 1, and F.1.5, blocks 1 to 4 at once: another key, and several blocks.
    encrypts(engine, &ECB_KEY, [ECB_PLAIN[0]], [ECB_CIPHER[0]])?;
    encrypts(engine, &ECB_KEY, ECB_PLAIN, ECB_CIPHER)?;
    // Every number of blocks up to a batch and one more, the same as one by one.
    let [[one]] = [FIPS_CIPHER];
    let mut many = [[0; 16]; 9];
    for count in 0..=many.len() {
        engine.set_key(&FIPS_KEY).map_err(|_| Failure("it takes no key"))?;
        many.fill([0xa5; 16]);
        let Some((used, rest)) = many.split_at_mut_checked(count) else { continue };
        used.fill(FIPS_PLAIN[0]);
        engine.encrypt_blocks(used).map_err(|_| Failure("it refuses blocks"))?;
        if used.iter().any(|block| *block != one) || rest.iter().any(|block| *block != [0xa5; 16]) {
            return Err(Failure("several blocks are not encrypted like single ones"));
        }
    }
    engine.clear_key();
    if engine.encrypt_blocks(&mut [[0; 16]]).is_ok() {
        return Err(Failure("it keeps the key after it was cleared"));
    }
    Ok(())
}

fn encrypts<const N: usize>(
    engine: &mut impl AesEngine,
    key: &[u8; 32],
    mut blocks: [[u8; 16]; N],
    expected: [[u8; 16]; N],
) -> Result<(), Failure> {
    engine.set_key(key).map_err(|_| Failure("it takes no key"))?;
    engine.encrypt_blocks(&mut blocks).map_err(|_| Failure("it refuses blocks"))?;
    if blocks == expected { Ok(()) } else { Err(Failure("a published vector comes out wrong")) }
}

/// A noise source: claims what the tests can hold it to, fills any length, passes its health tests over several thousand
/// bytes, and does not repeat itself. For the laboratory: no test shows that a source is good.
///
/// # Errors
/// What is wrong with it.
pub fn entropy_source<S: EntropySource>(source: &mut S) -> Result<(), Failure> {
    if !(1..=8).contains(&S::MIN_ENTROPY_BITS) {
        return Err(Failure("its min-entropy is not 1 to 8 bits for a byte"));
    }
    let mut health = Health::new(S::MIN_ENTROPY_BITS);
    let mut first = [0; 64];
    let mut again = [0; 64];
    source.fill(&mut first).map_err(|_| Failure("it gives no bytes"))?;
    source.fill(&mut again).map_err(|_| Failure("it gives no bytes"))?;
    if first == again {
        return Err(Failure("it repeats itself"));
    }
    for round in 0..4096usize {
        let length = round % (again.len() + 1);
        let Some(piece) = again.get_mut(..length) else { continue };
        source.fill(piece).map_err(|_| Failure("it gives no bytes"))?;
        if piece.iter().any(|sample| health.take::<S::Error>(*sample).is_err()) {
            return Err(Failure("it fails its health tests"));
        }
    }
    Ok(())
}

const FIPS_KEY: [u8; 32] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12,
    0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
];
const FIPS_PLAIN: [[u8; 16]; 1] =
    [[0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]];
const FIPS_CIPHER: [[u8; 16]; 1] =
    [[0x8e, 0xa2, 0xb7, 0xca, 0x51, 0x67, 0x45, 0xbf, 0xea, 0xfc, 0x49, 0x90, 0x4b, 0x49, 0x60, 0x89]];
const ECB_KEY: [u8; 32] = [
    0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77, 0x81, 0x1f, 0x35, 0x2c,
    0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3, 0x09, 0x14, 0xdf, 0xf4,
];
const ECB_PLAIN: [[u8; 16]; 4] = [
    [0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a],
    [0xae, 0x2d, 0x8a, 0x57, 0x1e, 0x03, 0xac, 0x9c, 0x9e, 0xb7, 0x6f, 0xac, 0x45, 0xaf, 0x8e, 0x51],
    [0x30, 0xc8, 0x1c, 0x46, 0xa3, 0x5c, 0xe4, 0x11, 0xe5, 0xfb, 0xc1, 0x19, 0x1a, 0x0a, 0x52, 0xef],
    [0xf6, 0x9f, 0x24, 0x45, 0xdf, 0x4f, 0x9b, 0x17, 0xad, 0x2b, 0x41, 0x7b, 0xe6, 0x6c, 0x37, 0x10],
];
const ECB_CIPHER: [[u8; 16]; 4] = [
    [0xf3, 0xee, 0xd1, 0xbd, 0xb5, 0xd2, 0xa0, 0x3c, 0x06, 0x4b, 0x5a, 0x7e, 0x3d, 0xb1, 0x81, 0xf8],
    [0x59, 0x1c, 0xcb, 0x10, 0xd4, 0x10, 0xed, 0x26, 0xdc, 0x5b, 0xa7, 0x4a, 0x31, 0x36, 0x28, 0x70],
    [0xb6, 0xed, 0x21, 0xb9, 0x9c, 0xa6, 0xf4, 0xf9, 0xf1, 0x53, 0xe7, 0xb1, 0xbe, 0xaf, 0xed, 0x1d],
    [0x23, 0x30, 0x4b, 0x7a, 0x39, 0xf9, 0xf3, 0xff, 0x06, 0x7d, 0x8d, 0x8f, 0x9e, 0x24, 0xec, 0xc7],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::SoftAes,
        simulator::{SimulatedAes, SimulatedNoise},
    };

    #[test]
    fn the_software_and_the_simulated_hardware_conform() {
        assert_eq!(aes_engine(&mut SoftAes::new()), Ok(()));
        assert_eq!(aes_engine(&mut SimulatedAes::default()), Ok(()));
    }

    #[test]
    fn an_engine_with_any_fault_does_not() {
        type Fault = fn(&mut SimulatedAes);
        let faults: [(&str, Fault); 4] = [
            ("it keeps the key after it was cleared", |engine| engine.keeps_key = true),
            ("a published vector comes out wrong", |engine| engine.stuck_bit = true),
            ("several blocks are not encrypted like single ones", |engine| engine.skips_ninth = true),
            ("it refuses blocks", |engine| engine.fail_after = Some(6)),
        ];
        for (words, break_it) in faults {
            let mut engine = SimulatedAes::default();
            break_it(&mut engine);
            assert_eq!(aes_engine(&mut engine), Err(Failure(words)));
        }
    }

    #[test]
    fn the_simulated_noise_conforms_and_broken_ones_do_not() {
        assert_eq!(entropy_source(&mut SimulatedNoise::good()), Ok(()));
        assert_eq!(entropy_source(&mut SimulatedNoise::stuck_after(0)), Err(Failure("it repeats itself")));
        assert_eq!(entropy_source(&mut SimulatedNoise::stuck_after(500)), Err(Failure("it fails its health tests")));
        assert_eq!(entropy_source(&mut SimulatedNoise::failing_after(3)), Err(Failure("it gives no bytes")));
    }
}
