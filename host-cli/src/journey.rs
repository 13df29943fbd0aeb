//! The two stories of the client, readable from top to bottom: an image goes in, an image comes back.
//!
//! | part | story |
//! |---|---|
//! | `register` | of one image or all below a folder: separate the patient, encrypt, split the keys over the servers, store, record |
//! | `retrieve` | find, fetch the keys from any m servers, compare, decrypt; with `--restore` put the patient back |
//! | `open` | a registered file, opened to be read at positions: for tools of the grid and mounted folders |
//! | `search` | images by what may be known of them |
//! | `frames` | where the frames of an image are, kept so that nobody can exchange them |
//! | `sessions` | for many callers at once, and after `fork` |
//! | `tree` | what was registered, as folders and files |
//! | `deliver` | what waits in the queue goes to the key servers that were away |
//! | `device` | what an imaging device made goes to the key servers, brought by a courier |
//! | `files` | the same protection for any file or pipe, without catalog and storage |
//! | `peer` | what a DICOM peer gets of images |
//! | `quarantine` | what a person decides about images that may show the patient |
//! | `project` | the keys of a project: for replacing UIDs, telling images apart, and searching |

mod deliver;
mod device;
pub mod files;
mod frames;
pub mod open;
#[cfg(feature = "gateway")]
pub mod peer;
pub mod project;
pub mod quarantine;
pub mod register;
pub mod retrieve;
pub mod search;
pub mod sessions;
pub mod tree;

use std::{
    io::{Read, Write as _},
    path::{Path, PathBuf},
};

use eds_core::{
    api::{
        access::{AccessList, Asked, KIND_TOKEN, WhyAnswer},
        name::KeyName,
        whoami::WhoAmI,
    },
    cipher::InputKey,
    directory::{Directory, Node},
    ids::{FileId, KeyId, Threshold},
    manifest::{self, Manifest},
    sharing::FileSecret,
};
use rand_core::UnwrapErr;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Error, audit,
    catalog::Catalog,
    cluster::Trust,
    config::Config,
    dicom::Profile,
    keystore::{
        Evidence, Fetched, Identity, KeyStatus, Keystore, Latencies, Message, NameError, Named, NewKey, NodeError,
        NodeFault, NodeStatus, NodeView, Prepared, RegisterError, Registered, Terms, Want,
        access::{
            AccessError, Changed, Everywhere,
            agree::{Repair, Seen, Share},
        },
    },
    metadata::{Metadata, policy::Policy},
    output::Output,
    payload::{self, Header, Target, Unlocked, Written},
    quarantine::Quarantine,
    queue::Queue,
    storage::ObjectStore,
};

/// The purpose of a key that encrypts the payload of a container: images and plain files.
const PURPOSE_FILE: &str = "file";
/// The purpose of a key with which an imaging device encrypted its frame.
const PURPOSE_IMAGE: &str = "image";
/// The purpose of a key that encrypts the private part of an image.
const PURPOSE_PRIVATE: &str = "private";

/// The key servers, called from code that waits for their answers.
pub struct Nodes {
    keystore: Keystore,
    runtime: Runtime,
    /// Where the queue is.
    state: PathBuf,
    /// The caller, for display.
    registrant: String,
    /// Who vouches for the caller, when that is an authority of certificates.
    authority: Option<Vec<u8>>,
}

