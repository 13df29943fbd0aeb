//! What a session thread works with: one session, the handles it found, and the operations.
//!
//! After any error the session is thrown away, since an operation that was left active poisons it, and what failed is
//! tried once more in a fresh session with handles found anew. A record that does not open then is either bad or the
//! token is: the canary tells.

use std::{sync::Arc, time::Instant};

use cryptoki::{
    error::Error as ModuleError,
    mechanism::{
        Mechanism,
        aead::GcmParams,
        elliptic_curve::{EcKdf, Ecdh1DeriveParams},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass},
    session::Session,
    types::Ulong,
};
use eds_core::Opaque;
use zeroize::{Zeroize, Zeroizing};

use super::{
    keys::{KeyHandles, KeyIds},
    token::Token,
};
use crate::hsm::{HsmError, Opened, SUITE_AES256_GCM, ToUnwrap, ToWrap, memory::random, record::Record};

const TAG_BITS: Ulong = Ulong::new(128);

/// The place of one session thread.
pub(super) struct Seat {
    token: Arc<Token>,
    ids: KeyIds,
    open: Option<Open>,
}

/// A session that is logged in, with the handles of the keys.
pub(super) struct Open {
    pub(super) session: Session,
    pub(super) keys: KeyHandles,
}

/// An operation failed: the module said so, or what it returned is not what it must be.
pub(super) enum Failed {
    Module(ModuleError),
    Random(HsmError),
    Output,
}

impl From<ModuleError> for Failed {
    fn from(error: ModuleError) -> Self {
        Self::Module(error)
    }
}

impl From<HsmError> for Failed {
    fn from(error: HsmError) -> Self {
        Self::Random(error)
    }
}

impl Seat {
    pub(super) fn new(token: Arc<Token>, ids: KeyIds) -> Self {
        Self { token, ids, open: None }
    }

    /// Wraps secrets, until the deadline.
    pub(super) fn wrap(&mut self, secrets: &[ToWrap], deadline: Instant) -> Result<Vec<Vec<u8>>, HsmError> {
        secrets
            .iter()
            .map(|item| {
                in_time(deadline)?;
                let data = item.context.additional_data(SUITE_AES256_GCM, &self.ids.kek);
                let kek = self.ids.kek;
                self.twice("encrypt", |open| {
                    let nonce = *random::<12>()?;
                    let sealed = open.encrypt(nonce, &data, &item.secret)?;
                    Ok(Record { suite: SUITE_AES256_GCM, kek, nonce, sealed: &sealed }.encode())
                })
            })
            .collect()
    }

    /// Unwraps records, until the deadline.
    pub(super) fn unwrap(&mut self, records: &[ToUnwrap], deadline: Instant) -> Result<Vec<Opened>, HsmError> {
        records
            .iter()
            .map(|item| {
                in_time(deadline)?;
                match Record::parse(&item.record) {
                    Ok(record) if record.kek == self.ids.kek => self.unwrap_one(item, record),
                    _ => Ok(Err(Opaque)),
                }
            })
            .collect()
    }

    fn unwrap_one(&mut self, item: &ToUnwrap, record: Record<'_>) -> Result<Opened, HsmError> {
        let data = item.context.additional_data(record.suite, &record.kek);
        match self.twice("decrypt", |open| open.decrypt(record.nonce, &data, record.sealed)) {
            Ok(secret) => Ok(Ok(secret)),
            // Tokens have no common code for a wrong tag; several say «general error». The canary decides who is at fault.
            Err(HsmError::Unavailable { .. }) => self.canary().map(|()| Err(Opaque)),
            Err(other) => Err(other),
        }
    }

    /// The Diffie-Hellman step with a point that was validated.
    pub(super) fn dh(&mut self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
        self.twice("derive", |open| open.derive(peer))
    }

    /// HMACs of messages, until the deadline.
    pub(super) fn mac(&mut self, messages: &[Vec<u8>], deadline: Instant) -> Result<Vec<[u8; 32]>, HsmError> {
        messages
            .iter()
            .map(|message| {
                in_time(deadline)?;
                self.twice("sign", |open| {
                    let mac = open.session.sign(&Mechanism::Sha256Hmac, open.keys.policy, message)?;
                    mac.try_into().map_err(|_| Failed::Output)
                })
            })
            .collect()
    }

