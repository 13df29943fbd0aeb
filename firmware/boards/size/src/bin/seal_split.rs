//! Splitting with commitments, and HPKE sealing of every share.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use eds_core::{
    Error,
    ids::NodeId,
    sealing::{Info, OVERHEAD, PublicKey, encode_share_list, seal, share_list_len},
    sharing::{FileSecret, split},
};
use eds_size::{NoSource, nodes, params};

#[entry]
fn main() -> ! {
    black_box(run().is_ok());
    loop {
        cortex_m::asm::nop();
    }
}

fn run() -> Result<(), Error> {
    let mut rng = NoSource(1);
    let secret = FileSecret::random(&mut rng);
    let mut nodes = nodes().ok_or(Error::OutOfRange)?;
    let params = params(&mut nodes).ok_or(Error::OutOfRange)?;
    let (manifest, records) = split(&secret, &params, &mut rng)?;
    black_box(manifest.digest());
    let recipient = PublicKey::from_sec1(black_box(&[2; 33]))?;
    let info = Info::share(params.cluster, NodeId::from_bytes(black_box([2; 16])));
    for record in &records {
        let mut list = [0; share_list_len(1)];
        encode_share_list(core::iter::once(record), &mut list)?;
        let mut message = [0; share_list_len(1) + OVERHEAD];
        black_box(seal(&info, &[0; 64], &recipient, &list, &mut rng, &mut message)?);
    }
    Ok(())
}
