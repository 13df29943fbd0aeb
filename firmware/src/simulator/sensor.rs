//! A sensor at the other end of bus and pins: it answers commands as a real one would.

use std::{
    cell::{RefCell, RefMut},
    convert::Infallible,
    rc::Rc,
    vec::Vec,
};

use embedded_hal::{digital, spi};

use super::NoDelay;
use crate::{Geometry, SpiSensor};

/// What the sensor is doing, and what is wrong with it.
#[derive(Default)]
pub(crate) struct SensorState {
    frame: Vec<u8>,
    row_bytes: usize,
    selected: bool,
    running: bool,
    row: usize,
    // What a read gives next.
    answer: Vec<u8>,
    polls: usize,
    /// Data ready comes only after so many looks.
    pub(crate) busy_polls: usize,
    /// No data ready from this row on.
    pub(crate) late_at: Option<usize>,
    /// This row is left out.
    pub(crate) skips: Option<usize>,
    /// The bus fails after so many bytes of the frame.
    pub(crate) bus_fails_after: Option<usize>,
}

#[derive(Clone)]
pub(crate) struct SimulatedSensor {
    state: Rc<RefCell<SensorState>>,
    geometry: Geometry,
}

/// Bus and pins of it.
pub(crate) struct Wire(Rc<RefCell<SensorState>>);

pub(crate) type Driver = SpiSensor<Wire, Wire, Wire, NoDelay>;

impl SimulatedSensor {
    pub(crate) fn new(frame: Vec<u8>, geometry: Geometry) -> Self {
        let row_bytes = usize::from(geometry.row_bytes);
        let state = SensorState { frame, row_bytes, ..SensorState::default() };
        Self { state: Rc::new(RefCell::new(state)), geometry }
    }

    pub(crate) fn state(&self) -> RefMut<'_, SensorState> {
        self.state.borrow_mut()
    }

    pub(crate) fn is_selected(&self) -> bool {
        self.state.borrow().selected
    }

    pub(crate) fn driver(&self) -> Driver {
        let wire = || Wire(self.state.clone());
        SpiSensor::new(wire(), wire(), wire(), NoDelay, self.geometry)
    }
}

impl SensorState {
    fn command(&mut self, command: u8) {
        match command {
            1 => (self.running, self.row, self.polls) = (true, 0, 0),
            2 if self.running => {
                if self.skips == Some(self.row) {
                    self.row += 1;
                }
                let start = self.row * self.row_bytes;
                let end = (start + self.row_bytes).min(self.frame.len());
                self.answer = (self.row as u16).to_be_bytes().to_vec();
                self.answer.extend_from_slice(self.frame.get(start..end).unwrap_or_default());
                self.answer.reverse();
                self.row += 1;
                self.polls = 0;
            }
            _ => self.running = false,
        }
    }
}

impl spi::ErrorType for Wire {
    type Error = spi::ErrorKind;
}

impl spi::SpiBus for Wire {
    fn read(&mut self, words: &mut [u8]) -> Result<(), spi::ErrorKind> {
        let mut state = self.0.borrow_mut();
        for word in words {
            match &mut state.bus_fails_after {
                Some(0) => return Err(spi::ErrorKind::Other),
                Some(left) => *left -= 1,
                None => {}
            }
            assert!(state.selected, "the sensor is not selected");
            *word = state.answer.pop().expect("more is read than the sensor has");
        }
        Ok(())
    }

    fn write(&mut self, words: &[u8]) -> Result<(), spi::ErrorKind> {
        let mut state = self.0.borrow_mut();
        assert!(state.selected, "the sensor is not selected");
        for word in words {
            state.command(*word);
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

impl digital::ErrorType for Wire {
    type Error = Infallible;
}

impl digital::OutputPin for Wire {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().selected = true;
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().selected = false;
        Ok(())
    }
}

impl digital::InputPin for Wire {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        let mut state = self.0.borrow_mut();
        state.polls += 1;
        let late = state.late_at.is_some_and(|row| state.row >= row);
        Ok(state.running && !late && state.polls > state.busy_polls)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|high| !high)
    }
}
