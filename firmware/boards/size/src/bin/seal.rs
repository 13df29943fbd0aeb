//! HPKE sealing to a node's key.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use eds_core::{
    Error,
    ids::{ClusterId, NodeId},
    sealing::{Info, OVERHEAD, PublicKey, seal},
};
use eds_size::NoSource;

#[entry]
fn main() -> ! {
    black_box(run().is_ok());
    loop {
        cortex_m::asm::nop();
    }
}

fn run() -> Result<(), Error> {
    let recipient = PublicKey::from_sec1(black_box(&[2; 33]))?;
    let info = Info::share(ClusterId::from_bytes(black_box([1; 16])), NodeId::from_bytes(black_box([2; 16])));
    let mut message = [0; 89 + OVERHEAD];
    let sealed = seal(&info, black_box(&[0; 64]), &recipient, black_box(&[7; 89]), &mut NoSource(1), &mut message)?;
    black_box(sealed);
    Ok(())
}
