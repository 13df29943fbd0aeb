//! What the attributes of the keys say, and whether the token keeps to them.
//!
//! The same looks are taken at every start and printed at the ceremony. Attributes alone prove little (one known token
//! gives non-extractable keys out), so extraction is tried, and must fail.

use std::fmt;

use cryptoki::{
    error::Error as ModuleError,
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
    types::Ulong,
};
use eds_core::manifest::Point;
use sha2::{Digest, Sha256};

use super::{
    keys::{Points, Role, find, id_of, unavailable},
    ring::KeyRing,
    seat::Open,
    token::Token,
};
use crate::{
    hex,
    hsm::{HsmError, Suite, TokenKeyId, self_test::Check, wrapped::WrappedKeys},
};

/// What is known of one key in the token. Nothing of it is secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyDescription {
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub place: Place,
    /// A check value for the ceremony record: the first 8 bytes of a fixed block encrypted or authenticated, or of the
    /// SHA-256 of the public key.
    pub fingerprint: String,
    /// The attributes that are set.
    pub set: Vec<&'static str>,
    /// The attributes that are not set, or that the token does not tell.
    pub unset: Vec<&'static str>,
}

/// Where a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the token, under this id.
    Token(TokenKeyId),
    /// Beside the token, wrapped by its KEK, and in the server's memory while it serves: weaker.
    Wrapped {
        /// The suite of the record.
        suite: Suite,
        /// The KEK that wrapped it.
        kek: TokenKeyId,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => write!(f, "id {id}"),
            Self::Wrapped { suite, kek } => write!(
                f,
                "WEAKER: not in the token, but wrapped by KEK {kek} with suite {}, and in the server's memory while it \
                 serves",
                suite.code()
            ),
        }
    }
}

const FLAGS: [(&str, AttributeType); 15] = [
    ("TOKEN", AttributeType::Token),
    ("PRIVATE", AttributeType::Private),
    ("SENSITIVE", AttributeType::Sensitive),
    ("ALWAYS_SENSITIVE", AttributeType::AlwaysSensitive),
    ("EXTRACTABLE", AttributeType::Extractable),
    ("NEVER_EXTRACTABLE", AttributeType::NeverExtractable),
    ("LOCAL", AttributeType::Local),
    ("ENCRYPT", AttributeType::Encrypt),
    ("DECRYPT", AttributeType::Decrypt),
    ("SIGN", AttributeType::Sign),
    ("VERIFY", AttributeType::Verify),
    ("DERIVE", AttributeType::Derive),
    ("WRAP", AttributeType::Wrap),
    ("UNWRAP", AttributeType::Unwrap),
    ("SIGN_RECOVER", AttributeType::SignRecover),
];

const KEPT: [&str; 6] = ["TOKEN", "PRIVATE", "SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL"];

impl Role {
    /// What the key may be used for.
    const fn usage(self) -> &'static [&'static str] {
        match self {
            Self::Kek => &["ENCRYPT", "DECRYPT"],
            Self::Transport => &["DERIVE"],
            Self::Policy | Self::KekMac => &["SIGN", "VERIFY"],
            Self::Audit => &["SIGN"],
        }
    }
}

impl KeyDescription {
    /// Whether the attributes are exactly those that the role asks for.
    pub fn check(&self) -> Check {
        let what = match self.role {
            Role::Kek => "attributes of the KEK",
            Role::KekMac => "attributes of the KEK's HMAC key",
            Role::Transport => "attributes of the transport key",
            Role::Policy => "attributes of the policy key",
            Role::Audit => "attributes of the audit key",
        };
        if let Place::Wrapped { .. } = self.place {
            return Check { what, outcome: Ok(self.place.to_string()) };
        }
        let wanted = || KEPT.iter().chain(self.role.usage());
        let missing: Vec<_> = wanted().filter(|name| !self.set.contains(name)).copied().collect();
        let extra: Vec<_> = self.set.iter().filter(|name| !wanted().any(|want| want == *name)).copied().collect();
        let otherwise = format!(
            "not set but needed: [{}]; set but not wanted: [{}]; the key must be made by `eds-keystored init`",
            missing.join(", "),
            extra.join(", ")
        );
        Check::of(what, missing.is_empty() && extra.is_empty(), self.set.join(", "), otherwise)
    }
}

