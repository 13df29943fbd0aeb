//! A key server of a test cluster: the real `eds-keystored` with a folder, a SoftHSM token and a port of its own.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    Outcome, binaries,
    daemon::TokenDaemon,
    give_up,
    pki::Credentials,
    ports,
    process::{self, Process},
    relay::Relay,
    trouble::During as _,
    user,
};

/// A key server.
#[derive(Debug)]
pub struct Node {
    /// Its number in the cluster directory.
    pub number: u16,
    folder: PathBuf,
    port: u16,
    relay: Option<Relay>,
    process: Option<Process>,
    daemon: Option<TokenDaemon>,
    variables: Vec<(&'static str, OsString)>,
}

/// What a node's token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Token {
    /// A SoftHSM.
    #[default]
    SoftHsm,
    /// A SoftHSM behind a daemon that knows no elliptic curves, so that the node's key pairs are wrapped.
    WithoutCurves,
    /// The openCryptoki of `tests/opencryptoki/inside`, in which the test runs; one node may have it.
    OpenCryptoki,
}

/// What a node's settings name and do not make.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The signed cluster directory, which need not exist before the node is started.
    pub directory: &'a Path,
    /// The fingerprint of the cluster key.
    pub fingerprint: &'a str,
    /// The CA of client certificates.
    pub client_ca: &'a Path,
    /// The node's own certificate.
    pub credentials: &'a Credentials,
    /// True to put a [`Relay`] before the node.
    pub relayed: bool,
    /// Its token.
    pub token: Token,
}

