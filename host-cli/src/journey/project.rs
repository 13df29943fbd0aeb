//! The key of a project: made at the first registration into a metadata database, kept by the key servers like every
//! other key, and the source of replacement UIDs, pseudonyms and date shifts, so that images of a project stay consistent.

use std::cell::OnceCell;

use super::{Nodes, encode, recorded};
use crate::{
    Error, catalog,
    dicom::ProjectSecret,
    keystore::{NewKey, NodeError, Terms, Want},
    metadata::{Metadata, ProjectKey},
};

/// The purpose of a key that replaces UIDs and patients.
const PURPOSE_UID: &str = "uid";

/// The secret of a session, fetched once.
#[derive(Default)]
pub(super) struct Project(OnceCell<ProjectSecret>);

impl Project {
    /// The secret, fetched or made when it is first asked for; nodes that need attention are added to `warnings`.
    pub(super) fn secret(
        &self,
        nodes: &Nodes,
        metadata: &Metadata,
        terms: Terms,
        warnings: &mut Vec<NodeError>,
    ) -> Result<&ProjectSecret, Error> {
        if let Some(key) = self.0.get() {
            return Ok(key);
        }
        let key = match metadata.project_key()? {
            Some(project) => fetch(nodes, &project, warnings)?,
            None => make(nodes, metadata, terms, warnings)?,
        };
        Ok(self.0.get_or_init(|| key))
    }
}

fn fetch(nodes: &Nodes, project: &ProjectKey, warnings: &mut Vec<NodeError>) -> Result<ProjectSecret, Error> {
    let (fetched, culprits) = nodes.fetch_all(&[Want { key: project.key, evidence: recorded(&project.manifest)? }])?;
    warnings.extend(culprits);
    let fetched = fetched.first().ok_or(Error::NothingFetched)?;
    Ok(ProjectSecret::new(*fetched.secret.input_key(PURPOSE_UID, project.key).as_bytes()))
}

fn make(
    nodes: &Nodes,
    metadata: &Metadata,
    terms: Terms,
    warnings: &mut Vec<NodeError>,
) -> Result<ProjectSecret, Error> {
    let key = NewKey::random();
    let prepared = nodes.keystore().prepare(std::slice::from_ref(&key), terms)?;
    let manifest = prepared.manifest(key.id).cloned();
    let registered = nodes.register(prepared)?;
    let manifest = manifest.as_ref().map(encode).transpose()?.unwrap_or_default();
    warnings.extend(registered.unconfirmed);
    match metadata.set_project_key(&ProjectKey { key: key.id, manifest }) {
        Ok(()) => Ok(ProjectSecret::new(*key.secret.input_key(PURPOSE_UID, key.id).as_bytes())),
        Err(error) => {
            warnings.extend(nodes.unregister(&[key.id]));
            match (error, metadata.project_key()?) {
                // Another process was first: its key is the project's.
                (catalog::Error::OtherProjectKey, Some(project)) => fetch(nodes, &project, warnings),
                (error, _) => Err(error.into()),
            }
        }
    }
}
