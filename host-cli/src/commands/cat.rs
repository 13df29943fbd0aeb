//! `eds cat`: an image, or one frame of it, to standard output.

use clap::Args;
use eds_core::ids::FileId;

use super::{Options, retrieve::tell_maker, warn};
use crate::{
    Error,
    journey::{
        Session,
        retrieve::{frame, retrieve},
    },
    output::Output,
};

/// The arguments of `eds cat`.
#[derive(Args, Debug)]
pub struct Cat {
    /// The id that `eds register`, `eds courier` or `eds search -o ids` printed
    #[arg(value_name = "ID")]
    id: String,
    /// Only this frame, from 1 on: its bytes as they are in the pixel data; nothing else is decrypted
    #[arg(long, value_name = "N", conflicts_with = "restore")]
    frame: Option<u32>,
    /// Put the patient's data back: the original, byte for byte
    #[arg(long)]
    restore: bool,
}

impl Cat {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let file: FileId = self.id.parse().map_err(|_| Error::NotAnId(self.id))?;
        let session = Session::open(&config)?;
        let culprits = match self.frame {
            None => {
                let retrieved = retrieve(&session, file, Output::Stdout, self.restore)?;
                if let Some(maker) = &retrieved.made_by {
                    tell_maker(file, maker);
                }
                retrieved.culprits
            }
            Some(number) => {
                let mut stdout = std::io::stdout().lock();
                frame(&session, file, number, &mut stdout)?
            }
        };
        warn(&culprits);
        Ok(())
    }
}
