//! OpenSSH's server with SFTP, for the user who runs the tests.

use std::{fs, path::PathBuf, process::Command};

use super::{Lab, wait_for_port};
use crate::{Outcome, ports, process::Process, user};

/// A running server.
#[derive(Debug)]
pub struct Sshd {
    process: Option<Process>,
    port: u16,
    folder: PathBuf,
}

impl Sshd {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(lab: &Lab) -> Outcome<Self> {
        let folder = lab.folder("sshd")?;
        for name in ["host", "user", "stranger"] {
            let key = folder.join(name);
            let make = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"];
            user::run(Command::new("ssh-keygen").args(make).arg(key))?.success()?;
        }
        let port = ports::free()?;
        let root = folder.display();
        let host = fs::read_to_string(folder.join("host.pub"))?;
        fs::write(folder.join("known"), format!("[localhost]:{port} {host}"))?;
        fs::copy(folder.join("user.pub"), folder.join("authorized"))?;
        fs::write(
            folder.join("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nAuthorizedKeysFile {root}/authorized\n\
                 StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n\
                 Subsystem sftp internal-sftp\n"
            ),
        )?;
        // It wants this one of its own when it runs as root.
        let _ = fs::create_dir_all("/run/sshd");
        let mut this = Self { process: None, port, folder };
        this.run()?;
        Ok(this)
    }

    /// Starts it again after [`Sshd::stop`].
    ///
    /// # Errors
    /// As [`Sshd::start`].
    pub fn run(&mut self) -> Outcome {
        let log = self.folder.join("log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig=KILL", "/usr/sbin/sshd", "-D", "-e", "-f"]).arg(self.folder.join("sshd_config"));
        self.process = Some(Process::start("sshd", &mut command, &log)?);
        wait_for_port("sshd", self.port, &log)
    }

    /// Ends it; connections that it has stay.
    ///
    /// # Errors
    /// When it is not to be ended.
    pub fn stop(&mut self) -> Outcome {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// The URL of a folder on it that is not there yet.
    pub fn url(&self) -> String {
        format!("sftp://localhost:{}{}/files", self.port, self.folder.display())
    }

    /// A key that it lets in.
    pub fn key_file(&self) -> PathBuf {
        self.folder.join("user")
    }

    /// A key that it does not let in.
    pub fn strange_key_file(&self) -> PathBuf {
        self.folder.join("stranger")
    }

    /// A file with its key.
    pub fn known_hosts(&self) -> PathBuf {
        self.folder.join("known")
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.folder.join("files")
    }
}
