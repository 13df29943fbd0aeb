//! A client that costs as little as it can: one kept connection, HTTP/1.1 over TLS 1.3, blocking.
//!
//! It shares the two cores with the server that is measured, so it neither opens answers nor parses them.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    sync::Arc,
};

use eds_tests::{Outcome, Trouble, give_up, trouble::During as _};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

/// One connection.
pub(crate) struct Wire {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

/// TLS 1.3 that trusts this CA and shows these files: certificate and key.
pub(crate) fn tls(ca: &Path, identity: Option<(&Path, &Path)>) -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(unreadable)? {
        roots.add(certificate.map_err(unreadable)?).map_err(|error| Trouble::new(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let failed = |error: rustls::Error| Trouble::new(error.to_string());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).map_err(unreadable)?.collect();
            let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable)?;
            config.with_client_auth_cert(chain.map_err(unreadable)?, key).map_err(failed)?
        }
    };
    Ok(Arc::new(config))
}

fn unreadable(error: rustls::pki_types::pem::Error) -> Trouble {
    Trouble::new(error.to_string())
}

impl Wire {
    /// Connects to a port of the loopback address and finishes the handshake.
    pub(crate) fn connect(port: u16, tls: &Arc<ClientConfig>) -> Outcome<Self> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).during(format_args!("connecting to {port}"))?;
        socket.set_nodelay(true)?;
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let connection =
            ClientConnection::new(Arc::clone(tls), name).map_err(|error| Trouble::new(error.to_string()))?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends bytes that are no whole request.
    pub(crate) fn dribble(&mut self, bytes: &[u8]) -> Outcome {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// Sends a request with a JSON body, and returns the body of a successful answer.
    pub(crate) fn call(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Outcome<&[u8]> {
        self.buffer.clear();
        write!(
            self.buffer,
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{headers}\
             content-length: {}\r\n\r\n",
            body.len()
        )?;
        self.buffer.extend_from_slice(body);
        self.stream.write_all(&self.buffer)?;
        self.stream.flush()?;
        self.buffer.clear();
        let start = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more()?;
        };
        let head = String::from_utf8_lossy(self.buffer.get(..start).unwrap_or_default()).to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
        match length.and_then(|length| length.trim().parse::<usize>().ok()) {
            Some(length) => {
                while self.buffer.len() < start + length {
                    self.read_more()?;
                }
            }
            None if head.contains("transfer-encoding: chunked") => {
                // JSON holds no bare line end, so only the last chunk can look like this.
                while !self.buffer.ends_with(b"0\r\n\r\n") {
                    self.read_more()?;
                }
            }
            None if status == "204" => {}
            None => give_up!("an answer of unknown length: {head}"),
        }
        let body = self.buffer.get(start..).unwrap_or_default();
        if !status.starts_with('2') {
            give_up!("{method} {path}: {status} {}", String::from_utf8_lossy(body));
        }
        Ok(body)
    }

    fn read_more(&mut self) -> Outcome {
        let before = self.buffer.len();
        self.buffer.resize(before + BLOCK, 0);
        let read = self.stream.read(self.buffer.get_mut(before..).unwrap_or_default())?;
        self.buffer.truncate(before + read);
        if read == 0 {
            give_up!("the server closed the connection");
        }
        Ok(())
    }
}

/// The JSON in a body, which may still stand in its chunk.
pub(crate) fn json(body: &[u8]) -> Outcome<serde_json::Value> {
    let start = body.iter().position(|byte| *byte == b'{').unwrap_or(0);
    let end = body.iter().rposition(|byte| *byte == b'}').map_or(0, |last| last + 1);
    Ok(serde_json::from_slice(body.get(start..end).unwrap_or_default())?)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

const BLOCK: usize = 64 * 1024;
