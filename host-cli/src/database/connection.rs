//! Connecting to PostgreSQL: over a Unix socket of this machine, or over TLS 1.3 to a server whose certificate the authority
//! named in the connection vouches for, under the very name that is connected to.
//!
//! The connection is that of libpq, with four of its words read here: `sslmode=verify-full` (the only one there is),
//! `sslrootcert`, `sslcert` and `sslkey`. A password is never in it, but in a file of its own. Where the server offers it, the
//! password is bound to its certificate (SCRAM with channel binding).

use std::{
    error::Error as _,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use aws_lc_rs::digest;
use postgres::{
    Client, Config, NoTls, Socket,
    config::{Host, SslMode},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use x509_parser::{oid_registry as oid, prelude::FromDer as _};

use super::Error;
use crate::config;

/// Connects; `what` is the database, for errors.
///
/// # Errors
/// [`Error::Location`] for a connection that is not safe or cannot be read, [`Error::Postgres`].
pub(crate) fn connect(what: &'static str, connection: &str, password: Option<&Path>) -> Result<Client, Error> {
    let wrong = |reason: String| Error::Location { what, reason };
    let (rest, files) = Files::taken_from(connection).map_err(wrong)?;
    let mut config: Config = rest.parse().map_err(|error: postgres::Error| {
        wrong(error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")))
    })?;
    if config.get_password().is_some() {
        return Err(wrong("it holds a password; put it into a file of its own, password_file".into()));
    }
    if let Some(file) = password {
        let password = config::read_private(file).map_err(|error| wrong(error.to_string()))?;
        config.password(password.trim_ascii());
    }
    config.application_name("eds").connect_timeout(PATIENCE);
    let failed = |source| Error::Postgres { what, source: Box::new(source) };
    let hosts = config.get_hosts();
    if hosts.is_empty() || !config.get_hostaddrs().is_empty() {
        return Err(wrong(
            "name the server by host=, a folder of a socket as in host=/run/postgresql or a name".into(),
        ));
    }
    match (hosts.iter().all(|host| matches!(host, Host::Unix(_))), files) {
        (true, Files { root: None, client: None }) => config.connect(NoTls).map_err(failed),
        (true, _) => Err(wrong("a Unix socket has no TLS: leave out sslrootcert, sslcert and sslkey".into())),
        (false, files) if hosts.iter().any(|host| matches!(host, Host::Unix(_))) || files.root.is_none() => {
            Err(wrong("a server over the network needs TLS: add sslrootcert=FILE, its certificate authority".into()))
        }
        (false, files) => {
            let tls = files.tls().map_err(wrong)?;
            config.ssl_mode(SslMode::Require).connect(tls).map_err(failed)
        }
    }
}

/// The files that a connection names.
#[derive(Default, PartialEq, Eq, Debug)]
struct Files {
    root: Option<PathBuf>,
    /// Certificate and key.
    client: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Takes libpq's words for TLS out of a connection; returns what is left.
    fn taken_from(connection: &str) -> Result<(String, Self), String> {
        let (mut root, mut certificate, mut key) = (None, None, None);
        let mut rest = Vec::new();
        for word in connection.split_ascii_whitespace() {
            let place = match word.split_once('=') {
                Some(("sslmode", "verify-full")) => continue,
                Some(("sslmode", other)) => {
                    return Err(format!("sslmode={other} would not check who the server is; only verify-full does"));
                }
                Some(("sslrootcert", path)) => (&mut root, path),
                Some(("sslcert", path)) => (&mut certificate, path),
                Some(("sslkey", path)) => (&mut key, path),
                _ => {
                    rest.push(word);
                    continue;
                }
            };
            let (slot, path) = place;
            if path.is_empty() || path.contains(['\'', '\\']) || slot.replace(PathBuf::from(path)).is_some() {
                return Err(format!("{word}: give one path without quotes and spaces"));
            }
        }
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("sslcert and sslkey go together".into()),
        };
        Ok((rest.join(" "), Self { root, client }))
    }

    fn tls(&self) -> Result<Tls, String> {
        let certificates = |path: &Path| {
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let read = read.map_err(|error| format!("{}: {error}", path.display()))?;
            if read.is_empty() { Err(format!("{}: holds no certificate", path.display())) } else { Ok(read) }
        };
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.root {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let pem = config::read_private(key).map_err(|error| error.to_string())?;
                let named = |error: &dyn std::fmt::Display| format!("{}: {error}", key.display());
                let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| named(&error))?;
                builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|error| named(&error))?
            }
        };
        Ok(Tls(Arc::new(config)))
    }
}

/// Makes TLS connections.
struct Tls(Arc<ClientConfig>);

/// Makes one, to a server of this name.
struct To {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = To;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<To> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(To { connector: TlsConnector::from(Arc::clone(&self.0)), name })
    }
}

impl TlsConnect<Socket> for To {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, socket).await.map(|stream| Stream(Box::new(stream))) })
    }
}

struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates().unwrap_or_default();
        match certificates.first().and_then(|certificate| end_point(certificate)) {
            Some(digest) => ChannelBinding::tls_server_end_point(digest),
            None => ChannelBinding::none(),
        }
    }
}

/// The digest of a certificate by which the password is bound to it (RFC 5929, section 4.1).
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, read) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let signature = &read.signature_algorithm.algorithm;
    let algorithm = if [oid::OID_PKCS1_SHA256WITHRSA, oid::OID_SIG_ECDSA_WITH_SHA256].contains(signature) {
        &digest::SHA256
    } else if [oid::OID_PKCS1_SHA384WITHRSA, oid::OID_SIG_ECDSA_WITH_SHA384].contains(signature) {
        &digest::SHA384
    } else if [oid::OID_PKCS1_SHA512WITHRSA, oid::OID_SIG_ECDSA_WITH_SHA512].contains(signature) {
        &digest::SHA512
    } else {
        return None;
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_libpq_are_taken_out_and_what_checks_nothing_is_refused() {
        let all = "host=db.example sslmode=verify-full sslrootcert=/a/ca.pem dbname=eds sslcert=me.pem sslkey=me.key";
        let (rest, files) = Files::taken_from(all).expect("is fine");
        assert_eq!(rest, "host=db.example dbname=eds");
        let client = Some((PathBuf::from("me.pem"), PathBuf::from("me.key")));
        assert_eq!(files, Files { root: Some("/a/ca.pem".into()), client });
        for wrong in ["sslmode=require", "sslmode=disable", "sslcert=a", "sslkey=a", "sslrootcert=", "sslrootcert='a'"]
        {
            Files::taken_from(wrong).expect_err(wrong);
        }
    }
}
