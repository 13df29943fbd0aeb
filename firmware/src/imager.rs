//! The whole of it: one call takes an image from the sensor to the link.

use core::fmt;

use eds_core::{Error, container::Written, directory::SignedDirectory, link::AbortReason};
use zeroize::Zeroize;

use crate::{
    conformance::{self, Failure},
    counter::Counter,
    engine::{AesEngine, EngineGcm},
    entropy::{EntropyFault, EntropySource},
    random::Random,
    scan::{Device, Output, Plan, Scan, ScanError},
    sensor::FrameSource,
    wipe::scrub_stack,
};

/// A device that is ready to take images: its engine conforms, its noise source passed its tests, and the directory is
/// signed by the pinned cluster key and not older than the device knows.
pub struct Imager<'a, A, S, C> {
    device: Device<'a>,
    plan: Plan<'a>,
    engine: A,
    random: Random<S>,
    counter: C,
}

/// Why a device does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError<E> {
    /// The AES engine fails its known answers.
    Engine(Failure),
    /// The noise source fails its tests.
    Entropy(EntropyFault<E>),
    /// The directory is not signed by the pinned key, is no directory, or asks for more than it has nodes.
    Directory(Error),
    /// The directory is older than one that this device has used.
    OldDirectory {
        /// What is there.
        version: u64,
        /// What was used before.
        lowest: u64,
    },
}

impl<E: fmt::Debug> fmt::Display for StartError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(failure) => write!(f, "AES engine: {failure}"),
            Self::Entropy(fault) => write!(f, "{fault}"),
            Self::Directory(error) => write!(f, "cluster directory: {error}"),
            Self::OldDirectory { version, lowest } => {
                write!(f, "cluster directory: version {version} is older than {lowest}, which was used before")
            }
        }
    }
}

impl<E: fmt::Debug> core::error::Error for StartError<E> {}

/// Why an image was not taken. What had left the device by then has no end, and is recognisably incomplete.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<F, O, C, E> {
    /// The sensor.
    Sensor(F),
    /// The sensor gave another number of bytes than it announced.
    Length {
        /// Announced.
        expected: u64,
        /// Given.
        found: u64,
    },
    /// The link.
    Output(O),
    /// The frame counter.
    Counter(C),
    /// The noise source.
    Entropy(EntropyFault<E>),
    /// The engine ([`Error::Engine`]), or a plan that cannot be carried out.
    Core(Error),
}

impl<F: fmt::Debug, O: fmt::Debug, C: fmt::Debug, E: fmt::Debug> fmt::Display for AcquireError<F, O, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sensor(error) => write!(f, "sensor: {error:?}"),
            Self::Length { expected, found } => write!(f, "sensor: {found} bytes in place of {expected}"),
            Self::Output(error) => write!(f, "link: {error:?}"),
            Self::Counter(error) => write!(f, "frame counter: {error:?}"),
            Self::Entropy(fault) => write!(f, "{fault}"),
            Self::Core(error) => write!(f, "encrypting: {error}"),
        }
    }
}

impl<F: fmt::Debug, O: fmt::Debug, C: fmt::Debug, E: fmt::Debug> core::error::Error for AcquireError<F, O, C, E> {}

impl<F, O, C, E> AcquireError<F, O, C, E> {
    const fn reason(&self) -> AbortReason {
        match self {
            Self::Sensor(_) | Self::Length { .. } => AbortReason::Sensor,
            Self::Output(_) => AbortReason::Link,
            Self::Entropy(_) => AbortReason::Entropy,
            Self::Core(Error::Engine) => AbortReason::Engine,
            Self::Counter(_) | Self::Core(_) => AbortReason::Other,
        }
    }
}

impl<F, O, C, E> From<ScanError<O>> for AcquireError<F, O, C, E> {
    fn from(error: ScanError<O>) -> Self {
        match error {
            ScanError::Core(error) => Self::Core(error),
            ScanError::Output(error) => Self::Output(error),
        }
    }
}

type Failed<F, O, C, S> =
    AcquireError<<F as FrameSource>::Error, <O as Output>::Error, <C as Counter>::Error, <S as EntropySource>::Error>;