/// Describes the keys.
pub(super) fn describe(open: &Open, ring: &KeyRing) -> Result<Vec<KeyDescription>, HsmError> {
    let mut keys = Vec::new();
    for ((role, id), (_, handle)) in open.ids.present().into_iter().zip(open.keys.present()) {
        let fingerprint = match role.pair() {
            Some(pair) => public_fingerprint(&ring.points.of(pair)),
            None => fingerprint(&open.session, role, handle)?,
        };
        keys.push(in_token(&open.session, role, id, handle, fingerprint)?);
    }
    for key in ring.wrapped.iter().flat_map(WrappedKeys::keys) {
        let unreadable = || HsmError::Unavailable { operation: "describe a wrapped key", source: None };
        let (suite, kek) = key.wrapped_by().ok_or_else(unreadable)?;
        let place = Place::Wrapped { suite, kek };
        let (role, fingerprint) = (Role::of_pair(key.pair), public_fingerprint(&key.public));
        keys.push(KeyDescription { role, place, fingerprint, set: Vec::new(), unset: Vec::new() });
    }
    Ok(keys)
}

/// Describes every KEK in the token, with its HMAC key.
pub(super) fn describe_keks(session: &Session) -> Result<Vec<KeyDescription>, HsmError> {
    let mut keys = Vec::new();
    for role in [Role::Kek, Role::KekMac] {
        for handle in find(session, role, None)? {
            if let Some(id) = id_of(session, handle)? {
                keys.push(in_token(session, role, id, handle, fingerprint(session, role, handle)?)?);
            }
        }
    }
    Ok(keys)
}

