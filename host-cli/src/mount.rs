//! A folder in which registered files look like any others, for programs that know nothing of EDS (the feature `mount`).
//!
//! Read-only. Files are decrypted in the memory of this process while they are open, and the kernel is told to keep no copy of what it
//! passes on (direct I/O), unless the user allows it. The folder is the mounting user's alone: nobody else gets in, root
//! neither. The end of the mount, by a signal or by `umount`, closes every file and wipes what was decrypted. This process writes no
//! memory image when it crashes.
//!
//! | part | purpose |
//! |---|---|
//! | `files` | the file system, in terms of paths, numbers and bytes |
//! | `fuse` | the same, as the kernel asks for it |

mod files;
mod fuse;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{Error, error::Kind, journey::sessions::Sessions};

use files::Files;

/// How to mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Let the kernel keep decrypted pages, for speed.
    pub page_cache: bool,
}

/// A folder that could not be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The operating system or FUSE refused.
    #[error("cannot mount at {}", folder.display())]
    Mount {
        /// Where.
        folder: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The connection to the kernel failed.
    #[error("the mount at {} failed", folder.display())]
    Broken {
        /// Where.
        folder: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Signals cannot be waited for.
    #[error("signals cannot be waited for")]
    Signals(#[source] io::Error),
}

impl MountError {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        Kind::LocalIo
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mount { .. } => {
                Some("FUSE is needed: /dev/fuse, and the package fuse3 for users other than root; and an empty folder of yours".into())
            }
            Self::Broken { .. } | Self::Signals(_) => None,
        }
    }
}

/// Mounts, tells `mounted`, and serves until a signal (SIGINT, SIGTERM, SIGHUP) or somebody's `umount` ends it.
///
/// # Errors
/// [`MountError`], and what `mounted` fails with.
pub fn mount(
    sessions: Sessions,
    folder: &Path,
    options: Options,
    mounted: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let files = Arc::new(Files::new(sessions));
    let (ended, end) = mpsc::channel();
    // Before anything is mounted: a signal from now on finds its way here.
    wait_for_signals(ended.clone())?;
    let mut session = fuse::mount(Arc::clone(&files), folder, options)
        .map_err(|source| MountError::Mount { folder: folder.into(), source })?;
    let mut unmounter = session.unmount_callable();
    // What is open holds plaintext: no image of this memory is written if it crashes. Where that is unknown, so be it.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let serving = thread::spawn(move || {
        let served = session.run();
        let _ = ended.send(End::Unmounted(served));
    });
    let told = mounted();
    let end = if told.is_ok() { end.recv().unwrap_or(End::Signal) } else { End::Signal };
    let result = match end {
        // A program may still have a file open, or stand in the folder: it loses it, and nothing is waited for.
        End::Signal => unmounter.unmount().or_else(|error| detach(folder, error)),
        End::Unmounted(served) => {
            let _ = serving.join();
            served
        }
    };
    files.close_all();
    told?;
    result.map_err(|source| MountError::Broken { folder: folder.into(), source }.into())
}

/// Takes the folder out of the tree although somebody uses it; the kernel ends the rest when this process does.
fn detach(folder: &Path, error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::ResourceBusy => Ok(rustix::mount::unmount(folder, rustix::mount::UnmountFlags::DETACH)?),
        _ => Err(error),
    }
}

/// What ended the mount.
enum End {
    Signal,
    Unmounted(io::Result<()>),
}

fn wait_for_signals(ended: mpsc::Sender<End>) -> Result<(), MountError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(MountError::Signals)?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).map_err(MountError::Signals);
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        let _ = ended.send(End::Signal);
    });
    Ok(())
}
