//! What a session thread works with: one session, the handles it found, and the operations.
//!
//! After any error the session is thrown away, since an operation that was left active poisons it, and what failed is
//! tried once more in a fresh session with handles found anew. What fails then is either impossible or the token is out
//! of order: the canary tells, and closes the gate in the second case. A record is called bad only when it did not open
//! after a canary that worked.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, TryLockError, Weak},
    time::{Duration, Instant},
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use cryptoki::{
    error::Error as ModuleError,
    mechanism::{
        Mechanism,
        aead::GcmParams,
        elliptic_curve::{EcKdf, Ecdh1DeriveParams},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
    types::Ulong,
};
use eds_core::Opaque;
use zeroize::{Zeroize, Zeroizing};

use super::{
    keys::{KekHandles, KeyHandles, KeyIds},
    token::Token,
};
use crate::hsm::{
    HsmError, Opened, Suite, ToUnwrap, ToWrap, TokenKeyId,
    memory::random,
    record::{self, Record},
    self_test::described,
};

const TAG_BITS: Ulong = Ulong::new(128);

/// The place of one session thread.
pub(super) struct Seat {
    token: Arc<Token>,
    ids: KeyIds,
    /// The suite of new records.
    suite: Suite,
    open: Option<Open>,
    /// Whether it takes the KEK that is adopted meanwhile.
    follows: bool,
    /// Whether calls are refused while the gate is closed, and failures close it.
    gated: bool,
}

/// A seat that others can look at: whether its thread is in a call, and to take its session away when it is not.
pub(super) struct Chair {
    seat: Mutex<Seat>,
    since: Mutex<Option<Instant>>,
}

/// The chairs of all session threads.
#[derive(Default)]
pub(super) struct Chairs(Mutex<Vec<Weak<Chair>>>);

/// A session that is logged in, with the handles of the keys.
pub(super) struct Open {
    pub(super) session: Session,
    pub(super) ids: KeyIds,
    pub(super) keys: KeyHandles,
    /// KEKs that wrapped records before.
    older: RefCell<HashMap<TokenKeyId, KekHandles>>,
}

/// An operation failed: the module said so, or what it returned is not what it must be.
pub(super) enum Failed {
    Module(ModuleError),
    Random(HsmError),
    Output,
}

/// Why an operation did not succeed at last.
enum Fault {
    /// It fails, and the token works: what was asked for is impossible.
    Operation(HsmError),
    /// The token does not work.
    Token(HsmError),
}

impl From<Fault> for HsmError {
    fn from(fault: Fault) -> Self {
        let (Fault::Operation(error) | Fault::Token(error)) = fault;
        error
    }
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

impl Chairs {
    /// A chair for one more thread.
    pub(super) fn add(&self, seat: Seat) -> Arc<Chair> {
        let chair = Arc::new(Chair { seat: Mutex::new(seat), since: Mutex::new(None) });
        let mut chairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chairs.retain(|chair| chair.strong_count() > 0);
        chairs.push(Arc::downgrade(&chair));
        chair
    }

    /// All chairs whose thread lives.
    pub(super) fn all(&self) -> Vec<Arc<Chair>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }
}

impl Chair {
    /// Uses the seat for one job.
    pub(super) fn used<T>(&self, job: impl FnOnce(&mut Seat) -> T) -> T {
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |time| *self.since.lock().unwrap_or_else(PoisonError::into_inner) = time;
        since(Some(Instant::now()));
        let result = job(&mut seat);
        since(None);
        result
    }

    /// For how long the thread has been in its job, if it is.
    pub(super) fn in_call(&self) -> Option<Duration> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    /// Closes the session, unless the thread is in a job.
    pub(super) fn rest(&self) -> bool {
        match self.seat.try_lock() {
            Ok(mut seat) => seat.rest(),
            Err(TryLockError::Poisoned(seat)) => seat.into_inner().rest(),
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }
}

impl Seat {
    pub(super) fn new(token: Arc<Token>, ids: KeyIds, suite: Suite) -> Self {
        Self { token, ids, suite, open: None, follows: true, gated: true }
    }

    /// A seat that works while the gate is closed, and does not close it.
    pub(super) fn past_the_gate(token: Arc<Token>, ids: KeyIds, suite: Suite) -> Self {
        Self { gated: false, ..Self::new(token, ids, suite) }
    }

    /// A seat past the gate that stays with its KEK, whichever is adopted.
    pub(super) fn of_kek(token: Arc<Token>, ids: KeyIds, suite: Suite) -> Self {
        Self { follows: false, ..Self::past_the_gate(token, ids, suite) }
    }

    /// Takes the KEK that was adopted. Not in the middle of a record: it names the KEK that it was begun with.
    fn follow(&mut self) {
        if let Some(kek) = self.token.kek().filter(|kek| self.follows && *kek != self.ids.kek) {
            self.ids = self.ids.with_kek(kek);
            self.rest();
        }
    }

    /// The KEK that was adopted.
    pub(super) fn token_kek(&self) -> Option<TokenKeyId> {
        self.token.kek()
    }

    /// Closes the session.
    pub(super) fn rest(&mut self) {
        self.open = None;
    }

    /// Wraps secrets, until the deadline.
    pub(super) fn wrap(&mut self, secrets: &[ToWrap], deadline: Instant) -> Result<Vec<Vec<u8>>, HsmError> {
        self.follow();
        secrets
            .iter()
            .map(|item| {
                in_time(deadline)?;
                let (kek, suite) = (self.ids.kek, self.suite);
                let data = item.context.additional_data(suite, &kek);
                Ok(self.twice("encrypt", |open| {
                    let (iv, sealed) = open.seal(suite, &data, &item.secret)?;
                    Ok(Record { suite, kek, iv: &iv, sealed: &sealed }.encode())
                })?)
            })
            .collect()
    }

    /// Unwraps records, until the deadline.
    pub(super) fn unwrap(&mut self, records: &[ToUnwrap], deadline: Instant) -> Result<Vec<Opened>, HsmError> {
        self.follow();
        records
            .iter()
            .map(|item| {
                in_time(deadline)?;
                match Record::parse(&item.record) {
                    Ok(record) => self.unwrap_one(item, record),
                    Err(_) => Ok(Err(Opaque)),
                }
            })
            .collect()
    }

    fn unwrap_one(&mut self, item: &ToUnwrap, record: Record<'_>) -> Result<Opened, HsmError> {
        let data = item.context.additional_data(record.suite, &record.kek);
        let decrypt = |open: &Open| open.open(open.kek(&record.kek)?, record.suite, &data, record.iv, record.sealed);
        match self.twice("decrypt", decrypt) {
            Ok(secret) => Ok(Ok(secret)),
            // Tokens have no common code for a wrong tag; several say «general error». The token worked after that, and
            // the record has to fail once more: else it would be blamed for an outage that has just ended.
            Err(Fault::Operation(_)) => match self.seated().map(decrypt) {
                Ok(Ok(secret)) => Ok(Ok(secret)),
                Ok(Err(_)) => {
                    self.rest();
                    Ok(Err(Opaque))
                }
                Err(error) => Err(error),
            },
            Err(fault) => Err(fault.into()),
        }
    }

    /// The Diffie-Hellman step with a point that was validated.
    pub(super) fn dh(&mut self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
        self.follow();
        Ok(self.twice("derive", |open| derive(&open.session, open.keys.transport.ok_or(Failed::Output)?, peer))?)
    }

    /// HMACs of messages, until the deadline.
    pub(super) fn mac(&mut self, messages: &[Vec<u8>], deadline: Instant) -> Result<Vec<[u8; 32]>, HsmError> {
        self.follow();
        messages
            .iter()
            .map(|message| {
                in_time(deadline)?;
                Ok(self.twice("sign", |open| {
                    let mac = open.session.sign(&Mechanism::Sha256Hmac, open.keys.policy, message)?;
                    mac.try_into().map_err(|_| Failed::Output)
                })?)
            })
            .collect()
    }

    /// Signs a digest with the audit key.
    pub(super) fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.follow();
        Ok(self.twice("sign", |open| sign(&open.session, open.keys.audit.ok_or(Failed::Output)?, digest))?)
    }

    /// Encrypts and decrypts something.
    pub(super) fn canary(&mut self) -> Result<(), HsmError> {
        self.follow();
        let suite = self.suite;
        Ok(self.twice("encrypt and decrypt", |open| open.canary(suite))?)
    }

    /// Lets `look` use the session, once.
    pub(super) fn look<T>(&mut self, look: impl FnOnce(&Open, &Token) -> Result<T, HsmError>) -> Result<T, HsmError> {
        self.follow();
        let token = Arc::clone(&self.token);
        let result = look(self.seated()?, &token);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn twice<T>(&mut self, operation: &'static str, work: impl Fn(&Open) -> Result<T, Failed>) -> Result<T, Fault> {
        if self.gated {
            self.token.gate.pass().map_err(Fault::Token)?;
        }
        match self.seated() {
            Ok(open) => match work(open) {
                Ok(done) => return Ok(done),
                Err(_) => self.rest(),
            },
            // A PIN that was refused is not tried again.
            Err(error @ HsmError::Pin { .. }) => return Err(self.out_of_order(error)),
            Err(_) => {}
        }
        let error = match self.seated() {
            Ok(open) => match work(open) {
                Ok(done) => return Ok(done),
                Err(Failed::Module(source)) => HsmError::Unavailable { operation, source: Some(source) },
                Err(Failed::Random(error)) => error,
                Err(Failed::Output) => HsmError::Unavailable { operation, source: None },
            },
            Err(error) => return Err(self.out_of_order(error)),
        };
        self.rest();
        let suite = self.suite;
        match self.seated().map(|open| open.canary(suite)) {
            Ok(Ok(())) => Err(Fault::Operation(error)),
            Ok(Err(_)) => Err(self.out_of_order(error)),
            Err(cause) => Err(self.out_of_order(cause)),
        }
    }

    /// The token does not work: closes the gate.
    fn out_of_order(&mut self, error: HsmError) -> Fault {
        self.rest();
        if self.gated {
            match &error {
                HsmError::Pin { reason, .. } if self.token.is_refused() => self.token.gate.refuse(reason),
                error => self.token.gate.close(&described(error)),
            }
        }
        Fault::Token(error)
    }

    fn seated(&mut self) -> Result<&Open, HsmError> {
        match self.open {
            Some(ref open) => Ok(open),
            None => {
                let session = self.token.session()?;
                let keys = self.ids.handles(&session, self.token.label())?;
                Ok(self.open.insert(Open { session, ids: self.ids, keys, older: RefCell::default() }))
            }
        }
    }
}

impl Open {
    /// Encrypts and decrypts something.
    fn canary(&self, suite: Suite) -> Result<(), Failed> {
        let secret = random::<32>()?;
        let (iv, sealed) = self.seal(suite, b"eds/v1/health", secret.as_slice())?;
        let opened = self.open(self.keys.active(), suite, b"eds/v1/health", &iv, &sealed)?;
        if *opened == secret.as_slice() { Ok(()) } else { Err(Failed::Output) }
    }

    /// Encrypts, and returns nonce or IV, and ciphertext with tag.
    fn seal(&self, suite: Suite, data: &[u8], secret: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Failed> {
        match suite {
            Suite::Aes256Gcm => {
                let nonce = *random::<12>()?;
                let mut given = nonce;
                let mechanism = Mechanism::AesGcm(GcmParams::new(&mut given, data, TAG_BITS)?);
                let sealed = self.session.encrypt(&mechanism, self.keys.kek, secret)?;
                drop(mechanism);
                // Some tokens put a nonce of their own in the place of ours, or behind the tag: that is another suite.
                if given != nonce || sealed.len() != secret.len() + 16 {
                    return Err(Failed::Output);
                }
                Ok((nonce.to_vec(), sealed))
            }
            Suite::Aes256CbcHmac => {
                let (iv, padded) = (*random::<16>()?, record::padded(secret));
                let mut sealed = self.session.encrypt(&Mechanism::AesCbc(iv), self.keys.kek, &padded)?;
                if sealed.len() != padded.len() {
                    return Err(Failed::Output);
                }
                let mac = self.authenticate(self.keys.kek_mac, data, &iv, &sealed)?;
                sealed.extend_from_slice(&mac);
                Ok((iv.to_vec(), sealed))
            }
        }
    }

    /// A KEK of this token.
    fn kek(&self, id: &TokenKeyId) -> Result<KekHandles, Failed> {
        if *id == self.ids.kek {
            return Ok(self.keys.active());
        }
        if let Some(found) = self.older.borrow().get(id) {
            return Ok(*found);
        }
        let found = KekHandles::find(&self.session, id)?.ok_or(Failed::Output)?;
        self.older.borrow_mut().insert(*id, found);
        Ok(found)
    }

    /// Decrypts what [`Open::seal`] returned.
    fn open(
        &self,
        kek: KekHandles,
        suite: Suite,
        data: &[u8],
        iv: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        match suite {
            Suite::Aes256Gcm => {
                let mut nonce = <[u8; 12]>::try_from(iv).map_err(|_| Failed::Output)?;
                let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, data, TAG_BITS)?);
                Ok(Zeroizing::new(self.session.decrypt(&mechanism, kek.kek, sealed)?))
            }
            Suite::Aes256CbcHmac => {
                let iv = <[u8; 16]>::try_from(iv).map_err(|_| Failed::Output)?;
                let (ciphertext, tag) = sealed.split_last_chunk::<32>().ok_or(Failed::Output)?;
                // Nothing that does not authenticate is decrypted.
                let mac = self.authenticate(kek.mac, data, &iv, ciphertext)?;
                verify_slices_are_equal(&mac, tag).map_err(|_| Failed::Output)?;
                let padded = self.session.decrypt(&Mechanism::AesCbc(iv), kek.kek, ciphertext)?;
                record::unpadded(Zeroizing::new(padded)).ok_or(Failed::Output)
            }
        }
    }

    fn authenticate(
        &self,
        key: ObjectHandle,
        data: &[u8],
        iv: &[u8; 16],
        ciphertext: &[u8],
    ) -> Result<[u8; 32], Failed> {
        let message = record::hmac_message(data, iv, ciphertext);
        let mac = self.session.sign(&Mechanism::Sha256Hmac, key, &message)?;
        mac.try_into().map_err(|_| Failed::Output)
    }
}

/// The Diffie-Hellman step with this key. The point was validated.
pub(super) fn derive(session: &Session, key: ObjectHandle, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, Failed> {
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
    let derived = session.derive_key(&mechanism, key, &template)?;
    let value = session.get_attributes(derived, &[AttributeType::Value]);
    // Destroyed whatever happened: tokens keep session objects, 8 KB each, beyond the session.
    let destroyed = session.destroy_object(derived);
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

/// Signs a digest with this key.
pub(super) fn sign(session: &Session, key: ObjectHandle, digest: &[u8; 32]) -> Result<[u8; 64], Failed> {
    session.sign(&Mechanism::Ecdsa, key, digest)?.try_into().map_err(|_| Failed::Output)
}

fn in_time(deadline: Instant) -> Result<(), HsmError> {
    if Instant::now() < deadline { Ok(()) } else { Err(HsmError::Deadline) }
}
