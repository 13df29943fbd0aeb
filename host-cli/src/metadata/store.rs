//! The statements of the metadata database. They are written once: in the SQL that SQLite and PostgreSQL share, with
//! placeholders numbered in the order in which they appear.

use std::collections::HashMap;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use eds_core::ids::{FileId, KeyId};

use super::{
    Error, GroupKeys, Inserted, KeyScope, Known, ProjectKey, Record, Role, SealedPrivatePart,
    attributes::Node,
    policy::Level,
    query::{Condition, Found, Matching, Query},
};
use crate::{catalog::Content, database::array};

/// What it is called in errors.
pub(super) const WHAT: &str = "metadata";

/// A database that runs statements in transactions.
pub(super) trait Database: Send {
    /// Runs `work` in one transaction, which lasts when `work` succeeds. It may be run again when it lost a race.
    fn transaction(&mut self, mode: Mode, work: Work<'_>) -> Result<(), Error>;
}

/// What is done in a transaction.
pub(super) type Work<'a> = &'a mut dyn FnMut(&mut dyn Statements) -> Result<(), Error>;

/// What a transaction is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Looking only.
    Read,
    /// Looking and changing.
    Write,
}

/// A transaction.
pub(super) trait Statements {
    /// Runs a statement; returns how many rows it changed.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Error>;
    /// Runs a statement; returns its rows.
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, Error>;
}

/// A value of a column.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    /// None.
    Null,
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

type Connection<'a> = &'a mut dyn Database;

pub(super) fn insert(
    database: Connection<'_>,
    records: &[Record],
    groups: &[GroupKeys],
) -> Result<Vec<Inserted>, Error> {
    run(database, |statements| {
        for group in groups {
            statements.execute(INSERT_GROUP, &group_values(group))?;
        }
        let mut stored = Stored::default();
        records.iter().map(|record| insert_one(statements, &mut stored, record)).collect()
    })
}

/// Patients, studies and series that this transaction stored already, by level and name.
#[derive(Default)]
struct Stored<'a>(HashMap<(i64, &'a str), (i64, &'a Node)>);

impl<'a> Stored<'a> {
    /// The row of a node, stored unless the image before brought the very same.
    fn row(
        &mut self,
        statements: &mut dyn Statements,
        (level, sql): (Level, &str),
        node: &'a Node,
        above: Option<i64>,
    ) -> Result<i64, Error> {
        let known = self.0.get(&(level.code(), node.name.as_str())).copied();
        if let Some((row, before)) = known
            && before == node
        {
            return Ok(row);
        }
        let row = match known {
            Some((row, _)) => row,
            None => upsert(statements, sql, node, above)?,
        };
        insert_attributes(statements, level, row, node)?;
        self.0.insert((level.code(), &node.name), (row, node));
        Ok(row)
    }
}

fn insert_one<'a>(
    statements: &mut dyn Statements,
    stored: &mut Stored<'a>,
    record: &'a Record,
) -> Result<Inserted, Error> {
    if let Some(known) = known_in(statements, &record.identity)? {
        return Ok(Inserted::Known(known));
    }
    let mut series = Value::Null;
    if let Some(place) = &record.place {
        let patient = stored.row(statements, (Level::Patient, UPSERT_PATIENT), &place.patient, None)?;
        let study = stored.row(statements, (Level::Study, UPSERT_STUDY), &place.study, Some(patient))?;
        let row = stored.row(statements, (Level::Series, UPSERT_SERIES), &place.series, Some(study))?;
        series = Value::Number(row);
    }
    let (name, json) = match &record.place {
        Some(place) => (Value::Text(place.image.name.clone()), place.image.json()),
        None => (Value::Null, String::from("{}")),
    };
    let private = |of: &dyn Fn(&SealedPrivatePart) -> Vec<u8>| {
        record.private.as_ref().map_or(Value::Null, |private| Value::Bytes(of(private)))
    };
    let rows = statements.query(
        INSERT_IMAGE,
        &[
            bytes(record.image.as_bytes()),
            Value::Number(record.content.code()),
            series,
            name,
            bytes(&record.identity),
            bytes(&record.digest),
            Value::Text(json),
            record.frames.as_deref().map_or(Value::Null, bytes),
            private(&|private| private.file.as_bytes().to_vec()),
            private(&|private| private.key.as_bytes().to_vec()),
            private(&|private| private.salt.to_vec()),
            private(&|private| private.commitment.to_vec()),
            private(&|private| private.manifest.clone()),
            private(&|private| private.container.clone()),
            instance_number(record),
        ],
    )?;
    let Some(row) = rows.first() else {
        // Another process was first with this identity, or the id is there.
        return match known_in(statements, &record.identity)? {
            Some(known) => Ok(Inserted::Known(known)),
            None => Err(Error::Duplicate { what: WHAT, file: record.image }),
        };
    };
    if let Some(place) = &record.place {
        insert_attributes(statements, Level::Image, number(row, 0, "id")?, &place.image)?;
    }
    Ok(Inserted::Done)
}