impl Nodes {
    /// A client of the pinned cluster with the identity of the configuration. Nothing is sent to a node yet; a login that
    /// has ended is renewed.
    ///
    /// # Errors
    /// No pinned cluster, unusable certificate or key.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let trust = Trust::load(&config.state)?;
        let identity = Identity::load(config)?;
        let keystore = Keystore::connect(trust.directory, &identity, Latencies::load(&config.state));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
        runtime.block_on(identity.proof().freshen())?;
        Ok(Self {
            keystore,
            runtime,
            state: config.state.clone(),
            registrant: identity.subject(),
            authority: identity.authority(),
        })
    }

    /// The signed directory in use.
    pub fn directory(&self) -> &Directory {
        self.keystore.directory()
    }

    /// The quorum client itself.
    pub fn keystore(&self) -> &Keystore {
        &self.keystore
    }

    /// The keys of names, in order.
    pub fn resolve_all(&self, names: &[KeyName]) -> Vec<Result<Named, Error>> {
        if names.is_empty() {
            return Vec::new();
        }
        let found = self.runtime.block_on(self.keystore.resolve(names)).into_iter().zip(names);
        let with_name = |(found, name): (Result<Named, NameError>, &KeyName)| {
            found.map_err(|source| Error::Name { name: name.as_str().into(), source })
        };
        found.map(with_name).collect()
    }

    /// The key of a name.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn resolve(&self, name: &KeyName) -> Result<Named, Error> {
        self.resolve_all(std::slice::from_ref(name)).pop().unwrap_or(Err(Error::NothingFetched))
    }

    /// The key of a name under which something is to be encrypted. Who owns the key says who may read that, so it is the
    /// caller's own, or of an owner whom the caller named, in the namespace of the caller's own name.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::OthersName`].
    pub fn resolve_to_encrypt(&self, name: &KeyName, owners: &[&str]) -> Result<Want, Error> {
        let Named { key, manifest, owner, group } = self.resolve(name)?;
        let own = owner.registrant().digest() == *self.keystore.registrant();
        let namespace = match self.authority.as_deref() {
            Some(authority) => owner.namespace.0 == authority,
            None => owner.kind == KIND_TOKEN,
        };
        if own || (namespace && owners.contains(&owner.shown().as_str())) {
            return Ok(Want { key, evidence: Evidence::Recorded(Box::new(manifest)) });
        }
        let (owner, authority) = (owner.shown(), owner.authority());
        Err(Error::OthersName { name: name.as_str().into(), key, owner, authority, group })
    }

    /// Registers a key, under a name or none, with every node.
    ///
    /// # Errors
    /// [`crate::keystore::RegisterError`]; then nothing is registered.
    pub fn register_named(&self, key: &NewKey, name: Option<&KeyName>, terms: Terms) -> Result<Registered, Error> {
        let prepared = self.keystore.prepare(std::slice::from_ref(key), terms)?;
        let prepared = match name {
            Some(name) => prepared.named(name.clone()),
            None => prepared,
        };
        Ok(self.runtime.block_on(self.keystore.register(prepared))?)
    }

    /// Fetches several keys in one call to each node, in order, and the nodes that answered wrongly.
    ///
    /// # Errors
    /// [`crate::keystore::FetchError`] of the first key that could not be had.
    pub fn fetch_all(&self, wants: &[Want]) -> Result<(Vec<Fetched>, Vec<NodeError>), Error> {
        let mut all = Vec::with_capacity(wants.len());
        let mut culprits: Vec<NodeError> = Vec::new();
        for fetched in self.runtime.block_on(self.keystore.fetch(wants)) {
            let mut fetched = fetched?;
            for culprit in std::mem::take(&mut fetched.culprits) {
                if !culprits.iter().any(|known| known.node == culprit.node) {
                    culprits.push(culprit);
                }
            }
            all.push(fetched);
        }
        Ok((all, culprits))
    }

    /// Stores prepared keys on as many nodes as they were prepared for. The shares of the others wait in the queue, which
    /// is on the disk before this returns.
    ///
    /// # Errors
    /// [`crate::keystore::RegisterError`], [`crate::queue::Error`]; then nothing is registered.
    pub fn register(&self, prepared: Prepared) -> Result<Registered, Error> {
        if !prepared.may_wait() {
            return Ok(self.runtime.block_on(self.keystore.register(prepared))?);
        }
        let mut queue = Queue::open(&self.state)?;
        let _lock = queue.registering()?;
        let keys = prepared.keys().to_vec();
        let mut kept = Vec::new();
        let keep = |messages: &[Message]| {
            kept = queue.keep(messages, &self.registrant)?;
            Ok::<_, Error>(())
        };
        let registered = self.runtime.block_on(self.keystore.register_at_quorum(prepared, keep))?;
        if let Err(error) = queue.acknowledge(&kept) {
            self.unregister(&keys);
            return Err(error.into());
        }
        Ok(registered)
    }

    /// Deletes keys on every node; returns the nodes that did not. What waits of them in the queue is dropped when any node
    /// deleted them: a node that was to be sent its share never gets it.
    pub fn unregister(&self, keys: &[KeyId]) -> Vec<NodeError> {
        let mut failed = self.runtime.block_on(self.keystore.unregister(keys));
        let without = failed.chunk_by(|one, next| one.node == next.node).count();
        if without < self.directory().nodes.len() {
            // A queue that cannot be used now still learns of it when it is delivered.
            let waited = self.forget(keys).unwrap_or_default();
            failed.retain(|error| !(error.fault.is("key-not-found") && waited.contains(&error.node)));
        }
        failed
    }

    /// Tells every node that all hold these keys; returns the nodes that could not be told.
    pub fn confirm(&self, keys: &[KeyId]) -> Vec<NodeError> {
        self.runtime.block_on(self.keystore.confirm(keys))
    }

    /// What every node holds of a key.
    pub fn key_status(&self, key: KeyId) -> KeyStatus {
        self.runtime.block_on(self.keystore.key_status(key))
    }

    /// What each node shows of the access list of a key.
    pub fn access(&self, key: KeyId) -> Vec<NodeView<Seen>> {
        self.runtime.block_on(self.keystore.access(key))
    }

    /// Changes the access list of a key on every node.
    ///
    /// # Errors
    /// [`AccessError`], and what `edit` failed with.
    pub fn change_access(
        &self,
        key: KeyId,
        edit: impl FnOnce(AccessList) -> Result<AccessList, Error>,
    ) -> Result<Changed, Error> {
        self.runtime.block_on(self.keystore.change_access(key, edit))
    }

    /// Brings nodes up to date as planned; returns how many hold the list then, and the nodes that do not.
    ///
    /// # Errors
    /// [`AccessError`] when too few do.
    pub fn repair(&self, key: KeyId, plan: &Repair) -> Result<(Share, Vec<NodeError>), AccessError> {
        self.runtime.block_on(self.keystore.repair(key, plan))
    }

    /// The keys that the caller may list, and the nodes that did not answer.
    pub fn list_keys(&self) -> (Vec<Everywhere>, Vec<NodeError>) {
        self.runtime.block_on(self.keystore.list_keys())
    }

    /// What each node says of who may do what with a key.
    pub fn why(&self, key: KeyId, principal: Option<Asked>) -> Vec<NodeView<WhyAnswer>> {
        self.runtime.block_on(self.keystore.why(key, principal))
    }

    /// Whom every node takes the caller for.
    pub fn whoami(&self) -> Vec<NodeView<WhoAmI>> {
        self.runtime.block_on(self.keystore.whoami())
    }

    /// Compares a node's signed audit head with the one that was seen before.
    ///
    /// # Errors
    /// [`audit::Error`].
    pub fn witness(&self, node: &Node, seen: &audit::Seen) -> Result<Result<audit::Verdict, NodeFault>, audit::Error> {
        self.runtime.block_on(audit::witness(&self.keystore, node, seen))
    }

    /// Whether every node can be used.
    pub fn node_status(&self) -> NodeStatus {
        self.runtime.block_on(self.keystore.node_status())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.keystore.keep_latencies();
    }
}

