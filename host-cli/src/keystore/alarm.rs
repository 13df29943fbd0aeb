//! When to stop waiting for a node, to the tenth of a millisecond.
//!
//! The runtime's timers count whole milliseconds and fire up to two of them late, which is as long as a node nearby takes
//! for its whole answer. On Linux short waits use a timer of the kernel instead. Where there is none, only speed suffers.

use std::time::{Duration, Instant};

/// Longer waits do not need it.
const SHORT: Duration = Duration::from_millis(50);

/// Waits for moments, one after the other.
pub(super) struct Alarm(#[cfg(target_os = "linux")] Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>);

#[cfg(target_os = "linux")]
impl Alarm {
    /// An alarm for the runtime that this is called in.
    #[expect(deprecated, reason = "the successor is unsafe for types that change their descriptor, as OwnedFd cannot")]
    pub(super) fn new() -> Self {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK);
        Self(timer.ok().and_then(|timer| tokio::io::unix::AsyncFd::new(timer).ok()))
    }

    /// Returns at this moment, or once in a while too early.
    pub(super) async fn at(&self, moment: Instant) {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let left = moment.saturating_duration_since(Instant::now());
        if let Some(timer) = self.0.as_ref().filter(|_| left <= SHORT) {
            let once = Timespec { tv_sec: 0, tv_nsec: 0 };
            // Nothing at all would switch it off.
            let nanoseconds = left.subsec_nanos().max(1).into();
            let setting = Itimerspec { it_interval: once, it_value: Timespec { tv_sec: 0, tv_nsec: nanoseconds } };
            if timerfd_settime(timer, TimerfdTimerFlags::empty(), &setting).is_ok()
                && let Ok(mut rung) = timer.readable().await
            {
                // Setting it again silences it.
                return rung.clear_ready();
            }
        }
        tokio::time::sleep_until(moment.into()).await;
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// An alarm for the runtime that this is called in.
    pub(super) fn new() -> Self {
        Self()
    }

    /// Returns at this moment, or up to two milliseconds later.
    pub(super) async fn at(&self, moment: Instant) {
        let _ = SHORT;
        tokio::time::sleep_until(moment.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_never_early_when_it_is_used_again() {
        let alarm = Alarm::new();
        for microseconds in [0, 300, 900, 60_000] {
            // One that is given up before it rings must not ring in the place of the next.
            let given_up = alarm.at(Instant::now() + Duration::from_micros(200));
            let _ = tokio::time::timeout(Duration::from_millis(2), given_up).await;
            let moment = Instant::now() + Duration::from_micros(microseconds);
            while Instant::now() < moment {
                alarm.at(moment).await;
            }
            assert!(Instant::now() >= moment);
        }
    }
}
