//! What the reader gives is the plaintext, wherever and however it is read; it touches no other chunks, and names damage.

use std::{
    io::{self, Cursor, Read, Seek},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use proptest::prelude::*;

use super::*;
use crate::payload::{
    Container, Source, Unlocked,
    tests::{file_of, key, message, sealed},
};

fn reader_of_file(container: &[u8]) -> Result<PlainReader, Error> {
    let file = file_of(container);
    let released = Container::read(Source::File(&file))?.unlock(&key())?.release()?;
    Ok(PlainReader::new(released, Origin::File(file)))
}

/// Counts what is read of it.
struct Counted(Cursor<Vec<u8>>, Arc<AtomicU64>);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Seek for Counted {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

/// A reader of what is no file, and how many bytes were read of it.
fn reader_counted(container: &[u8]) -> (PlainReader, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    let mut source = Counted(Cursor::new(container.to_vec()), Arc::clone(&read));
    let unlocked = Container::read(Source::Seekable(&mut source)).and_then(|container| container.unlock(&key()));
    let released = unlocked.and_then(Unlocked::release).expect("unlocks");
    let reader = PlainReader::new(released, Origin::Other(Mutex::new(Box::new(source))));
    read.store(0, Ordering::Relaxed);
    (reader, read)
}

#[test]
fn reads_from_front_to_back_in_pieces_of_any_size() {
    let plain = message(3 * 1024 * 1024 + 777);
    let container = sealed(&plain);
    for piece in [1000, 4096, CHUNK, CHUNK + 1, 128 * 1024, 1024 * 1024, 4 * 1024 * 1024] {
        let reader = reader_of_file(&container).expect("opens");
        let mut all = Vec::new();
        let mut buffer = vec![0xee; piece];
        loop {
            let read = reader.read_at(&mut buffer, all.len() as u64).expect("reads");
            if read == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..read]);
        }
        assert!(all == plain, "pieces of {piece} bytes");
        assert!(lock(&reader.run).ahead.is_none(), "the threads end with the file");
    }
}

#[test]
fn going_back_in_the_middle_of_a_run_ends_it() {
    let plain = message(4 * 1024 * 1024);
    let reader = reader_of_file(&sealed(&plain)).expect("opens");
    let mut buffer = vec![0; 200_000];
    for round in 0..3u64 {
        for step in 0..10u64 {
            let offset = round * 7 + step * 200_000;
            assert_eq!(reader.read_at(&mut buffer, offset).expect("reads"), buffer.len());
            let start = usize::try_from(offset).expect("small");
            assert!(buffer == plain[start..start + buffer.len()], "round {round}, step {step}");
        }
        assert!(lock(&reader.run).ahead.is_some(), "such reads are worth decrypting ahead");
    }
}

#[test]
fn a_small_read_touches_one_chunk_and_the_next_one_there_none() {
    let plain = message(100 * CHUNK);
    let (reader, read) = reader_counted(&sealed(&plain));
    let mut buffer = [0; 100];
    let offset = 50 * CHUNK + 17;
    reader.read_at(&mut buffer, offset as u64).expect("reads");
    assert_eq!(buffer, plain[offset..offset + 100]);
    assert_eq!(read.load(Ordering::Relaxed), CHUNK as u64 + 16);
    reader.read_at(&mut buffer, offset as u64 + 1000).expect("reads");
    assert_eq!(read.load(Ordering::Relaxed), CHUNK as u64 + 16, "it was kept");
    let mut larger = vec![0; 5 * CHUNK];
    reader.read_at(&mut larger, 20 * CHUNK as u64 + 1).expect("reads");
    assert!(larger == plain[20 * CHUNK + 1..25 * CHUNK + 1]);
    assert_eq!(read.load(Ordering::Relaxed), 7 * (CHUNK as u64 + 16), "six chunks hold it");
}

#[test]
fn few_chunks_are_kept() {
    let (reader, read) = reader_counted(&sealed(&message(3 * MAX_KEPT * CHUNK)));
    let mut buffer = [0; 10];
    for chunk in 0..2 * MAX_KEPT {
        reader.read_at(&mut buffer, (chunk * CHUNK) as u64 + 5).expect("reads");
    }
    assert_eq!(lock(&reader.kept).0.len(), MAX_KEPT);
    let before = read.load(Ordering::Relaxed);
    reader.read_at(&mut buffer, (2 * MAX_KEPT - 1) as u64 * CHUNK as u64 + 9).expect("reads");
    assert_eq!(read.load(Ordering::Relaxed), before, "the newest was kept");
    reader.read_at(&mut buffer, 9).expect("reads");
    assert!(read.load(Ordering::Relaxed) > before, "the oldest was not");
}

