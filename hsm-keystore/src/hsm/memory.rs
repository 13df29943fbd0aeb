//! An [`Hsm`] in memory, for tests: the same records, points and HMACs, and no protection at all.
//!
//! It can be told to be out of order, so that what a server does during an outage can be tested.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{
        AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    hmac,
    iv::FixedLength,
};
use eds_core::{Opaque, directory};
use p256::{SecretKey, ecdsa::SigningKey};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::hsm::{
    Custody, Hsm, HsmError, KeyFacts, Opened, Suite, ToUnwrap, ToWrap, TokenKeyId,
    health::Health,
    is_valid_point,
    record::{self, Record},
    self_test::Check,
    software,
};

/// A token in memory, with keys of its own.
pub struct MemoryHsm {
    keks: Mutex<Keks>,
    suite: Suite,
    transport: SecretKey,
    policy_id: TokenKeyId,
    policy: hmac::Key,
    audit: SigningKey,
    out_of_order: AtomicBool,
    health: watch::Sender<Health>,
}

struct Keks {
    active: Arc<Kek>,
    all: Vec<Arc<Kek>>,
}

/// A KEK with its HMAC key.
struct Kek {
    id: TokenKeyId,
    key: LessSafeKey,
    bytes: Zeroizing<[u8; 32]>,
    mac: hmac::Key,
}

impl Kek {
    fn new() -> Result<Self, HsmError> {
        let bytes = random::<32>()?;
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_slice()).map_err(|_| HsmError::Random)?;
        let mac = hmac::Key::new(hmac::HMAC_SHA256, random::<32>()?.as_slice());
        Ok(Self { id: TokenKeyId::from_bytes(*random()?), key: LessSafeKey::new(key), bytes, mac })
    }
}

impl MemoryHsm {
    /// A token with fresh keys.
    ///
    /// # Errors
    /// [`HsmError::Random`].
    pub fn new() -> Result<Self, HsmError> {
        Self::with_suite(Suite::Aes256Gcm)
    }

    /// A token with fresh keys that wraps new records with this suite.
    ///
    /// # Errors
    /// [`HsmError::Random`].
    pub fn with_suite(suite: Suite) -> Result<Self, HsmError> {
        let kek = Arc::new(Kek::new()?);
        let (transport, audit) = (software::fresh_key()?.0, SigningKey::from(software::fresh_key()?.0));
        Ok(Self {
            keks: Mutex::new(Keks { all: vec![Arc::clone(&kek)], active: kek }),
            suite,
            transport,
            policy_id: TokenKeyId::from_bytes(*random()?),
            policy: hmac::Key::new(hmac::HMAC_SHA256, random::<32>()?.as_slice()),
            audit,
            out_of_order: AtomicBool::new(false),
            health: watch::channel(Health::Working).0,
        })
    }

    /// Makes one more KEK, which wraps nothing yet.
    ///
    /// # Errors
    /// [`HsmError::Random`].
    pub fn make_kek(&self) -> Result<TokenKeyId, HsmError> {
        let kek = Arc::new(Kek::new()?);
        let id = kek.id;
        self.keks().all.push(kek);
        Ok(id)
    }

    fn keks(&self) -> MutexGuard<'_, Keks> {
        self.keks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every later call fail as an unreachable token does, or ends that.
    pub fn set_out_of_order(&self, out_of_order: bool) {
        self.out_of_order.store(out_of_order, Ordering::SeqCst);
        self.health.send_replace(match out_of_order {
            true => Health::Recovering { reason: "out of order".to_owned() },
            false => Health::Working,
        });
    }

    fn works(&self, operation: &'static str) -> Result<(), HsmError> {
        if self.out_of_order.load(Ordering::SeqCst) {
            return Err(HsmError::Unavailable { operation, source: None });
        }
        Ok(())
    }

