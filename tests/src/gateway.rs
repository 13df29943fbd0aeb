//! A DICOM gateway of a department, and the peers that speak to it: dcmtk's programs.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Outcome, Trouble, files, give_up, ports,
    process::Process,
    trouble::During as _,
    user::{self, Run, User},
};

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    process: Option<Process>,
    settings: PathBuf,
    port: u16,
    log: PathBuf,
    runner: User,
}

/// A peer in its settings.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    /// Its AE title.
    pub title: &'a str,
    /// As whom it acts.
    pub user: &'a User,
    /// What it may: `store`, `find`, `retrieve`.
    pub may: &'a [&'a str],
    /// Where it listens.
    pub destination: Option<u16>,
    /// The name in its certificate.
    pub certificate: Option<&'a str>,
}

impl<'a> Peer<'a> {
    /// One that may do everything, and does not listen.
    pub fn of(title: &'a str, user: &'a User) -> Self {
        Self { title, user, may: &["store", "find", "retrieve"], destination: None, certificate: None }
    }
}

impl Gateway {
    /// Starts one whose settings are in `folder`; `more` are lines at their beginning.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(folder: &Path, runner: &User, peers: &[Peer<'_>], more: &str) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let port = ports::free()?;
        let mut text = format!("listen = \"127.0.0.1:{port}\"\nae_title = \"EDS\"\n{more}\n");
        for Peer { title, user, may, destination, certificate } in peers {
            text += &format!("\n[[peer]]\nae_title = {title:?}\naddresses = [\"127.0.0.1\"]\nmay = {may:?}\n");
            text += &format!("config = {:?}\n", user.config());
            if let Some(port) = destination {
                text += &format!("destination = \"127.0.0.1:{port}\"\n");
            }
            if let Some(name) = certificate {
                text += &format!("certificate_name = {name:?}\n");
            }
        }
        let settings = folder.join("gateway.toml");
        fs::write(&settings, text).during(settings.display())?;
        let log = folder.join("gateway.log");
        let mut gateway = Self { process: None, settings, port, log, runner: runner.clone() };
        gateway.restart()?;
        Ok(gateway)
    }

    /// Starts it again after [`Gateway::kill`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Outcome {
        let settings = self.settings.display().to_string();
        let mut command = self.runner.command(["gateway", "--settings", &settings]);
        let mut process = Process::start("eds gateway", &mut command, &self.log)?;
        process.wait_for("listening on ", PATIENCE)?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Outcome {
        match self.process.take() {
            Some(process) => process.kill(),
            None => give_up!("the gateway does not run"),
        }
    }

    /// What it said so far.
    ///
    /// # Errors
    /// When there is no log.
    pub fn log(&self) -> Outcome<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// A command line of one of dcmtk's programs that calls the gateway as this peer: `storescu`, `findscu`, …
    pub fn dcmtk(&self, program: &str, title: &str, options: &[&str], files: &[&Path]) -> Command {
        let mut command = Command::new(program);
        command.args(options).args(["-aet", title, "-aec", "EDS", "127.0.0.1", &self.port.to_string()]).args(files);
        // The dictionary is where the package put it; a profile of the caller's is of no concern here.
        command.env("TCP_NODELAY", "1");
        command
    }

    /// Runs one to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn peer(&self, program: &str, title: &str, options: &[&str], files: &[&Path]) -> Outcome<Run> {
        user::run(&mut self.dcmtk(program, title, options, files))
    }

    /// The peak of its memory so far, in KiB.
    ///
    /// # Errors
    /// When it does not run.
    pub fn peak_kib(&self) -> Outcome<u64> {
        let Some(process) = &self.process else { give_up!("the gateway does not run") };
        let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak.ok_or_else(|| Trouble::new("no peak in /proc"))
    }
}

/// The data set of a file: what follows the meta information.
///
/// # Errors
/// When it is no file with meta information.
pub fn data_set(path: &Path) -> Outcome<Vec<u8>> {
    let bytes = fs::read(path)?;
    let length = bytes.get(140..144).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
    let start = length.and_then(|length| usize::try_from(length).ok()).map(|length| length + 144);
    start.and_then(|start| bytes.get(start..)).map(<[u8]>::to_vec).ok_or_else(|| Trouble::new("no meta information"))
}

/// The data sets of all files below a folder.
///
/// # Errors
/// As [`data_set`].
pub fn data_sets(folder: &Path) -> Outcome<BTreeSet<Vec<u8>>> {
    files::below(folder)?.iter().map(|path| data_set(path)).collect()
}

/// Waits until somebody listens on this port of this machine.
///
/// # Errors
/// When nobody does for a minute.
pub fn wait_for_port(port: u16) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            give_up!("nobody listens on port {port}");
        }
        std::thread::yield_now();
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(60);
