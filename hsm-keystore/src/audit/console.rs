//! What officers do at a node's own command line, in its audit log: two entries for an act, with one request id.
//!
//! The first is durable before anything is touched, so that nothing is done without a trace, even by who is killed in the
//! middle; the second says what came of it. One process writes a log: while a server has it open, entries are handed to
//! the server ([`listener`]), and else the command opens the log itself. An act whose first entry cannot be written is
//! not begun.
//!
//! Who acts is the user id that the kernel tells, and the login that it belongs to. That is as good as the machine: who
//! is root on it can be any user, and can open the token as well.

pub mod listener;

use std::{
    fmt,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::geteuid;

use super::{
    AppendError, Decision, Log, OpenError, Operation, Outcome, Proof, RequestId, Who, checkpoint::Verifier,
    log::Options, signer,
};
use crate::{
    config::AuditConfig,
    hsm::{Hsm, HsmError, memory::random, self_test::described},
    identity::Identity,
    node::{Clock, SystemClock},
};

/// The log that officers' acts go to.
pub struct Console {
    options: Options,
    /// Signs what is written while no server does.
    signer: Option<Arc<dyn Hsm>>,
    /// How long it waits for a log that is in use by somebody who does not take entries yet.
    patience: Duration,
}

/// An act that was begun, and of which the log does not know the outcome yet.
#[must_use = "what came of an act belongs in the log, too"]
pub struct Act<'a> {
    console: &'a Console,
    decision: Decision,
}

/// An entry about an act was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log cannot be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Another process has the log open, and takes no entries.
    #[error(
        "the audit log in {} is in use, and who uses it takes no entries of officers: {reason}\nhint: wait until the server \
         has started, or stop it", directory.display()
    )]
    NotTaken {
        /// The directory of the log.
        directory: PathBuf,
        /// What the other process said, or how it could not be asked.
        reason: String,
    },
    /// Files of the wrong owner would keep the server from writing its log.
    #[error(
        "the audit log in {} belongs to uid {owner}, and this is uid {me}\nhint: run this as the user of the server, as \
         with `runuser -u eds-keystored -- eds-keystored …`", directory.display()
    )]
    Owner {
        /// The directory of the log.
        directory: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        me: u32,
    },
    /// No random number for the request id.
    #[error(transparent)]
    Random(#[from] HsmError),
    /// The act was done, or refused; only the log does not know.
    #[error("the outcome of this is not in the audit log ({done})")]
    Unsaid {
        /// What came of the act.
        done: String,
        /// Why the log does not know.
        #[source]
        source: Box<ConsoleError>,
    },
}

impl Console {
    /// The log of this process of a node. With a token, what is written while no server runs is signed at once.
    pub fn new(config: &AuditConfig, identity: &Identity, signer: Option<Arc<dyn Hsm>>) -> Self {
        let origin = config.origin(&identity.node);
        let verifier = Verifier::new(&origin, &identity.audit_key);
        let options = Options { verifier, ..Options::new(&config.path, origin) };
        Self { options, signer, patience: PATIENCE }
    }

