//! A token through its PKCS#11 module.
//!
//! Every call is done by one of a few threads that own a session each (`pool`), so that a hanging module blocks such a
//! thread and not the server. Keys are found by label and id, never by slot or handle kept over a session. During an
//! outage calls are refused at once (`gate`), and the token is brought back without a restart where it allows that
//! (`recovery`). One process uses one token: a module is started anew for all its sessions.

mod ceremony;
mod direct;
mod gate;
mod info;
mod inspect;
mod keys;
mod pace;
mod pool;
mod prepare;
mod queue;
mod recovery;
mod ring;
mod rotation;
mod seat;
mod suite;
mod token;
mod trial;

use std::{sync::Arc, time::Instant};

use eds_core::ids::NodeId;
use tokio::sync::watch;
use zeroize::Zeroizing;

pub use self::{
    ceremony::{Ceremony, create_keys},
    inspect::{KeyDescription, Place},
    keys::Role,
    prepare::prepare_token,
};
use self::{
    direct::Direct,
    pool::{Pending, Pool},
    recovery::Recovery,
    ring::KeyRing,
    seat::{Chair, Chairs, Seat},
    suite::Choice,
    token::Token,
};
use crate::{
    config::HsmConfig,
    hsm::{
        Hsm, HsmError, KeyFacts, Opened, ToUnwrap, ToWrap, TokenKeyId, health::Health, is_valid_point, self_test::Check,
    },
};

/// A token that holds the keys of a node.
pub struct Pkcs11Hsm {
    // Before the pool: a token is not brought back while its threads end.
    recovery: Recovery,
    pool: Pool<Arc<Chair>>,
    token: Arc<Token>,
    ring: Arc<KeyRing>,
    choice: Choice,
    description: String,
}

impl Pkcs11Hsm {
    /// Loads the module, logs in and finds the keys.
    ///
    /// # Errors
    /// [`HsmError::Setup`] when module, token or keys are not there, [`HsmError::Pin`], [`HsmError::Unavailable`].
    pub fn open(config: &HsmConfig) -> Result<Self, HsmError> {
        Self::open_with_kek(config, None)
    }

    /// The same, of several KEKs with this one as the active one.
    ///
    /// # Errors
    /// As [`Pkcs11Hsm::open`].
    pub fn open_with_kek(config: &HsmConfig, kek: Option<TokenKeyId>) -> Result<Self, HsmError> {
        let token = Arc::new(Token::find(config)?);
        let (ring, choice) = KeyRing::find(config, &token, kek)?;
        let ring = Arc::new(ring);
        let suite = choice.suite;
        let description = token.description.clone();
        let chairs = Arc::new(Chairs::default());
        let (seats, all) = (Arc::clone(&token), Arc::clone(&chairs));
        let ids = ring.ids;
        let seat = move || all.add(Seat::new(Arc::clone(&seats), ids, suite));
        let direct = Direct::new(&token, &ring, suite);
        let recovery = Recovery::start(config, &token, direct, &chairs)?;
        let lanes = pace::lanes(config.threads, &token, ids, suite);
        let pool = Pool::start(config.threads, lanes, config.deadline, seat)?;
        Ok(Self { recovery, pool, token, ring, choice, description })
    }

    /// What the token says it is: maker, model, serial number, firmware.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The suite of new records, and why it was chosen.
    pub fn suite(&self) -> String {
        let Choice { suite, why } = &self.choice;
        format!("{}, suite {} ({why})", suite.name(), suite.code())
    }

    /// What is known of the keys.
    ///
    /// # Errors
    /// [`HsmError`].
    pub fn describe(&self) -> Result<Vec<KeyDescription>, HsmError> {
        let ring = Arc::clone(&self.ring);
        self.call(move |seat, _| seat.look(|open, _| inspect::describe(open, &ring)))
    }

    /// What is known of every KEK in the token, and its HMAC key.
    ///
    /// # Errors
    /// [`HsmError`].
    pub fn describe_keks(&self) -> Result<Vec<KeyDescription>, HsmError> {
        self.call(move |seat, _| seat.look(|open, _| inspect::describe_keks(&open.session)))
    }

    /// Makes a new KEK with its HMAC key, and tries it. Nothing is wrapped with it yet.
    ///
    /// # Errors
    /// [`HsmError`]; what was made is taken back then.
    pub fn make_kek(&self) -> Result<(TokenKeyId, Vec<KeyDescription>), HsmError> {
        let (token, ids, suite) = (Arc::clone(&self.token), self.ring.ids, self.choice.suite);
        self.call(move |seat, _| rotation::make(seat, &token, ids, suite))
    }

