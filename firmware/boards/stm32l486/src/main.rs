//! A device on an STM32L486: sensor on SPI 1, link on USART 2, AES and noise from the part's own peripherals.
//!
//! Compile-checked on each commit, never run here: registers are as in ST's RM0351, and whoever takes it to a board checks clocks, pins
//! and the peripherals' errata first (docs/for-firmware-engineers.md). Pins: PA5/PA6/PA7 SPI, PA4 chip select, PA0 data ready, PA2/PA3 USART,
//! PC13 trigger. What is unsafe is in `flash.rs` and one line of `time.rs`.

#![no_std]
#![no_main]

mod aes;
mod flash;
mod noise;
mod pins;
mod serial;
mod time;

use cortex_m_rt::entry;
use eds_firmware::{Device, Geometry, Imager, Patience, Provision, SpiSensor, Uplink};
use embedded_hal::{delay::DelayNs, digital::InputPin};
use panic_halt as _;
use stm32l4::stm32l4x6 as pac;

use crate::{
    aes::Aes,
    flash::FlashCounter,
    noise::Noise,
    pins::{ChipSelect, DataReady, Trigger},
    serial::{Bus, Link},
    time::Delay,
};

/// A sensor of 1,024 rows of 2 KiB, which gives a row at least every 100 ms.
const GEOMETRY: Geometry = Geometry { rows: 1024, row_bytes: 2048, patience_us: 100_000, poll_us: 10 };
const PATIENCE: Patience = Patience { poll_us: 100, resend_us: 500_000, give_up_us: 30_000_000 };

#[entry]
fn main() -> ! {
    // A device that cannot start, or whose noise source failed, stands still; its watchdog resets it, and it tests itself again.
    let _ = run();
    loop {
        cortex_m::asm::wfi();
    }
}

fn run() -> Option<()> {
    let core = cortex_m::Peripherals::take()?;
    let part = pac::Peripherals::take()?;
    time::start_clocks(&part.RCC);
    pins::set_up(&part.GPIOA, &part.GPIOC);
    let delay = Delay::new(core.SYST);

    let blob = Provision::read(flash::provision()).ok()?;
    let key = blob.signing_key().ok()?;
    let device = Device { id: blob.device, key: &key };
    // Used where it was made: `?` would move it, and a moved value takes its memory twice.
    let mut imager = Imager::start(
        device,
        blob.directory,
        &blob.pin,
        blob.lowest,
        blob.needed,
        Aes::new(part.AES),
        Noise::new(part.RNG),
        FlashCounter::new(part.FLASH),
    );
    let imager = imager.as_mut().ok()?;
    let (select, ready) = (ChipSelect(&part.GPIOA), DataReady(&part.GPIOA));
    let mut sensor = SpiSensor::new(Bus::new(part.SPI1), select, ready, delay, GEOMETRY);
    let mut link = Uplink::<_, _, 8>::new(Link::new(part.USART2), delay, PATIENCE);
    let (mut trigger, mut delay, mut buffer) = (Trigger(&part.GPIOC), delay, [0; 256]);
    loop {
        while trigger.is_high() == Ok(true) {
            delay.delay_ms(1);
        }
        // A lost image was reported over the link; the next press takes another one, with a key of its own.
        let _ = imager.acquire(&[], &mut sensor, &mut buffer, &mut link);
        while trigger.is_high() == Ok(false) {
            delay.delay_ms(1);
        }
    }
}
