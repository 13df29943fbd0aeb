//! The KEK that a process wraps new records under: the one that the database calls active, used as often as it may be.
//!
//! A key of AES-GCM with random nonces encrypts less than 2^32 times (NIST SP 800-38D, section 8.3). Uses are counted in
//! the database before they are made, in blocks, so that a crash or several processes count too much and never too
//! little. What is not counted (retries after a failure, checks by officers, self-tests of a token that comes back) has
//! 2^24 uses of its own below the limit. A KEK that is used up wraps nothing more, and opens what it wrapped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eds_core::ids::NodeId;

use crate::{
    hsm::{Hsm, HsmError, ToWrap, TokenKeyId},
    shares::{self, Sealed, ToSeal},
    store::{KekState, ShareStore, StoreError},
};

/// How many uses of a KEK are counted at most.
pub const MOST_USES: u64 = (1 << 32) - (1 << 24);
/// From here on it is time for another KEK.
pub const MANY_USES: u64 = MOST_USES / 4 * 3;
/// How many uses are counted at once.
const BLOCK: u64 = 1 << 16;
/// How many uses a start makes, with its self-test.
const START: u64 = 64;

/// Wraps new records, and counts.
pub struct Wrapping {
    hsm: Arc<dyn Hsm>,
    store: Arc<dyn ShareStore>,
    granted: Mutex<Granted>,
}

/// Uses that were counted and not made yet.
struct Granted {
    kek: TokenKeyId,
    left: u64,
}

/// Nothing can be wrapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrapError {
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The KEK was used as often as it may be.
    #[error("KEK {kek} is used up: it wraps nothing more\nhint: run `eds-keystored hsm rotate`, then `hsm rewrap`")]
    UsedUp {
        /// Its id.
        kek: TokenKeyId,
    },
    /// The database names no active KEK.
    #[error("the database names no active KEK\nhint: restore a backup of the database, or look who altered it")]
    NoKek,
}

impl Wrapping {
    /// Wraps with this token, as this database says.
    pub fn new(hsm: Arc<dyn Hsm>, store: Arc<dyn ShareStore>) -> Self {
        let granted = Mutex::new(Granted { kek: hsm.kek(), left: 0 });
        Self { hsm, store, granted }
    }

    /// Wraps secrets under the KEK that this process knows as the active one. The store refuses the records when another
    /// one is: [`Wrapping::follow`] then, and wrap again.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn wrap(&self, secrets: Vec<ToWrap>) -> Result<Vec<Vec<u8>>, WrapError> {
        let uses = secrets.len() as u64;
        match self.count(uses) {
            // Officers may have made another one active since.
            Err(WrapError::UsedUp { kek }) => {
                self.follow()?;
                if self.hsm.kek() == kek {
                    return Err(WrapError::UsedUp { kek });
                }
                self.count(uses)?;
            }
            counted => counted?,
        }
        Ok(self.hsm.wrap(secrets)?)
    }

    /// Seals shares that are stored together under a fresh data key, which is wrapped as in [`Wrapping::wrap`].
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn seal(&self, node: NodeId, shares: &[ToSeal]) -> Result<Sealed, WrapError> {
        shares::seal(node, shares, |secrets| self.wrap(secrets))
    }

    /// Counts uses that are about to be made by other means than [`Wrapping::wrap`].
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn count(&self, uses: u64) -> Result<(), WrapError> {
        let kek = self.hsm.kek();
        let mut granted = self.granted();
        if granted.kek != kek {
            *granted = Granted { kek, left: 0 };
        }
        if granted.left < uses {
            let block = BLOCK.max(uses);
            let then = self.store.reserve_uses(kek.as_bytes(), block, MOST_USES)?.ok_or(WrapError::UsedUp { kek })?;
            granted.left += block;
            tell(kek, then);
        }
        granted.left -= uses;
        Ok(())
    }

    /// Counts what a start uses. A KEK that is used up is none the worse for it.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn count_start(&self) -> Result<(), WrapError> {
        match self.count(START) {
            Err(WrapError::UsedUp { kek }) => {
                tracing::error!(%kek, "the KEK is used up, and new keys are refused: run `eds-keystored hsm rotate`");
                Ok(())
            }
            counted => counted,
        }
    }

    /// Takes the KEK that the database calls active, if it is another one by now.
    ///
    /// # Errors
    /// [`WrapError`]; the KEK stays the one it was.
    pub fn follow(&self) -> Result<(), WrapError> {
        let keks = self.store.keks()?;
        let active = keks.iter().find(|kek| kek.state == KekState::Active).ok_or(WrapError::NoKek)?;
        let kek = TokenKeyId::from_bytes(active.id);
        if self.hsm.kek() != kek {
            self.hsm.adopt(kek)?;
            tracing::info!(%kek, "new records are wrapped under another KEK");
        }
        Ok(())
    }

    fn granted(&self) -> MutexGuard<'_, Granted> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Warns in time.
