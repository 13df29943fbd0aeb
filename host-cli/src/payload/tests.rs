//! The data path over every kind of source and target: what comes back, what is refused, and what is never released.

use std::{
    cell::RefCell,
    io::{self, Cursor},
    rc::Rc,
};

use eds_core::{
    cipher::{InputKey, geometry::CHUNK, geometry::SEALED_CHUNK},
    ids::{Epoch, FileId, KeyId},
};
use proptest::prelude::*;

use super::{batch::SLOTS, *};
use crate::error::Kind;

const BATCH: usize = SLOTS * CHUNK;
const SIZES: [usize; 12] = [
    0,
    1,
    CHUNK - 1,
    CHUNK,
    CHUNK + 1,
    2 * CHUNK,
    BATCH - 1,
    BATCH,
    BATCH + 1,
    2 * BATCH,
    5 * BATCH + 7,
    9 * BATCH - CHUNK,
];

pub(crate) fn key() -> InputKey {
    InputKey::from_bytes([0x42; 32])
}

pub(crate) fn header() -> Header {
    Header { file: FileId::from_bytes([1; 16]), key: KeyId::from_bytes([2; 16]), epoch: Epoch::new(0), anchor: [3; 32] }
}

pub(super) fn message(length: usize) -> Vec<u8> {
    (0..length).map(|position| (position * 31 + position / 256) as u8).collect()
}

fn options(threads: usize) -> Options {
    Options { threads: NonZero::new(threads) }
}

pub(super) fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    seal(&mut &plain[..], Target::Stream(&mut out), &key(), &header(), &Options::default()).expect("seals");
    out
}

pub(super) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("writes");
    file
}

fn contents(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().expect("rewinds");
    file.read_to_end(&mut bytes).expect("reads");
    bytes
}

/// Opens from a slice that can be read at positions: nothing is put out before the end was seen.
fn open_seekable(container: &[u8]) -> (Vec<u8>, Result<u64, Error>) {
    let (mut source, mut out) = (Cursor::new(container), Vec::new());
    let result = Container::read(Source::Seekable(&mut source))
        .and_then(|container| container.unlock(&key()))
        .and_then(|unlocked| unlocked.copy_to(Target::Stream(&mut out), &Options::default()));
    (out, result)
}

/// Opens from a file into a file, in several threads.
fn open_file(container: &[u8]) -> (Vec<u8>, Result<u64, Error>) {
    let (source, out) = (file_of(container), file_of(b""));
    let result = Container::read(Source::File(&source))
        .and_then(|container| container.unlock(&key()))
        .and_then(|unlocked| unlocked.copy_to(Target::File(&out), &options(3)));
    (contents(&out), result)
}

/// Opens from a pipe.
fn open_pipe(container: &[u8]) -> (Vec<u8>, Result<u64, Error>) {
    let (mut source, mut out) = (container, Vec::new());
    let result = Container::read(Source::Stream(&mut source))
        .and_then(|container| container.unlock(&key()))
        .and_then(|unlocked| unlocked.copy_to(Target::Stream(&mut out), &Options::default()));
    (out, result)
}

#[test]
fn every_size_comes_back_over_every_way() {
    for size in SIZES {
        let plain = message(size);
        let input = file_of(&plain);
        for threads in [1, 2, 5] {
            let output = file_of(b"");
            let mut reader = &input;
            reader.rewind().expect("rewinds");
            let written =
                seal(&mut reader, Target::File(&output), &key(), &header(), &options(threads)).expect("seals");
            let container = contents(&output);
            assert_eq!(written.plain_len, size as u64);
            assert_eq!(written.container_len, container.len() as u64);

            let mut source = Cursor::new(&container);
            let read = Container::read(Source::Seekable(&mut source)).expect("a container");
            assert_eq!(read.header(), &header());
            assert_eq!(read.fingerprint(), written.fingerprint);
            assert_eq!(read.unlock(&key()).expect("unlocks").plain_len(), Some(size as u64));
            for (out, result) in [open_seekable(&container), open_file(&container), open_pipe(&container)] {
                assert!(result.is_ok_and(|length| length == size as u64), "{size} bytes, {threads} threads");
                assert!(out == plain, "{size} bytes, {threads} threads");
            }
        }
        let (out, result) = open_file(&sealed(&plain));
        assert!(result.is_ok() && out == plain, "{size} bytes through a pipe");
    }
}

