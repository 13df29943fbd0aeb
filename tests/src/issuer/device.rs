//! The issuer's device authorization grant (RFC 8628): what it answers is what a test says that the user does.

use std::{
    collections::VecDeque,
    sync::{MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{Shared, TokenIssuer};

/// What the issuer answers when it is asked for the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The user has not decided yet.
    Pending,
    /// The client asks too often.
    SlowDown,
    /// The user said no.
    Deny,
    /// The code is too old.
    Expire,
    /// The user said yes.
    Grant,
}

/// Which discovery document the issuer shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Document {
    /// The right one.
    #[default]
    Right,
    /// One of another issuer, with its endpoints here.
    OfAnother,
    /// One without a device endpoint.
    WithoutDevice,
    /// One that sends the device code over plain HTTP.
    WithoutTls,
}

/// The state of logins.
#[derive(Default)]
pub(super) struct Device {
    steps: VecDeque<Step>,
    claims: Value,
    lifetime: i64,
    refreshable: bool,
    logins: u32,
    /// The one refresh token that is good: each is good once.
    refresh: Option<String>,
    document: Document,
}

impl TokenIssuer {
    /// What the user will do, and the claims and lifetime in seconds of the tokens that are then granted.
    pub fn script(&self, steps: &[Step], claims: Value, lifetime: i64, refreshable: bool) {
        let mut device = self.shared.device();
        device.steps = steps.iter().copied().collect();
        (device.claims, device.lifetime, device.refreshable) = (claims, lifetime, refreshable);
    }

    /// Shows this discovery document from now on.
    pub fn show(&self, document: Document) {
        self.shared.device().document = document;
    }

    /// Forgets who is logged in: nothing is refreshed any more.
    pub fn forget(&self) {
        self.shared.device().refresh = None;
    }

    /// Whether somebody is logged in whose token would be refreshed.
    pub fn remembers(&self) -> bool {
        self.shared.device().refresh.is_some()
    }
}

impl Shared {
    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn discovery(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.url);
        let mut document = json!({
            "issuer": self.url,
            "jwks_uri": at("/jwks"),
            "token_endpoint": at("/token"),
            "device_authorization_endpoint": at("/device"),
            "revocation_endpoint": at("/revoke"),
        });
        match self.device().document {
            Document::Right => {}
            Document::OfAnother => document["issuer"] = json!("https://id.example"),
            Document::WithoutDevice => document["device_authorization_endpoint"] = Value::Null,
            Document::WithoutTls => {
                document["device_authorization_endpoint"] = json!(at("/device").replace("https", "http"));
            }
        }
        document
    }

    pub(super) fn device_answer(&self, path: &str, form: &str) -> (u16, Value) {
        let field = |name: &str| form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        if field("client_id") != Some("eds") {
            return error("invalid_client");
        }
        match (path, field("grant_type")) {
            ("/device", _) => {
                let page = format!("{}/activate", self.url);
                let answer = json!({"device_code": DEVICE_CODE, "user_code": USER_CODE, "verification_uri": page,
                    "verification_uri_complete": format!("{page}?code={USER_CODE}"), "expires_in": 600, "interval": 1});
                (200, answer)
            }
            ("/revoke", _) => {
                let mut device = self.device();
                if device.refresh.as_deref() == field("token") {
                    device.refresh = None;
                }
                (200, Value::Null)
            }
            (_, Some("urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code")) => {
                if field("device_code") != Some(DEVICE_CODE) {
                    return error("invalid_grant");
                }
                let step = self.device().steps.pop_front().unwrap_or(Step::Pending);
                match step {
                    Step::Pending => error("authorization_pending"),
                    Step::SlowDown => error("slow_down"),
                    Step::Deny => error("access_denied"),
                    Step::Expire => error("expired_token"),
                    Step::Grant => self.grant(),
                }
            }
            (_, Some("refresh_token")) => {
                let good =
                    self.device().refresh.take().is_some_and(|token| Some(token.as_str()) == field("refresh_token"));
                if good { self.grant() } else { error("invalid_grant") }
            }
            _ => error("unsupported_grant_type"),
        }
    }

    fn grant(&self) -> (u16, Value) {
        let (claims, refresh) = {
            let mut device = self.device();
            device.logins += 1;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let mut claims = device.claims.clone();
            claims["exp"] = json!(i64::try_from(now).unwrap_or(0) + device.lifetime);
            device.refresh = device.refreshable.then(|| format!("refresh-{}", device.logins));
            (claims, device.refresh.clone())
        };
        match self.token(claims) {
            Ok(token) => (200, json!({"access_token": token, "token_type": "Bearer", "refresh_token": refresh})),
            Err(trouble) => (500, json!({"error": "server_error", "error_description": trouble.to_string()})),
        }
    }
}

fn error(word: &str) -> (u16, Value) {
    (400, json!({ "error": word }))
}

/// The code that the user enters.
pub const USER_CODE: &str = "WDJB-MJHT";
const DEVICE_CODE: &str = "device-code-that-nobody-else-sees";
