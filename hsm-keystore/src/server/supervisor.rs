//! What the server tells its supervisor, by the protocol of sd_notify(3): that it serves, that it loads files again, that it
//! stops, how it is, and that it lives.
//!
//! A message is one datagram to the socket that `NOTIFY_SOCKET` names, by path or, after an `@`, in Linux's abstract
//! namespace. Without that variable nothing is told. A supervisor that does not listen never keeps the server from
//! serving. A sign of life is sent only by the loop that accepts connections, and only after a task and a thread for blocking
//! work have had their turn: a server that cannot work on requests any more is silent, and is started anew.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Interval, MissedTickBehavior, interval},
};

/// The supervisor of this process, or none.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    pulse: Option<Duration>,
}

impl Supervisor {
    /// What the environment names; none, with a warning, when what it names cannot be used.
    pub fn of_environment() -> Self {
        let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
            return Self::default();
        };
        let pulse = pulse(env::var_os("WATCHDOG_USEC"), env::var_os("WATCHDOG_PID"), process::id());
        Self::at(&socket, pulse).unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; the supervisor is told nothing");
            Self::default()
        })
    }

    /// The supervisor that listens at this socket (`/PATH` or `@NAME`), and how often it wants a sign of life.
    ///
    /// # Errors
    /// When the socket has another form, or the system gives no socket.
    pub fn at(socket: &OsStr, pulse: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(socket)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither /PATH nor @NAME")),
        };
        let own = UnixDatagram::unbound()?;
        own.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket: Some((own, address)), pulse })
    }

    /// The server listens, and every check held; or it has loaded again what it was told to.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// The server loads files again; [`Supervisor::ready`] ends that.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        // With the time, so that units of `Type=notify-reload` know which reload is meant.
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS=loads authorities and lists again"));
    }

    /// The server takes no new connections, and ends soon.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={}", line(status)));
    }

    /// How the server is, for a person.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", line(status)));
    }

    /// The signs of life that the supervisor wants, for the loop that gives them.
    pub(super) fn pulse(&self) -> Pulse<'_> {
        let interval = self.pulse.map(|every| {
            let mut interval = interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Pulse { supervisor: self, interval, turn: None }
    }

    fn tell(&self, message: &str) {
        if let Some((own, address)) = &self.socket
            && let Err(error) = own.send_to_addr(message.as_bytes(), address)
        {
            tracing::warn!(%error, "the supervisor was not told");
        }
    }
}

/// Signs of life while somebody awaits them.
pub(super) struct Pulse<'a> {
    supervisor: &'a Supervisor,
    interval: Option<Interval>,
    /// A turn on the threads that do the work, under way.
    turn: Option<JoinHandle<bool>>,
}

impl Pulse<'_> {
    /// Done when a sign of life was given; never, when none is wanted or the threads that do the work take no more of it.
    /// May be dropped and awaited again.
    pub(super) async fn beat(&mut self) {
        let Some(interval) = &mut self.interval else { return std::future::pending().await };
        if self.turn.is_none() {
            interval.tick().await;
        }
        let turn = self.turn.get_or_insert_with(|| tokio::spawn(async { spawn_blocking(|| ()).await.is_ok() }));
        let done = turn.await;
        self.turn = None;
        if done.is_ok_and(|done| done) {
            self.supervisor.tell("WATCHDOG=1");
        }
    }
}

/// Half of what the supervisor allows, if it is this process that it watches.
fn pulse(microseconds: Option<OsString>, watched: Option<OsString>, own: u32) -> Option<Duration> {
    let number = |text: OsString| text.to_str().and_then(|text| text.parse::<u64>().ok());
    if watched.is_some_and(|watched| number(watched) != Some(u64::from(own))) {
        return None;
    }
    microseconds.and_then(number).filter(|allowed| *allowed >= 2).map(|allowed| Duration::from_micros(allowed / 2))
}

/// A status is one line: another would be another message to the supervisor.
fn line(status: &str) -> String {
    status.replace(|character: char| character.is_control(), " ")
}