/// What images are ordered by within a series.
fn instance_number(record: &Record) -> Value {
    let plain = record.place.as_ref().and_then(|place| place.image.plain.get(&tags::INSTANCE_NUMBER));
    plain.and_then(|plain| plain.values.first()?.parse().ok()).map_or(Value::Null, Value::Number)
}

fn upsert(statements: &mut dyn Statements, sql: &str, node: &Node, above: Option<i64>) -> Result<i64, Error> {
    let mut values = vec![Value::Text(node.name.clone()), Value::Text(node.json())];
    values.extend(above.map(Value::Number));
    let rows = statements.query(sql, &values)?;
    number(rows.first().ok_or_else(|| damaged("id"))?, 0, "id")
}

fn insert_attributes(statements: &mut dyn Statements, level: Level, owner: i64, node: &Node) -> Result<(), Error> {
    let key = |tag: &Tag| [Value::Number(level.code()), Value::Number(owner), Value::Number(of_tag(*tag))];
    for (tag, plain) in &node.plain {
        for value in &plain.values {
            let [level, owner, tag] = key(tag);
            statements.execute(INSERT_PLAIN, &[level, owner, tag, Value::Text(value.clone())])?;
        }
    }
    for (tag, token) in &node.blind {
        let [level, owner, tag] = key(tag);
        statements.execute(INSERT_BLIND, &[level, owner, tag, bytes(token)])?;
    }
    Ok(())
}

pub(super) fn private_part(database: Connection<'_>, image: FileId) -> Result<SealedPrivatePart, Error> {
    let rows = query(database, SELECT_PRIVATE, &[bytes(image.as_bytes())])?;
    let row = rows.first().ok_or(Error::NotFound { what: WHAT, file: image })?;
    Ok(SealedPrivatePart {
        file: FileId::from_bytes(fixed(row, 0, "private_file")?),
        key: KeyId::from_bytes(fixed(row, 1, "private_key")?),
        salt: fixed(row, 2, "salt")?,
        commitment: fixed(row, 3, "commitment")?,
        manifest: blob(row, 4, "manifest")?.to_vec(),
        container: blob(row, 5, "container")?.to_vec(),
    })
}

pub(super) fn frames(database: Connection<'_>, image: FileId) -> Result<Option<Vec<u8>>, Error> {
    let rows = query(database, "SELECT frames FROM image WHERE file = $1", &[bytes(image.as_bytes())])?;
    match rows.first().ok_or(Error::NotFound { what: WHAT, file: image })?.first() {
        Some(Value::Null) => Ok(None),
        Some(Value::Bytes(bytes)) => Ok(Some(bytes.clone())),
        _ => Err(damaged("frames")),
    }
}

pub(super) fn contains(database: Connection<'_>, image: FileId) -> Result<bool, Error> {
    Ok(!query(database, "SELECT 1 FROM image WHERE file = $1", &[bytes(image.as_bytes())])?.is_empty())
}

pub(super) fn known(database: Connection<'_>, identity: &[u8; 32]) -> Result<Option<Known>, Error> {
    run_in(Mode::Read, database, |statements| known_in(statements, identity))
}

