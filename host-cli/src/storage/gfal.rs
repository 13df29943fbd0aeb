//! Whatever libgfal2 speaks, where it is installed: `root://`, `srm://`, `gsiftp://` and more.
//!
//! The library takes certificates and proxies by file name. It does not say whether its rename replaces, so the name is
//! looked at before; a file id is random, and nobody else makes that name in between but by intent.

use std::sync::{Arc, Mutex, PoisonError};

use eds_gfal2::{Error as GfalError, File, Gfal};
use rustix::io::Errno;

use super::{
    Error, Fault, Site,
    fault::said,
    remote::{Content, Door, Renaming, put_renaming},
    site::Proof,
};

/// A storage that libgfal2 reaches.
pub(super) struct GfalDoor {
    gfal: Gfal,
    base: String,
    /// The file that was read last: opening one costs more than reading it.
    last: Mutex<Option<(String, Arc<File>)>>,
}

impl GfalDoor {
    pub(super) fn new(site: &Site) -> Result<Self, Error> {
        let setting = |problem: String| Error::Setting { site: site.name().into(), problem };
        let base = site.url().to_string();
        let gfal = Gfal::load().map_err(|error| match error {
            GfalError::Library(_) => setting(format!("{error}; install the package gfal2 and the plug-in for {base}")),
            error => setting(error.to_string()),
        })?;
        if let Some(proof) = site.access().proofs.first() {
            let (certificate, key) = match proof {
                Proof::Proxy(file) => (file, file),
                Proof::Certificate(pair) => (&pair.certificate, &pair.key),
            };
            let named = (certificate.to_str(), key.to_str());
            let (Some(certificate), Some(key)) = named else {
                return Err(setting("libgfal2 needs a certificate file whose name is UTF-8".into()));
            };
            gfal.show_certificate(&base, certificate, key).map_err(|error| setting(error.to_string()))?;
        }
        Ok(Self { gfal, base, last: Mutex::default() })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    fn opened(&self, path: &str) -> Result<Arc<File>, Fault> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((opened, file)) if opened == path => Ok(Arc::clone(file)),
            _ => {
                let file = Arc::new(self.gfal.open(&self.url(path)).map_err(of_gfal)?);
                *last = Some((path.into(), Arc::clone(&file)));
                Ok(file)
            }
        }
    }

    fn forget(&self, path: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|(opened, _)| opened == path) {
            *last = None;
        }
    }
}

impl Door for GfalDoor {
    fn size(&self, path: &str) -> Result<u64, Fault> {
        match self.gfal.stat(&self.url(path)).map_err(of_gfal)? {
            (_, true) => Err(Fault::NotFound),
            (size, false) => Ok(size),
        }
    }

    fn read(&self, path: &str, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
        let file = self.opened(path)?;
        let start = into.len();
        into.resize(start + length, 0);
        let mut done = 0;
        let result = loop {
            let Some(free) = into.get_mut(start + done..).filter(|free| !free.is_empty()) else { break Ok(()) };
            match file.read_at(free, offset + done as u64) {
                Ok(0) => break Ok(()),
                Ok(read) => done += read.min(free.len()),
                Err(error) => break Err(of_gfal(error)),
            }
        };
        into.truncate(start + done);
        if result.is_err() {
            self.forget(path);
        }
        result
    }

    fn put(&self, path: &str, content: &Content) -> Result<(), Fault> {
        put_renaming(self, path, content)
    }

    fn delete(&self, path: &str) -> Result<(), Fault> {
        self.forget(path);
        self.gfal.unlink(&self.url(path)).map_err(of_gfal)
    }
}

impl Renaming for GfalDoor {
    fn write(&self, path: &str, content: &Content, before: u32) -> Result<(), Fault> {
        let url = self.url(path);
        if before > 0 {
            // What an earlier try left cannot be gone on with: there is no way to write at a position.
            let _ = self.gfal.unlink(&url);
        }
        let mut file = self.gfal.create(&url).map_err(of_gfal)?;
        let mut offset = 0;
        while offset < content.size {
            let piece = content.piece(offset, PIECE)?;
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                let written = file.write(rest).map_err(of_gfal)?;
                if written == 0 {
                    return Err(Fault::Broken("nothing more is taken".into()));
                }
                rest = rest.get(written..).unwrap_or_default();
            }
            offset += piece.len() as u64;
        }
        file.close().map_err(of_gfal)
    }

    fn make_directory(&self, path: &str) -> Result<(), Fault> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        match self.gfal.make_directories(&self.url(folder)).map_err(of_gfal) {
            Err(Fault::Exists) => Ok(()),
            other => other,
        }
    }

    fn adler32(&self, path: &str) -> Result<Option<u32>, Fault> {
        match self.gfal.checksum(&self.url(path), "ADLER32") {
            Ok(text) => Ok(u32::from_str_radix(text.trim(), 16).ok()),
            // A storage without checksums: it is read back.
            Err(_) => Ok(None),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Fault> {
        match self.size(to) {
            Ok(_) => return Err(Fault::Exists),
            Err(Fault::NotFound) => {}
            Err(fault) => return Err(fault),
        }
        self.forget(from);
        self.gfal.rename(&self.url(from), &self.url(to)).map_err(of_gfal)
    }
}

/// What an errno says, as gfal2 uses them.
fn of_gfal(error: GfalError) -> Fault {
    let GfalError::Call { code, message } = error else { return Fault::Refused(error.to_string()) };
    let text = said(&message);
    match Errno::from_raw_os_error(code) {
        Errno::NOENT => Fault::NotFound,
        Errno::EXIST => Fault::Exists,
        Errno::ACCESS | Errno::PERM => Fault::Denied(text),
        Errno::NOSPC | Errno::DQUOT => Fault::Full(text),
        Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH => Fault::Unreachable(text),
        Errno::TIMEDOUT | Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED => Fault::Broken(text),
        Errno::BUSY | Errno::AGAIN => Fault::Busy(text),
        // gfal2's word for all that it has no errno for, a missing server among it.
        Errno::COMM => Fault::Unreachable(text),
        _ => Fault::Refused(text),
    }
}

const PIECE: usize = 4 * 1024 * 1024;
