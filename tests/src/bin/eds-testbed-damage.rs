//! What an operator with the database and the PIN of a node could do: changes every share that the node holds, so that it
//! answers with shares that are well wrapped, well sealed, and wrong. A process of its own, since PKCS#11 is initialised
//! once for each process.
//!
//! Usage: `eds-testbed-damage NODE.toml`

use std::{path::Path, process::ExitCode};

use eds_core::ids::KeyId;
use eds_keystore::{
    config::{Config, StoreConfig},
    hsm::{ToUnwrap, ToWrap},
    node::startup,
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
        let context = node.record_context(&stored, body);
        let opened = node.hsm.unwrap(vec![ToUnwrap { context, record: body.record.clone() }])?.pop();
        let Some(Ok(mut share)) = opened else { give_up!("the share of {} does not open", stored.key) };
        // The lowest bit of the value: what comes out is a share still, and not this one.
        let Some(byte) = share.get_mut(31) else { give_up!("the share of {} is short", stored.key) };
        *byte ^= 1;
        let record = node.hsm.wrap(vec![ToWrap { context, secret: share }])?.pop();
        let new = Replacement {
            key: stored.key,
            seen: body.record.clone(),
            epoch: body.epoch,
            manifest: body.manifest.clone(),
            manifest_digest: stored.manifest_digest,
            record: record.ok_or_else(|| Trouble::new("nothing was wrapped"))?,
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
