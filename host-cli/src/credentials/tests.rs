//! Which proof is taken, from where, and which are refused.

use std::{collections::HashMap, ffi::OsString, fs, os::unix::fs::PermissionsExt as _};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};

use super::*;
use crate::config::Pair;

/// A user with a configuration, an environment and a directory of temporary files.
struct Desk {
    directory: tempfile::TempDir,
    config: Config,
    variables: HashMap<&'static str, OsString>,
}

const USER: u32 = 4711;

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["tmp", "run"] {
            fs::create_dir(directory.path().join(name)).expect("made");
        }
        let file = directory.path().join("config.toml");
        fs::write(&file, "state = \"state\"\n[trust]\ntls_ca = \"ca.crt\"\n[storage]\npath = \"o\"\n[catalog]\npath = \"c\"\n[metadata]\npath = \"m\"\n").expect("written");
        let config = Config::load(Some(&file)).expect("valid");
        Self { directory, config, variables: HashMap::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("protected");
        path
    }

    fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.variables.insert(name, value.into());
    }

    fn find(&self, wanted: Option<ProofKind>) -> Vec<String> {
        let environment = |name: &str| self.variables.get(name).cloned();
        let temporary = self.path("tmp");
        let places = Places { config: &self.config, environment: &environment, user: USER, temporary: &temporary };
        let base = format!("{}/", self.directory.path().display());
        places.find(wanted).iter().map(|place| place.to_string().replace(&base, "")).collect()
    }
}

fn token(claims: &Value) -> String {
    let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "ES256"})), part(claims))
}

#[test]
fn tokens_are_looked_for_in_the_order_of_the_discovery_specification() {
    let mut desk = Desk::new();
    let kind = Some(ProofKind::Token);
    assert_eq!(desk.find(kind), [] as [&str; 0]);
    desk.write("tmp/bt_u4711", "x");
    assert_eq!(desk.find(kind), ["tmp/bt_u4711 (the usual place)"]);
    desk.write("run/bt_u4711", "x");
    assert_eq!(desk.find(kind), ["tmp/bt_u4711 (the usual place)"], "XDG_RUNTIME_DIR is not set");
    desk.set("XDG_RUNTIME_DIR", desk.path("run"));
    let usual = ["run/bt_u4711 (the usual place)", "tmp/bt_u4711 (the usual place)"];
    assert_eq!(desk.find(kind), usual);
    desk.set("BEARER_TOKEN_FILE", "");
    desk.set("BEARER_TOKEN", "");
    assert_eq!(desk.find(kind), usual, "empty variables are not set");
    desk.set("BEARER_TOKEN_FILE", "/gone");
    desk.set("BEARER_TOKEN", "x");
    desk.config.identity.token_file = Some("/named".into());
    let all = [
        "the variable BEARER_TOKEN",
        "/gone (BEARER_TOKEN_FILE)",
        "/named (identity.token_file)",
        "run/bt_u4711 (the usual place)",
        "tmp/bt_u4711 (the usual place)",
    ];
    assert_eq!(desk.find(kind), all);
}

#[test]
fn variables_come_before_the_configuration_and_that_before_usual_places_unless_one_kind_is_asked_for() {
    let mut desk = Desk::new();
    desk.write("tmp/bt_u4711", "x");
    desk.write("tmp/x509up_u4711", "x");
    desk.write("tmp/x509up_u1", "somebody else's");
    let (proxy, token) = ("tmp/x509up_u4711 (the usual place)", "tmp/bt_u4711 (the usual place)");
    assert_eq!(desk.find(None), [proxy, token]);
    desk.config.identity.pair = Some(Pair { certificate: "/me.crt".into(), key: "/me.key".into() });
    assert_eq!(desk.find(None), ["/me.crt", proxy, token]);
    desk.config.identity.proxy = Some("/mine".into());
    desk.set("X509_USER_PROXY", "/theirs");
    let proxies = ["/theirs (X509_USER_PROXY)", "/mine (identity.proxy)", proxy];
    assert_eq!(desk.find(Some(ProofKind::Proxy)), proxies);
    assert_eq!(desk.find(Some(ProofKind::Token)), [token]);
    assert_eq!(desk.find(Some(ProofKind::Certificate)), ["/me.crt"]);
    desk.config.identity.token_file = Some("/token".into());
    desk.set("BEARER_TOKEN", "x");
    let all = [
        "/theirs (X509_USER_PROXY)",
        "the variable BEARER_TOKEN",
        "/me.crt",
        "/mine (identity.proxy)",
        "/token (identity.token_file)",
        proxy,
        token,
    ];
    assert_eq!(desk.find(None), all);
}

#[test]
fn claims_are_read_and_what_is_no_token_is_refused_without_showing_it() {
    let good = json!({"iss": "https://id.example", "sub": "alice", "exp": 4_000_000_000_u64, "aud": ["eds", "x"],
        "wlcg.groups": ["/vo", "/vo/ward"], "groups": ["other"]});
    let read = Token::parse(&format!("  {}\n", token(&good))).expect("a token");
    let claims = read.claims();
    assert_eq!(claims.name(), "https://id.example#alice");
    assert_eq!((claims.audience.as_slice(), claims.expires), (["eds".into(), "x".into()].as_slice(), 4_000_000_000));
    assert_eq!(claims.groups, ["/vo", "/vo/ward"]);
    assert!(!format!("{read:?}").contains(&token(&good)), "the text is shown");
    for claim in ["iss", "sub", "exp"] {
        let mut lacking = good.clone();
        lacking.as_object_mut().expect("an object").remove(claim);
        assert!(Token::parse(&token(&lacking)).is_err(), "{claim}");
    }
    for wrong in ["", "a.b", "a.b.c.d", "a.!.c", &"x".repeat(20_000), &token(&json!([1]))] {
        let error = Token::parse(wrong).expect_err("refused");
        assert!(wrong.len() < 3 || !error.contains(wrong));
    }
}

#[tokio::test]
async fn a_token_file_is_read_again_when_its_token_ends_and_must_stay_the_same_persons() {
    let desk = Desk::new();
    let of = |subject: &str, left: i64| {
        token(&json!({"iss": "https://id.example", "sub": subject, "exp": now() + left, "jti": left}))
    };
    let file = desk.write("token", &of("alice", 5));
    let place = || Place::TokenFile { file: file.clone(), named_by: "here" };
    let source = TokenSource::open(place()).expect("good");
    let sent = |header: hyper::header::HeaderValue| header.to_str().expect("text").to_owned();
    assert_eq!(sent(source.header().await.expect("still good")), format!("Bearer {}", of("alice", 5)));
    desk.write("token", &of("alice", 3600));
    let header = source.header().await.expect("renewed");
    assert!(header.is_sensitive());
    assert_eq!(sent(header), format!("Bearer {}", of("alice", 3600)));

    desk.write("token", &of("alice", 5));
    let source = TokenSource::open(place()).expect("good");
    desk.write("token", &of("bob", 3600));
    let error = source.header().await.expect_err("another's");
    assert!(error.to_string().contains("is now one of https://id.example#bob"), "{error}");
    desk.write("token", &of("alice", -5));
    let error = TokenSource::open(place()).expect_err("over");
    assert!(error.to_string().contains("the token of https://id.example#alice from "), "{error}");
    assert!(error.to_string().contains("expired on ") && error.hint().is_some_and(|hint| hint.contains("eds login")));
    assert_eq!(error.kind(), Kind::Denied);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("exposed");
    let error = TokenSource::open(place()).expect_err("exposed");
    assert_eq!(error.hint(), Some(format!("chmod 600 {}", file.display())));
}
