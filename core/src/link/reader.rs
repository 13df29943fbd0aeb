//! From bytes of the link to packets, whatever pieces they come in and whatever was lost before.

use super::packet::{Fault, MAX_STUFFED, Packet, decode};

/// Finds packets in a stream of bytes. Constant state; after damage it goes on with the next zero byte.
pub struct Reader {
    buffer: [u8; MAX_STUFFED],
    filled: usize,
    // More bytes without a zero than any packet has.
    overrun: bool,
    // The packet in the buffer was handed out.
    taken: bool,
}

impl Reader {
    /// A reader at the start of a link.
    pub const fn new() -> Self {
        Self { buffer: [0; MAX_STUFFED], filled: 0, overrun: false, taken: false }
    }

    /// Takes the next byte; returns a packet, or what was wrong with it, when the byte ends one.
    pub fn push(&mut self, byte: u8) -> Option<Result<Packet<'_>, Fault>> {
        if core::mem::take(&mut self.taken) {
            self.filled = 0;
        }
        if byte != 0 {
            match self.buffer.get_mut(self.filled) {
                Some(slot) => {
                    *slot = byte;
                    self.filled += 1;
                }
                None => self.overrun = true,
            }
            return None;
        }
        self.taken = true;
        if core::mem::take(&mut self.overrun) {
            return Some(Err(Fault::Damaged));
        }
        // Zero bytes stand before and after each packet: two in a row have nothing between them.
        let bytes = self.buffer.get_mut(..self.filled).filter(|bytes| !bytes.is_empty())?;
        Some(decode(bytes))
    }

    /// Whether bytes of an unfinished packet are waiting.
    pub const fn is_within_packet(&self) -> bool {
        self.overrun || (self.filled > 0 && !self.taken)
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}
