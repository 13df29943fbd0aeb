//! An [`Hsm`] in memory, for tests: the same records, points and HMACs, and no protection at all.
//!
//! It can be told to be out of order, so that what a server does during an outage can be tested.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use eds_core::{Opaque, manifest::Point};
use p256::{
    SecretKey,
    ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner},
    elliptic_curve::sec1::ToSec1Point,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::hsm::{
    Hsm, HsmError, Opened, SUITE_AES256_GCM, ToUnwrap, ToWrap, TokenKeyId, health::Health, is_valid_point,
    record::Record, self_test::Check,
};

/// A token in memory, with keys of its own.
pub struct MemoryHsm {
    kek_id: TokenKeyId,
    kek: LessSafeKey,
    transport: SecretKey,
    policy_id: TokenKeyId,
    policy: hmac::Key,
    audit: SigningKey,
    out_of_order: AtomicBool,
    health: watch::Sender<Health>,
}

impl MemoryHsm {
    /// A token with fresh keys.
    ///
    /// # Errors
    /// [`HsmError::Random`].
    pub fn new() -> Result<Self, HsmError> {
        let kek = UnboundKey::new(&AES_256_GCM, random::<32>()?.as_slice()).map_err(|_| HsmError::Random)?;
        // A random string is no scalar once in 2³².
        let scalar = || loop {
            if let Ok(key) = SecretKey::from_slice(random::<32>()?.as_slice()) {
                return Ok::<_, HsmError>(key);
            }
        };
        let (transport, audit) = (scalar()?, SigningKey::from(scalar()?));
        Ok(Self {
            kek_id: TokenKeyId::from_bytes(*random()?),
            kek: LessSafeKey::new(kek),
            transport,
            policy_id: TokenKeyId::from_bytes(*random()?),
            policy: hmac::Key::new(hmac::HMAC_SHA256, random::<32>()?.as_slice()),
            audit,
            out_of_order: AtomicBool::new(false),
            health: watch::channel(Health::Working).0,
        })
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
        if record.kek != self.kek_id {
            return Err(Opaque);
        }
        let data = item.context.additional_data(record.suite, &record.kek);
        let mut bytes = Zeroizing::new(record.sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(record.nonce);
        let length = self.kek.open_in_place(nonce, Aad::from(data), &mut bytes).map_err(|_| Opaque)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl Hsm for MemoryHsm {
    fn kek(&self) -> TokenKeyId {
        self.kek_id
    }

    fn policy_key(&self) -> TokenKeyId {
        self.policy_id
    }

    fn transport_key(&self) -> Point {
        let mut bytes = [0; 33];
        bytes.copy_from_slice(self.transport.public_key().to_sec1_point(true).as_bytes());
        Point(bytes)
    }

    fn wrap(&self, secrets: Vec<ToWrap>) -> Result<Vec<Vec<u8>>, HsmError> {
        self.works("encrypt")?;
        secrets
            .into_iter()
            .map(|item| {
                let nonce = *random::<12>()?;
                let data = item.context.additional_data(SUITE_AES256_GCM, &self.kek_id);
                let mut sealed = item.secret.to_vec();
                self.kek
                    .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(data), &mut sealed)
                    .map_err(|_| HsmError::Unavailable { operation: "encrypt", source: None })?;
                Ok(Record { suite: SUITE_AES256_GCM, kek: self.kek_id, nonce, sealed: &sealed }.encode())
            })
            .collect()
    }

    fn unwrap(&self, records: Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError> {
        self.works("decrypt")?;
        Ok(records.iter().map(|item| self.unwrap_one(item)).collect())
    }

    fn dh(&self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
        if !is_valid_point(peer) {
            return Err(HsmError::PeerPoint);
        }
        self.works("derive")?;
        let peer = p256::PublicKey::from_sec1_bytes(peer).map_err(|_| HsmError::PeerPoint)?;
        let shared = p256::elliptic_curve::ecdh::diffie_hellman(self.transport.to_nonzero_scalar(), peer.as_affine());
        Ok(Zeroizing::new((*shared.raw_secret_bytes()).into()))
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

    fn audit_key(&self) -> Point {
        eds_core::directory::compressed(self.audit.verifying_key())
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.works("sign")?;
        let signature: Result<Signature, _> = self.audit.sign_prehash(digest);
        signature
            .map(|signature| signature.to_bytes().into())
            .map_err(|_| HsmError::Unavailable { operation: "sign", source: None })
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
