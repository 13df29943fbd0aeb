//! A child process that never outlives the bench: its output goes to a log, and dropping it ends it by its own id.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Outcome, Trouble, give_up, trouble::During as _};

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    lines: Receiver<String>,
}

impl Process {
    /// Starts a program. Its standard error is added to `log`; its standard output too, line by line, where
    /// [`Process::wait_for`] sees it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Outcome<Self> {
        let file = File::options().create(true).append(true).open(log).during(log.display())?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file.try_clone()?);
        let mut child = command.spawn().during(format_args!("starting {name}"))?;
        let output = child.stdout.take().ok_or_else(|| Trouble::new("no standard output"))?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut file = file;
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = writeln!(file, "{line}");
                let _ = sender.send(line);
            }
        });
        Ok(Self { child, name: name.into(), log: log.into(), lines })
    }

    /// Waits until a line of standard output starts with `prefix` and returns the rest of it.
    ///
    /// # Errors
    /// When the program ends before, or does not say so within `patience`; with the end of its log.
    pub fn wait_for(&mut self, prefix: &str, patience: Duration) -> Outcome<String> {
        let deadline = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.trim().into());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    give_up!("{} did not say {prefix:?} within {patience:?}:\n{}", self.name, tail(&self.log))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    give_up!("{} ended ({status}) before it said {prefix:?}:\n{}", self.name, tail(&self.log))
                }
            }
        }
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it in the middle of whatever it does (SIGSTOP); connections stay open and are not answered.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&self) -> Outcome {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Process::pause`].
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn resume(&self) -> Outcome {
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// When it is not to be ended.
    pub fn end(mut self) -> Outcome<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        Ok(self.child.wait()?)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn ended(mut self) -> Outcome<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Waits until it ends by itself, for this long.
    ///
    /// # Errors
    /// When it still runs then, with the end of its log.
    pub fn ended_within(mut self, patience: Duration) -> Outcome<ExitStatus> {
        let deadline = Instant::now() + patience;
        // The end of its output is the end of the program: nobody else writes there.
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(self.child.wait()?),
                Err(RecvTimeoutError::Timeout) => {
                    give_up!("{} did not end within {patience:?}:\n{}", self.name, tail(&self.log))
                }
            }
        }
    }

    /// Ends it at once (SIGKILL), as a power cut would.
    ///
    /// # Errors
    /// When it is not to be ended.
    pub fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(20)).fold(String::new(), |text, line| text + "  | " + line + "\n")
}