impl<'a, A: AesEngine, S: EntropySource, C: Counter> Imager<'a, A, S, C> {
    /// Tests the hardware and checks the directory: `file` as provisioned, `pinned` the fingerprint of the cluster key, `lowest`
    /// the version below which a directory is refused, `needed` the m of new images.
    ///
    /// # Errors
    /// [`StartError`]: this device must not take images.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "each is one thing that a board provides, and there is one call")]
    pub fn start(
        device: Device<'a>,
        file: &'a [u8],
        pinned: &[u8; 32],
        lowest: u64,
        needed: u8,
        mut engine: A,
        source: S,
        counter: C,
    ) -> Result<Self, StartError<S::Error>> {
        conformance::aes_engine(&mut engine).map_err(StartError::Engine)?;
        let random = Random::start(source).map_err(StartError::Entropy)?;
        let directory = SignedDirectory::verify(file, pinned).map_err(StartError::Directory)?;
        if directory.version() < lowest {
            return Err(StartError::OldDirectory { version: directory.version(), lowest });
        }
        if needed < directory.floor() || usize::from(needed) > directory.active().count() {
            return Err(StartError::Directory(Error::OutOfRange));
        }
        Ok(Self { device, plan: Plan { directory, needed }, engine, random, counter })
    }

    /// Takes one image: `header` and then the frame of `source`, as one file, through `buffer` into `out`. The buffer needs no
    /// relation to rows or chunks; it is wiped.
    ///
    /// # Errors
    /// [`AcquireError`]; the image is lost, and the next one has a key of its own.
    pub fn acquire<F: FrameSource, O: Output>(
        &mut self,
        header: &[u8],
        source: &mut F,
        buffer: &mut [u8],
        out: &mut O,
    ) -> Result<Written, Failed<F, O, C, S>> {
        let outcome = self.encrypt(header, source, buffer, out);
        buffer.zeroize();
        scrub_stack::<SCRUB_DEPTH>();
        // The end leaves only now: what is called delivered is also forgotten.
        let outcome = outcome.and_then(|written| out.end().map_err(AcquireError::Output).map(|()| written));
        if let Err(error) = &outcome {
            out.abort(error.reason());
        }
        outcome
    }

    #[inline(never)]
    fn encrypt<F: FrameSource, O: Output>(
        &mut self,
        header: &[u8],
        source: &mut F,
        buffer: &mut [u8],
        out: &mut O,
    ) -> Result<Written, Failed<F, O, C, S>> {
        let counter = self.counter.advance().map_err(AcquireError::Counter)?;
        let mut rng = self.random.frame(self.device.id, counter).map_err(AcquireError::Entropy)?;
        let engine = &mut self.engine;
        let mut scan =
            Scan::begin(&self.plan, &self.device, counter, &mut rng, |key| EngineGcm::new(engine, key), out)?;
        scan.write(header, out)?;
        source.start().map_err(AcquireError::Sensor)?;
        let read = copy(source, &mut scan, buffer, out);
        source.stop();
        let found = read?;
        let expected = source.length();
        if found != expected {
            return Err(AcquireError::Length { expected, found });
        }
        Ok(scan.finish(out)?)
    }
}

fn copy<F: FrameSource, O: Output, C, E>(
    source: &mut F,
    scan: &mut Scan<EngineGcm<'_, impl AesEngine>>,
    buffer: &mut [u8],
    out: &mut O,
) -> Result<u64, AcquireError<F::Error, O::Error, C, E>> {
    let mut found = 0u64;
    loop {
        let length = source.read(buffer).map_err(AcquireError::Sensor)?;
        let piece = buffer.get_mut(..length).unwrap_or_default();
        if piece.is_empty() {
            return Ok(found);
        }
        scan.write_in_place(piece, out)?;
        found = found.saturating_add(length as u64);
    }
}

/// How deep the stack is overwritten after an image, in bytes: more than an image uses below [`Imager::acquire`]. `firmware-test`
/// looks at the emulated memory below what was overwritten, and fails when an image had been there.
pub const SCRUB_DEPTH: usize = 10 * 1024 + 512;

#[cfg(test)]
mod tests;
