//! The PIN of the token, read from a file that nobody but its owner can read.
//!
//! The PIN is never an argument, an environment variable or a configuration value. It is read anew for each login and
//! kept nowhere.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

/// A PIN file that is not used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file cannot be read.
    #[error(
        "PIN file {file}: cannot be read\nhint: put the token's user PIN in it, owned by the user of the server, mode 0600"
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others could read the PIN.
    #[error("PIN file {file}: mode {mode:04o} lets others read it\nhint: chmod 600 {file}")]
    Mode {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else.
    #[error(
        "PIN file {file}: belongs to user {owner}, not to user {user} who runs the server, nor to root\nhint: chown {user} {file}"
    )]
    Owner {
        /// The file.
        file: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// Not a PIN.
    #[error("PIN file {file}: is empty, longer than 256 bytes or not text\nhint: it holds the PIN and nothing else")]
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
    let unreadable = |source| PinError::Unreadable { file: file.to_owned(), source };
    let opened = File::open(file).map_err(unreadable)?;
    // The opened file is looked at, not the name: what is checked is what is read.
    let metadata = opened.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
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
    Ok(AuthPin::from(pin.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

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
