//! What is kept of a login between commands: the token, and what renews it, in one file of the user's alone.
//!
//! It lies in `$XDG_RUNTIME_DIR/eds`, which is gone when the user has logged out of the machine, else in the state
//! directory; a file for each issuer and client. It is replaced in one step, and never read while another process renews
//! it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Error;
use crate::{
    config::{Config, Login, read_private},
    credentials::{Environment, Secret, Token},
    output::{self, Existing, OutputFile},
};

/// A login.
#[derive(Debug)]
pub struct Session {
    /// The token.
    pub token: Token,
    /// What the issuer gives a new one for.
    pub refresh: Option<Secret>,
    /// Who gave it.
    pub issuer: String,
    /// To which client.
    pub client: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u8,
    issuer: String,
    client_id: String,
    access_token: Secret,
    refresh_token: Option<Secret>,
}

/// The file of the login of this configuration, which need not exist.
pub fn place(config: &Config, login: &Login, environment: Environment<'_>, user: u32) -> PathBuf {
    let runtime = environment("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| {
        path.is_absolute()
            && path.metadata().is_ok_and(|about| about.is_dir() && about.uid() == user && about.mode() & 0o077 == 0)
    });
    let directory = runtime.map_or_else(|| config.state.clone(), |runtime| runtime.join("eds"));
    let digest = Sha256::digest(format!("{}\n{}", login.issuer, login.client_id));
    let id = digest.iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    directory.join(format!("login-{id}.json"))
}

impl Session {
    /// Reads the file of a login; nothing, when there is none.
    pub(crate) fn load(login: &Login, file: &Path) -> Result<Option<Self>, Error> {
        let bytes = match read_private(file) {
            Ok(bytes) => bytes,
            Err(crate::config::Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let malformed = || Error::Malformed(file.into());
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        if kept.version != VERSION || kept.issuer != login.issuer || kept.client_id != login.client_id {
            return Err(malformed());
        }
        let token = Token::parse(kept.access_token.reveal()).map_err(|_| malformed())?;
        Ok(Some(Self { token, refresh: kept.refresh_token, issuer: kept.issuer, client: kept.client_id }))
    }

    /// Keeps the login in this file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn keep(&self, file: &Path) -> Result<(), Error> {
        let failed = || output::Error::writing(file);
        if let Some(directory) = file.parent() {
            output::make_private_directory(directory)?;
        }
        let kept = Kept {
            version: VERSION,
            issuer: self.issuer.clone(),
            client_id: self.client.clone(),
            access_token: Secret::new(self.token.reveal()),
            refresh_token: self.refresh.as_ref().map(|secret| Secret::new(secret.reveal())),
        };
        // Reserved beforehand, so that no copy is left behind by a growing buffer.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE));
        serde_json::to_writer(&mut *bytes, &kept).map_err(|error| failed()(io::Error::other(error)))?;
        let output = OutputFile::create(file, Existing::Replace)?;
        output.file().write_all(&bytes).map_err(failed())?;
        Ok(output.finish()?)
    }
}

/// Removes the file; returns whether it was there.
pub(super) fn forget(file: &Path) -> Result<bool, Error> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(output::Error::writing(file)(error).into()),
    }
}

/// Keeps two processes from renewing one login at once; released when dropped. Waits for the other.
pub(super) fn lock(file: &Path) -> Result<File, Error> {
    let path = file.with_extension("lock");
    if let Some(directory) = path.parent() {
        output::make_private_directory(directory)?;
    }
    let locked = output::lock_file(&path).and_then(|file| file.lock().map(|()| file));
    Ok(locked.map_err(output::Error::writing(&path))?)
}

const VERSION: u8 = 1;
/// Two tokens of the longest kind, and what is around them.
const MAX_FILE: usize = 40 * 1024;
