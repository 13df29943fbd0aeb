//! A scan into an output in memory, and what is refused.

use std::{vec, vec::Vec};

use eds_core::{cipher::soft::SoftCipher, link::Begin};
use rand_core::UnwrapErr;

use super::*;
use crate::simulator::{Hospital, picture};

/// An output in memory: a card with so much room.
#[derive(Default)]
struct Card {
    announced: Option<Announced>,
    bundle: Vec<u8>,
    container: Vec<u8>,
    whole: bool,
    room: Option<usize>,
}

#[derive(Debug)]
struct Full;

impl Output for Card {
    type Error = Full;

    fn begin(&mut self, scan: &Announced) -> Result<(), Full> {
        self.announced = Some(*scan);
        Ok(())
    }

    fn bundle(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.bundle.extend_from_slice(bytes);
        Ok(())
    }

    fn container(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.container.extend_from_slice(bytes);
        if self.room.is_some_and(|room| self.container.len() > room) { Err(Full) } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), Full> {
        self.whole = true;
        Ok(())
    }

    fn abort(&mut self, _: AbortReason) {}
}

fn begin(hospital: &Hospital, needed: u8, card: &mut Card) -> Result<Scan<SoftCipher>, ScanError<Full>> {
    let engine = |key: &[u8; 32]| Ok(SoftCipher::with_key(key));
    let rng = &mut UnwrapErr(getrandom::SysRng);
    Scan::begin(&hospital.plan(needed), &hospital.device(), 12, rng, engine, card)
}

#[test]
fn two_of_three_nodes_open_what_the_device_made() {
    let (hospital, mut card) = (Hospital::new(), Card::default());
    let image = picture(50_000);
    let mut scan = begin(&hospital, 2, &mut card).expect("begins");
    for (number, line) in image.chunks(777).enumerate() {
        if number % 2 == 0 {
            scan.write(line, &mut card).expect("writes");
        } else {
            scan.write_in_place(&mut line.to_vec(), &mut card).expect("writes");
        }
    }
    let written = scan.finish(&mut card).expect("finishes");
    assert_eq!((written.plain_len, written.container_len), (50_000, card.container.len() as u64));
    let Announced { device, counter, key, file, .. } = card.announced.expect("announced");
    let announced = Begin { window: 0, device, counter, key, file };
    assert!(hospital.open(&card.bundle, &card.container, &announced) == Ok(image), "another image came out");
}

#[test]
fn a_plan_below_the_floor_or_beyond_the_nodes_is_refused() {
    for needed in [0, 1, 4] {
        let result = begin(&Hospital::new(), needed, &mut Card::default()).map(|_| ());
        assert!(matches!(result, Err(ScanError::Core(Error::OutOfRange))), "{needed}: {result:?}");
    }
}

#[test]
fn a_full_card_is_reported_and_leaves_no_whole_file() {
    let (hospital, mut card) = (Hospital::new(), Card { room: Some(20_000), ..Card::default() });
    let mut scan = begin(&hospital, 2, &mut card).expect("begins");
    assert!(matches!(scan.write(&vec![1; 30_000], &mut card), Err(ScanError::Output(Full))));
    card.room = None;
    assert!(scan.write(&[1], &mut card).is_err(), "a scan goes on after a loss");
    assert!(scan.finish(&mut card).is_err(), "a scan is called whole after a loss");
}
