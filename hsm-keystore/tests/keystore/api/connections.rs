//! Who gets a connection, and what it must be like.

use std::{sync::atomic::Ordering, time::Duration};

use eds_core::api::{NodeInfo, Problem};
use hyper::{Method, StatusCode};
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{
    node::{TestNode, read, request},
    pki::{Authority, Credential},
};

const PATHS: [(&str, Method); 7] = [
    ("/v1/register", Method::POST),
    ("/v1/confirm", Method::POST),
    ("/v1/withdraw", Method::POST),
    ("/v1/unregister", Method::POST),
    ("/v1/fetch", Method::POST),
    ("/v1/keys/01234567-89ab-cdef-0123-456789abcdef", Method::GET),
    ("/v1/node", Method::GET),
];

#[tokio::test]
async fn without_a_certificate_everything_is_refused_with_what_is_accepted() {
    let node = TestNode::start().await;
    for (path, method) in PATHS {
        let answer = node.send(None, method, path, "{}").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.word(), "not-authenticated", "{path}");
        let problem: Problem = answer.json();
        assert!(problem.detail.expect("told").contains("client certificate"), "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        let answer = node.send(None, Method::GET, path, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
}

/// The alert with which the node ends a connection with this certificate.
async fn alert(node: &TestNode, who: &Credential) -> AlertDescription {
    let mut stream = node.connect(Some(who), b"http/1.1").await;
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    let _ = stream.write_all(b"GET /v1/node HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let error = stream.read(&mut [0; 64]).await.expect_err("the node refuses the handshake");
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("not an alert: {error:?}"),
    }
}

#[tokio::test]
async fn a_bad_certificate_is_refused_in_the_handshake_with_the_right_alert() {
    let node = TestNode::start().await;
    assert_eq!(alert(&node, &node.users.expired("alice")).await, AlertDescription::CertificateExpired);
    assert_eq!(alert(&node, &Authority::new("strangers").user("alice")).await, AlertDescription::UnknownCA);
    // An authority with the accepted one's name and another key.
    assert_eq!(alert(&node, &Authority::new("users").user("alice")).await, AlertDescription::DecryptError);
    assert_eq!(alert(&node, &node.users.server()).await, AlertDescription::UnsupportedCertificate);
}

#[tokio::test]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let node = TestNode::start().await;
    let mut stream = tokio::net::TcpStream::connect(node.address).await.expect("connects");
    // A TLS 1.2 ClientHello: legacy version 0303, one cipher suite, no supported_versions extension.
    let mut hello = vec![0x16, 0x03, 0x01, 0x00, 0x2f, 0x01, 0x00, 0x00, 0x2b, 0x03, 0x03];
    hello.extend([7; 32]);
    hello.extend([0x00, 0x00, 0x02, 0xc0, 0x2b, 0x01, 0x00, 0x00, 0x00]);
    stream.write_all(&hello).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("ends");
    assert_eq!(answer.first(), Some(&0x15), "not an alert: {answer:?}");
}

#[tokio::test]
async fn both_versions_of_http_are_spoken() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    for answer in [node.get(&alice, "/v1/node").await, node.send_http2(&alice, "/v1/node").await] {
        assert_eq!(answer.status, StatusCode::OK);
        let info: NodeInfo = answer.json();
        assert_eq!((info.node, info.number, info.directory_version), (node.node.id, node.node.number, 5));
        assert_eq!(info.caller, "/O=Ward/CN=alice");
    }
}

#[tokio::test]
async fn a_certificate_that_expires_on_a_living_connection_is_no_longer_accepted() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let io = hyper_util::rt::TokioIo::new(node.connect(Some(&alice), b"http/1.1").await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("speaks HTTP");
    tokio::spawn(connection);
    let first = read(sender.send_request(request(Method::GET, "/v1/node", "")).await.expect("answers")).await;
    assert_eq!(first.status, StatusCode::OK);
    node.clock.0.store(2_300_000_000, Ordering::SeqCst);
    let second = read(sender.send_request(request(Method::GET, "/v1/node", "")).await.expect("answers")).await;
    assert_eq!(second.status, StatusCode::UNAUTHORIZED);
    assert_eq!(second.word(), "not-authenticated");
}

#[tokio::test]
async fn heads_and_bodies_are_bounded() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let body = vec![b' '; eds_keystore::server::Limits::default().body_bytes + 1];
    let answer = node.send(Some(&alice), Method::POST, "/v1/fetch", body).await;
    assert_eq!((answer.status, answer.word().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"));
    let path = format!("/{}", "x".repeat(20_000));
    let answer = node.send(Some(&alice), Method::GET, &path, "").await;
    assert!(answer.status.is_client_error(), "{answer:?}");
    assert_eq!(node.get(&alice, "/v1/node").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_the_server() {
    let mut node = TestNode::start().await;
    let alice = node.users.user("alice");
    let io = hyper_util::rt::TokioIo::new(node.connect(Some(&alice), b"http/1.1").await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("speaks HTTP");
    let connection = tokio::spawn(connection);
    read(sender.send_request(request(Method::GET, "/v1/node", "")).await.expect("answers")).await;
    tokio::time::timeout(Duration::from_secs(20), node.stop()).await.expect("stops");
    connection.await.expect("no panic").expect("ends in order");
    assert!(tokio::net::TcpStream::connect(node.address).await.is_err());
}
