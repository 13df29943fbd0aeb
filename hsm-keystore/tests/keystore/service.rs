//! The program under a service manager: what it tells by sd_notify, that requests under way are finished when it is told to
//! stop, and the log that it writes there.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    common::{node::connect_to, softhsm::with_softhsm},
    program::{Files, program},
};

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn in_folder(files: &Files) -> Self {
        let path = files.folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("binds");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        Self { socket, path }
    }

    /// Starts the server as a service manager does, which wants a sign of life each 0.2 seconds.
    fn serve(&self, files: &Files) -> Child {
        program("serve", &files.config)
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", "200000")
            .env_remove("EDS_LOG")
            .env_remove("EDS_LOG_FORMAT")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs")
    }

    /// The next thing that the server tells.
    fn hears(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).expect("the server tells something");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    /// The next thing that the server tells, signs of life left out.
    fn is_told(&self) -> String {
        std::iter::repeat_with(|| self.hears()).find(|told| told != "WATCHDOG=1").expect("endless")
    }

    /// Waits for a sign of life that is given after this moment. One that waits already is one of before.
    fn sees_life(&self) {
        self.hears_nothing_but("WATCHDOG=1");
        assert_eq!(self.hears(), "WATCHDOG=1");
    }

    /// That what was told by now and not yet heard is this.
    fn hears_nothing_but(&self, expected: &str) {
        self.socket.set_nonblocking(true).expect("set");
        let mut buffer = [0; 512];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.socket.set_nonblocking(false).expect("set");
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("signals");
}

/// The lines of a log, each of which is a JSON object with the fields that collectors look for.
fn lines(log: &str) -> Vec<serde_json::Value> {
    log.lines()
        .map(|line| {
            let object: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            for field in ["timestamp", "level", "target", "message"] {
                assert!(object[field].is_string(), "no {field}: {line}");
            }
            object
        })
        .collect()
}

#[test]
fn a_service_manager_is_told_and_a_request_under_way_is_answered_after_the_signal_to_stop() {
    let name = concat!(
        module_path!(),
        "::a_service_manager_is_told_and_a_request_under_way_is_answered_after_the_signal_to_stop"
    );
    with_softhsm(name, |softhsm| {
        softhsm.make_token("node-4");
        let node = Files::new(softhsm, "node", "node-4");
        assert_eq!(node.run("init").code, Some(0));
        node.sign_directory();
        let manager = Manager::in_folder(&node);
        let mut child = manager.serve(&node);
        let ready = manager.hears();
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("reads");
        let url = line.trim().strip_prefix("listening on ").expect("listens").to_owned();
        assert!(ready.starts_with("READY=1\nSTATUS=node ") && ready.ends_with(&format!(" serves {url}")), "{ready}");
        manager.sees_life();

        signal(&child, Signal::HUP);
        let reloads = manager.is_told();
        assert!(reloads.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloads}");
        assert_eq!(manager.is_told(), ready);
        manager.sees_life();

        let address = url.strip_prefix("https://").expect("TLS").parse().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("made");
        let answer = runtime.block_on(async {
            let alice = node.users.user("alice");
            let presented = Some((vec![alice.certificate.clone()], alice.private_key()));
            let mut stream = connect_to(address, &node.servers, presented, b"http/1.1").await;
            let head = b"POST /v1/fetch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                         content-length: 2\r\nexpect: 100-continue\r\n\r\n";
            stream.write_all(head).await.expect("sent");
            // The server says so when it begins to read the body: the request is under way.
            let mut go_on = [0; 25];
            stream.read_exact(&mut go_on).await.expect("answers");
            assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
            signal(&child, Signal::TERM);
            assert_eq!(manager.is_told(), "STOPPING=1\nSTATUS=stops: requests under way are finished");
            // It lives until the last request is answered.
            manager.sees_life();
            assert!(tokio::net::TcpStream::connect(address).await.is_err(), "new connections are taken");
            stream.write_all(b"{}").await.expect("sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("ends in order");
            String::from_utf8(answer).expect("text")
        });
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("urn:eds:problem:bad-request"), "{answer}");
        let output = child.wait_with_output().expect("ends");
        assert_eq!(output.status.code(), Some(0));
        manager.hears_nothing_but("WATCHDOG=1");

        let log = String::from_utf8(output.stderr).expect("text");
        let lines = lines(&log);
        let (_, id) = answer.split_once("x-request-id: ").expect("an id");
        let id = id.lines().next().expect("a line");
        let answered = lines.iter().find(|line| line["span"]["id"] == id && line["message"] == "answered");
        let answered = answered.unwrap_or_else(|| panic!("no line of request {id}: {log}"));
        assert_eq!((&answered["status"], &answered["problem"]), (&400.into(), &"bad-request".into()));
        assert_eq!(lines.last().expect("lines")["message"], "stopped");
        // Nothing went wrong here that a person must look at.
        assert!(lines.iter().all(|line| line["level"] != "ERROR"), "{log}");

        // Start, the request and stop, all under a signed checkpoint: log and database were closed in order.
        let verified = node.run_with("audit", &["verify"]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
        assert!(verified.out.contains("not yet covered by one: 0"), "{verified:?}");
    });
}

#[test]
fn a_server_that_does_not_start_is_never_called_ready_and_says_why_in_one_object() {
    let name =
        concat!(module_path!(), "::a_server_that_does_not_start_is_never_called_ready_and_says_why_in_one_object");
    with_softhsm(name, |softhsm| {
        softhsm.make_token("node-4");
        let node = Files::new(softhsm, "node", "node-4");
        assert_eq!(node.run("init").code, Some(0));
        let manager = Manager::in_folder(&node);
        let mut child = manager.serve(&node);
        let mut log = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut log).expect("reads");
        assert_eq!(child.wait().expect("ends").code(), Some(1));
        manager.hears_nothing_but("nothing");
        let lines = lines(&log);
        let last = lines.last().expect("lines");
        assert_eq!((&last["level"], &last["status"]), (&"ERROR".into(), &1.into()));
        assert!(last["reason"].as_str().expect("text").contains("cluster directory"), "{last}");

        // A person who looks for the reason gets it in words.
        let asked = program("serve", &node.config).env("EDS_LOG_FORMAT", "text").output().expect("runs");
        let text = String::from_utf8(asked.stderr).expect("text");
        assert!(text.contains("eds-keystored: the node does not start:\n  "), "{text}");
    });
}
