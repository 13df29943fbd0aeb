//! Calls that wait together are done together, by few threads.
//!
//! A call that finds a thread free is begun at once and alone. What comes while all are busy is taken by the next one that
//! is done, as many calls as there are: under load, what calls cost together (a look into the database, a way to the token
//! and back, waking threads) is shared by them, and nobody waits for company. Half of the machine's cores work at this, for
//! connections need the others; when nothing is taken for a while, since token, disk or a large batch keeps the threads,
//! further ones are begun for what comes.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use tokio::task;

/// How many threads there are at most.
const MOST_THREADS: usize = 64;
/// Threads that took nothing for so long are busy with something that others need not wait for.
const KEPT: Duration = Duration::from_millis(3);
/// How much is done together: a call that is heavier goes alone. In bytes of bodies; a call for one key has about 200.
const WEIGHT: usize = 8 * 1024;

/// Calls `Q` that wait, and what does them with `N`. A call that is dropped was not done.
pub(super) struct Gathering<N, Q>(Arc<Inner<N, Q>>);

struct Inner<N, Q> {
    work: fn(&N, Vec<Q>),
    /// How many threads work without need for more.
    threads: usize,
    kept: Duration,
    state: Mutex<State<Q>>,
}

struct State<Q> {
    waiting: VecDeque<(Q, usize)>,
    threads: usize,
    /// When a thread took something last.
    taken: Instant,
}

impl<N, Q> Clone for Gathering<N, Q> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N: Send + Sync + 'static, Q: Send + 'static> Gathering<N, Q> {
    /// Nothing waits yet.
    pub(super) fn new(work: fn(&N, Vec<Q>)) -> Self {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Self::of(work, cores.div_ceil(2).min(MOST_THREADS), KEPT)
    }

    fn of(work: fn(&N, Vec<Q>), threads: usize, kept: Duration) -> Self {
        let state = State { waiting: VecDeque::new(), threads: 0, taken: Instant::now() };
        Self(Arc::new(Inner { work, threads, kept, state: Mutex::new(state) }))
    }

    /// Has a call done, which is so heavy.
    pub(super) fn ask(&self, node: &Arc<N>, call: Q, weight: usize) {
        let mut state = self.0.state();
        state.waiting.push_back((call, weight));
        let kept = state.threads < MOST_THREADS && state.taken.elapsed() >= self.0.kept;
        if state.threads >= self.0.threads && !kept {
            return;
        }
        state.threads += 1;
        state.taken = Instant::now();
        drop(state);
        let (inner, node) = (Arc::clone(&self.0), Arc::clone(node));
        task::spawn_blocking(move || inner.serve(&node));
    }
}

impl<N, Q> Inner<N, Q> {
    /// Does what waits until nothing does.
    fn serve(&self, node: &N) {
        while let Some(calls) = self.next() {
            if catch_unwind(AssertUnwindSafe(|| (self.work)(node, calls))).is_err() {
                tracing::error!("requests were not finished");
            }
        }
    }

    /// What a thread does next; it ends when there is nothing.
    fn next(&self) -> Option<Vec<Q>> {
        let mut state = self.state();
        let mut weight = 0;
        let together = state.waiting.iter().take_while(|(_, heavy)| {
            let first = weight == 0;
            weight += heavy.max(&1);
            first || weight <= WEIGHT
        });
        let together = together.count();
        if together == 0 {
            state.threads -= 1;
            return None;
        }
        state.taken = Instant::now();
        Some(state.waiting.drain(..together).map(|(call, _)| call).collect())
    }

    fn state(&self) -> MutexGuard<'_, State<Q>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        mpsc::{Sender, channel},
    };

    use super::*;

    /// A call: it tells its number, and those that were done together with it.
    enum Ask {
        Tell(usize, Sender<(usize, usize)>),
        Hold(Arc<Barrier>),
        Panic,
    }

    fn work((): &(), calls: Vec<Ask>) {
        let together = calls.len();
        for call in calls {
            match call {
                Ask::Tell(number, told) => told.send((number, together)).expect("somebody listens"),
                Ask::Hold(barrier) => drop(barrier.wait()),
                Ask::Panic => panic!("as it was told"),
            }
        }
    }

    /// One thread, and others when it took nothing for this time.
    fn gathering(kept: Duration) -> Gathering<(), Ask> {
        Gathering::of(work, 1, kept)
    }

    /// Has a thread that is held.
    async fn hold(gathering: &Gathering<(), Ask>) -> Arc<Barrier> {
        let held = Arc::new(Barrier::new(2));
        gathering.ask(&Arc::new(()), Ask::Hold(Arc::clone(&held)), 1);
        while !gathering.0.state().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        held
    }

    #[tokio::test]
    async fn what_waits_is_done_together_up_to_a_weight_and_in_order() {
        let gathering = gathering(Duration::MAX);
        let (told, listen) = channel();
        let held = hold(&gathering).await;
        let weights = [1, 1, WEIGHT, 2 * WEIGHT, WEIGHT / 2, WEIGHT / 2, 1];
        for (number, weight) in (0..).zip(weights) {
            gathering.ask(&Arc::new(()), Ask::Tell(number, told.clone()), weight);
        }
        drop(told);
        held.wait();
        let done: Vec<_> = listen.iter().collect();
        assert_eq!(done, [(0, 2), (1, 2), (2, 1), (3, 1), (4, 2), (5, 2), (6, 1)]);
    }

    #[tokio::test]
    async fn a_thread_that_is_kept_holds_nobody_up_and_a_panic_ends_its_calls_alone() {
        let gathering = gathering(Duration::ZERO);
        let (told, listen) = channel();
        let held = hold(&gathering).await;
        gathering.ask(&Arc::new(()), Ask::Panic, 1);
        while gathering.0.state().threads > 1 {
            tokio::task::yield_now().await;
        }
        gathering.ask(&Arc::new(()), Ask::Tell(7, told), 1);
        assert_eq!(listen.recv(), Ok((7, 1)));
        held.wait();
        while gathering.0.state().threads > 0 {
            tokio::task::yield_now().await;
        }
    }
}
