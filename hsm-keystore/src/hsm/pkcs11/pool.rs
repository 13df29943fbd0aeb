//! Threads that own a session each, fed by a bounded queue.
//!
//! A hanging vendor library blocks such a thread and nothing else: the caller gets [`HsmError::Deadline`], and once the
//! queue is full, later callers get [`HsmError::Busy`] at once. Work whose caller has given up is not begun.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::queue::Queue;
use crate::hsm::HsmError;

/// How many jobs wait for each thread before callers are refused.
const QUEUE_PER_THREAD: usize = 128;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Threads with a seat `S` each: what a job needs, made anew after a panic.
pub(super) struct Pool<S> {
    queue: Arc<Queue<Job<S>>>,
    deadline: Duration,
    _end: End,
}

/// Waits, when it is dropped, until every thread has closed its session and is gone: a module must not be in a call, nor
/// clean up after a thread, while it is unloaded or the process ends and tears it down (SoftHSM crashes then). A hanging
/// module is waited for until the deadline only.
struct End {
    // In a mutex only to be shared.
    ended: Mutex<Receiver<()>>,
    threads: Vec<JoinHandle<()>>,
    deadline: Duration,
}

impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // Nothing is ever sent: the answer is that the last thread dropped its sender.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(self.deadline);
        if ended == Err(RecvTimeoutError::Disconnected) {
            // What libraries keep for a thread, they destroy at its end, which the sender does not wait for.
            self.threads.drain(..).for_each(|thread| drop(thread.join()));
        }
    }
}

/// The answer of a job that was begun.
pub(super) struct Pending<T> {
    answer: Receiver<Result<T, HsmError>>,
    deadline: Instant,
}

impl<S: 'static> Pool<S> {
    /// Starts the threads, of which so many work at once. They end when the pool is dropped, which waits for them.
    ///
    /// # Errors
    /// [`HsmError::Busy`] when the system starts no more threads.
    pub(super) fn start(
        threads: usize,
        lanes: usize,
        deadline: Duration,
        seat: impl Fn() -> S + Send + Sync + 'static,
    ) -> Result<Self, HsmError> {
        let (queue, seat) = (Arc::new(Queue::new(threads * QUEUE_PER_THREAD, lanes)), Arc::new(seat));
        let (running, ended) = sync_channel(0);
        let mut handles = Vec::with_capacity(threads);
        for number in 0..threads {
            let (jobs, seat, running) = (Arc::clone(&queue), Arc::clone(&seat), running.clone());
            let spawned = thread::Builder::new().name(format!("token-{number}")).spawn(move || {
                work(number, &jobs, seat.as_ref());
                drop((jobs, seat));
                drop(running);
            });
            let Ok(handle) = spawned else {
                queue.close();
                return Err(HsmError::Busy);
            };
            handles.push(handle);
        }
        drop(running);
        Ok(Self { queue, deadline, _end: End { ended: Mutex::new(ended), threads: handles, deadline } })
    }

    /// How many threads work at once.
    pub(super) fn lanes(&self) -> usize {
        self.queue.lanes()
    }

    /// When a call that begins now must have its answer.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Hands a job to the next free thread. The job is told its deadline and stops when it has passed.
    ///
    /// # Errors
    /// [`HsmError::Busy`].
    pub(super) fn submit<T: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl FnOnce(&mut S, Instant) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<Pending<T>, HsmError> {
        let (reply, answer) = sync_channel(1);
        let job: Job<S> = Box::new(move |seat| {
            let result = if Instant::now() < deadline { job(seat, deadline) } else { Err(HsmError::Deadline) };
            // The caller may have given up.
            let _ = reply.try_send(result);
        });
        self.queue.push(job).map_err(|_| HsmError::Busy)?;
        Ok(Pending { answer, deadline })
    }
}

impl<T> Pending<T> {
    /// Waits for the answer, until the deadline.
    ///
    /// # Errors
    /// [`HsmError::Deadline`], or what the job failed with.
    pub(super) fn wait(self) -> Result<T, HsmError> {
        match self.answer.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(HsmError::Deadline),
            Err(RecvTimeoutError::Disconnected) => {
                Err(HsmError::Unavailable { operation: "finish what it had begun", source: None })
            }
        }
    }
}

