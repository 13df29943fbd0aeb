//! `eds register`: images go in, one by one or all below a folder.

mod progress;
pub(super) mod report;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use self::{
    progress::Progress,
    report::{Report, Reports},
};
use super::{
    Options,
    queue::{AtQuorum, in_passing},
    warn,
};
use crate::{
    Error,
    dicom::Region,
    journey::{
        Session,
        register::{self, Clock, Event, register, walk},
    },
    metadata::KeyScope,
};

/// The arguments of `eds register`.
#[derive(Args, Debug)]
pub struct Register {
    /// The images, and folders with images; a named file that is not DICOM is encrypted whole, one in a folder is reported
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// How many images share a key, and so an access list
    #[arg(long, value_name = "WHAT", default_value = "image")]
    key_per: KeyPer,
    /// How many key servers are needed to open them [default: of the configuration, else more than half]
    #[arg(short = 'm', long, value_name = "M")]
    threshold: Option<u8>,
    #[command(flatten)]
    quorum: AtQuorum,
    /// Encrypt whole, without looking into them, the files that are named, and those in folders that cannot be read as DICOM
    #[arg(long)]
    opaque: bool,
    /// De-identification profile [default: of the configuration, else the one that `eds profile show` prints]
    #[arg(long, value_name = "FILE", conflicts_with = "opaque")]
    profile: Option<PathBuf>,
    /// Blank this rectangle in every frame, in pixels; may be given several times
    #[arg(long = "mask", value_name = "X,Y,WIDTH,HEIGHT", conflicts_with = "opaque")]
    masks: Vec<Region>,
    /// Register images although they may show who the patient is; the report says so
    #[arg(long, conflicts_with = "opaque")]
    pass_suspect: bool,
    /// Write what was done to each element of each image into this file: a line of JSON for each image
    #[arg(long, value_name = "FILE", conflicts_with = "opaque")]
    report: Option<PathBuf>,
    /// Write what becomes of each file as a line of JSON on standard output
    #[arg(long)]
    json: bool,
}

/// How many images share a key.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum KeyPer {
    /// Each image has a key of its own
    Image,
    /// The images of a series share one
    Series,
    /// The images of a study share one
    Study,
}

impl Register {
    /// Registers each image; prints its id and its path. The first error decides the exit code, after all were tried.
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let mut config = options.load()?;
        config.profile = self.profile.or(config.profile);
        let session = Session::open(&config)?;
        let how = register::Options {
            opaque: self.opaque,
            scope: match self.key_per {
                KeyPer::Image => KeyScope::Image,
                KeyPer::Series => KeyScope::Series,
                KeyPer::Study => KeyScope::Study,
            },
            threshold: self.threshold,
            quorum: self.quorum.given(),
            masks: self.masks,
            pass_suspect: self.pass_suspect,
            report: self.report.is_some(),
        };
        let reports = self.report.map(|path| Reports::open(&path)).transpose()?;
        let found = walk(&self.paths);
        let (files, bytes) = (found.sources.len(), found.bytes());
        let mut report = Report::new(self.json, self.paths.iter().any(|path| path.is_dir()), reports);
        for (path, reason) in found.left_out {
            report.event(Event::LeftOut { path, reason })?;
        }
        for (path, error) in found.failed {
            report.event(Event::Failed { path, error })?;
        }
        let clock = Clock::default();
        let progress = Progress::new(files, bytes, self.json);
        let done = progress.during(&clock, |progress| {
            register(&session, found.sources, &how, &clock, &mut |event| progress.around(|| report.event(event)))
        });
        let summary = match done {
            Ok(summary) => summary,
            // What was registered before is, and is worth knowing when there were more files.
            Err(error) => {
                report.stopped()?;
                return Err(error);
            }
        };
        warn(&summary.warnings);
        report.late(&summary.late);
        report.end(&summary)?;
        in_passing(session.deliver_in_passing(&summary.late));
        report.into_result()
    }
}
