//! What officers do with a token: prepare it, look at it, and keep a record of the ceremony.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use eds_core::ids::NodeId;
use serde_json::{Value, json};

use crate::{
    audit::export::time::rfc3339,
    config::HsmConfig,
    hex,
    hsm::{
        Hsm, HsmError, TokenKeyId,
        pin::PinSource,
        pkcs11::{Ceremony, KeyDescription, Pkcs11Hsm, Place, prepare_token},
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

/// Every check of the token alone: its operations and its keys, of several KEKs this one.
pub fn check(config: &HsmConfig, kek: Option<TokenKeyId>) -> Vec<Check> {
    match Pkcs11Hsm::open_with_kek(config, kek) {
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

/// What the token is and which keys it holds, of several KEKs this one, without a judgement; and the token itself.
///
/// # Errors
/// [`HsmError`].
pub fn status(config: &HsmConfig, kek: Option<TokenKeyId>) -> Result<(String, Pkcs11Hsm), HsmError> {
    let hsm = Pkcs11Hsm::open_with_kek(config, kek)?;
    let mut text = format!("token {:?}: {}\nnew records: {}\n", config.token, hsm.description(), hsm.suite());
    if let Some(weaker) = hsm.facts().custody.weaker() {
        text.push_str(&format!("WEAKER than keys in a token: {weaker}\n"));
    }
    hsm.describe()?.iter().for_each(|key| text.push_str(&told(key)));
    Ok((text, hsm))
}

/// A key in words.
pub fn told(key: &KeyDescription) -> String {
    let attributes = match key.place {
        Place::Token(_) => format!("    set: {}\n    not set: {}\n", key.set.join(" "), key.unset.join(" ")),
        Place::Wrapped { .. } => String::new(),
    };
    format!(
        "key {}: {}, {}, fingerprint {}\n{attributes}",
        key.role.label(),
        key.role.kind(),
        key.place,
        key.fingerprint
    )
}

fn key_record(key: &KeyDescription) -> Value {
    let mut record = json!({
        "label": key.role.label(), "kind": key.role.kind(), "fingerprint": key.fingerprint,
        "set": key.set, "not_set": key.unset,
    });
    match key.place {
        Place::Token(id) => record["id"] = id.to_string().into(),
        Place::Wrapped { suite, kek } => {
            record["weaker_wrapped_by"] = json!({ "kek": kek.to_string(), "suite": suite.code() });
        }
    }
    record
}

/// Writes the record of a new KEK to a new file, which must not exist. Nothing in it is secret.
///
/// # Errors
/// When the file cannot be made.
pub fn write_kek_record(
    file: &Path,
    config: &HsmConfig,
    token: &str,
    keys: &[KeyDescription],
    before: TokenKeyId,
    node: NodeId,
    milliseconds: u64,
) -> std::io::Result<()> {
    let keys: Vec<Value> = keys.iter().map(key_record).collect();
    write_new(
        file,
        &json!({
            "format": "eds/v1/kek-ceremony",
            "time": rfc3339(milliseconds),
            "release": env!("CARGO_PKG_VERSION"),
            "module": config.module,
            "token": { "label": config.token, "description": token },
            "keys": keys,
            "node": node.to_string(),
            "takes_the_place_of": before.to_string(),
        }),
    )
}

fn write_new(file: &Path, record: &Value) -> std::io::Result<()> {
    let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(file)?;
    new.write_all(format!("{record:#}\n").as_bytes())?;
    new.sync_all()
}

/// Writes the record of a ceremony to a new file, which must not exist. Nothing in it is secret.
///
/// # Errors
/// When the file cannot be made.
pub fn write_record(
    file: &Path,
    config: &HsmConfig,
    made: &Ceremony,
    identity: &Identity,
    milliseconds: u64,
) -> std::io::Result<()> {
    let keys: Vec<Value> = made.keys.iter().map(key_record).collect();
    let record = json!({
        "format": "eds/v1/ceremony",
        "time": rfc3339(milliseconds),
        "release": env!("CARGO_PKG_VERSION"),
        "module": config.module,
        "token": { "label": config.token, "description": made.token },
        "keys": keys,
        "weaker": made.custody.weaker(),
        "why_weaker": made.why_weaker,
        "node": identity.node.to_string(),
        "transport_key": hex::encode(&identity.transport_key.0),
        "audit_key": hex::encode(&identity.audit_key.0),
    });
    write_new(file, &record)
}