    /// Signs a digest with the audit key.
    pub(super) fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.twice("sign", |open| {
            let signature = open.session.sign(&Mechanism::Ecdsa, open.keys.audit, digest)?;
            signature.try_into().map_err(|_| Failed::Output)
        })
    }

    /// Encrypts and decrypts something.
    pub(super) fn canary(&mut self) -> Result<(), HsmError> {
        self.twice("encrypt and decrypt", |open| {
            let (nonce, secret) = (*random::<12>()?, random::<32>()?);
            let sealed = open.encrypt(nonce, b"eds/v1/health", secret.as_slice())?;
            let opened = open.decrypt(nonce, b"eds/v1/health", &sealed)?;
            if *opened == secret.as_slice() { Ok(()) } else { Err(Failed::Output) }
        })
    }

    /// Lets `look` use the session, once.
    pub(super) fn look<T>(
        &mut self,
        look: impl FnOnce(&Open, &KeyIds, &Token) -> Result<T, HsmError>,
    ) -> Result<T, HsmError> {
        let (ids, token) = (self.ids, Arc::clone(&self.token));
        let result = look(self.seated()?, &ids, &token);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn twice<T>(&mut self, operation: &'static str, work: impl Fn(&Open) -> Result<T, Failed>) -> Result<T, HsmError> {
        match self.seated() {
            Ok(open) => match work(open) {
                Ok(done) => return Ok(done),
                Err(_) => self.open = None,
            },
            // A PIN that was refused is not tried again.
            Err(error @ HsmError::Pin { .. }) => return Err(error),
            Err(_) => {}
        }
        let result = work(self.seated()?);
        result.map_err(|failed| {
            self.open = None;
            match failed {
                Failed::Module(source) => HsmError::Unavailable { operation, source: Some(source) },
                Failed::Random(error) => error,
                Failed::Output => HsmError::Unavailable { operation, source: None },
            }
        })
    }

    fn seated(&mut self) -> Result<&Open, HsmError> {
        match self.open {
            Some(ref open) => Ok(open),
            None => {
                let session = self.token.session()?;
                let keys = self.ids.handles(&session, self.token.label())?;
                Ok(self.open.insert(Open { session, keys }))
            }
        }
    }
}

impl Open {
    fn encrypt(&self, nonce: [u8; 12], data: &[u8], secret: &[u8]) -> Result<Vec<u8>, Failed> {
        let mut given = nonce;
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut given, data, TAG_BITS)?);
        let sealed = self.session.encrypt(&mechanism, self.keys.kek, secret)?;
        drop(mechanism);
        // Some tokens put a nonce of their own in the place of ours, or behind the tag: that is another suite.
        if given != nonce || sealed.len() != secret.len() + 16 {
            return Err(Failed::Output);
        }
        Ok(sealed)
    }

    fn decrypt(&self, mut nonce: [u8; 12], data: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, data, TAG_BITS)?);
        Ok(Zeroizing::new(self.session.decrypt(&mechanism, self.keys.kek, sealed)?))
    }

    fn derive(&self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, Failed> {
        let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), peer));
        // The secret of one message; the private key stays inside.
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::ValueLen(Ulong::new(32)),
        ];
        let derived = self.session.derive_key(&mechanism, self.keys.transport, &template)?;
        let value = self.session.get_attributes(derived, &[AttributeType::Value]);
        // Destroyed whatever happened: tokens keep session objects, 8 KB each, beyond the session.
        let destroyed = self.session.destroy_object(derived);
        let mut shared = Zeroizing::new([0; 32]);
        let mut whole = false;
        for attribute in value? {
            if let Attribute::Value(mut bytes) = attribute {
                if let Ok(bytes) = <&[u8; 32]>::try_from(bytes.as_slice()) {
                    shared.copy_from_slice(bytes);
                    whole = true;
                }
                bytes.zeroize();
            }
        }
        destroyed?;
        if whole { Ok(shared) } else { Err(Failed::Output) }
    }
}

fn in_time(deadline: Instant) -> Result<(), HsmError> {
    if Instant::now() < deadline { Ok(()) } else { Err(HsmError::Deadline) }
}
