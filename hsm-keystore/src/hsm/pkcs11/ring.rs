//! The keys of a node as this process knows them: where each is, the public halves, and the private keys that the token
//! does not hold. Shared by the session threads and the healer; it outlives every restart of the module.

use std::sync::Arc;

use cryptoki::session::Session;

use super::{
    direct::long,
    keys::{KeyIds, Points, setup},
    seat::Seat,
    suite::{self, Choice},
    token::Token,
};
use crate::{
    config::HsmConfig,
    hsm::{
        Custody, HsmError, KeyFacts, TokenKeyId,
        self_test::described,
        wrapped::{HeldKeys, WrappedError, WrappedKeys},
    },
};

/// The keys of a node.
pub(super) struct KeyRing {
    pub(super) ids: KeyIds,
    pub(super) points: Points,
    pub(super) wrapped: Option<WrappedKeys>,
    pub(super) held: HeldKeys,
}

impl KeyRing {
    /// Finds the keys in the token, of several KEKs this one, chooses the suite, and unwraps what is wrapped beside the token.
    ///
    /// # Errors
    /// [`HsmError::Setup`] when a key is missing, there twice, or does not unwrap; [`HsmError::Pin`],
    /// [`HsmError::Unavailable`].
    pub(super) fn find(
        config: &HsmConfig,
        token: &Arc<Token>,
        kek: Option<TokenKeyId>,
    ) -> Result<(Self, Choice), HsmError> {
        let session = token.session()?;
        let refused = |error: WrappedError| refused(token, error);
        // Without the file all keys are looked for in the token, where officers may have put them in the meantime.
        let file = config.weaker_wrapped_keys.as_deref().filter(|file| file.exists());
        let wrapped = file.map(WrappedKeys::load).transpose().map_err(refused)?;
        let custody = wrapped.as_ref().map(WrappedKeys::custody).unwrap_or_default();
        let ids = KeyIds::find(&session, token.label(), custody, kek)?;
        let choice = suite::choose(config, token, ids)?;
        let mut seat = Seat::past_the_gate(Arc::clone(token), ids, choice.suite);
        let ring = Self::complete(&session, token, ids, wrapped, &mut seat)?;
        Ok((ring, choice))
    }

    /// Unwraps what is wrapped, and reads the public halves.
    pub(super) fn complete(
        session: &Session,
        token: &Token,
        ids: KeyIds,
        wrapped: Option<WrappedKeys>,
        seat: &mut Seat,
    ) -> Result<Self, HsmError> {
        let held = match &wrapped {
            Some(keys) => keys.open(|records| seat.unwrap(&records, long())).map_err(|error| refused(token, error))?,
            None => HeldKeys::default(),
        };
        let points = Points::find(session, token.label(), &ids, &held)?;
        Ok(Self { ids, points, wrapped, held })
    }

    /// What everybody may know.
    pub(super) fn facts(&self) -> KeyFacts {
        let KeyIds { kek, policy, .. } = self.ids;
        let Points { transport, audit } = self.points;
        KeyFacts { kek, policy, transport, audit, custody: self.custody() }
    }

    /// The same, when this KEK was adopted.
    pub(super) fn facts_with(&self, adopted: Option<TokenKeyId>) -> KeyFacts {
        let facts = self.facts();
        KeyFacts { kek: adopted.unwrap_or(facts.kek), ..facts }
    }

    /// Where the key pairs are.
    pub(super) fn custody(&self) -> Custody {
        self.wrapped.as_ref().map(WrappedKeys::custody).unwrap_or_default()
    }
}

fn refused(token: &Token, error: WrappedError) -> HsmError {
    match error {
        WrappedError::Hsm(error) => error,
        error => setup(token.label(), described(&error)),
    }
}
