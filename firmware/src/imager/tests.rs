//! A whole device on the host: from the sensor over a line to a physician; every part failing; and the power lost at every byte.

use std::{collections::HashSet, vec, vec::Vec};

use eds_core::{container::Opening, link::Bundle};

use super::*;
use crate::{
    Geometry, Patience, SensorFault, SoftAes, Uplink,
    simulator::{
        Delivered, Hospital, Line, LineState, NoDelay, NoiseFailed, SensorState, SimulatedAes, SimulatedCounter,
        SimulatedNoise, SimulatedSensor, WornOut, picture,
    },
};

const GEOMETRY: Geometry = Geometry { rows: 9, row_bytes: 70, patience_us: 1_000, poll_us: 10 };
const PATIENCE: Patience = Patience { poll_us: 100, resend_us: 1_000, give_up_us: 20_000 };
const HEADER: &[u8] = b"what stands before the pixels";

type Simulated<'a, A = SoftAes> = Imager<'a, A, SimulatedNoise, SimulatedCounter>;
type Outcome<A> =
    Result<A, Failed<crate::simulator::Driver, Uplink<Line, NoDelay, 4>, SimulatedCounter, SimulatedNoise>>;

fn start<'a>(
    hospital: &'a Hospital,
    noise: SimulatedNoise,
    counter: SimulatedCounter,
) -> Result<Simulated<'a>, StartError<NoiseFailed>> {
    start_with(hospital, SoftAes::new(), noise, counter)
}

fn start_with<A: AesEngine>(
    hospital: &Hospital,
    engine: A,
    noise: SimulatedNoise,
    counter: SimulatedCounter,
) -> Result<Simulated<'_, A>, StartError<NoiseFailed>> {
    Imager::start(hospital.device(), &hospital.file, &hospital.pin, 4, 2, engine, noise, counter)
}

fn pixels() -> Vec<u8> {
    picture(usize::from(GEOMETRY.rows) * usize::from(GEOMETRY.row_bytes))
}

fn image() -> Vec<u8> {
    [HEADER, &pixels()].concat()
}

fn take_image<A: AesEngine>(
    imager: &mut Simulated<'_, A>,
    line: &Line,
    change: impl FnOnce(&mut SensorState),
) -> Outcome<Written> {
    let sensor = SimulatedSensor::new(pixels(), GEOMETRY);
    change(&mut sensor.state());
    let mut link = Uplink::<_, _, 4>::new(line.clone(), NoDelay, PATIENCE);
    let mut buffer = vec![0xee; 48];
    let outcome = imager.acquire(HEADER, &mut sensor.driver(), &mut buffer, &mut link);
    assert!(buffer.iter().all(|byte| *byte == 0), "pixels stay in the buffer");
    assert!(!sensor.is_selected());
    outcome
}

fn transfers(line: &Line) -> Vec<Delivered> {
    line.0.borrow().workstation.transfers.clone()
}

#[test]
fn an_image_goes_from_the_sensor_to_a_physician() {
    let (hospital, line) = (Hospital::new(), Line::default());
    let mut imager = start(&hospital, SimulatedNoise::good(), SimulatedCounter::default()).expect("starts");
    for number in 1..=3 {
        let written = take_image(&mut imager, &line, |_| ()).expect("takes an image");
        assert_eq!(written.plain_len, image().len() as u64);
        let arrived = transfers(&line).pop().expect("arrived");
        assert_eq!((arrived.complete, arrived.begin.counter), (true, number));
        assert!(hospital.open(&arrived.bundle, &arrived.container, &arrived.begin) == Ok(image()));
    }
}

#[test]
fn a_hardware_engine_makes_an_image_alike() {
    let (hospital, line) = (Hospital::new(), Line::default());
    let noise = SimulatedNoise::good();
    let mut imager =
        start_with(&hospital, SimulatedAes::default(), noise, SimulatedCounter::default()).expect("starts");
    take_image(&mut imager, &line, |_| ()).expect("takes an image");
    let arrived = transfers(&line).pop().expect("arrived");
    assert!(hospital.open(&arrived.bundle, &arrived.container, &arrived.begin) == Ok(image()));
    assert_eq!(imager.engine.registers(), [0; 32], "the key is still in the engine");
}

