//! The PIN of the token: from a file that nobody but its owner can read, from a credential of systemd, or from a person.
//!
//! The PIN is never an argument, an environment variable or a configuration value. It is read anew for each login and
//! kept nowhere.

use std::{
    env, fmt,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use cryptoki::types::AuthPin;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Where a PIN comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PinSource {
    /// A file that nobody but its owner can read.
    File(PathBuf),
    /// A credential of this name, in the directory that systemd names (`LoadCredentialEncrypted=`).
    Credential(String),
    /// The person at the terminal.
    Prompt,
}

impl PinSource {
    /// `PATH`, `file:PATH`, `credential:NAME` or `prompt`.
    ///
    /// # Errors
    /// What is wrong; the text is not repeated, since it may be a PIN in the wrong place.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "prompt" {
            return Ok(Self::Prompt);
        }
        if let Some(name) = text.strip_prefix("credential:") {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                return Err("pin-source: a credential has a name without slashes".to_owned());
            }
            return Ok(Self::Credential(name.to_owned()));
        }
        let path = text.strip_prefix("file:").unwrap_or(text);
        if !path.starts_with('/') {
            return Err("pin-source: write file:/PATH, credential:NAME or prompt".to_owned());
        }
        Ok(Self::File(path.into()))
    }

    /// Reads the PIN. `whose` is told to the person who is asked.
    ///
    /// # Errors
    /// [`PinError`]; the PIN is in none of them.
    pub fn read(&self, whose: &str) -> Result<AuthPin, PinError> {
        match self {
            Self::File(file) => read(file),
            Self::Credential(name) => {
                let folder = env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| PinError::NoCredentials { name: name.clone() })?;
                let file = PathBuf::from(folder).join(name);
                read_with(&file, denied(&file))
            }
            Self::Prompt => ask(whose)
                .map_err(PinError::Terminal)?
                .ok_or_else(|| PinError::Terminal(io::Error::other("nothing was typed"))),
        }
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Credential(name) => write!(f, "the credential {name}"),
            Self::Prompt => f.write_str("the terminal"),
        }
    }
}

/// A file with a PIN or password that is not used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file cannot be read.
    #[error(
        "secret file {file}: cannot be read\nhint: put the PIN or password in it, owned by the user of the server, mode 0600"
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There are no credentials.
    #[error(
        "PIN credential {name}: CREDENTIALS_DIRECTORY is not set\nhint: start the server by its systemd unit, with \
         LoadCredentialEncrypted={name}:FILE"
    )]
    NoCredentials {
        /// Its name.
        name: String,
    },
    /// Nobody can be asked.
    #[error("the PIN cannot be asked for at a terminal")]
    Terminal(#[source] io::Error),
    /// Others could read the secret.
    #[error("secret file {file}: mode {mode:04o} lets others read it\nhint: chmod 600 {file}")]
    Mode {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else.
    #[error(
        "secret file {file}: belongs to user {owner}, not to user {user} who runs the server, nor to root\nhint: chown {user} {file}"
    )]
    Owner {
        /// The file.
        file: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// Not one line of text.
    #[error(
        "secret file {file}: is empty, longer than 256 bytes or not text\nhint: it holds the PIN or password and nothing else"
    )]
    Malformed {
        /// The file.
        file: PathBuf,
    },
}

/// Reads the PIN. One line end after it is dropped.
///
/// # Errors
/// [`PinError`]; the PIN is in none of them.
pub fn read(file: &Path) -> Result<AuthPin, PinError> {
    read_with(file, 0o077)
}

fn read_with(file: &Path, denied: u32) -> Result<AuthPin, PinError> {
    read_secret(file, denied).map(|mut pin| AuthPin::from(std::mem::take(&mut *pin)))
}

/// The bits that the mode of a file with a secret must not have. Of a credential of systemd, the folder is the service's
/// own, and the bits of a group are those of its access control list.
pub(crate) fn denied(file: &Path) -> u32 {
    let of_service = std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| file.starts_with(folder));
    if of_service || file.starts_with("/run/credentials") { 0o037 } else { 0o077 }
}

