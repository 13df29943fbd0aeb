//! What a node tells Prometheus, in OpenMetrics text.
//!
//! Labels are operations, results and states, of which there are a few: never an id, a name or a subject. Counting a
//! request costs two look-ups in small tables; what is a state, as of token and audit log, is looked at when it is read.
//! The database is asked for a few rows then, however many keys it has; when it does not answer, its numbers are left out.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::{
    hsm::{Health, self_test::described},
    node::{Node, kek::MOST_USES},
    store::{Counts, KekState, ShareStore},
};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The numbers of a node.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    request_seconds: Family<Operation, Histogram>,
    token_seconds: Family<Answered, Histogram>,
    token_state: Family<State, Gauge>,
    connections: Gauge,
    ended: Family<Reason, Counter>,
    audit_entries: Gauge,
    audit_signed_entries: Gauge,
    audit_signed_at: Gauge,
    certificate_ends: Gauge,
    keys: Family<State, Gauge>,
    keks: Family<State, Gauge>,
    kek_uses: Family<NoLabels, Gauge>,
    kek_most_uses: Gauge,
    database: Gauge,
    /// States are set and written out by one reader at a time.
    reading: Mutex<()>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Answered {
    operation: String,
    result: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Operation {
    operation: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// Of a number that there is at times only.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct NoLabels {}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// How a connection ended, or why there was none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Its client closed it, or the server stopped.
    Closed,
    /// The client was too slow with something, or idle for too long.
    Slow,
    /// There was no TLS handshake, or a refused one.
    NoHandshake,
    /// Its address has as many connections as it may.
    Refused,
}

impl End {
    const ALL: [Self; 4] = [Self::Closed, Self::Slow, Self::NoHandshake, Self::Refused];

    const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Slow => "slow",
            Self::NoHandshake => "no-handshake",
            Self::Refused => "refused",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("eds");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The release that runs", version);
        let of_request = Family::<Operation, _>::new_with_constructor(seconds as fn() -> Histogram);
        let of_token = Family::<Answered, _>::new_with_constructor(seconds as fn() -> Histogram);
        let new = Self {
            requests: Family::default(),
            request_seconds: of_request,
            token_seconds: of_token,
            token_state: Family::default(),
            connections: Gauge::default(),
            ended: Family::default(),
            audit_entries: Gauge::default(),
            audit_signed_entries: Gauge::default(),
            audit_signed_at: Gauge::default(),
            certificate_ends: Gauge::default(),
            keys: Family::default(),
            keks: Family::default(),
            kek_uses: Family::default(),
            kek_most_uses: Gauge::default(),
            database: Gauge::default(),
            reading: Mutex::default(),
            registry: Registry::default(),
        };
        registry.register(
            "requests",
            "Requests by operation, and by `ok` or the word of the error",
            new.requests.clone(),
        );
        let help = "Time from the head of a request to its answer";
        registry.register_with_unit("request", help, Unit::Seconds, new.request_seconds.clone());
        let help = "Time of calls to the token, waiting for a session included";
        registry.register_with_unit("token_call", help, Unit::Seconds, new.token_seconds.clone());
        registry.register("token_state", "1 for the state that the token is in", new.token_state.clone());
        registry.register("connections", "Connections that are open", new.connections.clone());
        registry.register("connections_ended", "Connections that ended, and how", new.ended.clone());
        registry.register("audit_entries", "Entries of the audit log", new.audit_entries.clone());
        let help = "Entries of the audit log under its last signed checkpoint";
        registry.register("audit_signed_entries", help, new.audit_signed_entries.clone());
        let help = "When the last checkpoint of the audit log was signed, in seconds since 1970; 0 for never";
        registry.register_with_unit("audit_signed_time", help, Unit::Seconds, new.audit_signed_at.clone());
        let help = "When the node's certificate ends, in seconds since 1970; 0 when that is not known";
        registry.register_with_unit("certificate_end_time", help, Unit::Seconds, new.certificate_ends.clone());
        let help = "1 when the database answered at this reading";
        registry.register("database_up", help, new.database.clone());
        registry.register("keys", "Keys that are stored, by state", new.keys.clone());
        registry.register("keks", "KEKs that the node ever had, by state", new.keks.clone());
        let help = "Uses of the active KEK, counted before they are made";
        registry.register("kek_uses", help, new.kek_uses.clone());
        registry.register("kek_uses_limit", "Uses that a KEK may have", new.kek_most_uses.clone());
        for end in End::ALL {
            drop(new.ended.get_or_create(&Reason { reason: end.word() }));
        }
        Self { registry, ..new }
    }
}

