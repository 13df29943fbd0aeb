//! Where bytes come from: a serial port, a TCP connection made or taken, a file or pipe.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::OFlags,
    termios::{OptionalActions, tcgetattr, tcsetattr},
};

/// Where a device is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A serial port, with its speed in bits a second.
    Serial(PathBuf, u32),
    /// A device that listens there.
    Connect(String),
    /// A device connects to here.
    Listen(String),
    /// A recording; `-` is standard input.
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(path, _) | Self::File(path) => write!(f, "{}", path.display()),
            Self::Connect(address) | Self::Listen(address) => f.write_str(address),
        }
    }
}

/// A line to a device.
pub(super) struct Line {
    pub(super) input: Box<dyn Read>,
    /// The way back, where there is one.
    pub(super) output: Option<Box<dyn Write>>,
}

/// A place where lines come from, one after the other.
pub(super) struct Opened<'a> {
    place: &'a Place,
    listener: Option<TcpListener>,
    /// Who connected while another line was open.
    next: Option<TcpStream>,
}

impl<'a> Opened<'a> {
    pub(super) fn new(place: &'a Place) -> Result<Self, super::Error> {
        let listener = match place {
            Place::Listen(address) => Some(TcpListener::bind(address.as_str())),
            _ => None,
        };
        let listener =
            listener.transpose().map_err(|source| super::Error::Line { place: place.to_string(), source })?;
        Ok(Self { place, listener, next: None })
    }

    /// Where somebody can connect.
    pub(super) fn address(&self) -> Option<String> {
        self.listener.as_ref()?.local_addr().ok().map(|address| address.to_string())
    }

    /// Whether a line that ended may come back.
    pub(super) fn comes_back(&self) -> bool {
        !matches!(self.place, Place::File(_))
    }

    /// Whether somebody connected beside the line that is open.
    pub(super) fn is_wanted_anew(&mut self) -> bool {
        let Some(listener) = &self.listener else { return false };
        let look = || {
            listener.set_nonblocking(true)?;
            let next = listener.accept();
            listener.set_nonblocking(false)?;
            next.and_then(|(stream, _)| stream.set_nonblocking(false).map(|()| stream))
        };
        self.next = look().ok();
        self.next.is_some()
    }

    /// Waits for the next line.
    pub(super) fn line(&mut self) -> io::Result<Line> {
        if let Some(next) = self.next.take() {
            return tcp(next);
        }
        match (self.place, &self.listener) {
            (Place::Serial(path, speed), _) => serial(path, *speed),
            (Place::Connect(address), _) => tcp(TcpStream::connect(address.as_str())?),
            (Place::Listen(_), Some(listener)) => tcp(listener.accept()?.0),
            (Place::File(path), _) if path == Path::new("-") => Ok(Line { input: Box::new(io::stdin()), output: None }),
            (Place::File(path), _) => Ok(Line { input: Box::new(File::open(path)?), output: None }),
            (Place::Listen(_), None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Waits before the next attempt; who listens waits in [`Opened::line`].
    pub(super) fn pause(&self) {
        if self.listener.is_none() {
            thread::sleep(PAUSE);
        }
    }
}

fn tcp(stream: TcpStream) -> io::Result<Line> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let output = stream.try_clone()?;
    Ok(Line { input: Box::new(stream), output: Some(Box::new(output)) })
}

fn serial(path: &Path, speed: u32) -> io::Result<Line> {
    let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap_or_default();
    let port = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let mut settings = tcgetattr(&port)?;
    settings.make_raw();
    settings.set_speed(speed)?;
    tcsetattr(&port, OptionalActions::Flush, &settings)?;
    let output = port.try_clone()?;
    Ok(Line { input: Box::new(port), output: Some(Box::new(output)) })
}

/// After how long without a byte a connection is looked at.
const SILENCE: Duration = Duration::from_secs(5);
/// How long until a line that broke is tried again.
const PAUSE: Duration = Duration::from_secs(1);
