//! Writes a container as its bytes come, with constant state: the header, then whatever the sealer makes.

use rand_core::CryptoRng;

use super::{Fingerprint, Header};
use crate::{
    Error,
    cipher::{EngineFault, InputKey, SALT, Sealer, StreamingCipher, soft::SoftCipher},
    ids::FileId,
};

/// A container being written. Unfinished, it is a truncated file to every reader. See [`Sealer`] for sinks and errors.
pub struct ContainerWriter<C = SoftCipher> {
    sealer: Sealer<C>,
    file: FileId,
    preamble: usize,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// What a catalog records of the file.
    pub fingerprint: Fingerprint,
    /// Bytes of plaintext.
    pub plain_len: u64,
    /// Bytes of the whole container.
    pub container_len: u64,
}

impl ContainerWriter {
    /// Begins a container with the portable cipher: writes header, salt and commitment.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn begin<E: From<Error>>(
        header: &Header,
        key: &InputKey,
        rng: &mut (impl CryptoRng + ?Sized),
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        Self::begin_with(|key| Ok(SoftCipher::with_key(key)), header, key, rng, sink)
    }
}

impl<C: StreamingCipher> ContainerWriter<C> {
    /// Begins a container with the cipher that `engine` makes of the message key.
    ///
    /// # Errors
    /// Those of the engine ([`Error::Engine`]) and of the sink.
    pub fn begin_with<E: From<Error>>(
        engine: impl FnOnce(&[u8; 32]) -> Result<C, EngineFault>,
        header: &Header,
        key: &InputKey,
        rng: &mut (impl CryptoRng + ?Sized),
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut salt = [0; SALT];
        rng.fill_bytes(&mut salt);
        Self::danger_begin_with_salt(engine, header, key, salt, sink)
    }

    /// Begins a container with a given salt. A salt used twice under one key gives both files away: this is for golden
    /// files.
    ///
    /// # Errors
    /// Those of the engine ([`Error::Engine`]) and of the sink.
    pub fn danger_begin_with_salt<E: From<Error>>(
        engine: impl FnOnce(&[u8; 32]) -> Result<C, EngineFault>,
        header: &Header,
        key: &InputKey,
        salt: [u8; SALT],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let preamble = header.encode()?;
        sink(preamble.as_bytes())?;
        let sealer = Sealer::danger_begin_with_salt(engine, key, &preamble.context(), salt, sink)?;
        Ok(Self { sealer, file: header.file, preamble: preamble.as_bytes().len() })
    }

    /// What a catalog will record of the file.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { file: self.file, start: *self.sealer.start() }
    }

    /// Encrypts the next bytes of the file, through a small buffer on the stack.
    ///
    /// # Errors
    /// As [`Sealer::write`].
    pub fn write<E: From<Error>>(
        &mut self,
        plain: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.sealer.write(plain, sink)
    }

    /// Encrypts the next bytes of the file where they are, and hands them to the sink from there.
    ///
    /// # Errors
    /// As [`Sealer::write`].
    pub fn write_in_place<E: From<Error>>(
        &mut self,
        plain: &mut [u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.sealer.write_in_place(plain, sink)
    }

    /// Writes the last chunk. Only now is the file whole.
    ///
    /// # Errors
    /// As [`Sealer::finish`].
    pub fn finish<E: From<Error>>(self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<Written, E> {
        let fingerprint = self.fingerprint();
        let geometry = self.sealer.finish(sink)?.geometry;
        Ok(Written {
            fingerprint,
            plain_len: geometry.plain_len(),
            container_len: self.preamble as u64 + geometry.sealed_len(),
        })
    }
}
