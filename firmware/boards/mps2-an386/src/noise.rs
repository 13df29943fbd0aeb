//! Noise and counter of the host, where a real part has a generator and flash.

use eds_firmware::{Counter, EntropySource};

use crate::machine::{close, open, read_file, write_file};

/// The host's `/dev/urandom`.
pub struct HostNoise(usize);

/// The host does not give it.
#[derive(Clone, Copy, Debug)]
pub struct NoHost;

impl HostNoise {
    /// Opens it.
    ///
    /// # Errors
    /// When the host has none.
    pub fn new() -> Result<Self, NoHost> {
        open(c"/dev/urandom", READ_BINARY).map(Self).ok_or(NoHost)
    }
}

impl EntropySource for HostNoise {
    type Error = NoHost;
    const MIN_ENTROPY_BITS: u8 = 8;

    fn fill(&mut self, samples: &mut [u8]) -> Result<(), NoHost> {
        if read_file(self.0, samples) { Ok(()) } else { Err(NoHost) }
    }
}

/// The last number is in the file `counter` in the folder where QEMU runs, as eight bytes. The host's kernel keeps it when QEMU
/// is killed, which is all the loss of power there is here; a real part writes to its flash or to a battery-backed register.
pub struct HostCounter;

impl Counter for HostCounter {
    type Error = NoHost;

    fn advance(&mut self) -> Result<u64, NoHost> {
        let mut bytes = [0; 8];
        if let Some(file) = open(c"counter", READ_BINARY) {
            let whole = read_file(file, &mut bytes);
            close(file);
            if !whole {
                return Err(NoHost);
            }
        }
        let next = u64::from_le_bytes(bytes).checked_add(1).ok_or(NoHost)?;
        // Written without truncating: eight bytes in one call are there, or the old ones are.
        let file = open(c"counter", UPDATE_BINARY).or_else(|| open(c"counter", WRITE_BINARY)).ok_or(NoHost)?;
        let written = write_file(file, &next.to_le_bytes());
        if close(file) && written { Ok(next) } else { Err(NoHost) }
    }
}

/// Modes of OPEN: "rb", "r+b", "wb".
const READ_BINARY: usize = 1;
const UPDATE_BINARY: usize = 3;
const WRITE_BINARY: usize = 5;
