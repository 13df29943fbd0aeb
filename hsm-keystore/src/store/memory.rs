//! A [`ShareStore`] in memory, for tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use eds_core::{
    api::{KeyState, name::KeyName},
    ids::{DeviceId, KeyId},
};

use crate::store::{
    AccessChange, Changed, Counts, DeviceCounter, DeviceStore, Kek, KekChanged, KekId, KekState, Listed, NameStore,
    NewKey, NewName, Origin, Place, Registered, RegistrantDigest, Registration, Replacement, ShareStore, StoreError,
    StoredAccess, StoredBody, StoredDevice, StoredKey, StoredName, all_wrapped_by, kek_of,
    life::{may_alter, may_move, may_retire},
    place_of,
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
    keks: Vec<Kek>,
    devices: BTreeMap<DeviceId, StoredDevice>,
    counters: HashMap<DeviceCounter, KeyId>,
    names: Names,
}

impl Held {
    fn wrapped_by(&self, kek: &KekId) -> impl Iterator<Item = Place> {
        let kek = *kek;
        let bodies = self.keys.values().filter_map(|stored| Some((stored.key, stored.body.as_ref()?)));
        let wrapped = bodies.filter(move |(_, body)| kek_of(&body.record) == Some(kek));
        wrapped.map(|(key, body)| place_of(key, &body.record))
    }
}

impl Held {
    fn active_kek(&self) -> Option<KekId> {
        self.keks.iter().find(|kek| kek.state == KekState::Active).map(|kek| kek.id)
    }

    fn begin_kek(&mut self, id: KekId, canary: &[u8], at: u64) {
        for kek in self.keks.iter_mut().filter(|kek| kek.state == KekState::Active) {
            (kek.state, kek.since) = (KekState::ReadOnly, at);
        }
        self.keks.push(Kek { id, state: KekState::Active, uses: 0, canary: canary.to_vec(), since: at });
    }
}

/// The keys of names.
type Names = BTreeMap<KeyName, StoredName>;

/// Turns a key into a tombstone.
fn bury(stored: &mut StoredKey, names: &mut Names) {
    stored.state = KeyState::Tombstone;
    stored.body = None;
    names.retain(|_, named| named.key != stored.key);
}

/// The content digest of a registration and its keys.
type Content = ([u8; 32], Vec<KeyId>);

