//! Connections: each association has a thread and a session of the principal that its peer acts as.
//!
//! The gateway keeps nothing between associations but what storage, databases and key servers keep: it can be killed at any
//! moment, and what it had answered with success is there. Log lines name files, keys, nodes and peers, never patients.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use dicom_encoding::{Codec, TransferSyntaxIndex as _};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use eds_core::ids::{FileId, KeyId};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{
    Error,
    association::{Association, Link, Message, Verdict},
    command::{Kind, Status},
    delivery::{self, Asking},
    peers, query,
    settings::{Peer, Right, Settings, Tls},
    storage,
};
use crate::{
    config::Config,
    journey::{
        Session,
        peer::Searching,
        register::{Options, Registrar},
    },
};

/// What happens, for the log.
pub(super) enum Told {
    /// An object is registered: file, key, bytes, whether it is in quarantine.
    Stored(FileId, KeyId, u64, bool),
    /// An object was there already, with the same content.
    Known(FileId),
    /// An object was not registered.
    NotStored(String),
    /// An image was not sent.
    NotSent(FileId, String),
    /// A node that needs attention.
    Node(String),
}

/// A gateway that listens.
pub struct Gateway {
    listener: TcpListener,
    settings: Arc<Settings>,
    tls: Option<Arc<ServerConfig>>,
    associations: Arc<AtomicUsize>,
}

/// Serves until the process ends. `ready` hears the address.
///
/// # Errors
/// Settings, certificates, or a peer's configuration that cannot be used; an address that cannot be listened on.
pub fn serve(settings: Settings, ready: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let gateway = Gateway::bind(settings)?;
    ready(gateway.address()?);
    gateway.run()
}

impl Gateway {
    /// Checks everything that can be checked before the first peer calls, and listens.
    ///
    /// # Errors
    /// As [`serve`].
    pub fn bind(settings: Settings) -> Result<Self, Error> {
        for peer in &settings.peers {
            Session::open(&config_of(peer)?)?;
        }
        // Found out now, not with the first large object.
        tempfile::tempfile_in(&settings.spool)
            .map_err(|source| Error::Read { path: settings.spool.clone(), source })?;
        let tls = settings.tls.as_ref().map(tls).transpose()?;
        let address = settings.listen;
        let listener = TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?;
        Ok(Self { listener, settings: Arc::new(settings), tls, associations: Arc::default() })
    }

    /// The address, with the port that the system chose.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr().map_err(Error::Connection)
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// What keeps it from accepting connections.
    pub fn run(self) -> Result<(), Error> {
        loop {
            let (stream, from) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => return Err(Error::Connection(error)),
            };
            let running = self.associations.fetch_add(1, Ordering::SeqCst);
            let place = Place(Arc::clone(&self.associations));
            if running >= self.settings.associations {
                // The peer tries again; waiting here would keep all others waiting.
                log(&format!("{from}: refused, {running} associations are open"));
                continue;
            }
            let (settings, tls) = (Arc::clone(&self.settings), self.tls.clone());
            thread::spawn(move || {
                let _place = place;
                if let Err(error) = connection(&settings, tls, stream, from) {
                    log(&format!("{from}: ended: {}", described(&error)));
                }
            });
        }
    }
}

/// A place among the associations; given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn connection(
    settings: &Settings,
    tls: Option<Arc<ServerConfig>>,
    stream: TcpStream,
    from: SocketAddr,
) -> Result<(), Error> {
    stream.set_nodelay(true).map_err(Error::Connection)?;
    stream.set_read_timeout(Some(IDLE)).map_err(Error::Connection)?;
    stream.set_write_timeout(Some(IDLE)).map_err(Error::Connection)?;
    let Some(tls) = tls else { return association(settings, stream, from.ip(), None) };
    let mut stream = Secured(StreamOwned::new(ServerConnection::new(tls).map_err(unusable)?, stream));
    // The handshake, so that the certificate is known.
    stream.0.conn.complete_io(&mut stream.0.sock).map_err(Error::Connection)?;
    let name = stream.0.conn.peer_certificates().and_then(<[_]>::first).and_then(common_name);
    let name = name.ok_or(Error::Protocol("a certificate without a common name"))?;
    association(settings, stream, from.ip(), Some(name))
}

