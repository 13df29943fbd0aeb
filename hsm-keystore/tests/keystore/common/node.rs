//! A node in this process, over real TLS, with a token in memory and a real database; and a client of it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use eds_core::{
    directory::{self, Directory, SUITE_P256_AES256GCM},
    ids::{ClusterId, NodeId, ShareIndex},
    manifest::Point,
    sealing::SoftDhKey,
};
use eds_keystore::{
    api,
    audit::{
        Log, checkpoint,
        log::{Options, Reader, Record},
    },
    authn::{
        Authenticator, authenticator::Accepted, jwt::issuers::Fetch, setup::FetchNothing, trust::directory::Sources,
    },
    config::TlsConfig,
    hsm::{
        Hsm,
        memory::MemoryHsm,
        self_test::{make_canary, make_policy_canary},
    },
    node::{Clock, Node},
    server::{Limits, Server, supervisor::Supervisor, tls},
    store::{Origin, sqlite::SqliteStore},
};
use getrandom::SysRng;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes};
use hyper_util::rt::{TokioExecutor, TokioIo};
use p256::ecdsa::SigningKey;
use rand_core::UnwrapErr;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    common::{
        disk::FailingDisk,
        pki::{Authority, Credential},
    },
    forge::Issued,
};

/// The number of the node under test among three.
pub(crate) const NUMBER: u16 = 2;

/// A clock that tests set.
pub(crate) struct TestClock(pub(crate) AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A running node.
pub(crate) struct TestNode {
    pub(crate) node: Arc<Node>,
    pub(crate) hsm: Arc<MemoryHsm>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) database: PathBuf,
    pub(crate) audit: PathBuf,
    pub(crate) disk: FailingDisk,
    pub(crate) users: Authority,
    pub(crate) others: Authority,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) authorities: PathBuf,
    pub(crate) address: SocketAddr,
    servers: Authority,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The problem word of a refusal.
    pub(crate) fn word(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let problem: eds_core::api::Problem = self.json();
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.instance.as_deref(), self.headers["x-request-id"].to_str().ok(), "{self:?}");
        problem.word().to_owned()
    }
}

impl TestNode {
    /// Starts node 2 of 3, with a floor of 2. Users of both authorities are accepted.
    pub(crate) async fn start() -> Self {
        Self::start_accepting(Accepted::default(), Box::new(FetchNothing)).await
    }

    /// Starts a node that accepts more than certificates of users of both authorities.
    pub(crate) async fn start_accepting(accepted: Accepted, fetch: Box<dyn Fetch>) -> Self {
        Self::start_with(accepted, fetch, Limits::default()).await
    }

    /// Starts a node with other limits.
    pub(crate) async fn start_limited(limits: Limits) -> Self {
        Self::start_with(Accepted::default(), Box::new(FetchNothing), limits).await
    }

