use std::{
    net::{TcpListener, TcpStream},
    thread,
};

use super::{
    super::command::{C_STORE, Status, element},
    *,
};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let there = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
    (listener.accept().expect("accepts").0, there)
}

fn wanted() -> Vec<Context> {
    let of = |class: &str| Context { class: class.into(), syntax: IMPLICIT_LITTLE.into() };
    vec![of("1.2.840.10008.1.1"), of("1.2.840.10008.5.1.4.1.1.2")]
}

fn caller() -> Caller {
    Caller { calling: "CT1".into(), called: "EDS".into() }
}

fn judge(_: &(), class: &str, syntaxes: &[String]) -> Verdict {
    match (class, syntaxes.first()) {
        ("1.2.840.10008.5.1.4.1.1.2", Some(syntax)) => Verdict::Accept(syntax.clone()),
        _ => Verdict::NoSuchClass,
    }
}

/// Both sides of an association, and what each does with it.
fn between<A: Send, B>(
    acceptor: impl FnOnce(Association<TcpStream>) -> A + Send,
    requestor: impl FnOnce(Association<TcpStream>) -> B,
) -> (A, B) {
    let (here, there) = pair();
    thread::scope(|scope| {
        let accepting = scope.spawn(move || {
            let (association, told, ()) = Association::accept(here, |_| Ok(()), judge).expect("accepts");
            assert_eq!(told, caller());
            acceptor(association)
        });
        let asked = requestor(Association::request(there, &caller(), &wanted()).expect("is accepted"));
        (accepting.join().expect("ends"), asked)
    })
}

#[test]
fn a_large_object_arrives_in_fragments_and_is_answered() {
    let sent: Vec<u8> = (0..700_001_u32).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
    let (received, status) = between(
        |mut association| {
            let message = association.receive().expect("receives").expect("a message");
            let mut received = Vec::new();
            association.data(message.context).read_to_end(&mut received).expect("reads");
            association.send(message.context, &message.command.answer(Status::SUCCESS), None).expect("answers");
            assert!(association.receive().expect("receives").is_none(), "a release");
            received
        },
        |mut association| {
            assert_eq!(association.contexts.len(), 1, "one class was refused");
            let context = association.context_for("1.2.840.10008.5.1.4.1.1.2", IMPLICIT_LITTLE).expect("agreed on");
            let command = Command::request(C_STORE, 1).with_data_set();
            let mut outgoing = association.begin(context, &command).expect("begins");
            outgoing.write_all(&sent).expect("writes");
            let association_again = outgoing.finish().expect("finishes");
            let answer = association_again.receive().expect("receives").expect("an answer");
            association.release().expect("releases");
            answer.command.status()
        },
    );
    assert!(received == sent);
    assert_eq!(status, Some(Status::SUCCESS));
}

#[test]
fn an_object_that_is_given_up_is_never_whole_for_the_peer() {
    let (read, ()) = between(
        |mut association| {
            let message = association.receive().expect("receives").expect("a message");
            let mut received = Vec::new();
            association.data(message.context).read_to_end(&mut received).map(|_| received)
        },
        |mut association| {
            let mut outgoing = association.begin(3, &Command::request(C_STORE, 1).with_data_set()).expect("begins");
            outgoing.write_all(&[7; 300_000]).expect("writes");
            drop(outgoing);
            association.abort();
        },
    );
    let error = read.expect_err("is not whole");
    assert!(error.to_string().contains("aborted"), "{error}");
}

#[test]
fn who_is_not_admitted_is_told_so() {
    let (here, there) = pair();
    thread::scope(|scope| {
        let accepting =
            scope.spawn(move || Association::accept(here, |_| Err::<(), _>(Refusal::Calling), judge).map(|_| ()));
        let refused = Association::request(there, &caller(), &wanted()).map(|_| ());
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        assert!(matches!(accepting.join().expect("ends"), Err(Error::Refused(_))));
    });
}

/// Bytes of a data PDU.
fn raw(fragment: &[u8], claimed: u32) -> Vec<u8> {
    let mut out = vec![DATA_PDU, 0];
    out.extend_from_slice(&u32::try_from(fragment.len()).expect("short").to_be_bytes());
    out.extend_from_slice(&claimed.to_be_bytes());
    out.extend_from_slice(fragment.get(4..).unwrap_or_default());
    out
}

#[test]
fn what_breaks_the_protocol_ends_the_association() {
    let command = Command::request(C_STORE, 1).encode();
    let length = u32::try_from(command.len()).expect("short") + 2;
    let fragment = |context: u8, flags: u8| [&[0, 0, 0, 0, context, flags][..], &command].concat();
    for (bytes, why) in [
        (raw(&fragment(3, LAST), length), "data before a command"),
        (raw(&fragment(1, LAST | COMMAND), length), "a context that was refused"),
        (raw(&fragment(3, LAST | COMMAND), length + 1), "a fragment longer than its PDU"),
        (raw(&fragment(3, LAST | COMMAND), 1), "a fragment without flags"),
        (vec![DATA_PDU, 0, 0xFF, 0xFF, 0xFF, 0xFF], "a PDU larger than agreed on"),
        (vec![9, 0, 0, 0, 0, 0], "an unknown PDU"),
        (vec![2, 0, 0xFF, 0xFF, 0xFF, 0xFF], "a huge PDU"),
    ] {
        let (received, ()) = between(
            |mut association| association.receive().map(|message| message.is_some()),
            |mut association| association.stream.write_all(&bytes).expect("writes"),
        );
        assert!(matches!(received, Err(Error::Protocol(_))), "{why}: {received:?}");
    }
}

#[test]
fn a_cancel_is_seen_without_waiting_for_it() {
    between(
        |mut association| {
            assert!(!association.is_ready());
            association.send(3, &Command::default().with_number(element::MESSAGE_ID, 1), None).expect("sends");
            let message = association.receive().expect("receives").expect("a cancel");
            assert_eq!(message.command.number(element::RESPONDED_TO), Some(1));
        },
        |mut association| {
            association.receive().expect("receives").expect("a message");
            let cancel = Command::default()
                .with_number(element::COMMAND_FIELD, 0x0FFF)
                .with_number(element::RESPONDED_TO, 1)
                .with_number(element::DATA_SET_TYPE, 0x0101);
            association.send(3, &cancel, None).expect("sends");
            // Held open until the other side has read it.
            let _ = association.receive();
        },
    );
}
