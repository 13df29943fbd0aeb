//! The device's side of the link (docs/device-link.md): packets out, answers in, and what to do when there are none.
//!
//! Up to `W` packets are kept until the workstation has acknowledged them; all of them are public or sealed. When the line
//! breaks, the device waits, and goes back when asked; when that takes longer than its [`Patience`], the frame is lost and the workstation
//! has a part that nobody can take for a whole. On a line without a way back ([`OneWay`]) nothing is kept.

use core::fmt;

use eds_core::link::{AbortReason, Begin, Kind, MAX_PACKET, MAX_PAYLOAD, Packet, Reader, Totals, encode};
use embedded_hal::delay::DelayNs;
use embedded_io::{ErrorType, Read, ReadReady, Write};
use heapless::{Deque, Vec};

use crate::scan::{Announced, Output};

/// How long to wait for a workstation, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// How often to look for an answer.
    pub poll_us: u32,
    /// After how long without an answer to send again.
    pub resend_us: u32,
    /// After how long without an answer the frame is lost.
    pub give_up_us: u32,
}

/// Why a transfer failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinkFault<E> {
    /// The line itself, on a link without a way back.
    Line(E),
    /// No answer within the patience.
    NoAnswer,
    /// The workstation wants packets that are no longer kept: it lost what it had acknowledged, or was started anew.
    TooLate,
    /// A call out of order, or more than the format can carry.
    Misuse,
}

impl<E: fmt::Debug> fmt::Display for LinkFault<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(error) => write!(f, "the line failed: {error:?}"),
            Self::NoAnswer => f.write_str("the workstation does not answer"),
            Self::TooLate => f.write_str("the workstation wants packets that are gone"),
            Self::Misuse => f.write_str("more, or in another order, than the link carries"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for LinkFault<E> {}

/// A link to a workstation. `W` packets are kept; 0 < W < 256, or see [`OneWay`].
pub struct Uplink<L, D, const W: usize> {
    line: L,
    delay: D,
    patience: Patience,
    reader: Reader,
    // Packets without an acknowledgement, oldest first, as they go on the wire.
    kept: Deque<Vec<u8, MAX_PACKET>, W>,
    // Bytes that do not fill a packet yet.
    piece: Vec<u8, MAX_PAYLOAD>,
    kind: Kind,
    stream: u32,
    // The number of the next packet.
    next: u32,
    totals: Option<Totals>,
    one_way: bool,
}

enum Heard {
    Nothing,
    Progress,
    Resume,
}

impl<L: Read + Write + ReadReady, D: DelayNs, const W: usize> Uplink<L, D, W> {
    const WINDOW: u8 = {
        assert!(W > 0 && W < 256, "the window is a byte, and not 0");
        W as u8
    };

    /// A link with a way back.
    pub const fn new(line: L, delay: D, patience: Patience) -> Self {
        Self {
            line,
            delay,
            patience,
            reader: Reader::new(),
            kept: Deque::new(),
            piece: Vec::new(),
            kind: Kind::Bundle,
            stream: 0,
            next: 0,
            totals: None,
            one_way: false,
        }
    }

    /// The line, when the link is not needed any more.
    pub fn into_line(self) -> L {
        self.line
    }

    fn append(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), LinkFault<L::Error>> {
        if self.kind != kind {
            self.send_piece()?;
            self.kind = kind;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = MAX_PAYLOAD - self.piece.len();
            let (now, later) = rest.split_at(rest.len().min(room));
            self.piece.extend_from_slice(now).map_err(|_| LinkFault::Misuse)?;
            if self.piece.len() == MAX_PAYLOAD {
                self.send_piece()?;
            }
            rest = later;
        }
        Ok(())
    }

    fn send_piece(&mut self) -> Result<(), LinkFault<L::Error>> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = core::mem::take(&mut self.piece);
        self.send(self.kind, &piece)
    }

    fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), LinkFault<L::Error>> {
        let packet = Packet { kind, stream: self.stream, sequence: self.next, payload };
        let mut buffer = [0; MAX_PACKET];
        let wire = encode(&packet, &mut buffer).ok_or(LinkFault::Misuse)?;
        let after = self.next.checked_add(1).ok_or(LinkFault::Misuse)?;
        if self.one_way {
            self.next = after;
            return self.line.write_all(wire).map_err(LinkFault::Line);
        }
        self.wait_until(|kept| !kept.is_full())?;
        let copy = Vec::from_slice(wire).map_err(|_| LinkFault::Misuse)?;
        self.kept.push_back(copy).map_err(|_| LinkFault::Misuse)?;
        // Only now: the oldest kept one is always next − the number of kept ones.
        self.next = after;
        // A broken line is no error yet: the packet is kept, and goes again when there is an answer or time has passed.
        let _ = self.line.write_all(wire);
        Ok(())
    }

    /// Listens and sends again until enough was acknowledged.
    fn wait_until(
        &mut self,
        enough: impl Fn(&Deque<Vec<u8, MAX_PACKET>, W>) -> bool,
    ) -> Result<(), LinkFault<L::Error>> {
        let (mut waited, mut since_sent) = (0u32, 0u32);
        loop {
            match self.listen()? {
                Heard::Resume => {
                    self.send_again();
                    (waited, since_sent) = (0, 0);
                }
                Heard::Progress => (waited, since_sent) = (0, 0),
                Heard::Nothing if enough(&self.kept) => return Ok(()),
                Heard::Nothing => {
                    if waited >= self.patience.give_up_us {
                        return Err(LinkFault::NoAnswer);
                    }
                    if since_sent >= self.patience.resend_us {
                        self.send_again();
                        since_sent = 0;
                    }
                    self.delay.delay_us(self.patience.poll_us);
                    let step = self.patience.poll_us.max(1);
                    (waited, since_sent) = (waited.saturating_add(step), since_sent.saturating_add(step));
                }
            }
        }
    }

    fn send_again(&mut self) {
        for wire in &self.kept {
            if self.line.write_all(wire).is_err() {
                break;
            }
        }
        let _ = self.line.flush();
    }

    /// Takes what the workstation said, if it said something.
    fn listen(&mut self) -> Result<Heard, LinkFault<L::Error>> {
        // A line that fails to be read is a broken one: there is no answer.
        while self.line.read_ready().unwrap_or(false) {
            let mut byte = [0];
            let Ok(1) = self.line.read(&mut byte) else { break };
            let [byte] = byte;
            let Some(Ok(packet)) = self.reader.push(byte) else { continue };
            if packet.stream != self.stream || !matches!(packet.kind, Kind::Ack | Kind::Resume) {
                continue;
            }
            let (kind, wanted) = (packet.kind, packet.sequence);
            let oldest = self.next.saturating_sub(u32::try_from(self.kept.len()).unwrap_or(u32::MAX));
            if wanted > self.next {
                continue;
            }
            if wanted < oldest {
                // An acknowledgement may be a late one; a wish for what is gone cannot be met.
                if kind == Kind::Resume {
                    return Err(LinkFault::TooLate);
                }
                continue;
            }
            for _ in oldest..wanted {
                self.kept.pop_front();
            }
            if kind == Kind::Resume {
                return Ok(Heard::Resume);
            }
            if wanted > oldest {
                return Ok(Heard::Progress);
            }
        }
        Ok(Heard::Nothing)
    }
}