    async fn start_with(accepted: Accepted, fetch: Box<dyn Fetch>, limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let hsm = Arc::new(MemoryHsm::new().expect("made"));
        let id = NodeId::from_bytes([NUMBER as u8; 16]);
        let origin = Origin {
            node: id,
            canary: make_canary(hsm.as_ref(), id).expect("made"),
            policy_canary: make_policy_canary(hsm.as_ref(), id).expect("made").to_vec(),
        };
        let database = directory.path().join("keys.db");
        let store = Arc::new(SqliteStore::create(&database, &origin).expect("made"));
        let clock = Arc::new(TestClock(AtomicU64::new(1_800_000_000)));
        let number = ShareIndex::new(NUMBER).expect("not zero");
        let options = Options::new(directory.path().join("audit"), checkpoint::origin(&id));
        Log::create(&options).expect("made");
        let disk = FailingDisk::default();
        let (audit, _) = Log::open_on(&options, 0, Box::new(disk.clone())).expect("opens");
        let cluster = cluster(hsm.transport_key());
        let node = Node::new(id, number, cluster, hsm.clone(), store, clock.clone(), Arc::new(audit));
        let node = Arc::new(node);

        let (servers, users, others) =
            (Authority::new("servers"), Authority::new("users"), Authority::new("other users"));
        let credential = servers.server();
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let authorities = file("ca.pem", users.pem() + &others.pem());
        let accepted = Accepted {
            authorities: Sources { directories: Vec::new(), bundles: vec![authorities.clone()] },
            ..accepted
        };
        let authenticator = Arc::new(Authenticator::new(accepted, fetch, clock.clone()).expect("good authorities"));
        let tls_files = TlsConfig {
            certificate: file("node.pem", credential.certificate_pem()),
            key: file("node.key", credential.key_pem()),
            client_ca: None,
        };
        let tls = tls::server_config(&tls_files, Arc::clone(&authenticator)).expect("good files");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let (router, under_way) = api::router(node.clone(), Arc::clone(&authenticator), &limits);
        let server = Server::bind(listen, tls, router, limits, Arc::clone(&node.metrics)).await.expect("binds");
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            server.run(stopped, under_way, &Supervisor::default()).await;
        });
        Self {
            node,
            hsm,
            clock,
            database,
            audit: options.directory,
            disk,
            users,
            others,
            authenticator,
            authorities,
            address,
            servers,
            stop: Some(stop),
            running: Some(running),
            _directory: directory,
        }
    }

    /// Asks the server to stop and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.stop.take().expect("runs").send(()).expect("runs");
        self.running.take().expect("runs").await.expect("no panic");
    }

    /// Connects, with a client certificate or without.
    pub(crate) async fn connect(&self, who: Option<&Credential>, protocol: &[u8]) -> TlsStream<TcpStream> {
        let presented = who.map(|who| (vec![who.certificate.clone()], who.private_key()));
        self.connect_presenting(presented, protocol).await
    }

    /// Connects with a chain, leaf first, of which each may be a proxy; with none, without.
    pub(crate) async fn connect_with(&self, chain: &[&Issued], protocol: &[u8]) -> TlsStream<TcpStream> {
        let presented = chain.first().map(|leaf| {
            let certificates = chain.iter().map(|one| CertificateDer::from(one.der.clone())).collect();
            (certificates, PrivateKeyDer::try_from(leaf.key.to_pkcs8()).expect("PKCS#8"))
        });
        self.connect_presenting(presented, protocol).await
    }

    async fn connect_presenting(
        &self,
        presented: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        protocol: &[u8],
    ) -> TlsStream<TcpStream> {
        connect_to(self.address, &self.servers, presented, protocol).await
    }

    /// One request over HTTP/1.1.
    pub(crate) async fn send(
        &self,
        who: Option<&Credential>,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        self.exchange(who, request(method, path, body)).await
    }

    /// One request as it is over HTTP/1.1.
    pub(crate) async fn exchange(&self, who: Option<&Credential>, request: Request<Full<Bytes>>) -> Answer {
        let io = TokioIo::new(self.connect(who, b"http/1.1").await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("speaks HTTP");
        tokio::spawn(connection);
        read(sender.send_request(request).await.expect("answers")).await
    }

    /// One request over HTTP/2.
    pub(crate) async fn send_http2(&self, who: &Credential, path: &str) -> Answer {
        let io = TokioIo::new(self.connect(Some(who), b"h2").await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("speaks HTTP/2");
        tokio::spawn(connection);
        read(sender.send_request(request(Method::GET, path, "")).await.expect("answers")).await
    }

    pub(crate) async fn post(&self, who: &Credential, path: &str, body: &impl serde::Serialize) -> Answer {
        self.send(Some(who), Method::POST, path, serde_json::to_vec(body).expect("JSON")).await
    }

    pub(crate) async fn get(&self, who: &Credential, path: &str) -> Answer {
        self.send(Some(who), Method::GET, path, "").await
    }

    /// Everything in the audit log.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut reader = Reader::open(&self.audit, Some(self.node.audit.origin())).expect("opens");
        std::iter::from_fn(|| reader.read(|_| ()).expect("whole")).collect()
    }

    /// Changes the database as somebody could who has the file but not the token.
    pub(crate) fn tamper(&self, sql: &str, parameters: impl rusqlite::Params) {
        let database = rusqlite::Connection::open(&self.database).expect("opens");
        assert_eq!(database.execute(sql, parameters).expect("changes"), 1, "{sql}");
    }
}

/// Connects to a server with a certificate of `servers`.
pub(crate) async fn connect_to(
    address: SocketAddr,
    servers: &Authority,
    presented: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    protocol: &[u8],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(servers.certificate()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("supported")
        .with_root_certificates(roots);
    let mut config = match presented {
        // Not `with_client_auth_cert`: that parses the certificate, and knows no proxies.
        Some((certificates, key)) => {
            let key = provider.key_provider.load_private_key(key).expect("a key");
            let resolver = SingleCertAndKey::from(CertifiedKey::new(certificates, key));
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await.expect("connects");
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("the client's side of TLS")
}

pub(crate) fn request(method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let uri = format!("https://127.0.0.1{path}");
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .expect("built")
}

pub(crate) async fn read(response: hyper::Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("arrives").to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Three nodes; the keys of the other two are nobody's.
fn cluster(transport_key: Point) -> Directory {
    let node = |number: u16, transport_key| directory::Node {
        number: ShareIndex::new(number).expect("not zero"),
        id: NodeId::from_bytes([number as u8; 16]),
        url: "https://127.0.0.1:1".try_into().expect("fits"),
        transport_key,
        audit_key: None,
        suites: [SUITE_P256_AES256GCM].into_iter().collect(),
        active: true,
    };
    let other = || SoftDhKey::generate(&mut UnwrapErr(SysRng)).public().compressed();
    let key = SigningKey::from_slice(&[7; 32]).expect("in the field");
    Directory {
        cluster: ClusterId::from_bytes([0xcc; 16]),
        name: "test".try_into().expect("fits"),
        cluster_key: directory::compressed(key.verifying_key()),
        version: 5,
        floor: 2,
        nodes: [node(1, other()), node(NUMBER, transport_key), node(3, other())].into_iter().collect(),
    }
}
