//! Whether a token can hold a key pair: it makes one and uses it, since tokens list what they refuse to do.
//!
//! Only answers that mean «I have no such thing» count as an inability. Any other failure breaks the ceremony off: a token
//! that is out of order for a moment must not end in weaker keys.

use cryptoki::{
    error::{Error as ModuleError, RvError},
    session::Session,
};
use p256::{
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier},
    elliptic_curve::sec1::ToSec1Point,
};

use super::{
    keys::{self, Role},
    seat::{self, Failed},
};
use crate::hsm::{HsmError, TokenKeyId, memory::random, software, wrapped::Pair};

/// A key pair that was not made.
pub(super) enum Unfit {
    /// The token cannot do that.
    Lacking(String),
    /// Something else went wrong.
    Failed(HsmError),
}

impl From<HsmError> for Unfit {
    fn from(error: HsmError) -> Self {
        Self::Failed(error)
    }
}

/// Makes a key pair with this id, and does with it what a node does.
pub(super) fn make_pair(session: &Session, pair: Pair, id: &TokenKeyId) -> Result<(), Unfit> {
    let role = Role::of_pair(pair);
    keys::generate(session, role, id).map_err(|error| {
        if is_lacking(&error) {
            Unfit::Lacking(format!("it makes no {} key {:?} ({})", role.kind(), role.label(), named(&error)))
        } else {
            Unfit::Failed(HsmError::Unavailable { operation: "make a key pair", source: Some(error) })
        }
    })?;
    let public = keys::public_point(session, "", role, id)?;
    let found = keys::find(session, role, Some(id))?;
    let broken = |operation| Unfit::Failed(HsmError::Unavailable { operation, source: None });
    let [handle] = found.as_slice() else { return Err(broken("find the key pair that it made")) };
    match pair {
        Pair::Transport => {
            let (ours, _) = software::fresh_key()?;
            let peer: [u8; 65] = ours
                .public_key()
                .to_sec1_point(false)
                .as_bytes()
                .try_into()
                .map_err(|_| broken("agree on a secret"))?;
            let agreed = seat::derive(session, *handle, &peer).map_err(|failed| used(role, failed))?;
            let theirs = p256::PublicKey::from_sec1_bytes(&public.0).map_err(|_| broken("tell its public key"))?;
            let expected = p256::elliptic_curve::ecdh::diffie_hellman(ours.to_nonzero_scalar(), theirs.as_affine());
            if agreed.as_slice() != expected.raw_secret_bytes().as_slice() {
                return Err(broken("agree on the secret that software agrees on with its public key"));
            }
        }
        Pair::Audit => {
            let digest = *random::<32>()?;
            let signature = seat::sign(session, *handle, &digest).map_err(|failed| used(role, failed))?;
            let key = VerifyingKey::from_sec1_bytes(&public.0).map_err(|_| broken("tell its public key"))?;
            let verified =
                Signature::from_slice(&signature).is_ok_and(|found| key.verify_prehash(&digest, &found).is_ok());
            if !verified {
                return Err(broken("sign so that its public key verifies"));
            }
        }
    }
    Ok(())
}

fn used(role: Role, failed: Failed) -> Unfit {
    match failed {
        Failed::Module(error) if is_lacking(&error) => {
            Unfit::Lacking(format!("it makes the key {:?} and cannot use it ({})", role.label(), named(&error)))
        }
        Failed::Module(error) => {
            Unfit::Failed(HsmError::Unavailable { operation: "use a key pair", source: Some(error) })
        }
        Failed::Random(error) => Unfit::Failed(error),
        // A token that never shows an agreed secret is as good as one that does not agree.
        Failed::Output => {
            Unfit::Lacking(format!("it makes the key {:?} and does not give what it yields", role.label()))
        }
    }
}

/// The code without the paragraph of the standard that explains it.
fn named(error: &ModuleError) -> String {
    match error {
        ModuleError::Pkcs11(code, function) => format!("{function:?}: {code:?}"),
        error => error.to_string(),
    }
}

/// Whether this answer means that the token has no such mechanism, curve or use of keys.
fn is_lacking(error: &ModuleError) -> bool {
    match error {
        ModuleError::NullFunctionPointer => true,
        ModuleError::Pkcs11(code, _) => matches!(
            code,
            RvError::MechanismInvalid
                | RvError::MechanismParamInvalid
                | RvError::FunctionNotSupported
                | RvError::CurveNotSupported
                | RvError::DomainParamsInvalid
                | RvError::KeyTypeInconsistent
                | RvError::AttributeTypeInvalid
                | RvError::AttributeValueInvalid
                | RvError::TemplateInconsistent
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn an_outage_is_no_inability() {
        let of = |code| is_lacking(&ModuleError::Pkcs11(code, Function::GenerateKeyPair));
        assert!(of(RvError::MechanismInvalid) && of(RvError::FunctionNotSupported));
        for code in [
            RvError::GeneralError,
            RvError::DeviceError,
            RvError::DeviceRemoved,
            RvError::FunctionFailed,
            RvError::SessionHandleInvalid,
            RvError::UserNotLoggedIn,
            RvError::TokenWriteProtected,
            RvError::DeviceMemory,
        ] {
            assert!(!of(code), "{code:?}");
        }
    }
}
