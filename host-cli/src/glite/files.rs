//! `glite-eds-encrypt`, `glite-eds-decrypt`, and `glite-eds-put`, `-get` and `-rm` for files at a place of this machine.
//!
//! The forms with two arguments leave the key or the encrypted file out: the key is the registered one whose last part is
//! the name of the encrypted file. A file says itself which key it needs, so an id that is given is compared with it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use eds_core::api::name::KeyName;

use super::{Common, Id, Runs, failed, key, logical, plain, remembered, surroundings::Surroundings};
use crate::{
    Error,
    journey::files,
    output::{Existing, Output},
    payload::Source,
};

/// Encrypt a file under a registered key
#[derive(Parser, Debug)]
#[command(version, override_usage = "glite-eds-encrypt [OPTIONS] [ID] INPUT OUTPUT")]
pub struct Encrypt {
    #[command(flatten)]
    common: Common,
    /// The owner of the key, when that is somebody else, as /C=CH/O=Ward/CN=Dr Jones
    #[arg(long, value_name = "SUBJECT")]
    owner: Option<String>,
    /// The key, its name, or nothing for the registered key whose name ends in that of OUTPUT; the file; where to write
    #[arg(value_name = "ARGUMENT", num_args = 2..=3, required = true)]
    arguments: Vec<String>,
}

/// Decrypt a file
#[derive(Parser, Debug)]
#[command(
    version,
    override_usage = "glite-eds-decrypt [OPTIONS] ID INPUT OUTPUT\n       glite-eds-decrypt [OPTIONS] ID|INPUT OUTPUT"
)]
pub struct Decrypt {
    #[command(flatten)]
    common: Common,
    /// The key or its name, the encrypted file, and where to write; of two, the first is a file or a name that ends in that of one
    #[arg(value_name = "ARGUMENT", num_args = 2..=3, required = true)]
    arguments: Vec<String>,
}

/// Encrypt a file under a new key and store it
#[derive(Parser, Debug)]
#[command(version)]
pub struct Put {
    #[command(flatten)]
    common: Common,
    /// Only make the key
    #[arg(short = 'u')]
    only_key: bool,
    #[command(flatten)]
    cipher: key::Cipher,
    /// The id or name of the key [default: the path of REMOTE]
    #[arg(short, value_name = "ID")]
    id: Option<String>,
    /// The file
    #[arg(value_name = "LOCAL")]
    local: PathBuf,
    /// Where to store it: a path or a file: URL
    #[arg(value_name = "REMOTE")]
    remote: String,
}

/// Fetch a file and decrypt it
#[derive(Parser, Debug)]
#[command(version)]
pub struct Get {
    #[command(flatten)]
    common: Common,
    /// The id or name of the key [default: the one that the file names]
    #[arg(short, value_name = "ID")]
    id: Option<String>,
    /// Where it is stored: a path or a file: URL
    #[arg(value_name = "REMOTE")]
    remote: String,
    /// Where to write it
    #[arg(value_name = "LOCAL")]
    local: PathBuf,
}

/// Delete a stored file and its key
#[derive(Parser, Debug)]
#[command(version)]
pub struct Rm {
    #[command(flatten)]
    common: Common,
    /// The id or name of the key [default: the path of REMOTE]
    #[arg(short, value_name = "ID")]
    id: Option<String>,
    /// Where it is stored: a path or a file: URL
    #[arg(value_name = "REMOTE")]
    remote: String,
}

/// The name under which two arguments mean a key: the last part of a path.
fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Runs for Encrypt {
    fn run(self) -> ExitCode {
        let (id, input, output) = match self.arguments.as_slice() {
            [id, input, output] => (Some(id.as_str()), input, output),
            [input, output] => (None, input, output),
            _ => return ExitCode::FAILURE,
        };
        if let Err(error) = File::open(input) {
            eprintln!("Cannot Open Local Input File {input}: {error}");
            return ExitCode::from(Error::reading(Path::new(input))(error).kind().exit_code());
        }
        let done = Surroundings::open(None).and_then(|around| {
            let id = match id {
                Some(id) => Id::new(id)?,
                None => Id::Name(registered(&around, last_part(output))?),
            };
            encrypt(&around, &id, self.owner.as_deref(), Path::new(input), Path::new(output))
        });
        match done {
            Ok(key) => {
                let text =
                    format!("File '{input}' has been successfully encrypted with key {key} and written to '{output}'");
                self.common.say(&text);
                ExitCode::SUCCESS
            }
            Err(error) => failed("glite_eds_encrypt_init", &error),
        }
    }
}

/// The one name that ends in this part.
fn registered(around: &Surroundings, last: &str) -> Result<KeyName, Error> {
    let mut found = remembered::ending_in(&around.config.state, last)?;
    match (found.pop(), found.as_slice()) {
        (Some(name), []) => Ok(name),
        (None, _) => Err(Error::NoRegisteredName { last: last.into() }),
        (Some(name), others) => {
            let candidates = others.iter().chain([&name]).map(|name| name.as_str().to_owned()).collect();
            Err(Error::SeveralNames { last: last.into(), candidates })
        }
    }
}

