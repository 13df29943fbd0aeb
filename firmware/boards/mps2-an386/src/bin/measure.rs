//! Measures: instructions (under `-icount shift=0`, where a tick of SysTick is 40) and stack. One line a figure on standard error:
//! its name and a number. `make bench-firmware` makes rows of them.
#![no_std]
#![no_main]

use core::{convert::Infallible, hint::black_box};

use aes::{
    Aes256,
    cipher::{KeyIvInit, StreamCipher},
};
use cortex_m::Peripherals;
use cortex_m_rt::entry;
use eds_core::{
    Error,
    cipher::{InputKey, soft::SoftCipher},
    container::{ContainerWriter, Header},
    directory::SignedDirectory,
    directory::{Directory, MAX_BYTES, Node, SUITE_P256_AES256GCM, compressed, key_fingerprint},
    ids::{ClusterId, DeviceId, Epoch, FileId, KeyId, NodeId, ShareIndex},
};
use eds_firmware::{Device, EngineGcm, FrameSource, Imager, Plan, Random, Scan, SoftAes, Uplink};
use eds_mps2_an386::{Delay, HostCounter, HostNoise, high_water, leave, paint_stack, say_number};
use embedded_io::{ErrorType, Write};
use ghash::{GHash, universal_hash::UniversalHash};
use p256::ecdsa::SigningKey;

/// Bytes that are sealed for a figure: whole chunks, so that tags are in it.
const BYTES: usize = 128 * 1024;
/// Bytes at a time, as a sensor gives them.
const PIECE: usize = 256;

#[entry]
fn main() -> ! {
    match run() {
        Some(()) => leave(0),
        None => leave(1),
    }
}

fn run() -> Option<()> {
    let delay = Delay::new(Peripherals::take()?.SYST);
    let clock = Clock(delay);
    bare(&clock);
    seal(&clock)?;
    share(&clock, "split_2_of_3", 3, 2)?;
    share(&clock, "split_3_of_5", 5, 3)?;
    whole(&clock)
}

struct Clock(Delay);

impl Clock {
    /// Instructions of a step: at most 671 million, then SysTick has gone round.
    fn count<T>(&self, step: impl FnOnce() -> T) -> (usize, T) {
        let start = self.0.ticks();
        let value = step();
        let ticks = self.0.ticks().wrapping_sub(start) & 0x00ff_ffff;
        (ticks as usize * 40, value)
    }
}

/// AES-256-CTR and GHASH of the same crates, with nothing around them.
#[inline(never)]
fn bare(clock: &Clock) {
    paint_stack();
    let mut cipher = ctr::Ctr32BE::<Aes256>::new(&[1; 32].into(), &[2; 16].into());
    let mut hash = GHash::new(&[3; 16].into());
    let mut piece = [0u8; PIECE];
    let (instructions, ()) = clock.count(|| {
        for _ in 0..BYTES / PIECE {
            cipher.apply_keystream(black_box(&mut piece));
            let (blocks, _) = ghash::Block::slice_as_chunks(&piece);
            hash.update(blocks);
        }
    });
    black_box(hash.finalize());
    say_number("bare", instructions);
    say_number("bare_bytes", BYTES);
}

/// The container writer: over the engine that boards use, and over core's own portable cipher.
#[inline(never)]
fn seal(clock: &Clock) -> Option<()> {
    let header = Header {
        file: FileId::from_bytes([1; 16]),
        key: KeyId::from_bytes([2; 16]),
        epoch: Epoch::new(0),
        anchor: [3; 32],
    };
    let key = InputKey::from_bytes([4; 32]);
    let mut rng = Random::start(HostNoise::new().ok()?).ok()?;
    let mut sink = |bytes: &[u8]| -> Result<(), Error> {
        black_box(bytes);
        Ok(())
    };
    let mut piece = [0u8; PIECE];

    let mut engine = SoftAes::new();
    let random = &mut rng.frame(DeviceId::from_bytes([0; 16]), 1).ok()?;
    let make = |key: &[u8; 32]| Ok(SoftCipher::with_key(key));
    let mut writer = ContainerWriter::begin_with(make, &header, &key, random, &mut sink).ok()?;
    let (instructions, done) =
        clock.count(|| (0..BYTES / PIECE).try_for_each(|_| writer.write_in_place(black_box(&mut piece), &mut sink)));
    done.ok()?;
    say_number("seal_core", instructions);

    paint_stack();
    let (setup, writer) = clock.count(|| {
        ContainerWriter::begin_with(|key| EngineGcm::new(&mut engine, key), &header, &key, random, &mut sink)
    });
    let mut writer = writer.ok()?;
    let (instructions, done) =
        clock.count(|| (0..BYTES / PIECE).try_for_each(|_| writer.write_in_place(black_box(&mut piece), &mut sink)));
    done.ok()?;
    let (end, done) = clock.count(|| writer.finish(&mut sink));
    done.ok()?;
    say_number("seal", instructions);
    say_number("seal_setup", setup + end);
    say_number("seal_stack", high_water());
    Some(())
}

