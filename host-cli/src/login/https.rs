//! Requests to the issuer: https only, no redirects, answers of bounded size within a bounded time.

use std::{path::Path, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::Error;
use crate::authorities;

/// The client.
pub(super) struct Https(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Https {
    /// A client that believes servers of these authorities; without a file, of those that the system believes.
    pub(super) fn new(place: Option<&Path>) -> Result<Self, Error> {
        let roots = authorities::load(place)
            .map_err(|error| Error::Authorities { path: error.path, problem: error.problem })?;
        let wrong = |problem: String| Error::Authorities { path: place.map(Into::into).unwrap_or_default(), problem };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    pub(super) async fn get(&self, url: &str) -> Result<(StatusCode, Bytes), Error> {
        self.exchange(url, Request::get(url).body(Full::default())).await
    }

    /// Posts a form; the values may be secret.
    pub(super) async fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<(StatusCode, Bytes), Error> {
        let mut body = Zeroizing::new(String::new());
        for (name, value) in form {
            let separator = if body.is_empty() { "" } else { "&" };
            body.push_str(&format!("{separator}{name}="));
            encode(value, &mut body);
        }
        let body = Full::new(Bytes::from_owner(body));
        let request = Request::post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        self.exchange(url, request).await
    }

    async fn exchange(
        &self,
        url: &str,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let wrong = |problem: String| Error::Issuer { url: url.into(), problem };
        let mut request = request.map_err(|_| wrong("is not a usable address".into()))?;
        request.headers_mut().insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
        let asked = async {
            let answer = self.0.request(request).await.map_err(|error| {
                let mut cause: &dyn std::error::Error = &error;
                while let Some(deeper) = cause.source() {
                    cause = deeper;
                }
                wrong(format!("cannot be reached: {cause}"))
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            Ok((status, body.map_err(|error| wrong(format!("answered badly: {error}")))?.to_bytes()))
        };
        tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| Err(wrong("did not answer in time".into())))
    }
}

/// Percent-encodes everything that is not unreserved (RFC 3986, section 2.3).
fn encode(value: &str, out: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_form_are_encoded() {
        let mut out = String::new();
        encode("a b&c=d/é~", &mut out);
        assert_eq!(out, "a%20b%26c%3Dd%2F%C3%A9~");
    }
}
