//! A slow network before a node: forwards a port byte by byte, and can hold back the answers for a while.
//!
//! TLS passes through it unopened, so client and node see each other as they would on a slow line.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::Outcome;

/// A forwarder in front of a port. It lives as long as the process: threads that wait for a connection end with it.
#[derive(Clone, Debug)]
pub struct Relay {
    port: u16,
    target: Arc<AtomicU16>,
    delay: Arc<AtomicU64>,
}

impl Relay {
    /// Starts to forward a new port of the loopback address to `target`.
    ///
    /// # Errors
    /// When no port can be opened.
    pub fn start(target: u16) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::ports::free()?))?;
        let target = Arc::new(AtomicU16::new(target));
        let relay = Self { port: listener.local_addr()?.port(), target, delay: Arc::default() };
        let (target, delay) = (Arc::clone(&relay.target), Arc::clone(&relay.delay));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let _ = forward(&client, target.load(Ordering::Relaxed), &delay);
            }
        });
        Ok(relay)
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forwards new connections to another port from now on, as a load balancer does.
    pub fn redirect(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
    }

    /// Holds every piece of an answer back for this long, from now on.
    pub fn delay_answers(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn forward(client: &TcpStream, target: u16, delay: &Arc<AtomicU64>) -> Outcome {
    let node = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    node.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (from_client, to_node) = (client.try_clone()?, node.try_clone()?);
    let (from_node, to_client, delay) = (node, client.try_clone()?, Arc::clone(delay));
    std::thread::spawn(move || copy(from_client, to_node, || Duration::ZERO));
    std::thread::spawn(move || copy(from_node, to_client, || Duration::from_millis(delay.load(Ordering::Relaxed))));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, delay: impl Fn() -> Duration) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let held_back = delay();
        if !held_back.is_zero() {
            std::thread::sleep(held_back);
        }
        if to.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn answers_are_held_back_and_requests_are_not() -> Outcome {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let relay = Relay::start(listener.local_addr()?.port())?;
        relay.delay_answers(Duration::from_millis(300));
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port()))?;
        let start = Instant::now();
        client.write_all(b"question")?;
        let (mut node, _) = listener.accept()?;
        let mut question = [0; 8];
        node.read_exact(&mut question)?;
        assert!(start.elapsed() < Duration::from_millis(300));
        node.write_all(b"answer")?;
        let mut answer = [0; 6];
        client.read_exact(&mut answer)?;
        assert!(start.elapsed() >= Duration::from_millis(300));
        assert_eq!((&question, &answer), (b"question", b"answer"));
        Ok(())
    }
}
