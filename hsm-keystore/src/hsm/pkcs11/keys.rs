//! The keys of a node in its token: how they are made, found and described.
//!
//! Usage is narrow: the KEK can only encrypt and decrypt, the transport key only derive, the policy key only sign and
//! verify, the audit key only sign. None can wrap or be wrapped: a key that may wrap and decrypt gives away every extractable key beside it.

use cryptoki::{
    error::{Error as ModuleError, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
    types::Ulong,
};
use eds_core::manifest::Point;
use sha2::{Digest, Sha256};

use crate::hsm::{
    Custody, HsmError, TokenKeyId, software,
    wrapped::{HeldKeys, Pair},
};

/// What a key in the token is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Encrypts shares at rest.
    Kek,
    /// Authenticates shares at rest in suite 2. It belongs to the KEK, and its id follows from that.
    KekMac,
    /// Opens shares that are sealed to this node.
    Transport,
    /// Authenticates access lists.
    Policy,
    /// Signs checkpoints of the audit log.
    Audit,
}

impl Role {
    /// All five.
    pub const ALL: [Self; 5] = [Self::Kek, Self::KekMac, Self::Transport, Self::Policy, Self::Audit];

    /// Its label (`CKA_LABEL`) in the token.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kek => "eds-kek",
            Self::KekMac => "eds-kek-mac",
            Self::Transport => Pair::Transport.label(),
            Self::Policy => "eds-policy",
            Self::Audit => Pair::Audit.label(),
        }
    }

    /// Its kind, for people.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Kek => "AES-256",
            Self::Transport | Self::Audit => "EC P-256",
            Self::Policy | Self::KekMac => "HMAC-SHA-256",
        }
    }

    /// That of a key pair.
    pub(super) const fn of_pair(pair: Pair) -> Self {
        match pair {
            Pair::Transport => Self::Transport,
            Pair::Audit => Self::Audit,
        }
    }

    /// Which key pair it is, if it is one.
    pub(super) const fn pair(self) -> Option<Pair> {
        match self {
            Self::Transport => Some(Pair::Transport),
            Self::Audit => Some(Pair::Audit),
            Self::Kek | Self::KekMac | Self::Policy => None,
        }
    }

    pub(super) const fn class(self) -> ObjectClass {
        match self {
            Self::Kek | Self::KekMac | Self::Policy => ObjectClass::SECRET_KEY,
            Self::Transport | Self::Audit => ObjectClass::PRIVATE_KEY,
        }
    }
}

/// DER of the object identifier of P-256 (secp256r1).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Something of each key: its id, or its handle. A key pair that is wrapped beside the token has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Keys<T> {
    pub(super) kek: T,
    pub(super) kek_mac: T,
    pub(super) transport: Option<T>,
    pub(super) policy: T,
    pub(super) audit: Option<T>,
}

/// The ids of the keys. That of the KEK's HMAC key follows from that of the KEK.
pub(super) type KeyIds = Keys<TokenKeyId>;

/// The keys as one session sees them. Handles are found anew with each session.
pub(super) type KeyHandles = Keys<ObjectHandle>;

impl<T: Copy> Keys<T> {
    /// Those that are in the token.
    pub(super) fn present(&self) -> Vec<(Role, T)> {
        let of = |role| match role {
            Role::Kek => Some(self.kek),
            Role::KekMac => Some(self.kek_mac),
            Role::Transport => self.transport,
            Role::Policy => Some(self.policy),
            Role::Audit => self.audit,
        };
        Role::ALL.into_iter().filter_map(|role| of(role).map(|key| (role, key))).collect()
    }
}

/// A KEK and its HMAC key as one session sees them.
#[derive(Clone, Copy)]
pub(super) struct KekHandles {
    pub(super) kek: ObjectHandle,
    pub(super) mac: ObjectHandle,
}

impl KekHandles {
    /// Those of one KEK, if it is in the token once.
    pub(super) fn find(session: &Session, kek: &TokenKeyId) -> Result<Option<Self>, HsmError> {
        let keks = find(session, Role::Kek, Some(kek))?;
        let macs = find(session, Role::KekMac, Some(&KeyIds::kek_mac_of(kek)))?;
        match (keks.as_slice(), macs.as_slice()) {
            ([kek], [mac]) => Ok(Some(Self { kek: *kek, mac: *mac })),
            _ => Ok(None),
        }
    }
}

