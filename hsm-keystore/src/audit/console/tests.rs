//! Acts of officers reach the log, with a server and without, and nothing else does by that way.

use eds_audit::testing::Place;
use eds_core::ids::KeyId;

use super::listener::Listener;
use super::*;
use crate::audit::{Entry, log::Record};

const NOW: u64 = 1_764_000_000_000;

fn console(place: &Place) -> Console {
    Console { options: place.options.clone(), signer: None, patience: Duration::from_secs(1) }
}

fn told(record: &Record) -> (&str, &str, &str) {
    let decision = &record.entry.decision;
    (decision.operation.as_str(), decision.outcome.reason().unwrap_or("allowed"), &decision.detail)
}

/// One act that is done and one that is refused, and what the log says of them.
fn acts(place: &Place) {
    let console = console(place);
    let act = console.begin(Operation::KEK_ROTATE, "KEK 1 is active").expect("written");
    let told = place.records().last().map(|record| record.entry.decision.detail.clone());
    assert_eq!(told.as_deref(), Some("begun: KEK 1 is active"), "durable before anything is done");
    act.done("KEK 2 wraps new shares").expect("written");
    let act = console.begin(Operation::KEK_RETIRE, "KEK 2").expect("written");
    act.refused(&std::io::Error::other("KEK 2 is active\nhint: not for the log")).expect("written");
}

fn assert_acts(place: &Place) {
    let records = place.records();
    let all: Vec<_> = records.iter().map(told).collect();
    let expected = [
        ("kek.rotate", "allowed", "begun: KEK 1 is active"),
        ("kek.rotate", "allowed", "done: KEK 2 wraps new shares"),
        ("kek.retire", "allowed", "begun: KEK 2"),
        ("kek.retire", "KEK 2 is active", ""),
    ];
    assert_eq!(all, expected);
    let me = format!("uid {}", geteuid().as_raw());
    let requests: Vec<_> = records.iter().map(|record| record.entry.decision.request).collect();
    assert!(requests[0] == requests[1] && requests[2] == requests[3] && requests[0] != requests[2], "{requests:?}");
    for Record { entry: Entry { decision, .. }, .. } in &records {
        assert_eq!((decision.who.proof, decision.who.display.as_str()), (Proof::Console, me.as_str()));
        assert!(decision.who.evidence.contains("login"), "{:?}", decision.who);
        assert!(decision.time > NOW);
    }
}

#[test]
fn an_act_is_in_the_log_before_it_is_done_and_after_without_a_server() {
    let place = Place::new();
    acts(&place);
    assert_acts(&place);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_is_in_the_log_of_the_server_that_has_it_open() {
    // Under a path that is too long for a socket's name.
    let place = Place::under(&"long".repeat(40));
    let (log, _) = place.open().expect("opens");
    let log = Arc::new(log);
    // One that a killed server left.
    std::fs::write(place.path().join("console"), []).expect("written");
    let listening = tokio::spawn(Listener::bind(place.path(), Arc::clone(&log)).expect("listens").run());
    let place = tokio::task::spawn_blocking(move || {
        acts(&place);
        place
    });
    let place = place.await.expect("no panic");
    assert_acts(&place);
    listening.abort();
    let _ = listening.await;
    assert!(!place.path().join("console").exists());
    // The log is open still, and nobody listens: that is told, and nothing may be done.
    let refused = tokio::task::spawn_blocking(move || {
        let console = console(&place);
        console.begin(Operation::KEK_ROTATE, "KEK 1").map(drop).expect_err("in use")
    });
    let refused = refused.await.expect("no panic").to_string();
    assert!(refused.contains("is in use") && refused.contains("hint:"), "{refused}");
    drop(log);
}

#[test]
fn a_server_that_dies_before_it_answers_leaves_the_entry_to_the_command() {
    let place = Place::new();
    let socket = std::os::unix::net::UnixListener::bind(place.path().join("console")).expect("bound");
    let dying = std::thread::spawn(move || {
        let (stream, _) = socket.accept().expect("asked");
        drop((stream, socket));
    });
    console(&place).tell(Operation::AUDIT_CREATE, "log x").expect("written");
    dying.join().expect("no panic");
    assert_eq!(place.records().iter().map(told).collect::<Vec<_>>(), [("audit.create", "allowed", "log x")]);
}

#[test]
fn nothing_is_begun_when_the_log_cannot_be_written() {
    let place = Place::new();
    place.fill(3);
    let segment = &place.segments()[0];
    let mut bytes = std::fs::read(segment).expect("read");
    let last = bytes.len() - 12;
    bytes[last] ^= 1;
    std::fs::write(segment, bytes).expect("written");
    assert!(matches!(console(&place).begin(Operation::KEK_ROTATE, "x"), Err(ConsoleError::Open(_))));
    let gone = Place::new();
    std::fs::remove_dir_all(gone.path()).expect("removed");
    assert!(matches!(console(&gone).begin(Operation::KEK_ROTATE, "x"), Err(ConsoleError::Open(OpenError::Missing(_)))));
}

#[test]
fn only_officers_of_this_machine_are_heard_and_only_about_what_they_do() {
    let good = Decision { detail: "x".to_owned(), ..Decision::plain(1, Operation::KEK_ROTATE, officer()) };
    let asked = |decision: &Decision, peer| {
        let mut bytes = Vec::new();
        decision.encode(0, &mut bytes).expect("encodes");
        listener::accepted(&bytes, peer, 105, NOW)
    };
    for peer in [0, 105] {
        let accepted = asked(&good, peer).expect("heard");
        // Time and user are the server's word.
        assert_eq!((accepted.time, accepted.who.display), (NOW, format!("uid {peer}")));
        assert_eq!((accepted.who.evidence, accepted.detail), (good.who.evidence.clone(), good.detail.clone()));
    }
    let by = |change: fn(&mut Decision)| {
        let mut decision = good.clone();
        change(&mut decision);
        decision
    };
    let refused = [
        (good.clone(), 1_000, "uid 1000 is not heard"),
        (by(|d| d.operation = Operation::FETCH), 0, "not an act of officers"),
        (by(|d| d.operation = Operation::STOP), 0, "not an act of officers"),
        (by(|d| d.who.proof = Proof::Certificate), 0, "not an act of officers"),
        (by(|d| d.who.proof = Proof::Node), 0, "not an act of officers"),
        (by(|d| d.who.subject = Some([1; 32])), 0, "names no key"),
        (by(|d| d.keys = vec![KeyId::from_bytes([1; 16])]), 0, "names no key"),
        (by(|d| d.peer = Some([192, 0, 2, 1].into())), 0, "names no key"),
    ];
    for (decision, peer, word) in refused {
        let reason = asked(&decision, peer).expect_err("not heard");
        assert!(reason.contains(word), "{reason}");
    }
    assert!(listener::accepted(b"noise", 0, 0, NOW).expect_err("noise").contains("not an entry"));
}