fn known_in(statements: &mut dyn Statements, identity: &[u8; 32]) -> Result<Option<Known>, Error> {
    let rows = statements.query("SELECT file, content, digest FROM image WHERE identity = $1", &[bytes(identity)])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let content = u64::try_from(number(row, 1, "content")?).map_err(|_| damaged("content"))?;
    Ok(Some(Known {
        image: FileId::from_bytes(fixed(row, 0, "file")?),
        content: Content::from_code(content)?,
        digest: fixed(row, 2, "digest")?,
    }))
}

pub(super) fn remove(database: Connection<'_>, image: FileId) -> Result<(), Error> {
    run(database, |statements| {
        let rows =
            statements.query("DELETE FROM image WHERE file = $1 RETURNING id, series", &[bytes(image.as_bytes())])?;
        let row = rows.first().ok_or(Error::NotFound { what: WHAT, file: image })?;
        remove_attributes(statements, Level::Image, number(row, 0, "id")?)?;
        let Some(Value::Number(mut owner)) = row.get(1).cloned() else { return Ok(()) };
        // What has nothing below it any more goes too, from the series up.
        for (level, of_below, delete) in ABOVE {
            if !statements.query(of_below, &[Value::Number(owner)])?.is_empty() {
                break;
            }
            remove_attributes(statements, level, owner)?;
            let deleted = statements.query(delete, &[Value::Number(owner)])?;
            let Some(Value::Number(above)) = deleted.first().and_then(|row| row.first()).cloned() else { break };
            owner = above;
        }
        Ok(())
    })
}

fn remove_attributes(statements: &mut dyn Statements, level: Level, owner: i64) -> Result<(), Error> {
    for sql in
        ["DELETE FROM plain WHERE level = $1 AND owner = $2", "DELETE FROM blind WHERE level = $1 AND owner = $2"]
    {
        statements.execute(sql, &[Value::Number(level.code()), Value::Number(owner)])?;
    }
    Ok(())
}

pub(super) fn search(database: Connection<'_>, query: &Query) -> Result<Vec<Found>, Error> {
    let mut sql = String::from(SEARCH);
    let mut values = Vec::new();
    for (number, condition) in query.conditions.iter().enumerate() {
        sql.push_str(if number == 0 { " WHERE " } else { " AND " });
        write_condition(&mut sql, &mut values, condition);
    }
    sql.push_str(" ORDER BY p.name, t.name, s.name, i.number, i.name");
    if let Some(limit) = query.limit {
        values.push(Value::Number(limit.into()));
        sql.push_str(&format!(" LIMIT ${}", values.len()));
    }
    self::query(database, &sql, &values)?.iter().map(|row| found(row)).collect()
}

fn write_condition(sql: &mut String, values: &mut Vec<Value>, condition: &Condition) {
    let alias = match condition.level {
        Level::Patient => 'p',
        Level::Study => 't',
        Level::Series => 's',
        Level::Image => 'i',
    };
    let list = |values: &mut Vec<Value>, added: Vec<Value>| {
        let first = values.len() + 1;
        let marks: Vec<String> = (first..first + added.len()).map(|number| format!("${number}")).collect();
        values.extend(added);
        if marks.is_empty() { String::from("NULL") } else { marks.join(", ") }
    };
    if let Matching::Names(names) = &condition.matching {
        let marks = list(values, names.iter().cloned().map(Value::Text).collect());
        sql.push_str(&format!("{alias}.name IN ({marks})"));
        return;
    }
    let table = if matches!(condition.matching, Matching::Tokens(_)) { "blind" } else { "plain" };
    let key = list(values, vec![Value::Number(condition.level.code())]);
    let tag = list(values, vec![Value::Number(of_tag(condition.tag))]);
    sql.push_str(&format!("{alias}.id IN (SELECT owner FROM {table} WHERE level = {key} AND tag = {tag} AND "));
    match &condition.matching {
        Matching::Tokens(tokens) => {
            let marks = list(values, tokens.iter().map(|token| bytes(token)).collect());
            sql.push_str(&format!("token IN ({marks}))"));
        }
        Matching::OneOf(texts) | Matching::Names(texts) => {
            let marks = list(values, texts.iter().cloned().map(Value::Text).collect());
            sql.push_str(&format!("value IN ({marks}))"));
        }
        Matching::Patterns(patterns) => {
            let each = patterns.iter().map(|pattern| {
                let mark = list(values, vec![Value::Text(like(pattern))]);
                format!("value LIKE {mark} ESCAPE '!'")
            });
            let any: Vec<String> = each.collect();
            sql.push_str(&format!("({}))", if any.is_empty() { "1 = 0".into() } else { any.join(" OR ") }));
        }
        Matching::Between(from, to) => {
            let mut parts = Vec::new();
            for (bound, sign) in [(from, ">="), (to, "<=")] {
                if let Some(bound) = bound {
                    let mark = list(values, vec![Value::Text(bound.clone())]);
                    parts.push(format!("value {sign} {mark}"));
                }
            }
            sql.push_str(&if parts.is_empty() { String::from("1 = 1)") } else { parts.join(" AND ") + ")" });
        }
    }
}

