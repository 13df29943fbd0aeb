//! The way of officers' entries into the log of a server that runs: a socket in the directory of the log.
//!
//! The command sends the bytes of one entry, the server puts its own time and the peer's user id into it, appends it, and
//! answers when it is durable. Only root and the server's own user are heard, and only operations of officers: nobody can
//! use the socket to write what a caller of the API did.
//!
//! Message: the entry of `docs/audit.md` with sequence 0, then the end of the stream. Answer: one byte, 0 for written, or 1
//! and the reason.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::process::geteuid;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{super::entry, uid};
use crate::{
    audit::{Decision, Entry, Log, Operation, Proof},
    node::{Clock, SystemClock},
};

/// The name of the socket in the directory of the log.
const NAME: &str = "console";
/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listens, for as long as it is there.
#[derive(Debug)]
pub struct Listener {
    socket: tokio::net::UnixListener,
    path: PathBuf,
    log: Arc<Log>,
}

impl Listener {
    /// Begins to listen in the directory of this log, which the caller has open: a socket that is there is a dead one.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(directory: &Path, log: Arc<Log>) -> io::Result<Self> {
        let path = directory.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = through(directory, |path| UnixListener::bind(path))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: tokio::net::UnixListener::from_std(socket)?, path, log })
    }

    /// Takes entries, one after the other, for ever.
    pub async fn run(self) {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    if timeout(PATIENCE, self.serve(stream)).await.is_err() {
                        tracing::warn!("an officer's command did not finish its entry");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "an officer's command could not be heard");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(&self, mut stream: tokio::net::UnixStream) {
        let answer = match self.take(&mut stream).await {
            Ok(()) => vec![0],
            Err(reason) => [&[1], reason.as_bytes()].concat(),
        };
        // Who went away does not want to know.
        let _ = stream.write_all(&answer).await;
    }

    async fn take(&self, stream: &mut tokio::net::UnixStream) -> Result<(), String> {
        let peer = stream.peer_cred().map_err(|error| error.to_string())?.uid();
        let mut bytes = Vec::new();
        let most = entry::MAX_BYTES as u64 + 1;
        stream.take(most).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
        let decision = accepted(&bytes, peer, geteuid().as_raw(), SystemClock.now_milliseconds())?;
        self.log.append(vec![decision]).await.map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The decision that a peer may have written.
pub(super) fn accepted(bytes: &[u8], peer: u32, me: u32, now: u64) -> Result<Decision, String> {
    if peer != 0 && peer != me {
        return Err(format!("uid {peer} is not heard here"));
    }
    let Entry { mut decision, .. } = Entry::decode(bytes).map_err(|error| format!("not an entry: {error}"))?;
    if decision.who.proof != Proof::Console || !Operation::OF_OFFICERS.contains(&decision.operation) {
        return Err("not an act of officers".to_owned());
    }
    if !decision.keys.is_empty() || decision.peer.is_some() || decision.who.subject.is_some() {
        return Err("an officer's act names no key, address or subject".to_owned());
    }
    (decision.time, decision.who.display) = (now, uid(peer));
    Ok(decision)
}

/// Hands a decision to the server that listens beside this log; what the server says of it.
///
/// # Errors
/// When none does, or it does not answer.
pub(super) fn hand_over(directory: &Path, decision: &Decision) -> io::Result<Result<(), String>> {
    let mut bytes = Vec::new();
    decision.encode(0, &mut bytes).map_err(io::Error::other)?;
    let mut stream = through(directory, |path| UnixStream::connect(path))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&bytes)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(1_024).read_to_end(&mut answer)?;
    match answer.split_first() {
        Some((0, [])) => Ok(Ok(())),
        Some((1, reason)) => Ok(Err(String::from_utf8_lossy(reason).into_owned())),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended before it answered")),
    }
}

/// Whether nobody listens.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Whether who listened ended before it answered.
pub(super) fn ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// The path of a socket has 108 bytes at most, that of a directory may have many more: it is named by its descriptor.
fn through<T>(directory: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let directory = fs::File::open(directory)?;
    with(Path::new(&format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd())))
}
