//! S3, through `object_store` for its signatures, retries and multipart uploads, over our own HTTP client for everything else: the
//! same authorities, deadlines and TLS as any other site.
//!
//! Every request is signed over the SHA-256 of its body, so a server that checks signatures takes nothing that changed on the way.
//! A large object goes in parts, each of which is tried again alone; it appears when they are complete. It is made only where
//! nothing is of its name (`If-None-Match: *`); servers that do not know that are asked before.
//!
//! The key file has two lines, `access_key = …` and `secret_key = …`, and perhaps `session_token = …`.

use std::{error::Error as _, fmt, sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{Method, Request, body::Bytes, header};
use object_store::{
    BackoffConfig, ClientOptions, MultipartId, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
    multipart::MultipartStore as _,
    path::Path,
};

use super::{
    Error, Fault, Site,
    fault::{deepest, said},
    http::{Http, Sent, runtime},
    remote::{Content, Door},
};
use crate::config;

/// A bucket, and the prefix of a site in it.
pub(super) struct S3 {
    store: AmazonS3,
    prefix: String,
}

impl S3 {
    pub(super) fn new(site: &Site) -> Result<Self, Error> {
        let access = site.access();
        let setting = |problem: String| Error::Setting { site: site.name().into(), problem };
        let endpoint = access.endpoint.as_deref();
        let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let http = Connector(Arc::new(Http::new(site, !plain)?));
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: Duration::from_secs(5), base: 2.0 },
            max_retries: RETRIES,
            retry_timeout: Duration::from_secs(180),
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(site.url().authority())
            .with_region(access.region.as_deref().unwrap_or("us-east-1"))
            .with_client_options(ClientOptions::new().with_allow_http(plain))
            .with_http_connector(http)
            .with_retry(retry);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        if let Some(file) = &access.key_file {
            let bytes = config::read_private(file)
                .map_err(|error| Error::Proof { site: site.name().into(), source: Box::new(error.into()) })?;
            let text = std::str::from_utf8(&bytes).map_err(|_| setting(format!("{} is not text", file.display())))?;
            let missing = |what| setting(format!("{} has no line {what} = …", file.display()));
            builder = builder
                .with_access_key_id(value(text, "access_key").ok_or_else(|| missing("access_key"))?)
                .with_secret_access_key(value(text, "secret_key").ok_or_else(|| missing("secret_key"))?);
            if let Some(token) = value(text, "session_token") {
                builder = builder.with_token(token);
            }
        } else {
            builder = builder.with_skip_signature(true);
        }
        let store = builder.build().map_err(|error| setting(deepest(&error)))?;
        Ok(Self { store, prefix: site.url().path().trim_matches('/').into() })
    }

    fn path(&self, path: &str) -> Result<Path, Fault> {
        let whole = if self.prefix.is_empty() { path.into() } else { format!("{}/{path}", self.prefix) };
        Path::parse(whole).map_err(|error| Fault::Refused(deepest(&error)))
    }

    async fn put_whole(&self, path: &Path, bytes: Vec<u8>) -> Result<(), Fault> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store.put_opts(path, bytes.into(), options).await.map(drop).map_err(of_store)
    }

    async fn put_parts(&self, path: &Path, id: &MultipartId, content: &Content) -> Result<(), Fault> {
        let size = part_size(content.size);
        let offsets = (0..content.size).step_by(usize::try_from(size).unwrap_or(usize::MAX));
        let mut parts = Vec::new();
        for (number, offset) in offsets.enumerate() {
            let bytes = content.piece(offset, usize::try_from(size).unwrap_or(usize::MAX))?;
            parts.push(self.store.put_part(path, id, number, bytes.into()).await.map_err(of_store)?);
        }
        self.expect_nothing(path).await?;
        self.store.complete_multipart(path, id, parts).await.map(drop).map_err(of_store)
    }

    /// Not every server heeds `If-None-Match`.
    async fn expect_nothing(&self, path: &Path) -> Result<(), Fault> {
        match self.store.head(path).await.map_err(of_store) {
            Ok(_) => Err(Fault::Exists),
            Err(Fault::NotFound) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// What a try whose answer was lost may have made is what was sent, or somebody else's.
    async fn is_same(&self, path: &Path, content: &Content) -> Result<bool, Fault> {
        let there = self.store.head(path).await.map_err(of_store)?;
        if there.size != content.size {
            return Ok(false);
        }
        let mut offset = 0;
        while offset < content.size {
            let sent = content.piece(offset, PART_LENGTH)?;
            let end = offset + sent.len() as u64;
            let held = self.store.get_range(path, offset..end).await.map_err(of_store)?;
            if held != sent {
                return Ok(false);
            }
            offset = end;
        }
        Ok(true)
    }
}

impl Door for S3 {
    fn size(&self, path: &str) -> Result<u64, Fault> {
        let path = self.path(path)?;
        Ok(runtime()?.block_on(self.store.head(&path)).map_err(of_store)?.size)
    }

    fn read(&self, path: &str, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
        let path = self.path(path)?;
        let range = offset..offset + length as u64;
        let bytes = runtime()?.block_on(self.store.get_range(&path, range)).map_err(of_store)?;
        into.extend_from_slice(&bytes);
        Ok(())
    }

    fn put(&self, path: &str, content: &Content) -> Result<(), Fault> {
        let path = self.path(path)?;
        runtime()?.block_on(async {
            self.expect_nothing(&path).await?;
            let put = if content.size <= PART {
                self.put_whole(&path, content.piece(0, PART_LENGTH)?).await
            } else {
                let id = self.store.create_multipart(&path).await.map_err(of_store)?;
                let put = self.put_parts(&path, &id, content).await;
                if put.is_err() {
                    // Parts that stay cost money; a bucket can be told to drop them.
                    let _ = self.store.abort_multipart(&path, &id).await;
                }
                put
            };
            match put {
                // There was nothing before: it may be that our own first try is what is there.
                Err(fault) if matches!(fault, Fault::Exists) || fault.may_pass() => {
                    match self.is_same(&path, content).await {
                        Ok(true) => Ok(()),
                        _ => Err(fault),
                    }
                }
                Err(fault) => Err(fault),
                Ok(()) => {
                    let size = self.store.head(&path).await.map_err(of_store)?.size;
                    let differs = || Fault::Mismatch(format!("{size} bytes of {}", content.size));
                    (size == content.size).then_some(()).ok_or_else(differs)
                }
            }
        })
    }

    fn delete(&self, path: &str) -> Result<(), Fault> {
        let path = self.path(path)?;
        runtime()?.block_on(async {
            // S3 says that what is not there is deleted.
            self.store.head(&path).await.map_err(of_store)?;
            self.store.delete(&path).await.map_err(of_store)
        })
    }
}

/// The value of a line `name = value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// 10,000 parts are the most that S3 takes.
fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(MOST_PARTS))
}

