//! Calls that wait together are done together, by few threads.
//!
//! A call that finds a thread free is begun at once and alone. What comes while all are busy is taken by the next one that
//! is done, as many calls as there are: under load, what calls cost together (a look into the database, a way to the token
//! and back, waking threads) is shared by them, and nobody waits for company. Half of the machine's cores work at this, for
//! connections need the others; when nothing is taken for a while, since token, disk or a large batch keeps the threads,
//! a further one is begun for what waits. Large batches go alone and never take all threads, so that a small call waits
//! for none of them.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use tokio::{task, time::sleep};

/// How many threads there are at most.
const MOST_THREADS: usize = 64;
/// How many of them do heavy calls at most.
const MOST_HEAVY: usize = MOST_THREADS - 16;
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
    /// How many heavy calls are done at once.
    heavy: usize,
    kept: Duration,
    state: Mutex<State<Q>>,
}

struct State<Q> {
    light: VecDeque<Waiting<Q>>,
    heavy: VecDeque<Waiting<Q>>,
    /// How many calls came.
    came: u64,
    threads: usize,
    /// How many threads do heavy calls.
    burdened: usize,
    /// Whether somebody looks whether what waits is taken.
    watched: bool,
    /// When a thread took something last.
    taken: Instant,
}

struct Waiting<Q> {
    call: Q,
    weight: usize,
    number: u64,
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
        Self::of(work, cores.div_ceil(2).min(MOST_THREADS), MOST_HEAVY, KEPT)
    }

    fn of(work: fn(&N, Vec<Q>), threads: usize, heavy: usize, kept: Duration) -> Self {
        let state = State {
            light: VecDeque::new(),
            heavy: VecDeque::new(),
            came: 0,
            threads: 0,
            burdened: 0,
            watched: false,
            taken: Instant::now(),
        };
        Self(Arc::new(Inner { work, threads, heavy, kept, state: Mutex::new(state) }))
    }

    /// Has a call done, which is so heavy.
    pub(super) fn ask(&self, node: &Arc<N>, call: Q, weight: usize) {
        let mut state = self.0.state();
        state.came += 1;
        let waiting = Waiting { call, weight, number: state.came };
        if weight > WEIGHT {
            state.heavy.push_back(waiting)
        } else {
            state.light.push_back(waiting)
        }
        if !self.begin(node, &mut state) && !std::mem::replace(&mut state.watched, true) {
            drop(state);
            task::spawn(self.clone().watch(Arc::clone(node)));
        }
    }

    /// Begins a thread more if there are too few, or none of them took anything for a while.
    fn begin(&self, node: &Arc<N>, state: &mut State<Q>) -> bool {
        let kept = state.threads < MOST_THREADS && state.taken.elapsed() >= self.0.kept;
        let takes = state.next_is_heavy(self.0.heavy) || !state.light.is_empty();
        if !takes || (state.threads >= self.0.threads && !kept) {
            return false;
        }
        state.threads += 1;
        state.taken = Instant::now();
        let (inner, node) = (Arc::clone(&self.0), Arc::clone(node));
        task::spawn_blocking(move || inner.serve(&node));
        true
    }

    /// Looks after what waits until nothing does. Nobody else would, if no further call came.
    async fn watch(self, node: Arc<N>) {
        loop {
            sleep(self.0.kept).await;
            let mut state = self.0.state();
            if state.light.is_empty() && state.heavy.is_empty() {
                state.watched = false;
                return;
            }
            self.begin(&node, &mut state);
        }
    }
}

impl<N, Q> Inner<N, Q> {
    /// Does what waits until nothing does.
    fn serve(&self, node: &N) {
        while let Some((calls, heavy)) = self.next() {
            if catch_unwind(AssertUnwindSafe(|| (self.work)(node, calls))).is_err() {
                tracing::error!("requests were not finished");
            }
            if heavy {
                self.state().burdened -= 1;
            }
        }
    }

