//! Bringing a token back while the server runs: the recovery ladder.
//!
//! 1. A session thread that fails replaces its session and finds the keys anew (`seat`).
//! 2. When the canary fails too, the gate closes. Sessions of all threads are closed, and a fresh one is tried.
//! 3. `C_Finalize`, `C_Initialize`; the token is found by label and serial number, logged in to, the keys found by label
//!    and id, and the whole self-test of a start must hold, also that the token is still the one it was.
//! 4. Again and again, with growing pauses, until it works.
//! 5. A module that cannot be started anew, hangs in that, or an outage longer than `hsm.give_up_ms`: the token is lost
//!    to this process, which ends for its supervisor.
//!
//! No step trusts an error code to tell an outage: tokens do not use those codes. A refused PIN ends the ladder at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use eds_core::ids::NodeId;

use super::{
    direct::Direct,
    gate::{Gate, Watch},
    seat::{Chair, Chairs},
    token::{Restart, Token},
};
use crate::{
    config::HsmConfig,
    hsm::{
        Hsm, HsmError,
        memory::random,
        self_test::{self, described},
    },
};

/// Brings a token back. Dropping it ends that.
pub(super) struct Recovery {
    gate: Arc<Gate>,
    healer: Option<JoinHandle<()>>,
    node: NodeId,
    canary: Arc<Mutex<Vec<u8>>>,
}

struct Healer {
    token: Arc<Token>,
    direct: Direct,
    chairs: Arc<Chairs>,
    known: Known,
}

/// What this token could do when it was opened: another token cannot.
struct Known {
    node: NodeId,
    canary: Arc<Mutex<Vec<u8>>>,
    policy_canary: [u8; 32],
}

/// How a try to bring the token back ended.
enum Tried {
    Later(String),
    Refused(String),
    Never(String),
}

impl Recovery {
    /// Starts watching over a token that works.
    ///
    /// # Errors
    /// When the token does not work after all, or the system starts no threads.
    pub(super) fn start(
        config: &HsmConfig,
        token: &Arc<Token>,
        direct: Direct,
        chairs: &Arc<Chairs>,
    ) -> Result<Self, HsmError> {
        let node = NodeId::from_bytes(*random()?);
        let canary = Arc::new(Mutex::new(self_test::make_canary(&direct, node)?));
        let policy_canary = self_test::make_policy_canary(&direct, node)?;
        // Its session would be one more that the module has to keep.
        direct.rest();
        let gate = Arc::clone(&token.gate);
        let known = Known { node, canary: Arc::clone(&canary), policy_canary };
        let healer = Healer { token: Arc::clone(token), direct, chairs: Arc::clone(chairs), known };
        let watcher = Watcher {
            gate: Arc::clone(&gate),
            chairs: Arc::clone(chairs),
            deadline: config.deadline,
            give_up: config.give_up,
        };
        let no_thread = |_| HsmError::Busy;
        thread::Builder::new().name("token-watch".into()).spawn(move || watcher.run()).map_err(no_thread)?;
        let healer = thread::Builder::new().name("token-heal".into()).spawn(move || healer.run()).map_err(no_thread)?;
        Ok(Self { gate, healer: Some(healer), node, canary })
    }
}

impl Recovery {
    /// Has the token known by its KEK of today: the one of before may leave it.
    ///
    /// # Errors
    /// [`HsmError`]; it is known as before then.
    pub(super) fn renew(&self, hsm: &dyn Hsm) -> Result<(), HsmError> {
        let canary = self_test::make_canary(hsm, self.node)?;
        *self.canary.lock().unwrap_or_else(PoisonError::into_inner) = canary;
        Ok(())
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.gate.end();
        // A healer that hangs in the module is left behind: it would keep the process from ending.
        if let Some(healer) = self.healer.take().filter(|healer| {
            let until = Instant::now() + ENDING;
            while !healer.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            healer.is_finished()
        }) {
            let _ = healer.join();
        }
    }
}

impl Healer {
    fn run(self) {
        while self.token.gate.needs_healing() {
            self.heal();
        }
        self.direct.rest();
    }

