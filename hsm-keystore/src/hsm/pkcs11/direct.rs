//! A token without its threads and its gate: for the ceremony, and for the self-test of a token that comes back.
//!
//! Calls are made on the caller's thread and hang when the module does.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{inspect, ring::KeyRing, seat::Seat, token::Token};
use crate::hsm::{
    Hsm, HsmError, KeyFacts, Opened, Suite, ToUnwrap, ToWrap, TokenKeyId, health::Health, is_valid_point,
    self_test::Check,
};

/// A token that is called directly.
pub(super) struct Direct {
    seat: Mutex<Seat>,
    ring: Arc<KeyRing>,
    health: watch::Receiver<Health>,
}

impl Direct {
    pub(super) fn new(token: &Arc<Token>, ring: &Arc<KeyRing>, suite: Suite) -> Self {
        let health = token.gate.follow();
        let seat = Seat::past_the_gate(Arc::clone(token), ring.ids, suite);
        Self { seat: Mutex::new(seat), ring: Arc::clone(ring), health }
    }

    /// Closes the session.
    pub(super) fn rest(&self) {
        self.seat().rest();
    }

    /// The canary, with the reason of its failure.
    pub(super) fn try_canary(&self) -> Result<(), HsmError> {
        self.seat().canary()
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch may take this long; who calls directly watches over it from outside.
pub(super) fn long() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

impl Hsm for Direct {
    fn facts(&self) -> KeyFacts {
        self.ring.facts_with(self.seat().token_kek())
    }

    fn adopt(&self, _: TokenKeyId) -> Result<(), HsmError> {
        Err(HsmError::Unavailable { operation: "use another KEK", source: None })
    }

    fn wrap(&self, secrets: Vec<ToWrap>) -> Result<Vec<Vec<u8>>, HsmError> {
        self.seat().wrap(&secrets, long())
    }

    fn unwrap(&self, records: Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError> {
        self.seat().unwrap(&records, long())
    }

    fn dh(&self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
        if !is_valid_point(peer) {
            return Err(HsmError::PeerPoint);
        }
        self.ring.held.dh(peer).unwrap_or_else(|| self.seat().dh(peer))
    }

    fn mac(&self, messages: Vec<Vec<u8>>) -> Result<Vec<[u8; 32]>, HsmError> {
        self.seat().mac(&messages, long())
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.ring.held.sign(digest).unwrap_or_else(|| self.seat().sign(digest))
    }

    fn canary(&self) -> Result<(), HsmError> {
        self.try_canary()
    }

    fn inspect(&self) -> Result<Vec<Check>, HsmError> {
        self.seat().look(|open, token| inspect::checks(open, token, &self.ring))
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}
