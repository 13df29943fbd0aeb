//! Rows as they come from PostgreSQL, read into the types of the store.

use std::error::Error;

use eds_core::{
    api::KeyState,
    ids::{Epoch, KeyId},
};
use postgres::{
    Row,
    types::{FromSql, Type},
};

use crate::store::{Kek, KekState, Listed, StoredAccess, StoredBody, StoredKey};

/// Exactly so many bytes of a column.
pub(super) struct Bytes<const N: usize>(pub(super) [u8; N]);

impl<'a, const N: usize> FromSql<'a> for Bytes<N> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::BYTEA
    }
}

/// A state of a column.
pub(super) struct Code(pub(super) KeyState);

impl<'a> FromSql<'a> for Code {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        match i64::from_sql(kind, raw)? {
            0 => Ok(Self(KeyState::Pending)),
            1 => Ok(Self(KeyState::Active)),
            2 => Ok(Self(KeyState::Tombstone)),
            other => Err(format!("{other} is no state of a key").into()),
        }
    }

    fn accepts(kind: &Type) -> bool {
        <i64 as FromSql>::accepts(kind)
    }
}

/// A `BIGINT` that holds a `u32`.
struct Narrow(u32);

impl<'a> FromSql<'a> for Narrow {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_sql(kind, raw)?.try_into()?))
    }

    fn accepts(kind: &Type) -> bool {
        <i64 as FromSql>::accepts(kind)
    }
}

/// What is stored of a key, from the columns of `READ`.
pub(super) fn stored(row: &Row) -> Result<(KeyId, StoredKey), postgres::Error> {
    let key = KeyId::from_bytes(row.try_get::<_, Bytes<16>>(0)?.0);
    let state = row.try_get::<_, Code>(1)?.0;
    let body = match state {
        KeyState::Tombstone => None,
        KeyState::Pending | KeyState::Active => Some(StoredBody {
            epoch: Epoch::new(row.try_get::<_, Narrow>(4)?.0),
            manifest: row.try_get(5)?,
            record: row.try_get(6)?,
            access: StoredAccess { list: row.try_get(7)?, mac: row.try_get(8)? },
        }),
    };
    let (registrant, manifest_digest) = (row.try_get::<_, Bytes<32>>(2)?.0, row.try_get::<_, Bytes<32>>(3)?.0);
    Ok((key, StoredKey { key, state, registrant, manifest_digest, body }))
}

/// An entry of a listing, from the columns of `PAGE`.
pub(super) fn listed(row: &Row) -> Result<Listed, postgres::Error> {
    Ok(Listed {
        key: KeyId::from_bytes(row.try_get::<_, Bytes<16>>(0)?.0),
        state: row.try_get::<_, Code>(1)?.0,
        registrant: row.try_get::<_, Bytes<32>>(2)?.0,
        access: access(row, 3)?,
    })
}

/// An access list, from this column and the next; a tombstone has none.
pub(super) fn access(row: &Row, column: usize) -> Result<Option<StoredAccess>, postgres::Error> {
    let (list, mac): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.try_get(column)?, row.try_get(column + 1)?);
    Ok(list.zip(mac).map(|(list, mac)| StoredAccess { list, mac }))
}

/// A state of a KEK of a column.
pub(super) struct KekCode(pub(super) KekState);

impl<'a> FromSql<'a> for KekCode {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let code = i64::from_sql(kind, raw)?;
        KekState::of_code(code).map(Self).ok_or_else(|| format!("{code} is no state of a KEK").into())
    }

    fn accepts(kind: &Type) -> bool {
        <i64 as FromSql>::accepts(kind)
    }
}

/// A row of the KEKs.
pub(super) fn kek(row: &Row) -> Result<Kek, postgres::Error> {
    Ok(Kek {
        id: row.try_get::<_, Bytes<16>>(0)?.0,
        state: row.try_get::<_, KekCode>(1)?.0,
        uses: row.try_get::<_, i64>(2)?.unsigned_abs(),
        canary: row.try_get(3)?,
        since: row.try_get::<_, i64>(4)?.unsigned_abs(),
    })
}