    fn unwrap_one(&self, item: &ToUnwrap) -> Opened {
        let record = Record::parse(&item.record).map_err(|_| Opaque)?;
        let kek = self.keks().all.iter().find(|kek| kek.id == record.kek).cloned().ok_or(Opaque)?;
        let data = item.context.additional_data(record.suite, &record.kek);
        match record.suite {
            Suite::Aes256Gcm => {
                let mut bytes = Zeroizing::new(record.sealed.to_vec());
                let nonce = Nonce::try_assume_unique_for_key(record.iv).map_err(|_| Opaque)?;
                let length = kek.key.open_in_place(nonce, Aad::from(data), &mut bytes).map_err(|_| Opaque)?.len();
                bytes.truncate(length);
                Ok(bytes)
            }
            Suite::Aes256CbcHmac => {
                let iv = <[u8; 16]>::try_from(record.iv).map_err(|_| Opaque)?;
                let (ciphertext, tag) = record.sealed.split_last_chunk::<32>().ok_or(Opaque)?;
                let message = record::hmac_message(&data, &iv, ciphertext);
                hmac::verify(&kek.mac, &message, tag).map_err(|_| Opaque)?;
                let mut bytes = Zeroizing::new(ciphertext.to_vec());
                let key = UnboundCipherKey::new(&AES_256, kek.bytes.as_slice()).map_err(|_| Opaque)?;
                let context = DecryptionContext::Iv128(FixedLength::from(iv));
                let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| Opaque)?;
                let length = key.decrypt(&mut bytes, context).map_err(|_| Opaque)?.len();
                bytes.truncate(length);
                Ok(bytes)
            }
        }
    }

    fn wrap_one(&self, item: &ToWrap) -> Result<Vec<u8>, HsmError> {
        let (suite, key) = (self.suite, Arc::clone(&self.keks().active));
        let kek = key.id;
        let failed = || HsmError::Unavailable { operation: "encrypt", source: None };
        let data = item.context.additional_data(suite, &kek);
        let mut sealed = item.secret.to_vec();
        match suite {
            Suite::Aes256Gcm => {
                let iv = *random::<12>()?;
                key.key
                    .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::from(data), &mut sealed)
                    .map_err(|_| failed())?;
                Ok(Record { suite, kek, iv: &iv, sealed: &sealed }.encode())
            }
            Suite::Aes256CbcHmac => {
                let iv = *random::<16>()?;
                let cipher = UnboundCipherKey::new(&AES_256, key.bytes.as_slice()).map_err(|_| failed())?;
                PaddedBlockEncryptingKey::cbc_pkcs7(cipher)
                    .and_then(|key| key.less_safe_encrypt(&mut sealed, EncryptionContext::Iv128(FixedLength::from(iv))))
                    .map_err(|_| failed())?;
                let tag = hmac::sign(&key.mac, &record::hmac_message(&data, &iv, &sealed));
                sealed.extend_from_slice(tag.as_ref());
                Ok(Record { suite, kek, iv: &iv, sealed: &sealed }.encode())
            }
        }
    }
}

impl Hsm for MemoryHsm {
    fn facts(&self) -> KeyFacts {
        KeyFacts {
            kek: self.keks().active.id,
            policy: self.policy_id,
            transport: software::compressed(&self.transport.public_key()),
            audit: directory::compressed(self.audit.verifying_key()),
            // There is nothing but memory here.
            custody: Custody { transport_in_memory: true, audit_in_memory: true },
        }
    }

    fn wrap(&self, secrets: Vec<ToWrap>) -> Result<Vec<Vec<u8>>, HsmError> {
        self.works("encrypt")?;
        secrets.iter().map(|item| self.wrap_one(item)).collect()
    }

    fn unwrap(&self, records: Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError> {
        self.works("decrypt")?;
        Ok(records.iter().map(|item| self.unwrap_one(item)).collect())
    }

    fn adopt(&self, kek: TokenKeyId) -> Result<(), HsmError> {
        self.works("use another KEK")?;
        let mut keks = self.keks();
        let missing = || HsmError::Setup { token: "memory".to_owned(), reason: format!("there is no KEK {kek}") };
        keks.active = keks.all.iter().find(|known| known.id == kek).cloned().ok_or_else(missing)?;
        Ok(())
    }

    fn dh(&self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
        if !is_valid_point(peer) {
            return Err(HsmError::PeerPoint);
        }
        self.works("derive")?;
        software::dh(&self.transport, peer)
    }

    fn mac(&self, messages: Vec<Vec<u8>>) -> Result<Vec<[u8; 32]>, HsmError> {
        self.works("sign")?;
        messages
            .iter()
            .map(|message| {
                let tag = hmac::sign(&self.policy, message);
                tag.as_ref().try_into().map_err(|_| HsmError::Unavailable { operation: "sign", source: None })
            })
            .collect()
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.works("sign")?;
        software::sign(&self.audit, digest)
    }

    fn canary(&self) -> Result<(), HsmError> {
        self.works("encrypt and decrypt")
    }

    fn inspect(&self) -> Result<Vec<Check>, HsmError> {
        self.works("describe its keys")?;
        Ok(Vec::new())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }
}

/// Fresh random bytes from the operating system.
///
/// # Errors
/// [`HsmError::Random`].
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, HsmError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| HsmError::Random)?;
    Ok(bytes)
}
