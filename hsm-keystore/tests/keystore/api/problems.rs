//! Every error is a problem document that says what is wrong: each route with each wrong method, body, type and size.

use eds_core::api::Problem;
use eds_keystore::{
    api::{ROUTES, Route},
    server::Limits,
};
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, body::Bytes, header};

use crate::common::{
    node::{Answer, TestNode, request},
    pki::Credential,
};

const KEY: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn concrete(route: &Route) -> String {
    let path = route.path.replace("{id}", KEY).replace("{index}", "0").replace("{size}", "1");
    path.replace("{old}", "0").replace("{new}", "1")
}

fn is_a_problem(answer: &Answer, status: StatusCode, word: &str, what: &str) {
    assert_eq!((answer.status, answer.word().as_str()), (status, word), "{what}: {answer:?}");
    let problem: Problem = answer.json();
    assert_eq!(problem.kind, format!("urn:eds:problem:{word}"), "{what}");
    assert!(problem.detail.is_some_and(|detail| detail.len() > 10), "{what}: no detail");
    assert!(!problem.title.is_empty(), "{what}");
    assert_eq!(answer.headers["cache-control"], "no-store", "{what}");
}

/// A body with these headers, to a route that takes JSON.
async fn post(node: &TestNode, who: &Credential, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut sent = Request::builder().method(Method::POST).uri(format!("https://127.0.0.1{path}"));
    for (name, value) in headers {
        sent = sent.header(*name, *value);
    }
    let sent = sent.header("host", "127.0.0.1").body(Full::new(Bytes::copy_from_slice(body)));
    node.exchange(Some(who), sent.expect("built")).await
}

#[tokio::test]
async fn a_wrong_method_is_told_with_the_right_ones() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    for route in ROUTES {
        let path = concrete(route);
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let served = if method == "HEAD" { "get" } else { &method.to_ascii_lowercase() };
            let what = format!("{method} {path}");
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = node.send(Some(&alice), method.clone(), &path, "").await;
            if served == route.method {
                assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{what}");
                continue;
            }
            let allow = answer.headers[header::ALLOW].to_str().expect("text");
            assert!(allow.split(',').any(|one| one.eq_ignore_ascii_case(route.method)), "{what}: {allow}");
            if method == Method::HEAD {
                assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{what}");
            } else {
                is_a_problem(&answer, StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", &what);
            }
        }
    }
}

#[tokio::test]
async fn a_body_of_another_type_is_not_read() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let json = ("content-type", "application/json");
    let wrong: [&[(&str, &str)]; 8] = [
        &[],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/jsonp")],
        &[("content-type", "")],
        &[json, json],
        &[json, ("content-encoding", "gzip")],
        &[json, ("content-encoding", "identity, br")],
    ];
    for route in ROUTES.iter().filter(|route| route.method == "post") {
        for headers in wrong {
            let answer = post(&node, &alice, route.path, headers, b"{}").await;
            let what = format!("{} {headers:?}", route.path);
            is_a_problem(&answer, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", &what);
            assert_eq!(answer.headers["accept"], "application/json");
        }
    }
    for right in ["application/json", "Application/JSON; charset=utf-8"] {
        let answer = post(&node, &alice, "/v1/list", &[("content-type", right)], b"{}").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_understood_is_told_by_its_place() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 13] = [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"\"text\"",
        b"\xff\xfe",
        b"{} {}",
        b"{\"unknown\": 1}",
        b"{\"keys\": 7, \"after\": 7, \"key\": 7, \"changes\": 7, \"registration\": 7}",
        b"{\"keys\": [\"no key\"], \"after\": \"no key\", \"changes\": [{}]}",
        b"{\"keys\": [], \"keys\": []}",
        deep.as_bytes(),
    ];
    for route in ROUTES.iter().filter(|route| route.method == "post") {
        for body in bodies {
            let answer = post(&node, &alice, route.path, &[("content-type", "application/json")], body).await;
            let shown = String::from_utf8_lossy(body.get(..40).unwrap_or(body)).into_owned();
            is_a_problem(&answer, StatusCode::BAD_REQUEST, "bad-request", &format!("{} {shown}", route.path));
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_told_with_the_limit() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let most = Limits::default().body_bytes;
    for route in ROUTES.iter().filter(|route| route.method == "post") {
        let answer = node.send(Some(&alice), Method::POST, route.path, vec![b' '; most + 1]).await;
        is_a_problem(&answer, StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", route.path);
        assert!(answer.json::<Problem>().detail.expect("told").contains(&most.to_string()));
    }
    let keys = vec![KEY; 1_001];
    let answer = node.post(&alice, "/v1/confirm", &serde_json::json!({ "keys": keys })).await;
    is_a_problem(&answer, StatusCode::PAYLOAD_TOO_LARGE, "batch-too-large", "1,001 keys");
}

#[tokio::test]
async fn a_path_that_is_not_there_is_told() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    for path in
        ["/", "/v1", "/v1/", "/v1/fetch/", "/v1/Fetch", "/v2/fetch", "/v1/keys/", "/%00", "/..%2f..%2fetc", "/%ff"]
    {
        for who in [Some(&alice), None] {
            let answer = node.send(who, Method::GET, path, "").await;
            is_a_problem(&answer, StatusCode::NOT_FOUND, "not-found", path);
        }
    }
    let unreadable =
        ["/v1/keys/7", "/v1/keys/%ff", "/v1/audit/proof/inclusion/a/b", "/v1/audit/proof/consistency/-1/%fe"];
    for path in unreadable {
        let answer = node.get(&alice, path).await;
        is_a_problem(&answer, StatusCode::BAD_REQUEST, "bad-request", path);
    }
}

#[tokio::test]
async fn who_is_not_known_is_told_what_is_accepted() {
    let node = TestNode::start().await;
    for route in ROUTES.iter().filter(|route| route.operation.is_some()) {
        let method = Method::from_bytes(route.method.to_ascii_uppercase().as_bytes()).expect("a method");
        let answer = node.exchange(None, request(method, &concrete(route), "{}")).await;
        is_a_problem(&answer, StatusCode::UNAUTHORIZED, "not-authenticated", route.path);
        assert_eq!(answer.headers["www-authenticate"], "ClientCertificate realm=\"eds\"");
        assert!(answer.json::<Problem>().detail.expect("told").contains("client certificate"));
    }
}
