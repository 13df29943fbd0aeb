//! Imaging devices and their counters on PostgreSQL.

use eds_core::ids::{DeviceId, KeyId};
use postgres::{Row, types::ToSql};

use super::{
    PostgresStore, bounded,
    call::{Call, End},
    rows::Bytes,
    statements,
};
use crate::store::{DeviceCounter, DeviceStore, StoreError, StoredDevice, devices::counter_bytes};

impl DeviceStore for PostgresStore {
    fn enroll(&self, device: &StoredDevice, at: u64) -> Result<bool, StoreError> {
        let id = device.device.as_bytes().as_slice();
        let values: [&(dyn ToSql + Sync); 4] = [&id, &device.enrolment, &device.mac, &bounded(at)];
        self.call(|call| call.execute(statements::ENROLL, &values).map(|rows| End::Keep(rows == 1)))
    }

    fn device(&self, device: DeviceId) -> Result<Option<StoredDevice>, StoreError> {
        self.call(|call| {
            let rows = call.query(statements::DEVICE, &[&device.as_bytes().as_slice()])?;
            rows.first().map(stored).transpose().map(End::Undo)
        })
    }

    fn devices(&self) -> Result<Vec<StoredDevice>, StoreError> {
        self.call(|call| {
            call.query(statements::DEVICES, &[])?.iter().map(stored).collect::<Result<_, _>>().map(End::Undo)
        })
    }

    fn change_device(&self, seen: &StoredDevice, new: &StoredDevice, at: u64) -> Result<bool, StoreError> {
        let id = seen.device.as_bytes().as_slice();
        let values: [&(dyn ToSql + Sync); 6] =
            [&id, &seen.enrolment, &seen.mac, &new.enrolment, &new.mac, &bounded(at)];
        self.call(|call| call.execute(statements::CHANGE_DEVICE, &values).map(|rows| End::Keep(rows == 1)))
    }
}

fn stored(row: &Row) -> Result<StoredDevice, postgres::Error> {
    let device = DeviceId::from_bytes(row.try_get::<_, Bytes<16>>(2)?.0);
    Ok(StoredDevice { device, enrolment: row.try_get(0)?, mac: row.try_get(1)? })
}

/// Uses a counter up for a key; the key that it was used for before, if it was.
pub(super) fn use_up(
    call: &mut Call<'_>,
    counter: &DeviceCounter,
    key: KeyId,
) -> Result<Option<KeyId>, postgres::Error> {
    let (device, number) = (counter.device.as_bytes().as_slice(), counter_bytes(counter));
    let name: [&(dyn ToSql + Sync); 3] = [&device, &number.as_slice(), &key.as_bytes().as_slice()];
    if call.execute(statements::USE_COUNTER, &name)? == 1 {
        return Ok(None);
    }
    let used = call.query(statements::COUNTER, &[name[0], name[1]])?;
    used.first().map(|row| Ok(KeyId::from_bytes(row.try_get::<_, Bytes<16>>(0)?.0))).transpose()
}