/// A DICOM pattern as one of SQL.
fn like(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    for letter in pattern.chars() {
        match letter {
            '*' => out.push('%'),
            '?' => out.push('_'),
            '%' | '_' | '!' => out.extend(['!', letter]),
            letter => out.push(letter),
        }
    }
    out
}

fn found(row: &[Value]) -> Result<Found, Error> {
    let text = |index: usize| match row.get(index) {
        Some(Value::Text(text)) => Ok(text.clone()),
        Some(Value::Null) => Ok(String::new()),
        _ => Err(damaged("name")),
    };
    Ok(Found {
        image: FileId::from_bytes(fixed(row, 0, "file")?),
        names: [text(1)?, text(2)?, text(3)?, text(4)?],
        attributes: [text(5)?, text(6)?, text(7)?, text(8)?],
    })
}

pub(super) fn group_keys(database: Connection<'_>, scope: KeyScope, name: &str) -> Result<Option<GroupKeys>, Error> {
    let rows = query(database, SELECT_GROUP, &[Value::Number(scope.code()), Value::Text(name.into())])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let key = |at, field| {
        Ok::<_, Error>(ProjectKey {
            key: KeyId::from_bytes(fixed(row, at, field)?),
            manifest: blob(row, at + 1, "manifest")?.to_vec(),
        })
    };
    Ok(Some(GroupKeys { scope, name: name.into(), image: key(0, "image_key")?, private: key(2, "private_key")? }))
}

pub(super) fn is_group_key(database: Connection<'_>, key: KeyId) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM group_key WHERE image_key = $1 OR private_key = $2";
    Ok(!query(database, sql, &[bytes(key.as_bytes()), bytes(key.as_bytes())])?.is_empty())
}

fn group_values(group: &GroupKeys) -> [Value; 6] {
    [
        Value::Number(group.scope.code()),
        Value::Text(group.name.clone()),
        bytes(group.image.key.as_bytes()),
        bytes(&group.image.manifest),
        bytes(group.private.key.as_bytes()),
        bytes(&group.private.manifest),
    ]
}

pub(super) fn project_key(database: Connection<'_>, role: Role) -> Result<Option<ProjectKey>, Error> {
    run_in(Mode::Read, database, |statements| project_key_in(statements, role))
}

fn project_key_in(statements: &mut dyn Statements, role: Role) -> Result<Option<ProjectKey>, Error> {
    let sql = "SELECT key, manifest FROM project WHERE role = $1";
    let rows = statements.query(sql, &[Value::Text(role.name().into())])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let key = KeyId::from_bytes(fixed(row, 0, "project key")?);
    Ok(Some(ProjectKey { key, manifest: blob(row, 1, "manifest")?.to_vec() }))
}

pub(super) fn set_project_key(database: Connection<'_>, role: Role, project: &ProjectKey) -> Result<(), Error> {
    run(database, |statements| {
        let sql = "INSERT INTO project (role, key, manifest) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let values = [Value::Text(role.name().into()), bytes(project.key.as_bytes()), bytes(&project.manifest)];
        statements.execute(sql, &values)?;
        let there = project_key_in(statements, role)?;
        if there.as_ref() == Some(project) { Ok(()) } else { Err(Error::OtherProjectKey) }
    })
}

