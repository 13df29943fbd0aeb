//! SeaweedFS with its S3 door, from the Python package that `scripts/python-test.txt` pins.

use std::{fs, path::PathBuf, process::Command};

use super::{Lab, wait_for_port};
use crate::{Outcome, binaries, files::write_private, ports, process::Process};

/// A running server with a bucket `images`.
#[derive(Debug)]
pub struct Seaweed {
    process: Process,
    port: u16,
    folder: PathBuf,
}

impl Seaweed {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(lab: &Lab) -> Outcome<Self> {
        let folder = lab.folder("seaweed")?;
        let data = lab.folder("seaweed/data")?;
        write_private(&folder.join("s3.key"), b"access_key = edskey\nsecret_key = edssecret\n")?;
        write_private(&folder.join("wrong.key"), b"access_key = edskey\nsecret_key = another\n")?;
        fs::write(
            folder.join("s3.json"),
            "{\"identities\":[{\"name\":\"eds\",\"credentials\":[{\"accessKey\":\"edskey\",\"secretKey\":\"edssecret\"}],\
             \"actions\":[\"Admin\",\"Read\",\"Write\",\"List\",\"Tagging\"]}]}",
        )?;
        let (port, filer) = (ports::free()?, ports::free()?);
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL").arg(binaries::source_root().join("target/venv/bin/weed"));
        // The program of the package is Python that becomes the server.
        command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20", "-s3"]);
        command.arg(format!("-dir={}", data.display())).arg(format!("-s3.port={port}"));
        command.arg(format!("-s3.config={}", folder.join("s3.json").display()));
        for name in
            ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port.grpc", "s3.port.grpc"]
        {
            command.arg(format!("-{name}={}", ports::free()?));
        }
        command.arg(format!("-filer.port={filer}")).current_dir(&folder);
        let log = folder.join("weed.log");
        let process = Process::start("weed", &mut command, &log)?;
        wait_for_port("weed", filer, &log)?;
        wait_for_port("weed", port, &log)?;
        make_bucket(filer)?;
        Ok(Self { process, port, folder })
    }

    /// The URL of its S3 door.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A file with a key that may do everything.
    pub fn key_file(&self) -> PathBuf {
        self.folder.join("s3.key")
    }

    /// A file with a key whose secret is wrong.
    pub fn wrong_key_file(&self) -> PathBuf {
        self.folder.join("wrong.key")
    }

    /// Stops it in the middle of whatever it does, or lets it go on.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&self, paused: bool) -> Outcome {
        if paused { self.process.pause() } else { self.process.resume() }
    }

    /// Where it keeps everything.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

/// A bucket is a folder of its filer.
fn make_bucket(filer: u16) -> Outcome {
    use std::io::{Read as _, Write as _};
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let mut stream = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, filer))?;
        stream.write_all(
            b"POST /buckets/images/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 2") {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            crate::give_up!("the filer makes no bucket: {answer}");
        }
        // Its parts find each other first, and nothing tells when.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
