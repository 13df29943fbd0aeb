//! A user at a workstation: settings, certificate and places of data of their own, and the real `eds` program.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use crate::{Outcome, Trouble, binaries, give_up, pki::CredentialFiles, trouble::During as _};

/// A user. Everything they have lies in one folder.
#[derive(Clone, Debug)]
pub struct User {
    home: PathBuf,
    config: PathBuf,
    program: PathBuf,
}

/// What a command did.
#[derive(Debug)]
pub struct Run {
    /// The exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl User {
    /// Makes a user in a new folder, with these certificates and trusting this CA for the key servers.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(home: &Path, identity: &CredentialFiles, tls_ca: &Path) -> Outcome<Self> {
        fs::create_dir_all(home).during(home.display())?;
        let config = home.join("config.toml");
        let text = format!(
            "state = \"state\"\n\n[identity]\ncertificate = {:?}\nkey = {:?}\n\n[trust]\ntls_ca = {:?}\n\n\
             [storage]\npath = \"objects\"\n\n[catalog]\npath = \"catalog.sqlite\"\n\n[metadata]\npath = \"metadata.sqlite\"\n",
            identity.certificate, identity.key, tls_ca,
        );
        fs::write(&config, text).during(config.display())?;
        Ok(Self { home: home.into(), config, program: binaries::find("eds")? })
    }

    /// Takes the certificate out of the settings: the user proves who they are in another way.
    ///
    /// # Errors
    /// When the settings cannot be written.
    pub fn forget_certificate(&self) -> Outcome {
        let settings = fs::read_to_string(&self.config)?;
        let kept = settings.lines().filter(|line| !line.starts_with("certificate = ") && !line.starts_with("key = "));
        Ok(fs::write(&self.config, kept.fold(String::new(), |text, line| text + line + "\n"))?)
    }

    /// Adds a section to the settings.
    ///
    /// # Errors
    /// When the settings cannot be written.
    pub fn add_settings(&self, section: &str) -> Outcome {
        Ok(fs::write(&self.config, fs::read_to_string(&self.config)? + section)?)
    }

    /// The user's folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The settings file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where the user's `eds` keeps ciphertext.
    pub fn objects(&self) -> PathBuf {
        self.home.join("objects")
    }

    /// Where the user's `eds` keeps the cluster directory it trusts.
    pub fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// A command line of `eds` in the user's folder, with nothing of the bench's own environment that would matter.
    pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.home);
        self.environment(&mut command);
        command
    }

    /// A shell script in the user's folder, in which `eds` is the program under test.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(&self.home);
        self.environment(&mut command);
        let beside = self.program.parent().unwrap_or(Path::new("."));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            [beside.as_os_str(), OsStr::new(":"), &path].iter().fold(std::ffi::OsString::new(), |mut all, part| {
                all.push(part);
                all
            });
        command.env("PATH", path);
        command
    }

    /// Runs `eds`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn eds<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Outcome<Run> {
        run(&mut self.command(arguments))
    }

    /// Runs `eds` with a variable set.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn eds_with<I: IntoIterator<Item: AsRef<OsStr>>>(
        &self,
        (variable, value): (&str, impl AsRef<OsStr>),
        arguments: I,
    ) -> Outcome<Run> {
        run(self.command(arguments).env(variable, value))
    }

    /// Runs `eds` with these bytes on standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn eds_fed<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I, input: &[u8]) -> Outcome<Run> {
        let mut command = self.command(arguments);
        tell(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().during("starting eds")?;
        let mut pipe = child.stdin.take().ok_or_else(|| Trouble::new("no standard input"))?;
        let output = std::thread::scope(|scope| {
            // A command that refuses early does not read all of it: a broken pipe is no failure.
            scope.spawn(move || {
                let _ = pipe.write_all(input);
            });
            child.wait_with_output()
        })?;
        Ok(Run::of(output))
    }

    /// The name by which the key servers know the user, all of which must run.
    ///
    /// # Errors
    /// When `eds doctor` does not say it.
    pub fn name(&self) -> Outcome<String> {
        let said = self.eds(["doctor"])?.success()?.text();
        let name = said.lines().find_map(|line| Some(line.split_once("takes you for ")?.1.to_owned()));
        name.ok_or_else(|| Trouble::new(format!("no name in {said}")))
    }

    fn environment(&self, command: &mut Command) {
        for variable in OURS {
            command.env_remove(variable);
        }
        command.env("EDS_CONFIG", &self.config).env("HOME", &self.home).stdin(Stdio::null());
    }
}

