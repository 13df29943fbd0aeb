//! Imaging devices and their counters in the SQLite file.

use eds_core::ids::{DeviceId, KeyId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, bounded, statements};
use crate::store::{DeviceCounter, DeviceStore, StoreError, StoredDevice, devices::counter_bytes};

impl DeviceStore for SqliteStore {
    fn enroll(&self, device: &StoredDevice, at: u64) -> Result<bool, StoreError> {
        let StoredDevice { device, enrolment, mac } = device.clone();
        self.writing(move |transaction| {
            let values = params![device.as_bytes(), enrolment, mac, bounded(at)];
            transaction.execute(statements::ENROLL, values).map(|rows| rows == 1)
        })
    }

    fn device(&self, device: DeviceId) -> Result<Option<StoredDevice>, StoreError> {
        self.reading(|reader| {
            let mut select = reader.prepare_cached(statements::DEVICE)?;
            select.query_row([device.as_bytes()], |row| stored(device, row)).optional()
        })
    }

    fn devices(&self) -> Result<Vec<StoredDevice>, StoreError> {
        self.reading(|reader| {
            let mut select = reader.prepare(statements::DEVICES)?;
            select.query_map([], |row| stored(DeviceId::from_bytes(row.get(2)?), row))?.collect()
        })
    }

    fn change_device(&self, seen: &StoredDevice, new: &StoredDevice, at: u64) -> Result<bool, StoreError> {
        let (seen, new) = (seen.clone(), new.clone());
        self.writing(move |transaction| {
            let (id, old) = (seen.device.as_bytes(), (&seen.enrolment, &seen.mac));
            let values = params![id, old.0, old.1, new.enrolment, new.mac, bounded(at)];
            transaction.execute(statements::CHANGE_DEVICE, values).map(|rows| rows == 1)
        })
    }
}

fn stored(device: DeviceId, row: &Row<'_>) -> rusqlite::Result<StoredDevice> {
    Ok(StoredDevice { device, enrolment: row.get(0)?, mac: row.get(1)? })
}

/// The key that a counter was used for.
pub(super) fn key_of(transaction: &Connection, counter: &DeviceCounter) -> rusqlite::Result<Option<KeyId>> {
    let mut select = transaction.prepare_cached(statements::COUNTER)?;
    let values = params![counter.device.as_bytes(), counter_bytes(counter)];
    select.query_row(values, |row| row.get(0).map(KeyId::from_bytes)).optional()
}

/// Uses a counter up.
pub(super) fn use_up(transaction: &Connection, counter: &DeviceCounter, key: KeyId) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(statements::USE_COUNTER)?;
    insert.execute(params![counter.device.as_bytes(), counter_bytes(counter), key.as_bytes()]).map(drop)
}