fn work<S>(number: usize, jobs: &Queue<Job<S>>, seat: &(dyn Fn() -> S + Send + Sync)) {
    let mut own = seat();
    while let Some(job) = jobs.next(number) {
        if catch_unwind(AssertUnwindSafe(|| job(&mut own))).is_err() {
            tracing::error!("a call to the token's module panicked; its session is replaced");
            own = seat();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn a_hanging_job_blocks_its_thread_and_nobody_else() {
        [1, 2].into_iter().for_each(a_hanging_job_blocks_nobody_else);
    }

    fn a_hanging_job_blocks_nobody_else(lanes: usize) {
        let pool = Pool::start(2, lanes, Duration::from_millis(100), || ()).expect("starts");
        let gate = Arc::new(Barrier::new(2));
        let held = Arc::clone(&gate);
        let hanging = pool.submit(pool.deadline(), move |(), _| {
            held.wait();
            Ok(())
        });
        let begun = Instant::now();
        assert!(matches!(hanging.expect("queued").wait(), Err(HsmError::Deadline)));
        assert!(begun.elapsed() >= Duration::from_millis(90));
        let far = Instant::now() + Duration::from_secs(60);
        assert_eq!(pool.submit(far, |(), _| Ok(7)).expect("queued").wait().expect("answers"), 7);
        gate.wait();
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_stale_work_is_not_begun() {
        let pool = Pool::start(1, 1, Duration::from_secs(60), || ()).expect("starts");
        let gate = Arc::new(Barrier::new(2));
        let held = Arc::clone(&gate);
        let first = pool.submit(pool.deadline(), move |(), _| {
            held.wait();
            Ok(())
        });
        let past = Instant::now();
        let mut stale = Vec::new();
        let refused = loop {
            match pool.submit(past, |(), _| -> Result<(), _> { panic!("stale work was begun") }) {
                Ok(pending) => stale.push(pending),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, HsmError::Busy));
        assert!(stale.len() >= QUEUE_PER_THREAD - 1);
        gate.wait();
        first.expect("queued").wait().expect("answers");
        for pending in stale {
            assert!(matches!(pending.wait(), Err(HsmError::Deadline)));
        }
    }

    #[test]
    fn a_pool_ends_after_its_threads_have_closed_their_sessions() {
        struct Slow(Arc<AtomicUsize>);
        impl Drop for Slow {
            fn drop(&mut self) {
                thread::sleep(Duration::from_millis(50));
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let closed = Arc::new(AtomicUsize::new(0));
        let seats = Arc::clone(&closed);
        drop(Pool::start(3, 3, Duration::from_secs(60), move || Slow(Arc::clone(&seats))).expect("starts"));
        assert_eq!(closed.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_pool_that_is_dropped_leaves_no_thread_that_still_cleans_up() {
        static CLEANED: AtomicUsize = AtomicUsize::new(0);
        struct OfThread;
        impl Drop for OfThread {
            fn drop(&mut self) {
                thread::sleep(Duration::from_millis(50));
                CLEANED.fetch_add(1, Ordering::SeqCst);
            }
        }
        thread_local!(static KEPT: OfThread = const { OfThread });
        drop(Pool::start(3, 3, Duration::from_secs(60), || KEPT.with(|_| ())).expect("starts"));
        assert_eq!(CLEANED.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_panic_costs_one_answer_and_gets_a_new_seat() {
        let pool = Pool::start(1, 1, Duration::from_secs(60), || 0).expect("starts");
        let panicking = pool.submit(pool.deadline(), |seat: &mut i32, _| -> Result<(), _> {
            *seat = 1;
            panic!("on purpose")
        });
        assert!(matches!(panicking.expect("queued").wait(), Err(HsmError::Unavailable { .. })));
        let seat = pool.submit(pool.deadline(), |seat, _| Ok(*seat)).expect("queued").wait();
        assert_eq!(seat.expect("answers"), 0);
    }
}
