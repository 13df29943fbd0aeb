//! What a slow or greedy client gets, and that others do not notice.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eds_core::api::Problem;
use eds_keystore::server::Limits;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::common::node::{TestNode, read, request};

/// Short enough to wait for, and different, so that each is told from the others.
fn short() -> Limits {
    Limits {
        handshake: Duration::from_millis(200),
        head: Duration::from_millis(300),
        body: Duration::from_millis(400),
        request: Duration::from_secs(20),
        answer: Duration::from_millis(500),
        idle: Duration::from_millis(1_200),
        ..Limits::default()
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Everything until the node closes the connection.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the node ends the connection");
    // A connection that is cut off has no TLS end.
    drop(ended);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn problem_of(answer: &str) -> Problem {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    assert!(head.contains("content-type: application/problem+json"), "{head}");
    let problem: Problem = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert!(head.contains(&format!("x-request-id: {}", problem.instance.clone().expect("an id"))), "{answer}");
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", problem.status)), "{answer}");
    problem
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut_off() {
    let node = TestNode::start_limited(short()).await;
    for sent in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(node.address).await.expect("connects");
        stream.write_all(sent).await.expect("sent");
        rest(&mut stream).await;
        assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_answered_with_408() {
    let node = TestNode::start_limited(short()).await;
    let mut stream = node.connect(None, b"http/1.1").await;
    let begun = Instant::now();
    let mut answer = Vec::new();
    // A byte now and then does not help.
    let trickle = async {
        for byte in b"GET /v1/node HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ".iter().chain(std::iter::repeat(&b'x')) {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            let mut bytes = [0; 4096];
            match timeout(Duration::from_millis(20), stream.read(&mut bytes)).await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(read)) => answer.extend_from_slice(&bytes[..read]),
                Err(_) => {}
            }
        }
    };
    timeout(PATIENCE, trickle).await.expect("the node ends the connection");
    assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
    let problem = problem_of(&String::from_utf8_lossy(&answer));
    assert_eq!((problem.word(), problem.status), ("request-timeout", 408));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_with_408() {
    let node = TestNode::start_limited(short()).await;
    let alice = node.users.user("alice");
    let mut stream = node.connect(Some(&alice), b"http/1.1").await;
    let head = "POST /v1/fetch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let problem = problem_of(&rest(&mut stream).await);
    assert_eq!((problem.word(), problem.status), ("request-timeout", 408));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_not_before_its_time() {
    let node = TestNode::start_limited(short()).await;
    let mut stream = node.connect(None, b"http/1.1").await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let begun = Instant::now();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(1_150), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_does_not_read_answers_is_cut_off() {
    let node = TestNode::start_limited(short()).await;
    let mut stream = node.connect(None, b"http/1.1").await;
    let many = b"GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    // Until the node stops reading, because its answers are not taken; and then until it ends the connection.
    let greedy = async { while stream.write_all(&many).await.is_ok() {} };
    timeout(PATIENCE, greedy).await.expect("the node ends the connection");
}

#[tokio::test]
async fn what_is_no_http_is_answered_with_a_problem_document() {
    let node = TestNode::start().await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    let big = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "b".repeat(20_000));
    for (sent, word) in [
        ("nonsense\r\n\r\n", "bad-request"),
        ("GET / HTTP/7.0\r\n\r\n", "bad-request"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "bad-request"),
        ("POST /v1/list HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "bad-request"),
        (&long, "head-too-large"),
        (&many, "head-too-large"),
        (&big, "head-too-large"),
    ] {
        let mut stream = node.connect(None, b"http/1.1").await;
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let problem = problem_of(&rest(&mut stream).await);
        assert_eq!(problem.word(), word, "{}", sent.get(..50).unwrap_or(sent));
    }
    let alice = node.users.user("alice");
    let answer = node.send_http2(&alice, &format!("/{}", "x".repeat(20_000))).await;
    assert_eq!(
        (answer.status, answer.word().as_str()),
        (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large")
    );
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_it_may() {
    let node = TestNode::start_limited(Limits { connections_per_address: 3, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(node.connect(None, b"http/1.1").await);
    }
    let mut refused = TcpStream::connect(node.address).await.expect("the system takes it");
    rest(&mut refused).await;
    drop(held.pop());
    // The place is free when the node has seen the end.
    let again = async {
        loop {
            let stream = TcpStream::connect(node.address).await.expect("connects");
            let mut byte = [0];
            if timeout(Duration::from_millis(100), stream.peek(&mut byte)).await.is_err() {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("a place that was given back can be taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_no_more_requests_under_way_than_it_may_those_too_that_were_left() {
    let node = TestNode::start_limited(Limits { connections_per_address: 1, ..Limits::default() }).await;
    let alice = node.users.user("alice");
    let io = TokioIo::new(node.connect(Some(&alice), b"h2").await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("speaks HTTP/2");
    tokio::spawn(connection);
    let held = node.disk.hold();
    let left = tokio::spawn(sender.send_request(request(Method::POST, "/v1/list", "{}")));
    timeout(PATIENCE, node.disk.holds_a_write()).await.expect("the call comes to its entry in the log");
    left.abort();
    let mut ask = async || {
        let answer = sender.send_request(request(Method::POST, "/v1/list", "{}"));
        read(timeout(PATIENCE, answer).await.expect("answered at once").expect("answered")).await
    };
    let refused = ask().await;
    assert_eq!((refused.status, refused.word().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
    drop(held);
    let served = async { while ask().await.status != StatusCode::OK {} };
    timeout(PATIENCE, served).await.expect("the place is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_requests_whose_clients_went_away() {
    let mut node = TestNode::start().await;
    let alice = node.users.user("alice");
    let held = node.disk.hold();
    let mut stream = node.connect(Some(&alice), b"http/1.1").await;
    let call = "POST /v1/list HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(call.as_bytes()).await.expect("sent");
    timeout(PATIENCE, node.disk.holds_a_write()).await.expect("the call comes to its entry in the log");
    drop(stream);
    let audit = Arc::clone(&node.node.audit);
    let entries = audit.head().size;
    let mut stopping = std::pin::pin!(node.stop());
    assert!(timeout(Duration::from_millis(500), &mut stopping).await.is_err(), "the end did not wait");
    drop(held);
    timeout(PATIENCE, stopping).await.expect("ends");
    assert_eq!(audit.head().size, entries + 1, "the entry of the request is not in the log at the end");
}

#[tokio::test]
async fn more_connections_than_the_node_holds_wait_for_their_turn() {
    let node = TestNode::start_limited(Limits { connections: 2, ..Limits::default() }).await;
    let held = (node.connect(None, b"http/1.1").await, node.connect(None, b"http/1.1").await);
    let third = node.send(None, Method::GET, "/healthz", "");
    tokio::pin!(third);
    assert!(timeout(Duration::from_millis(300), &mut third).await.is_err(), "there is no room");
    drop(held.0);
    assert_eq!(timeout(PATIENCE, third).await.expect("has its turn").status, StatusCode::OK);
}

#[tokio::test]
async fn bodies_wait_for_room_and_are_told_when_there_is_none() {
    let limits = Limits { bodies_bytes: 1_000, body: Duration::from_millis(400), ..Limits::default() };
    let node = TestNode::start_limited(limits).await;
    let alice = node.users.user("alice");
    let answer = node.send(Some(&alice), Method::POST, "/v1/list", vec![b' '; 2_000]).await;
    assert_eq!((answer.status, answer.word().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
    let body = format!("{{}}{}", " ".repeat(800));
    for _ in 0..5 {
        let answer = node.send(Some(&alice), Method::POST, "/v1/list", body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "the room of a body that is done is given back");
    }
}

#[tokio::test]
async fn a_chunked_body_is_bounded_too() {
    let node = TestNode::start().await;
    let alice = node.users.user("alice");
    let mut stream = node.connect(Some(&alice), b"http/1.1").await;
    let head =
        "POST /v1/list HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..=Limits::default().body_bytes / 0x10000 {
        stream.write_all(chunk.as_bytes()).await.expect("sent");
    }
    assert_eq!(problem_of(&rest(&mut stream).await).word(), "body-too-large");
}
