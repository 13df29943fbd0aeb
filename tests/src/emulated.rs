//! An imaging device in QEMU: `firmware/boards/mps2-an386`, provisioned for a cluster, with a real image before its sensor.
//!
//! The link is QEMU's standard input and output; the monitor (QMP) stops the machine and reads its memory. A machine that is dropped
//! is killed, which is also how it loses its power.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use eds_core::link::{MAX_PACKET, encode};
use eds_firmware::{
    Provision,
    simulator::{Delivered, Hospital, Workstation},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Outcome, Trouble, binaries::source_root, dicom, give_up, process::Process, trouble::During as _};

/// Builds the programs of the board; returns the folder that they are in.
///
/// # Errors
/// When there is no toolchain for the board: `make setup` installs one.
pub fn build() -> Outcome<PathBuf> {
    let script = source_root().join("firmware/board");
    let output = Command::new(&script).arg("mps2-an386").stderr(Stdio::inherit()).output().during(script.display())?;
    if !output.status.success() {
        give_up!("the board could not be built: {}", output.status);
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
}

/// A device, switched off: what is in its flash, its counter, and before its sensor.
pub struct Imaging {
    /// The cluster and its keys.
    pub hospital: Hospital,
    /// What the device will make of the image: header and pixels, as one file.
    pub image: Vec<u8>,
    folder: TempDir,
    program: PathBuf,
}

impl Imaging {
    /// A device with a CT image before its sensor. The padding behind the pixels of that file is no part of the image.
    ///
    /// # Errors
    /// When the board cannot be built, or the set-up was not run.
    pub fn new() -> Outcome<Self> {
        let (folder, hospital) = (TempDir::with_prefix("eds-device-")?, Hospital::new());
        let image = put_before_sensor(folder.path())?;
        let blob = Provision {
            device: Hospital::DEVICE,
            key: hospital.device_key.to_bytes().into(),
            pin: hospital.pin,
            lowest: hospital.directory.version,
            needed: 2,
            directory: &hospital.file,
        };
        provision(folder.path(), &blob)?;
        drop(blob);
        Ok(Self { program: build()?.join("device"), hospital, image, folder })
    }

    /// Switches the device on: it takes its image at once.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn start(&self) -> Outcome<Machine> {
        Machine::start(&self.program, self.folder.path(), &[])
    }
}

/// Puts the CT image before the sensor of a device in this folder; returns what the device will make of it.
///
/// # Errors
/// When the set-up was not run.
pub fn put_before_sensor(folder: &Path) -> Outcome<Vec<u8>> {
    let file = fs::read(dicom::ct_small()?)?;
    let (rows, row_bytes) = (128u16, 256u16);
    let pixels = usize::from(rows) * usize::from(row_bytes);
    let image = file.get(..6_300 + pixels).ok_or_else(|| Trouble::new("another CT_small.dcm"))?.to_vec();
    let mut sensor = [rows.to_le_bytes(), row_bytes.to_le_bytes()].concat();
    sensor.extend_from_slice(&6_300u32.to_le_bytes());
    sensor.extend_from_slice(&image);
    fs::write(folder.join("sensor"), sensor)?;
    Ok(image)
}

/// Writes what a device in this folder is provisioned with.
///
/// # Errors
/// When it is longer than the flash.
pub fn provision(folder: &Path, blob: &Provision<'_>) -> Outcome {
    let mut flash = vec![0; 4096];
    let used = blob.write(&mut flash).during("provisioning")?.len();
    fs::write(folder.join("provision"), flash.get(..used).unwrap_or_default())?;
    Ok(())
}

/// Switches a device in this folder on, with its serial port on a TCP port of this machine, where one workstation after the other
/// may connect. It begins when the first one does.
///
/// # Errors
/// When QEMU does not start.
pub fn start_on_tcp(program: &Path, folder: &Path, port: u16) -> Outcome<Process> {
    let mut command = qemu(program, folder);
    command.args(["-serial", &format!("tcp:127.0.0.1:{port},server=on,wait=on,nodelay=on")]);
    Process::start("device", &mut command, &folder.join("words"))
}

/// Switches a device in this folder on, with its serial port at a terminal of this machine; returns the terminal, too. It begins at
/// once, and sends again what nobody heard.
///
/// # Errors
/// When QEMU does not start, or names no terminal.
pub fn start_on_terminal(program: &Path, folder: &Path) -> Outcome<(Process, PathBuf)> {
    let words = folder.join("words");
    let process = Process::start("device", qemu(program, folder).args(["-serial", "pty"]), &words)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let said = fs::read_to_string(&words)?;
        let named = said.split_whitespace().find(|word| word.starts_with("/dev/pts/"));
        if let Some(terminal) = named {
            return Ok((process, PathBuf::from(terminal)));
        }
        std::thread::yield_now();
    }
    give_up!("QEMU named no terminal")
}

