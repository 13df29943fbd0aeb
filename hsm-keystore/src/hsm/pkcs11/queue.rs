//! The jobs that wait for the threads of a pool, and how many of those work at once.
//!
//! Many tokens do one thing at a time, and are slower when two ask. Then only one thread works (`lanes`), and the others
//! are there for when it hangs: a thread that has been in one job for [`STUCK`] no longer counts. A thread that waits
//! holds no lock, and a new job wakes one at most.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A thread that has been in one job for so long is not waited for.
const STUCK: Duration = Duration::from_millis(100);

/// Jobs of kind `J`, first come, first served.
pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
    most: usize,
    lanes: usize,
}

struct State<J> {
    jobs: VecDeque<J>,
    /// When each thread that works began its job.
    working: Vec<(usize, Instant)>,
    /// Threads that will look again by themselves while jobs wait.
    watching: usize,
    closed: bool,
}

impl<J> State<J> {
    /// Whether another thread may work, beside those that do and are not stuck.
    fn has_room(&self, lanes: usize, now: Instant) -> bool {
        let moving = self.working.iter().filter(|(_, since)| now.saturating_duration_since(*since) < STUCK);
        moving.count() < lanes
    }
}

impl<J> Queue<J> {
    /// An empty queue for at most so many jobs, of which so many may be worked on at once.
    pub(super) fn new(most: usize, lanes: usize) -> Self {
        let state = State { jobs: VecDeque::new(), working: Vec::new(), watching: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), most, lanes }
    }

    /// How many jobs are worked on at once.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Adds a job, or gives it back when the queue is full.
    pub(super) fn push(&self, job: J) -> Result<(), J> {
        let mut state = self.lock();
        if state.jobs.len() >= self.most {
            return Err(job);
        }
        state.jobs.push_back(job);
        // While the lanes are taken, one thread that watches for them is enough.
        let wake = state.has_room(self.lanes, Instant::now()) || state.watching == 0;
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Lets the thread of this number wait for its next job. `None` when the queue is closed and empty.
    pub(super) fn next(&self, thread: usize) -> Option<J> {
        let mut state = self.lock();
        state.working.retain(|(working, _)| *working != thread);
        loop {
            if state.jobs.is_empty() {
                if state.closed {
                    return None;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            if state.has_room(self.lanes, now) {
                state.working.push((thread, now));
                let job = state.jobs.pop_front();
                let another = !state.jobs.is_empty() && (state.has_room(self.lanes, now) || state.watching == 0);
                drop(state);
                if another {
                    self.changed.notify_one();
                }
                return job;
            }
            state.watching += 1;
            state = self.changed.wait_timeout(state, STUCK).unwrap_or_else(PoisonError::into_inner).0;
            state.watching -= 1;
        }
    }

    /// Lets the threads end once all jobs are done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread};

    use super::*;

    #[test]
    fn one_lane_serves_one_job_at_a_time_until_its_thread_is_stuck() {
        let queue = Queue::new(8, 1);
        queue.push('a').expect("room");
        queue.push('b').expect("room");
        assert_eq!(queue.next(0), Some('a'));
        thread::scope(|scope| {
            let (sender, receiver) = channel();
            let (queue, begun) = (&queue, Instant::now());
            scope.spawn(move || sender.send(queue.next(1)));
            // The first thread does not come back; the second takes over.
            assert_eq!(receiver.recv().expect("sent"), Some('b'));
            assert!(begun.elapsed() >= STUCK - Duration::from_millis(1), "it did not wait for its turn");
        });
        // The first thread comes back at last, and works again beside nobody.
        queue.push('c').expect("room");
        queue.close();
        assert_eq!(queue.next(1), Some('c'));
        assert_eq!(queue.next(1), None);
        assert_eq!(queue.next(0), None);
    }

    #[test]
    fn two_lanes_serve_two_jobs_at_once_and_a_full_queue_gives_back() {
        let queue = Queue::new(2, 2);
        queue.push(1).expect("room");
        queue.push(2).expect("room");
        assert_eq!(queue.push(3), Err(3));
        let begun = Instant::now();
        assert_eq!((queue.next(0), queue.next(1)), (Some(1), Some(2)));
        assert!(begun.elapsed() < STUCK);
    }

    #[test]
    fn every_job_is_done_by_some_thread_whatever_the_lanes() {
        for lanes in 1..=3 {
            let queue = Queue::new(10_000, lanes);
            let done: usize = thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|number| {
                        let queue = &queue;
                        scope.spawn(move || std::iter::from_fn(|| queue.next(number)).count())
                    })
                    .collect();
                (0..5_000).for_each(|job| queue.push(job).expect("room"));
                queue.close();
                threads.into_iter().map(|thread| thread.join().expect("ends")).sum()
            });
            assert_eq!(done, 5_000, "{lanes} lanes");
        }
    }
}
