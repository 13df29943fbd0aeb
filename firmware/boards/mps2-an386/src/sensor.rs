//! A sensor at the other end of an SPI bus, stubbed: it answers the commands of `SpiSensor` with pixels from its memory.

use core::{cell::RefCell, convert::Infallible};

use embedded_hal::{digital, spi};

use crate::{SENSOR_AT, SENSOR_BYTES, machine::loaded};

/// The sensor and its memory.
pub struct Chip {
    pixels: &'static [u8],
    rows: u16,
    row_bytes: u16,
    header: &'static [u8],
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    selected: bool,
    running: bool,
    row: u16,
    // Bytes that a read gives: the number of the row, then the row.
    number: [u8; 2],
    given: usize,
}

/// Bus, chip select and data ready.
pub struct Sensor<'a>(pub &'a Chip);

impl Chip {
    /// The sensor whose memory QEMU has loaded; none if it has not.
    pub fn new() -> Option<Self> {
        let (head, rest) = loaded(SENSOR_AT, SENSOR_BYTES).split_first_chunk::<8>()?;
        let [a, b, c, d, e, f, g, h] = *head;
        let (rows, row_bytes) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        let (header, rest) = rest.split_at_checked(u32::from_le_bytes([e, f, g, h]) as usize)?;
        let pixels = rest.get(..usize::from(rows) * usize::from(row_bytes)).filter(|pixels| !pixels.is_empty())?;
        Some(Self { pixels, rows, row_bytes, header, state: RefCell::default() })
    }

    /// What stands before the pixels in the file.
    pub const fn header(&self) -> &'static [u8] {
        self.header
    }

    /// Rows, and bytes of a row.
    pub const fn shape(&self) -> (u16, u16) {
        (self.rows, self.row_bytes)
    }
}

impl spi::ErrorType for Sensor<'_> {
    type Error = spi::ErrorKind;
}

impl spi::SpiBus for Sensor<'_> {
    fn read(&mut self, words: &mut [u8]) -> Result<(), spi::ErrorKind> {
        let mut state = self.0.state.borrow_mut();
        let start = usize::from(u16::from_be_bytes(state.number)) * usize::from(self.0.row_bytes);
        for word in words {
            let byte = match state.number.get(state.given) {
                Some(byte) => Some(byte),
                None => self.0.pixels.get(start + state.given - 2),
            };
            *word = *byte.filter(|_| state.selected).ok_or(spi::ErrorKind::Other)?;
            state.given += 1;
        }
        Ok(())
    }

    fn write(&mut self, words: &[u8]) -> Result<(), spi::ErrorKind> {
        let mut state = self.0.state.borrow_mut();
        if !state.selected {
            return Err(spi::ErrorKind::ChipSelectFault);
        }
        for word in words {
            match word {
                1 => (state.running, state.row) = (true, 0),
                2 if state.running => {
                    (state.number, state.given) = (state.row.to_be_bytes(), 0);
                    state.row += 1;
                }
                _ => state.running = false,
            }
        }
        Ok(())
    }

    fn transfer(&mut self, read: &mut [u8], write: &[u8]) -> Result<(), spi::ErrorKind> {
        self.write(write)?;
        self.read(read)
    }

    fn transfer_in_place(&mut self, words: &mut [u8]) -> Result<(), spi::ErrorKind> {
        self.read(words)
    }

    fn flush(&mut self) -> Result<(), spi::ErrorKind> {
        Ok(())
    }
}

impl digital::ErrorType for Sensor<'_> {
    type Error = Infallible;
}

impl digital::OutputPin for Sensor<'_> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.state.borrow_mut().selected = true;
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.state.borrow_mut().selected = false;
        Ok(())
    }
}

impl digital::InputPin for Sensor<'_> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        let state = self.0.state.borrow();
        Ok(state.running && state.row < self.0.rows)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|high| !high)
    }
}