#[test]
fn a_stream_into_a_file_and_a_file_into_a_stream_come_back_too() {
    let plain = message(2 * BATCH + 5);
    let container = sealed(&plain);
    let (mut stream, out) = (&container[..], file_of(b""));
    let unlocked = Container::read(Source::Stream(&mut stream)).and_then(|c| c.unlock(&key())).expect("unlocks");
    assert_eq!(unlocked.plain_len(), None);
    assert_eq!(unlocked.copy_to(Target::File(&out), &options(2)).expect("opens"), plain.len() as u64);
    assert!(contents(&out) == plain);

    let (mut file, mut out) = (file_of(&container), Vec::new());
    let source = Source::of_file(&mut file).expect("a file");
    assert!(matches!(source, Source::File(_)));
    let unlocked = Container::read(source).and_then(|c| c.unlock(&key())).expect("unlocks");
    unlocked.copy_to(Target::Stream(&mut out), &options(2)).expect("opens");
    assert!(out == plain);
}

#[test]
fn truncation_anywhere_releases_nothing_of_a_file_and_whole_chunks_of_a_pipe() {
    for size in [0, 5, CHUNK, CHUNK + 5, 2 * CHUNK, BATCH, BATCH + 5] {
        let plain = message(size);
        let container = sealed(&plain);
        let start = container.len() - (size + (size / CHUNK + 1) * 16);
        let boundaries = (0..=size / CHUNK + 1).map(|chunk| (start + chunk * SEALED_CHUNK).min(container.len()));
        for boundary in boundaries.chain([0, 8, 10, start]) {
            for cut in boundary.saturating_sub(17)..(boundary + 18).min(container.len()) {
                for (out, result) in [open_seekable(&container[..cut]), open_file(&container[..cut])] {
                    let error = result.expect_err("truncated");
                    assert_eq!(error.kind(), Kind::Damaged, "{size} bytes cut at {cut}: {error}");
                    assert!(out.is_empty(), "{size} bytes cut at {cut}: {} were released", out.len());
                }
                let (out, result) = open_pipe(&container[..cut]);
                assert_eq!(result.expect_err("truncated").kind(), Kind::Damaged, "{size} bytes cut at {cut}");
                assert!(plain.starts_with(&out) && out.len() % CHUNK == 0, "{size} bytes cut at {cut}");
            }
        }
    }
}

#[test]
fn appended_bytes_release_nothing_of_a_file() {
    for size in [0, 5, CHUNK, BATCH + 5] {
        let container = sealed(&message(size));
        for extra in [1, 15, 16, 17, SEALED_CHUNK, SEALED_CHUNK + 16] {
            let longer = [&container[..], &vec![0; extra]].concat();
            for (out, result) in [open_seekable(&longer), open_file(&longer)] {
                assert_eq!(result.expect_err("too long").kind(), Kind::Damaged);
                assert!(out.is_empty(), "{size} bytes and {extra} more: {} were released", out.len());
            }
            assert!(open_pipe(&longer).1.is_err(), "{size} bytes and {extra} more");
        }
    }
}

#[test]
fn swapped_and_damaged_chunks_are_named_and_never_released() {
    let plain = message(4 * BATCH + 5);
    let container = sealed(&plain);
    let start = container.len() - (plain.len() + (4 * SLOTS + 1) * 16);
    let mut swapped = container.clone();
    let (left, right) = swapped.split_at_mut(start + 50 * SEALED_CHUNK);
    left[start + 40 * SEALED_CHUNK..][..SEALED_CHUNK].swap_with_slice(&mut right[..SEALED_CHUNK]);
    let mut flipped = container.clone();
    flipped[start + 40 * SEALED_CHUNK + 7] ^= 1;
    for damaged in [swapped, flipped] {
        for (out, result) in [open_seekable(&damaged), open_pipe(&damaged)] {
            let error = result.expect_err("damaged");
            let at = (40 * CHUNK) as u64;
            assert!(matches!(error, Error::Damaged { start, .. } if start == at), "{error}");
            assert!(plain[..40 * CHUNK].starts_with(&out));
        }
        let (out, result) = open_file(&damaged);
        assert!(matches!(result, Err(Error::Damaged { .. })));
        let at = 40 * CHUNK..41 * CHUNK;
        assert!(out.get(at).is_none_or(|hole| hole.iter().all(|byte| *byte == 0)), "a damaged chunk was released");
    }
}

