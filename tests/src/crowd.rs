//! A crowd of clients that hold connections to a key server and do as little as they can: no handshake, half a head, half
//! a body, or nothing after a first request.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
};

use crate::{
    Outcome,
    cluster::Cluster,
    give_up,
    https::{Connection, Https},
    user::User,
};

/// What a client of the crowd is slow with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slow {
    /// The first bytes of a TLS handshake, and no more.
    Handshake,
    /// A request whose head never ends.
    Head,
    /// A request of somebody known, whose body never ends.
    Body,
    /// One request, and no second one.
    Next,
}

impl Slow {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Handshake, Self::Head, Self::Body, Self::Next];
}

/// Connections that are held.
pub struct Crowd {
    url: String,
    stranger: Https,
    known: Https,
    raw: Vec<TcpStream>,
    tls: Vec<Connection>,
}

impl Crowd {
    /// A crowd without members, before the node with this number; the known ones among it are `user`.
    ///
    /// # Errors
    /// When the user's files cannot be read.
    pub fn before(cluster: &mut Cluster, number: u16, user: &User) -> Outcome<Self> {
        let (stranger, known) = (Https::of(cluster, None)?, Https::of(cluster, Some(user))?);
        Ok(Self { url: cluster.node(number)?.url(), stranger, known, raw: Vec::new(), tls: Vec::new() })
    }

    /// One more client.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn add(&mut self, slow: Slow) -> Outcome {
        let client = if slow == Slow::Body { &self.known } else { &self.stranger };
        let mut stream = client.connect(&self.url)?;
        if slow == Slow::Handshake {
            stream.sock.write_all(b"\x16\x03\x01\x02\x00\x01")?;
            self.raw.push(stream.sock);
            return Ok(());
        }
        let sent: &[u8] = match slow {
            Slow::Body => {
                b"POST /v1/list HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"
            }
            Slow::Next => b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
            _ => b"GET /v1/node HTTP/1.1\r\nhost: x\r\nx: ",
        };
        stream.write_all(sent)?;
        if slow == Slow::Next {
            let mut answer = [0; 1024];
            let read = stream.read(&mut answer)?;
            if !answer.get(..read).is_some_and(|answer| answer.starts_with(b"HTTP/1.1 200")) {
                give_up!("a client of the crowd was not answered");
            }
        }
        self.tls.push(stream);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.raw.len() + self.tls.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many connections the server still holds.
    ///
    /// # Errors
    /// When a connection cannot be looked at.
    pub fn held(&mut self) -> Outcome<usize> {
        let mut held = 0;
        for stream in self.raw.iter_mut().chain(self.tls.iter_mut().map(Connection::get_mut)) {
            stream.set_nonblocking(true)?;
            let mut bytes = [0; 4096];
            // What the server says before it closes is of no interest.
            held += loop {
                match stream.read(&mut bytes) {
                    Ok(read) if read > 0 => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break 1,
                    _ => break 0,
                }
            };
        }
        Ok(held)
    }
}