    /// Removes a KEK and its HMAC key from the token, for ever.
    ///
    /// # Errors
    /// [`HsmError`], also when it is the active one.
    pub fn destroy_kek(&self, kek: TokenKeyId) -> Result<(), HsmError> {
        self.call(move |seat, _| rotation::destroy(seat, kek))
    }

    /// The node that wrapped key pairs are bound to, if there are any.
    pub fn wrapped_for(&self) -> Option<NodeId> {
        self.ring.wrapped.as_ref().map(|keys| keys.node)
    }

    /// Lets a thread do one job, until the deadline.
    fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Seat, Instant) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        self.finish(self.submit(self.pool.deadline(), job)?)
    }

    /// Deals a batch out to the threads and gathers the answers in order.
    fn batch<I: Send + 'static, O: Send + 'static>(
        &self,
        mut items: Vec<I>,
        work: Work<I, O>,
    ) -> Result<Vec<O>, HsmError> {
        // One deadline for the whole batch.
        let deadline = self.pool.deadline();
        let share = items.len().div_ceil(self.pool.lanes()).max(SMALLEST_PART);
        let mut pending = Vec::with_capacity(self.pool.lanes());
        while !items.is_empty() {
            let rest = items.split_off(share.min(items.len()));
            let part = std::mem::replace(&mut items, rest);
            pending.push(self.submit(deadline, move |seat, deadline| work(seat, &part, deadline))?);
        }
        let mut answers = Vec::new();
        for part in pending {
            answers.append(&mut self.finish(part)?);
        }
        Ok(answers)
    }

    fn submit<T: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl FnOnce(&mut Seat, Instant) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<Pending<T>, HsmError> {
        // During an outage nobody waits for a thread.
        self.token.gate.pass()?;
        self.pool.submit(deadline, move |chair: &mut Arc<Chair>, deadline| chair.used(|seat| job(seat, deadline)))
    }

    fn finish<T>(&self, pending: Pending<T>) -> Result<T, HsmError> {
        let result = pending.wait();
        if matches!(result, Err(HsmError::Deadline)) {
            self.token.gate.suspect();
        }
        result
    }
}

/// What a thread does with its part of a batch.
type Work<I, O> = fn(&mut Seat, &[I], Instant) -> Result<Vec<O>, HsmError>;

/// Fewer items than this are not dealt out to several threads.
const SMALLEST_PART: usize = 16;

impl Hsm for Pkcs11Hsm {
    fn facts(&self) -> KeyFacts {
        self.ring.facts_with(self.token.kek())
    }

    fn adopt(&self, kek: TokenKeyId) -> Result<(), HsmError> {
        let (token, ids, suite) = (Arc::clone(&self.token), self.ring.ids.with_kek(kek), self.choice.suite);
        self.call(move |_, _| rotation::try_out(&token, ids, suite).map(drop))?;
        self.token.adopt(kek);
        self.recovery.renew(self)
    }

    fn wrap(&self, secrets: Vec<ToWrap>) -> Result<Vec<Vec<u8>>, HsmError> {
        self.batch(secrets, Seat::wrap)
    }

    fn unwrap(&self, records: Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError> {
        self.batch(records, Seat::unwrap)
    }

    fn dh(&self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
        if !is_valid_point(peer) {
            return Err(HsmError::PeerPoint);
        }
        if self.ring.custody().transport_in_memory {
            self.token.gate.pass()?;
        }
        let peer = *peer;
        self.ring.held.dh(&peer).unwrap_or_else(|| self.call(move |seat, _| seat.dh(&peer)))
    }

    fn mac(&self, messages: Vec<Vec<u8>>) -> Result<Vec<[u8; 32]>, HsmError> {
        self.batch(messages, Seat::mac)
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        // Without its token a node serves nothing, whatever it holds in memory.
        if self.ring.custody().audit_in_memory {
            self.token.gate.pass()?;
        }
        let digest = *digest;
        self.ring.held.sign(&digest).unwrap_or_else(|| self.call(move |seat, _| seat.sign(&digest)))
    }

    fn canary(&self) -> Result<(), HsmError> {
        self.call(|seat, _| seat.canary())
    }

    fn inspect(&self) -> Result<Vec<Check>, HsmError> {
        let ring = Arc::clone(&self.ring);
        let at_once = match self.pool.lanes() {
            1 => "one; two threads were not clearly faster".to_owned(),
            lanes => format!("{lanes}, as many as there are threads"),
        };
        let mut checks = vec![
            Check { what: "suite of new records", outcome: Ok(self.suite()) },
            Check { what: "calls at once", outcome: Ok(at_once) },
        ];
        checks.extend(self.call(move |seat, _| seat.look(|open, token| inspect::checks(open, token, &ring)))?);
        Ok(checks)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.token.gate.follow()
    }
}