/// Runs `work` in a transaction that may change something, and returns what it made.
fn run<T>(database: Connection<'_>, work: impl FnMut(&mut dyn Statements) -> Result<T, Error>) -> Result<T, Error> {
    run_in(Mode::Write, database, work)
}

fn run_in<T>(
    mode: Mode,
    database: Connection<'_>,
    mut work: impl FnMut(&mut dyn Statements) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut made = None;
    database.transaction(mode, &mut |statements| {
        made = Some(work(statements)?);
        Ok(())
    })?;
    made.ok_or_else(|| damaged("transaction"))
}

fn query(database: Connection<'_>, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>, Error> {
    run_in(Mode::Read, database, |statements| statements.query(sql, values))
}

fn of_tag(tag: Tag) -> i64 {
    i64::from(tag.group()) << 16 | i64::from(tag.element())
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}

fn number(row: &[Value], index: usize, field: &'static str) -> Result<i64, Error> {
    match row.get(index) {
        Some(Value::Number(number)) => Ok(*number),
        _ => Err(damaged(field)),
    }
}

fn blob<'a>(row: &'a [Value], index: usize, field: &'static str) -> Result<&'a [u8], Error> {
    match row.get(index) {
        Some(Value::Bytes(bytes)) => Ok(bytes),
        _ => Err(damaged(field)),
    }
}

fn fixed<const N: usize>(row: &[Value], index: usize, field: &'static str) -> Result<[u8; N], Error> {
    array(WHAT, field, blob(row, index, field)?)
}

pub(super) fn damaged(field: &'static str) -> Error {
    Error::Damaged { what: WHAT, field }
}

const INSERT_GROUP: &str = "INSERT INTO group_key (scope, name, image_key, image_manifest, private_key, \
                            private_manifest) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
const SELECT_GROUP: &str = "SELECT image_key, image_manifest, private_key, private_manifest FROM group_key \
                            WHERE scope = $1 AND name = $2";
// The row that is there stays as it is, and its id is returned.
const UPSERT_PATIENT: &str = "INSERT INTO patient (name, attributes) VALUES ($1, $2) \
                              ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id";
const UPSERT_STUDY: &str = "INSERT INTO study (name, attributes, patient) VALUES ($1, $2, $3) \
                            ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id";
const UPSERT_SERIES: &str = "INSERT INTO series (name, attributes, study) VALUES ($1, $2, $3) \
                             ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id";
const INSERT_IMAGE: &str = "INSERT INTO image (file, content, series, name, identity, digest, attributes, frames, \
                            private_file, private_key, salt, commitment, manifest, container, number) \
                            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
                            ON CONFLICT DO NOTHING RETURNING id";
const INSERT_PLAIN: &str =
    "INSERT INTO plain (level, owner, tag, value) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
const INSERT_BLIND: &str =
    "INSERT INTO blind (level, owner, tag, token) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
const SELECT_PRIVATE: &str = "SELECT private_file, private_key, salt, commitment, manifest, container FROM image \
                              WHERE file = $1 AND private_file IS NOT NULL";
/// From the series up: how to see that something is below, and how to delete what has nothing below.
const ABOVE: [(Level, &str, &str); 3] = [
    (
        Level::Series,
        "SELECT 1 FROM image WHERE series = $1 LIMIT 1",
        "DELETE FROM series WHERE id = $1 RETURNING study",
    ),
    (
        Level::Study,
        "SELECT 1 FROM series WHERE study = $1 LIMIT 1",
        "DELETE FROM study WHERE id = $1 RETURNING patient",
    ),
    (
        Level::Patient,
        "SELECT 1 FROM study WHERE patient = $1 LIMIT 1",
        "DELETE FROM patient WHERE id = $1 RETURNING NULL",
    ),
];
const SEARCH: &str = "SELECT i.file, p.name, t.name, s.name, i.name, p.attributes, t.attributes, s.attributes, \
                      i.attributes FROM image i JOIN series s ON s.id = i.series JOIN study t ON t.id = s.study \
                      JOIN patient p ON p.id = t.patient";
