//! Trying again: what is safe to repeat, a few times, with pauses that grow.

use std::{thread, time::Duration};

use super::Fault;

/// Asks until it succeeds, fails for good, or has been asked often enough. `ask` hears how often it was asked before.
pub(super) fn patiently<T>(mut ask: impl FnMut(u32) -> Result<T, Fault>) -> Result<T, Fault> {
    let mut pause = FIRST_PAUSE;
    let mut before = 0;
    loop {
        match ask(before) {
            Err(fault) if fault.may_pass() && before + 1 < attempts(&fault) => {
                thread::sleep(scattered(pause));
                pause = pause.saturating_mul(2);
                before += 1;
            }
            other => return other,
        }
    }
}

/// A server that is not there is soon given up, and so is one that says nothing; one that was there is worth waiting for.
fn attempts(fault: &Fault) -> u32 {
    match fault {
        Fault::Timeout(_) => 2,
        Fault::Unreachable(_) => 3,
        _ => 5,
    }
}

/// Between a half and the whole: clients that failed together do not come back together.
fn scattered(pause: Duration) -> Duration {
    let mut random = [0];
    // Without randomness it is the whole.
    let part = getrandom::fill(&mut random).map_or(255, |()| u32::from(random[0]));
    pause / 2 + pause * part / 510
}

const FIRST_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else_is() {
        let mut asked = 0;
        let ask = |before: u32| {
            asked += 1;
            if before < 2 { Err(Fault::Busy("later".into())) } else { Ok(before) }
        };
        assert_eq!(patiently(ask).expect("succeeds"), 2);
        assert_eq!(asked, 3);
        let mut asked = 0;
        let denied = patiently::<()>(|_| {
            asked += 1;
            Err(Fault::Denied("no".into()))
        });
        assert!(matches!(denied, Err(Fault::Denied(_))));
        assert_eq!(asked, 1);
        let gone = patiently::<()>(|_| Err(Fault::Unreachable("nobody".into())));
        assert!(matches!(gone, Err(Fault::Unreachable(_))));
    }

    #[test]
    fn pauses_are_scattered_within_bounds() {
        let pause = Duration::from_millis(200);
        assert!((0..100).map(|_| scattered(pause)).all(|each| each >= pause / 2 && each <= pause));
    }
}
