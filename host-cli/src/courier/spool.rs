//! Recordings of the link on the disk, one file for a transfer, in `courier/` of the state directory.
//!
//! | file | is |
//! |---|---|
//! | `KEY-STREAM.link` | a transfer under way: its packets, as they came, without gaps |
//! | `KEY-STREAM.whole` | a transfer that is whole, and not delivered yet |
//! | `last` | the last whole transfer: the device may not have heard that it arrived |
//! | `aside/` | what can never be delivered |
//! | `lock` | held by the courier at work |
//!
//! A recording is a device link as `docs/device-link.md` describes it, so that it is read by the same code.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use eds_core::link::{Begin, MAX_PACKET, Packet, encode};

use super::Error;
use crate::output;

/// The directory.
pub(super) struct Spool {
    root: PathBuf,
    lock: File,
}

impl Drop for Spool {
    /// Gives the lock back at once: a child of this process may hold the file for a moment more, between its fork and its
    /// exec. When this fails, closing the file does it.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

/// A recording that is being written. Nothing of it is sure to be on the disk before [`Recording::sync`].
pub(super) struct Recording {
    path: PathBuf,
    file: File,
    pending: Vec<u8>,
}

/// A recording of a whole transfer.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The file.
    pub path: PathBuf,
    /// What the device said of it.
    pub begin: Begin,
}

impl Spool {
    pub(super) fn open(state: &Path) -> Result<Self, Error> {
        let root = state.join("courier");
        let failed = failed(&root);
        output::make_private_directory(&root.join(ASIDE)).map_err(|error| failed(io::Error::other(error)))?;
        let lock = output::lock_file(&root.join("lock")).map_err(&failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse { path: root }),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self { root, lock })
    }

    /// Where what can never be delivered is kept.
    pub(super) fn aside(&self) -> PathBuf {
        self.root.join(ASIDE)
    }

    /// Starts a recording; one of the same name is begun anew.
    pub(super) fn record(&self, begin: &Begin, stream: u32) -> Result<Recording, Error> {
        let path = self.root.join(format!("{}-{stream:08x}.{UNDER_WAY}", begin.key));
        let make = || {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            self.sync_entries()?;
            Ok(file)
        };
        let file = make().map_err(failed(&path))?;
        Ok(Recording { path, file, pending: Vec::new() })
    }

    /// The recordings of transfers under way, youngest first.
    pub(super) fn under_way(&self) -> Result<Vec<PathBuf>, Error> {
        let mut found = self.files(UNDER_WAY)?;
        found.reverse();
        Ok(found)
    }

    /// Goes on with a recording, after its first `length` bytes.
    pub(super) fn go_on(path: &Path, length: u64) -> Result<Recording, Error> {
        let open = || {
            let file = OpenOptions::new().append(true).open(path)?;
            file.set_len(length)?;
            Ok(file)
        };
        let file = open().map_err(failed(path))?;
        Ok(Recording { path: path.to_owned(), file, pending: Vec::new() })
    }

    /// The recordings of whole transfers, oldest first; and those whose beginning cannot be read any more, which are set aside.
    pub(super) fn complete(&self) -> Result<(Vec<Whole>, Vec<PathBuf>), Error> {
        let (mut whole, mut damaged) = (Vec::new(), Vec::new());
        for path in self.files(WHOLE)? {
            match begin_of(&path) {
                Some(begin) => whole.push(Whole { path, begin }),
                None => damaged.push(self.move_aside(&path)?),
            }
        }
        Ok((whole, damaged))
    }

    /// Removes a recording that was delivered.
    pub(super) fn remove(&self, recording: &Whole) -> Result<(), Error> {
        self.forget(&recording.path)
    }

    /// Removes a recording.
    pub(super) fn forget(&self, path: &Path) -> Result<(), Error> {
        fs::remove_file(path).and_then(|()| self.sync_entries()).map_err(failed(path))
    }

    /// Keeps a recording that can never be delivered, and says where.
    pub(super) fn set_aside(&self, recording: &Whole) -> Result<PathBuf, Error> {
        self.move_aside(&recording.path)
    }

    fn move_aside(&self, path: &Path) -> Result<PathBuf, Error> {
        let to = self.aside().join(path.file_name().unwrap_or_default());
        let moved = || {
            fs::rename(path, &to)?;
            output::sync_directory(&File::open(self.aside())?)?;
            self.sync_entries()
        };
        moved().map_err(failed(path))?;
        Ok(to)
    }

    /// Remembers the last whole transfer.
    pub(super) fn remember(&self, begin: &Begin, stream: u32, next: u32) -> Result<(), Error> {
        let (path, draft) = (self.root.join("last"), self.root.join("last.draft"));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&[&begin.to_bytes()[..], &stream.to_le_bytes(), &next.to_le_bytes()].concat())?;
            file.sync_data()?;
            fs::rename(&draft, &path)?;
            self.sync_entries()
        };
        write().map_err(failed(&path))
    }

    /// The last whole transfer, if one is remembered.
    pub(super) fn last(&self) -> Option<(Begin, u32, u32)> {
        let bytes = fs::read(self.root.join("last")).ok()?;
        let (begin, rest) = bytes.split_at_checked(Begin::LEN)?;
        let (stream, next) = rest.split_first_chunk::<4>()?;
        let next: [u8; 4] = next.try_into().ok()?;
        Some((Begin::from_bytes(begin).ok()?, u32::from_le_bytes(*stream), u32::from_le_bytes(next)))
    }

    /// Files of this kind, in the order in which they were last written.
    fn files(&self, kind: &str) -> Result<Vec<PathBuf>, Error> {
        let list = || {
            let mut found = Vec::new();
            for entry in fs::read_dir(&self.root)? {
                let entry = entry?;
                if entry.path().extension().is_some_and(|extension| extension == kind) {
                    found.push((entry.metadata()?.modified()?, entry.path()));
                }
            }
            found.sort();
            Ok(found.into_iter().map(|(_, path)| path).collect())
        };
        list().map_err(failed(&self.root))
    }

    fn sync_entries(&self) -> io::Result<()> {
        output::sync_directory(&File::open(&self.root)?)
    }
}

