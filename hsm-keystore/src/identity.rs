//! The node's identity file, which `eds-keystored init` writes and officers hand to `eds cluster add`.
//!
//! Everything in it is public: the node's id, the public keys that shares are sealed to and that sign audit checkpoints, and
//! what it can open.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64ct::{Base64, Encoding};
use eds_core::{directory::SUITE_P256_AES256GCM, ids::NodeId, manifest::Point};
use serde::{Deserialize, Serialize};

use crate::whole_file;

/// Who this node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its id.
    pub node: NodeId,
    /// The public key that shares are sealed to.
    pub transport_key: Point,
    /// The public key that signs checkpoints of the audit log.
    pub audit_key: Point,
    /// The sealing suites it can open.
    pub suites: Vec<u16>,
}

/// An identity file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error(
        "identity file {file}\nhint: `eds-keystored init` writes it once; it must not exist before, and not be lost after"
    )]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what `init` wrote.
    #[error(
        "identity file {file}: not as `eds-keystored init` wrote it\nhint: restore the file; its content is public, the cluster directory has it too"
    )]
    Malformed {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    node: String,
    transport_key: String,
    audit_key: String,
    suites: Vec<u16>,
}

impl Identity {
    /// The identity of a new node.
    pub fn new(node: NodeId, transport_key: Point, audit_key: Point) -> Self {
        Self { node, transport_key, audit_key, suites: vec![SUITE_P256_AES256GCM] }
    }

    /// Reads an identity file.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(file: &Path) -> Result<Self, IdentityError> {
        let text = fs::read_to_string(file).map_err(|source| IdentityError::Io { file: file.to_owned(), source })?;
        Self::parse(&text).ok_or_else(|| IdentityError::Malformed { file: file.to_owned() })
    }

    fn parse(text: &str) -> Option<Self> {
        let text: Text = serde_json::from_str(text).ok()?;
        let point = |text: &str| {
            let mut point = [0; 33];
            let decoded = Base64::decode(text, &mut point).ok()?;
            (decoded.len() == 33).then_some(Point(point))
        };
        Some(Self {
            node: text.node.parse().ok()?,
            transport_key: point(&text.transport_key)?,
            audit_key: point(&text.audit_key)?,
            suites: text.suites,
        })
    }

    /// Writes a new identity file: whole or not at all, and never over another.
    ///
    /// # Errors
    /// [`IdentityError::Io`], also when the file exists.
    pub fn create(&self, file: &Path) -> Result<(), IdentityError> {
        let text = Text {
            node: self.node.to_string(),
            transport_key: Base64::encode_string(&self.transport_key.0),
            audit_key: Base64::encode_string(&self.audit_key.0),
            suites: self.suites.clone(),
        };
        let write = || {
            let mut text = serde_json::to_string_pretty(&text).map_err(io::Error::other)?;
            text.push('\n');
            whole_file::create(file, text.as_bytes(), 0o644)
        };
        write().map_err(|source| IdentityError::Io { file: file.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_once_and_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("node.json");
        let identity = Identity::new(NodeId::from_bytes([3; 16]), Point([2; 33]), Point([3; 33]));
        identity.create(&file).expect("written");
        assert_eq!(Identity::load(&file).expect("read"), identity);
        let other = Identity::new(NodeId::from_bytes([4; 16]), Point([2; 33]), Point([3; 33]));
        assert!(matches!(other.create(&file), Err(IdentityError::Io { .. })));
        assert_eq!(Identity::load(&file).expect("read"), identity);
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1, "a draft was left");
        for wrong in ["", "{}", "{\"node\":\"x\",\"transport_key\":\"AA==\",\"audit_key\":\"AA==\",\"suites\":[1]}"] {
            fs::write(&file, wrong).expect("written");
            assert!(matches!(Identity::load(&file), Err(IdentityError::Malformed { .. })), "{wrong}");
        }
    }
}
