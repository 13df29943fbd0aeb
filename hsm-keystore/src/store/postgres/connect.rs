//! Connections to PostgreSQL: how they are made, what holds for each of them, and the pool.
//!
//! A server on another machine is reached by TLS 1.3 with its name verified, or not at all; without TLS there are only
//! Unix sockets. Every session commits durably, finds rows by index whatever the statistics say, and gives up in time.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use postgres::{
    Client, Config, NoTls, Socket, Statement,
    config::{Host, SslMode},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use crate::{
    config::PostgresConfig,
    hsm::{
        pin::{denied, read_secret},
        self_test::described,
    },
};

/// How long a connection may take, and a caller may wait for one.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What holds for every session.
///
/// - A commit is on the server's disk, and on its standby's where the server is set so, before it is answered.
/// - A statement sees what was committed before it, also after it waited for a lock.
/// - Rows are found by index: a plan made for few rows must not be kept for many.
/// - Nothing waits for ever: not for a lock, not for a statement, not in an open transaction.
const SESSION: &str = "
SELECT set_config('synchronous_commit',
    CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false);
SET search_path = eds; SET default_transaction_isolation = 'read committed';
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
SET plan_cache_mode = force_generic_plan;
SET statement_timeout = '30s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '30s';
";

/// Makes connections for the pool.
pub(super) struct Manager {
    config: Config,
    tls: Option<Tls>,
}

/// A connection, and its prepared statements.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) statements: HashMap<&'static str, Statement>,
}

impl Manager {
    /// A manager for this configuration; else what is wrong with it, and what to do.
    pub(super) fn new(given: &PostgresConfig) -> Result<Self, String> {
        let mut config =
            parsed(&given.connection).map_err(|(reason, hint)| format!("store.postgres: {reason}; {hint}"))?;
        if let Some(file) = &given.password_file {
            let password = read_secret(file, denied(file))
                .map_err(|error| format!("store.password_file: {}", described(&error)))?;
            config.password(password.as_str());
        }
        config.application_name("eds-keystored").connect_timeout(PATIENCE).tcp_user_timeout(PATIENCE);
        let local = config.get_hostaddrs().is_empty()
            && !config.get_hosts().is_empty()
            && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let tls = match (&given.tls_ca, local) {
            (None, true) => None,
            (None, false) => {
                return Err(
                    "store.postgres: a server is reached by TLS or by a Unix socket; name the authority of its \
                            certificate with store.tls_ca, or its socket as in host=/run/postgresql"
                        .into(),
                );
            }
            (Some(_), true) => return Err("store.tls_ca: a Unix socket has no TLS; leave it out".into()),
            (Some(file), false) => {
                config.ssl_mode(SslMode::Require);
                Some(Tls::trusting(file).map_err(|error| format!("store.tls_ca: {}: {error}", file.display()))?)
            }
        };
        Ok(Self { config, tls })
    }
}

/// Reads a connection string; else what is wrong with it, and what to do. Nothing of it is told that may be a password.
pub(super) fn parsed(connection: &str) -> Result<Config, (String, &'static str)> {
    let config: Config = connection.parse().map_err(|error| {
        let may_hold_one = connection.contains("pass") || connection.contains('@');
        let reason = if may_hold_one { String::new() } else { format!(" ({error})") };
        (
            format!("not a connection string{reason}"),
            "write it as \"host=/run/postgresql dbname=eds user=eds\", with a password in a file of its own, \
             store.password_file",
        )
    })?;
    if config.get_password().is_some() {
        return Err(("holds a password".to_owned(), "put it into a file of its own, store.password_file, mode 0600"));
    }
    Ok(config)
}

impl r2d2::ManageConnection for Manager {
    type Connection = Session;
    type Error = postgres::Error;

    fn connect(&self) -> Result<Session, postgres::Error> {
        let mut client = match &self.tls {
            None => self.config.connect(NoTls)?,
            Some(tls) => self.config.connect(tls.clone())?,
        };
        client.batch_execute(SESSION)?;
        Ok(Session { client, statements: HashMap::new() })
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), postgres::Error> {
        session.client.is_valid(PATIENCE)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.client.is_closed()
    }
}

/// TLS to the server by rustls.
#[derive(Clone)]
struct Tls(TlsConnector);

impl Tls {
    fn trusting(ca: &std::path::Path) -> Result<Self, Box<dyn std::error::Error>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, Self::Error> {
        Ok(Handshake { connector: self.0.clone(), name: ServerName::try_from(domain.to_owned())? })
    }
}

struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, socket).await.map(Stream) })
    }
}

struct Stream(tokio_rustls::client::TlsStream<Socket>);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl TlsStream for Stream {
    /// The certificate and name of the server are verified, which is what channel binding would add.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}