impl KeyHandles {
    /// Those of the KEK.
    pub(super) const fn active(&self) -> KekHandles {
        KekHandles { kek: self.kek, mac: self.kek_mac }
    }
}

impl KeyIds {
    /// Finds the keys by label alone: exactly one of each, and none of a key pair that is wrapped beside the token. Of
    /// several KEKs, `kek` says which is the active one.
    pub(super) fn find(
        session: &Session,
        token: &str,
        custody: Custody,
        kek: Option<TokenKeyId>,
    ) -> Result<Self, HsmError> {
        let of = |role: Role| -> Result<TokenKeyId, HsmError> {
            let handle = the_only(session, token, role, None)?;
            id_of(session, handle)?
                .ok_or_else(|| setup(token, format!("the key {:?} has no id of 16 bytes", role.label())))
        };
        let pair = |role: Role, in_memory: bool| match in_memory {
            false => of(role).map(Some),
            true if find(session, role, None)?.is_empty() => Ok(None),
            true => {
                let reason = format!("there is a key {:?} in it and a wrapped one beside it", role.label());
                Err(setup(token, format!("{reason}; the file of hsm.weaker_wrapped_keys is of another node")))
            }
        };
        let kek = match kek {
            Some(kek) if find(session, Role::Kek, Some(&kek))?.len() == 1 => kek,
            // Another token, perhaps: that shows when the canary does not open.
            _ => of(Role::Kek)?,
        };
        Ok(Self {
            kek,
            kek_mac: Self::kek_mac_of(&kek),
            transport: pair(Role::Transport, custody.transport_in_memory)?,
            policy: of(Role::Policy)?,
            audit: pair(Role::Audit, custody.audit_in_memory)?,
        })
    }

    /// The same with another KEK.
    pub(super) fn with_kek(self, kek: TokenKeyId) -> Self {
        Self { kek, kek_mac: Self::kek_mac_of(&kek), ..self }
    }

    /// The id of the HMAC key that belongs to a KEK. It is another one, since NSS takes two secret keys of one id for
    /// the same key.
    pub(super) fn kek_mac_of(kek: &TokenKeyId) -> TokenKeyId {
        let digest = Sha256::new().chain_update(b"eds/v1/kek-mac").chain_update(kek.as_bytes()).finalize();
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        TokenKeyId::from_bytes(id)
    }

    /// The handles of the keys in this session, by label and id: exactly one of each.
    pub(super) fn handles(&self, session: &Session, token: &str) -> Result<KeyHandles, HsmError> {
        let of = |role, id: &TokenKeyId| the_only(session, token, role, Some(id));
        let pair = |role, id: Option<TokenKeyId>| id.map(|id| of(role, &id)).transpose();
        Ok(KeyHandles {
            kek: of(Role::Kek, &self.kek)?,
            kek_mac: of(Role::KekMac, &self.kek_mac)?,
            transport: pair(Role::Transport, self.transport)?,
            policy: of(Role::Policy, &self.policy)?,
            audit: pair(Role::Audit, self.audit)?,
        })
    }
}

/// All keys with the label of this role.
pub(super) fn find(session: &Session, role: Role, id: Option<&TokenKeyId>) -> Result<Vec<ObjectHandle>, HsmError> {
    let mut template =
        vec![Attribute::Class(role.class()), Attribute::Label(role.label().into()), Attribute::Token(true)];
    if let Some(id) = id {
        template.push(Attribute::Id(id.as_bytes().to_vec()));
    }
    session.find_objects(&template).map_err(unavailable)
}

/// The id of a key; none when it is not one of ours.
pub(super) fn id_of(session: &Session, key: ObjectHandle) -> Result<Option<TokenKeyId>, HsmError> {
    let attributes = session.get_attributes(key, &[AttributeType::Id]).map_err(unavailable)?;
    Ok(match attributes.as_slice() {
        [Attribute::Id(id)] => <[u8; 16]>::try_from(id.as_slice()).ok().map(TokenKeyId::from_bytes),
        _ => None,
    })
}

