//! A pace for callers who prove nothing, so that they cannot fill the audit log.
//!
//! Every refusal is an entry that is kept for years, and a node whose log is full releases nothing. Callers without an
//! identity therefore wait for their turn before they are refused, [`RATE`] of them in a second; when too many wait, the
//! next ones are turned away without a decision. Callers who are known never wait here.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// How many strangers are refused in a second.
const RATE: u32 = 50;
/// How many strangers may wait.
const WAITING: usize = 1_000;

/// The queue of those who prove nothing.
pub(super) struct Strangers {
    pause: Duration,
    room: usize,
    next: Mutex<Option<Instant>>,
    waiting: AtomicUsize,
}

impl Default for Strangers {
    fn default() -> Self {
        Self::new(Duration::from_secs(1) / RATE, WAITING)
    }
}

impl Strangers {
    fn new(pause: Duration, room: usize) -> Self {
        Self { pause, room, next: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// Waits for the turn of a stranger. False when too many wait.
    pub(super) async fn turn(&self) -> bool {
        let place = Place::take(&self.waiting);
        if place.number >= self.room {
            return false;
        }
        let mut next = self.next.lock().await;
        let now = Instant::now();
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.pause);
        drop(next);
        sleep_until(turn).await;
        true
    }
}

/// A place in the queue, given back also when the caller goes away.
struct Place<'a> {
    waiting: &'a AtomicUsize,
    number: usize,
}

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, number: waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn strangers_have_a_rate_and_too_many_are_turned_away() {
        const PAUSE: Duration = Duration::from_millis(2);
        let strangers = Arc::new(Strangers::new(PAUSE, 50));
        let begun = Instant::now();
        let tasks: Vec<_> = (0..55)
            .map(|_| {
                let strangers = Arc::clone(&strangers);
                tokio::spawn(async move { strangers.turn().await })
            })
            .collect();
        let mut served = 0;
        for task in tasks {
            served += u32::from(task.await.expect("ended"));
        }
        assert!((50..55).contains(&served), "{served} of 55 had a turn");
        assert!(begun.elapsed() >= PAUSE * 49, "they came faster than they may");
        assert!(strangers.turn().await, "a place that was given back can be taken");
    }
}
