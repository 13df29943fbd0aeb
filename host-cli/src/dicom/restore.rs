//! Puts the original together again: header and tail from the private part, pixel data from the de-identified file.
//!
//! The result is written while both digests are computed; only when both fit is it reported as the original. Callers
//! write into an [`crate::output::OutputFile`], so that nothing that failed gets a name.

use std::io::{Read, Write};

use aws_lc_rs::digest::{Context, SHA256};

use crate::dicom::{Error, PrivatePart, private_part::Rest, separate::sha256};

/// Writes the original of a de-identified file.
///
/// # Errors
/// [`Error::OtherImage`] when the de-identified file is not the one that the private part was made with,
/// [`Error::NotTheOriginal`], [`Error::Read`], [`Error::Write`]. What was written until then must not be used.
pub fn restore(deidentified: &mut impl Read, part: &PrivatePart, out: &mut impl Write) -> Result<(), Error> {
    let mut source = Source { input: deidentified, digest: Context::new(&SHA256) };
    let mut sink = Sink { out, digest: Context::new(&SHA256) };
    match &part.rest {
        Rest::Around { head, pixels, tail } => {
            source.discard(pixels.start)?;
            sink.write(head)?;
            source.copy(pixels.end.saturating_sub(pixels.start), |bytes| sink.write(bytes))?;
            sink.write(tail)?;
        }
        Rest::Whole(original) => {
            source.discard(part.deidentified_length)?;
            sink.write(original)?;
        }
    }
    if source.finish()? != part.digests.deidentified {
        return Err(Error::OtherImage);
    }
    sink.out.flush().map_err(Error::Write)?;
    if sha256(sink.digest) == part.digests.original { Ok(()) } else { Err(Error::NotTheOriginal) }
}

struct Source<'a, R> {
    input: &'a mut R,
    digest: Context,
}

impl<R: Read> Source<'_, R> {
    fn discard(&mut self, length: u64) -> Result<(), Error> {
        self.copy(length, |_| Ok(()))
    }

    /// Hands on exactly this many bytes.
    fn copy(&mut self, mut left: u64, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut buffer = vec![0; BUFFER];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let space = buffer.get_mut(..wanted).unwrap_or_default();
            let read = match self.input.read(space) {
                Ok(0) => return Err(Error::OtherImage),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(Error::Read)?,
            };
            let bytes = space.get(..read).unwrap_or_default();
            self.digest.update(bytes);
            each(bytes)?;
            left -= u64::try_from(read).unwrap_or(left);
        }
        Ok(())
    }

    /// The digest, when the input ends here.
    fn finish(self) -> Result<[u8; 32], Error> {
        let mut one = [0];
        match std::io::copy(&mut self.input.take(1), &mut one.as_mut_slice()).map_err(Error::Read)? {
            0 => Ok(sha256(self.digest)),
            _ => Err(Error::OtherImage),
        }
    }
}

struct Sink<'a, W> {
    out: &'a mut W,
    digest: Context,
}

impl<W: Write> Sink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.digest.update(bytes);
        self.out.write_all(bytes).map_err(Error::Write)
    }
}

const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests;
