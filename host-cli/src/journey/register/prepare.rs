//! One file becomes a container without a name, and all that is to be recorded of it. Nothing is sent to anybody here.
//!
//! What is registered already is found by the header alone, before anything is encrypted; its content is then read and
//! compared. Runs in several threads.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use aws_lc_rs::digest::{Context, SHA256};
use dicom_dictionary_std::tags;
use eds_core::ids::FileId;

use super::{
    Event, Notes, Source,
    clock::{Clock, Stage},
    keys::{Keys, Pair, SealingKey},
};
use crate::{
    Error,
    catalog::{Content, Entry, RunId, State},
    dicom::{
        self, Header, How, ImageBinding, Separated,
        deidentify::{deidentify, sha256},
    },
    journey::{PURPOSE_FILE, PURPOSE_PRIVATE, Seal, frames, project::ProjectKeys},
    metadata::{Known, Metadata, Record, SealedPrivatePart, attributes::Place, policy::Policy},
    payload::{Target, Written},
    quarantine::Quarantine,
    storage::{NewObject, ObjectName, ObjectStore},
};

/// What preparing needs.
pub(super) struct Preparer<'a> {
    pub(super) storage: &'a dyn ObjectStore,
    pub(super) metadata: &'a Metadata,
    pub(super) quarantine: &'a Quarantine,
    pub(super) policy: &'a Policy,
    pub(super) project: &'a ProjectKeys,
    pub(super) how: How<'a>,
    pub(super) keys: &'a Keys<'a>,
    pub(super) clock: &'a Clock,
    pub(super) run: RunId,
    pub(super) opaque: bool,
    /// Identities of what was prepared in this round.
    pub(super) claimed: Mutex<HashSet<[u8; 32]>>,
}

/// What a file became.
pub(super) enum Prepared {
    /// A container and what is to be recorded.
    Sealed(Box<Item>),
    /// Registered before, with the same content.
    Known(FileId),
    /// A copy of another file of this round, to be looked at again when that one is done.
    Copy,
    /// No DICOM image.
    LeftOut(String),
    /// Not to be registered.
    Failed(Error),
}

/// A file ready to be committed.
pub(super) struct Item {
    pub(super) source: Source,
    pub(super) entry: Entry,
    pub(super) record: Record,
    pub(super) object: Box<dyn NewObject>,
    pub(super) keys: Arc<Pair>,
    pub(super) notes: Notes,
}

/// What goes into an item as it is.
struct Ready {
    object: Box<dyn NewObject>,
    keys: Arc<Pair>,
    notes: Notes,
}

impl Prepared {
    /// What there is to tell of a file that is not committed.
    pub(super) fn into_event(self, source: Source) -> Event {
        let Source { path, size, .. } = source;
        match self {
            Self::Known(file) => Event::Known { path, file, size },
            Self::LeftOut(reason) => Event::LeftOut { path, reason },
            Self::Failed(error) => Event::Failed { path, error },
            // These are committed, or looked at again.
            Self::Sealed(_) | Self::Copy => Event::LeftOut { path, reason: "not looked at".into() },
        }
    }
}

