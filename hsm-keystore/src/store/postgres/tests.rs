//! The store on a PostgreSQL server of its own, which each test starts and ends.

#[expect(unreachable_pub, reason = "the bench shares this file, and there it is public")]
#[path = "../../../../tests/src/postgres.rs"]
mod server;

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, sync::Barrier};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use self::server::Server;
use super::*;
use crate::{
    config::StoreConfig,
    store::{
        KekState, backup,
        sqlite::SqliteStore,
        tests::{ALICE, BOB, KEK, conforms, id, new_key, origin, record, registration, states},
    },
};

/// A server for one test.
fn start() -> Server {
    start_with(|_| Ok(()))
}

fn start_with(prepare: impl FnOnce(&Path) -> std::io::Result<()>) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr()).expect("a free port").port();
    Server::start(port, prepare).expect("PostgreSQL starts")
}

fn configured(connection: String) -> PostgresConfig {
    PostgresConfig { connection, password_file: None, tls_ca: None, connections: 4 }
}

/// A new database in it.
fn database(server: &Server, name: &str) -> PostgresConfig {
    configured(server.make_database(name).expect("made"))
}

/// A connection without any of the store's settings.
fn client(server: &Server, database: &str) -> postgres::Client {
    postgres::Client::connect(&server.connection(database), postgres::NoTls).expect("connects")
}

#[test]
fn postgres_conforms() {
    let server = start();
    let config = database(&server, "one");
    assert!(!PostgresStore::exists(&config).expect("answers"));
    let store = PostgresStore::create(&config, &origin()).expect("made");
    conforms(&store);
    assert!(PostgresStore::exists(&config).expect("answers"));
    assert!(PostgresStore::create(&config, &origin()).is_err(), "existing tables were made anew");

    // A connection that the server cut while it was idle costs nobody an error.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eds-keystored'";
    assert!(!client(&server, "one").query(cut, &[]).expect("answers").is_empty());
    let active = store.keks().expect("reads").pop().expect("one").id;
    let key = NewKey { record: record(active, 90), ..new_key(90) };
    assert_eq!(store.register(&registration(ALICE, 90, 90), &[key]).expect("stores"), Registered::Stored);
    drop(server);
    let error = store.ping().expect_err("the server is gone");
    assert!(error.may_pass(), "{error:?}");
}

/// What two pools do is what two processes of one node do.
#[test]
fn of_changes_by_several_processes_one_wins() {
    let server = start();
    let config = database(&server, "shared");
    let stores =
        [PostgresStore::create(&config, &origin()).expect("made"), PostgresStore::open(&config).expect("opens")];
    let race = |work: &(dyn Fn(u8, &PostgresStore) -> bool + Sync)| -> usize {
        let start = Barrier::new(6);
        thread::scope(|scope| {
            let racer = |racer: u8| {
                let (start, store) = (&start, &stores[usize::from(racer % 2)]);
                scope.spawn(move || {
                    start.wait();
                    work(racer, store)
                })
            };
            let racers: Vec<_> = (0..6).map(racer).collect();
            racers.into_iter().map(|racer| racer.join().expect("no panic")).filter(|won| *won).count()
        })
    };
    for round in 0..10u8 {
        // The same keys in both orders, so that a careless store waits for itself in a circle.
        let (one, two) = (new_key(100 + 2 * round), new_key(101 + 2 * round));
        let keys = [[one.clone(), two.clone()], [two, one.clone()]];
        let register = |racer: u8, store: &PostgresStore| {
            let registration = registration(BOB, 10 * round + racer, racer);
            let answer = store.register(&registration, &keys[usize::from(racer % 2)]).expect("answers");
            assert!(matches!(answer, Registered::Stored | Registered::KeyExists(_)), "{answer:?}");
            answer == Registered::Stored
        };
        assert_eq!(race(&register), 1);
        let change = |racer: u8, store: &PostgresStore| {
            let new = StoredAccess { list: vec![racer], mac: vec![racer] };
            let change = AccessChange { key: one.key, seen: one.access.clone(), new };
            store.change_access(&[change], 1).expect("answers") == [Changed::Done(KeyState::Pending)]
        };
        assert_eq!(race(&change), 1);
        // The same registration at once: each is told that it is stored, and it is stored once.
        let again = |_: u8, store: &PostgresStore| {
            let key = new_key(200 + round);
            let answer = store.register(&registration(ALICE, round, round), &[key]).expect("answers");
            matches!(answer, Registered::Stored | Registered::Before(_))
        };
        assert_eq!(race(&again), 6);
    }
}

