//! Checkpoints signed by the audit key in the token, from time to time.

use std::sync::Arc;

use eds_core::manifest::Point;

use super::{
    checkpoint::{Signer, SignerError},
    log::{CheckpointError, Log},
};
use crate::hsm::{Hsm, self_test::described};

/// The audit key of a token.
pub struct TokenSigner(pub Arc<dyn Hsm>);

impl Signer for TokenSigner {
    fn public_key(&self) -> Point {
        self.0.audit_key()
    }

    fn sign_digest(&self, digest: &[u8; 32]) -> Result<[u8; 64], SignerError> {
        self.0.sign(digest).map_err(|error| SignerError(described(&error)))
    }
}

/// Signs the head of the log, if there is anything new. `time` is in seconds since 1970. Blocks.
///
/// # Errors
/// [`CheckpointError`].
pub fn sign(log: &Log, hsm: &Arc<dyn Hsm>, time: u64) -> Result<(), CheckpointError> {
    log.checkpoint(&TokenSigner(Arc::clone(hsm)), time).map(drop)
}
