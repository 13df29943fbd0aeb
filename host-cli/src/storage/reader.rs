//! An object elsewhere, read as if it were a file: any position, ranges fetched as they are needed, and the next one
//! fetched while this one is used.
//!
//! The first range is small: the start of a container is all that finding its key needs. Who reads on gets ranges that grow;
//! who jumps starts small again. A range whose connection breaks is gone on with where it broke.

use std::{
    io::{self, Read, Seek, SeekFrom},
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use super::{Error, Object};

/// Fetches exactly so many bytes from this offset.
pub(super) type Fetch = Arc<dyn Fn(u64, usize) -> Result<Vec<u8>, Error> + Send + Sync>;

/// An object elsewhere.
pub(super) struct Ranged {
    fetch: Fetch,
    size: u64,
    position: u64,
    /// What was fetched last, and where it starts.
    window: (u64, Vec<u8>),
    /// How much to fetch next, when it is read on.
    step: usize,
    ahead: Option<Ahead>,
}

/// A range that is being fetched.
struct Ahead {
    start: u64,
    receiver: Receiver<Result<Vec<u8>, Error>>,
}

impl Ranged {
    pub(super) fn new(size: u64, fetch: Fetch) -> Self {
        Self { fetch, size, position: 0, window: (0, Vec::new()), step: FIRST, ahead: None }
    }

    /// What of the window is at the position.
    fn here(&self) -> &[u8] {
        let (start, bytes) = &self.window;
        let skip = self.position.checked_sub(*start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| bytes.get(skip..)).unwrap_or_default()
    }

    fn end_of_window(&self) -> u64 {
        self.window.0.saturating_add(self.window.1.len() as u64)
    }

    /// Gets what is at the position, for a reader who wants `wanted` bytes.
    fn advance(&mut self, wanted: usize) -> Result<(), Error> {
        let reads_on = !self.window.1.is_empty() && self.position == self.end_of_window();
        let ahead = self.ahead.take().filter(|ahead| ahead.start == self.position);
        let length = self.step.max(wanted);
        let bytes = match ahead.and_then(|ahead| ahead.receiver.recv().ok()) {
            Some(bytes) => bytes?,
            None => {
                if !reads_on {
                    self.step = FIRST;
                }
                (self.fetch)(
                    self.position,
                    self.within(self.position, if reads_on { length } else { wanted.max(FIRST) }),
                )?
            }
        };
        self.window = (self.position, bytes);
        if reads_on {
            self.step = self.step.saturating_mul(2).min(MOST);
            self.fetch_ahead();
        }
        Ok(())
    }

    fn fetch_ahead(&mut self) {
        let start = self.end_of_window();
        let length = self.within(start, self.step);
        if length == 0 {
            return;
        }
        let (sender, receiver) = sync_channel(1);
        let fetch = Arc::clone(&self.fetch);
        // Nobody waits for it: when it is not wanted any more, what it sends goes nowhere.
        thread::spawn(move || drop(sender.send(fetch(start, length))));
        self.ahead = Some(Ahead { start, receiver });
    }

    /// So many bytes from there, or as many as there are.
    fn within(&self, start: u64, length: usize) -> usize {
        usize::try_from(self.size.saturating_sub(start)).unwrap_or(usize::MAX).min(length)
    }
}

impl Read for Ranged {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.position >= self.size {
            return Ok(0);
        }
        if self.here().is_empty() {
            self.advance(buffer.len()).map_err(into_io)?;
        }
        let here = self.here();
        let length = here.len().min(buffer.len());
        let (Some(from), Some(to)) = (here.get(..length), buffer.get_mut(..length)) else { return Ok(0) };
        to.copy_from_slice(from);
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for Ranged {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let position = match position {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Object for Ranged {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

/// The error whole, as readers of files expect it: see [`Error::within`].
fn into_io(error: Error) -> io::Error {
    io::Error::other(error)
}

/// The first range, and the least.
const FIRST: usize = 64 * 1024;
/// The largest range that is fetched ahead. Two of them are in memory at a time.
const MOST: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|position| u8::try_from(position * 31 % 251).expect("below 251")).collect()
    }

    fn ranged(content: &Arc<Vec<u8>>, asked: &Arc<Mutex<Vec<(u64, usize)>>>) -> Ranged {
        let (bytes, asked) = (Arc::clone(content), Arc::clone(asked));
        let fetch = move |start: u64, length: usize| {
            asked.lock().expect("not poisoned").push((start, length));
            let start = usize::try_from(start).expect("small");
            Ok(bytes.get(start..start + length).expect("within the object").to_vec())
        };
        Ranged::new(content.len() as u64, Arc::new(fetch))
    }

    #[test]
    fn who_reads_on_gets_all_in_ranges_that_grow() {
        let content = Arc::new(content(3_000_000));
        let asked = Arc::default();
        let mut read = Vec::new();
        ranged(&content, &asked).read_to_end(&mut read).expect("reads");
        assert_eq!(read, *content);
        let mut asked = asked.lock().expect("not poisoned").clone();
        asked.sort_unstable();
        let total: usize = asked.iter().map(|(_, length)| length).sum();
        assert_eq!(total, content.len(), "nothing is fetched twice: {asked:?}");
        assert!(asked.len() < 10, "{asked:?}");
    }

    #[test]
    fn a_piece_in_the_middle_costs_one_request_of_its_length() {
        let content = Arc::new(content(3_000_000));
        let asked = Arc::default();
        let mut object = ranged(&content, &asked);
        let mut piece = vec![0; 1_000_000];
        object.seek(SeekFrom::Start(1_500_000)).expect("seeks");
        object.read_exact(&mut piece).expect("reads");
        assert_eq!(piece, content[1_500_000..2_500_000]);
        assert_eq!(*asked.lock().expect("not poisoned"), [(1_500_000, 1_000_000)]);
    }

    #[test]
    fn an_error_of_the_storage_comes_through_whole() {
        let fetch = |_, _| Err(Error::OtherPlace { url: "x".into() });
        let error = Ranged::new(5, Arc::new(fetch)).read(&mut [0]).expect_err("fails");
        assert!(matches!(Error::within(&error), Some(Error::OtherPlace { .. })));
    }

    proptest! {
        #[test]
        fn any_walk_reads_what_is_there(size in 0usize..400_000, steps in proptest::collection::vec((0u64..450_000, 1usize..150_000, any::<bool>()), 1..20)) {
            let content = Arc::new(content(size));
            let mut object = ranged(&content, &Arc::default());
            let mut position = 0;
            for (to, length, jump) in steps {
                if jump {
                    position = usize::try_from(object.seek(SeekFrom::Start(to)).expect("seeks")).expect("small");
                }
                let mut buffer = vec![0; length];
                let mut read = 0;
                loop {
                    let got = object.read(&mut buffer[read..]).expect("reads");
                    if got == 0 { break }
                    read += got;
                }
                let expected = content.get(position..content.len().min(position + length)).unwrap_or_default();
                prop_assert_eq!(&buffer[..read], expected);
                position += read;
            }
        }
    }
}