    /// Writes that an act begins. Nothing may be done before.
    ///
    /// # Errors
    /// [`ConsoleError`]: leave it undone.
    pub fn begin(&self, operation: Operation, detail: impl fmt::Display) -> Result<Act<'_>, ConsoleError> {
        let mut decision = Decision::plain(0, operation, officer());
        decision.request = RequestId(*random()?);
        self.write(Decision { detail: format!("begun: {detail}"), ..decision.clone() })?;
        Ok(Act { console: self, decision })
    }

    /// Writes what was done already, where there was no log before.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn tell(&self, operation: Operation, detail: impl fmt::Display) -> Result<(), ConsoleError> {
        let request = RequestId(*random()?);
        self.write(Decision { request, detail: detail.to_string(), ..Decision::plain(0, operation, officer()) })
    }

    fn write(&self, mut decision: Decision) -> Result<(), ConsoleError> {
        let directory = &self.options.directory;
        let begun = Instant::now();
        loop {
            decision.time = SystemClock.now_milliseconds();
            match listener::hand_over(directory, &decision) {
                Err(error) if listener::is_absent(&error) => {}
                // A server that was killed before it answered. It may have written the entry, which is there twice then.
                Err(error) if listener::ended(&error) && begun.elapsed() < self.patience => continue,
                Err(error) => return Err(self.not_taken(error.to_string())),
                Ok(answer) => return answer.map_err(|reason| self.not_taken(reason)),
            }
            self.check_owner()?;
            match Log::open(&self.options, decision.time) {
                Ok((log, _)) => {
                    log.append_blocking(vec![decision])?;
                    self.sign(&log);
                    return Ok(());
                }
                // A server that starts, or a command like this one. The opening itself waited for a moment.
                Err(OpenError::InUse(_)) if begun.elapsed() < self.patience => {}
                Err(OpenError::InUse(_)) => return Err(self.not_taken("it does not listen".to_owned())),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn not_taken(&self, reason: String) -> ConsoleError {
        ConsoleError::NotTaken { directory: self.options.directory.clone(), reason }
    }

    fn check_owner(&self) -> Result<(), ConsoleError> {
        let (directory, me) = (&self.options.directory, geteuid().as_raw());
        match std::fs::metadata(directory) {
            Ok(there) if there.uid() != me => {
                Err(ConsoleError::Owner { directory: directory.clone(), owner: there.uid(), me })
            }
            // What is not there is told by who opens it.
            _ => Ok(()),
        }
    }

    /// The server signs at its next start, if this fails.
    fn sign(&self, log: &Log) {
        if let Some(hsm) = &self.signer
            && let Err(error) = signer::sign(log, hsm, SystemClock.now())
        {
            tracing::warn!(error = described(&error), "the audit log has no checkpoint of this yet");
        }
    }
}

impl Act<'_> {
    /// Keeps how far it is, for the entry that says that it did not come to its end.
    pub fn came_to(&mut self, far: impl fmt::Display) {
        self.decision.detail = far.to_string();
    }

    /// Writes what was done.
    ///
    /// # Errors
    /// [`ConsoleError::Unsaid`].
    pub fn done(self, detail: impl fmt::Display) -> Result<(), ConsoleError> {
        let detail = format!("done: {detail}");
        self.end(Decision { detail: detail.clone(), ..self.decision.clone() }, detail)
    }

    /// Writes that it was refused, and nothing was done.
    ///
    /// # Errors
    /// [`ConsoleError::Unsaid`].
    pub fn refused(self, reason: &dyn std::error::Error) -> Result<(), ConsoleError> {
        self.ended(reason, Outcome::Refused)
    }

    /// Writes that it was not done, or not to its end.
    ///
    /// # Errors
    /// [`ConsoleError::Unsaid`].
    pub fn failed(self, reason: &dyn std::error::Error) -> Result<(), ConsoleError> {
        self.ended(reason, Outcome::Failed)
    }

    /// Writes what came of the act, before that is told: what was done, that it was refused, or that it failed.
    ///
    /// # Errors
    /// Those of the act, and [`ConsoleError::Unsaid`].
    pub fn ends<T, E: std::error::Error + From<ConsoleError>>(
        self,
        outcome: Result<T, E>,
        is_refusal: impl FnOnce(&E) -> bool,
        done: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        match &outcome {
            Ok(value) => self.done(done(value))?,
            Err(error) if is_refusal(error) => self.refused(error)?,
            Err(error) => self.failed(error)?,
        }
        outcome
    }

    fn ended(self, reason: &dyn std::error::Error, outcome: fn(String) -> Outcome) -> Result<(), ConsoleError> {
        // Hints are for who sits there.
        let reason = reason.to_string().lines().next().unwrap_or_default().to_owned();
        self.end(Decision { outcome: outcome(reason.clone()), ..self.decision.clone() }, reason)
    }

    fn end(&self, decision: Decision, done: String) -> Result<(), ConsoleError> {
        self.console.write(decision).map_err(|source| ConsoleError::Unsaid { done, source: Box::new(source) })
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Longer than a server takes from the opening of its log to its first answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who runs this command.
fn officer() -> Who {
    Who { proof: Proof::Console, display: uid(geteuid().as_raw()), subject: None, evidence: login() }
}

fn uid(uid: u32) -> String {
    format!("uid {uid}")
}

/// The login that this process belongs to, which the kernel keeps through `su` and `sudo`.
fn login() -> String {
    let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse::<u32>().ok());
    match login {
        Some(login) if login != u32::MAX => format!("login uid {login}"),
        _ => "no login session".to_owned(),
    }
}

#[cfg(test)]
mod tests;