/// A registration under way and a rotation decide one after the other: nothing is stored under a KEK that is not active.
#[test]
fn no_record_names_a_kek_that_was_read_only_before_it() {
    let server = start();
    let config = database(&server, "keks");
    let stores =
        [PostgresStore::create(&config, &origin()).expect("made"), PostgresStore::open(&config).expect("opens")];
    let registered = thread::scope(|scope| {
        let store = &stores[0];
        let registrant = scope.spawn(move || {
            let register = |number: u8| {
                let key = NewKey { key: KeyId::from_bytes([number; 16]), ..new_key(1) };
                store.register(&registration(ALICE, number, number), &[key]).expect("answers")
            };
            (0..=255).take_while(|number| register(*number) == Registered::Stored).count() as u64
        });
        while stores[1].count_wrapped_by(&KEK).expect("counts") < 5 {}
        assert_eq!(stores[1].begin_kek(&record([71; 16], 0), 5).expect("answers"), KekChanged::Done);
        let then = stores[1].count_wrapped_by(&KEK).expect("counts");
        (registrant.join().expect("no panic"), then)
    });
    assert_eq!(registered.0, registered.1);
    assert_eq!(stores[1].retire_kek(&KEK, 6).expect("answers"), KekChanged::StillWraps(registered.0));
}

#[test]
fn no_statement_reads_a_table_from_end_to_end() {
    let server = start();
    let config = database(&server, "plans");
    drop(PostgresStore::create(&config, &origin()).expect("made"));
    let (_, manager) = manager(&config).expect("a good configuration");
    let mut session = manager.connect().expect("connects");
    let mut plan = |sql: &str| -> Vec<String> {
        session.client.batch_execute(&format!("PREPARE asked AS {sql}")).expect(sql);
        let parameters = (1..).take_while(|number| sql.contains(&format!("${number}"))).count();
        let unknown = vec!["NULL"; parameters].join(", ");
        let call = if parameters == 0 { "asked".to_owned() } else { format!("asked({unknown})") };
        let rows = session.client.query(&format!("EXPLAIN (COSTS off) EXECUTE {call}"), &[]).expect(sql);
        session.client.batch_execute("DEALLOCATE asked").expect(sql);
        rows.iter().map(|row| row.get(0)).collect()
    };
    let reads_all = |line: &&String| line.contains("Seq Scan") || (line.contains("Index") && line.contains("Full"));
    for sql in statements::ALL {
        let lines = plan(sql);
        // The table `origin` has one row.
        let read: Vec<_> = lines.iter().filter(reads_all).filter(|line| !line.contains("Seq Scan on origin")).collect();
        assert!(read.is_empty(), "{sql}\n{lines:#?}");
        let indexed =
            lines.iter().any(|line| line.contains("Index Cond")) || !sql.contains("keys") || sql.contains("INSERT");
        assert!(indexed, "{sql}\n{lines:#?}");
    }
    let whole = plan("SELECT id FROM keys WHERE changed = 1");
    assert!(whole.iter().any(|line| reads_all(&line)), "the test looks for other words: {whole:?}");
}

