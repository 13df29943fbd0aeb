//! What a workstation makes of a link: the golden recording, every cut, damage, loss, resets, and a line that breaks.

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    Error,
    container::Header,
    ids::{DeviceId, Epoch, FileId, KeyId, NodeId},
};

const RECORDING: &[u8] = include_bytes!("../../tests/golden/device-link-v1.bin");
const MANIFEST: &[u8] = include_bytes!("../../tests/golden/manifest-device-v1.bin");
const SEALED: &[u8] = include_bytes!("../../tests/golden/sealed-message-v1.bin");
const CONTAINER: &[u8] = include_bytes!("../../tests/golden/container-v1.eds");
const STREAM: u32 = 0x0102_0304;

/// What came out of a link.
#[derive(Default)]
struct Arrived {
    begun: Vec<Begin>,
    bundle: Vec<u8>,
    container: Vec<u8>,
    complete: usize,
    aborted: Option<AbortReason>,
    faults: usize,
    errors: Vec<Error>,
    replies: Vec<Packet<'static>>,
}

#[derive(Default)]
struct Workstation {
    reader: Reader,
    receiver: Receiver,
    arrived: Arrived,
}

impl Workstation {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some(found) = self.reader.push(*byte) else { continue };
            let Ok(packet) = found else {
                self.arrived.faults += 1;
                self.arrived.replies.extend(self.receiver.resume().map(|reply| reply.packet()));
                continue;
            };
            let (event, reply) = match self.receiver.take(&packet) {
                Ok(taken) => taken,
                Err(error) => {
                    self.arrived.errors.push(error);
                    continue;
                }
            };
            match event {
                Event::Begun { begin, .. } => {
                    self.arrived.begun.push(begin);
                    (self.arrived.bundle, self.arrived.container) = (Vec::new(), Vec::new());
                }
                Event::Bundle(bytes) => self.arrived.bundle.extend_from_slice(bytes),
                Event::Container(bytes) => self.arrived.container.extend_from_slice(bytes),
                Event::Complete(_) => self.arrived.complete += 1,
                Event::Aborted(reason) => self.arrived.aborted = Some(reason),
                Event::Repeated | Event::Gap | Event::Foreign => {}
            }
            self.arrived.replies.extend(reply.map(|reply| reply.packet()));
        }
    }
}

fn receive(bytes: &[u8]) -> Arrived {
    let mut workstation = Workstation::default();
    workstation.feed(bytes);
    workstation.arrived
}

fn begin(window: u8) -> Begin {
    Begin {
        window,
        device: DeviceId::from_bytes([0x44; 16]),
        counter: 5,
        key: KeyId::from_bytes([0x11; 16]),
        file: FileId::from_bytes(core::array::from_fn(|n| 0x10 + n as u8)),
    }
}

fn bundle() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink = |piece: &[u8]| -> Result<(), Error> {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    let mut writer = BundleWriter::begin(3, MANIFEST, &mut sink).expect("in range");
    for node in [0x31, 0x32, 0x33] {
        writer.share(NodeId::from_bytes([node; 16]), SEALED, &mut sink).expect("announced");
    }
    writer.finish().expect("all");
    bytes
}

/// The packets of a transfer, each as it goes on the wire.
fn packets(stream: u32, window: u8, container: &[u8]) -> Vec<Vec<u8>> {
    let (start, bundle) = (begin(window).to_bytes(), bundle());
    let mut totals = Totals::new(&start);
    totals.bundle(&bundle).expect("short");
    totals.container(container).expect("after the bundle");
    let mut payloads = vec![(Kind::Begin, start.to_vec())];
    payloads.extend(bundle.chunks(MAX_PAYLOAD).map(|piece| (Kind::Bundle, piece.to_vec())));
    payloads.extend(container.chunks(MAX_PAYLOAD).map(|piece| (Kind::Container, piece.to_vec())));
    payloads.push((Kind::End, totals.end().to_bytes().to_vec()));
    let numbered = (0..).zip(&payloads);
    numbered.map(|(sequence, (kind, payload))| wire(*kind, stream, sequence, payload)).collect()
}

