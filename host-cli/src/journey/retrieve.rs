//! Images come back.
//!
//! A container must be the one that was recorded before its key is even asked for. Keys come from any m nodes, those of
//! many images in one call to each. The end of a container is checked before its beginning is released, and each chunk
//! before it is; a file appears under its name only when it is whole and, for a restored original, when its digest is right.
//! Decrypted data is in this process's memory and in the output that the user asked for, and nowhere else.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use eds_core::{
    api::MAX_BATCH,
    cipher::Start,
    container::Fingerprint,
    ids::{DeviceId, FileId, KeyId},
    sharing::FileSecret,
};
use zeroize::Zeroizing;

use super::{PURPOSE_PRIVATE, Session, deliver, frames, payload_key, recorded};
use crate::{
    Error,
    catalog::{Entry, State},
    dicom::{FrameTable, ImageBinding, PrivatePart, Restorer},
    keystore::{Evidence, Fetched, NodeError, Want},
    metadata::SealedPrivatePart,
    output::{self, Existing, Output, OutputFile},
    payload::{self, Container, Options, Origin, PlainReader, Source, Target, Unlocked},
    storage::{self, Object, ObjectName, ObjectStore},
};

/// An image to retrieve into a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Which.
    pub file: FileId,
    /// Where to.
    pub path: PathBuf,
}

/// Hears what became of each order: its length in bytes, or why not.
pub type Told<'a> = &'a mut dyn FnMut(&Order, Result<u64, Error>) -> Result<(), Error>;

/// A file that was retrieved.
#[derive(Debug)]
pub struct Retrieved {
    /// The nodes that answered wrongly.
    pub culprits: Vec<NodeError>,
    /// Who made it, when that is known from the key servers alone and not from the catalog.
    pub made_by: Option<Maker>,
}

/// The imaging device that made a file, as the key servers say that opened it: each took its key from an enrolled device alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Maker {
    /// The device.
    pub device: DeviceId,
    /// Its counter.
    pub counter: u64,
    /// How many key servers say so.
    pub nodes: u8,
}

/// Retrieves a registered file into `output`: as it was stored, or with `restore` as it was received. A file that an imaging
/// device made need not be in the catalog: its storage name is its id, and the key servers vouch for the rest.
///
/// # Errors
/// What finding, reading, fetching, checking or writing failed with.
pub fn retrieve(session: &Session, file: FileId, output: Output, restore: bool) -> Result<Retrieved, Error> {
    let wanted = match Wanted::find(session, file, restore) {
        Ok(wanted) => wanted,
        Err(unknown @ Error::Database(crate::database::Error::NotFound { what: crate::catalog::WHAT, .. })) => {
            return uncatalogued(session, file, output, restore, unknown);
        }
        Err(error) => return Err(error),
    };
    let mut secrets = Secrets::default();
    secrets.fetch(session, [&wanted])?;
    wanted.put(&*session.storage, &secrets, output)?;
    Ok(Retrieved { culprits: secrets.culprits, made_by: None })
}

/// Retrieves a file that this catalog does not know, if an imaging device made it. The container under its name must say that
/// it is this file, and its key must be one that the key servers have of a device: so that who runs the storage can put no
/// other container in its place, not even one whose key the reader may fetch.
fn uncatalogued(
    session: &Session,
    file: FileId,
    output: Output,
    restore: bool,
    unknown: Error,
) -> Result<Retrieved, Error> {
    let stored = |source| Error::Stored { file, source };
    let mut object = match session.storage.open(&ObjectName::of(file)) {
        Ok(object) => object,
        Err(storage::Error::NotFound { .. }) => return Err(unknown),
        Err(error) => return Err(error.into()),
    };
    let source = match object.as_file() {
        Some(local) => Source::File(local),
        None => Source::Seekable(&mut object),
    };
    let container = Container::read(source).map_err(stored)?;
    let header = *container.header();
    if header.file != file {
        return Err(stored(payload::Error::Exchanged));
    }
    let want = Want { key: header.key, evidence: Evidence::Anchor(header.anchor) };
    let (mut fetched, culprits) = session.nodes.fetch_all(&[want])?;
    let fetched = fetched.pop().ok_or(Error::NothingFetched)?;
    let Some(maker) = maker(&fetched) else { return Err(unknown) };
    if restore {
        return Err(Error::NothingToRestore { file });
    }
    let unlocked = container.unlock(&payload_key(&fetched)).map_err(stored)?;
    drop(fetched);
    deliver(unlocked, output, stored)?;
    Ok(Retrieved { culprits, made_by: Some(maker) })
}