impl Preparer<'_> {
    pub(super) fn prepare(&self, source: &Source) -> Prepared {
        self.prepared(source, || {
            let path = &source.path;
            let mut input = File::open(path).map_err(Error::reading(path))?;
            if input.metadata().map_err(Error::reading(path))?.is_dir() {
                return Err(Error::reading(path)(io::ErrorKind::IsADirectory.into()));
            }
            self.try_prepare(source, &mut input)
        })
    }

    /// As [`Preparer::prepare`], of something else than a file; `source` is for display.
    pub(super) fn prepare_from<R: Read + Seek + Send>(&self, source: &Source, input: &mut R) -> Prepared {
        self.prepared(source, || self.try_prepare(source, input))
    }

    fn prepared(&self, source: &Source, prepare: impl FnOnce() -> Result<Prepared, Error>) -> Prepared {
        let prepared = prepare().unwrap_or_else(Prepared::Failed);
        if !matches!(prepared, Prepared::Sealed(_) | Prepared::Copy) {
            self.clock.done_with(source.size);
        }
        prepared
    }

    fn try_prepare<R: Read + Seek + Send>(&self, source: &Source, input: &mut R) -> Result<Prepared, Error> {
        let path = &source.path;
        if source.named && self.opaque {
            return self.whole(source, input, Notes::default());
        }
        match self.clock.time(Stage::Parse, || deidentify(input, &self.how)) {
            Ok(image) => self.image(source, image, input),
            Err(error @ (dicom::Error::Suspect { .. } | dicom::Error::Quarantine { .. })) => {
                match (self.passed_before(source, input)?, error) {
                    (Some(there), _) => Ok(there),
                    (None, dicom::Error::Quarantine { suspicions }) => {
                        self.whole(source, input, Notes { suspicions, quarantined: true, report: None })
                    }
                    (None, error) => Err(Error::Dicom { path: path.clone(), source: error }),
                }
            }
            Err(error) if !error.is_unreadable() => Err(Error::Dicom { path: path.clone(), source: error }),
            Err(dicom::Error::NotDicom) if source.named => self.whole(source, input, Notes::default()),
            Err(_) if self.opaque => self.whole(source, input, Notes::default()),
            Err(dicom::Error::Directory) if !source.named => Ok(Prepared::LeftOut("a DICOMDIR is not an image".into())),
            Err(dicom::Error::NotDicom) if !looks_like_dicom(input, source)? => {
                Ok(Prepared::LeftOut("not DICOM".into()))
            }
            Err(error) => Err(Error::Dicom { path: path.clone(), source: error }),
        }
    }

    /// What is to be done about a suspect image that a person let pass before; nothing when nobody did.
    fn passed_before<R: Read + Seek>(&self, source: &Source, input: &mut R) -> Result<Option<Prepared>, Error> {
        let unreadable = |error| Error::Dicom { path: source.path.clone(), source: error };
        let how = How { pass_suspect: true, report: false, ..self.how };
        let image = deidentify(input, &how).map_err(unreadable)?;
        let identity = self.identity(&image.original_header().map_err(unreadable)?, input, source)?;
        match self.metadata.known(&identity)? {
            Some(known) => self.compared(known, input, source).map(Some),
            None => Ok(None),
        }
    }

    fn image<R: Read + Seek + Send>(
        &self,
        source: &Source,
        mut image: Separated,
        input: &mut R,
    ) -> Result<Prepared, Error> {
        let unreadable = |error| Error::Dicom { path: source.path.clone(), source: error };
        let (original, cleaned) = self.clock.time(Stage::Parse, || {
            let original = image.original_header().map_err(unreadable)?;
            Ok::<_, Error>((original, image.deidentified_header().map_err(unreadable)?))
        })?;
        let identity = self.identity(&original, input, source)?;
        let (study, series) = (cleaned.value(tags::STUDY_INSTANCE_UID), cleaned.value(tags::SERIES_INSTANCE_UID));
        if let Some(there) = self.there(&identity, input, source)? {
            return Ok(there);
        }
        let keys = self.clock.time(Stage::Keys, || self.keys.of_image(study.as_deref(), series.as_deref()))?;
        let Some(private_key) = &keys.private else { return Err(Error::NothingFetched) };

        let seal = Seal::under(&keys.image.secret, &keys.image.manifest, PURPOSE_FILE);
        let (object, written, finished) = self.clock.time(Stage::Encrypt, || {
            let object = self.storage.create(&ObjectName::of(seal.header.file))?;
            let mut stream = image.deidentified(input).map_err(unreadable)?;
            let written = seal.write(&mut stream, Target::File(object.file()))?;
            Ok::<_, Error>((object, written, stream.finish().map_err(unreadable)?))
        })?;

        let (place, table) = self.clock.time(Stage::Parse, || {
            let (syntax, search) = (image.transfer_syntax(), &self.project.search);
            let place = Place::of(seal.header.file, &original, &cleaned, syntax, self.policy, search);
            // A pixel data element that is not built as it should be has no frames to read singly.
            let table = match image.frames(input, &original) {
                Err(error @ dicom::Error::Read(_)) => return Err(unreadable(error)),
                table => table.ok().flatten(),
            };
            Ok((place, table))
        })?;
        let frames = table.map(|table| frames::seal(&table, &keys.image.secret, keys.image.id, seal.header.file));

        let start = written.fingerprint.start;
        let binding = ImageBinding { file: seal.header.file, salt: start.salt, commitment: start.commitment };
        let digest = self.project.identity.digest(&finished.digests.original);
        let notes = Notes { suspicions: image.suspicions().to_vec(), quarantined: false, report: image.take_report() };
        let part = image.into_private_part(binding, finished).encode().map_err(unreadable)?;
        let private = self.clock.time(Stage::Encrypt, || seal_private(private_key, &part))?;
        let record = Record {
            image: seal.header.file,
            content: Content::Image,
            identity,
            digest,
            private: Some(private),
            place: Some(place),
            frames,
        };
        Ok(self.item(source, &seal, &written, record, Ready { object, keys, notes }))
    }

    fn whole<R: Read + Seek + Send>(&self, source: &Source, input: &mut R, notes: Notes) -> Result<Prepared, Error> {
        let content = digest_of(input, source)?;
        let identity = self.project.identity.of_content(&content);
        if notes.quarantined && self.quarantine.is_rejected(&identity)? {
            return Ok(Prepared::LeftOut("a person looked at it and rejected it (eds quarantine reject)".into()));
        }
        if let Some(there) = self.there(&identity, input, source)? {
            return Ok(there);
        }
        let keys = self.clock.time(Stage::Keys, || self.keys.of_file())?;
        let seal = Seal::under(&keys.image.secret, &keys.image.manifest, PURPOSE_FILE);
        input.seek(SeekFrom::Start(0)).map_err(Error::reading(&source.path))?;
        let (object, written, read) = self.clock.time(Stage::Encrypt, || {
            let object = self.storage.create(&ObjectName::of(seal.header.file))?;
            let mut stream = Hashing { input: &mut *input, context: Context::new(&SHA256) };
            let written = seal.write(&mut stream, Target::File(object.file()))?;
            Ok::<_, Error>((object, written, sha256(stream.context)))
        })?;
        if read != content {
            return Err(Error::Dicom { path: source.path.clone(), source: dicom::Error::Changed });
        }
        let digest = self.project.identity.digest(&content);
        let (image, content) = (seal.header.file, Content::Opaque);
        let record = Record { image, content, identity, digest, private: None, place: None, frames: None };
        Ok(self.item(source, &seal, &written, record, Ready { object, keys, notes }))
    }

    /// By which an image is told apart: its original SOP Instance UID or, without one, its content.
    fn identity<R: Read + Seek>(
        &self,
        original: &Header<'_>,
        input: &mut R,
        source: &Source,
    ) -> Result<[u8; 32], Error> {
        Ok(match original.value(tags::SOP_INSTANCE_UID) {
            Some(uid) => self.project.identity.of_image(&uid),
            None => self.project.identity.of_content(&digest_of(input, source)?),
        })
    }

    /// What is to be done about a file whose identity is known or claimed already; nothing when it is new.
    fn there<R: Read + Seek>(
        &self,
        identity: &[u8; 32],
        input: &mut R,
        source: &Source,
    ) -> Result<Option<Prepared>, Error> {
        if let Some(known) = self.metadata.known(identity)? {
            return self.compared(known, input, source).map(Some);
        }
        let new = self.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(*identity);
        Ok((!new).then_some(Prepared::Copy))
    }

    /// Whether a file is what is registered under its identity.
    fn compared<R: Read + Seek>(&self, known: Known, input: &mut R, source: &Source) -> Result<Prepared, Error> {
        let digest = self.project.identity.digest(&digest_of(input, source)?);
        Ok(if digest == known.digest {
            Prepared::Known(known.image)
        } else {
            Prepared::Failed(Error::OtherContent { path: source.path.clone(), file: known.image })
        })
    }

    fn item(&self, source: &Source, seal: &Seal, written: &Written, record: Record, ready: Ready) -> Prepared {
        let Ready { object, keys, notes } = ready;
        let header = &seal.header;
        let entry = Entry {
            file: header.file,
            content: record.content,
            key: header.key,
            object: ObjectName::of(header.file),
            plain_size: written.plain_len,
            stored_size: written.container_len,
            salt: written.fingerprint.start.salt,
            commitment: written.fingerprint.start.commitment,
            anchor: header.anchor,
            manifest: keys.image.encoded.clone(),
            state: State::Pending,
            created: SystemTime::now(),
            private_part: record.private.as_ref().map(|private| private.file),
            private_key: record.private.as_ref().map(|private| private.key),
            run: self.run,
        };
        Prepared::Sealed(Box::new(Item { source: source.clone(), entry, record, object, keys, notes }))
    }
}

