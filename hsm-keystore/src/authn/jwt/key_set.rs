//! The keys that an issuer publishes (RFC 7517), as far as they may verify tokens.
//!
//! Keys of another kind, for encryption, with less than 2048 bits of RSA or on another curve are passed over: a set holds
//! what the issuer needs, not what this node accepts. Symmetric keys (`oct`) are among those passed over.

use aws_lc_rs::signature::{self, UnparsedPublicKey};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value};

use super::{Algorithm, Refusal, strict_json};

/// The keys of an issuer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// One key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    material: Material,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

/// Bytes that are no key set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a JWK set, or one that is larger than any real one")]
pub struct NotAKeySet;

/// A signature that does not verify.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wrong;

impl KeySet {
    /// Reads a key set.
    ///
    /// # Errors
    /// [`NotAKeySet`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAKeySet> {
        if bytes.len() > MAX_BYTES {
            return Err(NotAKeySet);
        }
        let set = strict_json::object(bytes).ok_or(NotAKeySet)?;
        let Some(Value::Array(list)) = set.get("keys") else { return Err(NotAKeySet) };
        if list.len() > MAX_KEYS {
            return Err(NotAKeySet);
        }
        Ok(Self { keys: list.iter().filter_map(Value::as_object).filter_map(Key::parse).collect() })
    }

    /// How many keys may verify tokens.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key may verify tokens.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key for a token with this key id and algorithm.
    pub(super) fn choose(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, Refusal> {
        let named: Vec<&Key> = self.keys.iter().filter(|key| id.is_none() || key.id.as_deref() == id).collect();
        let fitting: Vec<&Key> = named.iter().copied().filter(|key| key.fits(algorithm)).collect();
        match fitting.as_slice() {
            [key] => Ok(key),
            [_, _, ..] => Err(Refusal::AmbiguousKey),
            [] if named.is_empty() || id.is_none() => Err(Refusal::UnknownKey),
            [] => Err(Refusal::OtherKey),
        }
    }
}

impl Key {
    fn parse(members: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let bytes = |name: &str| Base64UrlUnpadded::decode_vec(text(name)?).ok();
        if members.contains_key("use") && text("use") != Some("sig") {
            return None;
        }
        if let Some(operations) = members.get("key_ops")
            && !operations.as_array()?.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let point = |length: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == length && y.len() == length).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                let n: Vec<u8> = n.iter().copied().skip_while(|byte| *byte == 0).collect();
                let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
                (2048..=8192).contains(&bits).then_some(Material::Rsa { n, e })?
            }
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            _ => return None,
        };
        Some(Self { id: text("kid").map(str::to_owned), algorithm: text("alg").map(str::to_owned), material })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let kind_fits = match self.material {
            Material::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Material::P256(_) => algorithm == Es256,
            Material::P384(_) => algorithm == Es384,
        };
        kind_fits && self.algorithm.as_deref().is_none_or(|name| name == algorithm.name())
    }

    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signed: &[u8]) -> Result<(), Wrong> {
        let result = match (&self.material, algorithm) {
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signed)
            }
            (Material::P384(point), Algorithm::Es384) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(message, signed)
            }
            (Material::Rsa { n, e }, algorithm) => {
                let parameters = match algorithm {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
                    Algorithm::Es256 | Algorithm::Es384 => return Err(Wrong),
                };
                signature::RsaPublicKeyComponents { n, e }.verify(parameters, message, signed)
            }
            _ => return Err(Wrong),
        };
        result.map_err(|_| Wrong)
    }
}

const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 64;
