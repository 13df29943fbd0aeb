//! The keys of a run: a pair for each image, or one that the images of a series or a study share.
//!
//! A new pair is split in memory before any server is asked. A series or study that has keys from before goes on under
//! them, if the caller may fetch them; otherwise the new images get keys of their own, and that is said.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use eds_core::{ids::KeyId, manifest::Manifest, sharing::FileSecret};

use super::super::{Nodes, encode, recorded};
use crate::{
    Error,
    error::Kind,
    keystore::{Fetched, NewKey, NodeError, Prepared, RegisterError, Terms, Want},
    metadata::{GroupKeys, KeyScope, Metadata, ProjectKey},
};

/// A key that containers are written under.
pub(super) struct SealingKey {
    pub(super) id: KeyId,
    pub(super) secret: FileSecret,
    pub(super) manifest: Manifest,
    /// The bytes of the manifest.
    pub(super) encoded: Vec<u8>,
}

/// The keys of an image, or of several.
pub(super) struct Pair {
    pub(super) image: SealingKey,
    /// None for a file that is not looked into.
    pub(super) private: Option<SealingKey>,
    /// What is to be registered before anything under these keys counts.
    new: Mutex<Option<New>>,
}

/// Keys that no server holds yet.
pub(super) struct New {
    pub(super) prepared: Prepared,
    pub(super) group: Option<GroupKeys>,
}

impl Pair {
    /// What is to be registered, for the first who asks.
    pub(super) fn take_new(&self) -> Option<New> {
        self.new.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The keys of a run.
pub(super) struct Keys<'a> {
    nodes: &'a Nodes,
    metadata: &'a Metadata,
    terms: Terms,
    scope: KeyScope,
    groups: Mutex<HashMap<String, Arc<Pair>>>,
    warnings: Mutex<Vec<NodeError>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(nodes: &'a Nodes, metadata: &'a Metadata, terms: Terms, scope: KeyScope) -> Self {
        Self { nodes, metadata, terms, scope, groups: Mutex::default(), warnings: Mutex::default() }
    }

    /// The keys of an image of this study and series.
    pub(super) fn of_image(&self, study: Option<&str>, series: Option<&str>) -> Result<Arc<Pair>, Error> {
        let name = match self.scope {
            KeyScope::Image => None,
            KeyScope::Series => series,
            KeyScope::Study => study,
        };
        let Some(name) = name else { return self.fresh(None, true).map(Arc::new) };
        // Held while the keys are fetched or made: the others would need the same.
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = groups.get(name) {
            return Ok(Arc::clone(pair));
        }
        let pair = match self.metadata.group_keys(self.scope, name)? {
            Some(group) => match self.fetched(&group) {
                Err(Error::Fetch(error)) if error.kind() == Kind::Denied => self.fresh(None, true)?,
                pair => pair?,
            },
            None => self.fresh(Some(name), true)?,
        };
        let pair = Arc::new(pair);
        groups.insert(name.into(), Arc::clone(&pair));
        Ok(pair)
    }

    /// The key of a file that is not looked into.
    pub(super) fn of_file(&self) -> Result<Arc<Pair>, Error> {
        self.fresh(None, false).map(Arc::new)
    }

    pub(super) fn into_warnings(self) -> Vec<NodeError> {
        self.warnings.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, group: Option<&str>, with_private: bool) -> Result<Pair, Error> {
        let count = if with_private { 2 } else { 1 };
        let keys: Vec<NewKey> = (0..count).map(|_| NewKey::random()).collect();
        let prepared = self.nodes.keystore().prepare(&keys, self.terms)?;
        let mut sealing = keys.into_iter().map(|key| SealingKey::new(key, &prepared));
        let image = sealing.next().ok_or(RegisterError::Core(eds_core::Error::Mismatch))??;
        let private = sealing.next().transpose()?;
        drop(sealing);
        let group = group.zip(private.as_ref()).map(|(name, private)| GroupKeys {
            scope: self.scope,
            name: name.into(),
            image: image.for_record(),
            private: private.for_record(),
        });
        Ok(Pair { image, private, new: Mutex::new(Some(New { prepared, group })) })
    }

    fn fetched(&self, group: &GroupKeys) -> Result<Pair, Error> {
        let keys = [&group.image, &group.private];
        let want = |key: &&ProjectKey| Ok::<_, Error>(Want { key: key.key, evidence: recorded(&key.manifest)? });
        let wants = keys.iter().map(want).collect::<Result<Vec<_>, _>>()?;
        let (fetched, culprits) = self.nodes.fetch_all(&wants)?;
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(culprits);
        let sealing = |(key, fetched): (&ProjectKey, Fetched)| {
            let manifest = Manifest::decode(&key.manifest).map_err(Error::RecordedManifest)?;
            Ok::<_, Error>(SealingKey { id: key.key, secret: fetched.secret, manifest, encoded: key.manifest.clone() })
        };
        let mut sealing = keys.into_iter().zip(fetched).map(sealing);
        let image = sealing.next().ok_or(Error::NothingFetched)??;
        let private = sealing.next().ok_or(Error::NothingFetched)??;
        drop(sealing);
        Ok(Pair { image, private: Some(private), new: Mutex::new(None) })
    }
}

impl SealingKey {
    fn new(key: NewKey, prepared: &Prepared) -> Result<Self, Error> {
        let manifest = prepared.manifest(key.id).ok_or(RegisterError::Core(eds_core::Error::Mismatch))?.clone();
        Ok(Self { id: key.id, secret: key.secret, encoded: encode(&manifest)?, manifest })
    }

    fn for_record(&self) -> ProjectKey {
        ProjectKey { key: self.id, manifest: self.encoded.clone() }
    }
}
