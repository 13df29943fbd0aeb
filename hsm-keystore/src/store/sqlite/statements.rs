//! Every statement of the store, in one place, so that a test can ask SQLite how it would run each of them: all find
//! their rows by an index, so that nothing in the cost of a call grows with the number of keys stored.

pub(super) const ORIGIN: &str = "SELECT node, canary, policy_canary FROM origin";
pub(in crate::store) const INSERT_ORIGIN: &str =
    "INSERT INTO origin (only, node, canary, policy_canary) VALUES (1, ?1, ?2, ?3)";
pub(super) const PING: &str = "SELECT only FROM origin";

pub(super) const REGISTRATION: &str = "SELECT content FROM registrations WHERE registrant = ?1 AND id = ?2";
pub(super) const INSERT_REGISTRATION: &str =
    "INSERT INTO registrations (registrant, id, content, at) VALUES (?1, ?2, ?3, ?4)";
pub(super) const INSERT_KEY: &str = "INSERT INTO keys (id, state, registration, registrant, manifest_digest, epoch, \
     manifest, record, access, access_mac, changed) VALUES (:id, :state, :registration, :registrant, \
     :manifest_digest, :epoch, :manifest, :record, :access, :access_mac, :changed)";

pub(super) const KEY: &str = "SELECT state, registrant, manifest_digest, epoch, manifest, record, access, access_mac \
     FROM keys WHERE id = ?1";
pub(super) const PAGE: &str = "SELECT id, state, registrant, access, access_mac FROM keys WHERE id > ?1 \
     ORDER BY id LIMIT ?2";
pub(super) const STATE: &str = "SELECT state FROM keys WHERE id = ?1";
pub(super) const STATE_AND_REGISTRANT: &str = "SELECT state, registrant FROM keys WHERE id = ?1";
pub(super) const STATE_AND_ACCESS: &str = "SELECT state, access IS ?2 AND access_mac IS ?3 FROM keys WHERE id = ?1";
pub(super) const STATE_AND_RECORD: &str = "SELECT state, record IS ?2 FROM keys WHERE id = ?1";

pub(super) const SET_STATE: &str = "UPDATE keys SET state = ?2, changed = ?3 WHERE id = ?1";
pub(super) const SET_ACCESS: &str = "UPDATE keys SET access = ?2, access_mac = ?3, changed = ?4 WHERE id = ?1";
pub(super) const SET_RECORD: &str = "UPDATE keys SET epoch = ?2, manifest = ?3, manifest_digest = ?4, record = ?5, \
     changed = ?6 WHERE id = ?1";
pub(super) const BURY: &str = "UPDATE keys SET state = ?2, changed = ?3, epoch = NULL, manifest = NULL, \
     record = NULL, access = NULL, access_mac = NULL WHERE id = ?1";

/// In the order of the index; the comparison with the data key alone lets it begin where it must.
pub(super) const WRAPPED_BY: &str = "SELECT substr(record, 20, 12), id FROM keys WHERE record IS NOT NULL \
     AND substr(record, 4, 16) = ?1 AND substr(record, 20, 12) >= ?2 AND (substr(record, 20, 12) > ?2 OR id > ?3) \
     ORDER BY substr(record, 20, 12), id LIMIT ?4";
pub(super) const COUNT_WRAPPED_BY: &str =
    "SELECT count(*) FROM keys WHERE record IS NOT NULL AND substr(record, 4, 16) = ?1";

pub(super) const KEKS: &str = "SELECT id, state, uses, canary, since FROM keks ORDER BY number";
pub(super) const ACTIVE_KEK: &str = "SELECT id FROM keks WHERE state = 0";
pub(super) const KEK_STATE: &str = "SELECT state FROM keks WHERE id = ?1";
pub(in crate::store) const INSERT_KEK: &str =
    "INSERT INTO keks (id, state, uses, canary, since) VALUES (?1, 0, 0, ?2, ?3)";
pub(super) const END_KEK: &str = "UPDATE keks SET state = 1, since = ?1 WHERE state = 0";
pub(super) const SET_CANARY: &str = "UPDATE origin SET canary = ?1 WHERE only = 1";
pub(super) const RETIRE_KEK: &str = "UPDATE keks SET state = 2, since = ?2 WHERE id = ?1";
pub(super) const RESERVE_USES: &str =
    "UPDATE keks SET uses = uses + ?2 WHERE id = ?1 AND uses <= ?3 - ?2 RETURNING uses";
pub(in crate::store) const MORE_USES: &str = "UPDATE keks SET uses = uses + ?1";

pub(super) const ENROLL: &str =
    "INSERT INTO devices (id, enrolment, mac, changed) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING";
pub(super) const DEVICE: &str = "SELECT enrolment, mac FROM devices WHERE id = ?1";
pub(super) const DEVICES: &str = "SELECT enrolment, mac, id FROM devices ORDER BY id";
pub(super) const CHANGE_DEVICE: &str =
    "UPDATE devices SET enrolment = ?4, mac = ?5, changed = ?6 WHERE id = ?1 AND enrolment = ?2 AND mac = ?3";
pub(super) const COUNTER: &str = "SELECT key FROM device_counters WHERE device = ?1 AND counter = ?2";
pub(super) const USE_COUNTER: &str = "INSERT INTO device_counters (device, counter, key) VALUES (?1, ?2, ?3)";

pub(super) const NAME: &str = "SELECT key, mac FROM names WHERE name = ?1";
pub(super) const INSERT_NAME: &str = "INSERT INTO names (name, key, mac) VALUES (?1, ?2, ?3)";
pub(super) const FREE_NAME: &str = "DELETE FROM names WHERE key = ?1";

/// Reads a few rows, however many keys there are.
pub(super) const COUNTS: &str = "SELECT state, keys FROM counts";

/// Those of the above that requests use.
#[cfg(test)]
pub(super) const ALL: [&str; 33] = [
    ORIGIN,
    INSERT_ORIGIN,
    PING,
    REGISTRATION,
    INSERT_REGISTRATION,
    INSERT_KEY,
    KEY,
    PAGE,
    STATE,
    STATE_AND_REGISTRANT,
    STATE_AND_ACCESS,
    STATE_AND_RECORD,
    SET_STATE,
    SET_ACCESS,
    SET_RECORD,
    BURY,
    WRAPPED_BY,
    COUNT_WRAPPED_BY,
    ACTIVE_KEK,
    KEK_STATE,
    INSERT_KEK,
    END_KEK,
    SET_CANARY,
    RETIRE_KEK,
    RESERVE_USES,
    ENROLL,
    DEVICE,
    CHANGE_DEVICE,
    COUNTER,
    USE_COUNTER,
    NAME,
    INSERT_NAME,
    FREE_NAME,
];
