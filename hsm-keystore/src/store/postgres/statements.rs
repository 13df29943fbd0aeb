//! Every statement of the store, in one place, so that a test can ask PostgreSQL how it would run each of them: all find
//! their rows by an index. A batch is one statement: its keys come as an array.

pub(super) const ORIGIN: &str = "SELECT node, canary, policy_canary FROM origin";
pub(super) const INSERT_ORIGIN: &str =
    "INSERT INTO origin (only_one, node, canary, policy_canary) VALUES (1, $1, $2, $3)";

pub(super) const REGISTRATION: &str = "SELECT content FROM registrations WHERE registrant = $1 AND id = $2";
/// Waits for a transaction under way that inserts the same, and gives nothing if that was committed.
pub(super) const INSERT_REGISTRATION: &str = "INSERT INTO registrations (registrant, id, content, at) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (registrant, id) DO NOTHING RETURNING number";
/// As above. The arrays are in the order of ids, so that two of these wait for each other in one order.
pub(super) const INSERT_KEYS: &str = "INSERT INTO keys (id, state, registration, registrant, changed, \
     manifest_digest, epoch, manifest, record, access, access_mac) SELECT new.id, $1::bigint, $2::bigint, $3::bytea, \
     $4::bigint, new.digest, new.epoch, new.manifest, new.record, new.access, new.mac \
     FROM unnest($5::bytea[], $6::bytea[], $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[], $11::bytea[]) \
     AS new (id, digest, epoch, manifest, record, access, mac) ON CONFLICT (id) DO NOTHING";

pub(super) const READ: &str = "SELECT k.id, k.state, k.registrant, k.manifest_digest, k.epoch, k.manifest, k.record, \
     k.access, k.access_mac FROM unnest($1::bytea[]) AS wanted (id) JOIN keys AS k ON k.id = wanted.id";
pub(super) const PAGE: &str = "SELECT id, state, registrant, access, access_mac FROM keys WHERE id > $1 \
     ORDER BY id LIMIT $2";
pub(super) const STATES: &str = "SELECT k.id, k.state, k.registration FROM unnest($1::bytea[]) AS wanted (id) \
     JOIN keys AS k ON k.id = wanted.id";
/// Keeps other transactions from changing these keys until this one ends.
pub(super) const LOCK: &str = "SELECT k.id, k.state, k.registrant, k.access, k.access_mac, k.record \
     FROM unnest($1::bytea[]) AS wanted (id) JOIN keys AS k ON k.id = wanted.id ORDER BY k.id FOR UPDATE OF k";

pub(super) const SET_STATE: &str = "UPDATE keys SET state = $2, changed = $3 WHERE id = ANY ($1::bytea[])";
pub(super) const SET_ACCESS: &str = "UPDATE keys AS k SET access = new.access, access_mac = new.mac, changed = $4 \
     FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS new (id, access, mac) WHERE k.id = new.id";
pub(super) const SET_RECORD: &str = "UPDATE keys AS k SET epoch = new.epoch, manifest = new.manifest, \
     manifest_digest = new.digest, record = new.record, changed = $6 \
     FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[]) \
     AS new (id, epoch, manifest, digest, record) WHERE k.id = new.id";
pub(super) const BURY: &str = "UPDATE keys SET state = $2, changed = $3, epoch = NULL, manifest = NULL, \
     record = NULL, access = NULL, access_mac = NULL WHERE id = ANY ($1::bytea[])";

pub(super) const WRAPPED_BY: &str = "SELECT substring(record FROM 20 FOR 12), id FROM keys WHERE record IS NOT NULL \
     AND substring(record FROM 4 FOR 16) = $1 AND (substring(record FROM 20 FOR 12), id) > ($2, $3) \
     ORDER BY substring(record FROM 20 FOR 12), id LIMIT $4";
pub(super) const COUNT_WRAPPED_BY: &str =
    "SELECT count(*) FROM keys WHERE record IS NOT NULL AND substring(record FROM 4 FOR 16) = $1";

