//! AES-256-GCM from RustCrypto's `aes`, `ctr` and `ghash`: constant time, on every target, in pieces of any size.
//!
//! The algorithm is in `crate::gcm`; here it becomes a chunk cipher. A chunk has 1,024 blocks at most, so the block
//! counter never wraps.

use zeroize::Zeroize;

use super::{ChunkCipher, EngineFault, NONCE, StreamingCipher, TAG};
use crate::{
    Opaque,
    gcm::{Gcm, Message},
};

/// The portable cipher.
pub struct SoftCipher {
    gcm: Gcm,
    /// The chunk being streamed.
    chunk: Option<Message>,
}

impl SoftCipher {
    /// The cipher with this key.
    pub fn with_key(key: &[u8; 32]) -> Self {
        Self { gcm: Gcm::new(key), chunk: None }
    }
}

impl ChunkCipher for SoftCipher {
    fn new(key: &[u8; 32]) -> Result<Self, EngineFault> {
        Ok(Self::with_key(key))
    }

    fn seal_in_place(&self, nonce: &[u8; NONCE], data: &mut [u8]) -> Result<[u8; TAG], EngineFault> {
        Ok(self.gcm.seal_in_place(nonce, &[], data))
    }

    fn open_in_place(&self, nonce: &[u8; NONCE], data: &mut [u8], tag: &[u8; TAG]) -> Result<(), Opaque> {
        self.gcm.open_in_place(nonce, &[], data, tag).inspect_err(|_| data.zeroize())
    }
}

impl StreamingCipher for SoftCipher {
    fn start(&mut self, nonce: &[u8; NONCE]) -> Result<(), EngineFault> {
        self.chunk = Some(self.gcm.start(nonce, &[]));
        Ok(())
    }

    fn update(&mut self, piece: &mut [u8]) -> Result<(), EngineFault> {
        self.chunk.as_mut().ok_or(EngineFault)?.encrypt(&self.gcm, piece);
        Ok(())
    }

    fn finish(&mut self) -> Result<[u8; TAG], EngineFault> {
        Ok(self.chunk.take().ok_or(EngineFault)?.tag())
    }
}
