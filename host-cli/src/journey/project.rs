//! The keys of a project: made at the first registration into a metadata database, and kept by the key servers like every
//! other key, each with an access list of its own.
//!
//! One replaces UIDs, patients and days, so that images of a project stay consistent, and tells images apart; the other
//! makes the tokens that images are searched by. Who may not fetch the second cannot search by patient.

use eds_core::{ids::KeyId, sharing::FileSecret};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Nodes, encode, recorded};
use crate::{
    Error, catalog,
    dicom::ProjectSecret,
    keystore::{Evidence, FetchError, NewKey, NodeError, Terms, Want},
    metadata::{Metadata, ProjectKey, Role, blind::SearchKey},
};

/// The purpose of a key that replaces UIDs and patients.
const PURPOSE_UID: &str = "uid";
/// The purpose of a key that tells images apart.
const PURPOSE_IDENTITY: &str = "identity";
/// The purpose of a key that images are searched by.
const PURPOSE_SEARCH: &str = "search";

/// What registering needs of a project.
pub(super) struct ProjectKeys {
    pub(super) secret: ProjectSecret,
    pub(super) identity: IdentityKey,
    pub(super) search: SearchKey,
}

/// Makes the tokens that tell images apart.
pub(super) struct IdentityKey(Zeroizing<[u8; 32]>);

impl IdentityKey {
    /// Of an image: its original SOP Instance UID decides.
    pub(super) fn of_image(&self, sop_instance: &str) -> [u8; 32] {
        self.token(b"image\0", sop_instance.as_bytes())
    }

    /// Of a file that has no such UID: its content decides.
    pub(super) fn of_content(&self, sha256: &[u8; 32]) -> [u8; 32] {
        self.token(b"file\0", sha256)
    }

    /// By which equal contents are recognised. The digest itself would let anybody who has the database try originals out.
    pub(super) fn digest(&self, sha256: &[u8; 32]) -> [u8; 32] {
        self.token(b"digest\0", sha256)
    }

    fn token(&self, label: &[u8], value: &[u8]) -> [u8; 32] {
        #[expect(clippy::unwrap_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).unwrap();
        mac.update(b"eds/v1/identity\0");
        mac.update(label);
        mac.update(value);
        mac.finalize().into_bytes().into()
    }
}

impl ProjectKeys {
    /// The keys, fetched or made when they are first asked for; nodes that need attention are added to `warnings`.
    pub(super) fn open(
        nodes: &Nodes,
        metadata: &Metadata,
        terms: Terms,
        warnings: &mut Vec<NodeError>,
    ) -> Result<Self, Error> {
        let (uid, secret) = secret(nodes, metadata, Role::Uid, terms, warnings)?;
        let purpose = |purpose| Zeroizing::new(*secret.input_key(purpose, uid).as_bytes());
        let (replacing, identity) = (purpose(PURPOSE_UID), purpose(PURPOSE_IDENTITY));
        let (search, secret) = self::secret(nodes, metadata, Role::Search, terms, warnings)?;
        Ok(Self {
            secret: ProjectSecret::new(*replacing),
            identity: IdentityKey(identity),
            search: SearchKey::new(*secret.input_key(PURPOSE_SEARCH, search).as_bytes()),
        })
    }
}

/// The key that tells images apart, of a project that has one.
#[cfg(feature = "gateway")]
pub(super) fn identity_key(
    nodes: &Nodes,
    metadata: &Metadata,
    warnings: &mut Vec<NodeError>,
) -> Result<Option<IdentityKey>, Error> {
    let Some(project) = metadata.project_key(Role::Uid)? else { return Ok(None) };
    let secret = fetch(nodes, &project, Role::Uid, warnings)?;
    Ok(Some(IdentityKey(Zeroizing::new(*secret.input_key(PURPOSE_IDENTITY, project.key).as_bytes()))))
}