fn wire(kind: Kind, stream: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    encode(&Packet { kind, stream, sequence, payload }, &mut [0; MAX_PACKET]).expect("fits").to_vec()
}

#[test]
fn the_golden_recording_is_received_and_written_alike() {
    assert!(packets(STREAM, 0, CONTAINER).concat() == RECORDING, "another recording is written");
    let arrived = receive(RECORDING);
    assert_eq!((arrived.complete, arrived.faults, &arrived.begun[..]), (1, 0, &[begin(0)][..]));
    assert!(arrived.bundle == bundle() && arrived.container == CONTAINER, "other bytes arrived");
    assert!(arrived.replies.is_empty(), "a link without a way back was answered");
    let parsed = Bundle::parse(&arrived.bundle).expect("a bundle");
    assert_eq!(parsed.manifest_bytes(), MANIFEST);
    let shares: Vec<_> = parsed.shares().collect();
    assert_eq!(shares, [0x31, 0x32, 0x33].map(|node| (NodeId::from_bytes([node; 16]), SEALED)));
}

#[test]
fn a_recording_cut_anywhere_is_incomplete_and_a_part_of_the_whole() {
    let mut workstation = Workstation::default();
    for (position, byte) in RECORDING.iter().enumerate() {
        let arrived = &workstation.arrived;
        assert_eq!(arrived.complete, 0, "called complete when cut at {position}");
        assert!(arrived.begun.is_empty() || workstation.receiver.incomplete() == Some(begin(0)), "cut at {position}");
        workstation.feed(&[*byte]);
    }
    assert_eq!((workstation.arrived.complete, workstation.receiver.incomplete()), (1, None));
}

#[test]
fn a_device_that_was_reset_begins_anew_and_the_old_transfer_is_named() {
    let old = packets(7, 0, CONTAINER);
    for cut in [1, 2, 5, old.len() - 1] {
        // The cut goes through the middle of a packet.
        let mut line = old[..cut].concat();
        line.extend_from_slice(&old[cut][..old[cut].len() / 2]);
        let mut workstation = Workstation::default();
        workstation.feed(&line);
        line.clear();
        let fresh = packets(8, 0, &CONTAINER[..1000]);
        let mut seen = None;
        for byte in fresh.concat() {
            if let Some(Ok(packet)) = workstation.reader.push(byte)
                && let Ok((Event::Begun { replaced, .. }, _)) = workstation.receiver.take(&packet)
            {
                seen = Some(replaced);
            }
        }
        assert_eq!(seen, Some(Some(begin(0))), "the unfinished one is not named, cut at {cut}");
        assert_eq!(workstation.receiver.incomplete(), None);
        // What is left over of the old one changes nothing.
        workstation.feed(&old[cut..].concat());
        assert_eq!((workstation.receiver.incomplete(), workstation.arrived.complete), (None, 0));
    }
}

#[test]
fn what_no_device_sends_is_refused() {
    let good = packets(7, 0, &CONTAINER[..500]);
    let end = good.len() - 1;
    let with = |position: usize, packet: Vec<u8>| {
        let mut changed = good.clone();
        changed[position] = packet;
        receive(&changed.concat())
    };
    let number = u32::try_from(end).expect("few");
    // Totals of something else; an end of the wrong length; the container before any bundle; an empty piece.
    let wrong = End { bundle: 1, container: 500, digest: [0; 32] }.to_bytes();
    for (arrived, error) in [
        (with(end, wire(Kind::End, 7, number, &wrong)), Error::Mismatch),
        (with(end, wire(Kind::End, 7, number, &wrong[1..])), Error::Malformed),
        (with(1, wire(Kind::Container, 7, 1, &[1])), Error::Malformed),
        (with(1, wire(Kind::Bundle, 7, 1, &[])), Error::Malformed),
        (with(2, wire(Kind::End, 7, 2, &wrong)), Error::Malformed),
        (with(1, wire(Kind::Begin, 7, 1, &begin(0).to_bytes())), Error::Malformed),
    ] {
        assert_eq!((arrived.complete, arrived.errors[0]), (0, error));
    }
    // Bundle after container.
    let arrived = with(end, wire(Kind::Bundle, 7, number, &[1]));
    assert_eq!((arrived.complete, &arrived.errors[..]), (0, &[Error::Malformed][..]));
    // A complete one stays complete.
    let arrived = receive(&[good.concat(), wire(Kind::Container, 7, number + 1, &[1])].concat());
    assert_eq!((arrived.complete, &arrived.errors[..]), (1, &[Error::TrailingBytes][..]));
}

