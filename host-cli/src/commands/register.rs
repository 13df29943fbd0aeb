//! `eds register`: images go in.

use std::path::PathBuf;

use clap::Args;

use super::{
    Options,
    queue::{AtQuorum, in_passing, tell_late},
    warn,
};
use crate::{
    Error,
    catalog::Content,
    journey::{
        Session,
        register::{self, register},
    },
    output,
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
}

impl Register {
    /// Registers each image; prints its id and its path. The first error decides the exit code, after all were tried.
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let session = Session::open(&options.load()?)?;
        let how = register::Options { opaque: self.opaque, threshold: self.threshold, quorum: self.quorum.given() };
        let (mut failed, mut late) = (None, Vec::new());
        for path in &self.images {
            match register(&session, path, &how) {
                Ok(done) => {
                    warn(&done.warnings);
                    let what = match done.content {
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
        failed.map_or(Ok(()), |kind| Err(Error::SomeFailed { kind }))
    }
}