fn encrypt(
    around: &Surroundings,
    id: &Id,
    owner: Option<&str>,
    input: &Path,
    output: &Path,
) -> Result<eds_core::ids::KeyId, Error> {
    let trusted: Vec<&str> = around.config.trusted_owners.iter().map(String::as_str).chain(owner).collect();
    let want = match id {
        Id::Name(name) => around.nodes.resolve_to_encrypt(name, &trusted)?,
        Id::Key(_) => id.find(&around.nodes)?,
    };
    let mut input = files::open_input(input)?;
    let output = Output::open(output, Existing::Replace)?;
    let done = files::encrypt_under(&around.nodes, &want, &mut input, output)?;
    for culprit in &done.culprits {
        eprintln!("warning: {culprit}");
    }
    Ok(done.key)
}

impl Runs for Decrypt {
    fn run(self) -> ExitCode {
        let (id, input, output) = match self.arguments.as_slice() {
            [id, input, output] => (Some(id.as_str()), input.as_str(), output),
            // A file says which key it needs; a name is that of the file, and of the key.
            [input, output] if Path::new(input).is_file() => (None, input.as_str(), output),
            [id, output] => (Some(id.as_str()), last_part(id), output),
            _ => return ExitCode::FAILURE,
        };
        let done =
            Surroundings::open(None).and_then(|around| decrypt(&around, id, Path::new(input), Path::new(output)));
        match done {
            Ok(()) => {
                self.common.say(&format!("File '{input}' has been successfully decrypted and written to '{output}'"));
                ExitCode::SUCCESS
            }
            Err(error @ Error::Read { .. }) => {
                eprintln!("Cannot Open Local Input File {input}: {}", plain(&error));
                ExitCode::from(error.kind().exit_code())
            }
            Err(error @ (Error::Payload(_) | Error::Container { .. })) => failed("glite_eds_decrypt_final", &error),
            Err(error) => failed("glite_eds_decrypt_init", &error),
        }
    }
}

fn decrypt(around: &Surroundings, id: Option<&str>, input: &Path, output: &Path) -> Result<(), Error> {
    let mut file = files::open_input(input)?;
    let expected = id.map(|id| Id::new(id)?.find(&around.nodes)).transpose()?.map(|want| want.key);
    let source = Source::of_file(&mut file).map_err(Error::reading(input))?;
    let output = Output::open(output, Existing::Replace)?;
    let (_, culprits) = files::decrypt_with(&around.nodes, source, output, expected).map_err(Error::of_file(input))?;
    for culprit in &culprits {
        eprintln!("warning: {culprit}");
    }
    Ok(())
}

/// The path of a place of this machine.
fn place(remote: &str) -> Result<PathBuf, Error> {
    match remote.split_once(':') {
        Some(("file", rest)) => Ok(PathBuf::from(format!("/{}", rest.trim_start_matches('/')))),
        Some((scheme, _)) if !scheme.contains('/') => Err(Error::NoSuchRemote { remote: remote.into() }),
        _ => Ok(remote.into()),
    }
}

/// What names the key of a stored file, when `-i` does not say.
fn id_of(id: Option<&str>, remote: &str) -> Result<String, Error> {
    match id {
        Some(id) => Ok(id.to_owned()),
        None if remote.starts_with("lfn:") => Ok(logical(remote)),
        None => Ok(place(remote)?.display().to_string()),
    }
}

impl Runs for Put {
    fn run(self) -> ExitCode {
        self.cipher.tell(self.common);
        let done = Surroundings::open(None).and_then(|around| {
            let id = id_of(self.id.as_deref(), &self.remote)?;
            if self.only_key {
                return key::register(&around, &id);
            }
            let remote = place(&self.remote)?;
            // What cannot be read or written is told before there is a key.
            drop(files::open_input(&self.local)?);
            drop(Output::open(&remote, Existing::Keep)?);
            key::register(&around, &id)?;
            let stored = encrypt(&around, &Id::new(&id)?, None, &self.local, &remote);
            if stored.is_err() {
                key::unregister(&around, &id)?;
            }
            stored
        });
        match done {
            Ok(key) => {
                self.common.note(&format!("the key is {key}"));
                ExitCode::SUCCESS
            }
            Err(error) => failed("glite_eds_put", &error),
        }
    }
}

impl Runs for Get {
    fn run(self) -> ExitCode {
        let done = Surroundings::open(None)
            .and_then(|around| decrypt(&around, self.id.as_deref(), &place(&self.remote)?, &self.local));
        match done {
            Ok(()) => {
                self.common.note(&format!("written to '{}'", self.local.display()));
                ExitCode::SUCCESS
            }
            Err(error) => failed("glite_eds_get", &error),
        }
    }
}

impl Runs for Rm {
    fn run(self) -> ExitCode {
        let done = Surroundings::open(None).and_then(|around| {
            let id = id_of(self.id.as_deref(), &self.remote)?;
            let remote = place(&self.remote)?;
            // Without the key nothing is deleted.
            Id::new(&id)?.find(&around.nodes)?;
            fs::remove_file(&remote).map_err(crate::output::Error::writing(&remote))?;
            key::unregister(&around, &id)
        });
        match done {
            Ok(()) => {
                self.common.note(&format!("'{}' and its key are deleted", self.remote));
                ExitCode::SUCCESS
            }
            Err(error) => failed("glite_eds_rm", &error),
        }
    }
}
