//! What a node keeps of the names of keys: each name once, authenticated like access lists.
//!
//! A name is stored with its key, in the transaction of [`super::ShareStore::register`], and goes with it: when the key is
//! deleted or taken back, its name is wiped and free for another key. The id of the key never is.

use eds_core::{api::name::KeyName, ids::KeyId};

use crate::store::StoreError;

/// The name of a new key, with its HMAC by the token's policy key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewName {
    /// The name.
    pub name: KeyName,
    /// The HMAC.
    pub mac: Vec<u8>,
}

/// The key of a name, as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredName {
    /// The key.
    pub key: KeyId,
    /// The HMAC.
    pub mac: Vec<u8>,
}

/// Keeps names.
pub trait NameStore {
    /// The keys of names, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn named(&self, names: &[KeyName]) -> Result<Vec<Option<StoredName>>, StoreError>;
}