fn in_token(
    session: &Session,
    role: Role,
    id: TokenKeyId,
    handle: ObjectHandle,
    fingerprint: String,
) -> Result<KeyDescription, HsmError> {
    let types: Vec<AttributeType> = FLAGS.iter().map(|(_, kind)| *kind).collect();
    let names = |flags: Vec<&(&'static str, AttributeType)>| flags.into_iter().map(|(name, _)| *name).collect();
    let found = session.get_attributes(handle, &types).map_err(unavailable)?;
    let is_set = |kind: &AttributeType| found.iter().any(|attribute| is_true(attribute, *kind));
    let (set, unset): (Vec<_>, Vec<_>) = FLAGS.iter().partition(|(_, kind)| is_set(kind));
    Ok(KeyDescription { role, place: Place::Token(id), fingerprint, set: names(set), unset: names(unset) })
}

/// All looks that are taken at the start.
pub(super) fn checks(open: &Open, token: &Token, ring: &KeyRing) -> Result<Vec<Check>, HsmError> {
    let custody = match ring.custody().weaker() {
        None => "in the token".to_owned(),
        Some(weaker) => format!("WEAKER than keys in a token, as hsm.weaker_wrapped_keys permits: {weaker}"),
    };
    let mut checks = vec![Check { what: "private keys", outcome: Ok(custody) }, single(open)?];
    checks.extend(describe(open, ring)?.iter().map(KeyDescription::check));
    let found = Points::find(&open.session, token.label(), &open.ids, &ring.held)?;
    checks.push(Check::of(
        "public keys",
        found == ring.points,
        format!("transport {}, audit {}", hex::encode(&found.transport.0), hex::encode(&found.audit.0)),
        "they changed since this process started",
    ));
    checks.push(hidden(open)?);
    checks.push(kept(open)?);
    Ok(checks)
}

fn single(open: &Open) -> Result<Check, HsmError> {
    let what = "one key of each label and id";
    let present = open.ids.present();
    let mut older = 0;
    for role in Role::ALL {
        let id = present.iter().find(|(there, _)| *there == role).map(|(_, id)| id);
        let count = find(&open.session, role, None)?.len();
        let same = id.map_or(Ok(0), |id| find(&open.session, role, Some(id)).map(|found| found.len()))?;
        let wanted = usize::from(id.is_some());
        // A KEK that wrapped records before stays: the database knows which is which.
        let counted = if matches!(role, Role::Kek | Role::KekMac) { same } else { count };
        older += count.saturating_sub(counted);
        if (counted, same) != (wanted, wanted) {
            let reason = format!("{count} keys have the label {:?}, {same} of them this id", role.label());
            return Ok(Check { what, outcome: Err(reason) });
        }
    }
    let mut found: Vec<_> = present.iter().map(|(role, id)| format!("{} {id}", role.label())).collect();
    if older > 0 {
        found.push(format!("and {older} keys of KEKs that are not the active one"));
    }
    Ok(Check { what, outcome: Ok(found.join(", ")) })
}

/// The value of a sensitive key is not told.
fn hidden(open: &Open) -> Result<Check, HsmError> {
    let what = "key values are hidden";
    let keys = open.keys.present();
    for (_, handle) in &keys {
        let told = open.session.get_attributes(*handle, &[AttributeType::Value]).unwrap_or_default();
        for attribute in told {
            if let Attribute::Value(value) = attribute
                && !zeroize::Zeroizing::new(value).is_empty()
            {
                return Ok(Check { what, outcome: Err("the token tells the value of a sensitive key".into()) });
            }
        }
    }
    Ok(Check { what, outcome: Ok(format!("of all {}", keys.len())) })
}

/// No mechanism wraps the keys: tried with a key made for it.
pub(super) fn kept(open: &Open) -> Result<Check, HsmError> {
    let what = "keys cannot be wrapped out";
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(Ulong::new(32)),
        Attribute::Token(false),
        Attribute::Wrap(true),
        Attribute::Unwrap(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
    ];
    let wrapping = open.session.generate_key(&Mechanism::AesKeyGen, &template).map_err(unavailable)?;
    let mut refusals = 0;
    let mut leaked = None;
    for (role, handle) in open.keys.present() {
        let name = role.label();
        for mechanism in
            [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad, Mechanism::AesCbc([0; 16]), Mechanism::AesCbcPad([0; 16])]
        {
            match open.session.wrap_key(&mechanism, wrapping, handle) {
                Ok(_) => leaked = Some(name),
                Err(_) => refusals += 1,
            }
        }
    }
    open.session.destroy_object(wrapping).map_err(unavailable)?;
    let found = format!("{refusals} tries refused");
    let otherwise = format!("the token gives out the non-extractable {}; it cannot be used", leaked.unwrap_or("key"));
    Ok(Check::of(what, leaked.is_none(), found, otherwise))
}

/// A check value that people can compare. The block is not zero: the encrypted zero block is the GHASH key of AES-GCM.
fn fingerprint(session: &Session, role: Role, handle: ObjectHandle) -> Result<String, HsmError> {
    let fixed = Sha256::digest(b"eds/v1/fingerprint");
    let failed = |source: ModuleError| HsmError::Unavailable { operation: "make a fingerprint", source: Some(source) };
    let bytes = match role {
        Role::Kek => {
            let block = fixed.get(..16).unwrap_or_default();
            session.encrypt(&Mechanism::AesCbc([0; 16]), handle, block)
        }
        _ => session.sign(&Mechanism::Sha256Hmac, handle, &fixed),
    };
    let bytes = bytes.map_err(failed)?;
    Ok(hex::encode(bytes.get(..8).unwrap_or(&bytes)))
}

fn public_fingerprint(point: &Point) -> String {
    let digest = Sha256::digest(point.0);
    hex::encode(digest.get(..8).unwrap_or(&digest))
}

fn is_true(attribute: &Attribute, kind: AttributeType) -> bool {
    use Attribute as A;
    attribute.attribute_type() == kind
        && matches!(
            attribute,
            A::Token(true)
                | A::Private(true)
                | A::Sensitive(true)
                | A::AlwaysSensitive(true)
                | A::Extractable(true)
                | A::NeverExtractable(true)
                | A::Local(true)
                | A::Encrypt(true)
                | A::Decrypt(true)
                | A::Sign(true)
                | A::Verify(true)
                | A::Derive(true)
                | A::Wrap(true)
                | A::Unwrap(true)
                | A::SignRecover(true)
        )
}
