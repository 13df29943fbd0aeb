//! Vectors and start-up code only.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use eds_size as _;

#[entry]
fn main() -> ! {
    loop {
        cortex_m::asm::nop();
    }
}