#[test]
fn a_device_with_bad_hardware_or_a_bad_directory_does_not_start() {
    let hospital = Hospital::new();
    let engine = SimulatedAes::with_stuck_bit();
    let bad_engine = start_with(&hospital, engine, SimulatedNoise::good(), SimulatedCounter::default());
    assert!(matches!(bad_engine.map(|_| ()), Err(StartError::Engine(_))));
    let bad_noise = start(&hospital, SimulatedNoise::stuck_after(600), SimulatedCounter::default());
    assert!(matches!(bad_noise.map(|_| ()), Err(StartError::Entropy(EntropyFault::Repetition))));

    let with = |file: &[u8], pin: &[u8; 32], lowest, needed| {
        let (noise, counter) = (SimulatedNoise::good(), SimulatedCounter::default());
        Imager::start(hospital.device(), file, pin, lowest, needed, SoftAes::new(), noise, counter).map(|_| ())
    };
    assert!(with(&hospital.file, &hospital.pin, 4, 3).is_ok());
    let stranger = with(&hospital.file, &[0; 32], 4, 2);
    assert!(matches!(stranger, Err(StartError::Directory(Error::Mismatch))));
    let mut changed = hospital.file.clone();
    changed[60] ^= 1;
    assert!(matches!(with(&changed, &hospital.pin, 4, 2), Err(StartError::Directory(_))));
    let old = with(&hospital.file, &hospital.pin, 5, 2);
    assert!(matches!(old, Err(StartError::OldDirectory { version: 4, lowest: 5 })));
    for needed in [0, 1, 4] {
        let plan = with(&hospital.file, &hospital.pin, 4, needed);
        assert!(matches!(plan, Err(StartError::Directory(Error::OutOfRange))), "{needed} of 3");
    }
}

/// Whatever fails, what arrived has no end, the error says what it was, and the workstation is told.
#[test]
fn a_frame_that_failed_is_never_complete() {
    let hospital = Hospital::new();
    let fails = |sensor: fn(&mut SensorState), line: fn(&mut LineState), reason: AbortReason| {
        let (wire, counter) = (Line::default(), SimulatedCounter::default());
        line(&mut wire.0.borrow_mut());
        let mut imager = start(&hospital, SimulatedNoise::good(), counter).expect("starts");
        let error = take_image(&mut imager, &wire, sensor).expect_err("fails");
        let arrived = transfers(&wire).pop().expect("has begun");
        assert!(!arrived.complete);
        assert!(hospital.open(&arrived.bundle, &arrived.container, &arrived.begin).is_err(), "a part opens as a whole");
        assert_eq!((error.reason(), arrived.aborted.unwrap_or(reason)), (reason, reason));
        // The next image is whole.
        let fresh = Line::default();
        take_image(&mut imager, &fresh, |_| ()).expect("takes the next image");
        let next = transfers(&fresh).pop().expect("arrived");
        assert!(hospital.open(&next.bundle, &next.container, &next.begin) == Ok(image()));
        assert!(next.begin.counter > arrived.begin.counter);
        error
    };
    let late = fails(|sensor| sensor.late_at = Some(8), |_| (), AbortReason::Sensor);
    assert!(matches!(late, AcquireError::Sensor(SensorFault::Late(8))));
    let skipped = fails(|sensor| sensor.skips = Some(4), |_| (), AbortReason::Sensor);
    assert!(matches!(skipped, AcquireError::Sensor(SensorFault::Row { expected: 4, found: 5 })));
    let bus = fails(|sensor| sensor.bus_fails_after = Some(300), |_| (), AbortReason::Sensor);
    assert!(matches!(bus, AcquireError::Sensor(SensorFault::Bus(_))));
    let silent = fails(|_| (), |line| line.silent = true, AbortReason::Link);
    assert!(matches!(silent, AcquireError::Output(crate::LinkFault::NoAnswer)));
}

/// A source with fewer bytes than it announces.
struct Short(usize);

impl FrameSource for Short {
    type Error = core::convert::Infallible;

    fn length(&self) -> u64 {
        100
    }

