//! What proves a caller to a running node: proxies, VOMS attributes, tokens; and authorities that change under it.

use std::{
    fs,
    sync::{Arc, Mutex, atomic::Ordering},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64ct::{Base64UrlUnpadded, Encoding};
use eds_core::api::{NodeInfo, Problem};
use eds_keystore::audit::Proof;
use eds_keystore::authn::{
    authenticator::Accepted,
    jwt::{
        Algorithm, Issuer, Profile,
        issuers::{Fetch, FetchError, Fetching},
    },
};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    common::node::{Answer, TestNode, read, request},
    forge::{Attributes, INDEPENDENT, INHERIT_ALL, Issued, LIMITED, NOW, Template, crl, pem, voms_extension},
};

const ISSUER: &str = "https://login.example.org";

async fn get(node: &TestNode, chain: &[&Issued], authorization: Option<&str>) -> Answer {
    let stream = node.connect_with(chain, b"http/1.1").await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("speaks HTTP");
    tokio::spawn(connection);
    let mut request = request(Method::GET, "/v1/node", "");
    if let Some(value) = authorization {
        request.headers_mut().insert("authorization", value.parse().expect("a header value"));
    }
    read(sender.send_request(request).await.expect("answers")).await
}

fn detail(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.word().as_str()), (StatusCode::UNAUTHORIZED, "not-authenticated"));
    answer.json::<Problem>().detail.expect("told")
}

async fn node_at_now(accepted: Accepted, web: Web) -> TestNode {
    let node = TestNode::start_accepting(accepted, Box::new(web)).await;
    node.clock.0.store(NOW as u64, Ordering::SeqCst);
    node
}

#[tokio::test]
async fn a_proxy_speaks_for_its_holder() {
    let node = node_at_now(Accepted::default(), Web::default()).await;
    let alice = Template::person("/O=Ward/CN=alice").signed_by(&node.users.issued());
    let proxy = Template::proxy(&alice, "1", INHERIT_ALL).signed_by(&alice);
    let second = Template::proxy(&proxy, "2", LIMITED).signed_by(&proxy);
    for chain in [&[&alice][..], &[&proxy, &alice], &[&second, &proxy, &alice]] {
        let answer = get(&node, chain, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.json::<NodeInfo>().caller, "/O=Ward/CN=alice");
    }
}

