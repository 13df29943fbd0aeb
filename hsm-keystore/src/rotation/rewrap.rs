//! Wrapping anew what older KEKs wrapped.
//!
//! Data keys are wrapped anew, each once for all records that have it; the sealed shares in the records stay as they are.
//! The database finds the records of a KEK, so that what is left is known at any moment and nothing has to be remembered.
//! A record that changed meanwhile (its key was deleted, its share refreshed) is looked at again in the next pass.

use std::{num::NonZeroUsize, path::Path, sync::Arc, thread, time::Duration};

use eds_core::{
    Opaque,
    ids::{KeyId, NodeId, ShareIndex},
};

use super::{RotationError, now};
use crate::{
    audit::Operation,
    hsm::{Hsm, TokenKeyId, self_test::described, wrapped::WrappedKeys},
    node::{kek::Wrapping, to_open},
    shares::Rewrap,
    store::{Changed, Kek, KekId, KekState, Place, Replacement, ShareStore, kek_of},
};

/// How often everything is looked at again before it is told that records change too fast.
const PASSES: usize = 1_000;

/// How often a batch is tried that token or database hold up: other work must not end one of hours.
const TRIES: u32 = 10;
/// What is waited between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Records that were wrapped anew.
    pub done: u64,
    /// Records that older KEKs wrapped at the beginning.
    pub total: u64,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rewrapped {
    /// Records that were wrapped anew.
    pub done: u64,
    /// Key pairs beside the token that were wrapped anew.
    pub key_pairs: usize,
    /// Keys whose records do not open: they stay as they are, and keep their KEK from retiring.
    pub unreadable: Vec<KeyId>,
}

/// What it works on.
pub(super) struct Work<'a> {
    pub(super) node: NodeId,
    pub(super) number: ShareIndex,
    pub(super) hsm: &'a dyn Hsm,
    pub(super) store: &'a dyn ShareStore,
    pub(super) wrapping: &'a Wrapping,
}

/// What became of one batch.
#[derive(Default)]
struct Step {
    done: u64,
    again: bool,
    unreadable: Vec<KeyId>,
}

/// Wraps the records of all older KEKs of a node anew under the active one, so many at a time, while the node may serve.
///
/// # Errors
/// [`RotationError`]; what was done stays done, and it can be begun again.
pub fn rewrap(
    config: &crate::config::Config,
    batch: NonZeroUsize,
    progress: &mut dyn FnMut(Progress),
) -> Result<Rewrapped, RotationError> {
    let office = super::Office::open(config)?;
    let number = crate::node::startup::number(config, &office.identity).map_err(RotationError::Directory)?;
    let console = office.console(config);
    let wrapping = Wrapping::new(Arc::<crate::hsm::pkcs11::Pkcs11Hsm>::clone(&office.hsm), Arc::clone(&office.store));
    let work = Work {
        node: office.node(),
        number,
        hsm: office.hsm.as_ref(),
        store: office.store.as_ref(),
        wrapping: &wrapping,
    };
    let active = office.hsm.kek();
    let left = work.count()?;
    let mut act = console.begin(Operation::KEK_REWRAP, format_args!("{left} records to KEK {active}"))?;
    let outcome = work.run(left, batch, &mut |far| {
        act.came_to(format_args!("{} records wrapped anew", far.done));
        progress(far);
    });
    let outcome = outcome.and_then(|mut done| {
        if let Some(file) = config.hsm.weaker_wrapped_keys.as_deref().filter(|file| file.exists()) {
            done.key_pairs = work.wrap_keys_anew(file)?;
        }
        Ok(done)
    });
    act.ends(outcome, RotationError::is_refusal, |done| {
        let Rewrapped { done, key_pairs, unreadable } = done;
        let kek = office.hsm.kek();
        format!("{done} records and {key_pairs} key pairs wrapped by KEK {kek}; {} do not open", unreadable.len())
    })
}

