//! SFTP through the system's `ssh`: its configuration, known hosts, agent and hardware keys are the user's own, and no
//! second implementation of SSH is in this program. It asks nothing (`BatchMode`): an unknown host is an error.
//!
//! Reads and writes are several requests at a time. A broken upload is gone on with where it broke. The name is given by a
//! hard link, which never replaces anything (`hardlink@openssh.com`), then the temporary one goes.

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openssh_sftp_client::{
    Sftp, SftpOptions,
    error::{Error as SftpError, SftpErrorKind},
    file::File,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    process::{Child, ChildStderr, Command},
    task::JoinSet,
};

use super::{
    Error, Fault, Site,
    fault::{deepest, said},
    http::runtime,
    remote::{Content, Door, Renaming, put_renaming},
};

/// A server of SFTP.
pub(super) struct SftpDoor {
    arguments: Vec<String>,
    folder: String,
    connection: Mutex<Option<Arc<Connection>>>,
}

struct Connection {
    sftp: Sftp,
    // Ends with it.
    _ssh: Child,
}

impl SftpDoor {
    pub(super) fn new(site: &Site) -> Result<Self, Error> {
        let setting = |problem: &str| Error::Setting { site: site.name().into(), problem: problem.into() };
        let (user, host) = match site.url().authority().split_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (site.access().user.clone(), site.url().authority()),
        };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (host, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.starts_with('-') || user.as_ref().is_some_and(|user| user.starts_with('-')) {
            return Err(setting("its url names no host"));
        }
        let mut arguments: Vec<String> = OPTIONS.iter().flat_map(|option| ["-o".into(), (*option).into()]).collect();
        if let Some(port) = port {
            let port: u16 = port.parse().map_err(|_| setting("the port of its url is not a number"))?;
            arguments.extend(["-p".into(), port.to_string()]);
        }
        if let Some(user) = user {
            arguments.extend(["-l".into(), user]);
        }
        let named = [("IdentityFile", &site.access().key_file), ("UserKnownHostsFile", &site.access().known_hosts)];
        for (option, file) in named.into_iter().filter_map(|(option, file)| Some((option, file.as_ref()?))) {
            let file = file.to_str().filter(|name| !name.contains('"'));
            let file = file.ok_or_else(|| setting("ssh needs files whose names are UTF-8, without quotes"))?;
            arguments.extend(["-o".into(), format!("{option}=\"{file}\"")]);
            if option == "IdentityFile" {
                arguments.extend(["-o".into(), "IdentitiesOnly=yes".into()]);
            }
        }
        arguments.extend(["-s".into(), "--".into(), host.into(), "sftp".into()]);
        Ok(Self { arguments, folder: site.url().path().into(), connection: Mutex::default() })
    }

    fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.folder)
    }

    /// Does something over the connection, within the time that there is for silence. A connection that broke is made anew
    /// the next time.
    fn over<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        work: impl FnOnce(Arc<Connection>) -> F,
    ) -> Result<T, Fault> {
        runtime()?.block_on(async {
            let connection = self.connected().await?;
            let done = tokio::time::timeout(SILENCE, work(Arc::clone(&connection))).await;
            let done = done.unwrap_or(Err(Fault::Timeout(SILENCE)));
            if done.as_ref().is_err_and(Fault::may_pass) {
                let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &connection)) {
                    *kept = None;
                }
            }
            done
        })
    }

    async fn connected(&self) -> Result<Arc<Connection>, Fault> {
        if let Some(connection) = self.connection.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(connect(&self.arguments).await?);
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&connection));
        Ok(connection)
    }
}

async fn connect(arguments: &[String]) -> Result<Connection, Fault> {
    let mut command = Command::new("ssh");
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut ssh = command.spawn().map_err(|error| Fault::Unreachable(format!("ssh cannot be started: {error}")))?;
    let (Some(input), Some(output)) = (ssh.stdin.take(), ssh.stdout.take()) else {
        return Err(Fault::Unreachable("ssh has no input or output".into()));
    };
    let errors = ssh.stderr.take();
    match tokio::time::timeout(SILENCE, Sftp::new(input, output, SftpOptions::new())).await {
        Ok(Ok(sftp)) => Ok(Connection { sftp, _ssh: ssh }),
        Ok(Err(error)) => Err(refusal(errors, &error).await),
        Err(_) => Err(Fault::Timeout(SILENCE)),
    }
}

