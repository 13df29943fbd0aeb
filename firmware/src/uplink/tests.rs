//! The uplink over a line that behaves, one that does not, and one without a way back.

use std::vec::Vec;

use eds_core::ids::{DeviceId, FileId, KeyId};

use super::*;
use crate::simulator::{Line, NoDelay, Workstation, picture};

const PATIENCE: Patience = Patience { poll_us: 100, resend_us: 1_000, give_up_us: 20_000 };
const SCAN: Announced = Announced {
    device: DeviceId::from_bytes([1; 16]),
    counter: 3,
    key: KeyId::from_bytes([2; 16]),
    file: FileId::from_bytes([3; 16]),
    stream: 77,
};

fn send<L: Read + Write + ReadReady, const W: usize>(
    link: &mut Uplink<L, NoDelay, W>,
    bundle: &[u8],
    container: &[u8],
) -> Result<(), LinkFault<L::Error>> {
    send_as(link, SCAN, bundle, container)
}

fn send_as<L: Read + Write + ReadReady, const W: usize>(
    link: &mut Uplink<L, NoDelay, W>,
    scan: Announced,
    bundle: &[u8],
    container: &[u8],
) -> Result<(), LinkFault<L::Error>> {
    link.begin(&scan)?;
    bundle.chunks(33).try_for_each(|piece| link.bundle(piece))?;
    container.chunks(500).try_for_each(|piece| link.container(piece))?;
    link.end()
}

#[test]
fn what_goes_in_comes_out_over_good_and_bad_lines() {
    let (bundle, container) = (picture(700), picture(9_000));
    let changes: [fn(&mut crate::simulator::LineState); 4] = [
        |_| {},
        |line| line.noise = Some(1_531),
        |line| line.pulled = Some(2_000..5_000),
        |line| (line.pulled, line.noise) = (Some(0..300), Some(997)),
    ];
    for change in changes {
        let line = Line::default();
        change(&mut line.0.borrow_mut());
        let mut link = Uplink::<_, _, 4>::new(line.clone(), NoDelay, PATIENCE);
        assert_eq!(send(&mut link, &bundle, &container), Ok(()));
        let state = line.0.borrow();
        let [transfer] = &state.workstation.transfers[..] else { panic!("one transfer") };
        assert!(transfer.complete);
        assert!(transfer.bundle == bundle && transfer.container == container);
        assert_eq!((transfer.begin.counter, transfer.begin.window), (3, 4));
    }
}

#[test]
fn without_an_answer_the_frame_is_lost_and_says_so() {
    let line = Line::default();
    line.0.borrow_mut().silent = true;
    let mut link = Uplink::<_, _, 4>::new(line.clone(), NoDelay, PATIENCE);
    assert_eq!(send(&mut link, &picture(700), &picture(9_000)), Err(LinkFault::NoAnswer));
    let sent = line.0.borrow().sent.len();
    link.abort(AbortReason::Link);
    assert!(line.0.borrow().sent.len() > sent);
    let before_the_window = line.0.borrow().workstation.transfers[0].bundle.len();
    assert!(before_the_window <= 3 * MAX_PAYLOAD, "more was under way than the window");
    // The same device serves the next frame.
    line.0.borrow_mut().silent = false;
    assert_eq!(send_as(&mut link, Announced { stream: 78, ..SCAN }, &picture(10), &picture(10)), Ok(()));
    let state = line.0.borrow();
    let [lost, whole] = &state.workstation.transfers[..] else { panic!("two transfers") };
    assert_eq!((lost.complete, lost.aborted, whole.complete), (false, Some(AbortReason::Link), true));
}

#[test]
fn a_wish_for_packets_that_are_gone_ends_the_transfer() {
    let line = Line::default();
    let mut link = Uplink::<_, _, 2>::new(line.clone(), NoDelay, PATIENCE);
    link.begin(&SCAN).expect("begins");
    picture(2_000).chunks(100).try_for_each(|piece| link.bundle(piece)).expect("sends");
    // The workstation was started anew, without its recording.
    line.0.borrow_mut().workstation = Workstation::default();
    let outcome = picture(2_000).chunks(100).try_for_each(|piece| link.bundle(piece));
    assert_eq!(outcome, Err(LinkFault::TooLate));
}

#[test]
fn a_line_without_a_way_back_carries_a_transfer_and_reports_its_own_failure() {
    let mut file = Vec::new();
    send(&mut Uplink::one_way(&mut file, NoDelay), &picture(700), &picture(3_000)).expect("writes");
    let mut workstation = Workstation::default();
    for byte in &file {
        assert_eq!(workstation.feed(*byte), None, "nothing is answered");
    }
    let [transfer] = &workstation.transfers[..] else { panic!("one transfer") };
    assert!(transfer.complete && transfer.container == picture(3_000) && transfer.begin.window == 0);

    let mut card = [0u8; 2_000];
    let outcome = send(&mut Uplink::one_way(&mut card[..], NoDelay), &picture(700), &picture(3_000));
    assert!(matches!(outcome, Err(LinkFault::Line(_))));
}

#[test]
fn calls_out_of_order_are_refused() {
    let mut link = Uplink::<_, _, 2>::new(Line::default(), NoDelay, PATIENCE);
    assert_eq!(link.bundle(&[1]), Err(LinkFault::Misuse));
    assert_eq!(link.end(), Err(LinkFault::Misuse));
    link.begin(&SCAN).expect("begins");
    assert_eq!(link.container(&[1]), Err(LinkFault::Misuse), "the container before any bundle");
}
