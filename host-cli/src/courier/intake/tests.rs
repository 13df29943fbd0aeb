//! The intake over lines that break and couriers that die at any packet: what was acknowledged is there afterwards.

use eds_core::{
    ids::{DeviceId, FileId, KeyId},
    link::{Kind, MAX_PAYLOAD, Totals},
};

use super::*;
use crate::courier::spool::Whole;

fn begin(number: u8, window: u8) -> Begin {
    Begin {
        window,
        device: DeviceId::from_bytes([number; 16]),
        counter: number.into(),
        key: KeyId::from_bytes([number; 16]),
        file: FileId::from_bytes([number + 1; 16]),
    }
}

/// The packets of a transfer of made-up parts.
fn packets(begin: &Begin, stream: u32, pieces: usize) -> Vec<Vec<u8>> {
    let start = begin.to_bytes();
    let mut totals = Totals::new(&start);
    let mut payloads = vec![(Kind::Begin, start.to_vec()), (Kind::Bundle, vec![1; 100])];
    payloads.extend((0..pieces).map(|piece| (Kind::Container, vec![piece as u8; MAX_PAYLOAD])));
    for (kind, payload) in &payloads {
        match kind {
            Kind::Bundle => totals.bundle(payload).expect("fits"),
            Kind::Container => totals.container(payload).expect("fits"),
            _ => {}
        }
    }
    payloads.push((Kind::End, totals.end().to_bytes().to_vec()));
    let packet = |(sequence, (kind, payload)): (u32, (Kind, Vec<u8>))| {
        wire_of(&Packet { kind, stream, sequence, payload: &payload })
    };
    (0..).zip(payloads).map(packet).collect()
}

fn wire_of(packet: &Packet<'_>) -> Vec<u8> {
    encode(packet, &mut [0; MAX_PACKET]).expect("fits").to_vec()
}

/// What an answer says: its kind, and the number that is wanted next.
fn said(answer: Option<Vec<u8>>) -> Option<(Kind, u32)> {
    let mut reader = Reader::new();
    answer?.into_iter().find_map(|byte| match reader.push(byte) {
        Some(Ok(packet)) => Some((packet.kind, packet.sequence)),
        _ => None,
    })
}

fn whole(spool: &Spool) -> Vec<Whole> {
    let (whole, damaged) = spool.complete().expect("listed");
    assert_eq!(damaged, Vec::<PathBuf>::new());
    whole
}

#[test]
fn a_courier_that_dies_after_any_packet_goes_on_where_it_had_acknowledged() {
    let begin = begin(3, 8);
    let packets = packets(&begin, 77, 40);
    for cut in 0..=packets.len() {
        for torn in [0, 1, 100] {
            let state = tempfile::tempdir().expect("a directory");
            let mut acknowledged = 0;
            {
                let spool = Spool::open(state.path()).expect("opens");
                let mut intake = Intake::begin(&spool).expect("begins");
                for packet in &packets[..cut] {
                    let (_, answer) = intake.take(packet).expect("takes");
                    acknowledged = said(answer).map_or(acknowledged, |(_, next)| next);
                }
                // The power goes in the middle of the next packet: of that nothing counts.
                if let Some(packet) = packets.get(cut) {
                    intake.take(&packet[..torn.min(packet.len() - 1)]).expect("takes");
                }
            }
            let spool = Spool::open(state.path()).expect("opens");
            let mut intake = Intake::begin(&spool).expect("begins");
            let wanted = said(intake.on_line());
            let from = match wanted {
                Some((Kind::Resume, next)) => {
                    assert!(next >= acknowledged, "cut {cut}: {next} is wanted, {acknowledged} were acknowledged");
                    next as usize
                }
                // Nothing had begun, or all was there.
                _ => {
                    if cut == packets.len() {
                        packets.len() - 1
                    } else {
                        0
                    }
                }
            };
            let mut last = None;
            for packet in &packets[from..] {
                last = said(intake.take(packet).expect("takes").1).or(last);
            }
            assert_eq!(last, Some((Kind::Ack, packets.len() as u32)), "cut {cut}, torn {torn}");
            let whole = whole(&spool);
            assert_eq!(whole.iter().map(|whole| whole.begin).collect::<Vec<_>>(), [begin], "cut {cut}");
            assert_eq!(fs::read(&whole[0].path).expect("read"), packets.concat(), "cut {cut}, torn {torn}");
        }
    }
}

