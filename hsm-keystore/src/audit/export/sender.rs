//! Sends audit messages to a syslog receiver over TLS (RFC 5425), at least once each.
//!
//! Syslog knows no acknowledgement. What it knows is the end of a connection: a receiver answers the sender's
//! close_notify with its own only after it has read everything before it (RFC 5425, section 4.4). So a batch is sent, the
//! connection is closed in order, and only then the [`Cursor`] moves. When anything fails before, the batch is sent
//! again, and the receiver knows the entries by their numbers. Nothing is lost by it, and nothing waits for it: the log
//! is the truth, the export a copy.

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use super::{
    messages,
    syslog::{self, Header},
};
use crate::{
    audit::{
        log::{Fault, Reader, disk, reader},
        tree::Hash,
    },
    hex,
};

/// The most entries of one batch.
pub const BATCH: usize = 10_000;
/// How long connecting, one write or one read may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// `host:port`; the port of syslog over TLS is 6514.
    pub address: String,
    /// The client's side of TLS: [`client_config`].
    pub tls: Arc<ClientConfig>,
    /// How the receiver ends a connection.
    pub close: Close,
}

/// How a receiver ends a connection after the sender has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Close {
    /// With a close_notify of its own, as RFC 5425 asks: nobody on the way can pretend that.
    #[default]
    Notified,
    /// By closing the TCP connection, as rsyslog with its gtls driver does. Somebody who controls the network could make
    /// the node believe so that messages arrived; the receiver sees the gap in their numbers.
    Plain,
}

/// What was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// How many entries.
    pub entries: u64,
    /// The next entry to be sent.
    pub next: u64,
}

/// A batch that was not delivered; the cursor did not move.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// A PEM file cannot be used.
    #[error("{}: cannot be used as a certificate or key in PEM", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address cannot be used.
    #[error("{0:?} is not a host and a port, such as log.hospital.example:6514")]
    Address(String),
    /// The receiver cannot be reached, or ended the connection before it had everything.
    #[error("the syslog receiver {address} did not take the messages")]
    Receiver {
        /// The receiver.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] Fault),
    /// The log is not the one that was exported before, or acknowledged.
    #[error(
        "audit log entry {sequence} is not the one that was exported or acknowledged: the log was changed\nhint: run `eds-keystored audit verify`; the receiver has the entry as it was"
    )]
    Changed {
        /// The entry.
        sequence: u64,
    },
    /// A file of the node cannot be used.
    #[error("{}: cannot be used", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SendError {
    /// Whether the same may work later by itself.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Receiver { .. })
    }
}

/// The client's side of TLS: whose certificates the receiver may have and, when it wants one, the node's own.
///
/// # Errors
/// [`SendError::Pem`].
pub fn client_config(authorities: &Path, identity: Option<(&Path, &Path)>) -> Result<ClientConfig, SendError> {
    let pem = |file: &Path, source: Box<dyn std::error::Error + Send + Sync>| SendError::Pem {
        file: file.to_owned(),
        source,
    };
    let certificates = |file: &Path| -> Result<Vec<CertificateDer<'static>>, SendError> {
        let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
        read.map_err(|error| pem(file, error.into()))
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities)? {
        roots.add(authority).map_err(|error| pem(authorities, error.into()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| pem(authorities, error.into()))?
        .with_root_certificates(roots);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| pem(key, error.into()))?;
            let chain = certificates(certificate)?;
            builder.with_client_auth_cert(chain, private).map_err(|error| pem(certificate, error.into()))
        }
    }
}

/// Which entry is sent next, in a file: its number, and the leaf hash of the one before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor {
    file: PathBuf,
    next: u64,
    before: Option<Hash>,
}

impl Cursor {
    /// Reads the file; the first entry is next when there is none.
    ///
    /// # Errors
    /// [`SendError::Io`].
    pub fn load(file: &Path) -> Result<Self, SendError> {
        let io = |source| SendError::Io { file: file.to_owned(), source };
        let new = Self { file: file.to_owned(), next: 0, before: None };
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text)
                .map(|(next, before)| Self { next, before, ..new })
                .ok_or_else(|| io(io::Error::new(io::ErrorKind::InvalidData, "not a cursor of the audit export"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(new),
            Err(error) => Err(io(error)),
        }
    }

    /// The next entry to be sent.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn parse(text: &str) -> Option<(u64, Option<Hash>)> {
        let (next, before) = text.strip_suffix('\n')?.split_once(' ')?;
        let next = next.parse().ok()?;
        if next == 0 { None } else { Some((next, Some(hex::decode_array(before)?))) }
    }

