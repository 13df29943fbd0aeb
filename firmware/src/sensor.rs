//! Where the bytes of a frame come from: [`FrameSource`], and a driver for sensors on a serial bus.

use core::fmt;

use embedded_hal::{
    delay::DelayNs,
    digital::{InputPin, OutputPin},
    spi::SpiBus,
};

/// A sensor that gives one frame, in pieces.
///
/// Implementers: `read` gives all bytes of the frame in their order and then 0; a row that was lost is an error, never left
/// out. Callers: `start`, `read` until 0 or an error, `stop`.
pub trait FrameSource {
    /// Why there is no frame.
    type Error: fmt::Debug;

    /// Bytes of a frame.
    fn length(&self) -> u64;

    /// Starts a frame.
    ///
    /// # Errors
    /// Whatever keeps the sensor from starting.
    fn start(&mut self) -> Result<(), Self::Error>;

    /// Puts the next bytes at the front of `piece` and says how many; 0 after the last.
    ///
    /// # Errors
    /// Then the frame is lost.
    fn read(&mut self, piece: &mut [u8]) -> Result<usize, Self::Error>;

    /// Leaves the sensor quiet, whatever happened before.
    fn stop(&mut self);
}

/// The shape of a frame, and how long to wait for a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Rows of a frame.
    pub rows: u16,
    /// Bytes of a row.
    pub row_bytes: u16,
    /// The longest wait for a row, in microseconds.
    pub patience_us: u32,
    /// How often the data-ready pin is looked at, in microseconds.
    pub poll_us: u32,
}

/// A sensor on SPI with chip select (active low) and data ready (active high).
///
/// Commands are one byte: [`SpiSensor::START`] begins a frame, [`SpiSensor::STOP`] ends it. While data ready is high, [`SpiSensor::ROW`] gives a
/// row: its number (u16, big-endian, from 0), then its bytes, all within one assertion of chip select. A sensor with another protocol
/// is another [`FrameSource`].
pub struct SpiSensor<B, S, R, D> {
    bus: B,
    select: S,
    ready: R,
    delay: D,
    geometry: Geometry,
    row: u16,
    // Bytes of the open row that are still to come; chip select is low while there are any.
    left: u16,
}

/// What went wrong with the sensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SensorFault<B, S, R> {
    /// The bus.
    Bus(B),
    /// The chip-select pin.
    Select(S),
    /// The data-ready pin.
    Ready(R),
    /// No data ready within the patience, before this row.
    Late(u16),
    /// The sensor gave another row than the one whose turn it was: rows were lost.
    Row {
        /// Whose turn it was.
        expected: u16,
        /// What came.
        found: u16,
    },
}

impl<B: fmt::Debug, S: fmt::Debug, R: fmt::Debug> fmt::Display for SensorFault<B, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(error) => write!(f, "sensor bus: {error:?}"),
            Self::Select(error) => write!(f, "chip select: {error:?}"),
            Self::Ready(error) => write!(f, "data ready: {error:?}"),
            Self::Late(row) => write!(f, "the sensor gave no row {row} in time"),
            Self::Row { expected, found } => write!(f, "the sensor gave row {found} in place of {expected}"),
        }
    }
}

impl<B: fmt::Debug, S: fmt::Debug, R: fmt::Debug> core::error::Error for SensorFault<B, S, R> {}

impl<B: SpiBus, S: OutputPin, R: InputPin, D: DelayNs> SpiSensor<B, S, R, D> {
    /// Begins a frame.
    pub const START: u8 = 0x01;
    /// Asks for a row.
    pub const ROW: u8 = 0x02;
    /// Ends a frame.
    pub const STOP: u8 = 0x03;

    /// A driver; nothing is sent yet.
    pub const fn new(bus: B, select: S, ready: R, delay: D, geometry: Geometry) -> Self {
        Self { bus, select, ready, delay, geometry, row: 0, left: 0 }
    }

    fn command(&mut self, command: u8) -> Result<(), Fault<B, S, R>> {
        self.select.set_low().map_err(SensorFault::Select)?;
        let sent = self.bus.write(&[command]).and_then(|()| self.bus.flush());
        self.select.set_high().map_err(SensorFault::Select)?;
        sent.map_err(SensorFault::Bus)
    }

    fn wait(&mut self) -> Result<(), Fault<B, S, R>> {
        let mut waited = 0u32;
        while !self.ready.is_high().map_err(SensorFault::Ready)? {
            if waited >= self.geometry.patience_us {
                return Err(SensorFault::Late(self.row));
            }
            self.delay.delay_us(self.geometry.poll_us);
            waited = waited.saturating_add(self.geometry.poll_us.max(1));
        }
        Ok(())
    }

