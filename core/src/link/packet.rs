//! One packet: version (1) ‖ kind (1) ‖ stream (u32 LE) ‖ sequence (u32 LE) ‖ payload (0 to 240) ‖ CRC-32 (u32 LE), in
//! consistent overhead byte stuffing (COBS; Cheshire and Baker, 1999), with a zero byte before and after.
//!
//! A packet has at most 254 bytes before stuffing, so that stuffing adds exactly one byte and can be done in place: each
//! zero becomes the distance to the next one.

use core::fmt;

/// The version of packets this release writes and reads.
pub const VERSION: u8 = 1;
/// The most bytes of payload in a packet.
pub const MAX_PAYLOAD: usize = 240;
/// The most bytes of a packet on the wire, both zero bytes counted.
pub const MAX_PACKET: usize = 1 + MAX_STUFFED + 1;

/// The most bytes between two zero bytes.
pub(super) const MAX_STUFFED: usize = 1 + HEAD + MAX_PAYLOAD + CRC;

/// What a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Device: a transfer starts.
    Begin,
    /// Device: the next bytes of the bundle.
    Bundle,
    /// Device: the next bytes of the container.
    Container,
    /// Device: the transfer is whole; totals.
    End,
    /// Device: the transfer will never be whole.
    Abort,
    /// Workstation: everything before this sequence number has arrived.
    Ack,
    /// Workstation: send again from this sequence number on.
    Resume,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Begin => 1,
            Self::Bundle => 2,
            Self::Container => 3,
            Self::End => 4,
            Self::Abort => 5,
            Self::Ack => 16,
            Self::Resume => 17,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Begin),
            2 => Some(Self::Bundle),
            3 => Some(Self::Container),
            4 => Some(Self::End),
            5 => Some(Self::Abort),
            16 => Some(Self::Ack),
            17 => Some(Self::Resume),
            _ => None,
        }
    }
}

/// A packet whose checksum was right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Which transfer it belongs to: random, not zero.
    pub stream: u32,
    /// Its number in the transfer, from 0; in an answer the number of the packet that is wanted next.
    pub sequence: u32,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

/// Bytes between two zero bytes that are no packet of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Damaged on the way: length, stuffing or checksum are wrong.
    Damaged,
    /// Undamaged, but of a version that this release does not know.
    UnknownVersion(u8),
    /// Undamaged, but of a kind that this release does not know.
    UnknownKind(u8),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("a packet was damaged on the link"),
            Self::UnknownVersion(version) => {
                write!(f, "the link speaks version {version}, which this release does not know")
            }
            Self::UnknownKind(kind) => write!(f, "a packet of kind {kind}, which this release does not know"),
        }
    }
}

impl core::error::Error for Fault {}

/// Writes a packet as it goes on the wire, zero bytes included, and returns it. None if the payload is too long.
pub fn encode<'a>(packet: &Packet<'_>, out: &'a mut [u8; MAX_PACKET]) -> Option<&'a [u8]> {
    if packet.payload.len() > MAX_PAYLOAD {
        return None;
    }
    let end = HEAD + packet.payload.len();
    let (first, rest) = out.split_first_mut()?;
    let (stuffed, after) = rest.split_at_mut_checked(1 + end + CRC)?;
    let (_, raw) = stuffed.split_first_mut()?;
    let (body, crc) = raw.split_at_mut_checked(end)?;
    let (head, payload) = body.split_first_chunk_mut::<HEAD>()?;
    *head = header(packet);
    payload.copy_from_slice(packet.payload);
    crc.copy_from_slice(&crc32(body).to_le_bytes());
    stuff(stuffed);
    *first = 0;
    *after.first_mut()? = 0;
    out.get(..1 + 1 + end + CRC + 1)
}

/// Reads what stood between two zero bytes; `bytes` is used as scratch.
pub(super) fn decode(bytes: &mut [u8]) -> Result<Packet<'_>, Fault> {
    let raw = unstuff(bytes).ok_or(Fault::Damaged)?;
    let (body, crc) = raw.split_last_chunk::<CRC>().ok_or(Fault::Damaged)?;
    if crc32(body) != u32::from_le_bytes(*crc) {
        return Err(Fault::Damaged);
    }
    let (&[version, kind, rest @ ..], payload) = body.split_first_chunk::<HEAD>().ok_or(Fault::Damaged)?;
    if version != VERSION {
        return Err(Fault::UnknownVersion(version));
    }
    let kind = Kind::of(kind).ok_or(Fault::UnknownKind(kind))?;
    let [a, b, c, d, e, f, g, h] = rest;
    let (stream, sequence) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    Ok(Packet { kind, stream, sequence, payload })
}