#[test]
fn older_tables_are_migrated_and_newer_or_careless_servers_are_refused() {
    let server = start();
    let config = database(&server, "old");
    let mut client = client(&server, "old");
    client.batch_execute(&format!("CREATE SCHEMA eds; SET search_path = eds; {}", schema::STEPS[0])).expect("made");
    let Origin { node, canary, policy_canary } = origin();
    client.execute(statements::INSERT_ORIGIN, &[&node.as_bytes().as_slice(), &canary, &policy_canary]).expect("made");
    assert_eq!(PostgresStore::open_as_it_is(&config).expect("opens").schema().expect("reads"), 1);
    // A step that fails leaves everything as it was.
    client.batch_execute("CREATE TABLE keys_by_kek ()").expect("made");
    assert!(PostgresStore::open(&config).is_err());
    assert_eq!(PostgresStore::open_as_it_is(&config).expect("opens").schema().expect("reads"), 1);
    client.batch_execute("DROP TABLE keys_by_kek").expect("dropped");
    let store = PostgresStore::open(&config).expect("migrated");
    assert_eq!((store.schema().expect("reads"), store.origin().expect("reads")), (crate::store::SCHEMA, origin()));
    let kek = store.keks().expect("reads").remove(0);
    assert_eq!((kek.id, kek.state, kek.uses, kek.canary), (KEK, KekState::Active, 1 << 24, origin().canary));

    client.batch_execute("UPDATE schema_version SET version = 1000").expect("changed");
    let newer = PostgresStore::open(&config).err().expect("newer").to_string();
    assert!(newer.contains("version 1000") && newer.contains("use the release"), "{newer}");
    let empty = PostgresStore::open(&database(&server, "empty")).err().expect("empty").to_string();
    assert!(empty.contains("eds-keystored init"), "{empty}");

    let config = database(&server, "careless");
    drop(PostgresStore::create(&config, &origin()).expect("made"));
    client.batch_execute("ALTER SYSTEM SET full_page_writes = off").expect("set");
    client.batch_execute("SELECT pg_reload_conf()").expect("set");
    let mut told = None;
    // The server reads its configuration when it gets to it.
    for _ in 0..10_000 {
        told = PostgresStore::open(&config).err().map(|error| error.to_string());
        if told.is_some() {
            break;
        }
    }
    assert!(told.as_ref().is_some_and(|told| told.contains("full_page_writes = on")), "{told:?}");
}

#[test]
fn a_backup_goes_from_either_store_to_either() {
    let server = start();
    let directory = tempfile::tempdir().expect("a directory");
    let config = StoreConfig::Postgres(database(&server, "source"));
    let StoreConfig::Postgres(postgres) = &config else { return };
    let store = PostgresStore::create(postgres, &origin()).expect("made");
    store.register(&registration(ALICE, 1, 1), &[new_key(1), new_key(2), new_key(3)]).expect("stores");
    store.confirm(&[id(2)], &ALICE, 2).expect("answers");
    store.withdraw(&[id(3)], &ALICE, 3).expect("answers");
    let all = [id(1), id(2), id(3)];
    let whole = store.read(&all).expect("reads");

    let file = directory.path().join("backup");
    let contents = backup::back_up(&config, &file).expect("written");
    assert_eq!((contents.keys, contents.registrations, contents.origin), (3, 1, origin()));
    assert!(backup::back_up(&config, &file).is_err(), "a backup was overwritten");
    assert!(backup::restore(&file, &config).is_err(), "a database was overwritten");

    let sqlite = StoreConfig::Sqlite(directory.path().join("keys.db"));
    backup::restore(&file, &sqlite).expect("restored");
    let StoreConfig::Sqlite(restored) = &sqlite else { return };
    assert_eq!(SqliteStore::open(restored).expect("opens").read(&all).expect("reads"), whole);

    let back = directory.path().join("back");
    backup::back_up(&sqlite, &back).expect("written");
    let other = database(&server, "other");
    backup::restore(&back, &StoreConfig::Postgres(other.clone())).expect("restored");
    let store = PostgresStore::open(&other).expect("opens");
    assert_eq!((store.read(&all).expect("reads"), store.origin().expect("reads")), (whole, origin()));
    // Nobody knows how often the KEK was used after a backup: at each restore much is counted.
    let uses: Vec<_> = store.keks().expect("reads").iter().map(|kek| kek.uses).collect();
    assert_eq!(uses, [2 << 28]);
    // Numbers of registrations and KEKs go on where they were.
    assert_eq!(store.register(&registration(ALICE, 2, 2), &[new_key(4)]).expect("stores"), Registered::Stored);
    assert_eq!(store.begin_kek(&record([71; 16], 0), 5).expect("answers"), KekChanged::Done);
    let again = store.register(&registration(ALICE, 1, 1), &[new_key(1)]).expect("answers");
    assert_eq!(again, Registered::Before(vec![KeyState::Pending]));
    assert_eq!(states(&store, &[4]), [Some(KeyState::Pending)]);

    // The columns of a backup are those of the tables.
    let raw = rusqlite::Connection::open(restored).expect("opens");
    for (table, columns) in copy::TABLES {
        let mut info = raw.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).expect("prepared");
        let names: Vec<String> =
            info.query_map([], |row| row.get(0)).expect("reads").collect::<Result<_, _>>().expect("reads");
        assert_eq!(names, columns.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{table}");
    }
}