fn seal_private(key: &SealingKey, part: &[u8]) -> Result<SealedPrivatePart, Error> {
    let seal = Seal::under(&key.secret, &key.manifest, PURPOSE_PRIVATE);
    let mut container = Vec::new();
    let written = seal.write(&mut &*part, Target::Stream(&mut container))?;
    let start = written.fingerprint.start;
    Ok(SealedPrivatePart {
        file: seal.header.file,
        key: key.id,
        salt: start.salt,
        commitment: start.commitment,
        manifest: key.encoded.clone(),
        container,
    })
}

/// Whether a file without the prefix is an image all the same: its name says so, or it starts as a data set does.
fn looks_like_dicom<R: Read + Seek>(input: &mut R, source: &Source) -> Result<bool, Error> {
    let extension = source.path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    if extension.is_some_and(|extension| ["dcm", "dicom", "ima"].contains(&extension.as_str())) {
        return Ok(true);
    }
    let mut start = [0; 6];
    let mut read = || {
        input.seek(SeekFrom::Start(0))?;
        input.read_exact(&mut start)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read.map_err(Error::reading(&source.path))?,
    }
    // The first element is of group 0002 or 0008, in either byte order, and its VR, if there is one, is a known one.
    let group = matches!(start, [2 | 8, 0, _, 0, ..] | [0, 2 | 8, 0, ..]);
    let explicit =
        matches!(start, [_, _, _, _, b'U', b'L' | b'I'] | [_, _, _, _, b'C', b'S'] | [_, _, _, _, b'O', b'B']);
    Ok(group && (explicit || start[5] == 0))
}

/// The digest of the whole file.
fn digest_of<R: Read + Seek>(input: &mut R, source: &Source) -> Result<[u8; 32], Error> {
    let failed = || Error::reading(&source.path);
    input.seek(SeekFrom::Start(0)).map_err(failed())?;
    let mut stream = Hashing { input, context: Context::new(&SHA256) };
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(sha256(stream.context)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => drop(read.map_err(failed())?),
        }
    }
}

/// Reads, and computes the digest of what was read.
struct Hashing<'a, R> {
    input: &'a mut R,
    context: Context,
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.context.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}
