//! All of a device's path without sensor and link: verify the directory, split, sign, seal, encrypt.
#![no_std]
#![no_main]

use core::{convert::Infallible, hint::black_box};

use cortex_m_rt::entry;
use eds_core::{directory::SignedDirectory, ids::DeviceId, link::AbortReason};
use eds_firmware::{Announced, Device, EngineGcm, Output, Plan, Scan, SoftAes};
use eds_size::NoSource;
use p256::ecdsa::SigningKey;

struct Card;

impl Output for Card {
    type Error = Infallible;

    fn begin(&mut self, scan: &Announced) -> Result<(), Infallible> {
        black_box(scan);
        Ok(())
    }

    fn bundle(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        black_box(bytes);
        Ok(())
    }

    fn container(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        black_box(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn abort(&mut self, _: AbortReason) {}
}

#[entry]
fn main() -> ! {
    black_box(run().is_some());
    loop {
        cortex_m::asm::nop();
    }
}

fn run() -> Option<()> {
    let directory = SignedDirectory::verify(black_box(&[0; 300]), black_box(&[1; 32])).ok()?;
    let key = SigningKey::from_slice(black_box(&[7; 32])).ok()?;
    let device = Device { id: DeviceId::from_bytes(black_box([5; 16])), key: &key };
    let plan = Plan { directory, needed: black_box(2) };
    let mut engine = SoftAes::new();
    let rng = &mut NoSource(1);
    let mut scan =
        Scan::begin(&plan, &device, black_box(1), rng, |key| EngineGcm::new(&mut engine, key), &mut Card).ok()?;
    scan.write(black_box(&[3; 512]), &mut Card).ok()?;
    black_box(scan.finish(&mut Card).ok()?);
    Some(())
}