/// Everything that registering and retrieving images needs.
pub struct Session {
    nodes: Nodes,
    storage: Box<dyn ObjectStore>,
    catalog: Catalog,
    metadata: Metadata,
    profile: Profile,
    policy: Policy,
    terms: Terms,
    quarantine: Quarantine,
    /// Where runs that register show that they are alive.
    runs: PathBuf,
}

impl Session {
    /// Opens the rooms that the configuration names.
    ///
    /// # Errors
    /// As [`Nodes::open`], and what storage, catalog, metadata or the profile fail with.
    pub fn open(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            nodes: Nodes::open(config)?,
            storage: config.storage.first().open()?,
            catalog: Catalog::open(&config.catalog)?,
            metadata: Metadata::open(&config.metadata)?,
            profile: match &config.profile {
                Some(path) => Profile::load(path)?,
                None => Profile::default(),
            },
            policy: Policy::load(config.policy.as_deref())?,
            terms: config.terms,
            quarantine: Quarantine::open(&beside(&config.catalog, ".quarantine"))?,
            runs: beside(&config.catalog, ".runs"),
        })
    }

    /// What becomes of attributes in the metadata database.
    #[cfg(feature = "gateway")]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The de-identification profile of the project.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }
}

/// What is beside the catalog: the folder of the locks of runs, and the list of images that wait for review.
fn beside(catalog: &Path, ending: &str) -> PathBuf {
    let mut name = catalog.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A container about to be written under a new key.
struct Seal {
    header: Header,
    key: InputKey,
    threshold: Threshold,
}

impl Seal {
    /// A container for one of the keys of `prepared`.
    fn new(key: &NewKey, prepared: &Prepared, purpose: &str) -> Result<Self, Error> {
        let manifest = prepared.manifest(key.id).ok_or(RegisterError::Core(eds_core::Error::Mismatch))?;
        Ok(Self::under(&key.secret, manifest, purpose))
    }

    /// A container under the key of this manifest.
    fn under(secret: &FileSecret, manifest: &Manifest, purpose: &str) -> Self {
        let header = Header {
            file: FileId::random(&mut UnwrapErr(getrandom::SysRng)),
            key: manifest.key,
            epoch: manifest.epoch,
            anchor: manifest.anchor(),
        };
        Self { header, key: secret.input_key(purpose, manifest.key), threshold: manifest.threshold }
    }

    fn write(&self, input: &mut (impl Read + Send + ?Sized), target: Target<'_>) -> Result<Written, Error> {
        Ok(payload::seal(input, target, &self.key, &self.header, &payload::Options::default())?)
    }
}

/// Decrypts into the output. A file appears under its name only when it is whole.
fn deliver(unlocked: Unlocked<'_>, output: Output, of_payload: impl Fn(payload::Error) -> Error) -> Result<(), Error> {
    let options = payload::Options::default();
    match output {
        Output::File(file) => {
            unlocked.copy_to(Target::File(file.file()), &options).map_err(of_payload)?;
            Ok(file.finish()?)
        }
        Output::Stdout => {
            let mut stdout = std::io::stdout().lock();
            unlocked.copy_to(Target::Stream(&mut stdout), &options).map_err(&of_payload)?;
            stdout.flush().map_err(|error| of_payload(payload::Error::Write(error)))
        }
    }
}

/// The key of a container's payload.
fn payload_key(fetched: &Fetched) -> InputKey {
    fetched.secret.input_key(payload_purpose(&fetched.manifest), fetched.manifest.key)
}

/// What a key encrypts payloads for. A device encrypts for a purpose of its own, and the manifest says that a device did.
fn payload_purpose(manifest: &Manifest) -> &'static str {
    if manifest.origin.is_some() { PURPOSE_IMAGE } else { PURPOSE_FILE }
}

/// The bytes of a manifest, for a database.
fn encode(manifest: &Manifest) -> Result<Vec<u8>, Error> {
    let mut buffer = [0; manifest::MAX_BYTES];
    let bytes = manifest.encode(&mut buffer).map_err(RegisterError::Core)?;
    Ok(bytes.to_vec())
}

/// What a database recorded of a key.
fn recorded(manifest: &[u8]) -> Result<Evidence, Error> {
    Manifest::decode(manifest).map(|manifest| Evidence::Recorded(Box::new(manifest))).map_err(Error::RecordedManifest)
}