fn tell(kek: TokenKeyId, uses: u64) {
    let percent = uses.saturating_mul(100) / MOST_USES;
    if percent >= 95 {
        tracing::error!(%kek, percent, "the KEK is almost used up, and new keys will be refused: run `eds-keystored hsm rotate`");
    } else if uses > MANY_USES {
        tracing::warn!(%kek, percent, "it is time for another KEK: run `eds-keystored hsm rotate`");
    }
}

#[cfg(test)]
mod tests {
    use eds_core::ids::{Epoch, KeyId, ShareIndex};
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        hsm::{RecordContext, memory::MemoryHsm, self_test::make_canary},
        shares::ShareContext,
        store::{Origin, kek_of, memory::MemoryStore},
    };

    fn parts() -> (Arc<MemoryHsm>, Arc<MemoryStore>, Wrapping) {
        let hsm = Arc::new(MemoryHsm::new().expect("made"));
        let node = NodeId::from_bytes([1; 16]);
        let canary = make_canary(hsm.as_ref(), node).expect("made");
        let store = Arc::new(MemoryStore::new(Origin { node, canary, policy_canary: Vec::new() }));
        let wrapping = Wrapping::new(hsm.clone(), store.clone());
        (hsm, store, wrapping)
    }

    fn secrets(count: usize) -> Vec<ToWrap> {
        let context = RecordContext::canary(NodeId::from_bytes([1; 16]));
        (0..count).map(|_| ToWrap { context, secret: Zeroizing::new(vec![1; 64]) }).collect()
    }

    #[test]
    fn uses_are_counted_before_they_are_made_and_end() {
        let (hsm, store, wrapping) = parts();
        let uses = || store.keks().expect("reads").pop().expect("one").uses;
        wrapping.wrap(secrets(3)).expect("wraps");
        assert_eq!(uses(), BLOCK);
        wrapping.count(BLOCK - 3).expect("counted before");
        assert_eq!(uses(), BLOCK);
        wrapping.wrap(secrets(1)).expect("wraps");
        assert_eq!(uses(), 2 * BLOCK);
        // Another process counts for itself.
        Wrapping::new(hsm.clone(), store.clone()).wrap(secrets(1)).expect("wraps");
        assert_eq!(uses(), 3 * BLOCK);
        let left = MOST_USES - uses();
        store.reserve_uses(hsm.kek().as_bytes(), left, MOST_USES).expect("counts").expect("not too many");
        wrapping.count(BLOCK - 1).expect("counted before");
        let refused = wrapping.wrap(secrets(1)).expect_err("used up");
        assert!(refused.to_string().contains("eds-keystored hsm rotate"), "{refused}");
        wrapping.count_start().expect("what is there is still opened");

        // Another KEK begins anew, and is looked for when there is need of one.
        let kek = hsm.make_kek().expect("made");
        assert!(wrapping.wrap(secrets(1)).is_err());
        let before = hsm.kek();
        hsm.adopt(kek).expect("is there");
        let canary = make_canary(hsm.as_ref(), NodeId::from_bytes([1; 16])).expect("made");
        hsm.adopt(before).expect("is there");
        store.begin_kek(&canary, 1).expect("begins");
        let records = wrapping.wrap(secrets(1)).expect("wraps");
        assert_eq!((kek_of(&records[0]), uses()), (Some(*kek.as_bytes()), BLOCK));
    }

    #[test]
    fn all_shares_of_a_registration_are_one_use_of_the_kek() {
        let (_, store, wrapping) = parts();
        let index = ShareIndex::new(1).expect("not zero");
        let share = |number: u8| ToSeal {
            context: ShareContext {
                key: KeyId::from_bytes([number; 16]),
                epoch: Epoch::new(0),
                index,
                manifest: [number; 32],
            },
            share: Zeroizing::new([number; 64]),
        };
        let shares: Vec<_> = (0..100).map(share).collect();
        wrapping.count(BLOCK - 1).expect("counted");
        assert_eq!(wrapping.seal(NodeId::from_bytes([1; 16]), &shares).expect("seals").records.len(), 100);
        let uses = || store.keks().expect("reads").pop().expect("one").uses;
        assert_eq!(uses(), BLOCK);
        assert_eq!(wrapping.seal(NodeId::from_bytes([1; 16]), &[]).expect("nothing to do").records.len(), 0);
        assert_eq!(uses(), BLOCK);
        wrapping.seal(NodeId::from_bytes([1; 16]), &shares).expect("seals");
        assert_eq!(uses(), 2 * BLOCK);
    }
}
