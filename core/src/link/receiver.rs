//! The workstation's side of a transfer: takes packets, says what arrived, and what to answer.
//!
//! No input or output of its own. Invariants: bytes are handed out in their order and once; a transfer is called complete
//! only if nothing is missing and the totals fit; after a fault of the device nothing more is taken of that transfer.

use super::{
    packet::{Kind, Packet},
    transfer::{AbortReason, Begin, End, Totals},
};
use crate::Error;

/// What a packet brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A transfer starts. One that was under way will never be complete: the device was reset.
    Begun {
        /// What it is.
        begin: Begin,
        /// The unfinished transfer that it puts an end to.
        replaced: Option<Begin>,
    },
    /// The next bytes of the bundle.
    Bundle(&'a [u8]),
    /// The next bytes of the container.
    Container(&'a [u8]),
    /// The transfer is whole. Store it durably before the answer goes out: after that the device has forgotten it.
    Complete(End),
    /// The device gave the transfer up.
    Aborted(AbortReason),
    /// A packet that was here before.
    Repeated,
    /// Packets are missing before this one; they are asked for.
    Gap,
    /// A packet of no transfer that this receiver saw the start of, or one that is not for a workstation.
    Foreign,
}

/// What to send to the device; as a packet with [`Reply::packet`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    kind: Kind,
    stream: u32,
    sequence: u32,
}

impl Reply {
    /// The packet to send.
    pub const fn packet(&self) -> Packet<'static> {
        Packet { kind: self.kind, stream: self.stream, sequence: self.sequence, payload: &[] }
    }
}

/// Receives transfers, one after the other.
#[derive(Default)]
pub struct Receiver {
    current: Option<Transfer>,
}

struct Transfer {
    begin: Begin,
    stream: u32,
    next: u32,
    state: State,
}

enum State {
    Bundle(Totals),
    Container(Totals),
    Complete,
    // Given up by the device, or not as the format wants it.
    Over,
}

impl Receiver {
    /// A receiver that has seen nothing.
    pub const fn new() -> Self {
        Self { current: None }
    }

    /// A receiver of a workstation that was restarted after a transfer was complete: the device may not have heard so yet, and
    /// sends the last packets again. `next` is the number after that of the end.
    pub const fn completed(begin: Begin, stream: u32, next: u32) -> Self {
        Self { current: Some(Transfer { begin, stream, next, state: State::Complete }) }
    }

    /// The transfer that is complete, with its stream and the number after that of the end: for [`Receiver::completed`].
    pub fn complete(&self) -> Option<(Begin, u32, u32)> {
        let complete = self.current.as_ref().filter(|transfer| transfer.is_complete());
        complete.map(|transfer| (transfer.begin, transfer.stream, transfer.next))
    }

    /// Takes a packet. Send the reply, if there is one and the link has a way back.
    ///
    /// # Errors
    /// What makes a transfer one that no device of this version sends: [`Error::Malformed`] for an order or a payload that is
    /// not in the format, [`Error::Mismatch`] for totals that do not fit, [`Error::TooLong`]. The transfer is over.
    pub fn take<'a>(&mut self, packet: &Packet<'a>) -> Result<(Event<'a>, Option<Reply>), Error> {
        if matches!(packet.kind, Kind::Ack | Kind::Resume) || packet.stream == 0 {
            return Ok((Event::Foreign, None));
        }
        let Some(transfer) = self.current.as_mut().filter(|transfer| transfer.stream == packet.stream) else {
            return self.take_unknown(packet);
        };
        if packet.sequence < transfer.next {
            return Ok((Event::Repeated, transfer.reply(Kind::Ack)));
        }
        if packet.sequence > transfer.next {
            return Ok((Event::Gap, transfer.reply(Kind::Resume)));
        }
        let event = transfer.take_next(packet)?;
        Ok((event, transfer.due(&event)))
    }

    /// The transfer that is under way and not complete: what to call incomplete when the link ends.
    pub fn incomplete(&self) -> Option<Begin> {
        self.current.as_ref().filter(|transfer| !transfer.is_complete()).map(|transfer| transfer.begin)
    }

    /// What to send when the link was broken and is back, or when something arrived damaged: please go on from here. None
    /// if there is nothing to go on with, or no way back.
    pub fn resume(&self) -> Option<Reply> {
        self.current.as_ref().filter(|transfer| transfer.is_open()).and_then(|transfer| transfer.reply(Kind::Resume))
    }

    fn take_unknown<'a>(&mut self, packet: &Packet<'a>) -> Result<(Event<'a>, Option<Reply>), Error> {
        if packet.kind != Kind::Begin || packet.sequence != 0 {
            // The start was missed, or this is late from before a reset. While another transfer is under way, its
            // device has a say; else the sender may still have the start.
            let ask = self.current.as_ref().is_none_or(|transfer| !transfer.is_open());
            let reply = Reply { kind: Kind::Resume, stream: packet.stream, sequence: 0 };
            return Ok((Event::Foreign, ask.then_some(reply)));
        }
        let begin = Begin::from_bytes(packet.payload)?;
        let replaced = self.incomplete();
        let state = State::Bundle(Totals::new(&begin.to_bytes()));
        let transfer = self.current.insert(Transfer { begin, stream: packet.stream, next: 1, state });
        Ok((Event::Begun { begin, replaced }, transfer.reply(Kind::Ack)))
    }
}

impl Transfer {
    const fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    const fn is_open(&self) -> bool {
        matches!(self.state, State::Bundle(_) | State::Container(_))
    }

    /// The packet whose turn it is. An error leaves the transfer over, unless it was complete.
    fn take_next<'a>(&mut self, packet: &Packet<'a>) -> Result<Event<'a>, Error> {
        let payload = packet.payload;
        let event = match (core::mem::replace(&mut self.state, State::Over), packet.kind) {
            (State::Bundle(mut totals), Kind::Bundle) if !payload.is_empty() => {
                totals.bundle(payload)?;
                self.state = State::Bundle(totals);
                Event::Bundle(payload)
            }
            (State::Bundle(mut totals) | State::Container(mut totals), Kind::Container) if !payload.is_empty() => {
                totals.container(payload)?;
                self.state = State::Container(totals);
                Event::Container(payload)
            }
            (State::Container(totals), Kind::End) => {
                let end = End::from_bytes(payload)?;
                if totals.end() != end {
                    return Err(Error::Mismatch);
                }
                self.state = State::Complete;
                Event::Complete(end)
            }
            (State::Bundle(_) | State::Container(_), Kind::Abort) => match payload {
                [reason] => Event::Aborted(AbortReason::of(*reason)),
                _ => return Err(Error::Malformed),
            },
            (State::Complete, _) => {
                // It stays whole, whatever follows it.
                self.state = State::Complete;
                return Err(Error::TrailingBytes);
            }
            _ => return Err(Error::Malformed),
        };
        self.next = self.next.checked_add(1).ok_or(Error::TooLong)?;
        Ok(event)
    }

    /// An acknowledgement after every half window, and of the end.
    fn due(&self, event: &Event<'_>) -> Option<Reply> {
        let half = u32::from(self.begin.window / 2).max(1);
        let ends = matches!(event, Event::Complete(_) | Event::Aborted(_));
        if ends || self.next.is_multiple_of(half) { self.reply(Kind::Ack) } else { None }
    }

    const fn reply(&self, kind: Kind) -> Option<Reply> {
        if self.begin.window == 0 {
            return None;
        }
        Some(Reply { kind, stream: self.stream, sequence: self.next })
    }
}
