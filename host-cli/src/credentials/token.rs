//! Bearer tokens: JSON Web Tokens, sent as they were found. Their claims are read for display and for the name of the
//! caller; who signed them is the nodes' to check.
//!
//! A command may run longer than a token lives. [`TokenSource`] gives a good one for each request: it renews the login, or
//! reads the file again, which whoever made it may have renewed. The text of a token is wiped and never shown.

use std::{fmt, path::Path};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use eds_core::registrant::Registrant;
use hyper::header::HeaderValue;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{
    Error, ProofKind, in_words, now,
    places::{BEARER_TOKEN, Place},
};
use crate::{
    config,
    login::{self, Session},
};

/// A token.
pub struct Token {
    text: Zeroizing<String>,
    claims: Claims,
}

/// What a token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// `iss`: who made it.
    pub issuer: String,
    /// `sub`: whom it is for.
    pub subject: String,
    /// `aud`: the services that it is for.
    pub audience: Vec<String>,
    /// `exp`, in seconds since 1970.
    pub expires: i64,
    /// `wlcg.groups`, or `groups`.
    pub groups: Vec<String>,
}

impl Claims {
    /// Issuer and subject, as access lists have them.
    pub fn name(&self) -> String {
        format!("{}#{}", self.issuer.escape_debug(), self.subject.escape_debug())
    }

    /// The digest that sealed registrations are bound to.
    pub fn registrant(&self) -> [u8; 32] {
        Registrant { kind: "jwt", namespace: self.issuer.as_bytes(), subject: self.subject.as_bytes() }.digest()
    }

    fn read(map: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| map.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let list = |name: &str| -> Option<Vec<String>> {
            match map.get(name)? {
                Value::String(one) => Some(vec![one.clone()]),
                Value::Array(many) => many.iter().map(|one| Some(one.as_str()?.to_owned())).collect(),
                _ => None,
            }
        };
        let expires = map.get("exp")?;
        Some(Self {
            issuer: text("iss")?,
            subject: text("sub")?,
            audience: list("aud").unwrap_or_default(),
            // A fraction of a second does not matter for what is shown and renewed.
            expires: expires.as_number()?.to_string().split('.').next()?.parse().ok()?,
            groups: list("wlcg.groups").or_else(|| list("groups")).unwrap_or_default(),
        })
    }
}

impl Token {
    /// Reads a token; white space around it is not part of it.
    ///
    /// # Errors
    /// What is wrong with it; never the text itself.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("there is nothing");
        }
        if text.len() > MAX_TOKEN {
            return Err("it is too long");
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [_, claims, _] = parts.as_slice() else { return Err("it is not three parts with dots between them") };
        let claims = Base64UrlUnpadded::decode_vec(claims).map_err(|_| "its second part is not base64url")?;
        let claims = serde_json::from_slice(&claims).map_err(|_| "its second part is not a JSON object")?;
        let claims = Claims::read(&claims).ok_or("it lacks iss, sub or exp")?;
        Ok(Self { text: Zeroizing::new(text.to_owned()), claims })
    }

    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The text, for those who keep it.
    pub(crate) fn reveal(&self) -> &str {
        &self.text
    }

    fn header(&self) -> Result<HeaderValue, &'static str> {
        let text = Zeroizing::new(format!("Bearer {}", self.text.as_str()));
        let mut header = HeaderValue::from_str(&text).map_err(|_| "it has characters that no header may have")?;
        header.set_sensitive(true);
        Ok(header)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(<redacted>, {:?})", self.claims)
    }
}

/// A place that gives a token for each request, always of the same subject.
#[derive(Debug)]
pub struct TokenSource {
    place: Place,
    /// What it said when it was opened: who it is does not change.
    claims: Claims,
    current: Mutex<Token>,
}

impl TokenSource {
    /// Reads the token of this place.
    ///
    /// # Errors
    /// [`Error`], also when its time is over.
    pub fn open(place: Place) -> Result<Self, Error> {
        let (token, renewable) = match &place {
            Place::Login { file, login } => {
                let session = Session::load(login, file)?.ok_or_else(|| login::Error::Ended(login.issuer.clone()))?;
                (session.token, session.refresh.is_some())
            }
            _ => (read(&place)?, false),
        };
        if !renewable {
            check_time(&place, token.claims(), now())?;
        }
        token.header().map_err(|problem| not_a_token(&place, problem))?;
        Ok(Self { place, claims: token.claims.clone(), current: Mutex::new(token) })
    }

    /// Where it was found.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What it said when it was read first.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The value of the header `Authorization`, with a token that is good for a while, if there is one.
    ///
    /// # Errors
    /// [`Error`] when its time is over, or when it is another's now.
    pub(crate) async fn header(&self) -> Result<HeaderValue, Error> {
        let mut current = self.current.lock().await;
        if current.claims.expires <= now().saturating_add(EARLY) {
            let token = match &self.place {
                Place::Login { file, login } => match login::renew(login, file, EARLY).await {
                    // It cannot be had now; the old one will do for a moment more.
                    Err(_) if current.claims.expires > now() => {
                        return current.header().map_err(|problem| not_a_token(&self.place, problem));
                    }
                    renewed => renewed?,
                },
                _ => read(&self.place)?,
            };
            if (&token.claims.issuer, &token.claims.subject) != (&self.claims.issuer, &self.claims.subject) {
                let (found, expected) = (token.claims.name(), self.claims.name());
                return Err(Error::OtherSubject { place: self.place.to_string(), found, expected });
            }
            *current = token;
            check_time(&self.place, &current.claims, now())?;
        }
        current.header().map_err(|problem| not_a_token(&self.place, problem))
    }
}

fn read(place: &Place) -> Result<Token, Error> {
    let token = match place {
        Place::TokenFile { file, .. } => Token::parse(&read_text(file)?),
        // The environment keeps its own copy, which cannot be wiped.
        _ => Token::parse(&Zeroizing::new(std::env::var(BEARER_TOKEN).unwrap_or_default())),
    };
    token.map_err(|problem| not_a_token(place, problem))
}

fn read_text(file: &Path) -> Result<Zeroizing<String>, Error> {
    let bytes = config::read_private(file)?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

fn check_time(place: &Place, claims: &Claims, now: i64) -> Result<(), Error> {
    if claims.expires > now {
        return Ok(());
    }
    Err(Error::Expired {
        kind: ProofKind::Token,
        subject: claims.name(),
        place: place.to_string(),
        when: in_words(claims.expires),
    })
}

fn not_a_token(place: &Place, problem: &'static str) -> Error {
    Error::NotAToken { place: place.to_string(), problem }
}

/// The longest token that the nodes read, in bytes.
const MAX_TOKEN: usize = 16 * 1024;
/// How long before its end a token is replaced, in seconds: a request must not outlive it.
const EARLY: i64 = 30;
