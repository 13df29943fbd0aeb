//! How many threads a token serves at once: found by trying, since no token tells.
//!
//! SoftHSM takes one lock for every symmetric operation, and two threads are slower together than one; a network HSM
//! answers many at once. Two threads are compared with one: when they are not clearly faster, one works at a time. A token
//! that computes in this process must not take more processor time for it either: on a machine that is busy, two threads
//! are faster than one merely because they get more of it.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{keys::KeyIds, seat::Seat, token::Token};
use crate::hsm::Suite;

/// For how long each trial lasts, or until every thread has had one answer.
const TRIAL: Duration = Duration::from_millis(4);
const TRIALS: usize = 8;

/// How many of `threads` to let work at once.
pub(super) fn lanes(threads: usize, token: &Arc<Token>, ids: KeyIds, suite: Suite) -> usize {
    if threads < 2 {
        return threads;
    }
    let (mut one, mut two) = (Pace::default(), Pace::default());
    for _ in 0..TRIALS {
        one = one.and(Pace::of(1, token, ids, suite));
        two = two.and(Pace::of(2, token, ids, suite));
    }
    if two.is_worth_it(one) { threads } else { 1 }
}

/// What some threads did together, summed over as many trials on both sides of a comparison.
#[derive(Clone, Copy, Default, Debug)]
struct Pace {
    /// Operations a second.
    rate: f64,
    /// Seconds of processor time for each.
    cost: f64,
}

impl Pace {
    fn of(threads: usize, token: &Arc<Token>, ids: KeyIds, suite: Suite) -> Self {
        let ready = Barrier::new(threads);
        let work = || {
            let mut seat = Seat::past_the_gate(Arc::clone(token), ids, suite);
            // The first operation opens the session.
            let opened = seat.canary().is_ok();
            ready.wait();
            let (begun, before) = (Instant::now(), processor_time());
            let mut done = 0_u32;
            while opened && seat.canary().is_ok() {
                done += 1;
                if begun.elapsed() >= TRIAL {
                    let done = f64::from(done);
                    return Self {
                        rate: done / begun.elapsed().as_secs_f64(),
                        cost: processor_time().saturating_sub(before).as_secs_f64() / done,
                    };
                }
            }
            Self::default()
        };
        let paces: Vec<Self> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
        });
        let cost = paces.iter().map(|pace| pace.cost).sum::<f64>() / threads as f64;
        Self { rate: paces.iter().map(|pace| pace.rate).sum(), cost }
    }

    /// The sum over trials: a single one may be disturbed, or have its threads take turns by chance.
    fn and(self, other: Self) -> Self {
        Self { rate: self.rate + other.rate, cost: self.cost + other.cost }
    }

    /// Whether two threads at this pace are worth it beside one at that pace.
    fn is_worth_it(self, one: Self) -> bool {
        // A token that does not answer is none of this trial's business.
        let answers = one.rate > 0.0 && self.rate > 0.0;
        let trials = TRIALS as f64;
        let computes_here = (one.cost / trials) * (one.rate / trials) > 0.2;
        let wasteful = computes_here && self.cost > one.cost * 1.15;
        !answers || (self.rate > one.rate * 1.25 && !wasteful)
    }
}

/// The processor time of this thread so far.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_work_at_once_where_that_helps() {
        let trials = TRIALS as f64;
        let pace = |rate: f64, microseconds: f64| Pace { rate: rate * trials, cost: microseconds * trials / 1e6 };
        let network = pace(2_000.0, 20.0);
        assert!(pace(3_900.0, 28.0).is_worth_it(network), "two wait for a network HSM at once");
        assert!(!pace(2_100.0, 20.0).is_worth_it(network), "it answers one at a time");
        let software = pace(30_000.0, 33.0);
        assert!(pace(58_000.0, 34.0).is_worth_it(software), "it has no lock");
        assert!(!pace(28_000.0, 45.0).is_worth_it(software), "it has a lock");
        assert!(!pace(14_000.0, 45.0).is_worth_it(pace(10_000.0, 33.0)), "it has a lock, and the machine is busy");
        assert!(pace(0.0, 0.0).is_worth_it(network) && network.is_worth_it(pace(0.0, 0.0)), "nothing was learned");
    }
}