#[test]
fn many_threads_read_what_they_ask_for() {
    let plain = message(2 * 1024 * 1024 + 5);
    let reader = reader_of_file(&sealed(&plain)).expect("opens");
    thread::scope(|scope| {
        for number in 0..8usize {
            let (reader, plain) = (&reader, &plain);
            scope.spawn(move || {
                let mut buffer = vec![0; 3000 + number * 9000];
                for step in 0..60 {
                    let offset = (number * 77_777 + step * 33_333) % plain.len();
                    let read = reader.read_at(&mut buffer, offset as u64).expect("reads");
                    assert!(buffer[..read] == plain[offset..offset + read]);
                    assert_eq!(read, buffer.len().min(plain.len() - offset));
                }
            });
        }
    });
}

#[test]
fn damage_is_named_where_it_is_and_what_is_sound_can_still_be_read() {
    let plain = message(2 * 1024 * 1024);
    let mut container = sealed(&plain);
    let opening = container.len() as u64 - Geometry::of_plain(plain.len() as u64).expect("short").sealed_len();
    let damaged = 60;
    container[usize::try_from(opening).expect("small") + 56 + damaged * (CHUNK + 16) + 100] ^= 1;
    let reader = reader_of_file(&container).expect("the end is sound");
    let at = |result: Result<usize, Error>| match result {
        Err(Error::Damaged { start, .. }) => Some(start),
        _ => None,
    };
    let mut buffer = vec![0; 1000];
    let bad = (damaged * CHUNK) as u64;
    assert_eq!(at(reader.read_at(&mut buffer, bad + 10)), Some(bad));
    assert_eq!(reader.read_at(&mut buffer, bad + CHUNK as u64).expect("the next chunk is sound"), 1000);
    // From front to back, decrypting ahead: what comes before the damage comes out, and then the error.
    let mut piece = vec![0; 100_000];
    let mut offset = 0;
    let error = loop {
        match reader.read_at(&mut piece, offset) {
            Ok(read) => offset += read as u64,
            error => break error,
        }
    };
    assert_eq!(at(error), Some(bad));
    assert_eq!(offset, bad / 100_000 * 100_000, "all whole reads before it were served");
    assert_eq!(reader.read_at(&mut piece, 0).expect("it can be read on"), piece.len());
    assert!(piece == plain[..100_000]);
}

#[test]
fn damage_in_either_half_of_a_large_read_is_named() {
    let plain = message(128 * CHUNK);
    let container = sealed(&plain);
    let opening = container.len() as u64 - Geometry::of_plain(plain.len() as u64).expect("short").sealed_len();
    for bad in [5, 100] {
        let mut damaged = container.clone();
        damaged[usize::try_from(opening).expect("small") + 56 + bad * (CHUNK + 16)] ^= 1;
        let reader = reader_of_file(&damaged).expect("the end is sound");
        let result = reader.read_at(&mut vec![0; 128 * CHUNK], 0);
        assert!(matches!(result, Err(Error::Damaged { start, .. }) if start == (bad * CHUNK) as u64), "{result:?}");
    }
    let reader = reader_of_file(&container).expect("opens");
    for (offset, length) in [(0, 128 * CHUNK), (1, 100 * CHUNK), (CHUNK, 64 * CHUNK + 5), (7, 33 * CHUNK)] {
        let mut buffer = vec![0; length];
        let read = reader.read_at(&mut buffer, offset as u64).expect("reads");
        assert!(buffer[..read] == plain[offset..plain.len().min(offset + length)], "{length} bytes from {offset}");
    }
}

#[test]
fn a_container_that_was_cut_meanwhile_is_an_error() {
    let container = sealed(&message(20 * CHUNK));
    let file = file_of(&container);
    let unlocked = Container::read(Source::File(&file)).and_then(|container| container.unlock(&key()));
    let released = unlocked.and_then(Unlocked::release).expect("unlocks");
    let reader = PlainReader::new(released, Origin::File(file.try_clone().expect("another descriptor")));
    file.set_len(container.len() as u64 / 2).expect("cuts");
    let result = reader.read_at(&mut [0; 100], 19 * CHUNK as u64);
    assert!(matches!(result, Err(Error::Truncated)), "{result:?}");
}

#[test]
fn nothing_comes_from_beyond_the_end() {
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1] {
        let reader = reader_of_file(&sealed(&message(length))).expect("opens");
        assert_eq!(reader.plain_len(), length as u64);
        for beyond in [0, 1, 1 << 40, u64::MAX - length as u64] {
            assert_eq!(reader.read_at(&mut [0; 10], length as u64 + beyond).expect("reads"), 0);
        }
    }
}

proptest! {
    #[test]
    fn any_read_gives_what_is_there(
        length in 0usize..200_000,
        reads in prop::collection::vec((0usize..210_000, 0usize..100_000), 1..8),
    ) {
        let plain = message(length);
        let reader = reader_of_file(&sealed(&plain)).expect("opens");
        for (offset, wanted) in reads {
            let mut buffer = vec![0; wanted];
            let read = reader.read_at(&mut buffer, offset as u64).expect("reads");
            let expected = plain.get(offset..).unwrap_or_default();
            let expected = &expected[..expected.len().min(wanted)];
            prop_assert!(buffer[..read] == *expected);
        }
    }
}
