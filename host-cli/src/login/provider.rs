//! The issuer: OpenID Connect Discovery 1.0, the device authorization grant (RFC 8628), refresh (RFC 6749, section 6) and
//! revocation (RFC 7009). This is a public client: it has an id and no secret.

use std::{borrow::Cow, time::Duration};

use hyper::{StatusCode, body::Bytes};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Code, Error, Https};
use crate::{config::Login, credentials::Secret};

/// An issuer that was found.
pub(super) struct Provider<'a> {
    login: &'a Login,
    https: Https,
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    issuer: String,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
}

/// What the client proves itself with while the user enters the code.
pub(super) struct Device {
    pub(super) code: Secret,
    pub(super) interval: Duration,
}

/// What the issuer says of a code.
pub(super) enum Asked {
    Granted(Granted),
    Pending,
    SlowDown,
}

/// What was granted.
#[derive(Deserialize)]
pub(super) struct Granted {
    pub(super) access_token: Secret,
    #[serde(default)]
    pub(super) refresh_token: Option<Secret>,
}

#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: Secret,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u32,
    interval: Option<u32>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

impl<'a> Provider<'a> {
    /// Reads the discovery document of the issuer.
    pub(super) async fn discover(login: &'a Login, https: Https) -> Result<Self, Error> {
        let url = format!("{}/.well-known/openid-configuration", login.issuer.trim_end_matches('/'));
        let answer = https.get(&url).await?;
        let endpoints: Endpoints = good(&url, answer)?;
        if endpoints.issuer != login.issuer {
            return Err(Error::OtherIssuer { url, found: endpoints.issuer, expected: login.issuer.clone() });
        }
        let all = [
            &Some(endpoints.token_endpoint.clone()),
            &endpoints.device_authorization_endpoint,
            &endpoints.revocation_endpoint,
        ];
        if let Some(plain) = all.into_iter().flatten().find(|url| !url.starts_with("https://")) {
            return Err(Error::Issuer { problem: format!("names an endpoint without https: {plain:?}"), url });
        }
        Ok(Self { login, https, endpoints })
    }

    /// Asks for a code.
    pub(super) async fn begin(&self) -> Result<(Code, Device), Error> {
        let url = self.endpoints.device_authorization_endpoint.as_deref();
        let url = url.ok_or_else(|| Error::NoDeviceGrant(self.login.issuer.clone()))?;
        let mut form = vec![("client_id", self.login.client_id.as_str()), ("scope", &self.login.scope)];
        form.extend(self.login.audience.as_deref().map(|audience| ("audience", audience)));
        let answer: DeviceAnswer = match self.https.post(url, &form).await? {
            (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, body) => {
                return Err(Error::Refused(refusal(url, &body)?.1));
            }
            answer => good(url, answer)?,
        };
        // They are shown in a terminal, which control characters would steer.
        let plain = |text: &str| !text.is_empty() && text.len() <= 2048 && !text.chars().any(char::is_control);
        let pages = [Some(&answer.verification_uri), answer.verification_uri_complete.as_ref()];
        let fine = plain(&answer.user_code)
            && pages.into_iter().flatten().all(|page| plain(page) && page.starts_with("https://"));
        if !fine {
            let problem = "answered with a code or a page that cannot be shown".into();
            return Err(Error::Issuer { url: url.into(), problem });
        }
        let interval = Duration::from_secs(answer.interval.map_or(INTERVAL, u64::from).max(1));
        let code = Code {
            page: answer.verification_uri,
            code: answer.user_code,
            page_with_code: answer.verification_uri_complete,
            lifetime: Duration::from_secs(answer.expires_in.into()),
        };
        Ok((code, Device { code: answer.device_code, interval }))
    }

    /// Asks what became of the code.
    pub(super) async fn ask(&self, device: &Device) -> Result<Asked, Error> {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device.code.reveal()),
            ("client_id", &self.login.client_id),
        ];
        match self.https.post(&self.endpoints.token_endpoint, &form).await {
            Ok((StatusCode::OK, body)) => {
                good(&self.endpoints.token_endpoint, (StatusCode::OK, body)).map(Asked::Granted)
            }
            Ok((status, body)) if status.is_client_error() => {
                let (word, told) = refusal(&self.endpoints.token_endpoint, &body)?;
                match word.as_ref() {
                    "authorization_pending" => Ok(Asked::Pending),
                    "slow_down" => Ok(Asked::SlowDown),
                    "access_denied" => Err(Error::Denied),
                    "expired_token" => Err(Error::TooLate),
                    _ => Err(Error::Refused(told)),
                }
            }
            // An issuer that is away for a moment is asked again, less often (RFC 8628, section 3.5).
            Ok(_) | Err(Error::Issuer { .. }) => Ok(Asked::SlowDown),
            Err(error) => Err(error),
        }
    }

    /// Asks for a new token; nothing, when the issuer knows the old login no more.
    pub(super) async fn refresh(&self, token: &Secret) -> Result<Option<Granted>, Error> {
        let url = &self.endpoints.token_endpoint;
        let form =
            [("grant_type", "refresh_token"), ("refresh_token", token.reveal()), ("client_id", &self.login.client_id)];
        match self.https.post(url, &form).await? {
            (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED, body) => match refusal(url, &body)? {
                (word, _) if word == "invalid_grant" => Ok(None),
                (_, told) => Err(Error::Refused(told)),
            },
            answer => good(url, answer).map(Some),
        }
    }

    /// Has the issuer forget the login, if it offers that.
    pub(super) async fn revoke(&self, token: &Secret) -> Result<(), Error> {
        let Some(url) = &self.endpoints.revocation_endpoint else { return Ok(()) };
        let form =
            [("token", token.reveal()), ("token_type_hint", "refresh_token"), ("client_id", &self.login.client_id)];
        match self.https.post(url, &form).await? {
            (status, _) if status.is_success() => Ok(()),
            (status, _) => Err(Error::Issuer { url: url.clone(), problem: format!("answered {status}") }),
        }
    }
}

/// The document of a good answer.
fn good<T: DeserializeOwned>(url: &str, (status, body): (StatusCode, Bytes)) -> Result<T, Error> {
    let wrong = |problem: String| Error::Issuer { url: url.into(), problem };
    if status != StatusCode::OK {
        return Err(wrong(format!("answered {status}")));
    }
    // Without what stood there: it may be a token.
    serde_json::from_slice(&body).map_err(|error| {
        wrong(format!("answered with something else than it should (line {}, column {})", error.line(), error.column()))
    })
}

/// The word of a refusal, and all of it in words.
fn refusal(url: &str, body: &[u8]) -> Result<(Cow<'static, str>, String), Error> {
    let refusal: Refusal = good(url, (StatusCode::OK, Bytes::copy_from_slice(body)))?;
    let mut told = refusal.error.escape_debug().to_string();
    if let Some(description) = &refusal.error_description {
        told = format!("{told}: {}", description.escape_debug());
    }
    Ok((refusal.error.into(), told))
}

/// The interval of RFC 8628, section 3.2, in seconds, when the issuer gives none.
const INTERVAL: u64 = 5;
