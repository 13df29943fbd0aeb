//! An XRootD server: `root://` and HTTP on one port, GSI proxies, groups of VOMS, checksums.

use std::{fs, path::Path, process::Command};

use super::{Lab, give_away, wait_for_port};
use crate::{Outcome, ports, process::Process};

/// A running server.
#[derive(Debug)]
pub struct Xrootd {
    process: Option<Process>,
    port: u16,
    folder: std::path::PathBuf,
}

impl Xrootd {
    /// Starts one. Physicians of `/myvo/radiology` may write there, all of `/myvo` read `/myvo/public`.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(lab: &Lab) -> Outcome<Self> {
        let folder = lab.folder("xrootd")?;
        let at = |name: &str| folder.join(name).display().to_string();
        for name in ["data/myvo/radiology", "data/myvo/public", "admin", "run", "log"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let server = lab.grid().person("se");
        fs::copy(server.certificate, folder.join("se.pem"))?;
        fs::copy(server.key, folder.join("se.key"))?;
        fs::write(
            folder.join("authdb"),
            "= phys o: myvo g: /myvo/radiology r: physician\ns phys /myvo/radiology a /myvo/public rl\n\
             g /myvo /myvo/public rl\nu * /myvo/anon a\n",
        )?;
        let port = ports::free()?;
        let authorities = lab.grid().authorities();
        let authorities = authorities.display();
        let (data, admin, run, certificate, key, authdb) =
            (at("data"), at("admin"), at("run"), at("se.pem"), at("se.key"), at("authdb"));
        let settings = format!(
            "all.export /myvo\noss.localroot {data}\nall.adminpath {admin}\nall.pidpath {run}\nxrd.port {port}\n\
             xrd.network nodnr\nxrd.protocol http:{port} libXrdHttp.so\nxrd.tls {certificate} {key}\n\
             xrd.tlsca certdir {authorities}\nhttp.desthttps no\nhttp.selfhttps2http no\nhttp.listingdeny no\n\
             http.secxtractor libXrdVoms.so grpopt=usefirst|dbg\nxrootd.seclib libXrdSec.so\n\
             sec.protocol gsi -certdir:{authorities} -cert:{certificate} -key:{key} -crl:0 -ca:1 -gmapopt:10 -vomsat:1 \
             -vomsfun:libXrdVoms.so -vomsfunparms:certfmt=pem|vos=myvo|grpopt=usefirst|dbg\n\
             sec.protbind * only gsi\nofs.authorize 1\nacc.authdb {authdb}\nxrootd.chksum max 2 adler32 md5\n",
        );
        fs::write(folder.join("xrd.cfg"), settings)?;
        give_away(&folder, "xrootd:xrootd")?;
        let mut this = Self { process: None, port, folder };
        this.run(lab)?;
        Ok(this)
    }

    /// Starts it again after [`Xrootd::stop`].
    ///
    /// # Errors
    /// As [`Xrootd::start`].
    pub fn run(&mut self, lab: &Lab) -> Outcome {
        let log = self.folder.join("log/xrootd.log");
        let mut command = Command::new("setpriv");
        command.args(["--reuid=xrootd", "--regid=xrootd", "--clear-groups", "--pdeathsig=KILL", "xrootd", "-c"]);
        command.arg(self.folder.join("xrd.cfg")).args(["-n", "main", "-I", "v4"]).current_dir(&self.folder);
        command.env("X509_CERT_DIR", lab.grid().authorities()).env("X509_VOMS_DIR", lab.grid().voms());
        self.process = Some(Process::start("xrootd", &mut command, &log)?);
        wait_for_port("xrootd", self.port, &log)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it is not to be ended.
    pub fn stop(&mut self) -> Outcome {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// A URL on it.
    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://localhost:{}{path}", self.port)
    }

    /// Where its files are: what its administrator sees.
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.join("data")
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(Path::new(&self.folder).join("log/xrootd.log")).unwrap_or_default()
    }
}
