//! A PostgreSQL server of Debian's package, in a temporary directory on a Unix socket, for one test.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, getuid, kill_process};

use crate::config::PostgresConfig;

/// A running server. Dropping it ends it, by its own id.
pub(super) struct Server {
    process: Child,
    pub(super) port: u16,
    // After the process.
    directory: tempfile::TempDir,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::start_with(|_| ())
    }

    /// Starts a server whose data directory `prepare` may change first.
    pub(super) fn start_with(prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("set");
        let data = directory.path().join("data");
        fs::create_dir(&data).expect("made");
        give_away(&data);
        let made = as_server_user(&program("initdb"))
            .args(["--auth=trust", "--username=eds", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        prepare(&data);
        for file in fs::read_dir(&data).expect("listed").map(|entry| entry.expect("read").path()) {
            give_away(&file);
        }
        // Only TLS uses the port; the lock file of the socket has it in its name.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr()).expect("a free port").port();
        let mut process = as_server_user(&program("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=40"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("postgres runs");
        let mut said = String::new();
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| {
            said.push_str(&line);
            said.push('\n');
            line.contains("ready to accept connections")
        });
        assert!(ready, "{said}");
        // It must not wait for somebody to read what else it says.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { process, port, directory }
    }

    /// A new database in it.
    pub(super) fn database(&self, name: &str) -> PostgresConfig {
        let mut client = self.client("postgres");
        client.batch_execute(&format!("CREATE DATABASE {name}")).expect("made");
        self.config(name)
    }

    pub(super) fn config(&self, database: &str) -> PostgresConfig {
        PostgresConfig {
            connection: format!("host={} port={} user=eds dbname={database}", self.data().display(), self.port),
            password_file: None,
            tls_ca: None,
            connections: 4,
        }
    }

    /// A connection without any of the store's settings.
    pub(super) fn client(&self, database: &str) -> postgres::Client {
        postgres::Client::connect(&self.config(database).connection, postgres::NoTls).expect("connects")
    }

    pub(super) fn data(&self) -> PathBuf {
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

/// The newest installed server's program.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| panic!("{name} is missing: apt-get install postgresql"))
}

/// PostgreSQL does not run as root. `setpriv` is replaced by the program, which keeps its process id; the program is
/// ended with the thread of the test.
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
fn give_away(file: &Path) {
    if getuid().is_root() {
        let given = Command::new("chown").args(["nobody:nogroup", "--"]).arg(file).status().expect("chown runs");
        assert!(given.success());
    }
}
