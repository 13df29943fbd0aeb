//! A small grid: an authority, people, a VOMS server, and RFC 3820 proxies by `voms-proxy-fake`.
//!
//! The proxies are real ones, with attribute certificates signed by the server's key; only the server itself is not there
//! to be asked for them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Outcome, pki::CredentialFiles, trouble::During as _, user};

/// The grid. Its files lie in one folder.
#[derive(Debug)]
pub struct Grid {
    folder: PathBuf,
    made: AtomicU32,
}

impl Grid {
    /// Makes authority, server, and the people `alice` and `bob`.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn new(folder: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(folder).during(folder.display())?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hsm-keystore/tests/authn/pki.sh");
        user::run(Command::new("bash").arg(script).arg(folder))?.success().during("pki.sh")?;
        Ok(Self { folder: folder.into(), made: AtomicU32::new(0) })
    }

    /// The directory of the authorities of the grid, as `X509_CERT_DIR` names it.
    pub fn authorities(&self) -> PathBuf {
        self.folder.join("certificates")
    }

    /// The directory of the VOMS servers that are believed, as `X509_VOMS_DIR` names it.
    pub fn voms(&self) -> PathBuf {
        self.folder.join("vomsdir")
    }

    /// What a node that believes this grid has in its settings.
    pub fn settings(&self) -> String {
        format!("\n[authn]\nca_directory = {:?}\nvoms_directory = {:?}\n", self.authorities(), self.voms())
    }

    /// A person's own certificate and key.
    pub fn person(&self, name: &str) -> CredentialFiles {
        let file = |kind: &str| self.folder.join(format!("{name}.{kind}"));
        CredentialFiles { certificate: file("pem"), key: file("key") }
    }

    /// Makes a proxy of a person with these groups of the VO `myvo`, twelve hours long; more options may follow.
    ///
    /// # Errors
    /// When `voms-proxy-fake` fails.
    pub fn proxy(&self, name: &str, groups: &[&str], more: &[&str]) -> Outcome<PathBuf> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.join(format!("proxy-{name}-{number}"));
        let person = self.person(name);
        let mut command = Command::new("voms-proxy-fake");
        command.arg("-cert").arg(&person.certificate).arg("-key").arg(&person.key);
        command.arg("-out").arg(&file).arg("-certdir").arg(self.folder.join("certificates"));
        command.args(["-rfc", "-bits", "2048", "-hours", "12"]).args(more);
        let server = self.person("voms");
        command.arg("-hostcert").arg(server.certificate).arg("-hostkey").arg(server.key);
        command.args(["-voms", "myvo", "-uri", "voms.example.org:15000", "-vomslife", "12", "-newformat"]);
        for group in groups {
            command.args(["-fqan", group]);
        }
        command.env("X509_CERT_DIR", self.folder.join("certificates"));
        command.env("X509_VOMS_DIR", self.folder.join("vomsdir"));
        user::run(&mut command)?.success().during("voms-proxy-fake")?;
        Ok(file)
    }
}