#[test]
fn a_wrong_key_a_changed_header_and_another_container_are_refused_before_output() {
    let container = sealed(b"secret");
    let read = |bytes: &[u8]| open_seekable(bytes).1;
    let mut source = Cursor::new(&container);
    let opened = Container::read(Source::Seekable(&mut source)).expect("a container");
    let mut other = opened.fingerprint();
    assert!(opened.expect(&other).is_ok());
    other.start.salt[0] ^= 1;
    assert!(matches!(opened.expect(&other), Err(Error::Exchanged)));
    let wrong = opened.unlock(&InputKey::from_bytes([0x43; 32]));
    assert!(matches!(wrong.err(), Some(Error::WrongKey)));

    let mut changed = container.clone();
    changed[12] ^= 1;
    assert!(matches!(read(&changed), Err(Error::WrongKey)));
    let mut later = container.clone();
    later[10] = 2;
    assert!(matches!(read(&later), Err(Error::UnknownVersion(2))));
    assert!(matches!(read(b"just a text file"), Err(Error::NotAContainer(_))));
    assert!(matches!(read(b""), Err(Error::NotAContainer(_))));
}

#[test]
fn an_output_file_must_be_empty() {
    let mut plain = &b"plain"[..];
    let result = seal(&mut plain, Target::File(&file_of(b"old")), &key(), &header(), &options(1));
    assert!(matches!(result, Err(Error::NotEmpty)));
    let container = sealed(b"x");
    let mut source = Cursor::new(&container);
    let unlocked = Container::read(Source::Seekable(&mut source)).and_then(|c| c.unlock(&key())).expect("unlocks");
    assert!(matches!(unlocked.copy_to(Target::File(&file_of(b"old")), &options(1)), Err(Error::NotEmpty)));
}

/// A reader that gives at most so many bytes at a time, is interrupted, and fails after `fails_after` bytes.
struct Trickle<'a> {
    rest: &'a [u8],
    piece: usize,
    fails_after: usize,
    interrupt: bool,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupt = !self.interrupt;
        if self.interrupt {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.fails_after == 0 {
            return Err(io::Error::other("the disk is gone"));
        }
        let length = self.piece.min(buffer.len()).min(self.rest.len()).min(self.fails_after);
        let (now, later) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.rest = later;
        self.fails_after -= length;
        Ok(length)
    }
}

#[test]
fn inputs_that_trickle_come_back() {
    let plain = message(2 * BATCH + 77);
    for piece in [1009, CHUNK, BATCH + 1] {
        let mut input = Trickle { rest: &plain, piece, fails_after: usize::MAX, interrupt: false };
        let output = file_of(b"");
        seal(&mut input, Target::File(&output), &key(), &header(), &options(2)).expect("seals");
        let container = contents(&output);
        let (mut out, mut source) =
            (Vec::new(), Trickle { rest: &container, piece, fails_after: usize::MAX, interrupt: false });
        let unlocked = Container::read(Source::Stream(&mut source)).and_then(|c| c.unlock(&key())).expect("unlocks");
        unlocked.copy_to(Target::Stream(&mut out), &options(1)).expect("opens");
        assert!(out == plain, "by {piece}");
    }
}

#[test]
fn an_input_that_fails_is_never_taken_for_its_end() {
    let plain = message(4 * BATCH);
    for fails_after in [0, 10, CHUNK, BATCH, 3 * BATCH + 1] {
        for threads in [1, 3] {
            let mut input = Trickle { rest: &plain, piece: 10_000, fails_after, interrupt: false };
            let output = file_of(b"");
            let result = seal(&mut input, Target::File(&output), &key(), &header(), &options(threads));
            assert!(matches!(result, Err(Error::Read(_))), "after {fails_after} bytes");
            assert!(open_file(&contents(&output)).1.is_err(), "after {fails_after} bytes: it looks whole");
        }
        let (mut input, mut out) = (Trickle { rest: &plain, piece: 10_000, fails_after, interrupt: false }, Vec::new());
        let result = seal(&mut input, Target::Stream(&mut out), &key(), &header(), &options(1));
        assert!(matches!(result, Err(Error::Read(_))));
        assert!(open_pipe(&out).1.is_err(), "after {fails_after} bytes: it looks whole");
    }
}

