//! A token through its PKCS#11 module.
//!
//! Every call is done by one of a few threads that own a session each (`pool`), so that a hanging module blocks such a
//! thread and not the server. Keys are found by label and id, never by slot or handle kept over a session.

mod ceremony;
mod inspect;
mod keys;
mod pool;
mod seat;
mod token;

use std::{sync::Arc, time::Instant};

use eds_core::manifest::Point;
use zeroize::Zeroizing;

pub use self::{
    ceremony::{Ceremony, create_keys},
    inspect::KeyDescription,
    keys::Role,
};
use self::{
    keys::{KeyIds, Points},
    pool::Pool,
    seat::Seat,
    token::Token,
};
use crate::{
    config::HsmConfig,
    hsm::{Hsm, HsmError, Opened, ToUnwrap, ToWrap, TokenKeyId, is_valid_point, self_test::Check},
};

/// A token that holds the keys of a node.
pub struct Pkcs11Hsm {
    pool: Pool<Seat>,
    ids: KeyIds,
    points: Points,
    description: String,
}

impl Pkcs11Hsm {
    /// Loads the module, logs in and finds the keys.
    ///
    /// # Errors
    /// [`HsmError::Setup`] when module, token or keys are not there, [`HsmError::Pin`], [`HsmError::Unavailable`].
    pub fn open(config: &HsmConfig) -> Result<Self, HsmError> {
        let token = Arc::new(Token::find(config)?);
        let session = token.session()?;
        let ids = KeyIds::find(&session, token.label())?;
        let points = Points::find(&session, token.label(), &ids)?;
        drop(session);
        let description = token.description.clone();
        let pool = Pool::start(config.threads, config.deadline, move || Seat::new(Arc::clone(&token), ids))?;
        Ok(Self { pool, ids, points, description })
    }

    /// What the token says it is: maker, model, serial number, firmware.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// What is known of the keys.
    ///
    /// # Errors
    /// [`HsmError`].
    pub fn describe(&self) -> Result<Vec<KeyDescription>, HsmError> {
        let points = self.points;
        let job = move |seat: &mut Seat, _| seat.look(|open, ids, _| inspect::describe(open, ids, &points));
        self.pool.submit(self.pool.deadline(), job)?.wait()
    }

    /// Deals a batch out to the threads and gathers the answers in order.
    fn batch<I: Send + 'static, O: Send + 'static>(
        &self,
        mut items: Vec<I>,
        work: Work<I, O>,
    ) -> Result<Vec<O>, HsmError> {
        // One deadline for the whole batch.
        let deadline = self.pool.deadline();
        let share = items.len().div_ceil(self.pool.threads()).max(SMALLEST_PART);
        let mut pending = Vec::with_capacity(self.pool.threads());
        while !items.is_empty() {
            let rest = items.split_off(share.min(items.len()));
            let part = std::mem::replace(&mut items, rest);
            pending.push(self.pool.submit(deadline, move |seat, deadline| work(seat, &part, deadline))?);
        }
        let mut answers = Vec::new();
        for part in pending {
            answers.append(&mut part.wait()?);
        }
        Ok(answers)
    }
}

/// What a thread does with its part of a batch.
type Work<I, O> = fn(&mut Seat, &[I], Instant) -> Result<Vec<O>, HsmError>;

/// Fewer items than this are not dealt out to several threads.
const SMALLEST_PART: usize = 16;

impl Hsm for Pkcs11Hsm {
    fn kek(&self) -> TokenKeyId {
        self.ids.kek
    }

    fn policy_key(&self) -> TokenKeyId {
        self.ids.policy
    }

    fn transport_key(&self) -> Point {
        self.points.transport
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
        let peer = *peer;
        self.pool.submit(self.pool.deadline(), move |seat, _| seat.dh(&peer))?.wait()
    }

    fn mac(&self, messages: Vec<Vec<u8>>) -> Result<Vec<[u8; 32]>, HsmError> {
        self.batch(messages, Seat::mac)
    }

    fn audit_key(&self) -> Point {
        self.points.audit
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        let digest = *digest;
        self.pool.submit(self.pool.deadline(), move |seat, _| seat.sign(&digest))?.wait()
    }

    fn canary(&self) -> Result<(), HsmError> {
        self.pool.submit(self.pool.deadline(), |seat, _| seat.canary())?.wait()
    }

    fn inspect(&self) -> Result<Vec<Check>, HsmError> {
        let points = self.points;
        let job = move |seat: &mut Seat, _| seat.look(|open, ids, token| inspect::checks(open, ids, token, &points));
        self.pool.submit(self.pool.deadline(), job)?.wait()
    }
}
