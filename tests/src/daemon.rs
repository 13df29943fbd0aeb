//! A token that lies behind a daemon, as that of a network HSM does, so that it can be lost in all the ways it is in life.
//!
//! The node loads the module of `tests/pkcs11-proxy`, which forwards each call to `eds-pkcs11-daemon`, which owns the
//! node's SoftHSM. The daemon can be killed and started again; the module can be told to fail any call with any code, or
//! to hang in it; the daemon can be told to forget all sessions, or to log the token out.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use eds_pkcs11_proxy::wire::{Reader, Writer, receive, send};

use crate::{Outcome, binaries, give_up, process::Process, trouble::During as _};

/// The daemon before a token.
#[derive(Debug)]
pub struct TokenDaemon {
    folder: PathBuf,
    token_settings: PathBuf,
    process: Option<Process>,
}

impl TokenDaemon {
    /// Starts a daemon for the token of these SoftHSM settings, with its socket and control files in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(folder: &Path, token_settings: &Path) -> Outcome<Self> {
        let mut daemon = Self { folder: folder.join("daemon"), token_settings: token_settings.into(), process: None };
        fs::create_dir_all(&daemon.folder)?;
        daemon.mend()?;
        daemon.restart()?;
        Ok(daemon)
    }

    /// The module that speaks to the daemon.
    ///
    /// # Errors
    /// When it is not built.
    pub fn module(&self) -> Outcome<PathBuf> {
        binaries::find("libeds_pkcs11_proxy.so")
    }

    /// What the module must find in its environment.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        [("EDS_PROXY_SOCKET", self.socket().into()), ("EDS_PROXY_CONTROL", self.folder.clone().into())]
    }

    /// Ends the daemon at once: every call fails from now on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Outcome {
        match self.process.take() {
            Some(process) => process.kill(),
            None => give_up!("the daemon does not run"),
        }
    }

    /// Starts the daemon anew. It knows nothing of earlier sessions.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Outcome {
        let mut command = Command::new(binaries::find("eds-pkcs11-daemon")?);
        command.arg(binaries::soft_hsm()?).arg(self.socket()).env("SOFTHSM2_CONF", &self.token_settings);
        let mut process = Process::start("token daemon", &mut command, &self.folder.join("log"))?;
        process.wait_for("ready", PATIENCE)?;
        self.process = Some(process);
        Ok(())
    }

    /// Lets calls fail or hang from now on: lines `C_Name fail CODE` or `C_Name hang`; `*` stands for all calls.
    ///
    /// # Errors
    /// When the control file cannot be written.
    pub fn faults(&self, lines: &str) -> Outcome {
        // Renamed into place, so that the module never reads half of it.
        let new = self.folder.join("faults.new");
        fs::write(&new, lines)?;
        Ok(fs::rename(new, self.folder.join("faults"))?)
    }

    /// Lets all calls through again.
    ///
    /// # Errors
    /// When the control file cannot be written.
    pub fn mend(&self) -> Outcome {
        self.faults("")
    }

    /// How often the module was called so: `C_Initialize`, `C_Finalize` or `C_Login`.
    pub fn calls(&self, name: &str) -> usize {
        let calls = fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        calls.lines().filter(|line| *line == name).count()
    }

    /// Closes all sessions behind the node's back.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn forget_sessions(&self) -> Outcome {
        self.at_each_slot(|stream, slot| {
            ask(stream, "C_CloseAllSessions", Writer::default().number(slot))?;
            Ok(())
        })
    }

    /// Logs the token out behind the node's back.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn log_out(&self) -> Outcome {
        self.at_each_slot(|stream, slot| {
            let (code, mut answer) = ask(stream, "C_OpenSession", Writer::default().number(slot).number(RW_SERIAL))?;
            if code == 0 {
                let session = answer.number()?;
                ask(stream, "C_Logout", Writer::default().number(session))?;
                ask(stream, "C_CloseSession", Writer::default().number(session))?;
            }
            Ok(())
        })
    }

    fn at_each_slot(&self, act: impl Fn(&mut UnixStream, u64) -> io::Result<()>) -> Outcome {
        let mut stream = UnixStream::connect(self.socket()).during("speaking to the token's daemon")?;
        let (code, mut slots) = ask(&mut stream, "C_GetSlotList", Writer::default().number(1))?;
        if code != 0 {
            give_up!("the daemon lists no slots: {code:#x}");
        }
        for _ in 0..slots.number()? {
            act(&mut stream, slots.number()?)?;
        }
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}

fn ask(stream: &mut UnixStream, name: &str, arguments: Writer) -> io::Result<(u64, Reader)> {
    let request: Vec<u8> = Writer::default().bytes(name.as_bytes()).0.into_iter().chain(arguments.0).collect();
    send(stream, &request)?;
    let mut answer = receive(stream)?;
    Ok((answer.number()?, answer))
}

/// CKF_RW_SESSION and CKF_SERIAL_SESSION.
const RW_SERIAL: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(60);
