//! HTTP to a storage: TLS with the caller's certificate or proxy, tokens, bodies from files, deadlines, redirects.
//!
//! A deadline is for silence, not for the whole: an image may take an hour, but something must come or go within it.
//! Secrets go to the site's own host and nowhere else: a redirect to another gets none, and none leads from TLS to plain HTTP.
//! Certificates are shown wherever TLS asks, as nothing can be done with them by who sees them.

use std::{
    io,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use base64ct::{Base64, Encoding as _};
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{self, HeaderName, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error as ClientError, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, sign::SingleCertAndKey};
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::{
    Error, Fault, Protocol, Site,
    fault::{deepest, said},
    remote::Content,
    site::{Access, Proof},
};
use crate::{
    authorities, config,
    credentials::{self, Chain},
};

/// A client for one site.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Sent>,
    access: Access,
    /// Where secrets go.
    home: Option<String>,
}

/// A request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// What is sent with it.
    pub(super) content: Option<&'a Content>,
}

impl Ask<'_> {
    pub(super) fn new(method: Method, url: String) -> Self {
        Self { method, url, headers: Vec::new(), content: None }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// An answer whose body is still to come.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
}

impl Http {
    /// A client with the proofs and authorities of a site.
    pub(super) fn new(site: &Site, tls: bool) -> Result<Self, Error> {
        let access = site.access();
        let setting = |problem: String| Error::Setting { site: site.name().into(), problem };
        let proof = |source: credentials::Error| Error::Proof { site: site.name().into(), source: Box::new(source) };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| setting(error.to_string()))?;
        let s3 = site.url().protocol() == Protocol::S3;
        let config = if tls {
            let roots = authorities::load(access.ca.as_deref()).map_err(|error| setting(error.to_string()))?;
            let builder = builder.with_root_certificates(roots);
            match access.proofs.first() {
                // Who has a token, a password or a key for this storage shows that, and an old proxy is in nobody's way.
                Some(_) if access.token_file.is_some() || access.password_file.is_some() || s3 => {
                    builder.with_no_client_auth()
                }
                Some(shown) => {
                    let chain = match shown {
                        Proof::Proxy(file) => Chain::of_proxy(file),
                        Proof::Certificate(pair) => Chain::of_certificate(pair),
                    };
                    let key = chain.map_err(proof)?.certified_key();
                    builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
                }
                None => builder.with_no_client_auth(),
            }
        } else {
            builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // XRootD 5 knows `Destination` and not `destination`.
            .http1_title_case_headers(true)
            .build(connector.wrap_connector(tcp));
        Ok(Self { client, access: access.clone(), home: None })
    }

    /// Secrets go to the host of this URL.
    pub(super) fn at_home(mut self, url: &str) -> Self {
        self.home = url.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
        self
    }

