//! A [`ShareStore`] in memory, for tests.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use eds_core::{api::KeyState, ids::KeyId};

use crate::store::{
    AccessChange, Changed, KEK_IN_RECORD, KekId, Listed, NewKey, Origin, Registered, RegistrantDigest, Registration,
    Replacement, ShareStore, StoreError, StoredAccess, StoredBody, StoredKey,
    life::{may_alter, may_move},
};

/// Keeps everything in a map.
pub struct MemoryStore {
    origin: Origin,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: HashMap<KeyId, StoredKey>,
    registrations: HashMap<(RegistrantDigest, [u8; 16]), Content>,
}

impl Held {
    fn wrapped_by(&self, kek: &KekId) -> impl Iterator<Item = KeyId> {
        let kek = *kek;
        let wraps = move |stored: &&StoredKey| {
            stored.body.as_ref().and_then(|body| body.record.get(KEK_IN_RECORD)).is_some_and(|named| named == kek)
        };
        self.keys.values().filter(wraps).map(|stored| stored.key)
    }
}

/// The content digest of a registration and its keys.
type Content = ([u8; 32], Vec<KeyId>);

impl MemoryStore {
    /// An empty store.
    pub fn new(origin: Origin) -> Self {
        Self { origin, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, keys: &[KeyId], by: &RegistrantDigest, to: KeyState) -> Vec<Changed> {
        let mut held = self.held();
        let move_one = |key| {
            let found = held.keys.get_mut(key);
            if let Err(answer) = may_move(found.as_ref().map(|stored| (stored.state, stored.registrant)), by, to) {
                return answer;
            }
            if let Some(stored) = found {
                stored.state = to;
                if to == KeyState::Tombstone {
                    stored.body = None;
                }
            }
            Changed::Done(to)
        };
        keys.iter().map(move_one).collect()
    }

    /// Alters keys whose body is still as it was seen.
    fn alter<T>(
        &self,
        changes: &[T],
        key: impl Fn(&T) -> KeyId,
        as_seen: impl Fn(&T, &StoredBody) -> bool,
        alter: impl Fn(&T, &mut StoredKey),
    ) -> Vec<Changed> {
        let mut held = self.held();
        let alter_one = |change| {
            let found = held.keys.get_mut(&key(change));
            let same = found.as_ref().and_then(|stored| stored.body.as_ref()).is_some_and(|body| as_seen(change, body));
            if let Err(answer) = may_alter(found.as_ref().map(|stored| stored.state), same) {
                return answer;
            }
            let Some(stored) = found else { return Changed::Missing };
            alter(change, stored);
            Changed::Done(stored.state)
        };
        changes.iter().map(alter_one).collect()
    }
}

impl ShareStore for MemoryStore {
    fn origin(&self) -> Result<Origin, StoreError> {
        Ok(self.origin.clone())
    }

    fn register(&self, registration: &Registration, keys: &[NewKey]) -> Result<Registered, StoreError> {
        let mut held = self.held();
        let name = (registration.registrant, registration.id);
        if let Some((content, before)) = held.registrations.get(&name) {
            if *content != registration.content {
                return Ok(Registered::IdTaken);
            }
            let states = before.iter().map(|key| held.keys.get(key).map_or(KeyState::Tombstone, |key| key.state));
            return Ok(Registered::Before(states.collect()));
        }
        for new in keys {
            match held.keys.get(&new.key) {
                Some(StoredKey { state: KeyState::Tombstone, .. }) => return Ok(Registered::KeyDeleted(new.key)),
                Some(_) => return Ok(Registered::KeyExists(new.key)),
                None => {}
            }
        }
        held.registrations.insert(name, (registration.content, keys.iter().map(|new| new.key).collect()));
        for new in keys {
            let body = StoredBody {
                epoch: new.epoch,
                manifest: new.manifest.clone(),
                record: new.record.clone(),
                access: new.access.clone(),
            };
            let stored = StoredKey {
                key: new.key,
                state: KeyState::Pending,
                registrant: registration.registrant,
                manifest_digest: new.manifest_digest,
                body: Some(body),
            };
            held.keys.insert(new.key, stored);
        }
        Ok(Registered::Stored)
    }

    fn read(&self, keys: &[KeyId]) -> Result<Vec<Option<StoredKey>>, StoreError> {
        let held = self.held();
        Ok(keys.iter().map(|key| held.keys.get(key).cloned()).collect())
    }

    fn confirm(&self, keys: &[KeyId], by: &RegistrantDigest, _at: u64) -> Result<Vec<Changed>, StoreError> {
        Ok(self.change(keys, by, KeyState::Active))
    }

    fn withdraw(&self, keys: &[KeyId], by: &RegistrantDigest, _at: u64) -> Result<Vec<Changed>, StoreError> {
        Ok(self.change(keys, by, KeyState::Tombstone))
    }

    fn page(&self, after: Option<KeyId>, most: usize) -> Result<Vec<Listed>, StoreError> {
        let held = self.held();
        let mut listed: Vec<Listed> = held
            .keys
            .values()
            .filter(|stored| after.is_none_or(|after| stored.key > after))
            .map(|stored| {
                let access = stored.body.as_ref().map(|body| body.access.clone());
                Listed { key: stored.key, state: stored.state, registrant: stored.registrant, access }
            })
            .collect();
        listed.sort_by_key(|listed| listed.key);
        listed.truncate(most);
        Ok(listed)
    }

    fn delete(&self, keys: &[(KeyId, StoredAccess)], _at: u64) -> Result<Vec<Changed>, StoreError> {
        Ok(self.alter(
            keys,
            |(key, _)| *key,
            |(_, seen), body| body.access == *seen,
            |_, stored| {
                stored.state = KeyState::Tombstone;
                stored.body = None;
            },
        ))
    }

    fn change_access(&self, changes: &[AccessChange], _at: u64) -> Result<Vec<Changed>, StoreError> {
        let put = |change: &AccessChange, stored: &mut StoredKey| {
            if let Some(body) = &mut stored.body {
                body.access = change.new.clone();
            }
        };
        Ok(self.alter(changes, |change| change.key, |change, body| body.access == change.seen, put))
    }

    fn replace(&self, replacements: &[Replacement], _at: u64) -> Result<Vec<Changed>, StoreError> {
        let put = |new: &Replacement, stored: &mut StoredKey| {
            stored.manifest_digest = new.manifest_digest;
            if let Some(body) = &mut stored.body {
                body.epoch = new.epoch;
                body.manifest.clone_from(&new.manifest);
                body.record.clone_from(&new.record);
            }
        };
        Ok(self.alter(replacements, |new| new.key, |new, body| body.record == new.seen, put))
    }

    fn wrapped_by(&self, kek: &KekId, after: Option<KeyId>, limit: usize) -> Result<Vec<KeyId>, StoreError> {
        let held = self.held();
        let mut keys: Vec<KeyId> = held.wrapped_by(kek).filter(|key| after.is_none_or(|after| *key > after)).collect();
        keys.sort_unstable();
        keys.truncate(limit);
        Ok(keys)
    }

    fn count_wrapped_by(&self, kek: &KekId) -> Result<u64, StoreError> {
        Ok(self.held().wrapped_by(kek).count() as u64)
    }

    fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