/// The command line of the machine, without its serial port.
fn qemu(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("qemu-system-arm");
    command.current_dir(folder).args(["-M", "mps2-an386", "-display", "none", "-monitor", "none"]);
    command.args(["-semihosting-config", "enable=on,target=native"]);
    for (file, address) in [("provision", "0x30000"), ("sensor", "0x21000000")] {
        if folder.join(file).exists() {
            command.args(["-device", &format!("loader,file={file},addr={address},force-raw=on")]);
        }
    }
    command.arg("-kernel").arg(program);
    command
}

/// A running machine.
pub struct Machine {
    qemu: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    folder: PathBuf,
    // What to answer before the next byte is read.
    held: Option<Vec<u8>>,
    // Dropped with the machine, which ends the watch over it.
    _watched: Sender<()>,
    /// Bytes of the link so far.
    pub received: usize,
    /// Who receives them.
    pub workstation: Workstation,
}

impl Machine {
    /// Starts a program in a folder, with its files `provision` and `sensor` in the machine's memory.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn start(program: &Path, folder: &Path, more: &[&str]) -> Outcome<Self> {
        let mut command = qemu(program, folder);
        command.args(["-serial", "stdio", "-qmp", "unix:monitor,server=on,wait=off"]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(fs::File::create(folder.join("words"))?);
        let mut qemu = command.spawn().during("qemu-system-arm, which `make setup` installs")?;
        let (to, from) = qemu.stdin.take().zip(qemu.stdout.take()).ok_or_else(|| Trouble::new("no pipes"))?;
        let id = Pid::from_child(&qemu);
        let (_watched, watch) = channel::<()>();
        std::thread::spawn(move || {
            // A program that hangs must not hang the tests.
            if watch.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = kill_process(id, Signal::KILL);
            }
        });
        let (folder, workstation) = (folder.to_path_buf(), Workstation::default());
        Ok(Self { qemu, to, from: BufReader::new(from), folder, held: None, _watched, received: 0, workstation })
    }

    /// Receives until `enough` says so or the link ends, and answers as a workstation does, but the byte that was enough only in the
    /// next call. Returns whether it was enough.
    ///
    /// # Errors
    /// When a pipe breaks.
    pub fn receive(&mut self, mut enough: impl FnMut(usize, &[Delivered]) -> bool) -> Outcome<bool> {
        let mut byte = [0];
        loop {
            if let Some(wire) = self.held.take() {
                self.to.write_all(&wire).and_then(|()| self.to.flush()).during("answering the device")?;
            }
            if self.from.read(&mut byte)? == 0 {
                return Ok(false);
            }
            self.received += 1;
            let reply = self.workstation.feed(byte[0]);
            self.held = reply.and_then(|reply| encode(&reply, &mut [0; MAX_PACKET]).map(<[u8]>::to_vec));
            if enough(self.received, &self.workstation.transfers) {
                return Ok(true);
            }
        }
    }

    /// Stops the machine, reads all of its RAM, and lets it go on.
    ///
    /// # Errors
    /// When the monitor refuses.
    pub fn memory(&mut self) -> Outcome<Vec<u8>> {
        let stream = UnixStream::connect(self.folder.join("monitor")).during("QEMU's monitor")?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let dump = format!(r#"{{"val":{RAM_AT},"size":{RAM_BYTES},"filename":"memory"}}"#);
        for (command, arguments) in
            [("qmp_capabilities", "{}"), ("stop", "{}"), ("pmemsave", dump.as_str()), ("cont", "{}")]
        {
            writeln!(&stream, r#"{{"execute":"{command}","arguments":{arguments}}}"#)?;
            // Greeting and events come between the answers.
            loop {
                let line = lines.next().ok_or_else(|| Trouble::new("the monitor is gone"))??;
                if line.contains("\"error\"") {
                    give_up!("QEMU's monitor, {command}: {line}");
                }
                if line.contains("\"return\"") {
                    break;
                }
            }
        }
        Ok(fs::read(self.folder.join("memory"))?)
    }

    /// Waits until the program has ended; returns its exit code and what it said.
    ///
    /// # Errors
    /// When QEMU was killed.
    pub fn end(mut self) -> Outcome<(i32, String)> {
        let code = self.qemu.wait()?.code().ok_or_else(|| Trouble::new("the machine hung and was killed"))?;
        Ok((code, fs::read_to_string(self.folder.join("words"))?))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A figure among the words of a program: a line with its name and a number.
///
/// # Errors
/// When there is none.
pub fn figure(words: &str, name: &str) -> Outcome<f64> {
    let found = words.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    found.ok_or_else(|| Trouble::new(format!("the program did not say {name}: {words}")))
}

/// The RAM that the program may use, as in `memory.x` of the board.
const RAM_AT: u32 = 0x2000_0000;
const RAM_BYTES: u32 = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(300);
