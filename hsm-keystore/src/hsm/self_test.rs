//! What a token must show before a node serves with it. The operations are really done: lists of mechanisms lie.
//!
//! Every failure is a reason not to start. The same checks are printed by `eds-keystored check`.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use eds_core::{Error, ids::NodeId};
use p256::{
    SecretKey,
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier},
    elliptic_curve::sec1::ToSec1Point,
};
use zeroize::Zeroizing;

use crate::{
    hsm::{
        Hsm, HsmError, RecordContext, ToUnwrap, ToWrap,
        memory::random,
        record::{HEADER, Record},
    },
    store::{Kek, KekState},
};

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// What was found, or why that will not do.
    pub outcome: Result<String, String>,
}

impl Check {
    /// A check that must hold.
    pub fn of(what: &'static str, holds: bool, found: impl Into<String>, otherwise: impl Into<String>) -> Self {
        Self { what, outcome: if holds { Ok(found.into()) } else { Err(otherwise.into()) } }
    }

    fn from_result(what: &'static str, result: Result<String, Failure>) -> Self {
        Self {
            what,
            outcome: result.map_err(|failure| match failure {
                Failure::Token(error) => described(&error),
                Failure::Found(reason) => reason.to_owned(),
            }),
        }
    }
}

/// An error with its causes; a hint stays at the end.
pub fn described(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let (mut text, hint) = match text.split_once("\nhint: ") {
        Some((text, hint)) => (text.to_owned(), Some(hint.to_owned())),
        None => (text, None),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    if let Some(hint) = hint {
        text.push_str("\nhint: ");
        text.push_str(&hint);
    }
    text
}

enum Failure {
    Token(HsmError),
    Found(&'static str),
}

impl From<HsmError> for Failure {
    fn from(error: HsmError) -> Self {
        Self::Token(error)
    }
}

/// Does every operation that the node needs, the wrong way too, and looks at the keys as far as the token lets it.
pub fn operations(hsm: &dyn Hsm) -> Vec<Check> {
    let mut checks = vec![
        Check::from_result("wrap and unwrap", round_trip(hsm)),
        Check::from_result("altered records are refused", refusals(hsm)),
        Check::from_result("key agreement agrees with software", agreement(hsm)),
        Check::from_result("HMAC", authentication(hsm)),
        Check::from_result("signature of the audit key", signature(hsm)),
        Check::from_result("canary", hsm.canary().map(|()| "answers".to_owned()).map_err(Failure::from)),
    ];
    match hsm.inspect() {
        Ok(found) => checks.extend(found),
        Err(error) => checks.push(Check { what: "keys in the token", outcome: Err(described(&error)) }),
    }
    checks
}

/// The secret under which the canary record of a database is made.
const CANARY: &[u8; 32] = b"eds/v1: this database, this KEK.";

/// Makes the canary record that [`belongs`] opens.
///
/// # Errors
/// [`HsmError`].
pub fn make_canary(hsm: &dyn Hsm, node: NodeId) -> Result<Vec<u8>, HsmError> {
    let secret = Zeroizing::new(CANARY.to_vec());
    let records = hsm.wrap(vec![ToWrap { context: RecordContext::canary(node), secret }])?;
    records.into_iter().next().ok_or(HsmError::Unavailable { operation: "encrypt", source: None })
}

/// Makes the policy canary that [`belongs`] compares: an HMAC of a fixed message.
///
/// # Errors
/// [`HsmError`].
pub fn make_policy_canary(hsm: &dyn Hsm, node: NodeId) -> Result<[u8; 32], HsmError> {
    let message = [b"eds/v1/policy-canary".as_slice(), node.as_bytes()].concat();
    hsm.mac(vec![message])?.into_iter().next().ok_or(HsmError::Unavailable { operation: "sign", source: None })
}

/// Whether this token is the one that this database was written with: its canaries open.
pub fn belongs(hsm: &dyn Hsm, node: NodeId, canary: Vec<u8>, policy_canary: &[u8]) -> Vec<Check> {
    let unknown = Record::parse(&canary).err().filter(|error| !matches!(error, Error::Truncated));
    let opened = hsm.unwrap(vec![ToUnwrap { context: RecordContext::canary(node), record: canary }]);
    let kek = match opened.as_ref().map(|results| results.first()) {
        Ok(Some(Ok(secret))) if verify_slices_are_equal(secret, CANARY).is_ok() => Ok("opens".to_owned()),
        Ok(_) if unknown.is_some() => Err(format!(
            "this release does not read it ({}): use the release that wrote this database",
            unknown.as_ref().map(ToString::to_string).unwrap_or_default()
        )),
        Ok(_) => {
            Err("does not open: the token or its KEK is not the one that this database was written with; put the \
                      right token in place, or the database that belongs to this one"
                .to_owned())
        }
        Err(error) => Err(described(error)),
    };
    let policy = match make_policy_canary(hsm, node) {
        Ok(mac) if verify_slices_are_equal(&mac, policy_canary).is_ok() => Ok("fits".to_owned()),
        Ok(_) => Err("the policy key in the token is not the one that this database was written with".to_owned()),
        Err(error) => Err(described(&error)),
    };
    vec![
        Check { what: "canary record of the database", outcome: kek },
        Check { what: "policy canary of the database", outcome: policy },
    ]
}

/// Whether the token opens what it wrapped under KEKs that are read-only by now: each has a canary of its own.
pub fn opens_older(hsm: &dyn Hsm, node: NodeId, keks: &[Kek]) -> Check {
    let what = "canaries of older KEKs";
    let older: Vec<&Kek> = keks.iter().filter(|kek| kek.state == KekState::ReadOnly).collect();
    let context = RecordContext::canary(node);
    let items = older.iter().map(|kek| ToUnwrap { context, record: kek.canary.clone() });
    match hsm.unwrap(items.collect()) {
        Err(error) => Check { what, outcome: Err(described(&error)) },
        Ok(opened) => {
            let closed = older.iter().zip(opened).filter(|(_, opened)| opened.is_err());
            let closed: Vec<_> = closed.map(|(kek, _)| crate::hex::encode(&kek.id)).collect();
            let otherwise = format!("KEK {} is not in the token, and records may name it still", closed.join(", "));
            Check::of(what, closed.is_empty(), format!("{} open", older.len()), otherwise)
        }
    }
}

fn context() -> Result<RecordContext, HsmError> {
    Ok(RecordContext { public: *random()?, ..RecordContext::data_key(NodeId::from_bytes(*random()?)) })
}

fn wrapped(hsm: &dyn Hsm, context: RecordContext, secret: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut records = hsm.wrap(vec![ToWrap { context, secret: Zeroizing::new(secret.to_vec()) }])?;
    records.pop().ok_or(Failure::Found("the token returned no record"))
}

fn opens(hsm: &dyn Hsm, context: RecordContext, record: Vec<u8>) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let mut opened = hsm.unwrap(vec![ToUnwrap { context, record }])?;
    Ok(opened.pop().ok_or(Failure::Found("the token returned nothing"))?.ok())
}

fn round_trip(hsm: &dyn Hsm) -> Result<String, Failure> {
    let (context, secret) = (context()?, random::<64>()?);
    let first = wrapped(hsm, context, secret.as_slice())?;
    let second = wrapped(hsm, context, secret.as_slice())?;
    let unreadable = |_| Failure::Found("the token returned a ciphertext of unexpected length");
    let (one, other) = (Record::parse(&first).map_err(unreadable)?, Record::parse(&second).map_err(unreadable)?);
    let suite = one.suite;
    if first.len() != suite.record_length(secret.len()) {
        return Err(Failure::Found("the token returned a ciphertext of unexpected length"));
    }
    if one.iv == other.iv || one.sealed == other.sealed {
        return Err(Failure::Found("two records of one secret have the same nonce"));
    }
    for record in [first, second] {
        match opens(hsm, context, record)? {
            Some(opened) if *opened == secret.as_slice() => {}
            _ => return Err(Failure::Found("the token did not give back what it encrypted")),
        }
    }
    Ok(format!("64 bytes with {}, twice, with different nonces", suite.name()))
}

fn refusals(hsm: &dyn Hsm) -> Result<String, Failure> {
    let (context, secret) = (context()?, random::<64>()?);
    let record = wrapped(hsm, context, secret.as_slice())?;
    let elsewhere = RecordContext { node: NodeId::from_bytes(*random()?), ..context };
    if opens(hsm, elsewhere, record.clone())?.is_some() {
        return Err(Failure::Found("a record opens with additional data that it was not made with"));
    }
    let suite = Record::parse(&record).map_err(|_| Failure::Found("the token returned no record"))?.suite;
    for (position, reason) in [
        (record.len() - 1, "a record with a wrong tag opens"),
        (HEADER + suite.iv_length(), "a record with altered ciphertext opens"),
        (HEADER, "a record with another nonce opens"),
    ] {
        let mut altered = record.clone();
        if let Some(byte) = altered.get_mut(position) {
            *byte ^= 1;
        }
        if opens(hsm, context, altered)?.is_some() {
            return Err(Failure::Found(reason));
        }
    }
    Ok("wrong additional data, tag, ciphertext and nonce".to_owned())
}

fn agreement(hsm: &dyn Hsm) -> Result<String, Failure> {
    let transport = p256::PublicKey::from_sec1_bytes(&hsm.transport_key().0)
        .map_err(|_| Failure::Found("the transport key is not a point of the curve P-256"))?;
    for _ in 0..2 {
        let Ok(ours) = SecretKey::from_slice(random::<32>()?.as_slice()) else { continue };
        let expected = p256::elliptic_curve::ecdh::diffie_hellman(ours.to_nonzero_scalar(), transport.as_affine());
        let mut peer = [0; 65];
        peer.copy_from_slice(ours.public_key().to_sec1_point(false).as_bytes());
        let agreed = hsm.dh(&peer)?;
        if verify_slices_are_equal(agreed.as_slice(), expected.raw_secret_bytes()).is_err() {
            return Err(Failure::Found("the token agrees on another secret than software does with its public key"));
        }
    }
    if !matches!(hsm.dh(&[4; 65]), Err(HsmError::PeerPoint)) {
        return Err(Failure::Found("a point that is not on the curve is not refused"));
    }
    Ok("P-256; a point off the curve is refused".to_owned())
}

fn signature(hsm: &dyn Hsm) -> Result<String, Failure> {
    let key = VerifyingKey::from_sec1_bytes(&hsm.audit_key().0)
        .map_err(|_| Failure::Found("the audit key is not a point of the curve P-256"))?;
    let (digest, other) = (*random::<32>()?, *random::<32>()?);
    let signature = Signature::from_slice(&hsm.sign(&digest)?)
        .map_err(|_| Failure::Found("the token returned no signature of two scalars"))?;
    if key.verify_prehash(&digest, &signature).is_err() || key.verify_prehash(&other, &signature).is_ok() {
        return Err(Failure::Found("the token's signature does not fit its public key and the digest"));
    }
    Ok("ECDSA P-256".to_owned())
}

fn authentication(hsm: &dyn Hsm) -> Result<String, Failure> {
    let message = random::<64>()?.to_vec();
    let mut other = message.clone();
    if let Some(byte) = other.first_mut() {
        *byte ^= 1;
    }
    match hsm.mac(vec![message.clone(), other, message])?.as_slice() {
        [first, other, again] if first == again && first != other => Ok("HMAC-SHA-256".to_owned()),
        _ => Err(Failure::Found("the HMAC of one message is not always the same, or is that of another one")),
    }
}
