//! The EDS client: takes an image at the workstation, separates the patient's data from it, encrypts the rest, stores the
//! ciphertext anywhere and splits the key over key servers; and the way back.
//!
//! Rooms: [`config`] what the user set, [`credentials`] what proves who they are, [`login`] tokens from an issuer, [`cluster`] which key servers to believe, [`storage`] where ciphertext lives,
//! [`catalog`] what was registered, [`metadata`] public attributes and sealed private parts, [`dicom`] taking an image
//! apart and putting it together again, [`keystore`] the quorum client, [`audit`] the nodes'
//! audit logs seen from outside, [`queue`] what waits for key servers
//! that were away, [`journey`] the two stories, [`output`] files that appear whole or not at all, [`payload`] encryption at the
//! speed of the disk, `picture` (a feature) images to look at, `gateway` (a feature) DICOM peers of a department, `mount` (a feature)
//! a folder for other programs, [`commands`] the command line, [`glite`] the commands of gLite.
//! Errors of all rooms meet in [`error`], which knows the exit code and the hint of each.
#![forbid(unsafe_code)]

pub mod audit;
mod authorities;
pub mod catalog;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod courier;
pub mod credentials;
mod database;
pub mod dicom;
pub mod error;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod glite;
pub mod journey;
pub mod keystore;
pub mod login;
pub mod metadata;
#[cfg(feature = "mount")]
pub mod mount;
pub mod output;
pub mod payload;
#[cfg(feature = "view")]
pub mod picture;
pub mod quarantine;
pub mod queue;
pub mod storage;

pub use error::{Error, Kind};