    fn heal(&self) {
        let gate = &self.token.gate;
        let mut pause = FIRST_PAUSE;
        let mut told = String::new();
        for attempt in 0_u32.. {
            if !self.clear_chairs() {
                return;
            }
            // Most outages end with the session; what a module holds on to ends with the module.
            let tried = if attempt == 0 { Ok(()) } else { self.restart() };
            match tried.and_then(|()| self.test()) {
                Ok(()) => return gate.open(),
                Err(Tried::Refused(reason)) => return gate.refuse(&reason),
                Err(Tried::Never(reason)) => return gate.lose(&reason),
                Err(Tried::Later(reason)) => {
                    if reason != told {
                        tracing::warn!(attempt, reason, "the token is not back yet");
                        told = reason;
                    }
                }
            }
            if attempt > 0 {
                if !gate.pause(jittered(pause)) {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Closes the sessions of all threads, waiting for those that are in a call. False when that became pointless.
    fn clear_chairs(&self) -> bool {
        self.direct.rest();
        self.chairs.all().iter().all(|chair| {
            while !chair.rest() {
                if !self.token.gate.pause(TICK) {
                    return false;
                }
            }
            true
        })
    }

    fn restart(&self) -> Result<(), Tried> {
        let gate = &self.token.gate;
        gate.restarting(Some(Instant::now()));
        let restarted = self.token.restart();
        gate.restarting(None);
        restarted.map_err(|error| match error {
            Restart::Later(reason) => Tried::Later(reason),
            Restart::Impossible(reason) => Tried::Never(reason),
        })
    }

    fn test(&self) -> Result<(), Tried> {
        // One operation first: a token that cannot do it is not asked for the rest.
        self.direct.try_canary().map_err(|error| match error {
            HsmError::Pin { reason, .. } if self.token.is_refused() => Tried::Refused(reason),
            error => Tried::Later(described(&error)),
        })?;
        let mut checks = self_test::operations(&self.direct);
        let Known { node, canary, policy_canary } = &self.known;
        let canary = canary.lock().unwrap_or_else(PoisonError::into_inner).clone();
        checks.extend(self_test::belongs(&self.direct, *node, canary, policy_canary));
        self.direct.rest();
        let failed = checks.into_iter().find_map(|check| check.outcome.err().map(|reason| (check.what, reason)));
        match failed {
            None => Ok(()),
            Some((what, reason)) => Err(Tried::Later(format!("{what}: {reason}"))),
        }
    }
}

/// Looks whether calls hang. It never calls the module, so that it cannot hang itself.
struct Watcher {
    gate: Arc<Gate>,
    chairs: Arc<Chairs>,
    deadline: Duration,
    give_up: Duration,
}

impl Watcher {
    fn run(self) {
        loop {
            match self.gate.watch() {
                Watch::End => return,
                Watch::Suspected => {
                    let chairs = self.chairs.all();
                    let in_call = chairs.iter().filter(|chair| chair.in_call().is_some()).count();
                    let hanging = |chair: &&Arc<Chair>| chair.in_call().is_some_and(|time| time > self.deadline);
                    if in_call == 0 {
                        self.gate.clear();
                    } else if chairs.iter().filter(hanging).count() == chairs.len() {
                        self.gate.close("every call to its module hangs");
                    }
                }
                Watch::Down { since, restarting } => {
                    // Starting a module reads the whole token: it gets more time than a call.
                    let hangs = restarting.is_some_and(|begun| begun.elapsed() > self.deadline * 4);
                    if hangs {
                        self.gate.lose("its module hangs while it is started anew");
                    } else if since.elapsed() > self.give_up {
                        let time = self.give_up.as_millis();
                        self.gate.lose(&format!("it did not come back within {time} ms (hsm.give_up_ms)"));
                    }
                }
            }
            self.gate.tick(TICK);
        }
    }
}

/// Nodes that lost one network HSM at the same moment must not all come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    let random = random::<1>().map_or(128, |bytes| bytes[0]);
    pause.mul_f64(0.75 + f64::from(random) / 512.0)
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);
const ENDING: Duration = Duration::from_secs(2);
