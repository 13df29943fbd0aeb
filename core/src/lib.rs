#![no_std]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "std")]
pub mod api;
pub mod directory;
pub mod error;
pub mod ids;
pub mod manifest;
pub mod registrant;

pub use error::{Error, Opaque};
