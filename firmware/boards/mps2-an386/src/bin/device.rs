//! The device: takes one image and delivers it. Exit code 0 when it is delivered, else 1 with words on standard error.
#![no_std]
#![no_main]

use cortex_m::Peripherals;
use cortex_m_rt::entry;
use eds_firmware::{Device, Geometry, Imager, Patience, Provision, SoftAes, SpiSensor, Uplink};
use eds_mps2_an386::{
    Chip, Delay, HostCounter, HostNoise, Sensor, Uart, high_water, leave, paint_stack, provision, say, say_number,
    wiped,
};

const PATIENCE: Patience = Patience { poll_us: 200, resend_us: 2_000_000, give_up_us: 60_000_000 };

#[entry]
fn main() -> ! {
    paint_stack();
    match run() {
        Ok(()) => leave(0),
        Err(words) => {
            say(words);
            say("\n");
            leave(1)
        }
    }
}

fn run() -> Result<(), &'static str> {
    let machine = Peripherals::take().ok_or("started twice")?;
    let delay = Delay::new(machine.SYST);
    let chip = Chip::new().ok_or("no sensor")?;
    let blob = Provision::read(provision()).map_err(|_| "not provisioned")?;
    let key = blob.signing_key().map_err(|_| "no device key")?;
    let device = Device { id: blob.device, key: &key };
    let noise = HostNoise::new().map_err(|_| "no noise")?;
    // Used where it was made: `?` would move it, and a moved value takes its memory twice.
    let mut imager =
        Imager::start(device, blob.directory, &blob.pin, blob.lowest, blob.needed, SoftAes::new(), noise, HostCounter);
    let imager = imager.as_mut().map_err(|_| "does not start")?;

    let (rows, row_bytes) = chip.shape();
    let geometry = Geometry { rows, row_bytes, patience_us: 100_000, poll_us: 10 };
    let mut sensor = SpiSensor::new(Sensor(&chip), Sensor(&chip), Sensor(&chip), delay.again(), geometry);
    let mut link = Uplink::<_, _, 8>::new(Uart::new(), delay.again(), PATIENCE);
    let mut buffer = [0; 256];
    // What the start used holds nothing of an image: the wiping is looked at on its own.
    let start = high_water();
    paint_stack();
    imager.acquire(chip.header(), &mut sensor, &mut buffer, &mut link).map_err(|_| "image lost")?;
    let (zeros, below) = wiped();
    say_number("wiped", zeros);
    say_number("below_wiped", below);
    say_number("stack", start.max(high_water()));
    Ok(())
}
