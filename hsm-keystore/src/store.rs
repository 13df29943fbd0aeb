//! What a node keeps: shares, wrapped; access lists, authenticated; and which registration brought them.
//!
//! [`ShareStore`] is durable before it answers: what it said is stored survives a crash, and what a crash cut off was
//! never said. A batch is stored whole or not at all. A deleted key leaves a tombstone for ever, so that an old message
//! cannot bring it back. Nothing in the cost of a call grows with the number of keys stored.
//!
//! The store decides nothing about permissions; it keeps the rules of a key's life (pending, active, tombstone), which
//! must hold under concurrent calls.

mod backend;
pub mod backup;
pub mod devices;
pub(crate) mod life;
pub mod memory;
pub mod names;
pub mod postgres;
pub mod sqlite;

use std::{
    error::Error,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use eds_core::{
    api::KeyState,
    ids::{Epoch, KeyId, NodeId},
};

pub use self::{
    backend::{create, discard, exists, open, open_current},
    devices::{DeviceCounter, DeviceStore, StoredDevice},
    names::{NameStore, NewName, StoredName},
};
use crate::shares::Voucher;

/// The SHA-256 digest of a registrant, as `eds_core::registrant` computes it.
pub type RegistrantDigest = [u8; 32];

/// The `CKA_ID` of a KEK.
pub type KekId = [u8; 16];

/// A KEK, as the database knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kek {
    /// Its id.
    pub id: KekId,
    /// What it is for.
    pub state: KekState,
    /// How many uses were reserved: it encrypted so often at most.
    pub uses: u64,
    /// A record that opens with it alone.
    pub canary: Vec<u8>,
    /// Since when it is in this state, in seconds since 1970.
    pub since: u64,
}

/// What a KEK is for. Nothing leads back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KekState {
    /// It wraps new records. There is one.
    Active,
    /// It opens records that it wrapped before.
    ReadOnly,
    /// No record names it.
    Retired,
}

impl KekState {
    /// The state, in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ReadOnly => "read-only",
            Self::Retired => "retired",
        }
    }

    const fn code(self) -> i64 {
        match self {
            Self::Active => 0,
            Self::ReadOnly => 1,
            Self::Retired => 2,
        }
    }

    fn of_code(code: i64) -> Option<Self> {
        [Self::Active, Self::ReadOnly, Self::Retired].into_iter().find(|state| state.code() == code)
    }
}

/// What became of a change of KEKs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KekChanged {
    /// It is as was asked.
    Done,
    /// The database knows no such KEK.
    Missing,
    /// It is in this state, from which it cannot go where was asked.
    Refused(KekState),
    /// So many records name it still.
    StillWraps(u64),
}

/// What a database was made for; written once, by `eds-keystored init`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// The canary record: opens with the active KEK.
    pub canary: Vec<u8>,
    /// The canary of the policy key.
    pub policy_canary: Vec<u8>,
}

/// One registration: who, which, and a digest of what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Who registers.
    pub registrant: RegistrantDigest,
    /// The id that the registrant chose.
    pub id: [u8; 16],
    /// SHA-256 over the manifests: the same registration has the same content.
    pub content: [u8; 32],
    /// The counter of the imaging device that made the key, if one did: there is one key then.
    pub counter: Option<DeviceCounter>,
    /// Seconds since 1970.
    pub at: u64,
}

/// A key to store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewKey {
    /// The key.
    pub key: KeyId,
    /// The generation of its share.
    pub epoch: Epoch,
    /// The manifest, as it came.
    pub manifest: Vec<u8>,
    /// Its digest.
    pub manifest_digest: [u8; 32],
    /// The wrapped share.
    pub record: Vec<u8>,
    /// The access list and its HMAC.
    pub access: StoredAccess,
    /// What its registrant calls it.
    pub name: Option<NewName>,
}

/// An access list as it is stored, with its HMAC by the token's policy key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredAccess {
    /// The list, encoded.
    pub list: Vec<u8>,
    /// The HMAC, and after it the voucher, if there is one.
    pub mac: Vec<u8>,
}

impl StoredAccess {
    /// A list with its HMAC, that nothing else vouches for.
    pub fn new(list: Vec<u8>, mac: &[u8; 32]) -> Self {
        Self { list, mac: mac.to_vec() }
    }

    /// The HMAC by the policy key.
    pub fn hmac(&self) -> Option<&[u8; 32]> {
        match self.mac.as_chunks() {
            ([hmac] | [hmac, _], []) => Some(hmac),
            _ => None,
        }
    }

    /// The voucher of the data key of the share.
    pub fn voucher(&self) -> Option<&Voucher> {
        match self.mac.as_chunks() {
            ([_, voucher], []) => Some(voucher),
            _ => None,
        }
    }

    /// The same list with this voucher, in the place of any other; the data key may vouch for none.
    #[must_use]
    pub fn vouched(mut self, voucher: Option<Voucher>) -> Self {
        self.mac.truncate(32);
        self.mac.extend(voucher.iter().flatten());
        self
    }
}

