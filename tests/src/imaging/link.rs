//! The device's end of a TCP link that breaks: it keeps a window of packets, sends again what was not acknowledged, and goes
//! back where it is asked to.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use eds_core::link::{Kind, Reader};

use crate::{Outcome, give_up, trouble::During as _};

/// Everything that crossed the line, both ways, as somebody who listens would have it.
#[derive(Default)]
pub struct Crossed {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many connections there were.
    pub connections: usize,
}

/// Sends packets to whoever listens at `address`, until all are acknowledged. Before each connection but the first, `broken` is
/// called: it may do to the other side what it wants. A connection breaks after so many packets as `breaks` says in turn, and
/// those after the last of them do not.
///
/// # Errors
/// When nobody listens, or a packet is asked for that is no longer kept.
pub fn send(
    address: &str,
    packets: &[Vec<u8>],
    window: usize,
    breaks: &[usize],
    mut broken: impl FnMut(usize) -> Outcome,
) -> Outcome<Crossed> {
    let (mut crossed, mut acknowledged) = (Crossed::default(), 0);
    let mut breaks = breaks.iter();
    while acknowledged < packets.len() {
        if crossed.connections > 0 {
            broken(crossed.connections)?;
        }
        let mut line = connect(address)?;
        crossed.connections += 1;
        let mut left = breaks.next().copied().unwrap_or(usize::MAX);
        let (mut reader, mut next, mut buffer) = (Reader::new(), acknowledged, [0; 4096]);
        'line: while acknowledged < packets.len() {
            while next < packets.len() && next < acknowledged + window {
                if left == 0 {
                    let _ = line.shutdown(Shutdown::Both);
                    break 'line;
                }
                left -= 1;
                let Some(packet) = packets.get(next) else { break };
                crossed.bytes.extend_from_slice(packet);
                if line.write_all(packet).is_err() {
                    break 'line;
                }
                next += 1;
            }
            let Ok(length @ 1..) = line.read(&mut buffer) else { break };
            let heard = buffer.get(..length).unwrap_or_default();
            crossed.bytes.extend_from_slice(heard);
            for byte in heard {
                let Some(Ok(packet)) = reader.push(*byte) else { continue };
                let wanted = usize::try_from(packet.sequence)?;
                if wanted < acknowledged && packet.kind == Kind::Resume {
                    give_up!("packet {wanted} is asked for again, and {acknowledged} were acknowledged");
                }
                acknowledged = acknowledged.max(wanted);
                next = if packet.kind == Kind::Resume { wanted } else { next.max(acknowledged) };
            }
        }
    }
    Ok(crossed)
}

/// Connects to who listens already.
fn connect(address: &str) -> Outcome<TcpStream> {
    let line = TcpStream::connect(address).during(address)?;
    line.set_nodelay(true)?;
    // A device that waits in vain sends again.
    line.set_read_timeout(Some(PATIENCE))?;
    Ok(line)
}

const PATIENCE: Duration = Duration::from_secs(30);
