//! A [`ShareStore`] in memory, for tests.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use eds_core::{api::KeyState, ids::KeyId};

use crate::store::{
    Changed, NewKey, Origin, Registered, RegistrantDigest, Registration, Replacement, ShareStore, StoreError,
    StoredAccess, StoredBody, StoredKey,
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
        keys.iter()
            .map(|key| match held.keys.get_mut(key) {
                None => Changed::Missing,
                Some(stored) if stored.registrant != *by => Changed::NotRegistrant,
                Some(stored) if stored.state == to => Changed::Done(to),
                Some(stored) if stored.state == KeyState::Pending => {
                    stored.state = to;
                    if to == KeyState::Tombstone {
                        stored.body = None;
                    }
                    Changed::Done(to)
                }
                Some(stored) => Changed::Refused(stored.state),
            })
            .collect()
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

    fn delete(&self, keys: &[(KeyId, StoredAccess)], _at: u64) -> Result<Vec<Changed>, StoreError> {
        let mut held = self.held();
        let delete = |(key, seen): &(KeyId, StoredAccess)| match held.keys.get_mut(key) {
            None => Changed::Missing,
            Some(stored) => match &stored.body {
                None => Changed::Refused(KeyState::Tombstone),
                Some(body) if body.access != *seen => Changed::Stale,
                Some(_) => {
                    stored.state = KeyState::Tombstone;
                    stored.body = None;
                    Changed::Done(KeyState::Tombstone)
                }
            },
        };
        Ok(keys.iter().map(delete).collect())
    }

    fn replace(&self, key: KeyId, seen: &[u8], new: &Replacement, _at: u64) -> Result<Changed, StoreError> {
        let mut held = self.held();
        let Some(stored) = held.keys.get_mut(&key) else { return Ok(Changed::Missing) };
        let Some(body) = &mut stored.body else { return Ok(Changed::Refused(KeyState::Tombstone)) };
        if body.record != seen {
            return Ok(Changed::Stale);
        }
        stored.manifest_digest = new.manifest_digest;
        body.epoch = new.epoch;
        body.manifest.clone_from(&new.manifest);
        body.record.clone_from(&new.record);
        Ok(Changed::Done(stored.state))
    }

    fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
