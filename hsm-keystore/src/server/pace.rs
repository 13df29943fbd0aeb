//! What a connection is doing, and until when it may: the clock behind every limit of time that the API cannot see.
//!
//! A connection waits for a request (idle), reads a head, works, or gives an answer. [`Watched`](super::watched) reports
//! bytes, the service reports requests; [`Pace::overdue`] ends when the connection took too long for what it was doing.
//! While a request is worked on there is no limit here: the API has its own.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::Limits;

/// The clock of one connection.
pub(super) struct Pace {
    limits: Arc<Limits>,
    /// With HTTP/2 there is no telling when a head begins: it is idle until the request is there.
    http2: bool,
    state: Mutex<State>,
}

struct State {
    doing: Doing,
    since: Instant,
    /// Requests that are worked on.
    requests: usize,
    /// Answers whose bodies are not all given to the connection.
    answers: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Idle,
    Head,
    Work,
    Answer,
    /// All of the answer is in the connection's buffers, and they were not flushed yet.
    Flush,
}

/// What took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Overdue {
    /// There was no next request.
    Idle,
    /// The head of a request did not arrive.
    Head,
    /// An answer was not taken.
    Answer,
}

impl Pace {
    /// The clock of a connection that has just made its handshake, and owes the head of a request.
    pub(super) fn new(limits: Arc<Limits>, http2: bool) -> Self {
        let doing = if http2 { Doing::Idle } else { Doing::Head };
        let state = State { doing, since: Instant::now(), requests: 0, answers: 0 };
        Self { limits, http2, state: Mutex::new(state) }
    }

    /// Bytes came.
    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.doing == Doing::Idle && !self.http2 {
            state.now(Doing::Head);
        }
    }

    /// A request has a head, and is given to the API.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.requests += 1;
        state.now(Doing::Work);
    }

    /// The API answered; the body of the answer comes now.
    pub(super) fn answer(&self) {
        let mut state = self.state();
        state.requests = state.requests.saturating_sub(1);
        state.answers += 1;
        if state.requests == 0 {
            state.now(Doing::Answer);
        }
    }

    /// The API will not answer: the client went away.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 && state.answers == 0 {
            state.now(Doing::Idle);
        }
    }

    /// The body of an answer was given to the connection.
    pub(super) fn given(&self) {
        let mut state = self.state();
        state.answers = state.answers.saturating_sub(1);
        if state.requests == 0 && state.answers == 0 {
            if self.http2 {
                state.now(Doing::Idle);
            } else {
                state.doing = Doing::Flush;
            }
        }
    }

    /// Everything was handed to the network.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        if state.doing == Doing::Flush {
            state.now(Doing::Idle);
        }
    }

    /// Ends when the connection took too long for what it is doing.
    pub(super) async fn overdue(&self) -> Overdue {
        loop {
            let now = Instant::now();
            let deadline = self.deadline();
            if let Some((deadline, overdue)) = deadline
                && deadline <= now
            {
                return overdue;
            }
            // What the connection does may change meanwhile, to what has a nearer deadline.
            let look = now + self.limits.head.min(LOOK);
            sleep_until(deadline.map_or(look, |(deadline, _)| deadline.min(look))).await;
        }
    }

    fn deadline(&self) -> Option<(Instant, Overdue)> {
        let state = self.state();
        let within = |limit: Duration, overdue| Some((state.since + limit, overdue));
        match state.doing {
            Doing::Idle => within(self.limits.idle, Overdue::Idle),
            Doing::Head => within(self.limits.head, Overdue::Head),
            Doing::Work => None,
            Doing::Answer | Doing::Flush => within(self.limits.answer, Overdue::Answer),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&mut self, doing: Doing) {
        (self.doing, self.since) = (doing, Instant::now());
    }
}

/// How long a change to something with a nearer deadline may stay unnoticed.
const LOOK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_millis(50);
    const ANSWER: Duration = Duration::from_millis(100);
    const IDLE: Duration = Duration::from_millis(200);

    fn pace(http2: bool) -> Pace {
        Pace::new(Arc::new(Limits { head: HEAD, answer: ANSWER, idle: IDLE, ..Limits::default() }), http2)
    }

    async fn overdue_after(pace: &Pace, least: Duration) -> Overdue {
        let begun = Instant::now();
        let overdue = pace.overdue().await;
        assert!(begun.elapsed() >= least, "{overdue:?} after {:?}", begun.elapsed());
        overdue
    }

    fn serve(pace: &Pace) {
        pace.begin();
        pace.answer();
        pace.given();
        pace.flushed();
    }

    #[tokio::test]
    async fn each_thing_that_a_connection_does_has_its_limit() {
        let pace = pace(false);
        assert_eq!(overdue_after(&pace, HEAD - SLACK).await, Overdue::Head);
        pace.begin();
        pace.answer();
        assert_eq!(overdue_after(&pace, ANSWER - SLACK).await, Overdue::Answer);
        pace.given();
        assert_eq!(overdue_after(&pace, Duration::ZERO).await, Overdue::Answer, "it is not flushed");
        pace.flushed();
        assert_eq!(overdue_after(&pace, IDLE - SLACK).await, Overdue::Idle);
        pace.read();
        assert_eq!(overdue_after(&pace, HEAD - SLACK).await, Overdue::Head);
    }

    /// Between the beginning of something and of the watching.
    const SLACK: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_head_that_begins_late_has_its_own_limit() {
        let pace = pace(false);
        serve(&pace);
        let (overdue, ()) = tokio::join!(overdue_after(&pace, ANSWER), async {
            tokio::time::sleep(ANSWER).await;
            pace.read();
        });
        assert_eq!(overdue, Overdue::Head);
    }

    #[tokio::test]
    async fn work_is_not_hurried() {
        let pace = pace(true);
        pace.begin();
        serve(&pace);
        let waited = tokio::time::timeout(IDLE + IDLE, pace.overdue()).await;
        assert!(waited.is_err(), "a request is under way");
        pace.abandon();
        assert_eq!(overdue_after(&pace, IDLE - SLACK).await, Overdue::Idle);
    }
}
