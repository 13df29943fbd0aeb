//! A lab of real storages: XRootD, Apache, SeaweedFS, OpenSSH, and a stand-in of a storage resource manager.
//!
//! XRootD listens on every address of its machine and cannot be told otherwise, so the whole test runs again in a network
//! namespace that has only `lo`: [`Lab::inside`]. That needs root, as CI is.

mod apache;
mod seaweed;
mod srm;
mod sshd;
mod xrootd;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

pub use self::{apache::Apache, seaweed::Seaweed, srm::Srm, sshd::Sshd, xrootd::Xrootd};
use crate::{Outcome, give_up, grid::Grid, trouble::During as _, user};

/// A folder and a grid for the storages of one test.
#[derive(Debug)]
pub struct Lab {
    folder: PathBuf,
    grid: Grid,
}

impl Lab {
    /// Runs `body` of the test with this name in a network of its own.
    ///
    /// # Errors
    /// When it cannot be made, and what `body` fails with.
    pub fn inside(test: &str, body: impl FnOnce(&Self) -> Outcome) -> Outcome {
        if let Some(folder) = std::env::var_os(VARIABLE) {
            let folder = PathBuf::from(folder);
            let grid = Grid::new(&folder.join("grid"))?;
            return body(&Self { folder, grid });
        }
        let folder = tempfile::tempdir()?;
        // Servers run as users of their own.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let gfal = folder.path().join("gfal");
        copy_gfal_settings(&gfal)?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
        command.arg(std::env::current_exe()?).args(["--exact", test, "--nocapture"]);
        command.env(VARIABLE, folder.path()).env("GFAL_CONFIG_DIR", &gfal).env_remove("X509_USER_PROXY");
        command.env("X509_CERT_DIR", folder.path().join("grid/certificates"));
        let run = user::run(&mut command)?;
        let text = run.text();
        if run.code != Some(0) {
            give_up!("in a network of its own (which needs root):\n{text}\n{}", run.stderr);
        }
        if !text.contains("1 passed") {
            give_up!("there is no test {test:?}:\n{text}");
        }
        Ok(())
    }

    /// Its authority, people and proxies.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// A new folder in that of the lab.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).during(folder.display())?;
        Ok(folder)
    }

    /// A proxy of Alice, who may write.
    ///
    /// # Errors
    /// As [`Grid::proxy`].
    pub fn physician(&self) -> Outcome<PathBuf> {
        self.grid.proxy("alice", &["/myvo/radiology/Role=physician", "/myvo", "/myvo/radiology"], &[])
    }

    /// A proxy of Bob, who may not.
    ///
    /// # Errors
    /// As [`Grid::proxy`].
    pub fn researcher(&self) -> Outcome<PathBuf> {
        self.grid.proxy("bob", &["/myvo"], &[])
    }
}

/// The settings of libgfal2's plug-ins, with files among what a storage resource manager may answer with.
fn copy_gfal_settings(to: &Path) -> Outcome {
    fs::create_dir(to)?;
    for file in fs::read_dir("/etc/gfal2.d").during("/etc/gfal2.d: run `make setup`")? {
        let file = file?.path();
        let text = fs::read_to_string(&file)?;
        let text: String = text
            .lines()
            .map(|line| if line.starts_with("TURL_PROTOCOLS=") { "TURL_PROTOCOLS=root;https;file" } else { line })
            .fold(String::new(), |text, line| text + line + "\n");
        fs::write(to.join(file.file_name().unwrap_or_default()), text)?;
    }
    Ok(())
}

/// Gives a folder and all below it to a user.
fn give_away(folder: &Path, user: &str) -> Outcome {
    user::run(Command::new("chown").args(["-R", user]).arg(folder))?.success()?;
    Ok(())
}

/// Waits until something listens on a port of this machine.
fn wait_for_port(name: &str, port: u16, log: &Path) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_err() {
        if Instant::now() > deadline {
            give_up!("{name} does not listen on port {port}:\n{}", crate::process::tail(log));
        }
        // Nothing tells when a server of others listens.
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

const VARIABLE: &str = "EDS_STORAGE_LAB";
