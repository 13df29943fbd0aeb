//! What a node keeps of imaging devices: who is enrolled, authenticated like access lists, and which counters were used.
//!
//! A counter is used up with the key that it was signed with, in the transaction that stores the key, and for ever: also when
//! the key is deleted. Frames may arrive in any order, so counters are a set for each device and not a highest number.

use eds_core::ids::DeviceId;

use crate::store::StoreError;

/// An enrolment as it is stored, with its HMAC by the token's policy key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredDevice {
    /// The device.
    pub device: DeviceId,
    /// The enrolment, encoded.
    pub enrolment: Vec<u8>,
    /// The HMAC.
    pub mac: Vec<u8>,
}

/// One use of the counter of a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeviceCounter {
    /// The device.
    pub device: DeviceId,
    /// What its manifest says.
    pub counter: u64,
}

/// Keeps enrolments. Counters are kept by [`super::ShareStore::register`].
pub trait DeviceStore {
    /// Stores an enrolment; false, with nothing changed, when there is one of this device.
    ///
    /// # Errors
    /// [`StoreError`].
    fn enroll(&self, device: &StoredDevice, at: u64) -> Result<bool, StoreError>;

    /// The enrolment of a device.
    ///
    /// # Errors
    /// [`StoreError`].
    fn device(&self, device: DeviceId) -> Result<Option<StoredDevice>, StoreError>;

    /// All enrolments, in the order of their ids. Its cost grows with their number: for officers, not for requests.
    ///
    /// # Errors
    /// [`StoreError`].
    fn devices(&self) -> Result<Vec<StoredDevice>, StoreError>;

    /// Puts an enrolment in the place of the one that the caller saw, of the same device; false when it is another one by now.
    ///
    /// # Errors
    /// [`StoreError`].
    fn change_device(&self, seen: &StoredDevice, new: &StoredDevice, at: u64) -> Result<bool, StoreError>;
}

/// A counter as it is stored: 8 bytes, in the order of the numbers.
pub(super) fn counter_bytes(counter: &DeviceCounter) -> [u8; 8] {
    counter.counter.to_be_bytes()
}