impl Recording {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a packet.
    pub(super) fn add(&mut self, packet: &Packet<'_>) {
        let mut wire = [0; MAX_PACKET];
        // What was decoded is no longer than what can be encoded.
        self.pending.extend_from_slice(encode(packet, &mut wire).unwrap_or_default());
    }

    /// Puts everything that was added on the disk.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let done = self.file.write_all(&self.pending).and_then(|()| self.file.sync_data());
        done.map_err(failed(&self.path))?;
        self.pending.clear();
        Ok(())
    }

    /// Marks the recording as that of a whole transfer. It is on the disk when this returns.
    pub(super) fn finish(mut self, spool: &Spool) -> Result<PathBuf, Error> {
        self.sync()?;
        let to = self.path.with_extension(WHOLE);
        fs::rename(&self.path, &to).and_then(|()| spool.sync_entries()).map_err(failed(&self.path))?;
        Ok(to)
    }
}

/// What a recording begins with.
fn begin_of(path: &Path) -> Option<Begin> {
    let mut start = Vec::with_capacity(MAX_PACKET);
    File::open(path).ok()?.take(MAX_PACKET as u64).read_to_end(&mut start).ok()?;
    let mut reader = eds_core::link::Reader::new();
    start.into_iter().find_map(|byte| match reader.push(byte) {
        Some(Ok(packet)) => Begin::from_bytes(packet.payload).ok(),
        _ => None,
    })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Spool { path: path.clone(), source }
}

const UNDER_WAY: &str = "link";
const WHOLE: &str = "whole";
const ASIDE: &str = "aside";