#[tokio::test]
async fn a_bad_proxy_is_refused_in_the_handshake() {
    let node = node_at_now(Accepted::default(), Web::default()).await;
    let alice = Template::person("/O=Ward/CN=alice").signed_by(&node.users.issued());
    let mut late = Template::proxy(&alice, "1", INHERIT_ALL);
    late.validity = (NOW - 100, NOW - 1);
    let stranger = Template::person("/O=Ward/CN=alice").self_signed();
    for (what, template, by, wanted) in [
        ("expired", late, &alice, AlertDescription::CertificateExpired),
        ("independent", Template::proxy(&alice, "1", INDEPENDENT), &alice, AlertDescription::AccessDenied),
        ("of another key", Template::proxy(&alice, "1", INHERIT_ALL), &stranger, AlertDescription::DecryptError),
    ] {
        let proxy = template.signed_by(by);
        let mut stream = node.connect_with(&[&proxy, &alice], b"http/1.1").await;
        let _ = stream.write_all(b"GET /v1/node HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let error = stream.read(&mut [0; 64]).await.expect_err("the node refuses the handshake");
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => assert_eq!(*alert, wanted, "{what}"),
            _ => panic!("{what}: not an alert: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_proxy_needs_the_key_that_it_names() {
    let node = node_at_now(Accepted::default(), Web::default()).await;
    let alice = Template::person("/O=Ward/CN=alice").signed_by(&node.users.issued());
    let proxy = Template::proxy(&alice, "1", INHERIT_ALL).signed_by(&alice);
    let thief = Issued { key: crate::forge::Key::new(), ..proxy };
    let mut stream = node.connect_with(&[&thief, &alice], b"http/1.1").await;
    let _ = stream.write_all(b"GET /v1/node HTTP/1.1\r\nhost: x\r\n\r\n").await;
    stream.read(&mut [0; 64]).await.expect_err("the handshake signature is wrong");
}

#[tokio::test]
async fn forged_voms_attributes_are_refused_in_words() {
    let vomsdir = tempfile::tempdir().expect("a directory");
    fs::create_dir(vomsdir.path().join("myvo")).expect("made");
    let lsc = "/CN=voms.example.org\n/CN=users\n";
    fs::write(vomsdir.path().join("myvo/voms.example.org.lsc"), lsc).expect("written");
    let accepted = Accepted { vomsdir: Some(vomsdir.path().into()), ..Accepted::default() };
    let node = node_at_now(accepted, Web::default()).await;
    let users = node.users.issued();
    let alice = Template::person("/O=Ward/CN=alice").signed_by(&users);
    let server = Template::person("/CN=voms.example.org").signed_by(&users);
    let proxy = |attributes: Vec<u8>| {
        Template::proxy(&alice, "1", INHERIT_ALL).with(voms_extension(&[&attributes])).signed_by(&alice)
    };
    let attributes = Attributes::new(&alice, &server, &[], &["/myvo/ward", "/myvo/Role=NULL"]);
    let good = proxy(attributes.signed_by(&server.key));
    assert_eq!(get(&node, &[&good, &alice], None).await.status, StatusCode::OK);
    let principal = node.authenticator.by_certificates(&[&good, &alice]).expect("good");
    assert_eq!(principal.groups, ["/myvo/ward", "/myvo"]);
    let who = node.records().pop().expect("an entry").entry.decision.who;
    assert_eq!((who.proof, who.display.as_str()), (Proof::ProxyCertificate, "/O=Ward/CN=alice"));
    assert_eq!(who.evidence, principal.proof, "how it was proven is in the audit log");
    assert!(who.evidence.contains("VO myvo, server voms.example.org"), "{}", who.evidence);
    let forged = proxy(attributes.signed_by(&alice.key));
    let told = detail(&get(&node, &[&forged, &alice], None).await);
    assert!(told.contains("signature of the VOMS attributes is wrong") && told.contains("accepted:"), "{told}");
}

#[tokio::test]
async fn a_living_connection_does_not_outlive_a_revocation() {
    let node = node_at_now(Accepted::default(), Web::default()).await;
    let users = node.users.issued();
    let alice = Template::person("/O=Ward/CN=alice").signed_by(&users);
    let stream = node.connect_with(&[&alice], b"http/1.1").await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("speaks HTTP");
    tokio::spawn(connection);
    let first = read(sender.send_request(request(Method::GET, "/v1/node", "")).await.expect("answers")).await;
    assert_eq!(first.status, StatusCode::OK);
    let list = crl(&users, &users.key, (NOW - 10, NOW + 10), &[&alice.serial], &[]);
    let bundle = fs::read_to_string(&node.authorities).expect("read");
    fs::write(&node.authorities, "garbage").expect("written");
    node.authenticator.reload().expect_err("not certificates");
    let second = read(sender.send_request(request(Method::GET, "/v1/node", "")).await.expect("answers")).await;
    assert_eq!(second.status, StatusCode::OK, "files that cannot be used change nothing");
    fs::write(&node.authorities, bundle + &pem("X509 CRL", &list)).expect("written");
    node.authenticator.reload().expect("good files");
    let third = read(sender.send_request(request(Method::GET, "/v1/node", "")).await.expect("answers")).await;
    assert!(detail(&third).contains("was revoked by its issuer"));
}

// ----- tokens -----

/// An issuer's documents; none of them while it is down.
#[derive(Clone, Default)]
struct Web(Arc<Mutex<Option<String>>>);

impl Fetch for Web {
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        let keys = self.0.lock().expect("unpoisoned").clone();
        Box::pin(async move {
            let down = || FetchError { url: url.into(), reason: "down".into() };
            let keys = keys.ok_or_else(down)?;
            Ok(match url.strip_prefix(ISSUER) {
                Some("/.well-known/openid-configuration") => {
                    json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")}).to_string()
                }
                _ => keys,
            }
            .into_bytes())
        })
    }
}

struct TokenIssuer(EcdsaKeyPair);

impl TokenIssuer {
    fn new(web: &Web) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let text = |bytes| Base64UrlUnpadded::encode_string(bytes);
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "x": text(x), "y": text(y)}]});
        *web.0.lock().expect("unpoisoned") = Some(keys.to_string());
        Self(pair)
    }

    fn token(&self, subject: &str, expires: i64) -> String {
        let part = |value: serde_json::Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
        let claims = json!({"iss": ISSUER, "sub": subject, "aud": "eds", "exp": expires});
        let signed = format!("{}.{}", part(json!({"alg": "ES256", "kid": "1"})), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", Base64UrlUnpadded::encode_string(signature.as_ref()))
    }
}

