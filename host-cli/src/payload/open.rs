//! Opens containers: what they are, whether they are the recorded ones, and then their content.

use std::{
    fs::File,
    io::{self, Read, SeekFrom, Write},
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use eds_core::{
    cipher::{
        InputKey, Opener, SequentialOpener,
        aws_lc::AwsLcCipher,
        geometry::{CHUNK, Geometry, SEALED_CHUNK, sealed_offset},
    },
    container::{Fingerprint, Header, MAX_OPENING, Opening, PREFIX},
};

use super::{
    Error, Options, ReadSeek, Source, Target,
    batch::{Batch, Positioned, SLOTS, write_all, write_all_at},
};

/// A container whose start has been read: which key it needs, and whether it is the recorded one.
pub struct Container<'a> {
    source: Source<'a>,
    opening: Opening,
    /// The layout, told by the length of the source; not of a pipe.
    geometry: Option<Geometry>,
}

/// A container whose key fits; of a seekable one, the end has been checked too.
pub struct Unlocked<'a> {
    source: Source<'a>,
    opener: Opener<AwsLcCipher>,
    geometry: Option<Geometry>,
    /// Where in the source the ciphertext starts.
    ciphertext: u64,
}

/// What opens the chunks of a container, without the source that they come from.
pub struct Released {
    pub(super) opener: Opener<AwsLcCipher>,
    pub(super) geometry: Geometry,
    /// Where in the source the ciphertext starts.
    pub(super) ciphertext: u64,
}

impl<'a> Container<'a> {
    /// Reads the start of a container, and of a seekable one the length.
    ///
    /// # Errors
    /// [`Error::NotAContainer`], [`Error::UnknownVersion`], [`Error::Truncated`], [`Error::Read`].
    pub fn read(mut source: Source<'a>) -> Result<Self, Error> {
        let (bytes, length) = match &mut source {
            Source::File(file) => {
                let length = file.metadata().map_err(Error::Read)?.len();
                (read_up_to(MAX_OPENING, |free, done| file.read_at(free, done))?, Some(length))
            }
            Source::Seekable(source) => {
                let length = source.seek(SeekFrom::End(0)).map_err(Error::Read)?;
                source.seek(SeekFrom::Start(0)).map_err(Error::Read)?;
                (read_up_to(MAX_OPENING, |free, _| source.read(free))?, Some(length))
            }
            Source::Stream(source) => {
                let mut bytes = read_up_to(PREFIX + 1, |free, _| source.read(free))?;
                let missing = Opening::len_of(&bytes).map_err(Error::of_header)?.saturating_sub(bytes.len());
                bytes.extend(read_up_to(missing, |free, _| source.read(free))?);
                (bytes, None)
            }
        };
        let opening = Opening::parse(&bytes).map_err(Error::of_header)?;
        let geometry = match length {
            None => None,
            Some(length) => {
                let ciphertext = length.saturating_sub(opening.ciphertext_offset() as u64);
                Some(Geometry::of_sealed(ciphertext).map_err(|_| Error::Truncated)?)
            }
        };
        Ok(Self { source, opening, geometry })
    }

    /// What the container says of itself: which key to fetch. Not authentic before [`Container::unlock`].
    pub const fn header(&self) -> &Header {
        self.opening.header()
    }

    /// What the catalog records of a container.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.opening.fingerprint()
    }

    /// Compares with what was recorded.
    ///
    /// # Errors
    /// [`Error::Exchanged`].
    pub fn expect(&self, recorded: &Fingerprint) -> Result<(), Error> {
        if self.fingerprint() == *recorded { Ok(()) } else { Err(Error::Exchanged) }
    }

    /// Checks the key against the header and the commitment and, of a seekable container, the last chunk.
    ///
    /// # Errors
    /// [`Error::WrongKey`], [`Error::Damaged`], [`Error::Truncated`], [`Error::Read`].
    pub fn unlock(self, key: &InputKey) -> Result<Unlocked<'a>, Error> {
        let opener = self.opening.opener(key).map_err(|_| Error::WrongKey)?;
        let ciphertext = self.opening.ciphertext_offset() as u64;
        let mut unlocked = Unlocked { source: self.source, opener, geometry: self.geometry, ciphertext };
        if let Some(geometry) = unlocked.geometry {
            let mut batch = Batch::with_slots(1);
            let last = geometry.last();
            unlocked.read_and_open(geometry, last..last + 1, &mut batch)?;
        }
        Ok(unlocked)
    }
}

