//! What the weighed programs share: a random source and values that the compiler cannot see through.

#![no_std]

use core::{convert::Infallible, hint::black_box};

use eds_core::ids::{ClusterId, Epoch, KeyId, ShareIndex, Threshold};
use eds_core::sharing::SplitParams;
use panic_halt as _;
use rand_core::{TryCryptoRng, TryRng};

/// Not random at all: a device has a hardware generator, whose driver is not what is weighed here.
pub struct NoSource(pub u32);

impl TryRng for NoSource {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0 = black_box(self.0).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Ok(self.0)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from(self.try_next_u32()?) << 32 | u64::from(self.try_next_u32()?))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = (self.try_next_u32()? >> 24) as u8;
        }
        Ok(())
    }
}

impl TryCryptoRng for NoSource {}

/// 2 of 3.
pub fn params<'a>(nodes: &'a mut [ShareIndex; 3]) -> Option<SplitParams<'a>> {
    for (slot, number) in nodes.iter_mut().zip(1..) {
        *slot = ShareIndex::new(black_box(number)).ok()?;
    }
    Some(SplitParams {
        key: KeyId::from_bytes(black_box([1; 16])),
        cluster: ClusterId::from_bytes(black_box([2; 16])),
        directory_version: 1,
        epoch: Epoch::new(0),
        threshold: Threshold::new(black_box(2), 3).ok()?,
        nodes,
    })
}

/// An initial array for [`params`]; `None` never comes.
pub fn nodes() -> Option<[ShareIndex; 3]> {
    ShareIndex::new(1).ok().map(|one| [one; 3])
}
