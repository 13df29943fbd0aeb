//! `eds courier`: from an imaging device to storage and key servers, on a workstation that may not read images.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{
    Options,
    queue::{AtQuorum, tell_late},
    warn,
};
use crate::{
    Error,
    courier::{self, News, Place, Told},
    output,
};

/// The arguments of `eds courier`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("place").required(true))]
pub struct Courier {
    /// A serial port that the device is on
    #[arg(long, value_name = "PORT", group = "place")]
    serial: Option<PathBuf>,
    /// The speed of the serial port, in bits a second
    #[arg(long, value_name = "BITS", default_value_t = 115_200, requires = "serial")]
    speed: u32,
    /// Connect to a device that listens there
    #[arg(long, value_name = "HOST:PORT", group = "place")]
    tcp: Option<String>,
    /// Let a device connect to here; port 0 lets the system choose, and the first line of output tells
    #[arg(long, value_name = "HOST:PORT", group = "place")]
    tcp_listen: Option<String>,
    /// Read a recording of the link, such as from a memory card; - is standard input
    #[arg(long, value_name = "FILE", group = "place")]
    file: Option<PathBuf>,
    /// End after so many whole images [default: never, or at the end of the file]
    #[arg(long, value_name = "NUMBER")]
    images: Option<u64>,
    #[command(flatten)]
    quorum: AtQuorum,
}

impl Courier {
    /// Carries; prints a line for each image that is where it belongs: its id, its key, the device, its counter.
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let place = match (self.serial, self.tcp, self.tcp_listen, self.file) {
            (Some(port), ..) => Place::Serial(port, self.speed),
            (_, Some(address), ..) => Place::Connect(address),
            (_, _, Some(address), _) => Place::Listen(address),
            (.., file) => Place::File(file.unwrap_or_else(|| PathBuf::from("-"))),
        };
        let options = courier::Options { place, images: self.images, quorum: self.quorum.or(config.terms) };
        courier::run(&config, options, &|news| told(&news))
    }
}

fn told(news: &News) {
    match news {
        News::Listening(address) => said(output::print(&format!("listening on {address}\n"))),
        News::Link(told) => link(told),
        News::Broken(why) => eprintln!("eds: note: the line is broken ({why}), and tried again"),
        News::Carried(carried) => {
            let (begin, threshold) = (&carried.begin, carried.threshold);
            eprintln!("delivered  file {} of device {}; {threshold} key servers open it", begin.file, begin.device);
            tell_late(threshold, &carried.late);
            warn(&carried.unconfirmed);
            said(courier::print(carried));
        }
        News::Waits(begin, why) => eprintln!("waits      file {} of device {}\n{why}", begin.file, begin.device),
        News::Damaged(place) => {
            eprintln!("DAMAGED    a recording on this workstation's disk, set aside as {}", place.display());
        }
        News::SetAside(begin, place, why) => eprintln!(
            "REFUSED    file {} of device {}, set aside as {}\n{why}",
            begin.file,
            begin.device,
            place.display()
        ),
    }
}

/// Whoever reads standard output may be gone; what was carried is carried.
fn said(printed: Result<(), output::Error>) {
    if let Err(error) = printed {
        eprintln!("{}", Error::from(error).report());
    }
}

fn link(told: &Told) {
    match told {
        Told::Begun(begin) => {
            eprintln!("receiving  file {} of device {}, counter {}", begin.file, begin.device, begin.counter)
        }
        Told::GoesOn(begin) => eprintln!("goes on    file {} of device {}", begin.file, begin.device),
        Told::Received(begin) => eprintln!("received   file {} of device {}", begin.file, begin.device),
        Told::Incomplete(begin, why) => eprintln!("INCOMPLETE file {} of device {}: {why}", begin.file, begin.device),
        Told::Aborted(begin, reason) => {
            eprintln!("INCOMPLETE file {} of device {}: the device gave it up ({reason:?})", begin.file, begin.device);
        }
        Told::Fault(why) => eprintln!("eds: note: {why}"),
    }
}