    /// What a thread does next, and whether that is heavy; it ends when there is nothing for it.
    fn next(&self) -> Option<(Vec<Q>, bool)> {
        let mut state = self.state();
        if state.next_is_heavy(self.heavy) {
            let next = state.heavy.pop_front()?;
            state.burdened += 1;
            state.taken = Instant::now();
            return Some((vec![next.call], true));
        }
        let mut weight = 0;
        let together = state.light.iter().take_while(|waiting| {
            let first = weight == 0;
            weight += waiting.weight.max(1);
            first || weight <= WEIGHT
        });
        let together = together.count();
        if together == 0 {
            state.threads -= 1;
            return None;
        }
        state.taken = Instant::now();
        Some((state.light.drain(..together).map(|waiting| waiting.call).collect(), false))
    }

    fn state(&self) -> MutexGuard<'_, State<Q>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q> State<Q> {
    /// Whether the call whose turn it is is a heavy one that may be begun, if so many are done at once.
    fn next_is_heavy(&self, most: usize) -> bool {
        let heavy = self.heavy.front().filter(|_| self.burdened < most);
        heavy.is_some_and(|heavy| self.light.front().is_none_or(|light| heavy.number < light.number))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        mpsc::{Sender, channel},
    };

    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;

    /// A call: it tells its number, and those that were done together with it.
    enum Ask {
        Tell(usize, Sender<(usize, usize)>),
        Pass(UnboundedSender<()>),
        Hold(Arc<Barrier>),
        Panic,
    }

    fn work((): &(), calls: Vec<Ask>) {
        let together = calls.len();
        for call in calls {
            match call {
                Ask::Tell(number, told) => told.send((number, together)).expect("somebody listens"),
                Ask::Pass(told) => told.send(()).expect("somebody listens"),
                Ask::Hold(barrier) => drop(barrier.wait()),
                Ask::Panic => panic!("as it was told"),
            }
        }
    }

    /// One thread, and others when it took nothing for this time; one heavy call at once.
    fn gathering(kept: Duration) -> Gathering<(), Ask> {
        Gathering::of(work, 1, 1, kept)
    }

    /// A thread that is held, until this is dropped.
    struct Held(Arc<Barrier>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.wait();
        }
    }

    /// Has a thread that is held.
    async fn hold(gathering: &Gathering<(), Ask>) -> Held {
        hold_with(gathering, 1).await
    }

    async fn hold_with(gathering: &Gathering<(), Ask>, weight: usize) -> Held {
        let held = Arc::new(Barrier::new(2));
        gathering.ask(&Arc::new(()), Ask::Hold(Arc::clone(&held)), weight);
        while !gathering.0.state().light.is_empty() || !gathering.0.state().heavy.is_empty() {
            tokio::task::yield_now().await;
        }
        Held(held)
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
        drop(held);
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
        drop(held);
        while gathering.0.state().threads > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_call_that_comes_just_after_a_large_batch_does_not_wait_for_it_though_no_further_call_comes() {
        let gathering = gathering(Duration::from_millis(20));
        let (told, mut listen) = unbounded_channel();
        let held = hold_with(&gathering, 2 * WEIGHT).await;
        gathering.ask(&Arc::new(()), Ask::Pass(told), 1);
        tokio::time::timeout(PATIENCE, listen.recv()).await.expect("done while the batch is").expect("told");
        drop(held);
    }

    #[tokio::test]
    async fn large_batches_leave_threads_for_small_calls_and_are_done_in_their_turn() {
        let gathering = gathering(Duration::ZERO);
        let (told, mut listen) = unbounded_channel();
        let (batch, mut batches) = unbounded_channel();
        let held = hold_with(&gathering, 2 * WEIGHT).await;
        for _ in 0..3 {
            gathering.ask(&Arc::new(()), Ask::Pass(batch.clone()), 2 * WEIGHT);
        }
        gathering.ask(&Arc::new(()), Ask::Pass(told), 1);
        tokio::time::timeout(PATIENCE, listen.recv()).await.expect("done before the batches").expect("told");
        assert!(batches.try_recv().is_err(), "a second batch was begun");
        drop(held);
        for _ in 0..3 {
            tokio::time::timeout(PATIENCE, batches.recv()).await.expect("done in the end").expect("told");
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);
}
