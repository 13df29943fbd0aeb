//! An image comes back.
//!
//! The container must be the one that was recorded before its key is even asked for. The key comes from any m nodes. The
//! end of the container is checked before its beginning is released, and each chunk before it is; a file appears under
//! its name only when it is whole and, for a restored original, when its digest is right. Decrypted data is in this
//! process's memory and in the output that the user asked for, and nowhere else.

use std::io::{self, BufWriter, Write};

use eds_core::{
    cipher::Start,
    container::Fingerprint,
    ids::{DeviceId, FileId},
    sharing::FileSecret,
};
use zeroize::Zeroizing;

use super::{PURPOSE_PRIVATE, Session, deliver, payload_key, recorded};
use crate::{
    Error,
    catalog::{Entry, State},
    dicom::{ImageBinding, PrivatePart, Restorer},
    keystore::{Evidence, Fetched, NodeError, Want},
    metadata::SealedPrivatePart,
    output::Output,
    payload::{self, Container, Options, Source, Target, Unlocked},
    storage::{self, ObjectName, ObjectStore as _},
};

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
    let entry = match session.catalog.entry(file) {
        Ok(entry) => entry,
        Err(unknown @ crate::database::Error::NotFound { .. }) => {
            return uncatalogued(session, file, output, restore, unknown.into());
        }
        Err(error) => return Err(error.into()),
    };
    if entry.state == State::Pending {
        return Err(Error::Interrupted { file });
    }
    let private = match (restore, entry.private_part) {
        (false, _) => None,
        (true, Some(_)) => Some(session.metadata.record(file)?.private),
        (true, None) => return Err(Error::NothingToRestore { file }),
    };
    let stored = |source| Error::Stored { file, source };
    let mut object = session.storage.open(&entry.object)?;
    let source = match object.as_file() {
        Some(local) => Source::File(local),
        None => Source::Seekable(&mut object),
    };
    let container = Container::read(source).map_err(stored)?;
    let start = Start { salt: entry.salt, commitment: entry.commitment };
    container.expect(&Fingerprint { file, start }).map_err(stored)?;

    let mut wants = vec![Want { key: entry.key, evidence: recorded(&entry.manifest)? }];
    if let Some(private) = &private {
        wants.push(Want { key: private.key, evidence: recorded(&private.manifest)? });
    }
    let (fetched, culprits) = session.nodes.fetch_all(&wants)?;
    let mut fetched = fetched.into_iter();
    let of_image = fetched.next().ok_or(Error::NothingFetched)?;
    let private = private.zip(fetched.next());
    let unlocked = container.unlock(&payload_key(&of_image)).map_err(stored)?;
    drop(of_image);
    match private {
        None => deliver(unlocked, output, stored)?,
        Some((private, fetched)) => {
            let part = open_private(&entry, &private, &fetched.secret)?;
            drop(fetched);
            self::restore(file, unlocked, &part, output)?;
        }
    }
    Ok(Retrieved { culprits, made_by: None })
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

/// Opens the private part and checks that it belongs to this container.
fn open_private(entry: &Entry, private: &SealedPrivatePart, secret: &FileSecret) -> Result<PrivatePart, Error> {
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

fn write_original(
    file: FileId,
    unlocked: Unlocked<'_>,
    part: &PrivatePart,
    output: &mut impl Write,
) -> Result<(), Error> {
    let failed = |source| Error::Private { file, source };
    let mut restorer = Restorer::new(part, output).map_err(failed)?;
    let copied = unlocked.copy_to(Target::Stream(&mut restorer), &Options::default());
    copied.map_err(|source| Error::Stored { file, source })?;
    restorer.finish().map_err(failed)
}

/// Bytes written at once.
const BUFFER: usize = 256 * 1024;
