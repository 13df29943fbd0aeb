//! A token issuer on the loopback address: discovery and keys over https, key rotation, tokens as it would sign them, and the
//! device authorization grant with a script of what the user does ([`device`]).
//!
//! Requests are answered one after another by one thread, with `connection: close`; that is all that a node needs of it.

pub mod device;

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use crate::{Outcome, pki::Authority, trouble::During as _};

/// A running issuer. Stops when dropped.
pub struct TokenIssuer {
    address: SocketAddr,
    ca: PathBuf,
    shared: Arc<Shared>,
    running: Option<JoinHandle<()>>,
}

struct Shared {
    url: String,
    keys: Mutex<Keys>,
    device: Mutex<device::Device>,
    answers: AtomicBool,
    stop: AtomicBool,
}

struct Keys {
    signing: (String, EcdsaKeyPair),
    published: Vec<Value>,
    made: u32,
    asked: Vec<String>,
}

impl TokenIssuer {
    /// Starts an issuer; its certificate is by a new authority, whose file is in `directory`.
    ///
    /// # Errors
    /// When files, certificate or port cannot be had.
    pub fn start(directory: &Path) -> Outcome<Self> {
        let authority = Authority::new("issuer CA")?;
        let ca = directory.join("issuer-ca.pem");
        authority.write(&ca)?;
        let files = authority.server("issuer")?.write(directory, "issuer")?;
        let certificates = CertificateDer::pem_file_iter(&files.certificate)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&files.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("binding the issuer")?;
        let address = listener.local_addr().during("the issuer's address")?;
        let (signing, published) = new_key(1)?;
        let keys = Mutex::new(Keys { signing, published: vec![published], made: 1, asked: Vec::new() });
        let url = format!("https://localhost:{}", address.port());
        let device = Mutex::default();
        let shared = Shared { url, keys, device, answers: AtomicBool::new(true), stop: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let served = Arc::clone(&shared);
        let running = thread::spawn(move || serve(&listener, &Arc::new(tls), &served));
        Ok(Self { address, ca, shared, running: Some(running) })
    }

    /// The `iss` of its tokens.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The PEM file of the authority of its https server.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// What a node that believes this issuer has in its settings: `wlcg.groups` are its groups, below `/vo`.
    pub fn settings(&self) -> String {
        format!(
            "\n[authn]\ntoken_ca = {:?}\n\n[[authn.issuer]]\nurl = {:?}\naudience = [\"eds\"]\nprofile = \"oidc\"\n\
             groups_claim = \"wlcg.groups\"\ngroups_prefix = \"/vo\"\n",
            self.ca, self.shared.url
        )
    }

    /// Signs with a new key from now on, and publishes it; the old keys stay published if `keep` says so.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn rotate(&self, keep: bool) -> Outcome {
        let mut keys = self.shared.keys();
        keys.made += 1;
        let (signing, published) = new_key(keys.made)?;
        keys.signing = signing;
        if !keep {
            keys.published.clear();
        }
        keys.published.push(published);
        Ok(())
    }

    /// Whether requests are answered; otherwise connections are closed at once.
    pub fn answer(&self, answers: bool) {
        self.shared.answers.store(answers, Ordering::SeqCst);
    }

    /// The paths that were asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.keys().asked.clone()
    }

    /// A token with these claims, `iss` added, by the current key.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, claims: Value) -> Outcome<String> {
        self.shared.token(claims)
    }
}

impl Drop for TokenIssuer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

impl Shared {
    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self, mut claims: Value) -> Outcome<String> {
        claims["iss"] = json!(self.url);
        let keys = self.keys();
        let (id, pair) = &keys.signing;
        let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&json!({"alg": "ES256", "typ": "JWT", "kid": id})), part(&claims));
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(format!("{signed}.{}", Base64UrlUnpadded::encode_string(signature.as_ref())))
    }

    /// The status and the document that answer a request.
    fn answer(&self, path: &str, form: &str) -> (u16, Value) {
        self.keys().asked.push(path.to_owned());
        match path {
            "/.well-known/openid-configuration" => (200, self.discovery()),
            "/jwks" => (200, json!({ "keys": self.keys().published })),
            "/device" | "/token" | "/revoke" => self.device_answer(path, form),
            _ => (404, Value::Null),
        }
    }
}

fn new_key(number: u32) -> Outcome<((String, EcdsaKeyPair), Value)> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let id = format!("key-{number}");
    let point = pair.public_key().as_ref();
    let half = |from: usize| Base64UrlUnpadded::encode_string(point.get(from..from + 32).unwrap_or_default());
    let published =
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id, "x": half(1), "y": half(33)});
    Ok(((id, pair), published))
}

fn serve(listener: &TcpListener, tls: &Arc<ServerConfig>, shared: &Shared) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(stream) = stream
            && shared.answers.load(Ordering::SeqCst)
        {
            // A client that goes away in the middle is its own affair.
            let _ = one_request(stream, tls, shared);
        }
    }
}

fn one_request(stream: TcpStream, tls: &Arc<ServerConfig>, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(Arc::clone(tls)).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut form = vec![0; length.unwrap_or(0).min(MAX_HEAD)];
    stream.read_exact(&mut form)?;
    let (status, body) = shared.answer(path, &String::from_utf8_lossy(&form));
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 16 * 1024;
