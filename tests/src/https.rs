//! One request to a key server over TLS, without any of our client's code.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use crate::{Outcome, Trouble, cluster::Cluster, user::User};

/// A client, with somebody's certificate or without.
#[derive(Clone, Debug)]
pub struct Https(Arc<ClientConfig>);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields, with lower-case names.
    pub head: String,
    /// The body.
    pub body: String,
}

/// A connection.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

impl Https {
    /// A client that trusts the cluster's CA and shows the certificate of `user`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(cluster: &Cluster, user: Option<&User>) -> Outcome<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(cluster.ca())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let config = match user {
            Some(user) => {
                let certificate = CertificateDer::from_pem_slice(&fs::read(user.home().join("me.crt"))?)?;
                let key = PrivateKeyDer::from_pem_file(user.home().join("me.key"))?;
                builder.with_client_auth_cert(vec![certificate], key)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }

    /// Connects; the handshake is made with the first bytes.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(&self, url: &str) -> Outcome<Connection> {
        let stream = TcpStream::connect(host(url)?)?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(stream.peer_addr()?.ip());
        Ok(StreamOwned::new(ClientConnection::new(Arc::clone(&self.0), name)?, stream))
    }

    /// `GET`.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, url: &str, path: &str) -> Outcome<Answer> {
        let mut stream = self.connect(url)?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| Trouble::new("no answer"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Trouble::new(format!("no status: {head}")))?;
        Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
    }
}

/// Host and port of a URL.
fn host(url: &str) -> Outcome<&str> {
    url.strip_prefix("https://").ok_or_else(|| Trouble::new(format!("{url} is no https URL")))
}