/// The search key of a project that has one.
pub(super) fn search_key(
    nodes: &Nodes,
    metadata: &Metadata,
    warnings: &mut Vec<NodeError>,
) -> Result<Option<SearchKey>, Error> {
    let Some(project) = metadata.project_key(Role::Search)? else { return Ok(None) };
    let secret = fetch(nodes, &project, Role::Search, warnings)?;
    Ok(Some(SearchKey::new(*secret.input_key(PURPOSE_SEARCH, project.key).as_bytes())))
}

/// Makes a metadata database take part in the project of these keys, which the caller must be able to fetch.
///
/// # Errors
/// [`Error::OtherProject`] when it has other ones, [`Error::ProjectKey`] when one cannot be fetched; then nothing is changed.
pub fn join(nodes: &Nodes, metadata: &Metadata, keys: &[(Role, KeyId)]) -> Result<Vec<NodeError>, Error> {
    let mut warnings = Vec::new();
    let mut fetched = Vec::new();
    for (role, key) in keys.iter().copied() {
        if let Some(there) = metadata.project_key(role)?.filter(|there| there.key != key) {
            return Err(Error::OtherProject { role, key: there.key });
        }
        // Nothing else is known of the key here: enough nodes must agree about it.
        let want = Want { key, evidence: Evidence::Agreement };
        let (mut found, culprits) = nodes.fetch_all(&[want]).map_err(|error| match error {
            Error::Fetch(source) => Error::ProjectKey { role, key, source },
            other => other,
        })?;
        warnings.extend(culprits);
        let manifest = encode(&found.pop().ok_or(Error::NothingFetched)?.manifest)?;
        fetched.push((role, ProjectKey { key, manifest }));
    }
    for (role, project) in fetched {
        metadata.set_project_key(role, &project)?;
    }
    Ok(warnings)
}

fn secret(
    nodes: &Nodes,
    metadata: &Metadata,
    role: Role,
    terms: Terms,
    warnings: &mut Vec<NodeError>,
) -> Result<(KeyId, FileSecret), Error> {
    match metadata.project_key(role)? {
        Some(project) => Ok((project.key, fetch(nodes, &project, role, warnings)?)),
        None => make(nodes, metadata, role, terms, warnings),
    }
}

fn fetch(nodes: &Nodes, project: &ProjectKey, role: Role, warnings: &mut Vec<NodeError>) -> Result<FileSecret, Error> {
    let want = Want { key: project.key, evidence: recorded(&project.manifest)? };
    let refused = |source: FetchError| Error::ProjectKey { role, key: project.key, source };
    let (mut fetched, culprits) = nodes.fetch_all(&[want]).map_err(|error| match error {
        Error::Fetch(source) => refused(source),
        other => other,
    })?;
    warnings.extend(culprits);
    fetched.pop().map(|fetched| fetched.secret).ok_or(Error::NothingFetched)
}

fn make(
    nodes: &Nodes,
    metadata: &Metadata,
    role: Role,
    terms: Terms,
    warnings: &mut Vec<NodeError>,
) -> Result<(KeyId, FileSecret), Error> {
    let key = NewKey::random();
    let prepared = nodes.keystore().prepare(std::slice::from_ref(&key), terms)?;
    let manifest = prepared.manifest(key.id).cloned();
    let registered = nodes.register(prepared)?;
    let manifest = manifest.as_ref().map(encode).transpose()?.unwrap_or_default();
    warnings.extend(registered.unconfirmed);
    match metadata.set_project_key(role, &ProjectKey { key: key.id, manifest }) {
        Ok(()) => Ok((key.id, key.secret)),
        Err(error) => {
            warnings.extend(nodes.unregister(&[key.id]));
            match (error, metadata.project_key(role)?) {
                // Another process was first: its key is the project's.
                (catalog::Error::OtherProjectKey, Some(project)) => {
                    Ok((project.key, fetch(nodes, &project, role, warnings)?))
                }
                (error, _) => Err(error.into()),
            }
        }
    }
}
