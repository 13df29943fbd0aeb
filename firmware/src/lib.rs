//! Encrypting at source: the path of an image on the device that makes it.
//!
//! [`Scan::begin`] draws the file secret, splits it, signs the manifest, seals each share to its node and hands all of that
//! to the courier; secret and shares are wiped before the first byte of the image is taken. From then on the device holds
//! the state of the cipher for this one file and nothing else, and after [`Scan::finish`] nothing at all: it cannot open
//! what it made. Frame bytes go through as they come, in pieces of any size, without a frame or chunk buffer.
//!
//! `no_std`, no allocator. What is not here yet: frame sources on `embedded-hal`, DICOM headers, resuming after a loss of
//! power, a counter kept in flash.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod scan;

pub use scan::{Delivery, Device, Plan, Scan, ScanError};