fn the_only(session: &Session, token: &str, role: Role, id: Option<&TokenKeyId>) -> Result<ObjectHandle, HsmError> {
    let label = role.label();
    match find(session, role, id)?.as_slice() {
        [handle] => Ok(*handle),
        [] if role.pair().is_some() => Err(setup(
            token,
            format!(
                "there is no key {label:?}; `eds-keystored init` makes it, or, where the token has no elliptic curves and \
                 weaker keys will do, hsm.weaker_wrapped_keys names the file that it is wrapped in"
            ),
        )),
        [] => Err(setup(token, format!("there is no key {label:?}; `eds-keystored init` makes it"))),
        several => {
            let count = several.len();
            Err(setup(token, format!("there are {count} keys {label:?} where there must be one")))
        }
    }
}

/// The public half of the transport or audit key, which lies beside the private one.
pub(super) fn public_point(session: &Session, token: &str, role: Role, id: &TokenKeyId) -> Result<Point, HsmError> {
    let template = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::Label(role.label().into()),
        Attribute::Id(id.as_bytes().to_vec()),
    ];
    let missing = || setup(token, format!("the public half of the key {:?} is missing or not readable", role.label()));
    let found = session.find_objects(&template).map_err(unavailable)?;
    let [handle] = found.as_slice() else { return Err(missing()) };
    let attributes = session.get_attributes(*handle, &[AttributeType::EcPoint]).map_err(unavailable)?;
    let [Attribute::EcPoint(encoded)] = attributes.as_slice() else { return Err(missing()) };
    // The point is a DER OCTET STRING (PKCS#11 v3.0, section 2.3.3); some tokens give the bare 65 bytes.
    let bare = encoded.strip_prefix(&[0x04, 0x41]).filter(|rest| rest.len() == 65).unwrap_or(encoded);
    let key = p256::PublicKey::from_sec1_bytes(bare).map_err(|_| missing())?;
    Ok(software::compressed(&key))
}

/// The public halves of the key pairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Points {
    pub(super) transport: Point,
    pub(super) audit: Point,
}

impl Points {
    /// That of one pair.
    pub(super) const fn of(&self, pair: Pair) -> Point {
        match pair {
            Pair::Transport => self.transport,
            Pair::Audit => self.audit,
        }
    }

    /// Reads them from the token, and those of wrapped keys from what was unwrapped.
    pub(super) fn find(session: &Session, token: &str, ids: &KeyIds, held: &HeldKeys) -> Result<Self, HsmError> {
        let of = |pair: Pair, role: Role, id: Option<TokenKeyId>| match (id, held.public(pair)) {
            (Some(id), _) => public_point(session, token, role, &id),
            (None, Some(point)) => Ok(point),
            (None, None) => Err(setup(token, format!("the key {:?} was not unwrapped", role.label()))),
        };
        Ok(Self {
            transport: of(Pair::Transport, Role::Transport, ids.transport)?,
            audit: of(Pair::Audit, Role::Audit, ids.audit)?,
        })
    }
}

