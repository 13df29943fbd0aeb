//! The test bench of EDS: real key servers with a SoftHSM token each, real certificates, the real `eds` binary.
//!
//! A journey makes a [`Cluster`](cluster::Cluster) and a [`User`](user::User), does what people would do, and looks at
//! what they would see: exit code, words, files. Nothing is simulated but the slowness of a network ([`relay`]).
//! The binaries under test are those beside the running test: `scripts/test` builds them first.

pub mod acts;
pub mod binaries;
pub mod cluster;
pub mod crowd;
pub mod daemon;
pub mod dicom;
pub mod emulated;
pub mod files;
pub mod fuzz_programs;
pub mod fuzz_targets;
#[cfg(feature = "full")]
pub mod gateway;
pub mod gfal;
pub mod grid;
pub mod https;
pub mod imaging;
pub mod issuer;
pub mod kills;
pub mod node;
pub mod originals;
pub mod pki;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod sample;
pub mod shares;
pub mod storages;
pub mod trouble;
pub mod user;
pub mod ward;

pub use trouble::{Outcome, Trouble};