impl Unlocked<'_> {
    /// What opens the chunks, apart from where they were read from.
    ///
    /// # Errors
    /// [`Error::NotSeekable`] of a pipe.
    pub fn release(self) -> Result<Released, Error> {
        let geometry = self.geometry.ok_or(Error::NotSeekable)?;
        Ok(Released { opener: self.opener, geometry, ciphertext: self.ciphertext })
    }

    /// Bytes of plaintext, authentic; not known of a pipe.
    pub fn plain_len(&self) -> Option<u64> {
        self.geometry.map(Geometry::plain_len)
    }

    /// Decrypts everything and returns the length. Each chunk is checked before it is written; an error means that what was
    /// written is not the whole content.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Truncated`], [`Error::Read`], [`Error::Write`], [`Error::NotEmpty`].
    pub fn copy_to(mut self, target: Target<'_>, options: &Options) -> Result<u64, Error> {
        if let Target::File(file) = target {
            let metadata = file.metadata().map_err(Error::Write)?;
            if !metadata.is_file() || metadata.len() != 0 {
                return Err(Error::NotEmpty);
            }
        }
        let mut sink = match target {
            Target::File(file) => Sink::File { file, offset: 0 },
            Target::Stream(output) => Sink::Stream(output),
        };
        match (self.geometry, &self.source, &sink) {
            (Some(geometry), Source::File(_), Sink::File { file, .. }) => {
                self.file_to_file(geometry, file, options)?;
                Ok(geometry.plain_len())
            }
            (Some(geometry), _, _) => {
                let mut batch = Batch::with_slots(SLOTS);
                for chunks in batches(geometry) {
                    let length = self.read_and_open(geometry, chunks, &mut batch)?;
                    sink.put(batch.plain(length))?;
                }
                sink.flush()?;
                Ok(geometry.plain_len())
            }
            (None, _, _) => self.copy_pipe(&mut sink),
        }
    }

    /// Decrypts `length` bytes from `offset` on; only the chunks that hold them are read.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::NotSeekable`], [`Error::Damaged`], [`Error::Truncated`], [`Error::Read`],
    /// [`Error::Write`].
    pub fn copy_range(&mut self, offset: u64, length: u64, output: &mut dyn Write) -> Result<(), Error> {
        let geometry = self.geometry.ok_or(Error::NotSeekable)?;
        let end = offset.saturating_add(length);
        let chunks = geometry.chunks_of(offset..end).map_err(|_| Error::OutOfRange {
            offset,
            end,
            length: geometry.plain_len(),
        })?;
        let mut batch = Batch::with_slots(usize::try_from(chunks.end - chunks.start).unwrap_or(SLOTS));
        let (mut skip, mut rest) = (offset % CHUNK as u64, length);
        for chunks in in_batches(chunks) {
            let sealed = self.read_and_open(geometry, chunks, &mut batch)?;
            let wanted = batch.plain(sealed).map(|plain| {
                // What does not fit a usize is beyond the end of the chunk anyway.
                let from = usize::try_from(skip).unwrap_or(CHUNK).min(plain.len());
                let to = usize::try_from(rest).unwrap_or(CHUNK).saturating_add(from).min(plain.len());
                skip = 0;
                rest -= (to - from) as u64;
                plain.get(from..to).unwrap_or(&[])
            });
            write_all(output, wanted).map_err(Error::Write)?;
        }
        output.flush().map_err(Error::Write)
    }

    /// Reads these chunks, at most a batch, and opens them where they are; returns the length of their ciphertext.
    fn read_and_open(&mut self, geometry: Geometry, chunks: Range<u64>, batch: &mut Batch) -> Result<usize, Error> {
        let (offset, length) = place(geometry, &chunks)?;
        let bytes = batch.bytes_mut(length);
        match &mut self.source {
            Source::File(file) => file.read_exact_at(bytes, self.ciphertext + offset),
            Source::Seekable(source) => read_exact_at(&mut **source, bytes, self.ciphertext + offset),
            Source::Stream(_) => return Err(Error::NotSeekable),
        }
        .map_err(of_reading)?;
        open_each(&self.opener, chunks.start, bytes)?;
        Ok(length)
    }

    fn file_to_file(&self, geometry: Geometry, output: &File, options: &Options) -> Result<(), Error> {
        let Source::File(input) = self.source else { return Err(Error::NotSeekable) };
        let (opener, ciphertext) = (&self.opener, self.ciphertext);
        let output = Positioned::new(output);
        let next = AtomicU64::new(0);
        let failed = AtomicBool::new(false);
        let batch_count = geometry.chunks().div_ceil(SLOTS as u64);
        let one = |number: u64, batch: &mut Batch| {
            let first = number * SLOTS as u64;
            let chunks = first..geometry.chunks().min(first + SLOTS as u64);
            let (offset, length) = place(geometry, &chunks)?;
            let bytes = batch.bytes_mut(length);
            input.read_exact_at(bytes, ciphertext + offset).map_err(of_reading)?;
            open_each(opener, first, bytes)?;
            output.write_all_at(batch.plain(length), first * CHUNK as u64).map_err(Error::Write)
        };
        let worker = || {
            let mut batch = Batch::with_slots(usize::try_from(geometry.chunks()).unwrap_or(SLOTS));
            while !failed.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= batch_count {
                    break;
                }
                one(number, &mut batch).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..options.threads_for(batch_count)).map(|_| scope.spawn(worker)).collect();
            let mut result = worker();
            for other in others {
                let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(other);
            }
            result
        })
    }

    /// Releases chunks as they come and verify.
    fn copy_pipe(self, sink: &mut Sink<'_>) -> Result<u64, Error> {
        let Source::Stream(input) = self.source else { return Err(Error::NotSeekable) };
        let mut opener = SequentialOpener::from(self.opener);
        let mut batch = Batch::with_slots(SLOTS);
        let room = batch.slots() * SEALED_CHUNK;
        let (mut filled, mut index) = (0, 0u64);
        loop {
            let free = batch.bytes_mut(room).split_at_mut(filled).1;
            let read = match input.read(free) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Read(error)),
            };
            filled += read;
            // Whole chunks as long as there is more to come; at the end what is left is the last chunk.
            let ready = if read == 0 { filled } else { filled - filled % SEALED_CHUNK };
            let mut opened = 0;
            let mut result = Ok(());
            for chunk in batch.chunks_mut(ready) {
                if let Err(error) = opener.open_next(chunk) {
                    result = Err(of_chunk(index, error));
                    break;
                }
                opened += 1;
                index += 1;
            }
            sink.put(batch.plain(ready).take(opened))?;
            result?;
            if read == 0 {
                break;
            }
            batch.bytes_mut(filled).copy_within(ready.., 0);
            filled -= ready;
        }
        let geometry = opener.finish().map_err(|_| Error::Truncated)?;
        sink.flush()?;
        Ok(geometry.plain_len())
    }
}