/// From a tenth of a millisecond to thirteen seconds.
fn seconds() -> Histogram {
    Histogram::new([0.0001, 0.0004, 0.0016, 0.0064, 0.0256, 0.1024, 0.4096, 1.6384, 6.5536, 13.1072])
}

impl Metrics {
    /// A request was answered. `result` is `ok` or the word of an error.
    pub fn answered(&self, operation: &str, result: &'static str, took: Duration) {
        self.requests.get_or_create(&Answered { operation: operation.to_owned(), result }).inc();
        let operation = Operation { operation: operation.to_owned() };
        self.request_seconds.get_or_create(&operation).observe(took.as_secs_f64());
    }

    /// A call to the token ended.
    pub fn token_called(&self, operation: &str, done: bool, took: Duration) {
        let result = if done { "ok" } else { "failed" };
        let labels = Answered { operation: operation.to_owned(), result };
        self.token_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A connection is open for as long as what this returns is there.
    pub fn connection(&self) -> Connection<'_> {
        self.connections.inc();
        Connection(self)
    }

    /// A connection ended.
    pub fn ended(&self, end: End) {
        self.ended.get_or_create(&Reason { reason: end.word() }).inc();
    }

    /// When the certificate of the node ends.
    pub fn set_certificate_end(&self, at: i64) {
        self.certificate_ends.set(at);
    }

    /// Everything, as Prometheus reads it. Blocks: the database is asked.
    pub fn text(&self, node: &Node) -> String {
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match *node.hsm.health().borrow() {
            Health::Working => "working",
            Health::Recovering { .. } => "recovering",
            Health::Refused { .. } => "refused",
            Health::Lost { .. } => "lost",
        };
        for state in ["working", "recovering", "refused", "lost"] {
            self.token_state.get_or_create(&State { state }).set(i64::from(state == now));
        }
        let signed = node.audit.last_checkpoint();
        let (size, time) = signed.map_or((0, 0), |(checkpoint, _)| (checkpoint.size, checkpoint.time));
        self.audit_entries.set(number(node.audit.head().size));
        self.audit_signed_entries.set(number(size));
        self.audit_signed_at.set(number(time));
        self.ask(node.store.as_ref());
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics cannot be written out");
        }
        text
    }
}

impl Metrics {
    fn ask(&self, store: &dyn ShareStore) {
        for family in [&self.keys, &self.keks] {
            family.clear();
        }
        self.kek_uses.clear();
        let answer = store.counts().and_then(|counts| Ok((counts, store.keks()?)));
        self.database.set(i64::from(answer.is_ok()));
        let (counts, keks) = match answer {
            Ok(answer) => answer,
            Err(error) => return tracing::warn!(error = described(&error), "the metrics have no numbers of keys"),
        };
        let Counts { pending, active, tombstones } = counts;
        for (state, keys) in [("pending", pending), ("active", active), ("tombstone", tombstones)] {
            self.keys.get_or_create(&State { state }).set(number(keys));
        }
        for state in [KekState::Active, KekState::ReadOnly, KekState::Retired] {
            let count = keks.iter().filter(|kek| kek.state == state).count();
            self.keks.get_or_create(&State { state: state.name() }).set(number(count as u64));
        }
        if let Some(active) = keks.iter().find(|kek| kek.state == KekState::Active) {
            self.kek_uses.get_or_create(&NoLabels {}).set(number(active.uses));
        }
        self.kek_most_uses.set(number(MOST_USES));
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// A connection that is open.
pub struct Connection<'a>(&'a Metrics);

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
