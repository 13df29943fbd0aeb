//! Users of the original's commands: links to `eds` in a folder of the PATH, variables of the grid, no configuration of `eds`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Outcome, binaries,
    cluster::Cluster,
    node::Node,
    trouble::During as _,
    user::{self, Run},
};

/// Somebody who knows the original's commands and nothing else.
#[derive(Debug)]
pub struct Original {
    home: PathBuf,
    names: PathBuf,
    variables: Vec<(String, PathBuf)>,
}

impl Original {
    /// Somebody with this proxy, for a cluster that is pinned, whose authorities lie in a hashed directory, and whose servers
    /// are in a `services.xml`.
    ///
    /// # Errors
    /// When a step fails, with what the program said.
    pub fn new(cluster: &mut Cluster, name: &str, proxy: &Path) -> Outcome<Self> {
        let home = cluster.folder().join(format!("original-{name}"));
        let names = home.join("bin");
        fs::create_dir_all(&names)?;
        let authorities = home.join("certificates");
        hashed(&cluster.ca(), &authorities)?;
        let urls: Vec<String> = cluster.nodes().iter().map(Node::url).collect();
        let services = home.join("services.xml");
        fs::write(&services, self::services(&urls))?;
        let variables = [
            ("X509_USER_PROXY", proxy.to_path_buf()),
            ("X509_CERT_DIR", authorities),
            ("GLITE_SD_SERVICES_XML", services),
            ("GLITE_SD_PLUGIN", PathBuf::from("file")),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let original = Self { home, names, variables };
        let (directory, fingerprint) = (cluster.directory(), cluster.fingerprint().to_owned());
        original.run(&format!("eds install-names {}", original.names.display()))?.success()?;
        let import = format!("eds cluster import {} --fingerprint {fingerprint}", directory.display());
        original.run(&import)?.success().during("eds cluster import")?;
        Ok(original)
    }

    /// The folder in which commands run.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The file of the services.
    pub fn services(&self) -> PathBuf {
        self.home.join("services.xml")
    }

    /// Sets a variable, or another value of it.
    pub fn set(&mut self, variable: &str, value: impl Into<PathBuf>) {
        self.unset(variable);
        self.variables.push((variable.to_owned(), value.into()));
    }

    /// Takes a variable away.
    pub fn unset(&mut self, variable: &str) {
        self.variables.retain(|(name, _)| name != variable);
    }

    /// Runs a shell script.
    ///
    /// # Errors
    /// When the shell cannot be started.
    pub fn run(&self, script: &str) -> Outcome<Run> {
        let program = binaries::find("eds")?;
        let beside = program.parent().unwrap_or(Path::new("."));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(&self.home).env_clear();
        command.env("PATH", format!("{}:{}:{path}", self.names.display(), beside.display())).env("HOME", &self.home);
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).stdin(std::process::Stdio::null());
        user::run(&mut command)
    }
}

/// Puts an authority into a directory under OpenSSL's hash of its name.
fn hashed(ca: &Path, directory: &Path) -> Outcome {
    fs::create_dir_all(directory)?;
    let hash = user::run(Command::new("openssl").args(["x509", "-noout", "-hash", "-in"]).arg(ca))?.success()?.text();
    fs::copy(ca, directory.join(format!("{hash}.0")))?;
    Ok(())
}

/// A file of services as grids have it: the first service, and the others with it.
pub fn services(urls: &[String]) -> String {
    let service = |(position, url): (usize, &String)| {
        let others = (2..=urls.len()).map(|number| format!("<name>hydra-{number}</name>")).collect::<String>();
        let associated =
            if position == 0 { format!("<associatedservices>{others}</associatedservices>") } else { String::new() };
        format!(
            "  <service name=\"hydra-{}\"><parameters><endpoint>{url}/glite-data-hydra-service/services/Metadata</endpoint>\
             <type>org.glite.Metadata</type></parameters>{associated}</service>\n",
            position + 1
        )
    };
    let all: String = urls.iter().enumerate().map(service).collect();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<services>\n{all}</services>\n")
}
