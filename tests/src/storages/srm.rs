//! A stand-in of a storage resource manager, SRM v2.2, for the real client of Debian: none can be installed. See `srm.py`.

use std::{path::PathBuf, process::Command, time::Duration};

use super::Lab;
use crate::{Outcome, ports, process::Process};

/// A running stand-in.
#[derive(Debug)]
pub struct Srm {
    _process: Process,
    port: u16,
    folder: PathBuf,
}

impl Srm {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(lab: &Lab) -> Outcome<Self> {
        let folder = lab.folder("srm")?;
        let files = lab.folder("srm/files")?;
        let server = lab.grid().person("se");
        let authority = lab.folder("grid")?.join("ca.pem");
        let port = ports::free()?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig=KILL", "python3", "-u", "-c", include_str!("srm.py"), &port.to_string()]);
        command.arg(files).arg(server.certificate).arg(server.key).arg(authority);
        let mut process = Process::start("srm.py", &mut command, &folder.join("log"))?;
        process.wait_for("ready", Duration::from_secs(30))?;
        Ok(Self { _process: process, port, folder })
    }

    /// The URL of a folder on it that is not there yet.
    pub fn url(&self) -> String {
        format!("srm://localhost:{}/srm/managerv2?SFN=/myvo/eds", self.port)
    }

    /// What it was asked, in order.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.folder.join("files")
    }
}
