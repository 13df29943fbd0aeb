//! The audit logs of the nodes, seen from outside: for an auditor who has no access to their machines.
//!
//! What a node's audit key signed is believed only under the key that the pinned cluster directory has for it. The last
//! checkpoint that was seen of each node is kept ([`Seen`]): a node that later shows a head which does not continue it has
//! changed, dropped or forked its log, and both signed heads together prove that to anybody.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use eds_audit::{
    checkpoint::{self, Checkpoint, Verifier},
    log::Reader,
    tree::verify_consistency,
};
use eds_core::directory::{Directory, Node};

use crate::{
    error::Kind,
    keystore::{Keystore, NodeFault, Transport},
    output::{self, Existing, OutputFile},
};

/// A verification that failed, or found something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node whose directory entry has no usable audit key.
    #[error("the cluster directory has no usable audit key for node {0}")]
    NoKey(u16),
    /// No active node of that number.
    #[error("the cluster directory has no node {0}")]
    NoNode(u16),
    /// A log that is not of a node of the cluster.
    #[error("{} is not the audit log of a node of this cluster", .0.display())]
    UnknownLog(PathBuf),
    /// A file or directory that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The checkpoint that was kept is damaged.
    #[error("{}: not a checkpoint that this client kept", .0.display())]
    Kept(PathBuf),
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] output::Error),
    /// Something is wrong with at least one log; all of it was printed.
    #[error("the audit log of {0} node(s) is not in order")]
    NotInOrder(usize),
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoKey(_) | Self::NoNode(_) | Self::UnknownLog(_) => Kind::Usage,
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Kept(_) | Self::NotInOrder(_) => Kind::Damaged,
            Self::Write(error) => error.kind(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoKey(_) => "the officers add the node again with its identity file: eds cluster add",
            Self::NoNode(_) => "eds cluster show lists the nodes",
            Self::UnknownLog(_) => "give the directory with the .eda files; eds cluster show lists the nodes",
            Self::Kept(_) => "take it back from a copy; without it, changes from before now are not found",
            Self::NotInOrder(_) => "keep what was printed and the files that it names, and tell the other officers",
            Self::Write(error) => return error.hint(),
            Self::Read { .. } => return None,
        };
        Some(text.into())
    }
}

/// The checkpoints that were seen before.
pub struct Seen(PathBuf);

/// What a node's head is to the one that was seen before.
#[derive(Debug)]
pub enum Verdict {
    /// None was seen before.
    First(Checkpoint),
    /// It continues the one that was seen, by a proof.
    Continues {
        /// The size that was seen.
        from: u64,
        /// The head.
        head: Checkpoint,
    },
    /// The node's key signed two heads that exclude each other.
    Contradicts {
        /// The head that was seen.
        seen: Checkpoint,
        /// The head that is shown now.
        head: Checkpoint,
        /// Where the notes of both are.
        evidence: [PathBuf; 2],
    },
}

impl Seen {
    /// Those of this state directory.
    pub fn of(state: &Path) -> Self {
        Self(state.join("audit"))
    }

    /// The file of the last checkpoint of a node, which need not exist.
    pub fn file(&self, node: &Node) -> PathBuf {
        self.0.join(format!("{}.note", node.id))
    }

    /// The last checkpoint of a node.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Kept`].
    pub fn last(&self, node: &Node, verifier: &Verifier) -> Result<Option<Checkpoint>, Error> {
        let path = self.file(node);
        match fs::read_to_string(&path) {
            Ok(note) => verifier.open(&note).map(Some).map_err(|_| Error::Kept(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Keeps the last checkpoint of a node.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn keep(&self, node: &Node, note: &str) -> Result<(), Error> {
        self.write(&self.file(node), note)
    }

    fn keep_evidence(&self, node: &Node, head: &Checkpoint, note: &str) -> Result<PathBuf, Error> {
        let root = head.root.iter().take(4).fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let path = self.0.join(format!("{}.contradicts-{}-{root}.note", node.id, head.size));
        self.write(&path, note)?;
        Ok(path)
    }

    fn write(&self, path: &Path, note: &str) -> Result<(), Error> {
        output::make_private_directory(&self.0)?;
        let output = OutputFile::create(path, Existing::Replace)?;
        output.file().write_all(note.as_bytes()).map_err(output::Error::writing(path))?;
        Ok(output.finish()?)
    }
}

/// What checks the checkpoints of a node: its audit key in the cluster directory.
///
/// # Errors
/// [`Error::NoKey`].
pub fn verifier(node: &Node) -> Result<Verifier, Error> {
    let verifier = node.audit_key.as_ref().and_then(|key| Verifier::new(&checkpoint::origin(&node.id), key));
    verifier.ok_or_else(|| Error::NoKey(node.number.value()))
}

/// The node whose log lies in this directory.
///
/// # Errors
/// [`Error::Read`], [`Error::UnknownLog`].
pub fn node_of_log<'a>(log: &Path, directory: &'a Directory) -> Result<&'a Node, Error> {
    let mut reader = Reader::open(log, None).map_err(|source| Error::Read { path: log.into(), source })?;
    // The first header tells, also when the entries after it are damaged.
    let _ = reader.read(|_| ());
    let origin = reader.origin().unwrap_or_default();
    let found = directory.nodes.iter().find(|node| checkpoint::origin(&node.id) == origin);
    found.ok_or_else(|| Error::UnknownLog(log.into()))
}

/// Asks a node for its signed head and compares it with the one that was seen before, which it replaces if it continues
/// it.
///
/// # Errors
/// What the node did instead, or [`Error`].
pub async fn witness<T: Transport>(
    keystore: &Keystore<T>,
    node: &Node,
    seen: &Seen,
) -> Result<Result<Verdict, NodeFault>, Error> {
    let verifier = verifier(node)?;
    let before = seen.last(node, &verifier)?;
    let note = match keystore.audit_checkpoint(node).await {
        Ok(note) => note,
        Err(fault) => return Ok(Err(fault)),
    };
    let head = match verifier.open(&note) {
        Ok(head) => head,
        Err(error) => return Ok(Err(NodeFault::BadAnswer(format!("its checkpoint: {error}")))),
    };
    let Some(before) = before else {
        seen.keep(node, &note)?;
        return Ok(Ok(Verdict::First(head)));
    };
    let continues = if head.size < before.size {
        false
    } else {
        let proof = match before.size == head.size {
            true => Vec::new(),
            false => match keystore.audit_consistency(node, before.size, head.size).await {
                Ok(proof) => proof,
                Err(fault) => return Ok(Err(fault)),
            },
        };
        verify_consistency(before.size, &before.root, head.size, &head.root, &proof)
    };
    if continues {
        seen.keep(node, &note)?;
        return Ok(Ok(Verdict::Continues { from: before.size, head }));
    }
    let evidence = [seen.file(node), seen.keep_evidence(node, &head, &note)?];
    Ok(Ok(Verdict::Contradicts { seen: before, head, evidence }))
}
