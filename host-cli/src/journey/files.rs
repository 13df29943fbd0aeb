//! Any file or pipe: encrypted under a key of its own, decrypted with the key that its header names.

use std::{
    fs::File,
    io::{Read, Write as _},
    path::Path,
};

use eds_core::ids::{KeyId, Threshold};

use super::{Nodes, PURPOSE_FILE, Seal, deliver, payload_key, payload_purpose};
use crate::{
    Error,
    keystore::{Evidence, NewKey, NodeError, Terms, Want},
    output::Output,
    payload::{self, Container, Source, Target},
};

/// What was encrypted.
#[derive(Debug)]
pub struct Encrypted {
    /// The new key.
    pub key: KeyId,
    /// How many of how many nodes open it.
    pub threshold: Threshold,
    /// Nodes that hold the key but could not be told that enough others do.
    pub unconfirmed: Vec<NodeError>,
    /// Nodes whose share waits in the queue.
    pub late: Vec<NodeError>,
}

/// Encrypts `input` under a new key. Into a file, nothing appears under its name unless the key is registered; into a
/// pipe, nothing is written before it is.
///
/// # Errors
/// What reading, writing or registering failed with.
pub fn encrypt(
    nodes: &Nodes,
    input: &mut (impl Read + Send + ?Sized),
    output: Output,
    terms: Terms,
) -> Result<Encrypted, Error> {
    let key = NewKey::random();
    let prepared = nodes.keystore().prepare(std::slice::from_ref(&key), terms)?;
    let seal = Seal::new(&key, &prepared, PURPOSE_FILE)?;
    let threshold = seal.threshold;
    let registered = match output {
        Output::File(file) => {
            seal.write(input, Target::File(file.file()))?;
            let registered = nodes.register(prepared)?;
            if let Err(error) = file.finish() {
                nodes.unregister(&[key.id]);
                return Err(error.into());
            }
            registered
        }
        Output::Stdout => {
            let registered = nodes.register(prepared)?;
            let mut stdout = std::io::stdout().lock();
            let written = seal.write(input, Target::Stream(&mut stdout));
            let flushed = stdout.flush().map_err(|error| payload::Error::Write(error).into());
            if let Err(error) = written.and(flushed) {
                nodes.unregister(&[key.id]);
                return Err(error);
            }
            registered
        }
    };
    Ok(Encrypted { key: key.id, threshold, unconfirmed: registered.unconfirmed, late: registered.late })
}

/// What was encrypted under a key that was there.
#[derive(Debug)]
pub struct Under {
    /// The key.
    pub key: KeyId,
    /// How many of how many nodes open it.
    pub threshold: Threshold,
    /// Nodes that answered wrongly.
    pub culprits: Vec<NodeError>,
}

/// Encrypts `input` under a key that is registered. Each file has a salt of its own.
///
/// # Errors
/// What fetching the key, reading or writing failed with. A file appears under its name only when it is whole.
pub fn encrypt_under(
    nodes: &Nodes,
    want: &Want,
    input: &mut (impl Read + Send + ?Sized),
    output: Output,
) -> Result<Under, Error> {
    let (mut fetched, culprits) = nodes.fetch_all(std::slice::from_ref(want))?;
    let fetched = fetched.pop().ok_or(Error::NothingFetched)?;
    let seal = Seal::under(&fetched.secret, &fetched.manifest, payload_purpose(&fetched.manifest));
    drop(fetched);
    match output {
        Output::File(file) => {
            seal.write(input, Target::File(file.file()))?;
            file.finish()?;
        }
        Output::Stdout => {
            let mut stdout = std::io::stdout().lock();
            seal.write(input, Target::Stream(&mut stdout))?;
            stdout.flush().map_err(payload::Error::Write)?;
        }
    }
    Ok(Under { key: want.key, threshold: seal.threshold, culprits })
}

/// Decrypts a container with the key that its header names; returns that key and the nodes that answered wrongly.
///
/// # Errors
/// What reading, fetching, checking or writing failed with. A file appears under its name only when it is whole.
pub fn decrypt(nodes: &Nodes, input: Source<'_>, output: Output) -> Result<(KeyId, Vec<NodeError>), Error> {
    decrypt_with(nodes, input, output, None)
}

/// As [`decrypt`], and only if the key is the one that is expected.
///
/// # Errors
/// As [`decrypt`]; [`Error::OtherKey`].
pub fn decrypt_with(
    nodes: &Nodes,
    input: Source<'_>,
    output: Output,
    expected: Option<KeyId>,
) -> Result<(KeyId, Vec<NodeError>), Error> {
    let container = Container::read(input)?;
    let header = *container.header();
    if let Some(expected) = expected.filter(|expected| *expected != header.key) {
        return Err(Error::OtherKey { expected, found: header.key });
    }
    let (mut fetched, culprits) =
        nodes.fetch_all(&[Want { key: header.key, evidence: Evidence::Anchor(header.anchor) }])?;
    let fetched = fetched.pop().ok_or(Error::NothingFetched)?;
    let unlocked = container.unlock(&payload_key(&fetched))?;
    drop(fetched);
    deliver(unlocked, output, Error::Payload)?;
    Ok((header.key, culprits))
}

/// The input that the user named, and `-` for standard input.
///
/// # Errors
/// What the operating system said.
pub fn open_input(path: &Path) -> Result<File, Error> {
    let file = if path == Path::new("-") { File::open("/dev/stdin") } else { File::open(path) };
    file.map_err(Error::reading(path))
}
