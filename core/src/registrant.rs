//! Who registers a key, as bytes that client and node compute alike.
//!
//! HPKE base mode knows no sender, so the digest of the registrant is part of what a sealed share is bound to: a captured
//! message cannot be registered by somebody else.

use sha2::{Digest, Sha256};

use crate::ids::{ClusterId, DeviceId};

/// The kind of imaging devices.
pub const KIND_DEVICE: &str = "device";

/// A registrant: the name of a caller within the namespace of the authority that vouches for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registrant<'a> {
    /// How the name was proven: `x509`, `jwt` or `device`.
    pub kind: &'a str,
    /// The authority: the DER of the issuer name of a certificate, or the issuer of a token.
    pub namespace: &'a [u8],
    /// The name: the DER of the subject name of a certificate, or the subject of a token.
    pub subject: &'a [u8],
}

impl<'a> Registrant<'a> {
    /// An imaging device of a cluster.
    pub const fn device(cluster: &'a ClusterId, device: &'a DeviceId) -> Self {
        Self { kind: KIND_DEVICE, namespace: cluster.as_bytes(), subject: device.as_bytes() }
    }

    /// SHA-256("eds/v1/registrant" ‖ kind ‖ namespace ‖ subject), each after its length as u32 LE.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"eds/v1/registrant");
        for field in [self.kind.as_bytes(), self.namespace, self.subject] {
            hash.update((field.len() as u32).to_le_bytes());
            hash.update(field);
        }
        hash.finalize().into()
    }
}

/// What a sealed registration is bound to: SHA-256 of the manifest digests in order, followed by the registrant's digest.
pub fn registration_aad(manifest_digests: impl IntoIterator<Item = [u8; 32]>, registrant: &[u8; 32]) -> [u8; 64] {
    let mut hash = Sha256::new();
    for digest in manifest_digests {
        hash.update(digest);
    }
    let mut aad = [0; 64];
    let (manifests, who) = aad.split_at_mut(32);
    manifests.copy_from_slice(&hash.finalize());
    who.copy_from_slice(registrant);
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let of = |namespace, subject| Registrant { kind: "x509", namespace, subject }.digest();
        assert_ne!(of(b"ab", b"c"), of(b"a", b"bc"));
        assert_ne!(of(b"", b"abc"), of(b"abc", b""));
    }
}