    fn open_row(&mut self) -> Result<(), Fault<B, S, R>> {
        self.wait()?;
        self.select.set_low().map_err(SensorFault::Select)?;
        self.bus.write(&[Self::ROW]).map_err(SensorFault::Bus)?;
        let mut number = [0; 2];
        self.bus.read(&mut number).map_err(SensorFault::Bus)?;
        let found = u16::from_be_bytes(number);
        if found != self.row {
            return Err(SensorFault::Row { expected: self.row, found });
        }
        self.left = self.geometry.row_bytes;
        Ok(())
    }

    fn close_row(&mut self) -> Result<(), Fault<B, S, R>> {
        self.bus.flush().map_err(SensorFault::Bus)?;
        self.select.set_high().map_err(SensorFault::Select)?;
        self.row += 1;
        Ok(())
    }
}

type Fault<B, S, R> = SensorFault<
    <B as embedded_hal::spi::ErrorType>::Error,
    <S as embedded_hal::digital::ErrorType>::Error,
    <R as embedded_hal::digital::ErrorType>::Error,
>;

impl<B: SpiBus, S: OutputPin, R: InputPin, D: DelayNs> FrameSource for SpiSensor<B, S, R, D> {
    type Error = Fault<B, S, R>;

    fn length(&self) -> u64 {
        u64::from(self.geometry.rows) * u64::from(self.geometry.row_bytes)
    }

    fn start(&mut self) -> Result<(), Self::Error> {
        (self.row, self.left) = (0, 0);
        self.command(Self::START)
    }

    fn read(&mut self, piece: &mut [u8]) -> Result<usize, Self::Error> {
        if self.left == 0 {
            if self.row >= self.geometry.rows || self.geometry.row_bytes == 0 {
                return Ok(0);
            }
            self.open_row()?;
        }
        let length = piece.len().min(self.left.into());
        let Some(now) = piece.get_mut(..length) else { return Ok(0) };
        self.bus.read(now).map_err(SensorFault::Bus)?;
        self.left = self.left.saturating_sub(length as u16);
        if self.left == 0 {
            self.close_row()?;
        }
        Ok(length)
    }

    fn stop(&mut self) {
        // Best effort: the frame is over or lost, and the next start says what is wrong.
        let _ = self.select.set_high();
        let _ = self.command(Self::STOP);
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::simulator::SimulatedSensor;

    const GEOMETRY: Geometry = Geometry { rows: 5, row_bytes: 100, patience_us: 1000, poll_us: 10 };

    fn frame() -> Vec<u8> {
        (0..500u32).map(|n| (n * 31 % 256) as u8).collect()
    }

    fn read_all(source: &mut impl FrameSource, piece: usize) -> Result<Vec<u8>, std::string::String> {
        let words = |error: &dyn fmt::Debug| std::format!("{error:?}");
        source.start().map_err(|error| words(&error))?;
        let (mut frame, mut piece) = (Vec::new(), vec![0; piece]);
        loop {
            match source.read(&mut piece) {
                Ok(0) => return Ok(frame),
                Ok(length) => frame.extend_from_slice(&piece[..length]),
                Err(error) => {
                    source.stop();
                    return Err(words(&error));
                }
            }
        }
    }

    #[test]
    fn a_frame_is_read_in_pieces_of_any_size() {
        for piece in [1, 7, 99, 100, 101, 1000] {
            let sensor = SimulatedSensor::new(frame(), GEOMETRY);
            let mut driver = sensor.driver();
            assert_eq!(read_all(&mut driver, piece), Ok(frame()));
            assert_eq!(read_all(&mut driver, piece), Ok(frame()), "a second frame");
            driver.stop();
            assert!(!sensor.is_selected());
        }
    }

    #[test]
    fn a_sensor_that_is_late_loses_rows_or_fails_is_named() {
        let with = |change: fn(&mut crate::simulator::SensorState)| {
            let sensor = SimulatedSensor::new(frame(), GEOMETRY);
            change(&mut sensor.state());
            let result = read_all(&mut sensor.driver(), 64);
            assert!(!sensor.is_selected(), "chip select stays low");
            result
        };
        assert_eq!(with(|state| state.late_at = Some(3)), Err("Late(3)".into()));
        assert_eq!(with(|state| state.skips = Some(2)), Err("Row { expected: 2, found: 3 }".into()));
        assert_eq!(with(|state| state.bus_fails_after = Some(250)), Err("Bus(Other)".into()));
        assert_eq!(with(|state| state.busy_polls = 50), Ok(frame()), "a slow sensor within its patience");
    }
}