/// Where plaintext goes, in order.
enum Sink<'a> {
    File { file: &'a File, offset: u64 },
    Stream(&'a mut dyn Write),
}

impl Sink<'_> {
    fn put<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> Result<(), Error> {
        match self {
            Self::File { file, offset } => {
                let mut length = 0;
                let counted = slices.inspect(|slice| length += slice.len() as u64);
                write_all_at(file, counted, *offset).map_err(Error::Write)?;
                *offset += length;
                Ok(())
            }
            Self::Stream(output) => write_all(*output, slices).map_err(Error::Write),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        match self {
            Self::File { .. } => Ok(()),
            Self::Stream(output) => output.flush().map_err(Error::Write),
        }
    }
}

/// Offset in the ciphertext and length of these chunks.
pub(super) fn place(geometry: Geometry, chunks: &Range<u64>) -> Result<(u64, usize), Error> {
    let last = geometry.sealed_range(chunks.end.saturating_sub(1)).map_err(|_| Error::Truncated)?;
    let start = sealed_offset(chunks.start);
    Ok((start, usize::try_from(last.end.saturating_sub(start)).unwrap_or(usize::MAX)))
}

/// Opens the chunks in `bytes`, the first of which is chunk `first`.
pub(super) fn open_each(opener: &Opener<AwsLcCipher>, first: u64, bytes: &mut [u8]) -> Result<(), Error> {
    for (index, chunk) in (first..).zip(bytes.chunks_mut(SEALED_CHUNK)) {
        opener.open(index, chunk).map_err(|error| of_chunk(index, error))?;
    }
    Ok(())
}

fn of_chunk(index: u64, error: eds_core::Error) -> Error {
    match error {
        eds_core::Error::Rejected => {
            let start = index.saturating_mul(CHUNK as u64);
            Error::Damaged { start, end: start.saturating_add(CHUNK as u64 - 1) }
        }
        // A piece that is no chunk, or one after the last.
        _ => Error::Truncated,
    }
}

pub(super) fn of_reading(error: io::Error) -> Error {
    // The file was longer a moment ago.
    if error.kind() == io::ErrorKind::UnexpectedEof { Error::Truncated } else { Error::Read(error) }
}

fn batches(geometry: Geometry) -> impl Iterator<Item = Range<u64>> {
    in_batches(0..geometry.chunks())
}

/// These chunks, a batch at a time.
pub(super) fn in_batches(chunks: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = chunks.end;
    chunks.step_by(SLOTS).map(move |first| first..end.min(first.saturating_add(SLOTS as u64)))
}

/// Reads at a position of what has one position only.
pub(super) fn read_exact_at(source: &mut dyn ReadSeek, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    source.seek(SeekFrom::Start(offset))?;
    source.read_exact(bytes)
}

/// Reads `length` bytes, fewer only at the end of the source. `read` gets what is free and how much there is already.
fn read_up_to(length: usize, mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while let Some(free) = bytes.get_mut(done..)
        && !free.is_empty()
    {
        match read(free, done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}
