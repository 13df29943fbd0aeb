//! AES-256-GCM from aws-lc-rs, for hosts: the same bytes as [`SoftCipher`](super::soft::SoftCipher), several times as fast.
//!
//! AWS-LC holds the expanded key in its own memory and cleans that memory when it is freed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use super::{ChunkCipher, EngineFault, NONCE, TAG};
use crate::Opaque;

/// The host cipher.
pub struct AwsLcCipher(LessSafeKey);

impl ChunkCipher for AwsLcCipher {
    fn new(key: &[u8; 32]) -> Result<Self, EngineFault> {
        UnboundKey::new(&AES_256_GCM, key).map(|key| Self(LessSafeKey::new(key))).map_err(|_| EngineFault)
    }

    fn seal_in_place(&self, nonce: &[u8; NONCE], data: &mut [u8]) -> Result<[u8; TAG], EngineFault> {
        let sealed = self.0.seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::empty(), data);
        match sealed.map(|tag| <[u8; TAG]>::try_from(tag.as_ref())) {
            Ok(Ok(tag)) => Ok(tag),
            _ => {
                data.zeroize();
                Err(EngineFault)
            }
        }
    }

    fn open_in_place(&self, nonce: &[u8; NONCE], data: &mut [u8], tag: &[u8; TAG]) -> Result<(), Opaque> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        if self.0.open_in_place_separate_tag(nonce, Aad::empty(), tag, data).is_ok() {
            return Ok(());
        }
        data.zeroize();
        Err(Opaque)
    }
}