fn header(packet: &Packet<'_>) -> [u8; HEAD] {
    let [a, b, c, d] = packet.stream.to_le_bytes();
    let [e, f, g, h] = packet.sequence.to_le_bytes();
    [VERSION, packet.kind.code(), a, b, c, d, e, f, g, h]
}

/// Replaces the first byte and every zero by the distance to the next zero, or to the end.
fn stuff(bytes: &mut [u8]) {
    let mut distance = 1u8;
    let mut backwards = bytes.iter_mut().rev();
    let first = backwards.next_back();
    for byte in backwards {
        if *byte == 0 {
            *byte = distance;
            distance = 0;
        }
        distance = distance.wrapping_add(1);
    }
    if let Some(first) = first {
        *first = distance;
    }
}

/// Undoes [`stuff`]; none if the distances do not lead to the end.
fn unstuff(bytes: &mut [u8]) -> Option<&[u8]> {
    let mut at = 0usize;
    let mut next = usize::from(*bytes.first()?);
    loop {
        if next == 0 {
            return None;
        }
        at += next;
        if at == bytes.len() {
            return bytes.get(1..);
        }
        let byte = bytes.get_mut(at)?;
        next = usize::from(core::mem::replace(byte, 0));
    }
}

/// CRC-32 of IEEE 802.3 (reflected, polynomial 0x04C11DB7), four bits at a time: 64 bytes of table are enough for a device.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| NIBBLES.get((crc & 15) as usize).map_or(0, |entry| entry ^ crc >> 4);
    !bytes.iter().fold(!0, |crc, byte| step(step(crc ^ u32::from(*byte))))
}

const NIBBLES: [u32; 16] = {
    let mut table = [0; 16];
    let mut entry = 0;
    while entry < 16 {
        let (mut crc, mut bit) = (entry as u32, 0);
        while bit < 4 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[entry] = crc;
        entry += 1;
    }
    table
};

const HEAD: usize = 1 + 1 + 4 + 4;
const CRC: usize = 4;

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_ethernet() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    proptest! {
        #[test]
        fn stuffing_is_that_of_the_cobs_crate(raw in proptest::collection::vec(0u8..4, 0..=254)) {
            let mut ours = [&[0xaa], &raw[..]].concat();
            stuff(&mut ours);
            prop_assert!(ours.iter().all(|byte| *byte != 0));
            let mut theirs = std::vec![0; raw.len() + 2];
            let length = cobs::try_encode(&raw, &mut theirs).expect("fits");
            if !raw.is_empty() {
                prop_assert_eq!(&ours, &theirs[..length]);
            }
            prop_assert_eq!(unstuff(&mut ours), Some(&raw[..]));
        }

        #[test]
        fn a_packet_survives_the_wire(stream: u32, sequence: u32, payload in proptest::collection::vec(0u8..3, 0..=MAX_PAYLOAD)) {
            let packet = Packet { kind: Kind::Container, stream, sequence, payload: &payload };
            let mut out = [0; MAX_PACKET];
            let wire = encode(&packet, &mut out).expect("fits");
            let (first, rest) = wire.split_first().expect("not empty");
            let (last, stuffed) = rest.split_last().expect("not empty");
            prop_assert_eq!((*first, *last), (0, 0));
            prop_assert!(!stuffed.contains(&0));
            let mut scratch = stuffed.to_vec();
            prop_assert_eq!(decode(&mut scratch), Ok(packet));
        }
    }

    #[test]
    fn one_changed_byte_is_always_noticed() {
        let packet = Packet { kind: Kind::Bundle, stream: 7, sequence: 3, payload: &[0, 1, 2, 0, 0, 255] };
        let mut out = [0; MAX_PACKET];
        let wire = encode(&packet, &mut out).expect("fits").to_vec();
        let stuffed: Vec<u8> = wire[1..wire.len() - 1].to_vec();
        for position in 0..stuffed.len() {
            for value in 1..=255 {
                if stuffed[position] != value {
                    let mut changed = stuffed.clone();
                    changed[position] = value;
                    assert_eq!(decode(&mut changed), Err(Fault::Damaged), "byte {position} = {value}");
                }
            }
            assert_eq!(decode(&mut stuffed[..position].to_vec()), Err(Fault::Damaged), "cut at {position}");
        }
    }

    #[test]
    fn an_undamaged_packet_of_a_later_version_says_so() {
        let mut raw = std::vec![0xaa, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        raw.extend_from_slice(&crc32(&raw[1..]).to_le_bytes());
        stuff(&mut raw);
        assert_eq!(decode(&mut raw), Err(Fault::UnknownVersion(2)));
        let mut raw = std::vec![0xaa, 1, 99, 0, 0, 0, 0, 0, 0, 0, 0];
        raw.extend_from_slice(&crc32(&raw[1..]).to_le_bytes());
        stuff(&mut raw);
        assert_eq!(decode(&mut raw), Err(Fault::UnknownKind(99)));
    }
}