fn maker(fetched: &Fetched) -> Option<Maker> {
    let origin = fetched.manifest.origin.as_ref()?;
    Some(Maker { device: origin.device, counter: origin.counter, nodes: fetched.manifest.threshold.needed() })
}

/// Retrieves many files, each into its own; folders are made where they are not there. `tell` hears what became of each.
/// Returns the nodes that answered wrongly.
///
/// # Errors
/// What keeps all of them from being retrieved: too few key servers, and what `tell` failed with.
pub fn retrieve_many(
    session: &Session,
    orders: &[Order],
    restore: bool,
    existing: Existing,
    tell: Told<'_>,
) -> Result<Vec<NodeError>, Error> {
    let mut secrets = Secrets::default();
    for orders in orders.chunks(MAX_BATCH / 2) {
        let mut found = Vec::with_capacity(orders.len());
        for order in orders {
            match Wanted::find(session, order.file, restore) {
                Ok(wanted) => found.push((order, wanted)),
                Err(error) => tell(order, Err(error))?,
            }
        }
        secrets.fetch(session, found.iter().map(|(_, wanted)| wanted))?;
        put_all(&*session.storage, &secrets, found, existing, tell)?;
    }
    Ok(secrets.culprits)
}

/// Writes one frame of an image, as it is in its pixel data; decrypts only the chunks that hold it.
///
/// # Errors
/// [`Error::NoFrames`], [`Error::NoSuchFrame`], [`Error::FrameTable`], and what finding, fetching, checking or writing failed
/// with.
pub fn frame(session: &Session, file: FileId, number: u32, output: &mut dyn Write) -> Result<Vec<NodeError>, Error> {
    with_frames(session, file, |table, copy| {
        let pieces = table.pieces(number).ok_or(Error::NoSuchFrame { file, number, frames: table.count() })?;
        pieces.into_iter().try_for_each(|(offset, length)| copy(offset, length, output))
    })
}

/// Decrypts parts of a file: offset, length, and where to.
type Copy<'a> = &'a mut dyn FnMut(u64, u64, &mut dyn Write) -> Result<(), Error>;

/// The header of a de-identified image, and the pieces of some of its frames.
#[derive(Debug, Default)]
pub struct Part {
    /// The file up to its pixel data element.
    pub head: Vec<u8>,
    /// For each frame its pieces: one of native pixel data, one or more fragments of encapsulated.
    pub frames: Vec<Vec<Vec<u8>>>,
}

/// The header and some frames of an image; `choose` gets the number of frames and names those that are wanted, from 1 on.
/// Decrypts only the chunks that hold them.
///
/// # Errors
/// As [`frame`].
pub fn part(
    session: &Session,
    file: FileId,
    choose: impl FnOnce(u32) -> Vec<u32>,
) -> Result<(Part, Vec<NodeError>), Error> {
    let mut part = Part::default();
    let culprits = with_frames(session, file, |table, copy| {
        copy(0, table.element, &mut part.head)?;
        for number in choose(table.count()) {
            let pieces = table.pieces(number).ok_or(Error::NoSuchFrame { file, number, frames: table.count() })?;
            let mut frame = Vec::with_capacity(pieces.len());
            for (offset, length) in pieces {
                let mut piece = Vec::new();
                copy(offset, length, &mut piece)?;
                frame.push(piece);
            }
            part.frames.push(frame);
        }
        Ok(())
    })?;
    Ok((part, culprits))
}

/// The content of a file, readable at positions for as long as it is kept: its key was fetched once, and what was decrypted is
/// wiped with it.
pub(super) fn reader(session: &Session, file: FileId) -> Result<(PlainReader, Vec<NodeError>), Error> {
    let wanted = Wanted::find(session, file, false)?;
    let mut secrets = Secrets::default();
    secrets.fetch(session, [&wanted])?;
    let stored = |source| Error::Stored { file, source };
    let mut object = session.storage.open(&wanted.entry.object)?;
    let unlocked =
        wanted.container(&mut object)?.unlock(&payload_key(secrets.of(wanted.entry.key)?)).map_err(stored)?;
    let released = unlocked.release().map_err(stored)?;
    let origin =
        match object.as_file().map(File::try_clone).transpose().map_err(payload::Error::Read).map_err(stored)? {
            Some(file) => Origin::File(file),
            None => Origin::Other(Mutex::new(Box::new(object))),
        };
    Ok((PlainReader::new(released, origin), secrets.culprits))
}

