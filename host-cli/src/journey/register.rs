//! An image goes in.
//!
//! The keys are split in memory first, so that the container can be written before any node is asked; it gets its name
//! only after every node has stored its share, or a quorum of them with the other shares safe in the queue. The catalog holds a pending entry meanwhile. When a step fails, the steps
//! before it are undone; when the process is killed, the pending entry tells what was begun, and nothing looks
//! registered that is not.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    path::Path,
    time::SystemTime,
};

use eds_core::ids::{FileId, KeyId, Threshold};

use super::{PURPOSE_FILE, PURPOSE_PRIVATE, Seal, Session, encode};
use crate::{
    Error,
    catalog::{Content, Entry, State},
    dicom::{self, How, ImageBinding, Region, Report, Separated, Suspicion, deidentify},
    keystore::{NewKey, NodeError, Prepared, Quorum, Terms},
    metadata::{Record, SealedPrivatePart},
    payload::{Target, Written},
    storage::{NewObject, ObjectName, ObjectStore as _},
};

/// How to register.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Encrypt the file whole, without looking into it.
    pub opaque: bool,
    /// How many nodes are needed to open it; that of the configuration when `None`.
    pub threshold: Option<u8>,
    /// How many nodes must hold their shares; that of the configuration when `None`.
    pub quorum: Option<Quorum>,
    /// What is blanked in every frame of the images.
    pub masks: Vec<Region>,
    /// Register images whatever is suspect about them.
    pub pass_suspect: bool,
    /// Note what is done to each element.
    pub report: bool,
}

/// What was registered.
#[derive(Debug)]
pub struct Registration {
    /// The id to retrieve it with.
    pub file: FileId,
    /// The key of the image.
    pub key: KeyId,
    /// Whether the patient's data was separated, or the file was encrypted whole.
    pub content: Content,
    /// How many of how many nodes open it.
    pub threshold: Threshold,
    /// Nodes that did not do as they should, although it succeeded.
    pub warnings: Vec<NodeError>,
    /// Nodes whose share waits in the queue.
    pub late: Vec<NodeError>,
    /// What is suspect about the image.
    pub suspicions: Vec<Suspicion>,
    /// Whether it was encrypted whole for that reason, to be looked at.
    pub quarantined: bool,
    /// What was done to each element, if that was asked for.
    pub report: Option<Report>,
}

/// Registers one file. DICOM images are separated from the patient's data first; other files are encrypted whole.
///
/// # Errors
/// What reading, separating, registering, storing or recording failed with; then nothing is registered.
pub fn register(session: &Session, path: &Path, options: &Options) -> Result<Registration, Error> {
    let mut input = File::open(path).map_err(Error::reading(path))?;
    let mut warnings = Vec::new();
    let terms = Terms {
        needed: options.threshold.or(session.terms.needed),
        quorum: options.quorum.unwrap_or(session.terms.quorum),
    };
    if options.opaque {
        return register_opaque(session, input, terms, warnings);
    }
    let secret = session.project.secret(&session.nodes, &session.metadata, terms, &mut warnings)?;
    let how = How {
        profile: &session.profile,
        secret,
        masks: &options.masks,
        pass_suspect: options.pass_suspect,
        report: options.report,
    };
    match deidentify(&mut input, &how) {
        Ok(image) => register_image(session, path, image, input, terms, warnings),
        Err(dicom::Error::Quarantine { suspicions }) => {
            input.seek(SeekFrom::Start(0)).map_err(Error::reading(path))?;
            let registration = register_opaque(session, input, terms, warnings)?;
            Ok(Registration { suspicions, quarantined: true, ..registration })
        }
        Err(dicom::Error::NotDicom) => {
            input.seek(SeekFrom::Start(0)).map_err(Error::reading(path))?;
            register_opaque(session, input, terms, warnings)
        }
        Err(source) => Err(Error::Dicom { path: path.into(), source }),
    }
}

fn register_image(
    session: &Session,
    path: &Path,
    mut image: Separated,
    mut input: File,
    terms: Terms,
    warnings: Vec<NodeError>,
) -> Result<Registration, Error> {
    let [image_key, private_key] = [NewKey::random(), NewKey::random()];
    let ids = [image_key.id, private_key.id];
    let keys = [image_key, private_key];
    let prepared = session.nodes.keystore().prepare(&keys, terms)?;
    let [image_key, private_key] = keys;

    let seal = Seal::new(&image_key, &prepared, PURPOSE_FILE)?;
    let object = session.storage.create(&ObjectName::of(seal.header.file))?;
    let unreadable = |source| Error::Dicom { path: path.into(), source };
    let mut stream = image.deidentified(&mut input).map_err(unreadable)?;
    let written = seal.write(&mut stream, Target::File(object.file()))?;
    let finished = stream.finish().map_err(unreadable)?;

    let attributes = image.attributes().clone();
    let (suspicions, report) = (image.suspicions().to_vec(), image.take_report());
    let start = written.fingerprint.start;
    let binding = ImageBinding { file: seal.header.file, salt: start.salt, commitment: start.commitment };
    let part = image.into_private_part(binding, finished).encode().map_err(unreadable)?;
    let private = seal_private(&private_key, &prepared, &part)?;
    let entry = entry(&seal, &prepared, &written, Content::Image, Some(private.file))?;
    let record = Record { image: seal.header.file, private, attributes };
    let steps = Steps { session, entry, keys: &ids, record: Some(record), threshold: seal.threshold, warnings };
    Ok(Registration { suspicions, report, ..steps.run(prepared, object)? })
}

