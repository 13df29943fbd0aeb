//! A key server's token check against a real https issuer: discovery, keys, rotation, outage, and the wrong authority.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use eds_keystore::authn::jwt::{
    Algorithm, Issuer, Profile, Refusal,
    https::HttpsFetch,
    issuers::{FAILURE_PAUSE, Fetch as _, Issuers, UNKNOWN_KEY_PAUSE},
};
use eds_tests::{issuer::TokenIssuer, pki::Authority};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn fetch(ca: &Path) -> HttpsFetch {
    let roots = CertificateDer::pem_file_iter(ca).expect("a file").map(|root| root.expect("a certificate"));
    HttpsFetch::new(roots, Duration::from_secs(10)).expect("authorities")
}

fn accepting(issuer: &TokenIssuer, ca: &Path) -> Issuers<HttpsFetch> {
    let configured = Issuer {
        url: issuer.url().to_owned(),
        audiences: vec!["eds".to_owned()],
        algorithms: Algorithm::DEFAULT.to_vec(),
        profile: Profile::Oidc,
        skew: 60,
        max_lifetime: None,
        groups: None,
    };
    Issuers::new(vec![configured], fetch(ca)).expect("a good configuration")
}

fn token(issuer: &TokenIssuer) -> String {
    issuer.token(json!({"sub": "alice", "aud": "eds", "exp": now() + 3600})).expect("a token")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_discovered_and_followed_as_they_rotate() {
    let directory = tempfile::tempdir().expect("a directory");
    let issuer = TokenIssuer::start(directory.path()).expect("starts");
    let issuers = accepting(&issuer, issuer.ca());
    let (first, time) = (token(&issuer), now());
    assert_eq!(issuers.authenticate(&first, time).await.expect("good").subject, "alice");
    assert_eq!(issuer.asked(), ["/.well-known/openid-configuration", "/jwks"]);
    issuers.authenticate(&first, time).await.expect("good, from what is kept");
    assert_eq!(issuer.asked().len(), 2);

    issuer.rotate(true).expect("a new key");
    let second = token(&issuer);
    issuers.authenticate(&second, time + UNKNOWN_KEY_PAUSE).await.expect("the new key is found");
    issuers.authenticate(&first, time + UNKNOWN_KEY_PAUSE).await.expect("the old key is still published");
    issuer.rotate(false).expect("a new key");
    issuers.authenticate(&token(&issuer), time + 2 * UNKNOWN_KEY_PAUSE).await.expect("the newest key is found");
    assert_eq!(issuers.authenticate(&first, time + 2 * UNKNOWN_KEY_PAUSE).await, Err(Refusal::UnknownKey));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_does_not_answer_is_unavailable_until_it_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let issuer = TokenIssuer::start(directory.path()).expect("starts");
    let issuers = accepting(&issuer, issuer.ca());
    let (text, time) = (token(&issuer), now());
    issuer.answer(false);
    assert_eq!(issuers.authenticate(&text, time).await, Err(Refusal::Unavailable));
    issuer.answer(true);
    issuers.authenticate(&text, time + FAILURE_PAUSE).await.expect("good");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_of_another_authority_is_not_believed() {
    let directory = tempfile::tempdir().expect("a directory");
    let issuer = TokenIssuer::start(directory.path()).expect("starts");
    let other = directory.path().join("other.pem");
    Authority::new("another CA").and_then(|authority| authority.write(&other)).expect("written");
    assert_eq!(accepting(&issuer, &other).authenticate(&token(&issuer), now()).await, Err(Refusal::Unavailable));
    assert!(issuer.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_https_and_only_good_answers_are_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    let issuer = TokenIssuer::start(directory.path()).expect("starts");
    let client = fetch(issuer.ca());
    let plain = issuer.url().replace("https", "http");
    for url in [format!("{}/nothing", issuer.url()), format!("{plain}/jwks"), "not a URL".to_owned()] {
        let error = client.fetch(&url).await.expect_err("refused");
        assert_eq!(error.url, url);
    }
    client.fetch(&format!("{}/jwks", issuer.url())).await.expect("good");
}
