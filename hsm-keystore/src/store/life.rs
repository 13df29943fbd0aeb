//! The rules of a key's life, for every store alike: what is known of a key, what is asked, and whether it may be.
//!
//! pending → active → tombstone, and pending → tombstone; nothing leads back. Pure: a store asks under its own lock.

use eds_core::api::KeyState;

use crate::store::{Changed, KekChanged, KekState, RegistrantDigest};

/// Whether `by` may bring a key to `to` (active or tombstone); else what to answer. Being there already is success.
pub(crate) fn may_move(
    found: Option<(KeyState, RegistrantDigest)>,
    by: &RegistrantDigest,
    to: KeyState,
) -> Result<(), Changed> {
    match found {
        None => Err(Changed::Missing),
        Some((_, registrant)) if registrant != *by => Err(Changed::NotRegistrant),
        Some((state, _)) if state == to => Err(Changed::Done(to)),
        Some((KeyState::Pending, _)) => Ok(()),
        Some((state, _)) => Err(Changed::Refused(state)),
    }
}

/// Whether a key that has a share may be altered by somebody who saw it as it still is, with its state; else what to
/// answer.
pub(super) fn may_alter(found: Option<KeyState>, as_seen: bool) -> Result<KeyState, Changed> {
    match found {
        None => Err(Changed::Missing),
        Some(KeyState::Tombstone) => Err(Changed::Refused(KeyState::Tombstone)),
        Some(_) if !as_seen => Err(Changed::Stale),
        Some(state) => Ok(state),
    }
}

/// What to answer to whoever wants to retire a KEK; none when it may be. `wraps` counts the records that name it.
pub(super) fn may_retire<E>(state: KekState, wraps: impl FnOnce() -> Result<u64, E>) -> Result<Option<KekChanged>, E> {
    match state {
        KekState::Active => Ok(Some(KekChanged::Refused(state))),
        KekState::Retired => Ok(Some(KekChanged::Done)),
        KekState::ReadOnly => Ok(Some(wraps()?).filter(|wraps| *wraps > 0).map(KekChanged::StillWraps)),
    }
}