    /// Asks, and follows where the storage sends us.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, Fault> {
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS {
            let sent = ask.content.map_or_else(Sent::nothing, Sent::of);
            let progress = sent.progress();
            let request = self.request(ask, &url, sent)?;
            let answer = self.exchange(request, &progress).await?;
            let (parts, body) = answer.into_parts();
            let to = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            match to.filter(|_| matches!(parts.status.as_u16(), 301 | 302 | 303 | 307 | 308)) {
                Some(to) => url = redirected(&url, to)?,
                None => return Ok(Answer { status: parts.status, headers: parts.headers, body }),
            }
        }
        Err(Fault::Answer("it sends us from one place to the next without end".into()))
    }

    /// Sends a request as it is, without redirects and secrets.
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "for S3, which signs its requests"))]
    pub(super) async fn send(&self, request: Request<Sent>) -> Result<Response<Incoming>, Fault> {
        let progress = request.body().progress();
        self.exchange(request, &progress).await
    }

    async fn exchange(&self, request: Request<Sent>, progress: &Progress) -> Result<Response<Incoming>, Fault> {
        let mut answer = std::pin::pin!(self.client.request(request));
        let mut before = progress.load(Ordering::Relaxed);
        loop {
            match tokio::time::timeout(SILENCE, &mut answer).await {
                Ok(answer) => return answer.map_err(|error| of_client(&error)),
                Err(_) => {
                    let now = progress.load(Ordering::Relaxed);
                    if now == before {
                        return Err(Fault::Timeout(SILENCE));
                    }
                    before = now;
                }
            }
        }
    }

    fn request(&self, ask: &Ask<'_>, url: &str, sent: Sent) -> Result<Request<Sent>, Fault> {
        let unusable = || Fault::Refused(format!("{} is not a usable address", said(url)));
        let uri: Uri = url.parse().map_err(|_| unusable())?;
        let home = uri.authority().map(ToString::to_string) == self.home;
        let mut request = Request::builder().method(ask.method.clone()).uri(uri);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(secret) = self.secret()?.filter(|_| home) {
            request = request.header(header::AUTHORIZATION, secret);
        }
        request.body(sent).map_err(|_| unusable())
    }

    /// The value of `Authorization`. The file is read each time: somebody may have renewed it.
    fn secret(&self) -> Result<Option<HeaderValue>, Fault> {
        let read = |file| config::read_private(file).map_err(|error| Fault::Denied(error.to_string()));
        let text = |bytes: &[u8]| Zeroizing::new(String::from_utf8_lossy(bytes).trim().to_owned());
        let value = if let Some(file) = &self.access.token_file {
            Zeroizing::new(format!("Bearer {}", text(&read(file)?).as_str()))
        } else if let (Some(user), Some(file)) = (&self.access.user, &self.access.password_file) {
            let pair = Zeroizing::new(format!("{user}:{}", text(&read(file)?).as_str()));
            Zeroizing::new(format!("Basic {}", Base64::encode_string(pair.as_bytes())))
        } else {
            return Ok(None);
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| Fault::Denied("the token or password has characters that no header may have".into()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl Answer {
    /// Adds the body to `into`, at most `limit` bytes; what came before a failure is in there too.
    pub(super) async fn read(&mut self, limit: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
        let mut left = limit;
        while left > 0 {
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await.map_err(|_| Fault::Timeout(SILENCE))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| Fault::Broken(deepest(&error)))?;
            if let Some(bytes) = frame.data_ref() {
                let bytes = bytes.get(..left.min(bytes.len())).unwrap_or_default();
                into.extend_from_slice(bytes);
                left -= bytes.len();
            }
        }
        Ok(())
    }

    /// Reads the rest, so that the connection can be used again, and says what became of the request.
    pub(super) async fn ended(mut self) -> Result<HeaderMap, Fault> {
        let mut text = Vec::new();
        let read = self.read(MAX_TEXT, &mut text).await;
        if self.status.is_success() {
            return read.map(|()| self.headers);
        }
        Err(of_status(self.status, &String::from_utf8_lossy(&text)))
    }
}

/// What a status says.
pub(super) fn of_status(status: StatusCode, text: &str) -> Fault {
    let text = without_tags(text);
    let text = if text.is_empty() { format!("status {status}") } else { format!("status {}: {text}", status.as_u16()) };
    match status.as_u16() {
        404 | 409 | 410 => Fault::NotFound,
        401 | 403 | 407 => Fault::Denied(text),
        412 => Fault::Exists,
        408 | 423 | 425 | 429 | 502 | 503 | 504 => Fault::Busy(text),
        413 | 507 => Fault::Full(text),
        _ => Fault::Refused(text),
    }
}

/// Servers say what is wrong in pages for browsers.
fn without_tags(text: &str) -> String {
    let mut inside = false;
    let plain: String = text
        .chars()
        .filter(|letter| {
            let tag = inside || *letter == '<';
            inside = tag && *letter != '>';
            !tag
        })
        .collect();
    said(&plain)
}

fn of_client(error: &ClientError) -> Fault {
    if error.is_connect() { Fault::Unreachable(deepest(error)) } else { Fault::Broken(deepest(error)) }
}

/// Where a storage sends us: over TLS still, if we came so.
fn redirected(from: &str, to: &str) -> Result<String, Fault> {
    let (scheme, rest) = from.split_once("://").unwrap_or_default();
    let to = if to.starts_with('/') {
        let host = rest.split('/').next().unwrap_or_default();
        format!("{scheme}://{host}{to}")
    } else {
        to.into()
    };
    match to.split_once("://") {
        Some(("https", _)) => Ok(to),
        Some(("http", _)) if scheme == "http" => Ok(to),
        _ => Err(Fault::Refused(format!("it sends us to {}, without TLS", said(&to)))),
    }
}

type Progress = Arc<AtomicU64>;

/// A body: nothing, bytes, or a file from its start.
pub(super) struct Sent {
    source: Source,
    at: u64,
    end: u64,
    progress: Progress,
}

enum Source {
    Bytes(Option<Bytes>),
    File(Content),
}

impl Sent {
    fn nothing() -> Self {
        Self::bytes(Bytes::new())
    }

    pub(super) fn bytes(bytes: Bytes) -> Self {
        let end = bytes.len() as u64;
        Self { source: Source::Bytes(Some(bytes)), at: 0, end, progress: Arc::default() }
    }

    fn of(content: &Content) -> Self {
        Self { source: Source::File(content.clone()), at: 0, end: content.size, progress: Arc::default() }
    }

    fn progress(&self) -> Progress {
        Arc::clone(&self.progress)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.at >= this.end {
            return Poll::Ready(None);
        }
        let next = match &mut this.source {
            Source::Bytes(bytes) => Ok(bytes.take().unwrap_or_default()),
            Source::File(content) => {
                let length = usize::try_from(this.end - this.at).unwrap_or(usize::MAX).min(FRAME);
                let mut bytes = vec![0; length];
                content.file.read_exact_at(&mut bytes, this.at).map(|()| Bytes::from(bytes))
            }
        };
        Poll::Ready(Some(next.map(|bytes| {
            this.at += bytes.len() as u64;
            this.progress.store(this.at, Ordering::Relaxed);
            Frame::data(bytes)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

/// Where the network code of all sites runs: two threads that live as long as the process.
pub(super) fn runtime() -> Result<&'static Runtime, Fault> {
    static RUNTIME: LazyLock<io::Result<Runtime>> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).thread_name("eds-storage").enable_all().build());
    RUNTIME.as_ref().map_err(|error| Fault::Io(io::Error::new(error.kind(), error.to_string())))
}

/// How long a connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long nothing may come or go.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a storage may send us elsewhere for one request.
const REDIRECTS: usize = 5;
/// How much of what a server says is read.
const MAX_TEXT: usize = 64 * 1024;
/// How much of a file is sent at a time.
const FRAME: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leaves_tls() {
        assert_eq!(redirected("https://a:1/x", "/y").expect("follows"), "https://a:1/y");
        assert_eq!(redirected("https://a/x", "https://b/y").expect("follows"), "https://b/y");
        assert_eq!(redirected("http://a/x", "http://b/y").expect("follows"), "http://b/y");
        for to in ["http://a/y", "ftp://a/y", "y"] {
            assert!(redirected("https://a/x", to).is_err(), "{to}");
        }
    }

    #[test]
    fn the_status_says_who_is_to_act() {
        let of = |code| of_status(StatusCode::from_u16(code).expect("a status"), "<h1>No</h1>\n<p>such");
        assert!(matches!(of(403), Fault::Denied(text) if text == "status 403: No"));
        assert!(matches!(of(404), Fault::NotFound));
        assert!(matches!(of(412), Fault::Exists));
        assert!(matches!(of(507), Fault::Full(_)));
        assert!(of(503).may_pass() && !of(500).may_pass());
    }
}
