//! How far a registration is: one line on standard error that is written anew, when that is a terminal and nobody reads
//! events: files, bytes, rate, and the time that is left.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::journey::register::Clock;

/// The line, or nothing where nobody would see it.
pub(super) struct Progress {
    files: usize,
    bytes: u64,
    shown: bool,
    done: AtomicUsize,
    since: Instant,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Progress {
    pub(super) fn new(files: usize, bytes: u64, quiet: bool) -> Self {
        let shown = files > 1 && !quiet && std::io::stderr().is_terminal();
        Self {
            files,
            bytes,
            shown,
            done: AtomicUsize::new(0),
            since: Instant::now(),
            ended: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    /// Shows the line while `work` goes on, and takes it away afterwards.
    pub(super) fn during<T>(&self, clock: &Clock, work: impl FnOnce(&Self) -> T) -> T {
        if !self.shown {
            return work(self);
        }
        thread::scope(|scope| {
            scope.spawn(|| self.show(clock));
            let made = work(self);
            *self.lock() = true;
            self.changed.notify_all();
            made
        })
    }

    /// Counts a file, and takes the line out of the way of what `told` writes.
    pub(super) fn around<T>(&self, told: impl FnOnce() -> T) -> T {
        self.done.fetch_add(1, Ordering::Relaxed);
        // Nobody writes the line meanwhile.
        let _quiet = self.lock();
        if self.shown {
            eprint!("{CLEAR}");
        }
        told()
    }

    fn show(&self, clock: &Clock) {
        let mut ended = self.lock();
        while !*ended {
            let line =
                line(self.done.load(Ordering::Relaxed), self.files, clock.bytes(), self.bytes, self.since.elapsed());
            eprint!("\r{line}\x1b[K");
            let _ = std::io::stderr().flush();
            ended = self.changed.wait_timeout(ended, EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        eprint!("{CLEAR}");
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For example `312/1000 files, 156 of 500 MB, 240 MB/s, 0:02 left`.
fn line(done: usize, files: usize, bytes: u64, all: u64, spent: Duration) -> String {
    let megabytes = |bytes: u64| bytes / 1_000_000;
    let seconds = spent.as_secs_f64().max(0.001);
    let rate = bytes as f64 / seconds;
    let left = match bytes {
        0 => String::from("?"),
        _ => {
            let left = (all.saturating_sub(bytes) as f64 / rate).ceil() as u64;
            format!("{}:{:02}", left / 60, left % 60)
        }
    };
    format!(
        "{done}/{files} files, {} of {} MB, {:.0} MB/s, {left} left",
        megabytes(bytes),
        megabytes(all),
        rate / 1_000_000.0
    )
}

const EVERY: Duration = Duration::from_millis(200);
/// To the start of the line, and nothing on it.
const CLEAR: &str = "\r\x1b[K";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long() {
        let said = line(312, 1000, 156_000_000, 500_000_000, Duration::from_millis(650));
        assert_eq!(said, "312/1000 files, 156 of 500 MB, 240 MB/s, 0:02 left");
        assert_eq!(line(0, 3, 0, 10, Duration::ZERO), "0/3 files, 0 of 0 MB, 0 MB/s, ? left");
    }
}
