//! What can go wrong, as one type for the command line: the rooms' own errors, each with a kind and perhaps a hint.
//!
//! The kind decides the exit code, so scripts can tell "not permitted" from "damaged". The text names the party at
//! fault (file, node, caller) and never contains a key, a share or patient data; what caused it is its `source` and is
//! printed after it, once.

use std::{
    error::Error as _,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use eds_core::{
    api::{access::typed::TypedError, name::NameError},
    ids::{FileId, KeyId},
};

use crate::{
    audit, catalog, cluster, config, courier, credentials, dicom,
    glite::ServicesError,
    keystore::{
        self, DeliverError, FetchError, KeystoreError, NodeError, NodeFault, Obstacle, RegisterError,
        access::{AccessError, text::TextError},
    },
    login,
    metadata::{self, Role},
    output, payload, queue, storage,
};

/// What sort of failure an error is; decides the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// None of the others.
    Other,
    /// The command line or the configuration is wrong.
    Usage,
    /// What was asked for does not exist.
    NotFound,
    /// Not authenticated, or not permitted.
    Denied,
    /// Fewer key servers answered than are needed.
    Unavailable,
    /// Data that is damaged, forged, or does not belong together.
    Damaged,
    /// The local machine: full disk, unreadable file, no permission on a file.
    LocalIo,
    /// Something of that name is there already, or changed meanwhile; nothing was overwritten.
    Conflict,
    /// An input that this release cannot process.
    Unsupported,
    /// An image that may show who the patient is.
    Suspect,
}

impl Kind {
    /// All kinds, in the order of their exit codes.
    pub const ALL: [Self; 10] = [
        Self::Other,
        Self::Usage,
        Self::NotFound,
        Self::Denied,
        Self::Unavailable,
        Self::Damaged,
        Self::LocalIo,
        Self::Conflict,
        Self::Unsupported,
        Self::Suspect,
    ];

    /// The exit code of a command that fails like this; 0 is success.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Denied => 4,
            Self::Unavailable => 5,
            Self::Damaged => 6,
            Self::LocalIo => 7,
            Self::Conflict => 8,
            Self::Unsupported => 9,
            Self::Suspect => 10,
        }
    }

    /// The meaning of the exit code, as `--help` shows it.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Other => "another failure",
            Self::Usage => "wrong command line or configuration",
            Self::NotFound => "what was asked for does not exist",
            Self::Denied => "not authenticated or not permitted",
            Self::Unavailable => "not enough key servers answered, or a storage could not be reached",
            Self::Damaged => "damaged or forged data; nothing of it was put out under its name",
            Self::LocalIo => "local input or output failed, for example a full disk",
            Self::Conflict => "exists already or was changed meanwhile; nothing was overwritten",
            Self::Unsupported => "input that this release cannot process",
            Self::Suspect => "an image that may show who the patient is; it was not registered",
        }
    }

    /// The kind of an operating system error.
    pub fn of_io(error: &io::Error) -> Self {
        // A storage elsewhere is read as a file is, and its errors come through here whole.
        if let Some(storage) = storage::Error::within(error) {
            return storage.kind();
        }
        if error.kind() == io::ErrorKind::NotFound { Self::NotFound } else { Self::LocalIo }
    }
}

