//! The conformance suite over a real PostgreSQL, and which connections are refused.

use super::*;
use crate::metadata::{Location, Metadata, conformance};

#[expect(dead_code, unreachable_pub, reason = "a file of the test bench, of which less is needed here")]
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
    let mut client = Client::connect(&other, NoTls).expect("connects");
    client.execute("UPDATE eds_metadata.layout SET version = 9", &[]).expect("updates");
    assert!(matches!(
        Metadata::open(&Location::Postgres(location(&other))),
        Err(Error::Version { found: 9, known: 2, .. })
    ));
}

#[test]
fn a_connection_that_would_be_in_clear_is_refused() {
    for wrong in
        ["host=db.example dbname=eds", "dbname=eds", "host=/run hostaddr=10.0.0.1", "host=/run password=x", "=", ""]
    {
        assert!(matches!(Postgres::open(&location(wrong)), Err(Error::Location { .. })), "{wrong}");
    }
}
