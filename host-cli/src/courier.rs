//! Carries what an imaging device made from its link to storage and key servers, on a workstation that may not read it.
//!
//! | part | purpose |
//! |---|---|
//! | `line` | where bytes come from: a serial port, TCP, a file |
//! | `intake` | from bytes of the link to recordings, and what to answer: no I/O but the spool's |
//! | `spool` | recordings on the disk: what was acknowledged to the device is here until it is delivered |
//! | `carry` | one whole recording: container into the storage, entry into the catalog, shares to the key servers |
//!
//! Invariants. Nothing is acknowledged that is not on the disk. Every step after that can be done again, and is, until it is
//! done: a crash anywhere loses nothing and delivers nothing twice. What is here is sealed or public; nothing of it opens.
//! Nothing of it is believed either: the parts are compared with each other, so that what a line exchanged is named before
//! anybody is bothered with it; the rest is for the key servers and for who opens the image.

mod carry;
mod error;
mod intake;
mod line;
mod spool;

use std::{
    io::{self, Read as _, Write as _},
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use eds_core::link::Begin;

pub use self::{
    carry::{Carried, Carrier},
    error::Error,
    intake::Told,
    line::Place,
};
use self::{
    intake::Intake,
    line::{Line, Opened},
    spool::Spool,
};
use crate::{Kind, config::Config, keystore::Quorum, output};

/// What to receive, and how long.
#[derive(Debug)]
pub struct Options {
    /// Where the device is.
    pub place: Place,
    /// Ends after so many whole images; without it, when the line ends for good.
    pub images: Option<u64>,
    /// How many key servers must hold their shares.
    pub quorum: Quorum,
}

/// What happened, for people and scripts.
#[derive(Debug)]
#[non_exhaustive]
pub enum News {
    /// Somebody can connect here.
    Listening(String),
    /// On the link.
    Link(Told),
    /// The line is broken, and tried again.
    Broken(String),
    /// An image is where it belongs.
    Carried(Carried),
    /// An image waits, and why.
    Waits(Begin, String),
    /// An image will never be delivered; where it was set aside, and why.
    SetAside(Begin, PathBuf, String),
    /// A recording was damaged on the disk, and set aside there.
    Damaged(PathBuf),
}

/// Receives and carries until the line ends, or as many images as asked for have come; what came before is carried too.
///
/// # Errors
/// What keeps it from working at all; and at the end that something is incomplete, waits, or was set aside.
pub fn run(config: &Config, options: Options, tell: &(dyn Fn(News) + Sync)) -> Result<(), crate::Error> {
    let spool = Spool::open(&config.state)?;
    let carrier = Carrier::open(config, options.quorum)?;
    let mut intake = Intake::begin(&spool)?;
    if let Some(begin) = intake.goes_on() {
        tell(News::Link(Told::GoesOn(begin)));
    }
    let (wake, woken) = channel();
    thread::scope(|scope| {
        let spool = &spool;
        let carrying = scope.spawn(move || carry_all(carrier, spool, &woken, tell));
        // Where nobody carries any more, nothing more is received.
        let mut complete = || wake.send(()).map_err(|_| Error::Ended);
        let received = receive(&options, &mut intake, &mut complete, tell);
        drop(wake);
        let left = carrying.join().map_err(|_| Error::Ended)?;
        match received {
            Err(Error::Ended) => left,
            received => received.map_err(crate::Error::from).and(left),
        }
    })
}

/// Reads the line to its end, over and over where it can come back.
fn receive(
    options: &Options,
    intake: &mut Intake<'_>,
    complete: &mut dyn FnMut() -> Result<(), Error>,
    tell: &(dyn Fn(News) + Sync),
) -> Result<(), Error> {
    let mut opened = Opened::new(&options.place)?;
    if let Some(address) = opened.address() {
        tell(News::Listening(address));
    }
    let (mut images, mut incomplete) = (0, 0);
    loop {
        match opened.line() {
            Ok(line) => {
                let ended = follow(line, &mut opened, options, intake, &mut images, &mut incomplete, complete, tell)?;
                if options.images.is_some_and(|wanted| images >= wanted) {
                    return Ok(());
                }
                if !opened.comes_back() {
                    if let Some(begin) = intake.give_up()? {
                        incomplete += 1;
                        tell(News::Link(Told::Incomplete(begin, "the line ended before its end".into())));
                    }
                    return if incomplete > 0 { Err(Error::Incomplete { images: incomplete }) } else { Ok(()) };
                }
                tell(News::Broken(ended));
            }
            Err(error) if opened.comes_back() => tell(News::Broken(error.to_string())),
            Err(source) => return Err(Error::Line { place: options.place.to_string(), source }),
        }
        opened.pause();
    }
}

/// One line from its beginning until it breaks; says how it ended.
#[expect(clippy::too_many_arguments, reason = "the state of one receiver, which has one caller")]
fn follow(
    mut line: Line,
    opened: &mut Opened<'_>,
    options: &Options,
    intake: &mut Intake<'_>,
    images: &mut u64,
    incomplete: &mut usize,
    complete: &mut dyn FnMut() -> Result<(), Error>,
    tell: &(dyn Fn(News) + Sync),
) -> Result<String, Error> {
    let mut buffer = vec![0; BUFFER];
    let mut answer = intake.on_line();
    loop {
        if let (Some(reply), Some(output)) = (answer.take(), &mut line.output)
            && let Err(error) = output.write_all(&reply).and_then(|()| output.flush())
        {
            return Ok(error.to_string());
        }
        if options.images.is_some_and(|wanted| *images >= wanted) {
            return Ok("as many images as asked for have come".into());
        }
        let length = match line.input.read(&mut buffer) {
            Ok(0) => return Ok("the other end closed it".into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A device that lost its power closes nothing: it connects anew, or a byte that means nothing comes back refused.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if opened.is_wanted_anew() {
                    return Ok("the device connected anew".into());
                }
                answer = Some(vec![0]);
                continue;
            }
            Err(error) => return Ok(error.to_string()),
        };
        let (told, reply) = intake.take(buffer.get(..length).unwrap_or_default())?;
        for told in told {
            match &told {
                Told::Received(_) => {
                    *images += 1;
                    complete()?;
                }
                Told::Incomplete(..) | Told::Aborted(..) => *incomplete += 1,
                _ => {}
            }
            tell(News::Link(told));
        }
        answer = reply;
    }
}

/// Carries every whole recording; those that cannot be carried now are tried again, until nothing more comes.
fn carry_all(
    mut carrier: Carrier,
    spool: &Spool,
    woken: &Receiver<()>,
    tell: &(dyn Fn(News) + Sync),
) -> Result<(), crate::Error> {
    let mut kept_aside: Option<Kind> = None;
    let mut said: Vec<(PathBuf, String)> = Vec::new();
    loop {
        let more = match woken.recv_timeout(if said.is_empty() { IDLE } else { RETRY }) {
            Err(RecvTimeoutError::Disconnected) => false,
            Ok(()) | Err(RecvTimeoutError::Timeout) => true,
        };
        let mut waiting: Option<Kind> = None;
        let mut left = 0;
        let (recordings, damaged) = spool.complete()?;
        for path in damaged {
            kept_aside.get_or_insert(Kind::Damaged);
            tell(News::Damaged(path));
        }
        for recording in recordings {
            match carrier.carry(&recording) {
                Ok(carried) => {
                    spool.remove(&recording)?;
                    said.retain(|(path, _)| *path != recording.path);
                    tell(News::Carried(carried));
                }
                Err(error) if is_final(&error) => {
                    kept_aside.get_or_insert(error.kind());
                    let aside = spool.set_aside(&recording)?;
                    said.retain(|(path, _)| *path != recording.path);
                    tell(News::SetAside(recording.begin, aside, error.report()));
                }
                Err(error) => {
                    left += 1;
                    waiting.get_or_insert(error.kind());
                    let report = error.report();
                    if !said.iter().any(|(path, before)| *path == recording.path && *before == report) {
                        said.retain(|(path, _)| *path != recording.path);
                        said.push((recording.path.clone(), report.clone()));
                        tell(News::Waits(recording.begin, report));
                    }
                }
            }
        }
        carrier.deliver_in_passing();
        if !more {
            return match (waiting, kept_aside) {
                (Some(kind), _) => Err(Error::Waiting { images: left, kind }.into()),
                (None, Some(kind)) => Err(Error::SetAside { place: spool.aside(), kind }.into()),
                (None, None) => Ok(()),
            };
        }
    }
}

/// Whether an image can never be delivered, whatever is repaired.
fn is_final(error: &crate::Error) -> bool {
    match error {
        crate::Error::Deliver(error) => error.is_final(),
        crate::Error::Courier(error) => error.is_final(),
        _ => false,
    }
}

/// Prints a line for scripts.
///
/// # Errors
/// [`output::Error::Stdout`].
pub fn print(carried: &Carried) -> Result<(), output::Error> {
    let Begin { file, key, device, counter, .. } = carried.begin;
    output::print(&format!("{file}\t{key}\t{device}\t{counter}\n"))
}

/// Bytes read at once.
const BUFFER: usize = 64 * 1024;
/// How long until what could not be delivered is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// How long until the queue is looked at again.
const IDLE: Duration = Duration::from_secs(60);
