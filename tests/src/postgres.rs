//! A PostgreSQL server of Debian's package, in a temporary directory on a Unix socket.
//!
//! The unit tests of the key server's store include this file too, so it uses nothing of this crate. PostgreSQL does not
//! run as root: its programs run as nobody then.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, getuid, kill_process};

/// A running server. Dropping it ends it, by its own id.
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: u16,
    // After the process.
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts a server on a port that nobody uses; the socket has it in its name. `prepare` may change the data directory
    /// first.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(port: u16, prepare: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let data = directory.path().join("data");
        fs::create_dir(&data)?;
        give_away(&data)?;
        let make = ["--auth=trust", "--username=eds", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"];
        succeed(as_server_user(&program("initdb")?).args(make).arg(&data))?;
        prepare(&data)?;
        for file in fs::read_dir(&data)? {
            give_away(&file?.path())?;
        }
        let mut process = as_server_user(&program("postgres")?)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=60"])
            .stderr(Stdio::piped())
            .spawn()?;
        let output = process.stderr.take();
        let mut lines = BufReader::new(output.ok_or_else(|| io::Error::other("no standard error"))?).lines();
        let server = Self { process, port, directory };
        let mut said = String::new();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| {
            said.push_str(&line);
            said.push('\n');
            line.contains("ready to accept connections")
        });
        // It must not wait for somebody to read what else it says.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        if ready { Ok(server) } else { Err(io::Error::other(said)) }
    }

    /// Makes a new database, and returns how to connect to it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_database(&self, name: &str) -> io::Result<String> {
        let socket = self.data();
        let port = self.port.to_string();
        succeed(Command::new(program("createdb")?).arg("-h").arg(socket).args(["-p", &port, "-U", "eds", name]))?;
        Ok(self.connection(name))
    }

    /// The connection string of a database.
    pub fn connection(&self, database: &str) -> String {
        format!("host={} port={} user=eds dbname={database}", self.data().display(), self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its data directory, which holds its socket too.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT: at once, its children too.
        let _ = kill_process(Pid::from_child(&self.process), Signal::QUIT);
        let _ = self.process.wait();
    }
}

/// A program of the newest server that is installed.
fn program(name: &str) -> io::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().ok_or_else(|| io::Error::other(format!("{name} is missing: run `make setup`")))
}

/// `setpriv` is replaced by the program, which keeps its process id and is ended with the thread that started it.
fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=QUIT");
    if getuid().is_root() {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    }
    command.arg(program).current_dir("/").stdin(Stdio::null());
    command
}

/// Makes a file the server's own.
fn give_away(file: &Path) -> io::Result<()> {
    if getuid().is_root() { succeed(Command::new("chown").args(["nobody:nogroup", "--"]).arg(file)) } else { Ok(()) }
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&output.stderr))) }
}