impl Work<'_> {
    /// Wraps anew what `left` is the count of.
    pub(super) fn run(
        &self,
        left: u64,
        batch: NonZeroUsize,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Rewrapped, RotationError> {
        let mut all = Rewrapped::default();
        for _ in 0..PASSES {
            self.wrapping.follow()?;
            let mut again = false;
            all.unreadable.clear();
            for kek in self.older()? {
                let (mut after, mut rewrap) = (None, Rewrap::default());
                loop {
                    let places = self.store.wrapped_by(&kek.id, after.as_ref(), batch.get())?;
                    let Some(last) = places.last() else { break };
                    after = Some(last.clone());
                    let step = patiently(PAUSE, || self.step(&kek.id, &places, &mut rewrap))?;
                    all.done += step.done;
                    all.unreadable.extend(step.unreadable);
                    again |= step.again;
                    progress(Progress { done: all.done, total: left.max(all.done) });
                }
            }
            if !again {
                return Ok(all);
            }
        }
        Err(RotationError::Restless)
    }

    /// How many records there are to wrap anew.
    ///
    /// # Errors
    /// [`RotationError`]. Its cost grows with that number.
    pub(super) fn count(&self) -> Result<u64, RotationError> {
        Ok(self.older()?.iter().map(|kek| self.store.count_wrapped_by(&kek.id)).sum::<Result<u64, _>>()?)
    }

    fn older(&self) -> Result<Vec<Kek>, RotationError> {
        Ok(self.store.keks()?.into_iter().filter(|kek| kek.state == KekState::ReadOnly).collect())
    }

    fn step(&self, kek: &KekId, places: &[Place], rewrap: &mut Rewrap) -> Result<Step, RotationError> {
        let keys: Vec<KeyId> = places.iter().map(|place| place.key).collect();
        let stored = self.store.read(&keys)?;
        let wrapped = stored.iter().flatten().filter_map(|stored| {
            let body = stored.body.as_ref().filter(|body| kek_of(&body.record) == Some(*kek))?;
            Some((stored, body))
        });
        let wrapped: Vec<_> = wrapped.collect();
        let records: Vec<_> = wrapped.iter().map(|(stored, body)| to_open(self.number, stored, body)).collect();
        let anew = rewrap.step(self.hsm, self.node, &records, |secrets| self.wrapping.wrap(secrets))?;
        let mut step = Step::default();
        let (mut readable, mut records) = (Vec::new(), Vec::new());
        for (one, anew) in wrapped.into_iter().zip(anew) {
            match anew {
                Ok(record) => {
                    records.push(record);
                    readable.push(one);
                }
                Err(Opaque) => step.unreadable.push(one.0.key),
            }
        }
        let new: Vec<_> = readable
            .iter()
            .zip(records)
            .map(|((stored, body), record)| Replacement {
                key: stored.key,
                seen: body.record.clone(),
                epoch: body.epoch,
                manifest: body.manifest.clone(),
                manifest_digest: stored.manifest_digest,
                record,
            })
            .collect();
        for changed in self.store.replace(&new, now())? {
            match changed {
                Changed::Done(_) => step.done += 1,
                // Rotated once more, or changed meanwhile: the next pass sees how it is then.
                Changed::OtherKek | Changed::Stale => step.again = true,
                // Deleted meanwhile.
                Changed::Missing | Changed::Refused(_) | Changed::NotRegistrant => {}
            }
        }
        Ok(step)
    }

    /// Key pairs beside the token are wrapped by its KEK like shares. Returns how many were wrapped anew.
    fn wrap_keys_anew(&self, file: &Path) -> Result<usize, RotationError> {
        let keys = WrappedKeys::load(file)?;
        let active = self.hsm.kek();
        let by_active = |kek: Option<TokenKeyId>| kek == Some(active);
        if keys.keys().iter().all(|key| by_active(key.wrapped_by().map(|(_, kek)| kek))) {
            return Ok(0);
        }
        let count = keys.keys().len();
        self.wrapping.count(count as u64)?;
        keys.wrapped_anew(|records| self.hsm.unwrap(records), |secrets| self.hsm.wrap(secrets))?.replace(file)?;
        Ok(count)
    }
}

/// Does what may be done again, until it succeeds, fails for good, or was tried often enough.
fn patiently<T>(pause: Duration, mut work: impl FnMut() -> Result<T, RotationError>) -> Result<T, RotationError> {
    for _ in 1..TRIES {
        match work() {
            Err(error) if error.may_pass() => {
                tracing::warn!(error = described(&error), "a batch is tried again");
                thread::sleep(pause);
            }
            done => return done,
        }
    }
    work()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hsm::HsmError, store::StoreError};

    fn busy(may_pass: bool) -> RotationError {
        let source = Arc::new(std::io::Error::other("in use"));
        StoreError::Database { database: "store".into(), may_pass, source }.into()
    }

    #[test]
    fn a_database_in_use_and_a_slow_token_end_no_rewrap_and_what_will_not_pass_does() {
        let tried = |failures: u32, error: fn() -> RotationError| {
            let mut tries = 0;
            let done = patiently(Duration::ZERO, || {
                tries += 1;
                if tries > failures { Ok(()) } else { Err(error()) }
            });
            (done.is_ok(), tries)
        };
        assert_eq!(tried(2, || busy(true)), (true, 3));
        assert_eq!(tried(2, || HsmError::Deadline.into()), (true, 3));
        assert_eq!(tried(2, || busy(false)), (false, 1));
        assert_eq!(tried(u32::MAX, || busy(true)), (false, TRIES));
    }
}