    fn advance(&mut self, next: u64, before: Hash) -> Result<(), SendError> {
        let io = |source| SendError::Io { file: self.file.clone(), source };
        let draft = self.file.with_extension("new");
        disk::write_durably(&draft, format!("{next} {}\n", hex::encode(&before)).as_bytes()).map_err(io)?;
        fs::rename(&draft, &self.file).map_err(io)?;
        disk::sync_directory_of(&self.file).map_err(io)?;
        (self.next, self.before) = (next, Some(before));
        Ok(())
    }
}

/// Sends the next batch of acknowledged entries of the log in `directory`, and moves the cursor when the receiver has
/// it. Delivers nothing when there is nothing new.
///
/// # Errors
/// [`SendError`]; the cursor is where it was.
pub fn deliver(
    directory: &Path,
    origin: &str,
    receiver: &Receiver,
    header: &Header,
    cursor: &mut Cursor,
) -> Result<Delivered, SendError> {
    let io = |source| SendError::Io { file: directory.to_owned(), source };
    let acknowledged = reader::acknowledged(directory).map_err(io)?;
    if acknowledged == cursor.next {
        return Ok(Delivered { entries: 0, next: cursor.next });
    }
    if acknowledged < cursor.next {
        return Err(SendError::Changed { sequence: cursor.next - 1 });
    }
    let mut log = Reader::open(directory, Some(origin)).map_err(io)?;
    check_continues(&mut log, cursor)?;
    let mut connection = connect(receiver)?;
    let failed = |source| SendError::Receiver { address: receiver.address.clone(), source };
    let (mut entries, mut last) = (0, None);
    while entries < BATCH && cursor.next + (entries as u64) < acknowledged {
        let Some(record) = log.read(|_| ())? else {
            return Err(SendError::Changed { sequence: cursor.next + entries as u64 });
        };
        for message in messages(origin, &record) {
            connection.write_all(&syslog::frame(header, &message)).map_err(failed)?;
        }
        (entries, last) = (entries + 1, Some((record.entry.sequence + 1, record.leaf)));
    }
    close_in_order(connection, receiver.close).map_err(failed)?;
    if let Some((next, leaf)) = last {
        cursor.advance(next, leaf)?;
    }
    Ok(Delivered { entries: entries as u64, next: cursor.next })
}

/// Goes to the next entry, by way of the last one that was exported, which must be as it was.
fn check_continues(log: &mut Reader, cursor: &Cursor) -> Result<(), SendError> {
    let Some(before) = cursor.before else { return Ok(()) };
    let sequence = cursor.next.saturating_sub(1);
    log.seek(sequence)?;
    match log.read(|_| ())? {
        Some(record) if record.leaf == before => Ok(()),
        _ => Err(SendError::Changed { sequence }),
    }
}

fn connect(receiver: &Receiver) -> Result<io::BufWriter<StreamOwned<ClientConnection, TcpStream>>, SendError> {
    let address = || SendError::Address(receiver.address.clone());
    let failed = |source| SendError::Receiver { address: receiver.address.clone(), source };
    let host = receiver.address.rsplit_once(':').ok_or_else(address)?.0.trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| address())?;
    let mut error = io::ErrorKind::NotFound.into();
    for candidate in receiver.address.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&candidate, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
                stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
                let tls =
                    ClientConnection::new(Arc::clone(&receiver.tls), name).map_err(|e| failed(io::Error::other(e)))?;
                return Ok(io::BufWriter::with_capacity(16 * 1024, StreamOwned::new(tls, stream)));
            }
            Err(refused) => error = refused,
        }
    }
    Err(failed(error))
}

/// Ends the stream with close_notify, and waits for the receiver's.
fn close_in_order(connection: io::BufWriter<StreamOwned<ClientConnection, TcpStream>>, close: Close) -> io::Result<()> {
    let mut stream = connection.into_inner().map_err(io::IntoInnerError::into_error)?;
    stream.flush()?;
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock)?;
    let mut ignored = [0; 1_024];
    loop {
        match stream.read(&mut ignored) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => match close {
                Close::Plain => return Ok(()),
                Close::Notified => return Err(io::Error::new(error.kind(), NOT_NOTIFIED)),
            },
            Err(error) => return Err(error),
        }
    }
}

const NOT_NOTIFIED: &str = "it closed the connection without close_notify, so that it is not certain what it has\n\
    hint: rsyslog with the gtls driver always does; --plain-close takes that for delivered";

#[cfg(test)]
mod tests;
