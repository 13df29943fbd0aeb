#![no_std]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(feature = "std")]
pub mod api;
pub mod cipher;
pub mod container;
mod curve;
pub mod directory;
pub mod error;
mod gcm;
pub mod ids;
pub mod link;
pub mod manifest;
#[cfg(feature = "std")]
pub mod names;
pub mod permissions;
pub mod registrant;
mod scalar;
pub mod sealing;
pub mod sharing;

#[cfg(test)]
#[path = "../tests/support/counter_rng.rs"]
mod counter_rng;

pub use error::{Error, Opaque};
