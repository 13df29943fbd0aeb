//! A token whose calls are timed, for [`crate::metrics`].

use std::{sync::Arc, time::Instant};

use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::{
    hsm::{Health, Hsm, HsmError, KeyFacts, Opened, ToUnwrap, ToWrap, TokenKeyId, self_test::Check},
    metrics::Metrics,
};

/// A token with a stop-watch.
pub struct Measured {
    token: Arc<dyn Hsm>,
    metrics: Arc<Metrics>,
}

impl Measured {
    /// This token, timed.
    pub fn new(token: Arc<dyn Hsm>, metrics: Arc<Metrics>) -> Self {
        Self { token, metrics }
    }

    fn time<T>(&self, operation: &str, call: impl FnOnce(&dyn Hsm) -> Result<T, HsmError>) -> Result<T, HsmError> {
        let begun = Instant::now();
        let result = call(self.token.as_ref());
        self.metrics.token_called(operation, result.is_ok(), begun.elapsed());
        result
    }
}

impl Hsm for Measured {
    fn facts(&self) -> KeyFacts {
        self.token.facts()
    }

    fn wrap(&self, secrets: Vec<ToWrap>) -> Result<Vec<Vec<u8>>, HsmError> {
        self.time("wrap", |token| token.wrap(secrets))
    }

    fn unwrap(&self, records: Vec<ToUnwrap>) -> Result<Vec<Opened>, HsmError> {
        self.time("unwrap", |token| token.unwrap(records))
    }

    fn adopt(&self, kek: TokenKeyId) -> Result<(), HsmError> {
        self.time("adopt", |token| token.adopt(kek))
    }

    fn dh(&self, peer: &[u8; 65]) -> Result<Zeroizing<[u8; 32]>, HsmError> {
        self.time("dh", |token| token.dh(peer))
    }

    fn mac(&self, messages: Vec<Vec<u8>>) -> Result<Vec<[u8; 32]>, HsmError> {
        self.time("mac", |token| token.mac(messages))
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], HsmError> {
        self.time("sign", |token| token.sign(digest))
    }

    fn canary(&self) -> Result<(), HsmError> {
        self.time("canary", |token| token.canary())
    }

    fn inspect(&self) -> Result<Vec<Check>, HsmError> {
        self.token.inspect()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.token.health()
    }
}