#[test]
fn a_transfer_that_the_device_gave_up_is_over() {
    let mut line = packets(7, 8, CONTAINER)[..4].concat();
    line.extend(wire(Kind::Abort, 7, 4, &[AbortReason::Sensor.code()]));
    line.extend(wire(Kind::Container, 7, 5, &[1]));
    let arrived = receive(&line);
    assert_eq!((arrived.aborted, arrived.complete), (Some(AbortReason::Sensor), 0));
    assert_eq!(arrived.errors, [Error::Malformed]);
}

#[test]
fn a_bundle_is_whole_or_refused() {
    let good = bundle();
    for end in 0..good.len() {
        assert!(Bundle::parse(&good[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(Bundle::parse(&[&good[..], &[0]].concat()).err(), Some(Error::TrailingBytes));
    let mut version = good.clone();
    version[8] = 2;
    assert_eq!(Bundle::parse(&version).err(), Some(Error::UnknownVersion(2)));
    let mut fewer = good.clone();
    fewer[9] = 2;
    assert_eq!(Bundle::parse(&fewer).err(), Some(Error::Mismatch));
    let mut twice = good.clone();
    let second = good.len() - 2 * (16 + 2 + SEALED.len());
    twice[second..second + 16].fill(0x31);
    assert_eq!(Bundle::parse(&twice).err(), Some(Error::Duplicate));
    let mut writer = BundleWriter::begin(1, MANIFEST, &mut |_| Ok::<(), Error>(())).expect("in range");
    assert_eq!(BundleWriter::begin(1, MANIFEST, &mut |_| Ok::<(), Error>(())).map(|_| ()), Ok(()));
    let node = NodeId::from_bytes([1; 16]);
    assert_eq!(writer.share(node, SEALED, &mut |_| Ok::<(), Error>(())), Ok(()));
    assert_eq!(writer.share(node, SEALED, &mut |_| Ok::<(), Error>(())), Err(Error::OutOfRange));
    let unfinished = BundleWriter::begin(2, MANIFEST, &mut |_| Ok::<(), Error>(())).expect("in range");
    assert_eq!(unfinished.finish(), Err(Error::Truncated));
}

#[test]
fn parts_of_different_images_do_not_pass_for_one() {
    let bytes = bundle();
    let bundle = Bundle::parse(&bytes).expect("a bundle");
    let (key, anchor) = (bundle.manifest().key, bundle.manifest().anchor());
    let (begin, header) = (begin(0), Header { file: begin(0).file, key, epoch: Epoch::new(300), anchor });
    assert_eq!(bundle.check(&begin, &header), Ok(()));
    let other = KeyId::from_bytes([0x12; 16]);
    for (begin, header) in [
        (Begin { key: other, ..begin }, header),
        (Begin { counter: 6, ..begin }, header),
        (Begin { device: DeviceId::from_bytes([0; 16]), ..begin }, header),
        (Begin { file: FileId::from_bytes([0; 16]), ..begin }, header),
        (begin, Header { key: other, ..header }),
        (begin, Header { anchor: [0; 32], ..header }),
        (begin, Header { epoch: Epoch::new(1), ..header }),
    ] {
        assert_eq!(bundle.check(&begin, &header), Err(Error::Mismatch));
    }
}

proptest! {
    /// No way back: whatever is damaged, lost, repeated or swapped, what is called complete is the transfer that was sent,
    /// and what was handed out is a part of it from its start.
    #[test]
    fn damage_is_recognised(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..=255), 0..4),
        moves in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<prop::sample::Index>()), 0..3),
    ) {
        let mut sent = packets(STREAM, 0, &CONTAINER[..2000]);
        let (whole, whole_bundle) = (sent.concat(), bundle());
        for (at, what, other) in &moves {
            let (at, other) = (at.index(sent.len()), other.index(sent.len()));
            match what {
                0 => drop(sent.remove(at)),
                1 => sent.insert(other, sent[at].clone()),
                _ => sent.swap(at, other),
            }
        }
        let mut line = sent.concat();
        for (at, flip) in damage {
            let at = at.index(line.len());
            line[at] ^= flip;
        }
        let arrived = receive(&line);
        prop_assert!(whole_bundle.starts_with(&arrived.bundle));
        prop_assert!(CONTAINER[..2000].starts_with(&arrived.container));
        if arrived.complete > 0 {
            prop_assert_eq!(arrived.bundle.len(), whole_bundle.len());
            prop_assert_eq!(arrived.container.len(), 2000);
        } else {
            prop_assert!(line != whole);
        }
    }

    /// A way back: a sender that keeps a window and goes back when asked delivers everything over a line that loses and
    /// damages packets both ways, as long as the line works now and then.
    #[test]
    fn a_broken_line_is_resumed(seed: u64, window in 1u8..12, container in 1usize..4000) {
        let sent = packets(STREAM, window, &CONTAINER[..container]);
        let mut random = seed | 1;
        let mut luck = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % 8
        };
        let mut workstation = Workstation::default();
        let (mut acked, mut next) = (0usize, 0usize);
        for _ in 0..200_000 {
            if workstation.arrived.complete > 0 && acked == sent.len() {
                break;
            }
            if next < sent.len().min(acked + usize::from(window)) {
                let mut packet = sent[next].clone();
                next += 1;
                match luck() {
                    0 => continue,
                    1 => {
                        let at = (seed as usize).wrapping_add(next) % packet.len();
                        packet[at] ^= 0x55;
                    }
                    _ => {}
                }
                workstation.feed(&packet);
            } else {
                // Nothing more may be sent: after waiting in vain, everything unacknowledged goes again.
                next = acked;
            }
            for reply in core::mem::take(&mut workstation.arrived.replies) {
                if luck() == 0 {
                    continue;
                }
                let wanted = reply.sequence as usize;
                prop_assert!(wanted <= sent.len());
                acked = acked.max(wanted);
                next = if reply.kind == Kind::Resume { wanted.max(acked) } else { next.max(acked) };
            }
        }
        prop_assert_eq!(workstation.arrived.complete, 1);
        prop_assert!(workstation.arrived.container == CONTAINER[..container]);
        prop_assert!(workstation.arrived.bundle == bundle());
        prop_assert!(workstation.arrived.errors.is_empty());
    }
}

#[test]
fn a_restarted_workstation_still_acknowledges_what_was_complete() {
    let begin = Begin {
        window: 4,
        device: DeviceId::from_bytes([1; 16]),
        counter: 7,
        key: KeyId::from_bytes([2; 16]),
        file: FileId::from_bytes([3; 16]),
    };
    let mut receiver = Receiver::completed(begin, 99, 5);
    assert_eq!(receiver.complete(), Some((begin, 99, 5)));
    assert_eq!((receiver.incomplete(), receiver.resume()), (None, None));
    let end = |sequence| Packet { kind: Kind::End, stream: 99, sequence, payload: &[0; End::LEN] };
    let (event, reply) = receiver.take(&end(4)).expect("a late packet");
    assert_eq!(event, Event::Repeated);
    let answer = reply.expect("an answer").packet();
    assert_eq!((answer.kind, answer.stream, answer.sequence), (Kind::Ack, 99, 5));
    assert!(receiver.take(&end(5)).is_err(), "something follows the end");
    assert_eq!(receiver.complete(), Some((begin, 99, 5)));
}
