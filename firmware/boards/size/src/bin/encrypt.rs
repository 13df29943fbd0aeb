//! The container writer: chunked AES-256-GCM and its key derivation.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use eds_core::{
    Error,
    cipher::InputKey,
    container::{ContainerWriter, Header},
    ids::{Epoch, FileId, KeyId},
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
    let header = Header {
        file: FileId::from_bytes(black_box([1; 16])),
        key: KeyId::from_bytes(black_box([2; 16])),
        epoch: Epoch::new(0),
        anchor: black_box([3; 32]),
    };
    let mut sink = |bytes: &[u8]| -> Result<(), Error> {
        black_box(bytes);
        Ok(())
    };
    let key = InputKey::from_bytes(black_box([4; 32]));
    let mut writer = ContainerWriter::begin(&header, &key, &mut NoSource(1), &mut sink)?;
    writer.write(black_box(&[5; 100]), &mut sink)?;
    writer.finish(&mut sink)?;
    Ok(())
}