fn accepting_tokens() -> Accepted {
    let issuer = Issuer {
        url: ISSUER.into(),
        audiences: vec!["eds".into()],
        algorithms: Algorithm::DEFAULT.to_vec(),
        profile: Profile::Oidc,
        skew: 0,
        max_lifetime: None,
        groups: None,
    };
    Accepted { issuers: vec![issuer], ..Accepted::default() }
}

#[tokio::test]
async fn a_token_proves_its_subject_and_a_bad_one_is_no_certificate() {
    let web = Web::default();
    let issuer = TokenIssuer::new(&web);
    let node = node_at_now(accepting_tokens(), web).await;
    let proof = || node.records().pop().expect("an entry").entry.decision.who;
    let alice = Template::person("/O=Ward/CN=alice").signed_by(&node.users.issued());
    let good = format!("Bearer {}", issuer.token("bob", NOW + 60));
    for chain in [&[][..], &[&alice]] {
        let answer = get(&node, chain, Some(&good)).await;
        assert_eq!(answer.json::<NodeInfo>().caller, "https://login.example.org#bob", "the token decides");
        assert_eq!(
            (proof().proof, proof().evidence.as_str()),
            (Proof::Token, "token of https://login.example.org, ES256 1")
        );
    }
    let answer = get(&node, &[], Some(&good.replacen("Bearer", "bearer", 1))).await;
    assert_eq!(answer.status, StatusCode::OK);
    let expired = format!("Bearer {}", issuer.token("bob", NOW - 1));
    for (what, value, told) in [
        ("an expired token", expired.as_str(), "expired"),
        ("noise", "Bearer noise", "compact form"),
        ("another scheme", "Basic YTpi", "not Bearer"),
        ("no token", "Bearer", "not understood"),
    ] {
        let answer = get(&node, &[&alice], Some(value)).await;
        let text = detail(&answer);
        assert!(text.contains(told) && text.contains(ISSUER), "{what}: {text}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"eds\", error=\"invalid_token\"");
    }
    let nothing = get(&node, &[], None).await;
    assert_eq!(nothing.headers["www-authenticate"], "Bearer realm=\"eds\"");
    assert!(detail(&nothing).contains("proves no identity"));
}

#[tokio::test]
async fn while_an_issuer_is_down_its_people_are_asked_to_come_again() {
    let web = Web::default();
    let issuer = TokenIssuer::new(&Web::default());
    let node = node_at_now(accepting_tokens(), web).await;
    let answer = get(&node, &[], Some(&format!("Bearer {}", issuer.token("bob", NOW + 60)))).await;
    assert_eq!((answer.status, answer.word().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_node_without_issuers_takes_no_tokens() {
    let node = node_at_now(Accepted::default(), Web::default()).await;
    let issuer = TokenIssuer::new(&Web::default());
    let answer = get(&node, &[], Some(&format!("Bearer {}", issuer.token("bob", NOW + 60)))).await;
    assert!(detail(&answer).contains("accepts no tokens"));
    assert_eq!(answer.headers["www-authenticate"], "ClientCertificate realm=\"eds\"");
}
