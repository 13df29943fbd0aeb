//! One call to one node: HTTP over TLS 1.3 with the caller's certificate or token, and what became of it in plain words.
//!
//! The node's certificate must be vouched for by the configured CA and name the host in the directory's URL. A token goes
//! to nothing else: redirects are not followed, and plain HTTP is not spoken. What is inside the answers is not believed
//! here.

use std::{error::Error as StdError, future::Future, sync::Arc, time::Duration};

use eds_core::{api::Problem, directory::Node};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::{Identity, NodeFault};
use crate::credentials::Credential;

/// How long a connection attempt may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long one call may take in all.
const CALL_DEADLINE: Duration = Duration::from_secs(20);
/// The largest answer that is read: 1,000 shares with their manifests stay below it.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;

/// What to ask a node.
#[derive(Clone, Debug)]
pub struct Call {
    /// `POST` when there is a body, else `GET`.
    pub body: Option<Bytes>,
    /// The path, from `/v1`.
    pub path: String,
}

impl Call {
    /// Whether the call may be made twice when it is not known whether the node got the first one. Everything may but a
    /// change of an access list, which asks for the state that it changes: its answer would be that of the second.
    fn is_repeatable(&self) -> bool {
        self.path != "/v1/access/change"
    }
}

/// Carries a call to a node. Implemented over TLS, and in memory for tests.
pub trait Transport: Send + Sync + 'static {
    /// Calls the node and returns the body of a successful answer.
    ///
    /// # Errors
    /// What happened instead; a problem document of the node becomes [`NodeFault::Refused`].
    fn call(&self, node: &Node, call: Call) -> impl Future<Output = Result<Bytes, NodeFault>> + Send;
}

/// The transport over TLS 1.3.
pub struct HttpTransport {
    /// Keeps connections open for the next call.
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Makes a connection for each call: a kept one may have been closed by a node that was started again.
    fresh: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    proof: Arc<Credential>,
}

impl HttpTransport {
    /// A transport that shows the certificate or token of `identity`.
    pub fn new(identity: &Identity) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(identity.tls())
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector.clone());
        let fresh = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client, fresh, proof: identity.proof() }
    }
}

impl Transport for HttpTransport {
    async fn call(&self, node: &Node, call: Call) -> Result<Bytes, NodeFault> {
        tokio::time::timeout(CALL_DEADLINE, self.exchange(node, call)).await.unwrap_or(Err(NodeFault::Timeout))
    }
}

impl HttpTransport {
    async fn exchange(&self, node: &Node, call: Call) -> Result<Bytes, NodeFault> {
        let answer = match self.client.request(self.request(node, &call).await?).await {
            Ok(answer) => answer,
            // There was a connection, and it broke before an answer came.
            Err(error) if !error.is_connect() && call.is_repeatable() => {
                self.fresh.request(self.request(node, &call).await?).await.map_err(|error| connection_fault(&error))?
            }
            Err(error) => return Err(connection_fault(&error)),
        };
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| connection_fault(error.as_ref()))?
            .to_bytes();
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    async fn request(&self, node: &Node, call: &Call) -> Result<Request<Full<Bytes>>, NodeFault> {
        let url = format!("{}{}", node.url.trim_end_matches('/'), call.path);
        let mut request = Request::builder().uri(&url).header(header::ACCEPT, "application/json");
        if let Credential::Token(source) = self.proof.as_ref() {
            let token = source.header().await.map_err(|error| NodeFault::NoProof(error.to_string()))?;
            request = request.header(header::AUTHORIZATION, token);
        }
        if call.body.is_some() {
            request = request.method(Method::POST).header(header::CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(call.body.clone().unwrap_or_default()))
            .map_err(|_| NodeFault::Unreachable(format!("{url} is not a usable address")))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> NodeFault {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => NodeFault::Refused(Box::new(problem)),
        Err(_) => NodeFault::BadAnswer(format!("HTTP status {status} without a reason")),
    }
}

/// Says what broke a connection. The useful cause is at the bottom of the chain of errors.
fn connection_fault(error: &(dyn StdError + 'static)) -> NodeFault {
    let mut deepest = error.to_string();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return NodeFault::Tls(describe_tls(tls));
        }
        deepest = cause.to_string();
        next = inner(cause);
    }
    NodeFault::Unreachable(deepest)
}

/// What is inside an error. An I/O error gives out only the source of the error that it holds, not that error itself.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}

fn describe_tls(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    match error {
        Error::AlertReceived(Alert::CertificateExpired) => "the node says that your certificate has expired".into(),
        Error::AlertReceived(Alert::UnknownCA) => {
            "the node does not know the authority that issued your certificate".into()
        }
        Error::AlertReceived(Alert::CertificateRevoked) => "the node says that your certificate is revoked".into(),
        Error::AlertReceived(alert) => format!("the node does not accept your certificate ({alert:?})"),
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the node's certificate has expired".into()
        }
        Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "the node's certificate is not from the configured authority".into()
        }
        Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "the node's certificate is for another host".into()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_cause_is_found_below_other_errors() {
        let tls = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
        let io = std::io::Error::new(std::io::ErrorKind::InvalidData, tls);
        let io = std::io::Error::other(io);
        let NodeFault::Tls(text) = connection_fault(&io) else { panic!("not seen as TLS") };
        assert!(text.contains("expired"));
    }

    #[test]
    fn an_answer_without_a_problem_document_is_not_a_refusal() {
        assert!(matches!(refusal(StatusCode::BAD_GATEWAY, b"<html>"), NodeFault::BadAnswer(_)));
        let problem = br#"{"type":"urn:eds:problem:not-permitted","title":"no","status":403}"#;
        assert!(
            matches!(refusal(StatusCode::FORBIDDEN, problem), NodeFault::Refused(p) if p.word() == "not-permitted")
        );
    }
}
