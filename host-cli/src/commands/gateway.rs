//! `eds gateway`: DICOM peers of a department store into EDS and get images back.

use std::path::PathBuf;

use clap::Args;

use crate::{Error, gateway, output};

/// The arguments of `eds gateway`.
#[derive(Args, Debug)]
pub struct Gateway {
    /// Who may speak to it, and as whom: see docs/gateway.md
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
}

impl Gateway {
    /// Serves; the first line of output tells the address.
    pub(super) fn run(self) -> Result<(), Error> {
        let settings = gateway::Settings::load(&self.settings)?;
        gateway::serve(settings, |address| {
            // Whoever reads standard output may be gone; the gateway serves all the same.
            let _ = output::print(&format!("listening on {address}\n"));
        })?;
        Ok(())
    }
}
