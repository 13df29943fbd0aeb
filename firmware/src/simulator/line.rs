//! A line to a workstation, with what can happen to one: noise both ways, a pulled cable, the power of the device.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, vec::Vec};

use eds_core::link::{MAX_PACKET, encode};
use embedded_hal::delay::DelayNs;
use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write};

use super::Workstation;

/// A delay that takes no time.
pub(crate) struct NoDelay;

impl DelayNs for NoDelay {
    fn delay_ns(&mut self, _: u32) {}
}

/// A line with a workstation at the other end.
#[derive(Clone, Default)]
pub(crate) struct Line(pub(crate) Rc<RefCell<LineState>>);

#[derive(Default)]
pub(crate) struct LineState {
    pub(crate) workstation: Workstation,
    back: VecDeque<u8>,
    /// Every byte that left the device.
    pub(crate) sent: Vec<u8>,
    /// The power is lost after so many bytes.
    pub(crate) power: Option<usize>,
    /// Bytes in this range are lost, both ways: the cable was pulled.
    pub(crate) pulled: Option<core::ops::Range<usize>>,
    /// Every so many bytes one is damaged.
    pub(crate) noise: Option<usize>,
    /// The workstation says nothing any more.
    pub(crate) silent: bool,
}

impl ErrorType for Line {
    type Error = ErrorKind;
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let state = &mut *self.0.borrow_mut();
        for byte in bytes {
            if state.power == Some(state.sent.len()) {
                return Err(ErrorKind::BrokenPipe);
            }
            state.sent.push(*byte);
            let position = state.sent.len();
            if state.pulled.as_ref().is_some_and(|range| range.contains(&position)) {
                continue;
            }
            let damaged = state.noise.is_some_and(|every| position.is_multiple_of(every));
            let reply = state.workstation.feed(if damaged { *byte ^ 0x5a } else { *byte });
            if let Some(reply) = reply.filter(|_| !state.silent) {
                state.back.extend(encode(&reply, &mut [0; MAX_PACKET]).expect("fits").iter());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        let state = &mut *self.0.borrow_mut();
        let Some(first) = bytes.first_mut() else { return Ok(0) };
        *first = state.back.pop_front().ok_or(ErrorKind::TimedOut)?;
        Ok(1)
    }
}

impl ReadReady for Line {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        Ok(!self.0.borrow().back.is_empty())
    }
}
