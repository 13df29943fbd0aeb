//! `eds mount`: a folder in which registered files look like any others.

use std::path::PathBuf;

use clap::Args;

use super::Options;
use crate::{
    Error,
    journey::{Session, sessions::Sessions},
    mount, output,
};

/// The arguments of `eds mount`.
#[derive(Args, Debug)]
pub struct Mount {
    /// An empty folder of yours
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Let the kernel keep decrypted pages in its cache: faster for programs that read the same again, and then plaintext may stay
    /// in memory after a file is closed
    #[arg(long)]
    page_cache: bool,
}

impl Mount {
    /// Serves until a signal or `umount`; the first line of output tells that the folder can be used.
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        // What is wrong with configuration, databases or credentials is told now, and not by a program that opens a file.
        drop(Session::open(&options.load()?)?);
        let options = options.clone();
        let sessions = Sessions::new(move || options.load());
        mount::mount(sessions, &self.folder, mount::Options { page_cache: self.page_cache }, || {
            output::print(&format!("mounted {}\n", self.folder.display()))?;
            eprintln!("eds: note: Ctrl-C or umount ends it");
            Ok(())
        })
    }
}
