//! Free ports on the loopback address for key servers, which must come back on the same port after a restart.
//!
//! They are taken below the range from which the system takes ports for outgoing connections, so that none of those can
//! sit on the port of a stopped node. Every port is given once in a process; other processes start elsewhere in the range.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use crate::{Outcome, give_up};

/// A port that nobody listens on.
///
/// # Errors
/// When none of the range is free.
pub fn free() -> Outcome<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u64::from(std::process::id()) * 37;
    for _ in 0..RANGE {
        let step = u64::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from((start + step) % u64::from(RANGE)).unwrap_or(0);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    give_up!("no port between {FIRST} and {} is free", FIRST + RANGE)
}

const FIRST: u16 = 20_000;
const RANGE: u16 = 10_000;
