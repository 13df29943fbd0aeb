//! The gate before a token: open while it works, closed during an outage, so that callers are refused at once.
//!
//! Session threads close it when an operation and the canary after it failed twice; the watcher closes it when every
//! thread hangs; only the healer opens it, after the whole self-test. From `Refused` and `Lost` there is no way back.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::hsm::{HsmError, health::Health};

/// The gate of one token.
pub(super) struct Gate {
    label: String,
    state: Mutex<State>,
    changed: Condvar,
    told: watch::Sender<Health>,
}

struct State {
    health: Health,
    since: Instant,
    /// A call ran into its deadline: somebody should look whether the module hangs.
    suspected: bool,
    /// When the module began to be started anew, while it is.
    restarting: Option<Instant>,
    ended: bool,
}

/// What the watcher is woken for.
pub(super) enum Watch {
    /// Calls run into their deadline.
    Suspected,
    /// The token is down since then; the module began to be started anew then.
    Down {
        /// Since when.
        since: Instant,
        /// When the restart of the module began, while it is under way.
        restarting: Option<Instant>,
    },
    /// The token is no longer used.
    End,
}

impl Gate {
    pub(super) fn new(label: &str) -> Self {
        let state =
            State { health: Health::Working, since: Instant::now(), suspected: false, restarting: None, ended: false };
        Self {
            label: label.to_owned(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            told: watch::channel(Health::Working).0,
        }
    }

    /// Follows the health of the token.
    pub(super) fn follow(&self) -> watch::Receiver<Health> {
        self.told.subscribe()
    }

    /// Lets a call pass, or says why not.
    pub(super) fn pass(&self) -> Result<(), HsmError> {
        match &self.lock().health {
            Health::Working => Ok(()),
            Health::Refused { reason } => Err(HsmError::Pin {
                token: self.label.clone(),
                reason: format!("the token refused the PIN before ({reason}); put it right and restart"),
            }),
            Health::Recovering { .. } | Health::Lost { .. } => {
                Err(HsmError::Unavailable { operation: "come back from an outage", source: None })
            }
        }
    }

    /// Closes the gate until the healer opens it.
    pub(super) fn close(&self, reason: &str) {
        self.change(|health| match health {
            Health::Working => {
                // It is brought back without a person; what needs one is told by `refuse` and `lose`.
                tracing::warn!(token = self.label, reason, "the token does not work; requests are refused meanwhile");
                Some(Health::Recovering { reason: reason.to_owned() })
            }
            _ => None,
        });
    }

    /// Opens the gate.
    pub(super) fn open(&self) {
        self.change(|health| match health {
            Health::Recovering { .. } => {
                tracing::warn!(token = self.label, "the token works again");
                Some(Health::Working)
            }
            _ => None,
        });
    }

    /// Closes the gate until an officer has acted.
    pub(super) fn refuse(&self, reason: &str) {
        self.change(|health| match health {
            Health::Working | Health::Recovering { .. } => {
                tracing::error!(token = self.label, reason, "an officer must act: the token is not logged in to again");
                Some(Health::Refused { reason: reason.to_owned() })
            }
            _ => None,
        });
    }

    /// Gives the token up in this process.
    pub(super) fn lose(&self, reason: &str) {
        self.change(|health| match health {
            Health::Lost { .. } => None,
            _ => {
                tracing::error!(token = self.label, reason, "the token is lost to this process");
                Some(Health::Lost { reason: reason.to_owned() })
            }
        });
    }

    /// A call ran into its deadline.
    pub(super) fn suspect(&self) {
        self.lock().suspected = true;
        self.changed.notify_all();
    }

    /// Nothing hangs.
    pub(super) fn clear(&self) {
        self.lock().suspected = false;
    }

    /// The module begins to be started anew, or that is over.
    pub(super) fn restarting(&self, begun: Option<Instant>) {
        self.lock().restarting = begun;
        self.changed.notify_all();
    }

    /// Ends watcher and healer.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until there is something to watch.
    pub(super) fn watch(&self) -> Watch {
        let mut state = self.lock();
        loop {
            if state.ended {
                return Watch::End;
            }
            match state.health {
                Health::Recovering { .. } => {
                    return Watch::Down { since: state.since, restarting: state.restarting };
                }
                Health::Working if state.suspected => return Watch::Suspected,
                _ => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the token must be brought back; false when it is no longer used.
    pub(super) fn needs_healing(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.ended {
                return false;
            }
            if matches!(state.health, Health::Recovering { .. }) {
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for this time; false when the token need not or cannot be brought back any more.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let state = self.lock();
        let goes_on = |state: &mut State| !state.ended && matches!(state.health, Health::Recovering { .. });
        let (mut state, _) =
            self.changed.wait_timeout_while(state, time, goes_on).unwrap_or_else(PoisonError::into_inner);
        goes_on(&mut state)
    }

    /// Waits for this time, or until the token is no longer used.
    pub(super) fn tick(&self, time: Duration) {
        let state = self.lock();
        drop(self.changed.wait_timeout_while(state, time, |state| !state.ended));
    }

    fn change(&self, to: impl FnOnce(&Health) -> Option<Health>) {
        let mut state = self.lock();
        if let Some(health) = to(&state.health) {
            state.since = Instant::now();
            state.suspected = false;
            state.health = health.clone();
            self.told.send_replace(health);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