fn with_frames(
    session: &Session,
    file: FileId,
    work: impl FnOnce(&FrameTable, Copy<'_>) -> Result<(), Error>,
) -> Result<Vec<NodeError>, Error> {
    let sealed = session.metadata.frames(file)?.ok_or(Error::NoFrames { file })?;
    let wanted = Wanted::find(session, file, false)?;
    let mut secrets = Secrets::default();
    secrets.fetch(session, [&wanted])?;
    let fetched = secrets.of(wanted.entry.key)?;
    let table: FrameTable = frames::open(&sealed, &fetched.secret, wanted.entry.key, file)?;
    let stored = |source| Error::Stored { file, source };
    let mut object = session.storage.open(&wanted.entry.object)?;
    let container = wanted.container(&mut object)?;
    let mut unlocked = container.unlock(&payload_key(fetched)).map_err(stored)?;
    work(&table, &mut |offset, length, output| unlocked.copy_range(offset, length, output).map_err(stored))?;
    Ok(secrets.culprits)
}

/// A file to be decrypted, whose container is the recorded one.
pub(super) struct Wanted {
    entry: Entry,
    /// With `restore`.
    private: Option<SealedPrivatePart>,
}

impl Wanted {
    fn find(session: &Session, file: FileId, restore: bool) -> Result<Self, Error> {
        let entry = registered(session, file)?;
        let private = match (restore, entry.private_part) {
            (false, _) => None,
            (true, Some(_)) => Some(session.metadata.private_part(file)?),
            (true, None) => return Err(Error::NothingToRestore { file }),
        };
        let wanted = Self { entry, private };
        wanted.container(&mut session.storage.open(&wanted.entry.object)?)?;
        Ok(wanted)
    }

    /// As the catalog has it; its container is not looked at before it is needed.
    pub(super) fn of_catalog(session: &Session, file: FileId) -> Result<Self, Error> {
        let entry = session.catalog.entry(file)?;
        if entry.state == State::Pending && !session.metadata.contains(file)? {
            return Err(Error::Interrupted { file });
        }
        Ok(Self { entry, private: None })
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    #[cfg(feature = "gateway")]
    pub(super) fn has_private_part(&self) -> bool {
        self.entry.private_part.is_some()
    }

    #[cfg(feature = "gateway")]
    pub(super) fn key(&self) -> KeyId {
        self.entry.key
    }

    pub(super) fn want(&self) -> Result<Want, Error> {
        Ok(Want { key: self.entry.key, evidence: recorded(&self.entry.manifest)? })
    }

    pub(super) fn open(&self, session: &Session) -> Result<Box<dyn Object>, Error> {
        Ok(session.storage.open(&self.entry.object)?)
    }

    /// The container in this object, if it is the recorded one.
    pub(super) fn container<'a>(&self, object: &'a mut Box<dyn Object>) -> Result<Container<'a>, Error> {
        let file = self.entry.file;
        let stored = |source| Error::Stored { file, source };
        // Asked first: what is borrowed as a file cannot be borrowed anew as something else.
        let source = match object.as_file().is_some() {
            true => match object.as_file() {
                Some(local) => Source::File(local),
                None => return Err(Error::NothingFetched),
            },
            false => Source::Seekable(object),
        };
        let container = Container::read(source).map_err(stored)?;
        let start = Start { salt: self.entry.salt, commitment: self.entry.commitment };
        container.expect(&Fingerprint { file, start }).map_err(stored)?;
        Ok(container)
    }

    fn wants(&self) -> Result<Vec<Want>, Error> {
        let mut wants = vec![Want { key: self.entry.key, evidence: recorded(&self.entry.manifest)? }];
        if let Some(private) = &self.private {
            wants.push(Want { key: private.key, evidence: recorded(&private.manifest)? });
        }
        Ok(wants)
    }

    fn put(&self, storage: &dyn ObjectStore, secrets: &Secrets, output: Output) -> Result<(), Error> {
        let file = self.entry.file;
        let stored = |source| Error::Stored { file, source };
        let mut object = storage.open(&self.entry.object)?;
        let container = self.container(&mut object)?;
        let unlocked = container.unlock(&payload_key(secrets.of(self.entry.key)?)).map_err(stored)?;
        match &self.private {
            None => deliver(unlocked, output, stored),
            Some(private) => {
                let part = open_private(&self.entry, private, &secrets.of(private.key)?.secret)?;
                self::restore(file, unlocked, &part, output)
            }
        }
    }
}

/// The entry of a file whose registration is complete.
pub(super) fn registered(session: &Session, file: FileId) -> Result<Entry, Error> {
    let entry = session.catalog.entry(file)?;
    // The last step of a registration is a mark in the catalog: what the metadata database has is registered.
    if entry.state == State::Pending && !session.metadata.contains(file)? {
        return Err(Error::Interrupted { file });
    }
    Ok(entry)
}

/// Keys, each fetched once.
#[derive(Default)]
struct Secrets {
    of: HashMap<KeyId, Fetched>,
    culprits: Vec<NodeError>,
}