/// What is stored of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredKey {
    /// The key.
    pub key: KeyId,
    /// Where it is in its life.
    pub state: KeyState,
    /// Who registered it.
    pub registrant: RegistrantDigest,
    /// The digest of its manifest; kept by a tombstone.
    pub manifest_digest: [u8; 32],
    /// All but this is wiped when the key is deleted.
    pub body: Option<StoredBody>,
}

/// What a tombstone no longer has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredBody {
    /// The generation of the share.
    pub epoch: Epoch,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The wrapped share.
    pub record: Vec<u8>,
    /// The access list.
    pub access: StoredAccess,
}

/// What a listing needs of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The key.
    pub key: KeyId,
    /// Where it is in its life.
    pub state: KeyState,
    /// Who registered it.
    pub registrant: RegistrantDigest,
    /// The access list; a tombstone has none.
    pub access: Option<StoredAccess>,
}

/// How many keys there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Stored and not confirmed.
    pub pending: u64,
    /// In use.
    pub active: u64,
    /// Deleted, for ever.
    pub tombstones: u64,
}

impl Counts {
    fn of(counted: impl IntoIterator<Item = (KeyState, i64)>) -> Self {
        let mut counts = Self::default();
        for (state, keys) in counted {
            let count = match state {
                KeyState::Pending => &mut counts.pending,
                KeyState::Active => &mut counts.active,
                KeyState::Tombstone => &mut counts.tombstones,
            };
            // Less than none can be counted by an altered database alone.
            *count = u64::try_from(keys).unwrap_or(0);
        }
        counts
    }
}

/// What became of a registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Registered {
    /// All keys were stored, as pending.
    Stored,
    /// The same registration came before; these are the states of its keys now, in order.
    Before(Vec<KeyState>),
    /// The registrant used this registration id for something else.
    IdTaken,
    /// This key exists already, from another registration, and was not touched.
    KeyExists(KeyId),
    /// This key was deleted, and cannot come back.
    KeyDeleted(KeyId),
    /// The device used this counter for that key before.
    CounterUsed(KeyId),
    /// The name of this key is that of another one.
    NameTaken(KeyId),
    /// The records are not all wrapped by the active KEK: wrap them by that one. Nothing was stored.
    OtherKek,
}

/// What became of a change to one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// The key is in this state now, as was asked.
    Done(KeyState),
    /// There is no such key.
    Missing,
    /// Somebody else registered the key.
    NotRegistrant,
    /// The key is in this state, from which it cannot go where was asked.
    Refused(KeyState),
    /// The key is no longer as the caller saw it.
    Stale,
    /// The new records are not all wrapped by the active KEK, and none of them was taken.
    OtherKek,
}

/// Keeps the shares of a node. One suite of tests holds for every implementation.
pub trait ShareStore: DeviceStore + NameStore + Send + Sync {
    /// What the database was made for.
    ///
    /// # Errors
    /// [`StoreError`].
    fn origin(&self) -> Result<Origin, StoreError>;

    /// Stores keys as pending: all or none. The same registration again is [`Registered::Before`]. Every record must be
    /// wrapped by the KEK that is active at that moment, whatever another process does meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was stored then, or all was and the answer got lost: ask again.
    fn register(&self, registration: &Registration, keys: &[NewKey]) -> Result<Registered, StoreError>;

    /// Reads keys, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, keys: &[KeyId]) -> Result<Vec<Option<StoredKey>>, StoreError>;

    /// Pending keys become active; active ones stay so. Only for their registrant.
    ///
    /// # Errors
    /// [`StoreError`].
    fn confirm(&self, keys: &[KeyId], by: &RegistrantDigest, at: u64) -> Result<Vec<Changed>, StoreError>;

    /// Pending keys become tombstones, and their names are free; tombstones stay so. Only for their registrant.
    ///
    /// # Errors
    /// [`StoreError`].
    fn withdraw(&self, keys: &[KeyId], by: &RegistrantDigest, at: u64) -> Result<Vec<Changed>, StoreError>;

    /// Keys, tombstones included, in the order of their ids, after this one, at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    fn page(&self, after: Option<KeyId>, most: usize) -> Result<Vec<Listed>, StoreError>;

    /// Deletes keys whose access list is still the one that the caller saw: share, access list, manifest and name are wiped.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete(&self, keys: &[(KeyId, StoredAccess)], at: u64) -> Result<Vec<Changed>, StoreError>;

    /// Puts other access lists in the place of those that the caller saw: compare and swap, each key for itself.
    ///
    /// # Errors
    /// [`StoreError`].
    fn change_access(&self, changes: &[AccessChange], at: u64) -> Result<Vec<Changed>, StoreError>;

    /// Puts other records, with their manifests, in the place of those that the caller saw, each key for itself. For
    /// re-wrapping under a new KEK, and for refreshed shares. The new records are held to the active KEK as in
    /// [`ShareStore::register`].
    ///
    /// # Errors
    /// [`StoreError`].
    fn replace(&self, replacements: &[Replacement], at: u64) -> Result<Vec<Changed>, StoreError>;