/// Why `ssh` ended: it says so in words.
async fn refusal(errors: Option<ChildStderr>, error: &SftpError) -> Fault {
    let mut text = Vec::new();
    if let Some(errors) = errors {
        // What it said until then is enough.
        let _ = tokio::time::timeout(Duration::from_secs(5), errors.take(MAX_TEXT).read_to_end(&mut text)).await;
    }
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().map(said).find(|line| !line.is_empty()).unwrap_or_else(|| deepest(error));
    if last.contains("Permission denied") || last.contains("Host key verification failed") {
        Fault::Denied(format!("ssh: {last}"))
    } else {
        Fault::Unreachable(format!("ssh: {last}"))
    }
}

impl Door for SftpDoor {
    fn size(&self, path: &str) -> Result<u64, Fault> {
        let path = self.path(path);
        self.over(|connection| async move {
            let about = connection.sftp.fs().metadata(Path::new(&path)).await.map_err(of_sftp)?;
            if about.file_type().is_some_and(|kind| kind.is_dir()) {
                return Err(Fault::NotFound);
            }
            about.len().ok_or_else(|| Fault::Answer("it does not tell the length of an object".into()))
        })
    }

    fn read(&self, path: &str, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
        let path = self.path(path);
        self.over(|connection| async move {
            let file = connection.sftp.open(Path::new(&path)).await.map_err(of_sftp)?;
            let result = read_pieces(&file, offset, length, into).await;
            let _ = file.close().await;
            result
        })
    }

    fn put(&self, path: &str, content: &Content) -> Result<(), Fault> {
        put_renaming(self, path, content)
    }

    fn delete(&self, path: &str) -> Result<(), Fault> {
        let path = self.path(path);
        self.over(|connection| async move { connection.sftp.fs().remove_file(Path::new(&path)).await.map_err(of_sftp) })
    }
}

/// Several requests at a time, their answers in order.
async fn read_pieces(file: &File, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
    let mut piece = MOST_AT_ONCE;
    let mut done = 0;
    while done < length {
        let mut requests = JoinSet::new();
        let mut asked = Vec::new();
        for number in 0..AT_A_TIME {
            let start = done + number * piece as usize;
            if start >= length {
                break;
            }
            let wanted = u32::try_from(length - start).unwrap_or(u32::MAX).min(piece);
            let mut file = file.clone();
            let position = offset + start as u64;
            asked.push(wanted as usize);
            requests.spawn(async move {
                file.seek(std::io::SeekFrom::Start(position))
                    .await
                    .map_err(|error| Fault::Broken(error.to_string()))?;
                let read = file.read(wanted, Default::default()).await.map_err(of_sftp)?;
                Ok::<_, Fault>((number, read.map(|bytes| bytes.to_vec()).unwrap_or_default()))
            });
        }
        let mut answers: Vec<Vec<u8>> = vec![Vec::new(); asked.len()];
        let mut failed = None;
        while let Some(answer) = requests.join_next().await {
            match answer {
                Ok(Ok((number, bytes))) => {
                    if let Some(place) = answers.get_mut(number) {
                        *place = bytes;
                    }
                }
                Ok(Err(fault)) => failed = Some(fault),
                Err(error) => failed = Some(Fault::Broken(error.to_string())),
            }
        }
        let before = done;
        for (bytes, wanted) in answers.iter().zip(asked) {
            into.extend_from_slice(bytes);
            done += bytes.len();
            if bytes.len() < wanted {
                // A server may give less: then no more is asked for at a time, and what comes after is asked for again.
                piece = u32::try_from(bytes.len()).unwrap_or(MOST_AT_ONCE).clamp(LEAST_AT_ONCE, MOST_AT_ONCE);
                break;
            }
        }
        match failed {
            Some(fault) => return Err(fault),
            None if done == before => return Ok(()),
            None => {}
        }
    }
    Ok(())
}

