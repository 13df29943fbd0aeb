//! What `eds-keystored hsm rotate`, `retire` and `status` do.

use std::{collections::HashSet, fmt::Write as _, path::PathBuf};

use super::{Office, RotationError, now};
use crate::{
    audit::{Operation, export::time::rfc3339},
    config::Config,
    hex,
    hsm::{
        Hsm, TokenKeyId, command,
        pkcs11::{KeyDescription, Pkcs11Hsm, Place, Role},
        self_test::{described, make_canary},
        wrapped::WrappedKeys,
    },
    node::{
        Clock, SystemClock,
        kek::{MANY_USES, MOST_USES},
    },
    store::{self, Kek, KekChanged, KekState, ShareStore},
};

/// How long a retired KEK stays in the token at least. A server takes the active KEK after half a minute.
const REST: u64 = 600;

/// The KEK that the database calls active, if it can be asked.
pub fn active_kek(config: &Config) -> Option<TokenKeyId> {
    let (store, _) = store::open(&config.store, true).ok()?;
    store::active_kek(store.as_ref()).map(TokenKeyId::from_bytes)
}

/// Makes a KEK for new shares; the one of before becomes read-only. Returns what was made, in words.
///
/// # Errors
/// [`RotationError`]; the KEK stays the one it was, and what was made in the token is taken back.
pub fn rotate(config: &Config) -> Result<String, RotationError> {
    let office = Office::open(config)?;
    let console = office.console(config);
    let act = console.begin(Operation::KEK_ROTATE, format_args!("KEK {} is active", office.hsm.kek()))?;
    act.ends(make_active(config, &office), RotationError::is_refusal, |(made, _)| made.clone())
        .map(|(made, rest)| format!("{made}\n{rest}"))
}

/// Returns what was made, in a line for the audit log, and the rest.
fn make_active(config: &Config, office: &Office) -> Result<(String, String), RotationError> {
    let before = office.hsm.kek();
    let (kek, keys) = office.hsm.make_kek()?;
    let begun = begin(config, office, kek, before, &keys);
    if begun.is_err() && store::active_kek(office.store.as_ref()) == Some(*before.as_bytes()) {
        let taken_back = office.hsm.adopt(before).and_then(|()| office.hsm.destroy_kek(kek));
        if let Err(error) = taken_back {
            tracing::warn!(%kek, error = described(&error), "a KEK that nobody uses stays in the token");
        }
        let _ = std::fs::remove_file(record_file(config, kek));
    }
    let record = begun?;
    let mut text = String::new();
    keys.iter().for_each(|key| text.push_str(&command::told(key)));
    let _ = writeln!(text, "ceremony record: {}", record.display());
    text.push_str("next: `eds-keystored hsm rewrap`, then `eds-keystored hsm retire` with the old id\n");
    Ok((format!("KEK {kek} wraps new shares; KEK {before} is read-only"), text))
}

fn begin(
    config: &Config,
    office: &Office,
    kek: TokenKeyId,
    before: TokenKeyId,
    keys: &[KeyDescription],
) -> Result<PathBuf, RotationError> {
    office.hsm.adopt(kek)?;
    let canary = make_canary(office.hsm.as_ref(), office.node())?;
    let file = record_file(config, kek);
    // The record comes first: no share is wrapped by a key that no minutes tell of.
    command::write_kek_record(
        &file,
        &config.hsm,
        office.hsm.description(),
        keys,
        before,
        office.node(),
        milliseconds(),
    )
    .map_err(|source| RotationError::Record { file: file.clone(), source })?;
    match office.store.begin_kek(&canary, now())? {
        KekChanged::Done => Ok(file),
        _ => Err(RotationError::NotBegun { kek }),
    }
}

fn record_file(config: &Config, kek: TokenKeyId) -> PathBuf {
    config.identity.with_extension(format!("kek-{kek}.ceremony.json"))
}

fn milliseconds() -> u64 {
    SystemClock.now_milliseconds()
}

/// Retires a KEK that no record names, and removes its key from the token if that is asked. Returns what was done, in
/// words.
///
/// # Errors
/// [`RotationError`].
pub fn retire(config: &Config, id: &str, destroy: bool) -> Result<String, RotationError> {
    let bytes = hex::decode_array::<16>(id).ok_or_else(|| RotationError::NoId(id.to_owned()))?;
    let kek = TokenKeyId::from_bytes(bytes);
    let office = Office::open(config)?;
    let console = office.console(config);
    let operation = if destroy { Operation::KEK_DESTROY } else { Operation::KEK_RETIRE };
    let act = console.begin(operation, format_args!("KEK {kek}"))?;
    let (done, next) =
        act.ends(retire_one(config, &office, kek, destroy), RotationError::is_refusal, |(done, _)| done.clone())?;
    Ok(format!("{done}{next}\n"))
}