/// Makes the key of this role, with narrow usage.
pub(super) fn generate(session: &Session, role: Role, id: &TokenKeyId) -> Result<(), ModuleError> {
    let common = |mut attributes: Vec<Attribute>| {
        attributes.extend([
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Label(role.label().into()),
            Attribute::Id(id.as_bytes().to_vec()),
        ]);
        attributes
    };
    match role {
        Role::Kek => {
            let template = common(vec![
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::AES),
                Attribute::ValueLen(Ulong::new(32)),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Sign(false),
                Attribute::Verify(false),
                Attribute::Wrap(false),
                Attribute::Unwrap(false),
                Attribute::Derive(false),
            ]);
            laddered(template, |template| session.generate_key(&Mechanism::AesKeyGen, template).map(drop))
        }
        Role::Policy | Role::KekMac => {
            let template = common(vec![
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Attribute::ValueLen(Ulong::new(32)),
                Attribute::Sign(true),
                Attribute::Verify(true),
                Attribute::Encrypt(false),
                Attribute::Decrypt(false),
                Attribute::Wrap(false),
                Attribute::Unwrap(false),
                Attribute::Derive(false),
            ]);
            laddered(template, |template| session.generate_key(&Mechanism::GenericSecretKeyGen, template).map(drop))
        }
        Role::Transport | Role::Audit => {
            let public = vec![
                Attribute::Token(true),
                Attribute::Private(false),
                Attribute::EcParams(P256.to_vec()),
                Attribute::Verify(role == Role::Audit),
                Attribute::Encrypt(false),
                Attribute::Wrap(false),
                Attribute::Label(role.label().into()),
                Attribute::Id(id.as_bytes().to_vec()),
            ];
            let private = common(vec![
                Attribute::Derive(role == Role::Transport),
                Attribute::Sign(role == Role::Audit),
                Attribute::SignRecover(false), // SoftHSM sets it when it is not named
                Attribute::Decrypt(false),
                Attribute::Unwrap(false),
            ]);
            laddered(private, |private| {
                laddered(public.clone(), |public| {
                    session.generate_key_pair(&Mechanism::EccKeyPairGen, public, private).map(drop)
                })
            })
        }
    }
}

/// Makes a key with the whole template, and if the token refuses that, without the uses that it may not have: some tokens
/// do not know all of them. What the token made of it is read back and must be exactly what was wanted.
fn laddered(
    template: Vec<Attribute>,
    make: impl Fn(&[Attribute]) -> Result<(), ModuleError>,
) -> Result<(), ModuleError> {
    match make(&template) {
        Err(ModuleError::Pkcs11(code, _)) if is_about_the_template(code) => {
            let reduced: Vec<_> = template.into_iter().filter(|attribute| !is_denied_use(attribute)).collect();
            make(&reduced)
        }
        made => made,
    }
}

fn is_about_the_template(code: RvError) -> bool {
    matches!(
        code,
        RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::AttributeReadOnly
            | RvError::TemplateInconsistent
            | RvError::TemplateIncomplete
    )
}

fn is_denied_use(attribute: &Attribute) -> bool {
    use Attribute as A;
    matches!(
        attribute,
        A::Encrypt(false)
            | A::Decrypt(false)
            | A::Sign(false)
            | A::SignRecover(false)
            | A::Verify(false)
            | A::Wrap(false)
            | A::Unwrap(false)
            | A::Derive(false)
    )
}

/// Removes everything with the label and id of a key: what a broken-off ceremony made, or a retired KEK.
pub(super) fn destroy(session: &Session, role: Role, id: &TokenKeyId) {
    let template = [Attribute::Label(role.label().into()), Attribute::Id(id.as_bytes().to_vec())];
    for handle in session.find_objects(&template).unwrap_or_default() {
        if let Err(error) = session.destroy_object(handle) {
            tracing::warn!(label = role.label(), %error, "a key that was to be removed stays in the token");
        }
    }
}

pub(super) fn unavailable(source: ModuleError) -> HsmError {
    HsmError::Unavailable { operation: "look at its keys", source: Some(source) }
}

pub(super) fn setup(token: &str, reason: String) -> HsmError {
    HsmError::Setup { token: token.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn a_refused_template_is_tried_once_more_without_denied_uses_only() {
        let template = || vec![Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Derive(false)];
        let refuse = |code: RvError| {
            let seen = RefCell::new(Vec::new());
            let made = laddered(template(), |template| {
                seen.borrow_mut().push(template.to_vec());
                if seen.borrow().len() == 1 { Err(ModuleError::Pkcs11(code, Function::GenerateKey)) } else { Ok(()) }
            });
            (made.is_ok(), seen.into_inner())
        };
        let (made, seen) = refuse(RvError::AttributeTypeInvalid);
        assert!(made);
        assert_eq!(seen, [template(), template()[..2].to_vec()]);
        // Another error is none of the template's.
        let (made, seen) = refuse(RvError::DeviceError);
        assert!(!made && seen.len() == 1);
    }
}