/// An error of the client, from whichever room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// An output file.
    #[error(transparent)]
    Output(#[from] output::Error),
    /// The cluster directory, its draft or the pinned cluster key.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Where ciphertext lives.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The catalog or the metadata database.
    #[error(transparent)]
    Database(#[from] catalog::Error),
    /// What proves who the caller is.
    #[error(transparent)]
    Proof(#[from] credentials::Error),
    /// The audit logs of the nodes.
    #[error(transparent)]
    Audit(#[from] audit::Error),
    /// `eds login` or `eds logout`.
    #[error(transparent)]
    Login(login::Error),
    /// The client of the key servers.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// A key could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A key could not be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// What an imaging device made could not be delivered.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    /// `eds courier`.
    #[error(transparent)]
    Courier(#[from] courier::Error),
    /// An access list could not be read or changed, or a change is not in force yet.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The queue of shares that wait for key servers.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// Messages that are still in the queue.
    #[error("{messages} message(s) still wait in the queue{}", if *stuck > 0 { format!(", {stuck} of them for ever") } else { String::new() })]
    StillWaiting {
        /// How many.
        messages: usize,
        /// How many of them can never be delivered.
        stuck: usize,
        /// The kind of what hinders the first.
        kind: Kind,
    },
    /// A message that can never be delivered.
    #[error("message {number} can never be delivered")]
    Stuck {
        /// Its number.
        number: i64,
        /// Why.
        source: Obstacle,
    },
    /// Messages that are to be dropped without anybody having confirmed that.
    #[error("nothing was dropped: it was not confirmed")]
    DropNotConfirmed,
    /// A principal, an entry or a mode on the command line.
    #[error(transparent)]
    AccessText(#[from] TextError),
    /// A key that is to be deleted without anybody having confirmed that.
    #[error("nothing was deleted: the deletion of key {key} was not confirmed")]
    NotConfirmed {
        /// The key.
        key: KeyId,
    },
    /// A key that some nodes did not delete.
    #[error("key {key} is not deleted on every node{}", lines(.nodes))]
    NotDeletedEverywhere {
        /// The key.
        key: KeyId,
        /// The nodes, with what they said.
        nodes: Vec<NodeError>,
    },
    /// No key server answered; what each said was printed.
    #[error("no key server answered the question")]
    NoAnswer {
        /// The kind that most of them gave.
        kind: Kind,
    },
    /// A certificate file that names a principal.
    #[error("{}: cannot be read as the certificate of a principal", path.display())]
    PrincipalFile {
        /// The file.
        path: PathBuf,
    },
    /// A text that cannot be the name of a key.
    #[error("{text:?} cannot be the name of a key")]
    NotAName {
        /// The text.
        text: String,
        /// Why not.
        source: NameError,
    },
    /// A name that leads to no key.
    #[error("the key {name}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        source: keystore::NameError,
    },
    /// The name of a key of somebody else, under which something was to be encrypted.
    #[error(
        "the name {name} is that of key {key} of {owner} (of {authority}), {}: they may read what is encrypted under it",
        group.as_ref().map_or("without a group".to_owned(), |group| format!("group {group}"))
    )]
    OthersName {
        /// The name.
        name: String,
        /// The key.
        key: KeyId,
        /// Whose.
        owner: String,
        /// Who vouches for that.
        authority: String,
        /// The group of the key.
        group: Option<String>,
    },
    /// No name that this user registered here ends like that.
    #[error("no key was registered on this computer under a name that ends in {last:?}")]
    NoRegisteredName {
        /// The last part.
        last: String,
    },
    /// Several names that this user registered end alike.
    #[error("several keys have a name that ends in {last:?}: {}", candidates.join(", "))]
    SeveralNames {
        /// The last part.
        last: String,
        /// The names.
        candidates: Vec<String>,
    },
    /// A file under another key than the one that was named.
    #[error("the file is encrypted under key {found}, and not under key {expected}")]
    OtherKey {
        /// The one that was named.
        expected: KeyId,
        /// The one that the file needs.
        found: KeyId,
    },
    /// No node has a key.
    #[error("key {key} could not be found on any node")]
    NoSuchKey {
        /// The key.
        key: KeyId,
    },
    /// Nodes show different access lists.
    #[error("key {key}: the nodes show different access lists{}", lines(.nodes))]
    Corrupted {
        /// The key.
        key: KeyId,
        /// Those that differ.
        nodes: Vec<NodeError>,
    },
    /// A change that not every node made.
    #[error("key {key}: the change is not made on every node{}", lines(.nodes))]
    NotChangedEverywhere {
        /// The key.
        key: KeyId,
        /// The others.
        nodes: Vec<NodeError>,
    },
    /// A place that this program does not store at.
    #[error("{remote} is neither a path nor a file: URL")]
    NoSuchRemote {
        /// The place.
        remote: String,
    },
    /// `services.xml`.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// The key servers gave neither a key nor a reason.
    #[error("the key servers gave neither a key nor a reason")]
    NothingFetched,
    /// The data path of a file that is not in the catalog.
    #[error(transparent)]
    Payload(#[from] payload::Error),
    /// A file that the user named.
    #[error("{}", path.display())]
    Container {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: payload::Error,
    },
    /// A registered file.
    #[error("file {file}")]
    Stored {
        /// Its id.
        file: FileId,
        /// What is wrong.
        source: payload::Error,
    },
    /// An image that cannot be taken apart.
    #[error("{}", path.display())]
    Dicom {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        source: dicom::Error,
    },
    /// A de-identification profile.
    #[error(transparent)]
    Profile(#[from] dicom::profile::Error),
    /// An image that cannot be put together again.
    #[error("image {file}")]
    Private {
        /// Its id.
        file: FileId,
        /// What is wrong.
        source: dicom::Error,
    },
    /// A manifest in the catalog or the metadata database.
    #[error("the manifest that was recorded at registration is damaged")]
    RecordedManifest(#[source] eds_core::Error),
    /// What becomes of attributes in the metadata database.
    #[error(transparent)]
    Policy(#[from] metadata::policy::Error),
    /// A search that cannot be made.
    #[error(transparent)]
    Query(#[from] metadata::query::Error),
    /// A key of the project that could not be fetched.
    #[error("the {} of this project could not be fetched", match role { Role::Uid => "key that replaces UIDs", Role::Search => "search key" })]
    ProjectKey {
        /// What it is for.
        role: Role,
        /// The key.
        key: KeyId,
        /// Why not.
        source: FetchError,
    },
    /// An image that is registered with other content.
    #[error("{}: another image with the same SOP Instance UID is registered as {file}; nothing was overwritten", path.display())]
    OtherContent {
        /// The file.
        path: PathBuf,
        /// The id of what is registered.
        file: FileId,
    },
    /// A frame table that is not the image's.
    #[error("the frame table of image {file} is damaged or forged")]
    FrameTable {
        /// The image.
        file: FileId,
    },
    /// An image whose frames cannot be told apart.
    #[error("{file} has no frames that can be read singly")]
    NoFrames {
        /// The image.
        file: FileId,
    },
    /// A frame that an image does not have.
    #[error("image {file} has frames 1 to {frames}, and no frame {number}")]
    NoSuchFrame {
        /// The image.
        file: FileId,
        /// What was asked for.
        number: u32,
        /// How many there are.
        frames: u32,
    },
    /// An image that cannot be shown.
    #[cfg(feature = "view")]
    #[error("image {file} cannot be shown")]
    Picture {
        /// The image.
        file: FileId,
        /// Why not.
        source: crate::picture::Error,
    },
    /// The gateway.
    #[cfg(feature = "gateway")]
    #[error(transparent)]
    Gateway(#[from] crate::gateway::Error),
    /// `eds mount`.
    #[cfg(feature = "mount")]
    #[error(transparent)]
    Mount(#[from] crate::mount::MountError),
    /// A text that should be a window.
    #[error("{0:?} is not a window: a center and a width of more than 2 are expected, for example 40,400")]
    NotAWindow(String),
    /// A key of a project in which nothing was registered.
    #[error("this project has no keys yet: they are made when the first image is registered")]
    NoProject,
    /// A metadata database that has other keys already, or none that fit.
    #[error("this metadata database belongs to another project already: its key for {} is {key}", role.word())]
    OtherProject {
        /// Which key.
        role: Role,
        /// The one that it has.
        key: KeyId,
    },
    /// An image in quarantine that would be kept again.
    #[error("{file} would be kept for review again: other things are suspect about it than what is blanked")]
    StillSuspect {
        /// Its id.
        file: FileId,
    },
    /// An image that is too large for memory.
    #[error("there is no memory for all of {file}")]
    NoMemory {
        /// Its id.
        file: FileId,
    },
    /// A search that is to be retrieved found nothing.
    #[error("no image was found")]
    NothingFound,
    /// A registration that was not completed.
    #[error("the registration of {file} was interrupted")]
    Interrupted {
        /// Its id.
        file: FileId,
    },
    /// A file without a private part.
    #[error("{file} has no private part: it was encrypted whole")]
    NothingToRestore {
        /// Its id.
        file: FileId,
    },
    /// One key server.
    #[error(transparent)]
    Node(NodeError),
    /// Not every key server holds a key as it should.
    #[error("key {key} is not active on every node{}", lines(.nodes))]
    NotEverywhere {
        /// The key.
        key: KeyId,
        /// The nodes, with what they said.
        nodes: Vec<NodeError>,
    },
    /// Too few key servers know the caller.
    #[error("{accepted} of the {needed} key servers needed accept this proof{}", lines(.nodes))]
    NotAccepted {
        /// How many do.
        accepted: usize,
        /// How many must.
        needed: u8,
        /// The others, with what they said.
        nodes: Vec<NodeError>,
    },
    /// A kind of proof that there is not.
    #[error("{0:?} is no kind of proof: there are certificate, proxy and token")]
    UnknownProof(String),
    /// A text that should be an id.
    #[error("{0:?} is not an id: 32 hex digits in groups of 8-4-4-4-12 are expected")]
    NotAnId(String),
    /// Some of several files could not be processed; each was reported.
    #[error("not all files could be processed")]
    SomeFailed {
        /// The kind of the first failure.
        kind: Kind,
    },
    /// `eds doctor` found something.
    #[error("{failed} of the checks failed")]
    Unwell {
        /// How many.
        failed: usize,
        /// The kind of the first of them.
        kind: Kind,
    },
    /// The runtime of the network code.
    #[error("the network runtime cannot be started")]
    Runtime(#[source] io::Error),
    /// An input file.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file of `--report`.
    #[error("cannot write the report")]
    Report(#[source] io::Error),
    /// The random source of the operating system.
    #[error("the operating system's random source failed")]
    Random(#[from] getrandom::Error),
}

impl From<TypedError> for Error {
    fn from(error: TypedError) -> Self {
        Self::AccessText(error.into())
    }
}

impl Error {
    /// For `map_err` after an operation on an input file.
    pub fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }

    /// For `map_err`: an error of the data path, with the file that the user named.
    pub fn of_file(path: &Path) -> impl Fn(Self) -> Self {
        let path = path.to_path_buf();
        move |error| match error {
            Self::Payload(source) => Self::Container { path: path.clone(), source },
            other => other,
        }
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            #[cfg(feature = "mount")]
            Self::Mount(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::Output(error) => error.kind(),
            Self::Cluster(error) => error.kind(),
            Self::Storage(error) => error.kind(),
            Self::Database(error) => error.kind(),
            Self::Proof(error) => error.kind(),
            Self::Login(error) => error.kind(),
            Self::Audit(error) => error.kind(),
            Self::Keystore(error) => error.kind(),
            Self::Fetch(error) => error.kind(),
            Self::Register(error) => error.kind(),
            Self::Deliver(error) => error.kind(),
            Self::Courier(error) => error.kind(),
            Self::Access(error) => error.kind(),
            Self::Queue(error) => error.kind(),
            Self::Stuck { source, .. } => source.kind(),
            Self::DropNotConfirmed => Kind::Usage,
            Self::AccessText(_) | Self::NotConfirmed { .. } | Self::PrincipalFile { .. } => Kind::Usage,
            Self::Node(error) => error.fault.kind(),
            Self::Payload(error) | Self::Stored { source: error, .. } | Self::Container { source: error, .. } => {
                error.kind()
            }
            Self::Dicom { source, .. } | Self::Private { source, .. } => source.kind(),
            Self::Profile(error) => error.kind(),
            #[cfg(feature = "gateway")]
            Self::Gateway(error) => error.kind(),
            Self::Policy(error) => error.kind(),
            Self::Query(error) => error.kind(),
            Self::ProjectKey { source, .. } => source.kind(),
            #[cfg(feature = "view")]
            Self::Picture { source, .. } => source.kind(),
            Self::NotAWindow(_) => Kind::Usage,
            Self::OtherContent { .. } | Self::OtherProject { .. } => Kind::Conflict,
            Self::StillSuspect { .. } => Kind::Suspect,
            Self::NoMemory { .. } => Kind::Other,
            Self::NoFrames { .. } => Kind::Unsupported,
            Self::NoSuchFrame { .. } | Self::NothingFound | Self::NoProject => Kind::NotFound,
            Self::RecordedManifest(_) | Self::FrameTable { .. } => Kind::Damaged,
            Self::Interrupted { .. } => Kind::NotFound,
            Self::NothingToRestore { .. } => Kind::Usage,
            Self::NothingFetched => Kind::Unavailable,
            Self::NotAName { .. } | Self::NoSuchRemote { .. } | Self::SeveralNames { .. } => Kind::Usage,
            Self::Name { source, .. } => source.kind(),
            Self::OthersName { .. } => Kind::Denied,
            Self::NoRegisteredName { .. } | Self::NoSuchKey { .. } => Kind::NotFound,
            Self::OtherKey { .. } | Self::Corrupted { .. } => Kind::Damaged,
            Self::NotChangedEverywhere { nodes, .. } => common_kind(nodes),
            Self::Services(error) => error.kind(),
            Self::NotEverywhere { nodes, .. } | Self::NotAccepted { nodes, .. } => common_kind(nodes),
            Self::NotDeletedEverywhere { nodes, .. } => common_kind(nodes),
            Self::NotAnId(_) | Self::UnknownProof(_) => Kind::Usage,
            Self::Unwell { kind, .. }
            | Self::SomeFailed { kind }
            | Self::NoAnswer { kind }
            | Self::StillWaiting { kind, .. } => *kind,
            Self::Read { source, .. } | Self::Report(source) => Kind::of_io(source),
            Self::Random(_) | Self::Runtime(_) => Kind::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            #[cfg(feature = "mount")]
            Self::Mount(error) => error.hint(),
            Self::Config(error) => error.hint(),
            Self::Output(error) => error.hint(),
            Self::Cluster(error) => error.hint(),
            Self::Storage(error) => error.hint(),
            Self::Database(error) => error.hint(),
            Self::Proof(error) => error.hint(),
            Self::Login(error) => error.hint(),
            #[cfg(feature = "gateway")]
            Self::Gateway(error) => error.hint(),
            Self::Audit(error) => error.hint(),
            Self::Keystore(error) => error.hint(),
            Self::Fetch(error) => error.hint(),
            Self::Register(error) => error.hint(),
            Self::Deliver(error) => error.hint(),
            Self::Courier(error) => error.hint(),
            Self::Access(error) => error.hint(),
            Self::AccessText(error) => error.hint(),
            Self::Queue(error) => error.hint(),
            Self::StillWaiting { stuck: 0, .. } => Some("when those key servers are back: eds queue run".into()),
            Self::Stuck { number, .. } => {
                Some(format!("`eds queue show {number}` says more; `eds queue drop {number}` gives it up"))
            }
            Self::StillWaiting { .. } => {
                Some("`eds queue show` says more of a message, `eds queue drop` gives one up".into())
            }
            Self::DropNotConfirmed => Some("answer yes when asked, or give --yes".into()),
            Self::NotConfirmed { .. } => Some("type the id of the key when asked, or give --yes".into()),
            Self::NotDeletedEverywhere { key, .. } => Some(format!("when those nodes are back: eds key rm {key}")),
            Self::PrincipalFile { .. } => Some("give the PEM file of the certificate, without its key".into()),
            Self::Payload(error) | Self::Stored { source: error, .. } | Self::Container { source: error, .. } => {
                error.hint()
            }
            Self::Dicom { source, .. } if source.is_unreadable() => {
                Some("--opaque encrypts a file whole, without looking into it".into())
            }
            Self::Dicom { source, .. } | Self::Private { source, .. } => source.hint(),
            Self::Profile(error) => error.hint(),
            Self::Policy(error) => error.hint(),
            Self::Query(error) => error.hint(),
            Self::ProjectKey { role, key, source } if source.kind() == Kind::Denied => Some(match role {
                Role::Uid => format!("registering needs it: ask its owner for the permission g on key {key}"),
                Role::Search => {
                    format!(
                        "searching by patient and registering need it: ask its owner for the permission g on key {key}"
                    )
                }
            }),
            Self::ProjectKey { source, .. } => source.hint(),
            Self::OtherContent { file, .. } => {
                Some(format!("compare both: `eds retrieve {file} --restore` gives back the one that is registered"))
            }
            Self::OtherProject { .. } => Some(
                "images that are registered keep their names; take part with a new metadata database ([metadata] path)"
                    .into(),
            ),
            Self::StillSuspect { file } => {
                Some(format!("look at it: eds view {file}; --pass-suspect lets it pass as it is"))
            }
            Self::NoMemory { .. } => Some("release it on a computer with more memory".into()),
            #[cfg(feature = "view")]
            Self::Picture { file, .. } => Some(format!("`eds retrieve {file}` gives the file for another viewer")),
            Self::NoFrames { file } => Some(format!("`eds cat {file}` gives the whole file")),
            Self::RecordedManifest(_) | Self::FrameTable { .. } => Some("restore the database from a backup".into()),
            Self::Interrupted { .. } => Some("register the image again".into()),
            Self::NothingToRestore { .. } => Some("leave out --restore".into()),
            Self::NotEverywhere { key, nodes } => not_everywhere(*key, nodes),
            Self::Name { source, .. } => source.hint(),
            Self::OthersName { owner, .. } => Some(format!(
                "if that is right, name the owner: --owner {owner:?}, or trusted_owners in the section [keys] of the \
                 configuration; for an owner of another authority, name the key by its id"
            )),
            Self::NoRegisteredName { .. } => Some("name the key: ID INPUT OUTPUT".into()),
            Self::SeveralNames { .. } => Some("say which: ID INPUT OUTPUT".into()),
            Self::Corrupted { key, .. } => Some(format!("`eds key sync {key} --dry-run` shows how they differ")),
            Self::NotChangedEverywhere { key, .. } => Some(format!("when those nodes are back: eds key sync {key}")),
            Self::Services(error) => error.hint(),
            Self::NotAName { .. } | Self::OtherKey { .. } | Self::NoSuchKey { .. } | Self::NoSuchRemote { .. } => None,
            Self::NotAccepted { nodes, .. } => {
                let denied = nodes.iter().any(|node| node.fault.kind() == Kind::Denied);
                denied
                    .then(|| "tell the officers of those nodes what is shown above; --proof sends another proof".into())
            }
            Self::Unwell { .. } => Some("the lines marked FAIL above say what is wrong".into()),
            Self::Read { .. }
            | Self::Report(_)
            | Self::Random(_)
            | Self::Runtime(_)
            | Self::Node(_)
            | Self::NotAnId(_)
            | Self::UnknownProof(_)
            | Self::NoSuchFrame { .. }
            | Self::NothingFound
            | Self::NoProject
            | Self::NotAWindow(_)
            | Self::SomeFailed { .. }
            | Self::NoAnswer { .. }
            | Self::NothingFetched => None,
        }
    }

    /// The lines for standard error: what went wrong, why, and the hint.
    pub fn report(&self) -> String {
        let mut text = format!("eds: error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        if let Some(hint) = self.hint() {
            let _ = write!(text, "\nhint: {hint}");
        }
        text
    }
}

/// What to do about a key that is not in use on every node.
fn not_everywhere(key: KeyId, nodes: &[NodeError]) -> Option<String> {
    if nodes.iter().any(|node| matches!(node.fault, NodeFault::Waiting { .. })) {
        return Some("when those nodes are back, on this computer: eds queue run".into());
    }
    if nodes.iter().any(|node| matches!(node.fault, NodeFault::NotActive("pending"))) {
        return Some(format!("tell the nodes that all hold it: eds key confirm {key}"));
    }
    let away = nodes.iter().any(|node| node.fault.kind() == Kind::Unavailable);
    away.then(|| "`eds doctor` shows which nodes can be reached; enough others still open the key".into())
}

/// The kind of the faults when all are of one kind, else that something is not available.
fn common_kind(nodes: &[NodeError]) -> Kind {
    let mut kinds = nodes.iter().map(|node| node.fault.kind());
    match kinds.next() {
        Some(first) if kinds.all(|kind| kind == first) => first,
        _ => Kind::Unavailable,
    }
}

/// Faults of nodes, one a line, to follow a message.
fn lines(nodes: &[NodeError]) -> String {
    nodes.iter().fold(String::new(), |text, node| format!("{text}\n  {node}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_exit_code() {
        for (position, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.exit_code()), position + 1, "{kind:?}");
        }
    }

    #[test]
    fn a_report_names_the_file_and_the_cause_once() {
        let error = Error::reading(Path::new("scan.dcm"))(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(error.report(), "eds: error: cannot read scan.dcm: entity not found");
        assert_eq!(error.kind(), Kind::NotFound);
    }
}
