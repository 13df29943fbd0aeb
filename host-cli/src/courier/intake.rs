//! From bytes of the link to recordings, and what to answer. An answer goes out only after what it acknowledges is on the disk.

use std::{fs, path::PathBuf};

use eds_core::link::{AbortReason, Begin, Event, MAX_PACKET, Packet, Reader, Receiver, Reply, encode};

use super::{
    Error,
    spool::{Recording, Spool},
};

/// Receives transfers from one device, one after the other.
pub(super) struct Intake<'a> {
    spool: &'a Spool,
    reader: Reader,
    receiver: Receiver,
    recording: Option<Recording>,
}

/// What came of bytes of the link.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Told {
    /// A transfer starts.
    Begun(Begin),
    /// A transfer that was under way goes on, after a restart of the courier.
    GoesOn(Begin),
    /// A transfer is whole, and on the disk.
    Received(Begin),
    /// A transfer will never be whole, and why.
    Incomplete(Begin, String),
    /// The device gave a transfer up.
    Aborted(Begin, AbortReason),
    /// Bytes that are no packet, and why.
    Fault(String),
}

/// What [`Intake::take`] gives: what came, and the bytes to send.
pub(super) type Taken = (Vec<Told>, Option<Vec<u8>>);

impl<'a> Intake<'a> {
    /// Where the courier was when it ended: the recordings tell.
    pub(super) fn begin(spool: &'a Spool) -> Result<Self, Error> {
        let receiver =
            spool.last().map_or_else(Receiver::new, |(begin, stream, next)| Receiver::completed(begin, stream, next));
        let mut intake = Self { spool, reader: Reader::new(), receiver, recording: None };
        let mut recordings = spool.under_way()?.into_iter();
        if let Some(path) = recordings.next() {
            intake.read_again(path)?;
        }
        // One device has one transfer under way: older ones were given up by a reset.
        recordings.try_for_each(|path| spool.forget(&path))?;
        Ok(intake)
    }

    /// Reads a recording through the same receiver. What is after its last whole packet never counted.
    fn read_again(&mut self, path: PathBuf) -> Result<(), Error> {
        let bytes = fs::read(&path).map_err(|source| Error::Spool { path: path.clone(), source })?;
        let (mut reader, mut receiver, mut good) = (Reader::new(), Receiver::new(), 0);
        for (position, byte) in (1..).zip(bytes) {
            match reader.push(byte) {
                None => {}
                Some(Ok(packet)) if receiver.take(&packet).is_ok_and(|(event, _)| advances(&event)) => good = position,
                Some(_) => break,
            }
        }
        if let Some((begin, stream, next)) = receiver.complete() {
            // It was cut off between its last packet and its name.
            Spool::go_on(&path, good)?.finish(self.spool)?;
            self.spool.remember(&begin, stream, next)?;
        } else if receiver.incomplete().is_some() {
            self.recording = Some(Spool::go_on(&path, good)?);
        } else {
            return self.spool.forget(&path);
        }
        self.receiver = receiver;
        Ok(())
    }

    /// The transfer that was under way when the courier ended.
    pub(super) fn goes_on(&self) -> Option<Begin> {
        self.receiver.incomplete().filter(|_| self.recording.is_some())
    }

    /// What to send when a line is there: please go on from here.
    pub(super) fn on_line(&mut self) -> Option<Vec<u8>> {
        self.reader = Reader::new();
        self.receiver.resume().and_then(wire)
    }

    /// Takes bytes. The answer may go out at once.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Taken, Error> {
        let (mut told, mut answer) = (Vec::new(), None);
        for byte in bytes {
            let reply = match self.reader.push(*byte) {
                None => continue,
                Some(Ok(packet)) => {
                    let (spool, receiver, recording) = (self.spool, &mut self.receiver, &mut self.recording);
                    take_packet(spool, receiver, recording, &packet, &mut told)?
                }
                Some(Err(fault)) => {
                    told.push(Told::Fault(fault.to_string()));
                    self.receiver.resume()
                }
            };
            // A later answer says what an earlier one did.
            answer = reply.or(answer);
        }
        if let Some(recording) = &mut self.recording {
            recording.sync()?;
        }
        Ok((told, answer.and_then(wire)))
    }

    /// The line is gone for good: what is not whole by now never will be.
    pub(super) fn give_up(&mut self) -> Result<Option<Begin>, Error> {
        let begin = self.goes_on();
        drop_recording(self.spool, &mut self.recording)?;
        Ok(begin)
    }
}

fn take_packet(
    spool: &Spool,
    receiver: &mut Receiver,
    recording: &mut Option<Recording>,
    packet: &Packet<'_>,
    told: &mut Vec<Told>,
) -> Result<Option<Reply>, Error> {
    let under_way = receiver.incomplete();
    let (event, reply) = match receiver.take(packet) {
        Ok(taken) => taken,
        Err(error) => {
            if let Some(begin) = under_way.filter(|_| recording.is_some()) {
                let why = match error {
                    eds_core::Error::Mismatch => {
                        "its totals do not fit what arrived: the line lost, added or changed bytes".to_owned()
                    }
                    error => format!("not as the link is specified: {error}"),
                };
                told.push(Told::Incomplete(begin, why));
                drop_recording(spool, recording)?;
            }
            return Ok(None);
        }
    };
    match event {
        Event::Begun { begin, replaced } => {
            if let Some(replaced) = replaced.filter(|_| recording.is_some()) {
                told.push(Told::Incomplete(replaced, "the device began another one: it was reset".into()));
            }
            drop_recording(spool, recording)?;
            recording.insert(spool.record(&begin, packet.stream)?).add(packet);
            told.push(Told::Begun(begin));
        }
        Event::Bundle(_) | Event::Container(_) => {
            if let Some(recording) = recording {
                recording.add(packet);
            }
        }
        Event::Complete(_) => {
            if let (Some(mut recording), Some((begin, stream, next))) = (recording.take(), receiver.complete()) {
                recording.add(packet);
                recording.finish(spool)?;
                spool.remember(&begin, stream, next)?;
                told.push(Told::Received(begin));
            }
        }
        Event::Aborted(reason) => {
            if let Some(begin) = under_way {
                told.push(Told::Aborted(begin, reason));
            }
            drop_recording(spool, recording)?;
        }
        _ => {}
    }
    Ok(reply)
}

fn drop_recording(spool: &Spool, recording: &mut Option<Recording>) -> Result<(), Error> {
    match recording.take() {
        Some(recording) => spool.forget(recording.path()),
        None => Ok(()),
    }
}

fn advances(event: &Event<'_>) -> bool {
    matches!(event, Event::Begun { .. } | Event::Bundle(_) | Event::Container(_) | Event::Complete(_))
}

fn wire(reply: Reply) -> Option<Vec<u8>> {
    let mut wire = [0; MAX_PACKET];
    encode(&reply.packet(), &mut wire).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests;
