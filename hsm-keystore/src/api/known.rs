//! Who sent a request: decided once for each request, before its body is read.
//!
//! A request with a bearer token is the token's; otherwise it is that of the certificates of its connection. There is no
//! fall-back from a refused token to a certificate: who shows a token means it. What a connection's certificates prove is
//! kept until authorities are loaded again, and the end of validity is looked at for every request.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, header, request::Parts};
use rustls::pki_types::CertificateDer;

use crate::{
    api::{ApiError, Word},
    authn::{Authenticator, AuthnError, Principal, jwt},
};

/// What a connection brought; the server puts it into each request.
#[derive(Clone, Debug, Default)]
pub struct Peer(Option<Arc<Presented>>);

/// Certificates, leaf first, and whom they prove under which generation of authorities.
#[derive(Debug)]
struct Presented {
    certificates: Vec<CertificateDer<'static>>,
    verdict: Mutex<Option<(u64, Verdict)>>,
}

type Verdict = Result<Arc<Principal>, AuthnError>;

impl Peer {
    /// The peer that sent these certificates in its handshake, leaf first; none of them is a peer without.
    pub fn of(certificates: &[CertificateDer<'_>]) -> Self {
        if certificates.is_empty() {
            return Self(None);
        }
        let certificates = certificates.iter().map(|der| der.clone().into_owned()).collect();
        Self(Some(Arc::new(Presented { certificates, verdict: Mutex::new(None) })))
    }
}

#[cfg(test)]
impl Peer {
    /// A peer whose certificates were found to prove this principal, for tests of what comes after.
    pub(super) fn proven(principal: Arc<Principal>, authenticator: &Authenticator) -> Self {
        let verdict = Mutex::new(Some((authenticator.generation(), Ok(principal))));
        Self(Some(Arc::new(Presented { certificates: Vec::new(), verdict })))
    }
}

impl Presented {
    fn verdict(&self, authenticator: &Authenticator) -> Verdict {
        let generation = authenticator.generation();
        let mut kept = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.as_ref() {
            Some((of, verdict)) if *of == generation => verdict.clone(),
            _ => {
                let verdict = authenticator.by_certificates(&self.certificates).map(Arc::new);
                *kept = Some((generation, verdict.clone()));
                verdict
            }
        }
    }
}

/// Decides who sent a request with these headers on this connection.
pub(super) async fn caller(
    authenticator: &Authenticator,
    headers: &HeaderMap,
    peer: Option<&Peer>,
    now: u64,
) -> Result<Arc<Principal>, ApiError> {
    let refused =
        |why: String| ApiError::new(Word::NotAuthenticated, format!("{why}; accepted: {}", authenticator.told()));
    let verdict = match bearer(headers) {
        Err(why) => return Err(refused(why.to_owned())),
        Ok(Some(token)) => authenticator.by_token(token).await.map(Arc::new),
        Ok(None) => match peer {
            Some(Peer(Some(presented))) => presented.verdict(authenticator),
            _ => return Err(refused("the request proves no identity".to_owned())),
        },
    };
    match verdict {
        Ok(principal) if principal.is_valid_at(now) => Ok(principal),
        Ok(_) => Err(refused("what proved the caller has expired since the connection was made".to_owned())),
        Err(AuthnError::Token(reason @ jwt::Refusal::Unavailable)) => {
            Err(ApiError::new(Word::Busy, reason.to_string()))
        }
        Err(reason) => Err(refused(reason.to_string())),
    }
}

/// The token of the one `Authorization` header, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("the request has several Authorization headers");
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or("the Authorization header is not understood")?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(Some(token.trim()))
    } else {
        Err("the Authorization scheme is not Bearer")
    }
}

/// Whether the request shows a token, for the challenge of a refusal.
pub(super) fn shows_token(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION)
}

/// The decision about a request's sender, as the outermost layer left it.
#[derive(Clone)]
pub(super) struct Decided(pub(super) Result<Arc<Principal>, ApiError>);

impl Decided {
    /// The caller of this request, if it is known.
    pub(super) fn of(parts: &Parts) -> Result<Arc<Principal>, ApiError> {
        match parts.extensions.get::<Self>() {
            Some(Self(decision)) => decision.clone(),
            None => Err(ApiError::new(Word::NotAuthenticated, "the request proves no identity")),
        }
    }
}