impl MemoryStore {
    /// An empty store.
    pub fn new(origin: Origin) -> Self {
        let mut held = Held::default();
        if let Some(id) = kek_of(&origin.canary) {
            held.begin_kek(id, &origin.canary, 0);
        }
        Self { origin, held: Mutex::new(held) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, keys: &[KeyId], by: &RegistrantDigest, to: KeyState) -> Vec<Changed> {
        let mut held = self.held();
        let Held { keys: stored, names, .. } = &mut *held;
        let move_one = |key| {
            let found = stored.get_mut(key);
            if let Err(answer) = may_move(found.as_ref().map(|stored| (stored.state, stored.registrant)), by, to) {
                return answer;
            }
            if let Some(stored) = found {
                stored.state = to;
                if to == KeyState::Tombstone {
                    bury(stored, names);
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
        alter: impl Fn(&T, &mut StoredKey, &mut Names),
    ) -> Vec<Changed> {
        let mut held = self.held();
        let Held { keys: stored, names, .. } = &mut *held;
        let alter_one = |change| {
            let found = stored.get_mut(&key(change));
            let same = found.as_ref().and_then(|stored| stored.body.as_ref()).is_some_and(|body| as_seen(change, body));
            if let Err(answer) = may_alter(found.as_ref().map(|stored| stored.state), same) {
                return answer;
            }
            let Some(stored) = found else { return Changed::Missing };
            alter(change, stored, names);
            Changed::Done(stored.state)
        };
        changes.iter().map(alter_one).collect()
    }
}

impl DeviceStore for MemoryStore {
    fn enroll(&self, device: &StoredDevice, _at: u64) -> Result<bool, StoreError> {
        let mut held = self.held();
        if held.devices.contains_key(&device.device) {
            return Ok(false);
        }
        held.devices.insert(device.device, device.clone());
        Ok(true)
    }

    fn device(&self, device: DeviceId) -> Result<Option<StoredDevice>, StoreError> {
        Ok(self.held().devices.get(&device).cloned())
    }

    fn devices(&self) -> Result<Vec<StoredDevice>, StoreError> {
        Ok(self.held().devices.values().cloned().collect())
    }

    fn change_device(&self, seen: &StoredDevice, new: &StoredDevice, _at: u64) -> Result<bool, StoreError> {
        match self.held().devices.get_mut(&seen.device) {
            Some(stored) if stored == seen => {
                stored.clone_from(new);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl NameStore for MemoryStore {
    fn named(&self, names: &[KeyName]) -> Result<Vec<Option<StoredName>>, StoreError> {
        let held = self.held();
        Ok(names.iter().map(|name| held.names.get(name).cloned()).collect())
    }
}

impl ShareStore for MemoryStore {
    fn origin(&self) -> Result<Origin, StoreError> {
        let held = self.held();
        let active = held.keks.iter().find(|kek| kek.state == KekState::Active);
        let canary = active.map_or_else(|| self.origin.canary.clone(), |kek| kek.canary.clone());
        Ok(Origin { canary, ..self.origin.clone() })
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
        if let Some(key) = registration.counter.and_then(|counter| held.counters.get(&counter)) {
            return Ok(Registered::CounterUsed(*key));
        }
        let taken = |new: &&NewKey| new.name.as_ref().is_some_and(|name| held.names.contains_key(&name.name));
        if let Some(new) = keys.iter().find(taken) {
            return Ok(Registered::NameTaken(new.key));
        }
        if !all_wrapped_by(held.active_kek(), keys.iter().map(|new| new.record.as_slice())) {
            return Ok(Registered::OtherKek);
        }
        held.registrations.insert(name, (registration.content, keys.iter().map(|new| new.key).collect()));
        if let Some((counter, new)) = registration.counter.zip(keys.first()) {
            held.counters.insert(counter, new.key);
        }
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
            if let Some(NewName { name, mac }) = &new.name {
                held.names.insert(name.clone(), StoredName { key: new.key, mac: mac.clone() });
            }
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
            |_, stored, names| bury(stored, names),
        ))
    }

    fn change_access(&self, changes: &[AccessChange], _at: u64) -> Result<Vec<Changed>, StoreError> {
        let put = |change: &AccessChange, stored: &mut StoredKey, _: &mut Names| {
            if let Some(body) = &mut stored.body {
                body.access = change.new.clone();
            }
        };
        Ok(self.alter(changes, |change| change.key, |change, body| body.access == change.seen, put))
    }

    fn replace(&self, replacements: &[Replacement], _at: u64) -> Result<Vec<Changed>, StoreError> {
        if !all_wrapped_by(self.held().active_kek(), replacements.iter().map(|new| new.record.as_slice())) {
            return Ok(vec![Changed::OtherKek; replacements.len()]);
        }
        let put = |new: &Replacement, stored: &mut StoredKey, _: &mut Names| {
            stored.manifest_digest = new.manifest_digest;
            if let Some(body) = &mut stored.body {
                body.epoch = new.epoch;
                body.manifest.clone_from(&new.manifest);
                body.record.clone_from(&new.record);
            }
        };
        Ok(self.alter(replacements, |new| new.key, |new, body| body.record == new.seen, put))
    }

    fn wrapped_by(&self, kek: &KekId, after: Option<&Place>, limit: usize) -> Result<Vec<Place>, StoreError> {
        let held = self.held();
        let mut places: Vec<Place> =
            held.wrapped_by(kek).filter(|place| after.is_none_or(|after| place > after)).collect();
        places.sort_unstable();
        places.truncate(limit);
        Ok(places)
    }

    fn count_wrapped_by(&self, kek: &KekId) -> Result<u64, StoreError> {
        Ok(self.held().wrapped_by(kek).count() as u64)
    }

    fn keks(&self) -> Result<Vec<Kek>, StoreError> {
        Ok(self.held().keks.clone())
    }

    fn begin_kek(&self, canary: &[u8], at: u64) -> Result<KekChanged, StoreError> {
        let mut held = self.held();
        let Some(id) = kek_of(canary) else { return Ok(KekChanged::Missing) };
        if let Some(known) = held.keks.iter().find(|kek| kek.id == id) {
            return Ok(KekChanged::Refused(known.state));
        }
        held.begin_kek(id, canary, at);
        Ok(KekChanged::Done)
    }

    fn retire_kek(&self, kek: &KekId, at: u64) -> Result<KekChanged, StoreError> {
        let mut held = self.held();
        let wraps = held.wrapped_by(kek).count() as u64;
        let Some(kek) = held.keks.iter_mut().find(|known| known.id == *kek) else { return Ok(KekChanged::Missing) };
        Ok(match may_retire(kek.state, || Ok::<_, StoreError>(wraps))? {
            Some(answer) => answer,
            None => {
                (kek.state, kek.since) = (KekState::Retired, at);
                KekChanged::Done
            }
        })
    }

    fn reserve_uses(&self, kek: &KekId, uses: u64, most: u64) -> Result<Option<u64>, StoreError> {
        let mut held = self.held();
        let Some(kek) = held.keks.iter_mut().find(|known| known.id == *kek) else { return Ok(None) };
        let then = kek.uses.saturating_add(uses);
        if then > most {
            return Ok(None);
        }
        kek.uses = then;
        Ok(Some(then))
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let held = self.held();
        let states = [KeyState::Pending, KeyState::Active, KeyState::Tombstone];
        let count = |state| held.keys.values().filter(|stored| stored.state == state).count();
        Ok(Counts::of(states.map(|state| (state, i64::try_from(count(state)).unwrap_or(i64::MAX)))))
    }

    fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
