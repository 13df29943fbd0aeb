//! HMAC_DRBG with SHA-256 (NIST SP 800-90A Rev. 1, section 10.1.2), over the `hmac` crate.
//!
//! After each request the state is replaced, so that who reads it later learns nothing of what was given out. Wiped on drop.

use core::convert::Infallible;

use hmac::{Hmac, KeyInit, Mac};
use rand_core::{TryCryptoRng, TryRng};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The state: key and value.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct HmacDrbg {
    key: [u8; 32],
    value: [u8; 32],
}

impl HmacDrbg {
    /// Instantiates: `seed` is entropy input ‖ nonce ‖ personalization, in parts.
    pub(crate) fn new(seed: &[&[u8]]) -> Self {
        let mut drbg = Self { key: [0; 32], value: [1; 32] };
        drbg.update(seed);
        drbg
    }

    /// Reseeds with entropy input ‖ additional input, in parts.
    pub(crate) fn reseed(&mut self, seed: &[&[u8]]) {
        self.update(seed);
    }

    /// HMAC_DRBG_Update.
    fn update(&mut self, data: &[&[u8]]) {
        for round in [0, 1] {
            let mut key = mac(&self.key, &self.value, &[round], data);
            self.key = key;
            key.zeroize();
            self.step();
            if data.iter().all(|part| part.is_empty()) {
                break;
            }
        }
    }

    fn step(&mut self) {
        let mut value = mac(&self.key, &self.value, &[], &[]);
        self.value = value;
        value.zeroize();
    }
}

fn mac(key: &[u8; 32], value: &[u8; 32], round: &[u8], data: &[&[u8]]) -> [u8; 32] {
    // HMAC pads a short key with zeros to the block length of the hash; done here, nothing can be refused.
    let mut block = Zeroizing::new([0; 64]);
    for (slot, byte) in block.iter_mut().zip(key) {
        *slot = *byte;
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    mac.update(value);
    mac.update(round);
    for part in data {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl TryRng for HmacDrbg {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// HMAC_DRBG_Generate without additional input. Nobody here asks for more than a few hundred bytes at a time.
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for piece in out.chunks_mut(32) {
            self.step();
            for (slot, byte) in piece.iter_mut().zip(&self.value) {
                *slot = *byte;
            }
        }
        self.update(&[]);
        Ok(())
    }
}

impl TryCryptoRng for HmacDrbg {}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use rand_core::Rng;
    use sha2::Digest;

    use super::*;

    /// RFC 6979 draws its nonces with this generator: appendix A.2.5, P-256, SHA-256. SHA-256("sample") is below the group
    /// order, so that it goes in unchanged.
    #[test]
    fn gives_the_published_nonces() {
        let key = hex!("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
        for (message, nonce) in [
            ("sample", hex!("A6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60")),
            ("test", hex!("D16B6AE827F17175E040871A1C7EC3500192C4C92677336EC2537ACAEE0008E0")),
        ] {
            let digest: [u8; 32] = Sha256::digest(message).into();
            let mut out = [0; 32];
            HmacDrbg::new(&[&key, &digest]).fill_bytes(&mut out);
            assert_eq!(out, nonce);
        }
    }

    /// From a straightforward rewriting of the standard in Python: instantiate, generate 40, reseed, generate 33.
    #[test]
    fn reseeds_as_the_standard_says() {
        let mut drbg = HmacDrbg::new(&[&[1; 48], b"personal"]);
        let mut first = [0; 40];
        drbg.fill_bytes(&mut first);
        drbg.reseed(&[&[2; 32], b"more"]);
        let mut second = [0; 33];
        drbg.fill_bytes(&mut second);
        assert_eq!((first, second), (FIRST, SECOND));
    }

    const FIRST: [u8; 40] = hex!("59c3e50d570e584b658de954d0922cf8fad95e4086afd4b71189a61173683e2481ac10f04ec58ff5");
    const SECOND: [u8; 33] = hex!("bc0b7dfc1847833c68629f16cf6104650d6969c24ac60a6ff243c121435f01880c");
}
