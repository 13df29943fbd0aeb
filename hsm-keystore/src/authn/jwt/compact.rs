//! The compact form of a signed JWT (RFC 7515 section 7.1), parsed and not yet believed.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value};

use super::{MAX_TOKEN, Refusal, strict_json};

/// A parsed token. Nothing in it counts before [`super::verify`].
#[derive(Clone, PartialEq)]
pub struct Token {
    signed: String,
    signature: Vec<u8>,
    algorithm: String,
    key_id: Option<String>,
    claims: Map<String, Value>,
}

impl Token {
    /// Parses the compact form.
    ///
    /// # Errors
    /// [`Refusal`] for anything but a JWT with a header that can be understood.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_TOKEN {
            return Err(Refusal::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::NotCompact)?;
        let (header, claims) = signed.split_once('.').ok_or(Refusal::NotCompact)?;
        let decode = |part: &str| Base64UrlUnpadded::decode_vec(part).map_err(|_| Refusal::NotCompact);
        let (header_bytes, claim_bytes, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let header = strict_json::object(&header_bytes).ok_or(Refusal::NotJson("header"))?;
        let claims = strict_json::object(&claim_bytes).ok_or(Refusal::NotJson("claims"))?;
        if header.contains_key("crit") {
            return Err(Refusal::CriticalHeader);
        }
        let typed = |kind: &str| {
            let kind = kind.strip_prefix("application/").unwrap_or(kind);
            kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case("at+jwt")
        };
        match header.get("typ") {
            None => {}
            Some(Value::String(kind)) if typed(kind) => {}
            Some(_) => return Err(Refusal::Type),
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Refusal::Header("alg"))?.to_owned();
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) if id.len() <= MAX_KEY_ID => Some(id.clone()),
            Some(_) => return Err(Refusal::Header("kid")),
        };
        Ok(Self { signed: signed.to_owned(), signature, algorithm, key_id, claims })
    }

    /// The `iss`, as the token claims it.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    pub(super) fn algorithm(&self) -> &str {
        &self.algorithm
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    pub(super) fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.signature
    }

    pub(super) fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

/// A token is a secret: it says nothing of itself.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(<redacted>)")
    }
}

const MAX_KEY_ID: usize = 256;
