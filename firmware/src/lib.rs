//! Encrypting at source: the path of an image on the device that makes it.
//!
//! [`Imager::acquire`] is one image from sensor to link: a key of its own is drawn, split, each share sealed to one key server,
//! the manifest signed with the device's key; then frame bytes are encrypted as the sensor gives them and leave at once. No
//! frame or chunk buffer, no allocator, no key server that must be reachable. When it returns, every secret of the image
//! is wiped: the device cannot open what it made, and there is nothing to steal from it. A frame that failed has no end
//! and is never taken for a whole one.
//!
//! What differs between boards is behind traits, each with a conformance suite or two implementations here:
//!
//! | a board brings | trait |
//! |---|---|
//! | sensor bus, chip select, data ready, delay | `embedded-hal`, used by [`SpiSensor`]; or a [`FrameSource`] of its own |
//! | link to the workstation | `embedded-io`, used by [`Uplink`]; or an [`Output`] of its own |
//! | AES-256, if it has an engine | [`AesEngine`]; else [`SoftAes`] |
//! | a noise source | [`EntropySource`], tested by [`Random`] before and while it is used |
//! | a number that only rises | [`Counter`] |

#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "simulator"))]
extern crate std;

pub mod conformance;
mod counter;
mod drbg;
mod engine;
mod entropy;
mod imager;
mod provision;
mod random;
mod scan;
mod sensor;
#[cfg(any(test, feature = "simulator"))]
pub mod simulator;
mod uplink;
mod wipe;

pub use counter::Counter;
pub use engine::{AesEngine, EngineGcm, SoftAes};
pub use entropy::{EntropyFault, EntropySource, Health};
pub use imager::{AcquireError, Imager, SCRUB_DEPTH, StartError};
pub use provision::{PROVISION_MAGIC, PROVISION_VERSION, Provision};
pub use random::{FrameRandom, Random};
pub use scan::{Announced, Device, Output, Plan, Scan, ScanError};
pub use sensor::{FrameSource, Geometry, SensorFault, SpiSensor};
pub use uplink::{LinkFault, OneWay, Patience, Uplink};
pub use wipe::scrub_stack;