/// Keeps the KEKs as they are until this transaction ends. A lock on their rows would write to them each time.
pub(super) const HOLD_KEKS: &str = "SELECT pg_advisory_xact_lock_shared(4992006)";
/// Waits until nobody holds the KEKs.
pub(super) const CHANGE_KEKS: &str = "SELECT pg_advisory_xact_lock(4992006)";
pub(super) const KEKS: &str = "SELECT id, state, uses, canary, since FROM keks ORDER BY number";
pub(super) const ACTIVE_KEK: &str = "SELECT id FROM keks WHERE state = 0";
pub(super) const KEK_STATE: &str = "SELECT state FROM keks WHERE id = $1";
pub(super) const INSERT_KEK: &str = "INSERT INTO keks (id, state, uses, canary, since) VALUES ($1, 0, 0, $2, $3)";
pub(super) const END_KEK: &str = "UPDATE keks SET state = 1, since = $1 WHERE state = 0";
pub(super) const SET_CANARY: &str = "UPDATE origin SET canary = $1";
pub(super) const RETIRE_KEK: &str = "UPDATE keks SET state = 2, since = $2 WHERE id = $1";
pub(super) const RESERVE_USES: &str =
    "UPDATE keks SET uses = uses + $2 WHERE id = $1 AND uses <= $3::bigint - $2::bigint RETURNING uses";
pub(super) const MORE_USES: &str = "UPDATE keks SET uses = uses + $1";

pub(super) const ENROLL: &str =
    "INSERT INTO devices (id, enrolment, mac, changed) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING";
pub(super) const DEVICE: &str = "SELECT enrolment, mac, id FROM devices WHERE id = $1";
pub(super) const DEVICES: &str = "SELECT enrolment, mac, id FROM devices ORDER BY id";
pub(super) const CHANGE_DEVICE: &str =
    "UPDATE devices SET enrolment = $4, mac = $5, changed = $6 WHERE id = $1 AND enrolment = $2 AND mac = $3";
/// Waits for a transaction under way that uses the same counter, and inserts nothing if that was committed.
pub(super) const USE_COUNTER: &str = "INSERT INTO device_counters (device, counter, key) VALUES ($1, $2, $3) \
     ON CONFLICT (device, counter) DO NOTHING";
pub(super) const COUNTER: &str = "SELECT key FROM device_counters WHERE device = $1 AND counter = $2";

pub(super) const NAMES: &str = "SELECT n.name, n.key, n.mac FROM unnest($1::bytea[]) AS wanted (name) \
     JOIN names AS n ON n.name = wanted.name";
/// Waits for a transaction under way that stores or frees the same name, and inserts nothing if it is another's then.
pub(super) const INSERT_NAMES: &str = "INSERT INTO names (name, key, mac) SELECT new.name, new.key, new.mac \
     FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS new (name, key, mac) ON CONFLICT (name) DO NOTHING";
pub(super) const FREE_NAMES: &str = "DELETE FROM names WHERE key = ANY ($1::bytea[])";

/// Reads a few rows, however many keys there are.
pub(super) const COUNTS: &str = "SELECT state, sum(keys)::bigint FROM counts GROUP BY state";

/// Those of the above that requests use.
#[cfg(test)]
pub(super) const ALL: [&str; 30] = [
    ORIGIN,
    INSERT_ORIGIN,
    REGISTRATION,
    INSERT_REGISTRATION,
    INSERT_KEYS,
    READ,
    PAGE,
    STATES,
    LOCK,
    SET_STATE,
    SET_ACCESS,
    SET_RECORD,
    BURY,
    WRAPPED_BY,
    COUNT_WRAPPED_BY,
    HOLD_KEKS,
    ACTIVE_KEK,
    KEK_STATE,
    INSERT_KEK,
    END_KEK,
    RETIRE_KEK,
    RESERVE_USES,
    ENROLL,
    DEVICE,
    CHANGE_DEVICE,
    USE_COUNTER,
    COUNTER,
    NAMES,
    INSERT_NAMES,
    FREE_NAMES,
];