/// Returns what was done, in a line for the audit log, and the rest.
fn retire_one(
    config: &Config,
    office: &Office,
    kek: TokenKeyId,
    destroy: bool,
) -> Result<(String, String), RotationError> {
    let bytes = *kek.as_bytes();
    let wraps_keys = |keys: WrappedKeys| keys.keys().iter().any(|key| key.wrapped_by().is_none_or(|(_, by)| by == kek));
    if let Some(file) = config.hsm.weaker_wrapped_keys.as_ref().filter(|file| file.exists())
        && wraps_keys(WrappedKeys::load(file)?)
    {
        return Err(RotationError::NamedByKeys { kek, file: file.clone() });
    }
    let in_token = token_keks(&office.hsm)?.iter().any(|(id, _)| *id == kek);
    match office.store.retire_kek(&bytes, now())? {
        KekChanged::Done => {}
        KekChanged::Refused(_) => return Err(RotationError::Active { kek }),
        KekChanged::StillWraps(records) => return Err(RotationError::Named { kek, records }),
        // One that a broken-off rotation left, or that a restored database does not know any more.
        KekChanged::Missing if in_token && destroy => {}
        KekChanged::Missing => return Err(RotationError::Missing { kek }),
    }
    if !destroy {
        let next = format!(
            ". Its key is still in the token: backups of the database from before the re-wrapping need it.\nnext: make a \
             backup; when no older one is needed any more, `eds-keystored hsm retire {kek} --destroy`"
        );
        return Ok((format!("KEK {kek} is retired"), next));
    }
    if let Some(known) = office.store.keks()?.iter().find(|known| known.id == bytes) {
        let left = (known.since + REST).saturating_sub(now());
        if left > 0 {
            return Err(RotationError::TooEarly { kek, minutes: left.div_ceil(60) });
        }
    }
    if !in_token {
        return Ok((format!("KEK {kek} is retired, and not in the token"), String::new()));
    }
    office.hsm.destroy_kek(kek)?;
    let rest = ": what it wrapped, in old backups too, is gone".to_owned();
    Ok((format!("KEK {kek} is retired and removed from the token"), rest))
}

/// The token, its suite, and its keys; every KEK with its state, its uses and the records that name it.
///
/// # Errors
/// [`RotationError`] when token or database cannot be asked.
pub fn status(config: &Config) -> Result<String, RotationError> {
    // Before `init` there is no database, and officers look at the token alone.
    if !store::exists(&config.store)? {
        return Ok(format!("{}database {}: not made yet\n", command::status(&config.hsm, None)?.0, config.store));
    }
    let store = store::open_current(&config.store)?;
    let keks = store.keks()?;
    let active = store::active_kek(store.as_ref()).map(TokenKeyId::from_bytes);
    let (mut text, hsm) = command::status(&config.hsm, active)?;
    let in_token = token_keks(&hsm)?;
    let mut known = HashSet::new();
    for kek in &keks {
        known.insert(TokenKeyId::from_bytes(kek.id));
        text.push_str(&told(kek, store.as_ref(), &in_token)?);
    }
    for (kek, fingerprint) in in_token.iter().filter(|(kek, _)| !known.contains(kek)) {
        let _ = writeln!(
            text,
            "KEK {kek}: unknown to the database, fingerprint {fingerprint}\n    left by a rotation that was broken off, or \
             newer than a backup that was restored; `eds-keystored hsm retire {kek} --destroy` removes it"
        );
    }
    Ok(text)
}

fn told(kek: &Kek, store: &dyn ShareStore, in_token: &[(TokenKeyId, String)]) -> Result<String, RotationError> {
    let id = TokenKeyId::from_bytes(kek.id);
    let place = match in_token.iter().find(|(there, _)| *there == id) {
        Some((_, fingerprint)) => format!("fingerprint {fingerprint}"),
        None => "not in the token".to_owned(),
    };
    let records = store.count_wrapped_by(&kek.id)?;
    let percent = kek.uses.saturating_mul(100) / MOST_USES;
    let since = rfc3339(kek.since.saturating_mul(1_000));
    let mut text = format!("KEK {id}: {}, {place}\n", kek.state.name());
    let _ = writeln!(
        text,
        "    {records} records name it; at most {} uses ({percent}% of what it may have); {} since {since}",
        kek.uses,
        kek.state.name()
    );
    match kek.state {
        KekState::Active if kek.uses > MANY_USES => text.push_str("    it is time for `eds-keystored hsm rotate`\n"),
        KekState::ReadOnly if records > 0 => text.push_str("    next: `eds-keystored hsm rewrap`\n"),
        KekState::ReadOnly => {
            let _ = writeln!(text, "    next: `eds-keystored hsm retire {id}`");
        }
        KekState::Active | KekState::Retired => {}
    }
    Ok(text)
}

/// The KEKs in the token, with their fingerprints.
fn token_keks(hsm: &Pkcs11Hsm) -> Result<Vec<(TokenKeyId, String)>, RotationError> {
    let keys = hsm.describe_keks()?;
    let kek = |key: KeyDescription| match (key.role, key.place) {
        (Role::Kek, Place::Token(id)) => Some((id, key.fingerprint)),
        _ => None,
    };
    Ok(keys.into_iter().filter_map(kek).collect())
}
