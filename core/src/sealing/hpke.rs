//! The key schedule of HPKE (RFC 9180, sections 4.1 and 5.1), base mode, one message.

use hkdf::{Hkdf, HkdfExtract};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::DhSecret;
use crate::{Opaque, gcm::Gcm};

/// "KEM" ‖ DHKEM(P-256, HKDF-SHA256).
const KEM_SUITE: &[u8] = b"KEM\x00\x10";
/// "HPKE" ‖ DHKEM(P-256, HKDF-SHA256) ‖ HKDF-SHA256 ‖ AES-256-GCM.
const HPKE_SUITE: &[u8] = b"HPKE\x00\x10\x00\x01\x00\x02";

/// Key and nonce of one message. It is consumed by its use: a second message would repeat the nonce.
pub(super) struct Schedule {
    key: Zeroizing<[u8; 32]>,
    nonce: Zeroizing<[u8; 12]>,
}

impl Schedule {
    /// From the Diffie-Hellman secret, the encapsulated key, the recipient's public key and the info.
    #[inline(never)]
    pub(super) fn new(dh: &DhSecret, enc: &[u8; 65], recipient: &[u8; 65], info: &[u8]) -> Self {
        let shared = Self::shared_secret(dh, enc, recipient);
        let (mut id_hash, _) = labeled_extract(HPKE_SUITE, &[], b"psk_id_hash", &[]);
        let (mut info_hash, _) = labeled_extract(HPKE_SUITE, &[], b"info_hash", info);
        let context: [&[u8]; 3] = [&[MODE_BASE], &id_hash, &info_hash];
        let (mut secret, kdf) = labeled_extract(HPKE_SUITE, &*shared, b"secret", &[]);
        secret.zeroize();
        let mut schedule = Self { key: Zeroizing::default(), nonce: Zeroizing::default() };
        labeled_expand(&kdf, HPKE_SUITE, b"key", context, &mut *schedule.key);
        labeled_expand(&kdf, HPKE_SUITE, b"base_nonce", context, &mut *schedule.nonce);
        id_hash.zeroize();
        info_hash.zeroize();
        schedule
    }

    #[inline(never)]
    pub(super) fn seal(self, aad: &[u8], data: &mut [u8]) -> [u8; 16] {
        Gcm::new(&self.key).seal_in_place(&self.nonce, aad, data)
    }

    pub(super) fn open(self, aad: &[u8], data: &mut [u8], tag: &[u8; 16]) -> Result<(), Opaque> {
        Gcm::new(&self.key).open_in_place(&self.nonce, aad, data, tag)
    }

    fn shared_secret(dh: &DhSecret, enc: &[u8; 65], recipient: &[u8; 65]) -> Zeroizing<[u8; 32]> {
        let (mut prk, kdf) = labeled_extract(KEM_SUITE, &[], b"eae_prk", dh.as_bytes());
        prk.zeroize();
        let mut shared = Zeroizing::new([0; 32]);
        labeled_expand(&kdf, KEM_SUITE, b"shared_secret", [enc, recipient, &[]], &mut *shared);
        shared
    }
}

const MODE_BASE: u8 = 0;

#[inline(never)]
fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], input: &[u8]) -> ([u8; 32], Hkdf<Sha256>) {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    for part in [b"HPKE-v1", suite, label, input] {
        extract.input_ikm(part);
    }
    let (prk, kdf) = extract.finalize();
    (prk.into(), kdf)
}

/// `out` has the length L of RFC 9180, at most 32 here.
fn labeled_expand(kdf: &Hkdf<Sha256>, suite: &[u8], label: &[u8], info: [&[u8]; 3], out: &mut [u8]) {
    let length = (out.len() as u16).to_be_bytes();
    let [first, second, third] = info;
    let done = kdf.expand_multi_info(&[&length, b"HPKE-v1", suite, label, first, second, third], out);
    // HKDF-SHA256 refuses only outputs beyond 255 × 32 bytes.
    debug_assert!(done.is_ok(), "32 bytes are within what HKDF-SHA256 gives");
}

#[cfg(test)]
mod tests {
    use std::{
        string::{String, ToString},
        vec::Vec,
    };

    use super::*;
    use crate::sealing::{DhKey, SoftDhKey};

    /// Base-mode vectors of the suite, from RFC 9180's test-vectors.json; see the file for its source.
    const VECTORS: &str = include_str!("../../tests/vectors/hpke_p256_sha256_aes256gcm_base.txt");

    #[test]
    fn the_published_vectors_come_out_and_in() {
        let mut seen = 0;
        let mut fields = std::collections::BTreeMap::<String, Vec<u8>>::new();
        for line in VECTORS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (name, value) = line.split_once(" = ").expect("name = hex");
            fields.insert(name.to_string(), unhex(value));
            if name == "ct" {
                check(&fields);
                seen += 1;
            }
        }
        assert!(seen > 0, "the file has no vector");
    }

    fn check(fields: &std::collections::BTreeMap<String, Vec<u8>>) {
        let field = |name: &str| fields.get(name).unwrap_or_else(|| panic!("no {name}")).as_slice();
        let key = |name| SoftDhKey::from_bytes(field(name).try_into().expect("32 bytes")).expect("in range");
        let (ephemeral, recipient) = (key("skEm"), key("skRm"));
        assert_eq!(ephemeral.public_key(), field("enc"));
        assert_eq!(recipient.public_key(), field("pkRm"));
        let (enc, public) = (ephemeral.public_key(), recipient.public_key());
        let dh = ephemeral.dh(&public).expect("valid");
        assert_eq!(dh.as_bytes(), recipient.dh(&enc).expect("valid").as_bytes());

        assert_eq!(*Schedule::shared_secret(&dh, &enc, &public), field("shared_secret"));
        let schedule = || Schedule::new(&dh, &enc, &public, field("info"));
        assert_eq!(*schedule().key, field("key"));
        assert_eq!(*schedule().nonce, field("base_nonce"));
        let mut data = field("pt").to_vec();
        let tag = schedule().seal(field("aad"), &mut data);
        assert_eq!([&data[..], &tag].concat(), field("ct"));
        assert_eq!(schedule().open(field("aad"), &mut data, &tag), Ok(()));
        assert_eq!(data, field("pt"));
        assert_eq!(schedule().open(b"other", &mut data, &tag), Err(Opaque));
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(digit).collect()
    }
}
