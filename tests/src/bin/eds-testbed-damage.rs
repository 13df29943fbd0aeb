//! What an operator with the database and the PIN of a node could do: changes every share that the node holds, so that it
//! answers with shares that are well wrapped, well sealed, and wrong. A process of its own, since PKCS#11 is initialised
//! once for each process.
//!
//! Usage: `eds-testbed-damage NODE.toml`

use std::{path::Path, process::ExitCode};

use eds_core::ids::KeyId;
use eds_keystore::{
    config::{Config, StoreConfig},
    node::startup,
    shares::{self, ToSeal},
    store::{Changed, Replacement},
};
use eds_tests::{Outcome, Trouble, give_up};

fn main() -> ExitCode {
    match std::env::args().nth(1).map(|config| damage(Path::new(&config))) {
        Some(Ok(shares)) => {
            eprintln!("changed {shares} shares");
            ExitCode::SUCCESS
        }
        Some(Err(trouble)) => {
            eprintln!("eds-testbed-damage: {trouble}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("usage: eds-testbed-damage NODE.toml");
            ExitCode::from(2)
        }
    }
}

fn damage(config: &Path) -> Outcome<usize> {
    let config = Config::load(config)?;
    let StoreConfig::Sqlite(store) = &config.store else { give_up!("the keys are not in a SQLite file") };
    let keys = keys(store)?;
    let Some(node) = startup::start(&config).node else {
        give_up!("the node would not start: try eds-keystored check")
    };
    for stored in node.store.read(&keys)?.into_iter().flatten() {
        let Some(body) = &stored.body else { continue };
        let record = node.to_open(&stored, body);
        let opened = shares::open(node.hsm.as_ref(), node.id, &[record])?.pop();
        let Some(Ok(mut share)) = opened else { give_up!("the share of {} does not open", stored.key) };
        // The lowest bit of the value: what comes out is a share still, and not this one.
        share[31] ^= 1;
        let altered = node.wrapping.seal(node.id, &[ToSeal { context: record.context, share }])?.records.pop();
        let new = Replacement {
            key: stored.key,
            seen: body.record.clone(),
            epoch: body.epoch,
            manifest: body.manifest.clone(),
            manifest_digest: stored.manifest_digest,
            record: altered.ok_or_else(|| Trouble::new("nothing was sealed"))?,
        };
        if !matches!(node.store.replace(&[new], 0)?.as_slice(), [Changed::Done(_)]) {
            give_up!("the share of {} was not replaced", stored.key);
        }
    }
    Ok(keys.len())
}

fn keys(store: &Path) -> Outcome<Vec<KeyId>> {
    let database = rusqlite::Connection::open(store)?;
    let mut query = database.prepare("SELECT id FROM keys WHERE record IS NOT NULL")?;
    let keys = query.query_map([], |row| row.get::<_, [u8; 16]>(0))?.collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        give_up!("the node holds no share");
    }
    Ok(keys.into_iter().map(KeyId::from_bytes).collect())
}
