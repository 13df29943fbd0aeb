//! A real rsyslog takes the messages; connections that break move no cursor; what was delivered is not sent again.

use std::{
    collections::BTreeSet,
    io::BufRead,
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, pki_types::PrivatePkcs8KeyDer};

use eds_audit::testing::{ORIGIN, Place};

use super::*;

/// An authority and a certificate of 127.0.0.1, in files.
struct Certificates {
    directory: tempfile::TempDir,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Certificates {
    fn new() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().expect("a key");
        let authority_certificate = authority.self_signed(&authority_key).expect("signed");
        let issuer = Issuer::from_params(&authority, &authority_key);
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = certificate.signed_by(&key, &issuer).expect("signed");
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: String| fs::write(directory.path().join(name), text).expect("written");
        write("ca.pem", authority_certificate.pem());
        write("cert.pem", certificate.pem());
        write("key.pem", key.serialize_pem());
        Self { directory, chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn receiver(&self, port: u16) -> Receiver {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        let tls = client_config(&self.path("ca.pem"), Some((&certificate, &key))).expect("TLS files");
        Receiver { address: format!("127.0.0.1:{port}"), tls: Arc::new(tls), close: Close::Notified }
    }

    fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)
            .expect("a certificate");
        Arc::new(config)
    }
}

