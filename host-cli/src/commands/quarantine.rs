//! `eds quarantine`: images that may show who the patient is, and what a person decides about them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use eds_core::ids::FileId;
use serde_json::json;

use super::{
    Options,
    register::report::{Report, Reports},
    warn,
};
use crate::{
    Error,
    dicom::Region,
    journey::{Session, quarantine, register},
    output,
    queue::moment,
};

/// Look at images that were kept for review, since they may show who the patient is, and decide about them.
#[derive(Subcommand, Debug)]
pub enum Quarantine {
    /// List what waits: id, since when, what is suspect; `eds view ID` or `eds retrieve ID` shows the image
    Ls(Ls),
    /// Register an image, blanked or as it is; the copy in quarantine goes then
    Release(Release),
    /// Delete an image for ever; the same file is not taken in again
    Reject(Reject),
}

/// The arguments of `eds quarantine ls`.
#[derive(Args, Debug)]
pub struct Ls {
    /// Write a line of JSON for each image
    #[arg(long)]
    json: bool,
}

/// The arguments of `eds quarantine release`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("how").required(true).multiple(true))]
pub struct Release {
    /// The image, as `eds quarantine ls` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Blank this rectangle in every frame, in pixels; may be given several times
    #[arg(long = "mask", value_name = "X,Y,WIDTH,HEIGHT", group = "how")]
    masks: Vec<Region>,
    /// Let it pass although it may show who the patient is; the report says so
    #[arg(long, group = "how")]
    pass_suspect: bool,
    /// De-identification profile [default: of the configuration, else the one that `eds profile show` prints]
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Write what was done to each element into this file, as a line of JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// The arguments of `eds quarantine reject`.
#[derive(Args, Debug)]
pub struct Reject {
    /// The image, as `eds quarantine ls` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// That it is to be deleted for ever
    #[arg(short, long, required = true)]
    yes: bool,
}

impl Quarantine {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        match self {
            Self::Ls(command) => command.run(options),
            Self::Release(command) => command.run(options),
            Self::Reject(command) => command.run(options),
        }
    }
}

impl Ls {
    fn run(self, options: &Options) -> Result<(), Error> {
        let session = Session::open(&options.load()?)?;
        let text = quarantine::waiting(&session)?.iter().fold(String::new(), |text, held| {
            let since = moment(held.since);
            text + &if self.json {
                format!("{}\n", json!({ "id": held.file.to_string(), "since": since, "reasons": held.reasons }))
            } else {
                format!("{}\t{since}\t{}\n", held.file, held.reasons.join("; "))
            }
        });
        Ok(output::print(&text)?)
    }
}

impl Release {
    fn run(self, options: &Options) -> Result<(), Error> {
        let file = id(&self.id)?;
        let mut config = options.load()?;
        config.profile = self.profile.or(config.profile);
        let session = Session::open(&config)?;
        let how = register::Options {
            masks: self.masks,
            pass_suspect: self.pass_suspect,
            report: self.report.is_some(),
            ..register::Options::default()
        };
        let reports = self.report.map(|path| Reports::open(&path)).transpose()?;
        let (event, summary) = quarantine::release(&session, file, &how)?;
        warn(&summary.warnings);
        let mut report = Report::new(false, false, reports);
        report.event(event)?;
        report.late(&summary.late);
        report.into_result()
    }
}

impl Reject {
    fn run(self, options: &Options) -> Result<(), Error> {
        let _said = self.yes;
        let file = id(&self.id)?;
        let session = Session::open(&options.load()?)?;
        warn(&quarantine::reject(&session, file)?);
        eprintln!("{file}: deleted; the same file is not taken in again");
        Ok(())
    }
}

fn id(text: &str) -> Result<FileId, Error> {
    text.parse().map_err(|_| Error::NotAnId(text.into()))
}