/// Variables of the bench's own environment that a user's command must not see.
const OURS: [&str; 9] = [
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "SOFTHSM2_CONF",
    "X509_USER_PROXY",
    "BEARER_TOKEN",
    "BEARER_TOKEN_FILE",
    "EDS_PROOF",
];

/// Has every command that is run to its end from now on told to `watcher` first, as one line.
pub fn watch(watcher: fn(&str)) {
    // The first watcher stays: there is one story in a process.
    let _ = WATCHER.set(watcher);
}

static WATCHER: OnceLock<fn(&str)> = OnceLock::new();

fn tell(command: &Command) {
    if let Some(watcher) = WATCHER.get() {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        watcher(&command.get_args().fold(program, |line, argument| line + " " + &quoted(&argument.to_string_lossy())));
    }
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./:=@,+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{word}'") }
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started.
pub fn run(command: &mut Command) -> Outcome<Run> {
    tell(command);
    Ok(Run::of(command.output().during(format_args!("starting {}", command.get_program().to_string_lossy()))?))
}

impl Run {
    fn of(output: Output) -> Self {
        let mut stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code().is_none() {
            // Nothing that a program ends by itself with: say what ended it.
            stderr.push_str(&format!("\n[{}]", output.status));
        }
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// Expects success.
    ///
    /// # Errors
    /// When the command failed, with what it said.
    pub fn success(self) -> Outcome<Self> {
        if self.code != Some(0) {
            give_up!("exit code {:?} instead of success\n{}", self.code, self.stderr);
        }
        Ok(self)
    }

    /// Expects a refusal: this exit code, nothing on standard output, and an error text with each of these words.
    ///
    /// # Errors
    /// When the command did anything else, with what it said.
    pub fn refused(self, code: i32, words: &[&str]) -> Outcome<Self> {
        if !self.stdout.is_empty() {
            give_up!("refused, but {} bytes went to standard output\n{}", self.stdout.len(), self.stderr);
        }
        self.failed(code, words)
    }

    /// Expects a failure after something may have gone to standard output already.
    ///
    /// # Errors
    /// When the command did anything else, with what it said.
    pub fn failed(self, code: i32, words: &[&str]) -> Outcome<Self> {
        if self.code != Some(code) {
            give_up!("exit code {:?} instead of {code}\n{}", self.code, self.stderr);
        }
        if let Some(word) = words.iter().find(|word| !self.stderr.contains(**word)) {
            give_up!("the error text does not say {word:?}:\n{}", self.stderr);
        }
        if self.stderr.contains("panicked") {
            give_up!("the program panicked:\n{}", self.stderr);
        }
        Ok(self)
    }

    /// The first word of standard output: the id that `eds register` printed.
    pub fn id(&self) -> String {
        self.text().split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// The key under which `eds encrypt` says that it encrypted.
    pub fn key(&self) -> String {
        let mut words = self.stderr.split([' ', ',']).skip_while(|word| *word != "key");
        words.nth(1).unwrap_or_default().to_owned()
    }

    /// Standard output as text without the end of its last line.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

/// The exit codes of `eds`, as `eds --help` documents them.
pub mod exit {
    /// Wrong command line or configuration.
    pub const USAGE: i32 = 2;
    /// What was asked for does not exist.
    pub const NOT_FOUND: i32 = 3;
    /// Not authenticated or not permitted.
    pub const DENIED: i32 = 4;
    /// Not enough key servers answered.
    pub const UNAVAILABLE: i32 = 5;
    /// Damaged or forged data.
    pub const DAMAGED: i32 = 6;
    /// Local input or output failed.
    pub const LOCAL_IO: i32 = 7;
    /// Exists already.
    pub const CONFLICT: i32 = 8;
    /// Input that this release cannot process.
    pub const UNSUPPORTED: i32 = 9;
    /// An image that may show who the patient is.
    pub const SUSPECT: i32 = 10;
}