/// A cluster of `nodes` nodes, signed; its file is in `buffer`.
#[inline(never)]
fn cluster(nodes: u16, buffer: &mut [u8; MAX_BYTES]) -> Option<(usize, [u8; 32])> {
    let key = SigningKey::from_slice(&[3; 32]).ok()?;
    let public = compressed(key.verifying_key());
    let node = |number: u16| -> Option<Node> {
        Some(Node {
            number: ShareIndex::new(number).ok()?,
            id: NodeId::from_bytes([number as u8; 16]),
            url: "https://node.example:7443".try_into().ok()?,
            transport_key: public,
            audit_key: None,
            suites: [SUITE_P256_AES256GCM].into_iter().collect(),
            active: true,
        })
    };
    let directory = Directory {
        cluster: ClusterId::from_bytes([9; 16]),
        name: "ward".try_into().ok()?,
        cluster_key: public,
        version: 1,
        floor: 2,
        nodes: (1..=nodes).filter_map(node).collect(),
    };
    Some((directory.sign(&key, buffer).ok()?.len(), key_fingerprint(&public)))
}

/// Everything before the first byte of an image: key, split, signature, a sealed share for each node.
#[inline(never)]
fn share(clock: &Clock, name: &str, nodes: u16, needed: u8) -> Option<()> {
    let mut buffer = [0; MAX_BYTES];
    let (length, pin) = cluster(nodes, &mut buffer)?;
    let (verify, directory) = clock.count(|| SignedDirectory::verify(buffer.get(..length).unwrap_or_default(), &pin));
    let plan = Plan { directory: directory.ok()?, needed };
    let key = SigningKey::from_slice(&[7; 32]).ok()?;
    let device = Device { id: DeviceId::from_bytes([5; 16]), key: &key };
    let mut random = Random::start(HostNoise::new().ok()?).ok()?;
    let rng = &mut random.frame(device.id, 1).ok()?;
    let mut engine = SoftAes::new();
    let mut out = Uplink::one_way(Nowhere, eds_mps2_an386::Delay::again(&clock.0));
    let (instructions, scan) =
        clock.count(|| Scan::begin(&plan, &device, 1, rng, |key| EngineGcm::new(&mut engine, key), &mut out));
    scan.ok()?;
    say_number(name, instructions);
    say_number("directory_verify", verify);
    Some(())
}

/// The whole of a device, without a board: start, then an image over a link without a way back.
#[inline(never)]
fn whole(clock: &Clock) -> Option<()> {
    let mut buffer = [0; MAX_BYTES];
    let (length, pin) = cluster(5, &mut buffer)?;
    let key = SigningKey::from_slice(&[7; 32]).ok()?;
    let device = Device { id: DeviceId::from_bytes([5; 16]), key: &key };
    let file = buffer.get(..length)?;
    let mut out = Uplink::<_, _, 1>::one_way(Nowhere, clock.0.again());
    let (start, imager) = clock
        .count(|| Imager::start(device, file, &pin, 1, 3, SoftAes::new(), HostNoise::new().ok()?, HostCounter).ok());
    let mut imager = imager?;
    say_number("start", start);
    let (none, done) = clock.count(|| imager.acquire(&[], &mut Even(0, 0), &mut [0; PIECE], &mut out).is_ok());
    let (some, also) = clock.count(|| imager.acquire(&[], &mut Even(BYTES, 0), &mut [0; PIECE], &mut out).is_ok());
    say_number("image_without_bytes", none);
    say_number("image", some);
    (done && also).then_some(())
}

/// A sensor that costs nothing.
struct Even(usize, usize);

impl FrameSource for Even {
    type Error = Infallible;

    fn length(&self) -> u64 {
        self.0 as u64
    }

    fn start(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn read(&mut self, piece: &mut [u8]) -> Result<usize, Infallible> {
        let length = piece.len().min(self.0 - self.1);
        self.1 += length;
        Ok(length)
    }

    fn stop(&mut self) {}
}

/// A line that costs nothing.
struct Nowhere;

impl ErrorType for Nowhere {
    type Error = Infallible;
}

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        Ok(black_box(bytes).len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