impl Secrets {
    fn fetch<'a>(&mut self, session: &Session, wanted: impl IntoIterator<Item = &'a Wanted>) -> Result<(), Error> {
        let mut wants: Vec<Want> = Vec::new();
        for wanted in wanted {
            for want in wanted.wants()? {
                if !self.of.contains_key(&want.key) && wants.iter().all(|other| other.key != want.key) {
                    wants.push(want);
                }
            }
        }
        for wants in wants.chunks(MAX_BATCH) {
            let (fetched, culprits) = session.nodes.fetch_all(wants)?;
            self.of.extend(wants.iter().map(|want| want.key).zip(fetched));
            for culprit in culprits {
                if self.culprits.iter().all(|known| known.node != culprit.node) {
                    self.culprits.push(culprit);
                }
            }
        }
        Ok(())
    }

    fn of(&self, key: KeyId) -> Result<&Fetched, Error> {
        self.of.get(&key).ok_or(Error::NothingFetched)
    }
}

fn put_all(
    storage: &dyn ObjectStore,
    secrets: &Secrets,
    found: Vec<(&Order, Wanted)>,
    existing: Existing,
    tell: Told<'_>,
) -> Result<(), Error> {
    let threads = thread::available_parallelism().map_or(2, usize::from).min(found.len()).min(MAX_THREADS);
    let left = Mutex::new(VecDeque::from(found));
    let (sender, receiver) = mpsc::sync_channel(2 * threads.max(1));
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, left) = (sender.clone(), &left);
            scope.spawn(move || {
                loop {
                    let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((order, wanted)) = next else { break };
                    let put = put_into_file(storage, secrets, order, &wanted, existing);
                    if sender.send((order, put)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        receiver.into_iter().try_for_each(|(order, put)| tell(order, put))
    })
}

fn put_into_file(
    storage: &dyn ObjectStore,
    secrets: &Secrets,
    order: &Order,
    wanted: &Wanted,
    existing: Existing,
) -> Result<u64, Error> {
    if let Some(folder) = order.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        output::make_private_directory(folder)?;
    }
    let output = OutputFile::create(&order.path, existing)?;
    wanted.put(storage, secrets, Output::File(output))?;
    Ok(wanted.entry.plain_size)
}

/// Opens the private part and checks that it belongs to this container.
pub(super) fn open_private(
    entry: &Entry,
    private: &SealedPrivatePart,
    secret: &FileSecret,
) -> Result<PrivatePart, Error> {
    let stored = |source| Error::Stored { file: private.file, source };
    let mut bytes = private.container.as_slice();
    let container = Container::read(Source::Stream(&mut bytes)).map_err(stored)?;
    let start = Start { salt: private.salt, commitment: private.commitment };
    container.expect(&Fingerprint { file: private.file, start }).map_err(stored)?;
    let unlocked = container.unlock(&secret.input_key(PURPOSE_PRIVATE, private.key)).map_err(stored)?;
    // Reserved beforehand, so that no copy is left behind by a growing buffer.
    let mut part = Zeroizing::new(Vec::with_capacity(private.container.len()));
    unlocked.copy_to(Target::Stream(&mut *part), &Options::default()).map_err(stored)?;
    let part = PrivatePart::decode(&part).map_err(|source| Error::Private { file: entry.file, source })?;
    let image = ImageBinding { file: entry.file, salt: entry.salt, commitment: entry.commitment };
    part.check_image(&image).map_err(|source| Error::Private { file: entry.file, source })?;
    Ok(part)
}

/// Decrypts into a writer that puts the original together.
fn restore(file: FileId, unlocked: Unlocked<'_>, part: &PrivatePart, output: Output) -> Result<(), Error> {
    match output {
        Output::File(target) => {
            write_original(file, unlocked, part, &mut BufWriter::with_capacity(BUFFER, target.file()))?;
            Ok(target.finish()?)
        }
        Output::Stdout => write_original(file, unlocked, part, &mut io::stdout().lock()),
    }
}

pub(super) fn write_original(
    file: FileId,
    unlocked: Unlocked<'_>,
    part: &PrivatePart,
    output: &mut impl Write,
) -> Result<(), Error> {
    let failed = |source| Error::Private { file, source };
    let mut restorer = Restorer::new(part, output).map_err(failed)?;
    let copied = unlocked.copy_to(Target::Stream(&mut restorer), &Options::default());
    copied.map_err(|source: payload::Error| Error::Stored { file, source })?;
    restorer.finish().map_err(failed)
}

/// Bytes written at once.
const BUFFER: usize = 256 * 1024;
/// More would wait for the disk, and for each other.
const MAX_THREADS: usize = 16;