fn unusable(error: rustls::Error) -> Error {
    Error::Connection(io::Error::other(error))
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    // Two names would let the peer choose.
    names.next().is_none().then_some(name)
}

fn association<S: Link>(settings: &Settings, stream: S, from: IpAddr, name: Option<String>) -> Result<(), Error> {
    let admit = |caller: &_| peers::admit(settings, caller, from, name.as_deref()).cloned();
    let (mut association, caller, peer) = Association::accept(stream, admit, judge)?;
    let served = config_of(&peer)
        .and_then(|config| Ok(Session::open(&config)?))
        .and_then(|session| messages(&mut association, settings, &peer, &session));
    if let Err(error) = &served {
        // What the peer ended needs no answer.
        if !matches!(error, Error::Aborted | Error::Connection(_)) {
            log(&format!("{}: aborted: {}", caller.calling, described(error)));
        }
        association.abort();
    }
    served
}

fn config_of(peer: &Peer) -> Result<Config, Error> {
    Ok(Config::load(Some(&peer.config)).map_err(crate::Error::from)?)
}

fn messages<S: Link>(
    association: &mut Association<S>,
    settings: &Settings,
    peer: &Peer,
    session: &Session,
) -> Result<(), Error> {
    let title = peer.ae_title.clone();
    let told = move |told: Told| log(&format!("{title}: {}", line(&told)));
    let options = Options { scope: settings.scope, ..Options::default() };
    let mut registrar = None;
    let mut searching = Searching::default();
    let asking = Asking { session, settings, calling: &peer.ae_title, told: &told };
    while let Some(message) = association.receive()? {
        let allowed = |right| peer.may(right);
        match message.command.kind() {
            Some(Kind::Echo) => association.send(message.context, &message.command.answer(Status::SUCCESS), None)?,
            Some(Kind::Store) if allowed(Right::Store) => {
                if registrar.is_none() {
                    let mut warnings = Vec::new();
                    match Registrar::open(session, &options, &mut warnings) {
                        Ok((opened, _)) => registrar = Some(opened),
                        Err(error) => {
                            told(Told::NotStored(error.report()));
                            refuse(association, &message, storage::of_kind(error.kind()), &error.to_string())?;
                            continue;
                        }
                    }
                    warnings.iter().for_each(|node| told(Told::Node(node.to_string())));
                }
                if let Some(registrar) = &registrar {
                    storage::store(association, &message, registrar, &settings.spool, &told)?;
                }
            }
            Some(Kind::Action) if allowed(Right::Store) => {
                storage::commit(association, &message, session, &told)?;
            }
            // The answer to a report of storage commitment.
            _ if message.command.is_answer() => {}
            Some(Kind::Find) if allowed(Right::Find) => {
                query::find(association, &message, session, &mut searching, &settings.ae_title)?;
            }
            Some(Kind::Get) if allowed(Right::Retrieve) => {
                delivery::get(association, &message, &asking, &mut searching)?;
            }
            Some(Kind::Move) if allowed(Right::Retrieve) => {
                delivery::move_to(association, &message, &asking, &mut searching)?;
            }
            // Of a request that was answered before the cancel arrived.
            Some(Kind::Cancel) => {}
            Some(Kind::Store | Kind::Action | Kind::Find | Kind::Get | Kind::Move) => {
                refuse(association, &message, Status::NOT_AUTHORISED, "the settings do not allow this peer to")?;
            }
            _ => refuse(association, &message, Status::UNRECOGNIZED_OPERATION, "an operation of no use here")?,
        }
    }
    Ok(())
}

fn refuse<S: Link>(
    association: &mut Association<S>,
    message: &Message,
    status: Status,
    comment: &str,
) -> Result<(), Error> {
    if message.command.has_data_set() {
        association.data(message.context).skip()?;
    }
    association.send(message.context, &message.command.answer(status).with_comment(comment), None)
}