impl<L: Read + Write + ReadReady, D: DelayNs, const W: usize> Output for Uplink<L, D, W> {
    type Error = LinkFault<L::Error>;

    fn begin(&mut self, scan: &Announced) -> Result<(), Self::Error> {
        self.kept.clear();
        self.piece.clear();
        (self.kind, self.stream, self.next) = (Kind::Bundle, scan.stream, 0);
        let window = if self.one_way { 0 } else { Self::WINDOW };
        let begin =
            Begin { window, device: scan.device, counter: scan.counter, key: scan.key, file: scan.file }.to_bytes();
        self.totals = Some(Totals::new(&begin));
        self.send(Kind::Begin, &begin)
    }

    fn bundle(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.totals.as_mut().ok_or(LinkFault::Misuse)?.bundle(bytes).map_err(|_| LinkFault::Misuse)?;
        self.append(Kind::Bundle, bytes)
    }

    fn container(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.totals.as_mut().ok_or(LinkFault::Misuse)?.container(bytes).map_err(|_| LinkFault::Misuse)?;
        self.append(Kind::Container, bytes)
    }

    fn end(&mut self) -> Result<(), Self::Error> {
        self.send_piece()?;
        let totals = self.totals.take().ok_or(LinkFault::Misuse)?;
        self.send(Kind::End, &totals.end().to_bytes())?;
        let flushed = self.line.flush();
        if self.one_way { flushed.map_err(LinkFault::Line) } else { self.wait_until(Deque::is_empty) }
    }

    fn abort(&mut self, reason: AbortReason) {
        if self.totals.take().is_none() {
            return;
        }
        let packet = Packet { kind: Kind::Abort, stream: self.stream, sequence: self.next, payload: &[reason.code()] };
        let mut buffer = [0; MAX_PACKET];
        if let Some(wire) = encode(&packet, &mut buffer) {
            let _ = self.line.write_all(wire).and_then(|()| self.line.flush());
        }
        self.kept.clear();
        self.piece.clear();
    }
}

/// A line without a way back: a memory card, a file, a wire that only sends.
pub struct OneWay<L>(pub L);

impl<L: Write, D: DelayNs> Uplink<OneWay<L>, D, 1> {
    /// A link without answers: what the line loses is lost, and recognised as lost by whoever reads.
    pub const fn one_way(line: L, delay: D) -> Self {
        let mut link = Self::new(OneWay(line), delay, Patience { poll_us: 0, resend_us: 0, give_up_us: 0 });
        link.one_way = true;
        link
    }
}

impl<L: ErrorType> ErrorType for OneWay<L> {
    type Error = L::Error;
}

impl<L: Write> Write for OneWay<L> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, L::Error> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> Result<(), L::Error> {
        self.0.flush()
    }
}

impl<L: ErrorType> Read for OneWay<L> {
    fn read(&mut self, _: &mut [u8]) -> Result<usize, L::Error> {
        Ok(0)
    }
}

impl<L: ErrorType> ReadReady for OneWay<L> {
    fn read_ready(&mut self) -> Result<bool, L::Error> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
