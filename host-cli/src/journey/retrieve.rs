//! An image comes back.
//!
//! The container must be the one that was recorded before its key is even asked for. The key comes from any m nodes. The
//! end of the container is checked before its beginning is released, and each chunk before it is; a file appears under
//! its name only when it is whole and, for a restored original, when its digest is right. Decrypted data is in this
//! process's memory and in the output that the user asked for, and nowhere else.

use std::io::{self, BufWriter, Write};

use eds_core::{cipher::Start, container::Fingerprint, ids::FileId, sharing::FileSecret};
use zeroize::Zeroizing;

use super::{PURPOSE_FILE, PURPOSE_PRIVATE, Session, deliver, recorded};
use crate::{
    Error,
    catalog::{Entry, State},
    dicom::{ImageBinding, PrivatePart, Restorer},
    keystore::{NodeError, Want},
    metadata::SealedPrivatePart,
    output::Output,
    payload::{Container, Options, Source, Target, Unlocked},
    storage::ObjectStore as _,
};

/// Retrieves a registered file into `output`: as it was stored, or with `restore` as it was received. Returns the nodes
/// that answered wrongly.
///
/// # Errors
/// What finding, reading, fetching, checking or writing failed with.
pub fn retrieve(session: &Session, file: FileId, output: Output, restore: bool) -> Result<Vec<NodeError>, Error> {
    let entry = session.catalog.entry(file)?;
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
    let (secrets, culprits) = session.nodes.fetch_all(&wants)?;
    let mut secrets = secrets.into_iter();
    let secret = secrets.next().ok_or(Error::NothingFetched)?;
    let private = private.zip(secrets.next());
    let unlocked = container.unlock(&secret.input_key(PURPOSE_FILE, entry.key)).map_err(stored)?;
    drop(secret);
    match private {
        None => deliver(unlocked, output, stored)?,
        Some((private, secret)) => {
            let part = open_private(&entry, &private, &secret)?;
            drop(secret);
            self::restore(file, unlocked, &part, output)?;
        }
    }
    Ok(culprits)
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