impl Renaming for SftpDoor {
    fn write(&self, path: &str, content: &Content, before: u32) -> Result<(), Fault> {
        // What an earlier try brought there is there still. Requests are answered in any order, so the last ones may have left
        // holes: they are sent again.
        let there = if before > 0 { self.size(path).unwrap_or(0) } else { 0 };
        let mut offset = there.min(content.size).saturating_sub(HOLES);
        let path = self.path(path);
        loop {
            let block = content.piece(offset, BLOCK)?;
            let (path, first, last) = (path.as_str(), offset == 0, offset + block.len() as u64 >= content.size);
            self.over(|connection| async move {
                let mut options = connection.sftp.options();
                options.write(true).create(true).truncate(first);
                let mut file = options.open(Path::new(path)).await.map_err(of_sftp)?;
                write_pieces(&file, offset, &block).await?;
                if last {
                    match file.sync_all().await {
                        // A server without fsync@openssh.com says so.
                        Ok(()) | Err(SftpError::UnsupportedExtension(_)) => {}
                        Err(error) => return Err(of_sftp(error)),
                    }
                }
                file.close().await.map_err(of_sftp)
            })?;
            offset = offset.saturating_add(BLOCK as u64);
            if last {
                return Ok(());
            }
        }
    }

    fn make_directory(&self, path: &str) -> Result<(), Fault> {
        let ends = path.match_indices('/').map(|(end, _)| self.path(path.get(..end).unwrap_or_default()));
        for folder in std::iter::once(self.folder.clone()).chain(ends) {
            self.over(|connection| async move {
                let mut files = connection.sftp.fs();
                match files.create_dir(Path::new(&folder)).await {
                    Ok(()) => Ok(()),
                    // SFTP has no word for what is there already.
                    Err(error) => match files.metadata(Path::new(&folder)).await {
                        Ok(about) if about.file_type().is_some_and(|kind| kind.is_dir()) => Ok(()),
                        _ => Err(of_sftp(error)),
                    },
                }
            })?;
        }
        Ok(())
    }

    fn adler32(&self, _path: &str) -> Result<Option<u32>, Fault> {
        Ok(None)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Fault> {
        if self.size(to).is_ok() {
            return Err(Fault::Exists);
        }
        let (from, target) = (self.path(from), self.path(to));
        let placed = self.over(|connection| async move {
            let mut files = connection.sftp.fs();
            if !connection.sftp.support_hardlink() {
                return files.rename(Path::new(&from), Path::new(&target)).await.map_err(of_sftp);
            }
            files.hard_link(Path::new(&from), Path::new(&target)).await.map_err(of_sftp)?;
            files.remove_file(Path::new(&from)).await.map_err(of_sftp)
        });
        match placed {
            // SFTP has no word for that either.
            Err(Fault::Refused(_)) if self.size(to).is_ok() => Err(Fault::Exists),
            other => other,
        }
    }
}

async fn write_pieces(file: &File, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
    let piece = MOST_AT_ONCE as usize;
    for (group, block) in bytes.chunks(piece * AT_A_TIME).enumerate() {
        let mut requests = JoinSet::new();
        for (number, bytes) in block.chunks(piece).enumerate() {
            let position = offset + ((group * AT_A_TIME + number) * piece) as u64;
            let (mut file, bytes) = (file.clone(), bytes.to_vec());
            requests.spawn(async move {
                file.seek(std::io::SeekFrom::Start(position))
                    .await
                    .map_err(|error| Fault::Broken(error.to_string()))?;
                file.write_all(&bytes).await.map_err(of_sftp)
            });
        }
        while let Some(written) = requests.join_next().await {
            written.map_err(|error| Fault::Broken(error.to_string()))??;
        }
    }
    Ok(())
}

fn of_sftp(error: SftpError) -> Fault {
    match &error {
        SftpError::SftpError(SftpErrorKind::NoSuchFile, _) => Fault::NotFound,
        SftpError::SftpError(SftpErrorKind::PermDenied, text) => Fault::Denied(said(&text.to_string())),
        SftpError::SftpError(kind, text) => Fault::Refused(said(&format!("{kind:?}: {text}"))),
        SftpError::UnsupportedExtension(_) => Fault::Refused(error.to_string()),
        _ => Fault::Broken(deepest(&error)),
    }
}

/// `ssh` asks nobody anything, and notices when the other side is gone.
const OPTIONS: [&str; 5] = [
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
];
const SILENCE: Duration = Duration::from_secs(60);
const AT_A_TIME: usize = 16;
/// OpenSSH takes and gives up to 255 KiB in one request.
const MOST_AT_ONCE: u32 = 128 * 1024;
const LEAST_AT_ONCE: u32 = 4 * 1024;
/// How much is written between two looks at the clock.
const BLOCK: usize = 2 * 1024 * 1024;
/// What may not have arrived of what was sent at a time.
const HOLES: u64 = BLOCK as u64;
const MAX_TEXT: u64 = 16 * 1024;
