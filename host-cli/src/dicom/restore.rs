//! Puts the original together again: header and tail from the private part, pixel data from the de-identified file.
//!
//! [`Restorer`] is written to as the de-identified file is decrypted, and writes the original on; both digests are computed
//! on the way, and only when both fit does [`Restorer::finish`] report the original. Callers write into an
//! [`crate::output::OutputFile`], so that nothing that failed gets a name.

use std::{
    fmt,
    io::{self, Read, Write},
};

use aws_lc_rs::digest::{Context, SHA256};

use crate::dicom::{Error, PrivatePart, deidentify::sha256, private_part::Rest};

/// Takes a de-identified file and writes the original on. Dropped unfinished, what was written must not be used.
pub struct Restorer<'a, W> {
    part: &'a PrivatePart,
    out: W,
    /// Bytes of the de-identified file taken so far.
    taken: u64,
    patcher: Patcher<'a>,
    deidentified: Context,
    original: Context,
}

impl<'a, W: Write> Restorer<'a, W> {
    /// Starts with what comes before the pixel data.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn new(part: &'a PrivatePart, out: W) -> Result<Self, Error> {
        let (deidentified, original) = (Context::new(&SHA256), Context::new(&SHA256));
        let patcher = Patcher::new(&part.rest);
        let mut restorer = Self { part, out, taken: 0, patcher, deidentified, original };
        let before: &[u8] = match &part.rest {
            Rest::Around { head, .. } | Rest::Blanked { head, .. } => head,
            Rest::Whole(original) => original,
        };
        restorer.put(before).map_err(Error::Write)?;
        Ok(restorer)
    }

    /// Writes what comes after the pixel data, and checks both files.
    ///
    /// # Errors
    /// [`Error::OtherImage`] when the de-identified file is not the one that the private part was made with,
    /// [`Error::NotTheOriginal`], [`Error::Write`].
    pub fn finish(mut self) -> Result<(), Error> {
        if self.taken != self.part.deidentified_length || sha256(self.deidentified) != self.part.digests.deidentified {
            return Err(Error::OtherImage);
        }
        if let Rest::Around { tail, .. } | Rest::Blanked { tail, .. } = &self.part.rest {
            self.original.update(tail);
            self.out.write_all(tail).map_err(Error::Write)?;
        }
        self.out.flush().map_err(Error::Write)?;
        if sha256(self.original) == self.part.digests.original { Ok(()) } else { Err(Error::NotTheOriginal) }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.original.update(bytes);
        self.out.write_all(bytes)
    }
}

impl<W: Write> Write for Restorer<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.deidentified.update(bytes);
        if let Rest::Around { pixels, .. } | Rest::Blanked { pixels, .. } = &self.part.rest {
            let skipped = pixels.start.saturating_sub(self.taken);
            let kept = usize::try_from(skipped).ok().and_then(|skipped| bytes.get(skipped..));
            let mut kept = kept.unwrap_or_default();
            while !kept.is_empty() {
                let (piece, taken) = self.patcher.next(kept);
                self.put(piece)?;
                kept = kept.get(taken..).unwrap_or_default();
            }
        }
        self.taken = self.taken.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W> fmt::Debug for Restorer<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Restorer(<redacted>)")
    }
}

/// Puts back what was blanked, run by run.
struct Patcher<'a> {
    runs: std::slice::Iter<'a, (u64, u64)>,
    bytes: &'a [u8],
    /// Bytes up to the next run, and its length.
    next: Option<(u64, u64)>,
}

impl<'a> Patcher<'a> {
    fn new(rest: &'a Rest) -> Self {
        let (runs, bytes): (&[_], &[u8]) = match rest {
            Rest::Blanked { patches, .. } => (&patches.runs, &patches.bytes),
            Rest::Around { .. } | Rest::Whole(_) => (&[], &[]),
        };
        let mut runs = runs.iter();
        let next = runs.next().copied();
        Self { runs, bytes, next }
    }

    /// What to write for the beginning of these bytes, and how many of them that is for.
    fn next<'b>(&mut self, bytes: &'b [u8]) -> (&'b [u8], usize)
    where
        'a: 'b,
    {
        let Some((gap, run)) = &mut self.next else { return (bytes, bytes.len()) };
        let up_to = |most: u64| usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
        if *gap > 0 {
            let taken = up_to(*gap);
            *gap -= u64::try_from(taken).unwrap_or(u64::MAX);
            return (bytes.get(..taken).unwrap_or_default(), taken);
        }
        let taken = up_to(*run);
        // The private part was checked: its bytes are as many as its runs say.
        let (piece, rest) = self.bytes.split_at_checked(taken).unwrap_or((self.bytes, &[]));
        self.bytes = rest;
        *run -= u64::try_from(taken).unwrap_or(u64::MAX);
        if *run == 0 {
            self.next = self.runs.next().copied();
        }
        (piece, taken)
    }
}

/// Writes the original of a de-identified file.
///
/// # Errors
/// [`Error::Read`], and as [`Restorer::finish`]. What was written until then must not be used.
pub fn restore(deidentified: &mut impl Read, part: &PrivatePart, out: &mut impl Write) -> Result<(), Error> {
    let mut restorer = Restorer::new(part, out)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match deidentified.read(&mut buffer) {
            Ok(0) => return restorer.finish(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(Error::Read)?,
        };
        restorer.write_all(buffer.get(..read).unwrap_or_default()).map_err(Error::Write)?;
    }
}

const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests;
