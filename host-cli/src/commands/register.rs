//! `eds register`: images go in.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    Options,
    queue::{AtQuorum, in_passing, tell_late},
    warn,
};
use crate::{
    Error,
    catalog::Content,
    dicom::Region,
    journey::{
        Session,
        register::{self, Registration, register},
    },
    output::{self, Existing, Output},
};

/// The arguments of `eds register`.
#[derive(Args, Debug)]
pub struct Register {
    /// The images; files that are not DICOM are encrypted whole
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// How many key servers are needed to open them [default: of the configuration, else more than half]
    #[arg(short = 'm', long, value_name = "M")]
    threshold: Option<u8>,
    #[command(flatten)]
    quorum: AtQuorum,
    /// Encrypt the files whole, without looking into them
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
}

impl Register {
    /// Registers each image; prints its id and its path. The first error decides the exit code, after all were tried.
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let mut config = options.load()?;
        config.profile = self.profile.or(config.profile);
        let session = Session::open(&config)?;
        let how = register::Options {
            opaque: self.opaque,
            threshold: self.threshold,
            quorum: self.quorum.given(),
            masks: self.masks,
            pass_suspect: self.pass_suspect,
            report: self.report.is_some(),
        };
        let mut reports = self.report.map(|path| Reports::open(&path)).transpose()?;
        let (mut failed, mut late) = (None, Vec::new());
        for path in &self.images {
            match register(&session, path, &how) {
                Ok(done) => {
                    warn(&done.warnings);
                    for suspicion in &done.suspicions {
                        eprintln!("eds: warning: {}: {suspicion}", path.display());
                    }
                    if let Some(reports) = &mut reports {
                        reports.add(path, &done)?;
                    }
                    let what = match done.content {
                        Content::Opaque if done.quarantined => "quarantined: encrypted whole, to be looked at",
                        Content::Image => "the patient's data is separated and sealed",
                        Content::Opaque => "not looked into, encrypted whole",
                    };
                    eprintln!("{}: {what}; {} key servers open it", path.display(), done.threshold);
                    tell_late(done.threshold, &done.late);
                    late.extend(done.late);
                    output::print(&format!("{}\t{}\n", done.file, path.display()))?;
                }
                Err(error) if self.images.len() == 1 => return Err(error),
                Err(error) => {
                    eprintln!("{}", error.report());
                    failed.get_or_insert(error.kind());
                }
            }
        }
        in_passing(session.deliver_in_passing(&late));
        if let Some(reports) = reports {
            reports.finish()?;
        }
        failed.map_or(Ok(()), |kind| Err(Error::SomeFailed { kind }))
    }
}

/// The file of `--report`, which appears under its name when all images were tried.
struct Reports(Output);

impl Reports {
    fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self(Output::open(path, Existing::Keep)?))
    }

    fn add(&mut self, path: &Path, done: &Registration) -> Result<(), Error> {
        let suspicions: Vec<_> = done.suspicions.iter().map(ToString::to_string).collect();
        let line = serde_json::json!({
            "file": path.display().to_string(),
            "id": done.file.to_string(),
            "quarantined": done.quarantined,
            "suspicions": suspicions,
            "deidentification": done.report,
        });
        match &mut self.0 {
            Output::File(file) => writeln!(file.file(), "{line}").map_err(Error::Report),
            Output::Stdout => Ok(output::print(&format!("{line}\n"))?),
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self.0 {
            Output::File(file) => Ok(file.finish()?),
            Output::Stdout => Ok(()),
        }
    }
}