fn register_opaque(
    session: &Session,
    mut input: File,
    terms: Terms,
    warnings: Vec<NodeError>,
) -> Result<Registration, Error> {
    let key = NewKey::random();
    let prepared = session.nodes.keystore().prepare(std::slice::from_ref(&key), terms)?;
    let seal = Seal::new(&key, &prepared, PURPOSE_FILE)?;
    let object = session.storage.create(&ObjectName::of(seal.header.file))?;
    let written = seal.write(&mut input, Target::File(object.file()))?;
    let entry = entry(&seal, &prepared, &written, Content::Opaque, None)?;
    Steps { session, entry, keys: &[key.id], record: None, threshold: seal.threshold, warnings }.run(prepared, object)
}

fn seal_private(key: &NewKey, prepared: &Prepared, part: &[u8]) -> Result<SealedPrivatePart, Error> {
    let seal = Seal::new(key, prepared, PURPOSE_PRIVATE)?;
    let mut container = Vec::new();
    let written = seal.write(&mut &*part, Target::Stream(&mut container))?;
    let start = written.fingerprint.start;
    Ok(SealedPrivatePart {
        file: seal.header.file,
        key: key.id,
        salt: start.salt,
        commitment: start.commitment,
        manifest: prepared.manifest(key.id).map(encode).transpose()?.unwrap_or_default(),
        container,
    })
}

fn entry(
    seal: &Seal,
    prepared: &Prepared,
    written: &Written,
    content: Content,
    private_part: Option<FileId>,
) -> Result<Entry, Error> {
    let header = &seal.header;
    Ok(Entry {
        file: header.file,
        content,
        key: header.key,
        object: ObjectName::of(header.file),
        plain_size: written.plain_len,
        stored_size: written.container_len,
        salt: written.fingerprint.start.salt,
        commitment: written.fingerprint.start.commitment,
        anchor: header.anchor,
        manifest: prepared.manifest(header.key).map(encode).transpose()?.unwrap_or_default(),
        state: State::Pending,
        created: SystemTime::now(),
        private_part,
    })
}

/// The steps from an unnamed container to a registered image, and the way back.
struct Steps<'a> {
    session: &'a Session,
    entry: Entry,
    keys: &'a [KeyId],
    record: Option<Record>,
    threshold: Threshold,
    warnings: Vec<NodeError>,
}

impl Steps<'_> {
    fn run(mut self, prepared: Prepared, object: Box<dyn NewObject>) -> Result<Registration, Error> {
        let catalog = &self.session.catalog;
        catalog.begin(&self.entry)?;
        let registered = match self.session.nodes.register(prepared) {
            Ok(registered) => registered,
            Err(error) => {
                catalog.discard(self.entry.file)?;
                return Err(error);
            }
        };
        self.warnings.extend(registered.unconfirmed);
        if let Err(error) = self.keep(object) {
            self.undo();
            return Err(error);
        }
        Ok(Registration {
            file: self.entry.file,
            key: self.entry.key,
            content: self.entry.content,
            threshold: self.threshold,
            warnings: self.warnings,
            late: registered.late,
            suspicions: Vec::new(),
            quarantined: false,
            report: None,
        })
    }

    fn keep(&self, object: Box<dyn NewObject>) -> Result<(), Error> {
        object.finish()?;
        if let Some(record) = &self.record {
            self.session.metadata.insert(record)?;
        }
        Ok(self.session.catalog.complete(self.entry.file)?)
    }

    /// Takes everything back, as far as it can be done. The pending entry goes only when all else is gone.
    fn undo(&self) {
        let file = self.entry.file;
        let undone = self.session.nodes.unregister(self.keys).is_empty();
        // What was not there yet cannot be removed, and that is well.
        let _ = self.session.metadata.remove(file);
        let _ = self.session.storage.delete(&self.entry.object);
        if undone {
            let _ = self.session.catalog.discard(file);
        }
    }
}