#[test]
fn what_is_in_a_recording_is_on_the_disk_before_the_answer() {
    let state = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(state.path()).expect("opens");
    let mut intake = Intake::begin(&spool).expect("begins");
    let packets = packets(&begin(3, 2), 77, 5);
    for (number, packet) in packets.iter().enumerate().take(packets.len() - 1) {
        let (_, answer) = intake.take(packet).expect("takes");
        let path = spool.under_way().expect("listed").remove(0);
        let written = fs::read(path).expect("read");
        assert!(answer.is_none() || written == packets[..=number].concat(), "packet {number}");
    }
}

#[test]
fn what_will_never_be_whole_is_named_and_leaves_nothing() {
    let state = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(state.path()).expect("opens");
    let (one, two) = (begin(3, 8), begin(5, 8));
    let (first, second) = (packets(&one, 77, 5), packets(&two, 78, 5));
    let mut intake = Intake::begin(&spool).expect("begins");
    intake.take(&first[..4].concat()).expect("takes");
    // The device was reset.
    let (told, _) = intake.take(&second[0]).expect("takes");
    assert!(
        matches!(&told[..], [Told::Incomplete(begin, why), Told::Begun(next)]
        if *begin == one && why.contains("reset") && *next == two),
        "{told:?}"
    );
    // It gives up.
    let abort = Packet { kind: Kind::Abort, stream: 78, sequence: 1, payload: &[AbortReason::Sensor.code()] };
    let (told, answer) = intake.take(&wire_of(&abort)).expect("takes");
    assert_eq!(told, [Told::Aborted(two, AbortReason::Sensor)]);
    assert_eq!(said(answer), Some((Kind::Ack, 2)));
    // Its totals are not those of what came.
    let mut third = packets(&one, 79, 5);
    let end = third.pop().expect("an end");
    intake.take(&third.concat()).expect("takes");
    let other = packets(&two, 79, 5).pop().expect("an end");
    assert_ne!(end, other);
    let (told, answer) = intake.take(&other).expect("takes");
    assert!(matches!(&told[..], [Told::Incomplete(begin, why)] if *begin == one && why.contains("totals")), "{told:?}");
    assert_eq!(answer, None);
    // The line is gone for good.
    let fourth = packets(&two, 80, 5);
    intake.take(&fourth[..3].concat()).expect("takes");
    assert_eq!(intake.give_up().expect("gives up"), Some(two));
    assert_eq!(intake.give_up().expect("gives up"), None);
    assert!(spool.under_way().expect("listed").is_empty() && whole(&spool).is_empty());
}

#[test]
fn damage_is_told_and_asked_for_again() {
    let state = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(state.path()).expect("opens");
    let mut intake = Intake::begin(&spool).expect("begins");
    let packets = packets(&begin(3, 8), 77, 5);
    intake.take(&packets[..2].concat()).expect("takes");
    let mut damaged = packets[2].clone();
    damaged[20] ^= 0x10;
    let (told, answer) = intake.take(&damaged).expect("takes");
    assert!(matches!(&told[..], [Told::Fault(_)]), "{told:?}");
    assert_eq!(said(answer), Some((Kind::Resume, 2)));
    intake.take(&packets[2..].concat()).expect("takes");
    assert_eq!(fs::read(&whole(&spool)[0].path).expect("read"), packets.concat());
}

#[test]
fn two_couriers_do_not_work_in_one_place() {
    let state = tempfile::tempdir().expect("a directory");
    let _first = Spool::open(state.path()).expect("opens");
    assert!(matches!(Spool::open(state.path()), Err(Error::InUse { .. })));
}

#[test]
fn a_whole_recording_that_was_damaged_on_the_disk_is_set_aside_and_hinders_no_other() {
    let state = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(state.path()).expect("opens");
    let mut intake = Intake::begin(&spool).expect("begins");
    intake.take(&packets(&begin(3, 8), 77, 5).concat()).expect("takes");
    intake.take(&packets(&begin(5, 8), 78, 5).concat()).expect("takes");
    let first = whole(&spool).remove(0).path;
    fs::write(&first, b"nothing").expect("written");
    let (left, damaged) = spool.complete().expect("listed");
    assert_eq!(left.iter().map(|whole| whole.begin).collect::<Vec<_>>(), [begin(5, 8)]);
    assert_eq!(damaged, [spool.aside().join(first.file_name().expect("a name"))]);
    assert_eq!(fs::read(&damaged[0]).expect("kept"), b"nothing");
}