impl Node {
    /// Makes a node: settings, a new token, and its keys by `eds-keystored init`. It is not started.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn make(number: u16, folder: &Path, around: Surroundings<'_>) -> Outcome<Self> {
        fs::create_dir_all(folder).during(folder.display())?;
        let port = ports::free()?;
        let relay = if around.relayed { Some(Relay::start(port)?) } else { None };
        let mut node =
            Self { number, folder: folder.into(), port, relay, process: None, daemon: None, variables: Vec::new() };
        around.credentials.write(folder, "tls")?;
        node.write_settings(around)?;
        match around.token {
            Token::SoftHsm => node.new_token("tokens", &node.token_label())?,
            Token::WithoutCurves => {
                node.new_token("tokens", &node.token_label())?;
                node.put_behind_daemon()?;
                node.daemon()?.faults(NO_CURVES)?;
                node.set_hsm(WEAKER)?;
            }
            Token::OpenCryptoki => {
                node.set_hsm(WEAKER)?;
                node.write_pin("so-pin", OPENCRYPTOKI_SO_PIN)?;
                let officer = format!("--so-pin-source=file:{}", node.folder.join("so-pin").display());
                let config = node.config();
                let words = ["hsm", "init", &officer, "--config"];
                user::run(node.program()?.args(words).arg(config))?.success().during("eds-keystored hsm init")?;
            }
        }
        user::run(node.program()?.arg("init").args(["--config".as_ref(), node.config().as_os_str()]))?
            .success()
            .during(format_args!("eds-keystored init of node {number}"))?;
        Ok(node)
    }

    fn write_settings(&self, around: Surroundings<'_>) -> Outcome {
        let text = format!(
            "listen = \"127.0.0.1:{}\"\n\n[cluster]\ndirectory = {:?}\nfingerprint = {:?}\n\n\
             [tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\nclient_ca = {:?}\n\n\
             [hsm]\nmodule = {:?}\ntoken = {:?}\npin_file = \"pin\"\n\n[store]\npath = \"store.sqlite\"\n\n\
             [node]\nidentity = \"node.json\"\n",
            self.port,
            around.directory,
            around.fingerprint,
            around.client_ca,
            if around.token == Token::OpenCryptoki { binaries::opencryptoki()? } else { binaries::soft_hsm()? },
            self.token_label(),
        );
        fs::write(self.config(), text)?;
        self.write_pin("pin", PIN)
    }

    fn write_pin(&self, name: &str, pin: &str) -> Outcome {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(self.folder.join(name))?;
        Ok(file.write_all(pin.as_bytes())?)
    }

    /// Makes a new, empty token in `folder` of the node and lets the node use that folder from its next start on.
    ///
    /// # Errors
    /// When `softhsm2-util` fails.
    pub fn new_token(&self, folder: &str, label: &str) -> Outcome {
        let tokens = self.folder.join(folder);
        fs::create_dir_all(&tokens)?;
        let settings = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            tokens.display()
        );
        fs::write(self.token_settings(), settings)?;
        let mut command = Command::new("softhsm2-util");
        command.args(["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN]);
        user::run(command.env("SOFTHSM2_CONF", self.token_settings()))?.success().during("softhsm2-util")?;
        Ok(())
    }

    /// Puts a daemon between the node and its token, as a network HSM has one, from the node's next start on.
    ///
    /// # Errors
    /// When the daemon does not start.
    pub fn put_behind_daemon(&mut self) -> Outcome {
        let daemon = TokenDaemon::start(&self.folder, &self.token_settings())?;
        let (direct, proxy) = (format!("{:?}", binaries::soft_hsm()?), format!("{:?}", daemon.module()?));
        let settings = fs::read_to_string(self.config())?;
        fs::write(self.config(), settings.replace(&direct, &proxy))?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// The daemon between the node and its token.
    ///
    /// # Errors
    /// When there is none.
    pub fn daemon(&mut self) -> Outcome<&mut TokenDaemon> {
        match &mut self.daemon {
            Some(daemon) => Ok(daemon),
            None => give_up!("node {} has no daemon before its token", self.number),
        }
    }

    /// Adds lines to the section `[hsm]` of the settings.
    ///
    /// # Errors
    /// When the settings cannot be written.
    pub fn set_hsm(&self, lines: &str) -> Outcome {
        let settings = fs::read_to_string(self.config())?;
        Ok(fs::write(self.config(), settings.replace("[hsm]\n", &format!("[hsm]\n{lines}\n")))?)
    }

    /// Sets a variable of the server's environment, from its next start on.
    pub fn set_variable(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.variables.push((name, value.into()));
    }

    /// Adds a section to the settings.
    ///
    /// # Errors
    /// When the settings cannot be written.
    pub fn add_settings(&self, section: &str) -> Outcome {
        Ok(fs::write(self.config(), fs::read_to_string(self.config())? + section)?)
    }

    /// Waits until the node has ended by itself, and returns its exit code.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub fn ended(&mut self) -> Outcome<Option<i32>> {
        Ok(self.take()?.ended_within(PATIENCE)?.code())
    }

    /// Starts the node and waits until it answers.
    ///
    /// # Errors
    /// When it does not start, with the end of its log.
    pub fn start(&mut self) -> Outcome {
        let mut command = self.program()?;
        command.arg("serve").args(["--config".as_ref(), self.config().as_os_str()]);
        command.envs(self.variables.iter().cloned());
        let mut process = Process::start(&format!("node {}", self.number), &mut command, &self.log())?;
        process.wait_for("listening on ", PATIENCE)?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts the node where it must refuse to start, and returns what it said.
    ///
    /// # Errors
    /// When it starts all the same, or says nothing.
    pub fn start_refused(&self) -> Outcome<String> {
        let log = self.folder.join("refused.log");
        let _ = fs::remove_file(&log);
        let mut command = self.program()?;
        command.arg("serve").args(["--config".as_ref(), self.config().as_os_str()]);
        let mut process = Process::start(&format!("node {}", self.number), &mut command, &log)?;
        if process.wait_for("listening on ", PATIENCE).is_ok() {
            give_up!("node {} started, although it should not", self.number);
        }
        let status = process.ended()?;
        if status.code().is_none_or(|code| code == 0) {
            give_up!("node {} ended with {status}, not with an error code:\n{}", self.number, process::tail(&log));
        }
        // Its log is JSON here; what it says is told as people read it, too.
        let said = fs::read_to_string(&log)?;
        let entries = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let reasons: Vec<_> = entries.filter_map(|entry| Some(entry.get("reason")?.as_str()?.to_owned())).collect();
        Ok(said + &reasons.join("\n"))
    }

    /// Ends the node at once, as a power cut would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Outcome {
        self.take()?.kill()
    }

    /// Asks the node to end and waits for that.
    ///
    /// # Errors
    /// When it does not run, or ends with an error.
    pub fn stop(&mut self) -> Outcome {
        let status = self.take()?.end()?;
        if !status.success() {
            give_up!("node {} ended with {status}:\n{}", self.number, process::tail(&self.log()));
        }
        Ok(())
    }

    /// Kills the node and starts it again.
    ///
    /// # Errors
    /// As [`Node::kill`] and [`Node::start`].
    pub fn restart(&mut self) -> Outcome {
        self.kill()?;
        self.start()
    }

    /// Freezes the node: it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Outcome {
        self.running()?.pause()
    }

    /// Lets a frozen node go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Outcome {
        self.running()?.resume()
    }

    /// Changes every share that the node holds, as an operator could who has the database and the PIN, so that the node
    /// answers with shares that are well sealed and wrong. The node is stopped for it and started again if it ran.
    ///
    /// # Errors
    /// When the node holds no share.
    pub fn damage(&mut self) -> Outcome {
        let ran = self.process.is_some();
        if ran {
            self.stop()?;
        }
        user::run(self.tool("eds-testbed-damage")?.arg(self.config()))?
            .success()
            .during(format_args!("damaging node {}", self.number))?;
        if ran { self.start() } else { Ok(()) }
    }

    /// Runs `eds-keystored COMMAND --config …` for this node, with more arguments after it. A command may be of two words.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn command<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, command: &str, more: I) -> Outcome<user::Run> {
        user::run(self.program()?.args(command.split(' ')).arg("--config").arg(self.config()).args(more))
    }

    /// A program of this workspace that uses the node's token.
    ///
    /// # Errors
    /// When it is not built.
    pub fn tool(&self, name: &str) -> Outcome<Command> {
        let mut command = Command::new(binaries::find(name)?);
        command.env("SOFTHSM2_CONF", self.token_settings());
        Ok(command)
    }

    /// The port that the node itself listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs `eds-keystored SECTION COMMAND --config …` for this node.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn command_of(&self, words: &[&str]) -> Outcome<user::Run> {
        user::run(&mut self.command_line(words)?)
    }

    /// The command line `eds-keystored SECTION COMMAND --config …` for this node.
    ///
    /// # Errors
    /// When the program is not built.
    pub fn command_line(&self, words: &[&str]) -> Outcome<Command> {
        let mut command = self.program()?;
        command.args(words).arg("--config").arg(self.config()).stdin(std::process::Stdio::null());
        Ok(command)
    }

    /// The node's database.
    pub fn database(&self) -> PathBuf {
        self.folder.join("store.sqlite")
    }

    /// The URL that the cluster directory has for the node.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.relay.as_ref().map_or(self.port, Relay::port))
    }

    /// The slow network before the node, if it has one.
    ///
    /// # Errors
    /// When the cluster was made without.
    pub fn relay(&self) -> Outcome<&Relay> {
        match &self.relay {
            Some(relay) => Ok(relay),
            None => give_up!("node {} has no relay before it", self.number),
        }
    }

    /// The card that `eds-keystored init` wrote for `eds cluster add`.
    pub fn card(&self) -> PathBuf {
        self.folder.join("node.json")
    }

    /// The node's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The settings file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// The log of all its runs.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Moves the node's keys from its SQLite file to a PostgreSQL database, by way of a backup. It must not run.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn move_to_postgres(&self, connection: &str) -> Outcome {
        let backup = self.folder.join("moving");
        self.command("backup", ["--to".as_ref(), backup.as_os_str()])?.success()?;
        let settings = fs::read_to_string(self.config())?;
        let store = format!("postgres = {connection:?}");
        fs::write(self.config(), settings.replace("path = \"store.sqlite\"", &store))?;
        self.command("restore", ["--from".as_ref(), backup.as_os_str()])?.success()?;
        Ok(())
    }

    /// A further process of this node: the same token, database and identity, a port and an audit log of its own. It is
    /// not started.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn second_process(&self) -> Outcome<Self> {
        let folder = self.folder.with_extension("b");
        fs::create_dir_all(&folder)?;
        let port = ports::free()?;
        for name in ["tls.crt", "tls.key", "node.json", "softhsm2.conf", "pin"] {
            // A copy has the mode of the file.
            fs::copy(self.folder.join(name), folder.join(name)).during(name)?;
        }
        let settings = fs::read_to_string(self.config())?;
        let listen = format!("127.0.0.1:{}", self.port);
        let settings = settings.replace(&listen, &format!("127.0.0.1:{port}")) + "\n[audit]\nprocess = \"b\"\n";
        let node =
            Self { number: self.number, folder, port, relay: None, process: None, daemon: None, variables: Vec::new() };
        fs::write(node.config(), settings)?;
        node.command_of(&["audit", "create"])?.success()?;
        Ok(node)
    }

    /// The KEKs of the node as `hsm status` tells them: id, state, and how many records name it. A KEK that the database
    /// does not know has the state "unknown".
    ///
    /// # Errors
    /// When the command fails.
    pub fn keks(&self) -> Outcome<Vec<(String, String, u64)>> {
        let said = self.command_of(&["hsm", "status"])?.success()?.text();
        let mut keks = Vec::new();
        for line in said.lines() {
            if let Some((id, rest)) = line.strip_prefix("KEK ").and_then(|rest| rest.split_once(": ")) {
                let state = rest.split([',', ' ']).next().unwrap_or_default();
                keks.push((id.to_owned(), state.to_owned(), 0));
            } else if let Some((count, _)) = line.trim().split_once(" records name it")
                && let Some(last) = keks.last_mut()
            {
                last.2 = count.parse()?;
            }
        }
        Ok(keks)
    }

    /// The label of its token.
    pub fn token_label(&self) -> String {
        format!("eds-node-{}", self.number)
    }

    fn token_settings(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    fn program(&self) -> Outcome<Command> {
        let mut command = Command::new(binaries::find("eds-keystored")?);
        command.current_dir(&self.folder).env("SOFTHSM2_CONF", self.token_settings());
        if let Some(daemon) = &self.daemon {
            command.envs(daemon.environment());
        }
        Ok(command)
    }

    fn running(&self) -> Outcome<&Process> {
        match &self.process {
            Some(process) => Ok(process),
            None => give_up!("node {} does not run", self.number),
        }
    }

    fn take(&mut self) -> Outcome<Process> {
        match self.process.take() {
            Some(process) => Ok(process),
            None => give_up!("node {} does not run", self.number),
        }
    }
}

/// CKR_MECHANISM_INVALID, as a token says that has no such mechanism.
pub const NO_CURVES: &str = "C_GenerateKeyPair fail 112";
/// The line by which officers permit wrapped key pairs.
pub const WEAKER: &str = "weaker_wrapped_keys = \"node.wrapped-keys.json\"";
/// That of an openCryptoki that was never initialised.
const OPENCRYPTOKI_SO_PIN: &str = "87654321";
/// The PIN of every token.
pub const PIN: &str = "482913";
const SO_PIN: &str = "73920184";
const PATIENCE: Duration = Duration::from_secs(60);
