//! The section `[limits]`: bytes, time and connections that clients may take. All of it may be left out.

use std::{ops::RangeInclusive, time::Duration};

use super::reader::Section;
use crate::server::Limits;

/// Reads the section.
pub(super) fn read(section: &Section<'_>) -> Limits {
    let usual = Limits::default();
    let count = |key, usual: usize, allowed: RangeInclusive<u64>| {
        let hint = "leave it out to have the usual limit; docs/keystore.md lists them";
        usize::try_from(section.number(key, usual as u64, allowed, hint)).unwrap_or(usual)
    };
    let time = |key, usual: Duration| {
        let usual = u64::try_from(usual.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(section.number(key, usual, 10..=3_600_000, "give milliseconds; 1000 is a second"))
    };
    Limits {
        connections: count("connections", usual.connections, 1..=1_000_000),
        connections_per_address: count("connections_per_address", usual.connections_per_address, 1..=1_000_000),
        handshake: time("handshake_ms", usual.handshake),
        head: time("head_ms", usual.head),
        head_bytes: count("head_bytes", usual.head_bytes, 8_192..=1_048_576),
        head_fields: count("head_fields", usual.head_fields, 16..=1_000),
        body: time("body_ms", usual.body),
        body_bytes: count("body_bytes", usual.body_bytes, 65_536..=16_777_216),
        bodies_bytes: count("bodies_bytes", usual.bodies_bytes, 16_777_216..=68_719_476_736),
        request: time("request_ms", usual.request),
        answer: time("answer_ms", usual.answer),
        idle: time("idle_ms", usual.idle),
    }
}