fn header() -> Header {
    Header { host: "node1".to_owned(), process: 1 }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A receiver that checks framing, reads `messages` of them and then closes in order, or breaks off.
fn listen(certificates: &Certificates, messages: Option<usize>) -> (u16, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let config = certificates.server();
    let read = move || {
        let (stream, _) = listener.accept().expect("a connection");
        let connection = ServerConnection::new(config).expect("a connection");
        let mut input = io::BufReader::new(StreamOwned::new(connection, stream));
        let mut received = Vec::new();
        loop {
            if messages == Some(received.len()) {
                return received;
            }
            let mut length = Vec::new();
            input.read_until(b' ', &mut length).expect("a count, or the end");
            if length.is_empty() {
                break;
            }
            let length = String::from_utf8(length).expect("digits");
            assert!(!length.starts_with('0'));
            let mut message = vec![0; length.trim_end().parse().expect("a count")];
            input.read_exact(&mut message).expect("a whole message");
            received.push(String::from_utf8(message).expect("UTF-8"));
        }
        let stream = input.get_mut();
        stream.conn.send_close_notify();
        stream.flush().expect("closed in order");
        received
    };
    (port, thread::spawn(read))
}

fn entries_of(messages: &[String]) -> Vec<u64> {
    let number = |message: &String| message.split_once("entry=\"")?.1.split_once('"')?.0.parse().ok();
    messages.iter().map(|message| number(message).expect("an entry")).collect()
}

#[test]
fn each_entry_is_delivered_and_the_next_batch_goes_on_after_it() {
    let (place, certificates) = (Place::new(), Certificates::new());
    let file = place.directory.path().join("cursor");
    for (from, to) in [(0, 5), (5, 12)] {
        place.fill(to);
        let (port, received) = listen(&certificates, None);
        let mut cursor = Cursor::load(&file).expect("loaded");
        let sent = deliver(place.path(), ORIGIN, &certificates.receiver(port), &header(), &mut cursor);
        assert_eq!(sent.expect("delivered"), Delivered { entries: to - from, next: to });
        let received = received.join().expect("framed right");
        assert!(entries_of(&received).into_iter().eq(from..to));
        assert!(received.iter().all(|message| message.starts_with("<8") && message.ends_with("</AuditMessage>")));
        let nothing = deliver(place.path(), ORIGIN, &certificates.receiver(port), &header(), &mut cursor);
        assert_eq!(nothing.expect("nobody is asked"), Delivered { entries: 0, next: to });
        assert_eq!(Cursor::load(&file).expect("loaded"), cursor);
    }
}

#[test]
fn a_connection_that_breaks_moves_no_cursor() {
    let (place, certificates) = (Place::new(), Certificates::new());
    place.fill(5);
    let mut cursor = Cursor::load(&place.directory.path().join("cursor")).expect("loaded");
    let untouched = cursor.clone();
    let nobody = certificates.receiver(free_port());
    assert!(matches!(deliver(place.path(), ORIGIN, &nobody, &header(), &mut cursor), Err(SendError::Receiver { .. })));
    for messages in 0..=5 {
        let (port, received) = listen(&certificates, Some(messages));
        let sent = deliver(place.path(), ORIGIN, &certificates.receiver(port), &header(), &mut cursor);
        assert!(matches!(sent, Err(SendError::Receiver { .. })), "broken after {messages}: {sent:?}");
        assert_eq!(received.join().map(|received| received.len()).ok(), Some(messages));
        assert_eq!(cursor, untouched);
    }
    let (port, received) = listen(&certificates, None);
    deliver(place.path(), ORIGIN, &certificates.receiver(port), &header(), &mut cursor).expect("delivered");
    assert!(entries_of(&received.join().expect("framed right")).into_iter().eq(0..5));
}

#[test]
fn a_receiver_of_another_authority_gets_nothing() {
    let (place, certificates) = (Place::new(), Certificates::new());
    place.fill(1);
    let (port, received) = listen(&certificates, None);
    let mut cursor = Cursor::load(&place.directory.path().join("cursor")).expect("loaded");
    let stranger = Certificates::new().receiver(port);
    assert!(matches!(
        deliver(place.path(), ORIGIN, &stranger, &header(), &mut cursor),
        Err(SendError::Receiver { .. })
    ));
    assert!(received.join().is_err(), "no handshake");
}

#[test]
fn a_log_that_was_changed_since_is_not_exported_further() {
    let (place, certificates) = (Place::new(), Certificates::new());
    place.fill(5);
    let file = place.directory.path().join("cursor");
    let mut cursor = Cursor::load(&file).expect("loaded");
    cursor.advance(5, [7; 32]).expect("written");
    place.fill(6);
    let sent = deliver(place.path(), ORIGIN, &certificates.receiver(free_port()), &header(), &mut cursor);
    assert!(matches!(sent, Err(SendError::Changed { sequence: 4 })));
    // Shorter than what was exported, or than what was acknowledged.
    cursor.advance(9, [7; 32]).expect("written");
    let sent = deliver(place.path(), ORIGIN, &certificates.receiver(free_port()), &header(), &mut cursor);
    assert!(matches!(sent, Err(SendError::Changed { sequence: 8 })));
    fs::write(place.path().join(reader::ACKNOWLEDGED), reader::acknowledged_bytes(7)).expect("written");
    let mut fresh = Cursor::load(&place.directory.path().join("fresh")).expect("loaded");
    let (port, received) = listen(&certificates, None);
    let sent = deliver(place.path(), ORIGIN, &certificates.receiver(port), &header(), &mut fresh);
    assert!(matches!(sent, Err(SendError::Changed { sequence: 6 })), "{sent:?}");
    assert_eq!(fresh.next(), 0);
    drop(received);
    for wrong in ["", "5", "0 00\n", "5 00\n", "x 00\n"] {
        fs::write(&file, wrong).expect("written");
        assert!(matches!(Cursor::load(&file), Err(SendError::Io { .. })), "{wrong:?}");
    }
}

/// rsyslogd with its gnutls driver, on loopback, that writes what it gets to a file.
struct Rsyslog {
    process: Child,
    port: u16,
    output: PathBuf,
}

impl Rsyslog {
    fn start(certificates: &Certificates) -> Self {
        let (port, output) = (free_port(), certificates.path("received"));
        let of = |name: &str| certificates.path(name).display().to_string();
        let configuration = format!(
            r#"global(workDirectory="{directory}" maxMessageSize="64k" defaultNetstreamDriver="gtls"
                defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{cert}"
                defaultNetstreamDriverKeyFile="{key}")
            module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
            template(name="raw" type="string" string="%rawmsg:::drop-last-lf%\n")
            input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="audit")
            ruleset(name="audit") {{ action(type="omfile" file="{output}" template="raw" asyncWriting="off") }}
            "#,
            directory = certificates.directory.path().display(),
            ca = of("ca.pem"),
            cert = of("cert.pem"),
            key = of("key.pem"),
            output = output.display(),
        );
        let file = certificates.path("rsyslog.conf");
        fs::write(&file, configuration).expect("written");
        let process = Command::new("/usr/sbin/rsyslogd")
            .arg("-n")
            .arg("-f")
            .arg(&file)
            .arg("-i")
            .arg(certificates.path("pid"))
            .stdout(Stdio::null())
            .spawn()
            .expect("rsyslogd, of the Debian packages rsyslog and rsyslog-gnutls");
        Self { process, port, output }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn rsyslog_takes_every_message() {
    let (place, certificates) = (Place::new(), Certificates::new());
    place.fill(200);
    let rsyslog = Rsyslog::start(&certificates);
    let receiver = Receiver { close: Close::Plain, ..certificates.receiver(rsyslog.port) };
    let mut cursor = Cursor::load(&place.directory.path().join("cursor")).expect("loaded");
    let limit = std::time::Instant::now() + Duration::from_secs(30);
    // Until it listens.
    let delivered = loop {
        match deliver(place.path(), ORIGIN, &receiver, &header(), &mut cursor) {
            Ok(delivered) => break delivered,
            Err(error) => {
                assert!(std::time::Instant::now() < limit, "{error}: {:?}", std::error::Error::source(&error))
            }
        }
        thread::yield_now();
    };
    assert_eq!(delivered, Delivered { entries: 200, next: 200 });
    // It answered the end of the stream: everything is read, and soon written.
    let received = loop {
        let text = fs::read_to_string(&rsyslog.output).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= 200 || std::time::Instant::now() > limit {
            break lines;
        }
        thread::yield_now();
    };
    let numbers: BTreeSet<u64> = entries_of(&received).into_iter().collect();
    assert!(numbers.into_iter().eq(0..200), "{} lines", received.len());
    assert!(received[0].starts_with("<85>1 2025-11-24T16:00:00.000Z node1 eds-keystored 1 DICOM+RFC3881 [eds@32473 "));
    assert!(received[0].contains("\u{feff}<?xml") && received[0].ends_with("</AuditMessage>"));
}