/// How long a supervisor whose queue is full may keep the server waiting.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    /// What the supervisor hears next.
    fn heard(listener: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let length = listener.recv(&mut bytes).expect("a message in time");
        String::from_utf8(bytes[..length].to_vec()).expect("text")
    }

    fn listen(address: &SocketAddr) -> UnixDatagram {
        let listener = UnixDatagram::bind_addr(address).expect("binds");
        listener.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        listener
    }

    fn is_told_everything(listener: &UnixDatagram, supervisor: &Supervisor) {
        supervisor.ready("serves");
        assert_eq!(heard(listener), "READY=1\nSTATUS=serves");
        supervisor.status("the token is away\nREADY=1");
        assert_eq!(heard(listener), "STATUS=the token is away READY=1");
        supervisor.stopping("stops");
        assert_eq!(heard(listener), "STOPPING=1\nSTATUS=stops");
        supervisor.reloading();
        let reload = heard(listener);
        let time = reload.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.split_once('\n'));
        assert!(time.is_some_and(|(time, _)| time.parse::<u64>().is_ok_and(|time| time > 0)), "{reload}");
    }

    #[test]
    fn a_supervisor_at_a_path_is_told() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("notify");
        let listener = listen(&SocketAddr::from_pathname(&path).expect("fits"));
        is_told_everything(&listener, &Supervisor::at(path.as_os_str(), None).expect("a socket"));
    }

    #[test]
    fn a_supervisor_at_an_abstract_name_is_told() {
        let name = format!("eds-supervisor-test-{}", process::id());
        let listener = listen(&SocketAddr::from_abstract_name(&name).expect("fits"));
        is_told_everything(&listener, &Supervisor::at(OsStr::new(&format!("@{name}")), None).expect("a socket"));
    }

    #[test]
    fn sockets_of_other_forms_are_refused() {
        for socket in ["vsock:2:1", "relative/path"] {
            assert!(Supervisor::at(OsStr::new(socket), None).is_err(), "{socket}");
        }
    }

    #[test]
    fn a_supervisor_that_went_away_does_not_keep_the_server() {
        let folder = tempfile::tempdir().expect("a directory");
        let supervisor = Supervisor::at(folder.path().join("gone").as_os_str(), None).expect("a socket");
        supervisor.ready("serves");
    }

    /// That nobody gives a sign of life: the socket is empty.
    fn is_silent(listener: &UnixDatagram) {
        listener.set_nonblocking(true).expect("set");
        let silent = listener.recv(&mut [0; 16]).expect_err("no sign of life");
        assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
        listener.set_nonblocking(false).expect("set");
    }

    #[test]
    fn there_is_no_sign_of_life_while_the_threads_that_do_the_work_hang() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("notify");
        let listener = listen(&SocketAddr::from_pathname(&path).expect("fits"));
        let supervisor = Supervisor::at(path.as_os_str(), Some(Duration::from_millis(5))).expect("a socket");
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.max_blocking_threads(1).enable_time().build().expect("made");
        runtime.block_on(async {
            let mut pulse = supervisor.pulse();
            for _ in 0..3 {
                pulse.beat().await;
                assert_eq!(heard(&listener), "WATCHDOG=1");
            }
            // The only thread for blocking work hangs; the loop still turns.
            let (release, hang) = std::sync::mpsc::channel::<()>();
            let hung = spawn_blocking(move || hang.recv());
            for _ in 0..3 {
                let beat = tokio::time::timeout(Duration::from_millis(50), pulse.beat()).await;
                assert!(beat.is_err(), "a sign of life of a server that hangs");
            }
            is_silent(&listener);
            drop(release);
            let _ = hung.await.expect("ends");
            pulse.beat().await;
            assert_eq!(heard(&listener), "WATCHDOG=1");
            is_silent(&listener);
        });
    }

    #[test]
    fn signs_of_life_are_at_half_of_what_is_allowed_and_for_the_watched_process_only() {
        let text = |text: &str| Some(OsString::from(text));
        let half = Some(Duration::from_secs(15));
        assert_eq!(pulse(text("30000000"), None, 7), half);
        assert_eq!(pulse(text("30000000"), text("7"), 7), half);
        assert_eq!(pulse(text("30000000"), text("8"), 7), None);
        assert_eq!(pulse(None, None, 7), None);
        for wrong in ["", "0", "1", "-5", "soon"] {
            assert_eq!(pulse(text(wrong), None, 7), None, "{wrong}");
        }
    }
}