#[test]
fn an_output_that_fails_is_an_error_of_the_output() {
    /// Takes so many bytes, then is full.
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let container = sealed(&message(BATCH + 5));
    for room in [0, 5, BATCH + 4] {
        let mut source = Cursor::new(&container);
        let unlocked = Container::read(Source::Seekable(&mut source)).and_then(|c| c.unlock(&key())).expect("unlocks");
        let result = unlocked.copy_to(Target::Stream(&mut Full(room)), &options(1));
        assert!(matches!(&result, Err(Error::Write(_))), "{room}");
        assert!(result.expect_err("full").hint().is_some());
        let sealing = seal(&mut &container[..], Target::Stream(&mut Full(room)), &key(), &header(), &options(1));
        assert!(matches!(sealing, Err(Error::Write(_))), "{room}");
    }
}

#[test]
fn a_pipe_releases_each_chunk_before_it_waits_for_the_next() {
    /// Gives the container chunk by chunk, and notes how much had come out when it was asked for more.
    struct Stepwise<'a> {
        pieces: std::vec::IntoIter<&'a [u8]>,
        out: Rc<RefCell<Vec<u8>>>,
        seen: Rc<RefCell<Vec<usize>>>,
    }
    impl Read for Stepwise<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.seen.borrow_mut().push(self.out.borrow().len());
            let piece = self.pieces.next().unwrap_or(&[]);
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }
    struct Shared(Rc<RefCell<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let plain = message(2 * CHUNK + 5);
    let container = sealed(&plain);
    let (head, tail) = container.split_at(container.len() - 2 * SEALED_CHUNK - 21);
    let (prefix, rest) = head.split_at(11);
    let mut pieces = vec![prefix, rest];
    pieces.extend(tail.chunks(SEALED_CHUNK));
    let (out, seen) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
    let mut source = Stepwise { pieces: pieces.into_iter(), out: Rc::clone(&out), seen: Rc::clone(&seen) };
    let unlocked = Container::read(Source::Stream(&mut source)).and_then(|c| c.unlock(&key())).expect("unlocks");
    unlocked.copy_to(Target::Stream(&mut Shared(Rc::clone(&out))), &options(1)).expect("opens");
    assert_eq!(*out.borrow(), plain);
    assert_eq!(*seen.borrow(), [0, 0, 0, CHUNK, 2 * CHUNK, 2 * CHUNK]);
}

#[test]
fn a_range_needs_positions_and_stays_within_the_content() {
    let container = sealed(&message(100));
    let mut pipe = &container[..];
    let mut unlocked = Container::read(Source::Stream(&mut pipe)).and_then(|c| c.unlock(&key())).expect("unlocks");
    assert!(matches!(unlocked.copy_range(0, 1, &mut Vec::new()), Err(Error::NotSeekable)));
    let file = file_of(&container);
    let mut unlocked = Container::read(Source::File(&file)).and_then(|c| c.unlock(&key())).expect("unlocks");
    for (offset, length) in [(0, 101), (101, 0), (100, 1), (u64::MAX, 1), (1, u64::MAX)] {
        let mut out = Vec::new();
        assert!(matches!(unlocked.copy_range(offset, length, &mut out), Err(Error::OutOfRange { .. })));
        assert!(out.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_range_is_that_part_of_the_content(
        size in prop_oneof![0..100usize, CHUNK - 2..CHUNK + 3, 2 * BATCH - 2..2 * BATCH + 40_000],
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let plain = message(size);
        let container = sealed(&plain);
        let (from, to) = (from.index(size + 1), to.index(size + 1));
        let (from, to) = (from.min(to), from.max(to));
        let file = file_of(&container);
        let mut cursor = Cursor::new(&container);
        for source in [Source::File(&file), Source::Seekable(&mut cursor)] {
            let mut unlocked = Container::read(source).and_then(|c| c.unlock(&key())).expect("unlocks");
            let mut out = Vec::new();
            unlocked.copy_range(from as u64, (to - from) as u64, &mut out).expect("reads");
            prop_assert!(out == plain[from..to]);
        }
    }
}
