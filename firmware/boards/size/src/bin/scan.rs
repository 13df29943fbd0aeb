//! All of a device's path: verify the directory, split, sign, seal, encrypt.
#![no_std]
#![no_main]

use core::{convert::Infallible, hint::black_box};

use cortex_m_rt::entry;
use eds_core::{directory::Directory, ids::DeviceId};
use eds_firmware::{Delivery, Device, Plan, Scan};
use eds_size::NoSource;
use embedded_io::{ErrorType, Write};
use p256::ecdsa::SigningKey;

struct Card;

impl ErrorType for Card {
    type Error = Infallible;
}

impl Write for Card {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(black_box(bytes).len())
    }
    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[entry]
fn main() -> ! {
    black_box(run().is_some());
    loop {
        cortex_m::asm::nop();
    }
}

fn run() -> Option<()> {
    let directory = Directory::verify(black_box(&[0; 300]), black_box(&[1; 32])).ok()?;
    let key = SigningKey::from_slice(black_box(&[7; 32])).ok()?;
    let device = Device { id: DeviceId::from_bytes(black_box([5; 16])), key: &key, counter: black_box(1) };
    let plan = Plan { directory: &directory, needed: black_box(2) };
    let mut courier = |delivery: Delivery<'_>| {
        black_box(&delivery);
        Ok(())
    };
    let mut scan = Scan::begin(&plan, &device, &mut NoSource(1), &mut courier, Card).ok()?;
    scan.write(black_box(&[3; 512])).ok()?;
    black_box(scan.finish().ok()?.0);
    Some(())
}
