//! Encrypts a reader into a container.
//!
//! The input is read in order by one thread at a time, which takes the tickets of the chunks it read and lets go of the
//! reader; encrypting and writing then run beside the others' reading. Only the end of the input makes the last chunk.

use std::{
    fs::File,
    io::{Read, Write},
    iter,
    os::unix::fs::FileExt as _,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use eds_core::{
    cipher::{
        ChunkSealer, FinalTicket, InputKey, SALT, Start, TAG, Ticket, Tickets,
        aws_lc::AwsLcCipher,
        geometry::{self, CHUNK, Geometry, SEALED_CHUNK},
    },
    container::{Fingerprint, Header, Written},
};

use super::{
    Error, Options, Target,
    batch::{Batch, Positioned, SLOTS},
};

/// Encrypts all of `input` into a container with this header.
///
/// # Errors
/// [`Error::Read`], [`Error::Write`], [`Error::NotEmpty`], [`Error::TooLong`], [`Error::Random`], [`Error::Engine`]. The
/// output is then to be thrown away.
pub fn seal(
    input: &mut (impl Read + Send + ?Sized),
    target: Target<'_>,
    key: &InputKey,
    header: &Header,
    options: &Options,
) -> Result<Written, Error> {
    let preamble = header.encode().map_err(Error::of_sealing)?;
    // The salt is drawn here, where a failing random source is an error and not a panic, and used this once.
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(Error::Random)?;
    let (sealer, tickets) = ChunkSealer::<AwsLcCipher>::danger_begin_with_salt(key, &preamble.context(), salt)
        .map_err(Error::of_sealing)?;
    let start = *sealer.start();
    let mut opening = preamble.as_bytes().to_vec();
    opening.extend_from_slice(&start.to_bytes());

    let input = Input { reader: input, tickets: Some(tickets), length: 0 };
    let length = match target {
        Target::File(file) => into_file(input, file, &opening, &sealer, options)?,
        Target::Stream(output) => into_stream(input, output, &opening, &sealer)?,
    };
    let geometry = Geometry::of_plain(length).map_err(Error::of_sealing)?;
    Ok(Written {
        fingerprint: Fingerprint { file: header.file, start },
        plain_len: length,
        container_len: (opening.len() - Start::LEN) as u64 + geometry.sealed_len(),
    })
}

fn into_stream<R: Read + ?Sized>(
    mut input: Input<'_, R>,
    output: &mut dyn Write,
    opening: &[u8],
    sealer: &ChunkSealer<AwsLcCipher>,
) -> Result<u64, Error> {
    output.write_all(opening).map_err(Error::Write)?;
    let mut batch = Batch::with_slots(SLOTS);
    while let Some(work) = input.next(&mut batch)? {
        let length = work.seal(sealer, &mut batch)?;
        output.write_all(batch.bytes(length)).map_err(Error::Write)?;
    }
    output.flush().map_err(Error::Write)?;
    Ok(input.length)
}

fn into_file<R: Read + Send + ?Sized>(
    mut input: Input<'_, R>,
    file: &File,
    opening: &[u8],
    sealer: &ChunkSealer<AwsLcCipher>,
    options: &Options,
) -> Result<u64, Error> {
    let metadata = file.metadata().map_err(Error::Write)?;
    if !metadata.is_file() || metadata.len() != 0 {
        return Err(Error::NotEmpty);
    }
    file.write_all_at(opening, 0).map_err(Error::Write)?;
    let ciphertext = (opening.len() - Start::LEN) as u64;
    let output = Positioned::new(file);
    let put = |work: Work, batch: &mut Batch| {
        let offset = ciphertext + geometry::sealed_offset(work.first);
        let length = work.seal(sealer, batch)?;
        output.write_all_at(iter::once(batch.bytes(length)), offset).map_err(Error::Write)
    };

    // A small input is done before a thread would have started.
    let mut batch = Batch::with_slots(SLOTS);
    if let Some(work) = input.next(&mut batch)? {
        put(work, &mut batch)?;
    }
    if input.tickets.is_none() {
        return Ok(input.length);
    }
    let input = Mutex::new(input);
    let worker = |batch: &mut Batch| {
        let result = (|| {
            loop {
                let Some(work) = lock(&input).next(batch)? else { return Ok(()) };
                put(work, batch)?;
            }
        })();
        if result.is_err() {
            // Whoever fails stops the others: without tickets there is no more input.
            lock(&input).tickets = None;
        }
        result
    };
    thread::scope(|scope| {
        let others: Vec<_> =
            (1..options.threads_for(u64::MAX)).map(|_| scope.spawn(|| worker(&mut Batch::with_slots(SLOTS)))).collect();
        let mut result = worker(&mut batch);
        for other in others {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(other);
        }
        result
    })?;
    Ok(lock(&input).length)
}

/// The plaintext on its way in.
struct Input<'a, R: ?Sized> {
    reader: &'a mut R,
    /// The numbers of the chunks to come; none when the last one is taken, or after a failure.
    tickets: Option<Tickets>,
    /// Bytes read so far.
    length: u64,
}

impl<R: Read + ?Sized> Input<'_, R> {
    /// Reads the next batch of chunks; none after the last one.
    fn next(&mut self, batch: &mut Batch) -> Result<Option<Work>, Error> {
        let Some(tickets) = &mut self.tickets else { return Ok(None) };
        let read = batch.fill(self.reader).map_err(Error::Read)?;
        let mut full = Vec::with_capacity(batch.slots());
        for _ in 0..read / CHUNK {
            full.push(tickets.take().map_err(Error::of_sealing)?);
        }
        let first = self.length / CHUNK as u64;
        self.length += read as u64;
        let ended = read < batch.slots() * CHUNK;
        let last = match self.tickets.take_if(|_| ended) {
            Some(tickets) => Some((tickets.finish().map_err(Error::of_sealing)?, read % CHUNK)),
            None => None,
        };
        Ok(Some(Work { first, full, last }))
    }
}

/// The chunks of one batch, to be sealed once.
struct Work {
    first: u64,
    full: Vec<Ticket>,
    last: Option<(FinalTicket, usize)>,
}

impl Work {
    /// Seals the chunks where they are and returns the length of the ciphertext.
    fn seal(self, sealer: &ChunkSealer<AwsLcCipher>, batch: &mut Batch) -> Result<usize, Error> {
        let full = self.full.len() * SEALED_CHUNK;
        for (ticket, slot) in self.full.into_iter().zip(batch.chunks_mut(full)) {
            put_tag(slot, CHUNK, |data| sealer.seal(ticket, data))?;
        }
        let Some((ticket, length)) = self.last else { return Ok(full) };
        let end = full + length + TAG;
        let slot = batch.bytes_mut(end).split_at_mut(full).1;
        put_tag(slot, length, |data| sealer.seal_final(ticket, data))?;
        Ok(end)
    }
}

fn put_tag(
    slot: &mut [u8],
    length: usize,
    seal: impl FnOnce(&mut [u8]) -> Result<[u8; TAG], eds_core::Error>,
) -> Result<(), Error> {
    let (data, tag) = slot.split_at_mut(length);
    tag.copy_from_slice(&seal(data).map_err(Error::of_sealing)?);
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