/// Reads a secret that stands alone in a file, of this user or root, whose mode has none of the bits `denied`.
///
/// # Errors
/// [`PinError`]; the secret is in none of them.
pub(crate) fn read_secret(file: &Path, denied: u32) -> Result<Zeroizing<String>, PinError> {
    let unreadable = |source| PinError::Unreadable { file: file.to_owned(), source };
    let opened = File::open(file).map_err(unreadable)?;
    // The opened file is looked at, not the name: what is checked is what is read.
    let metadata = opened.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    if mode & denied != 0 {
        return Err(PinError::Mode { file: file.to_owned(), mode });
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(PinError::Owner { file: file.to_owned(), owner: metadata.uid(), user });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(300));
    opened.take(300).read_to_end(&mut bytes).map_err(unreadable)?;
    let malformed = || PinError::Malformed { file: file.to_owned() };
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
    let pin = text.strip_suffix('\n').unwrap_or(text);
    let pin = pin.strip_suffix('\r').unwrap_or(pin);
    if pin.is_empty() || pin.len() > 256 || pin.contains(['\n', '\r', '\0']) {
        return Err(malformed());
    }
    Ok(Zeroizing::new(pin.to_owned()))
}

/// Asks the person at the terminal, without showing what is typed.
fn ask(whose: &str) -> io::Result<Option<AuthPin>> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let shown = tcgetattr(&terminal)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    write!(&terminal, "PIN of {whose}: ")?;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    // A terminal gives a line at once; a reader with a buffer of its own would keep it there.
    let mut line = Zeroizing::new([0_u8; 300]);
    let typed = loop {
        match (&terminal).read(line.as_mut_slice()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            typed => break typed,
        }
    };
    let restored = tcsetattr(&terminal, OptionalActions::Flush, &shown);
    writeln!(&terminal)?;
    let typed = typed?;
    restored?;
    let text = line.get(..typed).and_then(|typed| std::str::from_utf8(typed).ok());
    let pin = text.ok_or_else(|| io::Error::other("what was typed is no text"))?.trim_end_matches(['\n', '\r']);
    Ok((!pin.is_empty()).then(|| AuthPin::from(pin.to_owned())))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_source_is_a_file_a_credential_or_a_person() {
        assert_eq!(PinSource::parse("file:/run/pin"), Ok(PinSource::File("/run/pin".into())));
        assert_eq!(PinSource::parse("/run/pin"), Ok(PinSource::File("/run/pin".into())));
        assert_eq!(PinSource::parse("credential:hsm-pin"), Ok(PinSource::Credential("hsm-pin".into())));
        assert_eq!(PinSource::parse("prompt"), Ok(PinSource::Prompt));
        for wrong in ["73281946", "env:73281946", "credential:../73281946", "credential:", "|73281946", ""] {
            assert!(!PinSource::parse(wrong).expect_err(wrong).contains("73281946"));
        }
    }

    #[test]
    fn only_a_credential_of_systemd_may_have_bits_of_a_group() {
        assert_eq!(denied(Path::new("/run/credentials/eds-keystored.service/db")), 0o037);
        for file in ["/run/credentials-of-others/db", "/etc/eds-keystored/db", "run/credentials/db"] {
            assert_eq!(denied(Path::new(file)), 0o077, "{file}");
        }
    }

    #[test]
    fn only_a_private_file_with_one_line_is_a_pin() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pin");
        assert!(matches!(read(&file), Err(PinError::Unreadable { .. })));
        let with = |text: &[u8], mode: u32| {
            fs::write(&file, text).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
            read(&file)
        };
        assert!(with(b"1234\n", 0o600).is_ok());
        assert!(with(b"1234", 0o400).is_ok());
        for mode in [0o640, 0o604, 0o660, 0o601] {
            assert!(matches!(with(b"1234\n", mode), Err(PinError::Mode { mode: told, .. }) if told == mode));
        }
        for text in [&b""[..], b"\n", b"12\n34\n", b"12\xff", &[b'1'; 257]] {
            let error = with(text, 0o600).expect_err("not a PIN");
            assert!(matches!(error, PinError::Malformed { .. }), "{error}");
            assert!(!error.to_string().contains("12"), "the PIN is in the message: {error}");
        }
    }
}
