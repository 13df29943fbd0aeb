//! For tests on a host: the other side of a device, which is a cluster with its keys and a workstation (with the feature
//! `simulator`, for the tests that run a device in QEMU); and, in the tests of this crate, simulated engine, noise, sensor, counter
//! and line, each of which can be told to fail.

mod hospital;
#[cfg(test)]
mod line;
#[cfg(test)]
mod parts;
#[cfg(test)]
mod sensor;

pub use hospital::{Delivered, Hospital, Workstation};
#[cfg(test)]
pub(crate) use line::{Line, LineState, NoDelay};
#[cfg(test)]
pub(crate) use parts::{NoiseFailed, SimulatedAes, SimulatedCounter, SimulatedNoise, WornOut, picture};
#[cfg(test)]
pub(crate) use sensor::{Driver, SensorState, SimulatedSensor};