    /// The next keys, in the order of their places, whose records are wrapped by this KEK: for re-wrapping, step by step.
    /// A KEK that wraps nothing gives none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn wrapped_by(&self, kek: &KekId, after: Option<&Place>, limit: usize) -> Result<Vec<Place>, StoreError>;

    /// How many records are wrapped by this KEK. Its cost grows with that number: for officers, not for requests.
    ///
    /// # Errors
    /// [`StoreError`].
    fn count_wrapped_by(&self, kek: &KekId) -> Result<u64, StoreError>;

    /// Every KEK that the database ever had, in the order in which they were made.
    ///
    /// # Errors
    /// [`StoreError`].
    fn keks(&self) -> Result<Vec<Kek>, StoreError>;

    /// Makes the KEK of this canary record the active one; the one that was becomes read-only. One that is known already
    /// is [`KekChanged::Refused`].
    ///
    /// # Errors
    /// [`StoreError`].
    fn begin_kek(&self, canary: &[u8], at: u64) -> Result<KekChanged, StoreError>;

    /// Retires a KEK that no record names. One that is retired stays so.
    ///
    /// # Errors
    /// [`StoreError`].
    fn retire_kek(&self, kek: &KekId, at: u64) -> Result<KekChanged, StoreError>;

    /// Counts so many uses of a KEK, before they are made, and returns how many there are then; none, with nothing
    /// counted, when it would be more than `most`, or there is no such KEK.
    ///
    /// # Errors
    /// [`StoreError`]; they may be counted then.
    fn reserve_uses(&self, kek: &KekId, uses: u64, most: u64) -> Result<Option<u64>, StoreError>;

    /// How many keys there are. It costs the same however many there are.
    ///
    /// # Errors
    /// [`StoreError`].
    fn counts(&self) -> Result<Counts, StoreError>;

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`StoreError`].
    fn ping(&self) -> Result<(), StoreError>;
}

/// Where a record stands among those of its KEK: those that one data key sealed stand together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// What tells wrapped data keys apart: the first bytes of the nonce or IV.
    pub data_key: Vec<u8>,
    /// The key whose record it is.
    pub key: KeyId,
}

/// Another access list for one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessChange {
    /// The key.
    pub key: KeyId,
    /// The list that the caller saw.
    pub seen: StoredAccess,
    /// The list to be put in its place.
    pub new: StoredAccess,
}

/// Another record for one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replacement {
    /// The key.
    pub key: KeyId,
    /// The record that the caller saw.
    pub seen: Vec<u8>,
    /// The generation of the new share.
    pub epoch: Epoch,
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// The digest of its manifest.
    pub manifest_digest: [u8; 32],
    /// The new share, wrapped.
    pub record: Vec<u8>,
}

/// The store cannot be used, or did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database did not do it.
    #[error("the database {database} failed")]
    Database {
        /// Which.
        database: String,
        /// Whether the same call may work later without anybody doing anything.
        may_pass: bool,
        /// What it said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The database is not what it must be.
    #[error("the database {database}: {reason}")]
    Setup {
        /// Which.
        database: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same call may work later without anybody doing anything.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Database { may_pass: true, .. })
    }
}

/// The schema version that this release writes.
pub const SCHEMA: u32 = sqlite::schema::VERSION;

/// Where the id of the KEK stands in every record, whatever its suite (docs/keystore.md, "Stored bytes").
const KEK_IN_RECORD: std::ops::Range<usize> = 3..19;
/// Where what tells wrapped data keys apart stands: nonce or IV of the wrapped data key, as far as both suites have it.
const DATA_KEY_IN_RECORD: std::ops::Range<usize> = 19..31;

/// How many uses are counted of a KEK at a restore, on top of those in the backup: what was wrapped after the backup is
/// not known to it.
const USES_AFTER_BACKUP: i64 = 1 << 28;

/// The KEK that a record names.
pub fn kek_of(record: &[u8]) -> Option<KekId> {
    record.get(KEK_IN_RECORD)?.try_into().ok()
}

/// Where the record of this key stands among those of its KEK.
fn place_of(key: KeyId, record: &[u8]) -> Place {
    let range = DATA_KEY_IN_RECORD.start.min(record.len())..DATA_KEY_IN_RECORD.end.min(record.len());
    Place { data_key: record.get(range).unwrap_or_default().to_vec(), key }
}

/// The active KEK of a database; none when it does not answer, or is of an older schema.
pub fn active_kek(store: &dyn ShareStore) -> Option<KekId> {
    store.keks().ok()?.into_iter().find(|kek| kek.state == KekState::Active).map(|kek| kek.id)
}

/// Whether all of these records name this KEK.
fn all_wrapped_by<'a>(active: Option<KekId>, mut records: impl Iterator<Item = &'a [u8]>) -> bool {
    active.is_some_and(|active| records.all(|record| kek_of(record) == Some(active)))
}

/// The time, for what a store does by itself.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The KEK of a new database's canary; else what is wrong.
fn kek_of_canary(canary: &[u8]) -> Result<KekId, String> {
    kek_of(canary).ok_or_else(|| "was to be made with a canary that is no record".to_owned())
}

#[cfg(test)]
mod tests;
