//! What officers do with a token: prepare it, look at it, and keep a record of the ceremony.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use serde_json::{Value, json};

use crate::{
    audit::export::time::rfc3339,
    config::HsmConfig,
    hex,
    hsm::{
        HsmError,
        pin::PinSource,
        pkcs11::{KeyDescription, Pkcs11Hsm, prepare_token},
        self_test::{Check, operations},
    },
    identity::Identity,
};

/// Prepares a new token: its label, the security officer's PIN and the user PIN. Returns what it says it is.
///
/// # Errors
/// [`HsmError`]; a token that has this label already is not touched.
pub fn init(config: &HsmConfig, officer: &PinSource) -> Result<String, HsmError> {
    let description = prepare_token(config, officer)?;
    Ok(format!("token {:?}: {description}\nnext: `eds-keystored hsm keygen`\n", config.token))
}

/// Every check of the token alone: its operations and its keys.
pub fn check(config: &HsmConfig) -> Vec<Check> {
    match Pkcs11Hsm::open(config) {
        Ok(hsm) => {
            let found = format!("{:?}: {}", config.token, hsm.description());
            let mut checks = vec![Check { what: "token", outcome: Ok(found) }];
            checks.extend(operations(&hsm));
            checks
        }
        Err(error) => {
            vec![Check { what: "token", outcome: Err(crate::hsm::self_test::described(&error)) }]
        }
    }
}

/// What the token is and which keys it holds, without a judgement.
///
/// # Errors
/// [`HsmError`].
pub fn status(config: &HsmConfig) -> Result<String, HsmError> {
    let hsm = Pkcs11Hsm::open(config)?;
    let mut text = format!("token {:?}: {}\nnew records: {}\n", config.token, hsm.description(), hsm.suite());
    hsm.describe()?.iter().for_each(|key| text.push_str(&told(key)));
    Ok(text)
}

/// A key in words.
pub fn told(key: &KeyDescription) -> String {
    format!(
        "key {}: {}, id {}, fingerprint {}\n    set: {}\n    not set: {}\n",
        key.role.label(),
        key.role.kind(),
        key.id,
        key.fingerprint,
        key.set.join(" "),
        key.unset.join(" ")
    )
}

/// Writes the record of a ceremony to a new file, which must not exist. Nothing in it is secret.
///
/// # Errors
/// When the file cannot be made.
pub fn write_record(
    file: &Path,
    config: &HsmConfig,
    token: &str,
    keys: &[KeyDescription],
    identity: &Identity,
    milliseconds: u64,
) -> std::io::Result<()> {
    let keys: Vec<Value> = keys
        .iter()
        .map(|key| {
            json!({
                "label": key.role.label(), "kind": key.role.kind(), "id": key.id.to_string(),
                "fingerprint": key.fingerprint, "set": key.set, "not_set": key.unset,
            })
        })
        .collect();
    let record = json!({
        "format": "eds/v1/ceremony",
        "time": rfc3339(milliseconds),
        "release": env!("CARGO_PKG_VERSION"),
        "module": config.module,
        "token": { "label": config.token, "description": token },
        "keys": keys,
        "node": identity.node.to_string(),
        "transport_key": hex::encode(&identity.transport_key.0),
        "audit_key": hex::encode(&identity.audit_key.0),
    });
    let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(file)?;
    new.write_all(format!("{record:#}\n").as_bytes())?;
    new.sync_all()
}