    fn start(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn read(&mut self, piece: &mut [u8]) -> Result<usize, Self::Error> {
        let length = piece.len().min(self.0);
        self.0 -= length;
        Ok(length)
    }

    fn stop(&mut self) {}
}

#[test]
fn a_frame_of_another_length_is_never_complete() {
    let (hospital, line) = (Hospital::new(), Line::default());
    let mut imager = start(&hospital, SimulatedNoise::good(), SimulatedCounter::default()).expect("starts");
    let mut link = Uplink::<_, _, 4>::new(line.clone(), NoDelay, PATIENCE);
    let error = imager.acquire(HEADER, &mut Short(99), &mut [0; 48], &mut link).expect_err("too short");
    assert!(matches!(error, AcquireError::Length { expected: 100, found: 99 }));
    let arrived = transfers(&line).pop().expect("has begun");
    assert_eq!((arrived.complete, arrived.aborted), (false, Some(AbortReason::Sensor)));
}

#[test]
fn a_worn_out_counter_a_broken_source_and_a_broken_engine_stop_the_device_before_anything_is_sent() {
    let hospital = Hospital::new();
    let counter = SimulatedCounter { worn_out: true, ..SimulatedCounter::default() };
    let line = Line::default();
    let mut imager = start(&hospital, SimulatedNoise::good(), counter).expect("starts");
    assert!(matches!(take_image(&mut imager, &line, |_| ()), Err(AcquireError::Counter(WornOut))));
    let mut imager =
        start(&hospital, SimulatedNoise::stuck_after(1024 + 64), SimulatedCounter::default()).expect("starts");
    for _ in 0..2 {
        assert!(matches!(take_image(&mut imager, &line, |_| ()), Err(AcquireError::Entropy(_))));
    }
    assert!(line.0.borrow().sent.is_empty());

    let mut imager =
        start_with(&hospital, SimulatedAes::default(), SimulatedNoise::good(), SimulatedCounter::default())
            .expect("starts");
    imager.engine.fail_after = Some(5);
    let outcome = take_image(&mut imager, &line, |_| ());
    assert!(matches!(outcome, Err(AcquireError::Core(Error::Engine))));
    let arrived = transfers(&line).pop().expect("has begun");
    assert_eq!((arrived.complete, arrived.aborted), (false, Some(AbortReason::Engine)));
    assert_eq!(imager.engine.registers(), [0; 32], "the key is still in the engine");
}

/// Everything by which two images could share a nonce: transfer, key, file, salt with commitment, one-time keys.
fn distinct(seen: &mut HashSet<Vec<u8>>, arrived: &Delivered) {
    let mut fresh = |what: &str, bytes: &[u8]| {
        assert!(seen.insert(bytes.to_vec()), "{what} is used a second time");
    };
    fresh("the stream", &arrived.stream.to_le_bytes());
    fresh("the key", arrived.begin.key.as_bytes());
    fresh("the file", arrived.begin.file.as_bytes());
    fresh("the counter", &arrived.begin.counter.to_be_bytes());
    if let Ok(opening) = Opening::parse(&arrived.container) {
        fresh("the salt", &opening.fingerprint().start.salt);
        fresh("the commitment", &opening.fingerprint().start.commitment);
    }
    if let Ok(bundle) = Bundle::parse(&arrived.bundle) {
        bundle.shares().for_each(|(_, sealed)| fresh("a one-time key", &sealed[3..68]));
        bundle.manifest().commitments.iter().for_each(|point| fresh("a commitment", &point.0));
    }
}

/// The power goes at every byte of a transfer. The noise source gives the very same noise after every reset, which is worse
/// than any that passes its assessment: the stored counter alone must keep the images apart.
#[test]
fn power_lost_at_any_byte_leaves_nothing_that_looks_whole_and_nothing_is_used_twice() {
    let hospital = Hospital::new();
    let counter = SimulatedCounter::default();
    let device = || start(&hospital, SimulatedNoise::repeating(9), counter.clone()).expect("starts");
    let whole = Line::default();
    take_image(&mut device(), &whole, |_| ()).expect("takes an image");
    let length = whole.0.borrow().sent.len();
    let mut seen = HashSet::new();
    distinct(&mut seen, &transfers(&whole)[0]);

    for cut in 0..length {
        let line = Line::default();
        line.0.borrow_mut().power = Some(cut);
        take_image(&mut device(), &line, |_| ()).expect_err("there was no power");
        // What came through before the power went.
        if let Some(arrived) = transfers(&line).first() {
            assert_eq!((arrived.complete, arrived.aborted), (false, None), "cut at {cut}");
            distinct(&mut seen, arrived);
        }
        // The power is back, at the same workstation.
        line.0.borrow_mut().power = None;
        take_image(&mut device(), &line, |_| ()).expect("takes the next image");
        let next = transfers(&line).pop().expect("arrived");
        assert!(next.complete, "cut at {cut}");
        // Opening costs most; whether it opens does not depend on the cut before.
        assert!(
            cut % 16 > 0 || hospital.open(&next.bundle, &next.container, &next.begin) == Ok(image()),
            "cut at {cut}"
        );
        distinct(&mut seen, &next);
    }
}