fn of_store(error: object_store::Error) -> Fault {
    use object_store::Error as Store;
    let text = || said(&summary(&error));
    match &error {
        Store::NotFound { .. } => Fault::NotFound,
        Store::AlreadyExists { .. } | Store::Precondition { .. } => Fault::Exists,
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => Fault::Denied(text()),
        _ => match http_error(&error).map(HttpError::kind) {
            Some(HttpErrorKind::Connect) => Fault::Unreachable(deepest(&error)),
            Some(_) => Fault::Broken(deepest(&error)),
            None if chain(&error).contains("status code: 5") => Fault::Busy(text()),
            None => Fault::Refused(text()),
        },
    }
}

/// The code and the message of S3's XML, which is what its errors say.
fn summary(error: &object_store::Error) -> String {
    let text = chain(error);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside.to_owned())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => deepest(error),
    }
}

/// All that an error says. Its status is in a type that object_store keeps to itself.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}\n{cause}");
        next = cause.source();
    }
    text
}

fn http_error(error: &object_store::Error) -> Option<&HttpError> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// Our client, as `object_store` wants it.
struct Connector(Arc<Http>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self(Arc::clone(&self.0))))
    }
}

#[async_trait::async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        // The end of a multipart upload; object_store knows conditions for whole objects only.
        if parts.method == Method::POST && parts.uri.query().is_some_and(|query| query.contains("uploadId=")) {
            parts.headers.insert(header::IF_NONE_MATCH, header::HeaderValue::from_static("*"));
        }
        let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_else(|_| Bytes::new());
        let answer = self.0.send(Request::from_parts(parts, Sent::bytes(bytes))).await.map_err(of_fault)?;
        let broken = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(broken))))
    }
}

fn of_fault(fault: Fault) -> HttpError {
    let kind = match fault {
        Fault::Unreachable(_) => HttpErrorKind::Connect,
        Fault::Timeout(_) => HttpErrorKind::Timeout,
        Fault::Broken(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, fault)
}

/// The size of a part, and of what is sent in one piece.
const PART: u64 = 16 * 1024 * 1024;
const PART_LENGTH: usize = 16 * 1024 * 1024;
const MOST_PARTS: u64 = 10_000;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const RETRIES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_two_lines() {
        let text = "access_key = AKIA\nsecret_key=\"a/b=c\"\n";
        assert_eq!(value(text, "access_key"), Some("AKIA"));
        assert_eq!(value(text, "secret_key"), Some("a/b=c"));
        assert_eq!(value(text, "session_token"), None);
    }

    #[test]
    fn any_object_fits_into_the_parts_that_there_may_be() {
        assert_eq!(part_size(1), PART);
        let huge: u64 = 5 * 1024 * 1024 * 1024 * 1024;
        assert!(huge.div_ceil(part_size(huge)) <= MOST_PARTS);
    }
}
