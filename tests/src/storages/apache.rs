//! Apache with WebDAV over TLS, behind a password.

use std::{fs, path::PathBuf, process::Command};

use super::{Lab, give_away, wait_for_port};
use crate::{Outcome, files::write_private, ports, process::Process, user};

/// A running server.
#[derive(Debug)]
pub struct Apache {
    process: Option<Process>,
    port: u16,
    folder: PathBuf,
}

impl Apache {
    /// The user who may do everything.
    pub const USER: &str = "eds";

    /// Starts one.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(lab: &Lab) -> Outcome<Self> {
        let folder = lab.folder("apache")?;
        for name in ["files", "lock", "tmp"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let server = lab.grid().person("se");
        let port = ports::free()?;
        write_private(&folder.join("password"), b"sesame\n")?;
        let digest = user::run(Command::new("openssl").args(["passwd", "-apr1", "sesame"]))?.success()?.text();
        fs::write(folder.join("users"), format!("{}:{digest}\n", Self::USER))?;
        let modules =
            ["mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "dav", "dav_fs", "ssl"];
        let modules = modules.iter().fold(String::new(), |text, name| {
            text + &format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
        });
        let root = folder.display();
        let settings = format!(
            "ServerRoot {root}\nServerName localhost\nPidFile {root}/pid\nDefaultRuntimeDir {root}/tmp\n\
             Listen 127.0.0.1:{port}\n{modules}User www-data\nGroup www-data\nErrorLog {root}/error.log\n\
             DocumentRoot {root}/files\nDavLockDB {root}/lock/db\nSSLEngine on\nSSLCertificateFile {}\n\
             SSLCertificateKeyFile {}\n<Directory {root}/files>\nDav On\nAuthType Basic\nAuthName eds\n\
             AuthUserFile {root}/users\nRequire valid-user\n</Directory>\n",
            server.certificate.display(),
            server.key.display(),
        );
        fs::write(folder.join("httpd.conf"), settings)?;
        for name in ["files", "lock", "tmp"] {
            give_away(&folder.join(name), "www-data:www-data")?;
        }
        let log = folder.join("error.log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig=TERM", "/usr/sbin/apache2", "-DFOREGROUND", "-f"]).arg(folder.join("httpd.conf"));
        let process = Process::start("apache2", &mut command, &folder.join("output.log"))?;
        wait_for_port("apache2", port, &log)?;
        Ok(Self { process: Some(process), port, folder })
    }

    /// The URL of a folder on it that is not there yet.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/eds", self.port)
    }

    /// A file with the user's password.
    pub fn password_file(&self) -> PathBuf {
        self.folder.join("password")
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.folder.join("files")
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Asked to: its workers are its own to end, and would stay if it were killed.
        if let Some(process) = self.process.take() {
            let _ = process.end();
        }
    }
}
