//! A token without its threads and its gate: for the ceremony, and for the self-test of a token that comes back.
//!
//! Calls are made on the caller's thread and hang when the module does.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use eds_core::manifest::Point;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    inspect,
    keys::{KeyIds, Points},
    seat::Seat,
    token::Token,
};
use crate::hsm::{
    Hsm, HsmError, Opened, Suite, ToUnwrap, ToWrap, TokenKeyId, health::Health, is_valid_point, self_test::Check,
};

/// A token that is called directly.
pub(super) struct Direct {
    seat: Mutex<Seat>,
    ids: KeyIds,
    points: Points,
    health: watch::Receiver<Health>,
}

impl Direct {
    pub(super) fn new(token: &Arc<Token>, ids: KeyIds, points: Points, suite: Suite) -> Self {
        let health = token.gate.follow();
        Self { seat: Mutex::new(Seat::past_the_gate(Arc::clone(token), ids, suite)), ids, points, health }
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
        self.seat().wrap(&secrets, long())
    }

    fn unwrap(&self, records: Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError> {
        self.seat().unwrap(&records, long())
    }

    fn dh(&self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
        if !is_valid_point(peer) {
            return Err(HsmError::PeerPoint);
        }
        self.seat().dh(peer)
    }

    fn mac(&self, messages: Vec<Vec<u8>>) -> Result<Vec<[u8; 32]>, HsmError> {
        self.seat().mac(&messages, long())
    }

    fn audit_key(&self) -> Point {
        self.points.audit
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.seat().sign(digest)
    }

    fn canary(&self) -> Result<(), HsmError> {
        self.try_canary()
    }

    fn inspect(&self) -> Result<Vec<Check>, HsmError> {
        let points = self.points;
        self.seat().look(|open, ids, token| inspect::checks(open, ids, token, &points))
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}
