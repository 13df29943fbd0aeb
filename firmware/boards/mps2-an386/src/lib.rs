//! A device in QEMU's `mps2-an386` (Cortex-M4F): what a board brings to `eds-firmware`, as thin as it gets.
//!
//! | part | here |
//! |---|---|
//! | link | the CMSDK UART 0, which QEMU gives to the host |
//! | sensor | a stub at the other end of an SPI bus; its pixels are in the PSRAM, where QEMU loads them |
//! | noise | the host's `/dev/urandom`, through semihosting |
//! | counter | a file of the host, through semihosting: it outlives the machine |
//! | provisioning | a page at [`PROVISION_AT`], where QEMU loads it |
//!
//! Everything unsafe of this board is in `machine.rs`: registers, memory that QEMU fills, semihosting, the stack.

#![no_std]

mod machine;
mod noise;
mod sensor;

pub use machine::{Delay, Uart, high_water, leave, paint_stack, say, say_number, wiped};
pub use noise::{HostCounter, HostNoise};
pub use sensor::{Chip, Sensor};

/// Where the provisioning blob lies, in "flash" behind the program.
pub const PROVISION_AT: usize = 0x0003_0000;
/// Bytes of the page with it.
pub const PROVISION_BYTES: usize = 0x1_0000;
/// Where the sensor's memory lies: rows (u16 LE), bytes of a row (u16 LE), bytes of the header (u32 LE), header, pixels.
pub const SENSOR_AT: usize = 0x2100_0000;
/// Bytes of the sensor's memory.
pub const SENSOR_BYTES: usize = 0x0100_0000;

/// The page with the provisioning blob.
pub fn provision() -> &'static [u8] {
    machine::loaded(PROVISION_AT, PROVISION_BYTES)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    say("panic\n");
    leave(101)
}
