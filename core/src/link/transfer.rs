//! What a transfer says of itself at its start and at its end.

use sha2::{Digest, Sha256};

use crate::{
    Error,
    ids::{DeviceId, FileId, KeyId},
};

/// The payload of the first packet: whose image this is. Public, and only a label until the bundle is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    /// How many packets the device keeps until they are acknowledged; 0 on a link without a way back.
    pub window: u8,
    /// The device.
    pub device: DeviceId,
    /// Its counter, as in the origin of the manifest.
    pub counter: u64,
    /// The key of the image.
    pub key: KeyId,
    /// The container.
    pub file: FileId,
}

impl Begin {
    /// Bytes of the payload.
    pub const LEN: usize = 1 + 16 + 8 + 16 + 16;

    /// window ‖ device id ‖ counter (u64 LE) ‖ key GUID ‖ file id.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let fields: [&[u8]; 5] = [
            &[self.window],
            self.device.as_bytes(),
            &self.counter.to_le_bytes(),
            self.key.as_bytes(),
            self.file.as_bytes(),
        ];
        for (slot, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *slot = *byte;
        }
        bytes
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] unless it has its length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (&window, rest) = bytes.split_first().ok_or(Error::Malformed)?;
        let (device, rest) = rest.split_first_chunk::<16>().ok_or(Error::Malformed)?;
        let (counter, rest) = rest.split_first_chunk::<8>().ok_or(Error::Malformed)?;
        let (key, rest) = rest.split_first_chunk::<16>().ok_or(Error::Malformed)?;
        let file: &[u8; 16] = rest.try_into().map_err(|_| Error::Malformed)?;
        Ok(Self {
            window,
            device: DeviceId::from_bytes(*device),
            counter: u64::from_le_bytes(*counter),
            key: KeyId::from_bytes(*key),
            file: FileId::from_bytes(*file),
        })
    }
}

/// The payload of the last packet: what must have arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Bytes of the bundle.
    pub bundle: u32,
    /// Bytes of the container.
    pub container: u64,
    /// SHA-256("eds/v1/transfer" ‖ payload of the first packet ‖ bundle ‖ container).
    pub digest: [u8; 32],
}

impl End {
    /// Bytes of the payload.
    pub const LEN: usize = 4 + 8 + 32;

    /// bundle (u32 LE) ‖ container (u64 LE) ‖ digest.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let fields: [&[u8]; 3] = [&self.bundle.to_le_bytes(), &self.container.to_le_bytes(), &self.digest];
        for (slot, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *slot = *byte;
        }
        bytes
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] unless it has its length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (bundle, rest) = bytes.split_first_chunk::<4>().ok_or(Error::Malformed)?;
        let (container, rest) = rest.split_first_chunk::<8>().ok_or(Error::Malformed)?;
        Ok(Self {
            bundle: u32::from_le_bytes(*bundle),
            container: u64::from_le_bytes(*container),
            digest: rest.try_into().map_err(|_| Error::Malformed)?,
        })
    }
}

/// Counts and digests a transfer, on both sides alike.
#[derive(Clone)]
pub struct Totals {
    bundle: u32,
    container: u64,
    hash: Sha256,
}

impl Totals {
    /// The totals of a transfer that starts with this payload.
    pub fn new(begin: &[u8; Begin::LEN]) -> Self {
        Self { bundle: 0, container: 0, hash: Sha256::new().chain_update(b"eds/v1/transfer").chain_update(begin) }
    }

    /// Counts bytes of the bundle.
    ///
    /// # Errors
    /// [`Error::TooLong`] beyond [`super::MAX_BUNDLE`].
    pub fn bundle(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(bytes.len()).ok().and_then(|length| self.bundle.checked_add(length));
        self.bundle = length.filter(|length| *length as usize <= super::MAX_BUNDLE).ok_or(Error::TooLong)?;
        self.hash.update(bytes);
        Ok(())
    }

    /// Counts bytes of the container.
    ///
    /// # Errors
    /// [`Error::Malformed`] before any bundle: it comes first. [`Error::TooLong`].
    pub fn container(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.bundle == 0 {
            return Err(Error::Malformed);
        }
        self.container = self.container.checked_add(bytes.len() as u64).ok_or(Error::TooLong)?;
        self.hash.update(bytes);
        Ok(())
    }

    /// Bytes of the container so far.
    pub const fn container_len(&self) -> u64 {
        self.container
    }

    /// What the last packet must say.
    pub fn end(self) -> End {
        End { bundle: self.bundle, container: self.container, digest: self.hash.finalize().into() }
    }
}

/// Why a device gave a transfer up. Says nothing of the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AbortReason {
    /// The sensor failed or was too slow.
    Sensor,
    /// The entropy source failed its health tests.
    Entropy,
    /// The cipher engine failed.
    Engine,
    /// The workstation asked for packets that the device no longer has.
    Link,
    /// Anything else, and reasons of later releases.
    Other,
}

impl AbortReason {
    /// The byte in the payload.
    pub const fn code(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::Sensor => 1,
            Self::Entropy => 2,
            Self::Engine => 3,
            Self::Link => 4,
        }
    }

    /// The reason with this byte.
    pub const fn of(code: u8) -> Self {
        match code {
            1 => Self::Sensor,
            2 => Self::Entropy,
            3 => Self::Engine,
            4 => Self::Link,
            _ => Self::Other,
        }
    }
}