/// What is agreed on for a proposed context. Objects keep the transfer syntax in which they come, so the first of those
/// proposed that can be taken apart is taken; not the deflated one, which cannot be stored in constant memory.
fn judge(peer: &Peer, class: &str, syntaxes: &[String]) -> Verdict {
    let first = |usable: &dyn Fn(&str) -> bool| match syntaxes.iter().find(|syntax| usable(syntax)) {
        Some(syntax) => Verdict::Accept(syntax.clone()),
        None => Verdict::NoSyntax,
    };
    let small = |syntax: &str| storage::encoding(syntax).is_some();
    match class {
        VERIFICATION => first(&small),
        storage::COMMITMENT_CLASS if peer.may(Right::Store) => first(&small),
        PATIENT_FIND | STUDY_FIND if peer.may(Right::Find) => first(&small),
        PATIENT_MOVE | STUDY_MOVE | PATIENT_GET | STUDY_GET if peer.may(Right::Retrieve) => first(&small),
        storage::COMMITMENT_CLASS | PATIENT_FIND | STUDY_FIND | PATIENT_MOVE | STUDY_MOVE | PATIENT_GET | STUDY_GET => {
            Verdict::Refuse
        }
        class if storage::is_storage_class(class) => {
            if peer.may(Right::Store) || peer.may(Right::Retrieve) {
                first(&is_kept)
            } else {
                Verdict::Refuse
            }
        }
        _ => Verdict::NoSuchClass,
    }
}

/// Whether objects in this transfer syntax can be taken apart as they arrive.
fn is_kept(syntax: &str) -> bool {
    TransferSyntaxRegistry.get(syntax).is_some_and(|syntax| !matches!(syntax.codec(), Codec::Dataset(_)))
}

fn tls(settings: &Tls) -> Result<Arc<ServerConfig>, Error> {
    let wrong = |path: &std::path::Path, reason: String| Error::Tls { path: path.into(), reason };
    let certificates = |path: &std::path::Path| -> Result<Vec<CertificateDer<'static>>, Error> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let read: Vec<_> = read.map_err(|error| wrong(path, error.to_string()))?;
        if read.is_empty() { Err(wrong(path, "holds no certificate".into())) } else { Ok(read) }
    };
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&settings.peers_ca)? {
        authorities.add(authority).map_err(|error| wrong(&settings.peers_ca, error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
        .build()
        .map_err(|error| wrong(&settings.peers_ca, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(|error| wrong(&settings.key, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&settings.certificate, error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&settings.certificate)?, key)
        .map_err(|error| wrong(&settings.certificate, error.to_string()))?;
    Ok(Arc::new(config))
}

/// A connection over TLS.
struct Secured(StreamOwned<ServerConnection, TcpStream>);

impl Read for Secured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Secured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Link for Secured {
    fn is_ready(&self) -> bool {
        self.0.sock.is_ready()
    }
}

/// Whether accepting failed because of one peer, who left.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn line(told: &Told) -> String {
    match told {
        Told::Stored(file, key, size, quarantined) => {
            let quarantined = if *quarantined { ", in quarantine" } else { "" };
            format!("stored {file} under key {key}, {size} bytes{quarantined}")
        }
        Told::Known(file) => format!("stored before as {file}"),
        Told::NotStored(why) => format!("not stored: {why}"),
        Told::NotSent(file, why) => format!("not sent: {file}: {why}"),
        Told::Node(node) => format!("warning: {node}"),
    }
}

fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn log(line: &str) {
    // Whoever reads the log may be gone; the gateway goes on.
    let _ = writeln!(io::stderr().lock(), "eds gateway: {line}");
}

const VERIFICATION: &str = "1.2.840.10008.1.1";
const PATIENT_FIND: &str = "1.2.840.10008.5.1.4.1.2.1.1";
const PATIENT_MOVE: &str = "1.2.840.10008.5.1.4.1.2.1.2";
const PATIENT_GET: &str = "1.2.840.10008.5.1.4.1.2.1.3";
const STUDY_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
const STUDY_MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
const STUDY_GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";
/// A peer that says nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(300);