#[test]
fn a_server_beyond_the_machine_is_reached_by_verified_tls_or_not_at_all() {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("made")).expect("made")
    };
    let (ours, other) = (authority("ours"), authority("other"));
    let key = KeyPair::generate().expect("made");
    let server =
        CertificateParams::new(["localhost".to_owned()]).expect("a name").signed_by(&key, &ours).expect("made");
    let server = start_with(|data| {
        fs::write(data.join("server.crt"), server.pem())?;
        fs::write(data.join("server.key"), key.serialize_pem())?;
        fs::set_permissions(data.join("server.key"), fs::Permissions::from_mode(0o600))?;
        fs::write(data.join("postgresql.auto.conf"), "ssl = on\n")
    });
    client(&server, "postgres").batch_execute("ALTER ROLE eds PASSWORD 'elephant'").expect("set");
    drop(database(&server, "far"));

    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        fs::write(directory.path().join(name), text).expect("written");
        fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o600)).expect("set");
        Some(directory.path().join(name))
    };
    let far = |host: &str, tls_ca, password_file| PostgresConfig {
        connection: format!("host={host} port={} user=eds dbname=far", server.port()),
        password_file,
        tls_ca,
        connections: 2,
    };
    let (ca, wrong_ca) = (file("ca.pem", &ours.pem()), file("wrong.pem", &other.pem()));
    let password = file("password", "elephant\n");
    let good = far("localhost", ca.clone(), password.clone());
    drop(PostgresStore::create(&good, &origin()).expect("made"));
    let mut client = client(&server, "postgres");
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'eds-keystored' AND version <> 'TLSv1.3'";
    let store = PostgresStore::open(&good).expect("opens");
    store.ping().expect("answers");
    assert_eq!(client.query_one(encrypted, &[]).expect("answers").get::<_, i64>(0), 0, "a session is not on TLS 1.3");

    let refused = |config: &PostgresConfig, words: &str| {
        let error = PostgresStore::open(config).err().expect("refused");
        let told = crate::hsm::self_test::described(&error);
        assert!(told.contains(words), "{told}");
        assert!(!told.contains("elephant"), "{told}");
    };
    refused(&far("localhost", wrong_ca, password.clone()), "certificate");
    // The certificate is for a name, and this is another.
    refused(&far("127.0.0.1", ca.clone(), password.clone()), "certificate");
    refused(&far("localhost", None, password.clone()), "store.tls_ca");
    refused(&far("localhost", file("empty.pem", ""), password), "certificate");
    let open = directory.path().join("open");
    fs::write(&open, "elephant").expect("written");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("set");
    refused(&far("localhost", ca.clone(), Some(open)), "lets others read it");
    let mut loose = far("localhost", ca, None);
    loose.connection += " password=elephant";
    let told = PostgresStore::open(&loose).err().expect("refused").to_string();
    assert!(told.contains("store.password_file") && !told.contains("elephant"), "{told}");
    assert!(!format!("{loose} {loose:?}").contains("elephant"));
    fs::set_permissions(good.password_file.as_ref().expect("named"), fs::Permissions::from_mode(0o640)).expect("set");
    let told = PostgresStore::open(&good).err().expect("refused").to_string();
    assert!(told.contains("mode 0640 lets others read it") && !told.contains("elephant"), "{told}");
}
