//! The conformance suite over a real PostgreSQL, and which connections are refused.

use std::{
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;
use crate::metadata::{Location, Metadata, conformance};

#[expect(unreachable_pub, reason = "a file of the test bench")]
#[path = "../../../../tests/src/postgres.rs"]
mod server;

fn location(connection: &str) -> PostgresLocation {
    PostgresLocation { connection: connection.into(), password_file: None }
}

#[test]
fn conforms() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("has an address").port();
    drop(listener);
    let server = server::Server::start(port, |_| Ok(())).expect("PostgreSQL starts: run `make setup`");
    let mut number = 0;
    conformance::run(|| {
        number += 1;
        let database = server.make_database(&format!("metadata{number}")).expect("makes a database");
        Location::Postgres(location(&database))
    });
    let other = server.make_database("other").expect("makes a database");
    drop(Metadata::open(&Location::Postgres(location(&other))).expect("opens"));
    let mut client = Client::connect(&other, postgres::NoTls).expect("connects");
    client.execute("UPDATE eds_metadata.layout SET version = 9", &[]).expect("updates");
    assert!(matches!(
        Metadata::open(&Location::Postgres(location(&other))),
        Err(Error::Version { found: 9, known: 2, .. })
    ));
}

/// An authority, and what it vouches for.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Hospital CA");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signs").pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Certificate and key, both in PEM.
    fn vouches(&self, common_name: &str, host: &[&str]) -> (String, String) {
        let hosts: Vec<String> = host.iter().map(|host| String::from(*host)).collect();
        let mut params = CertificateParams::new(hosts).expect("a host name");
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signs").pem(), key.serialize_pem())
    }
}

fn write_private(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("writes");
}

/// A server that speaks TLS alone on the network: with a password for the database `secret`, with certificates for `certified`.
fn server_with_tls(authority: &Authority) -> server::Server {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("has an address").port();
    drop(listener);
    let (certificate, key) = authority.vouches("db", &["localhost"]);
    let prepare = |data: &Path| {
        std::fs::write(data.join("server.crt"), certificate)?;
        write_private(&data.join("server.key"), &key);
        std::fs::write(data.join("ca.crt"), &authority.certificate)?;
        let settings = "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.crt'\n";
        let mut file = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
        file.write_all(settings.as_bytes())?;
        let access = "local all all trust\nhostssl secret all 127.0.0.1/32 scram-sha-256\n\
                      hostssl certified all 127.0.0.1/32 cert\n";
        std::fs::write(data.join("pg_hba.conf"), access)
    };
    server::Server::start(port, prepare).expect("PostgreSQL starts: run `make setup`")
}

#[test]
fn over_the_network_it_is_tls_to_the_right_server_with_a_password_of_a_file_or_a_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = server_with_tls(&authority);
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("ca.pem"), &authority.certificate).expect("writes");
    std::fs::write(at("other.pem"), &stranger.certificate).expect("writes");
    write_private(at("password").as_ref(), "open sesame\n");
    write_private(at("wrong").as_ref(), "open barley\n");
    let local = server.make_database("secret").expect("makes a database");
    server.make_database("certified").expect("makes a database");
    let mut client = Client::connect(&local, postgres::NoTls).expect("connects");
    client.batch_execute("ALTER USER eds PASSWORD 'open sesame'").expect("sets a password");

    let port = server.port();
    let open = |connection: &str, password: Option<&str>| {
        let location = PostgresLocation {
            connection: format!("port={port} user=eds {connection}"),
            password_file: password.map(|name| at(name).into()),
        };
        Metadata::open(&Location::Postgres(location)).map(drop)
    };
    let refused = |connection: &str, password: Option<&str>| {
        let error = open(connection, password).expect_err("is refused");
        assert!(matches!(error, Error::Postgres { .. }), "{error}");
        let told = format!("{error:?} {error}");
        assert!(!told.contains("open sesame") && !told.contains("open barley"), "{told}");
    };
    let ca = format!("sslrootcert={}", at("ca.pem"));
    let secret = format!("host=localhost dbname=secret {ca}");
    open(&secret, Some("password")).expect("opens with the password");
    open(&format!("{secret} sslmode=verify-full"), Some("password")).expect("opens, said in full");
    open(&format!("{secret} channel_binding=require"), Some("password")).expect("opens bound to the certificate");
    refused(&secret, Some("wrong"));
    refused(&secret, None);
    // Another authority, and another name than the certificate has.
    refused(&format!("host=localhost dbname=secret sslrootcert={}", at("other.pem")), Some("password"));
    refused(&format!("host=127.0.0.1 dbname=secret {ca}"), Some("password"));

    let (certificate, key) = authority.vouches("eds", &[]);
    std::fs::write(at("me.pem"), certificate).expect("writes");
    write_private(at("me.key").as_ref(), &key);
    let certified = format!("host=localhost dbname=certified {ca}");
    open(&format!("{certified} sslcert={} sslkey={}", at("me.pem"), at("me.key")), None).expect("opens");
    refused(&certified, None);
    let (certificate, key) = stranger.vouches("eds", &[]);
    std::fs::write(at("they.pem"), certificate).expect("writes");
    write_private(at("they.key").as_ref(), &key);
    refused(&format!("{certified} sslcert={} sslkey={}", at("they.pem"), at("they.key")), None);
    std::fs::set_permissions(at("me.key"), std::fs::Permissions::from_mode(0o644)).expect("opens it up");
    let exposed = open(&format!("{certified} sslcert={} sslkey={}", at("me.pem"), at("me.key")), None);
    assert!(matches!(exposed, Err(Error::Location { .. })), "a key that others may read");
}

#[test]
fn a_connection_that_would_be_in_clear_is_refused() {
    for wrong in
        ["host=db.example dbname=eds", "dbname=eds", "host=/run hostaddr=10.0.0.1", "host=/run password=x", "=", ""]
    {
        assert!(matches!(Postgres::open(&location(wrong)), Err(Error::Location { .. })), "{wrong}");
    }
}
