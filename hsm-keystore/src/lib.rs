//! The EDS key server: one of n nodes that hold the shares of keys.
//!
//! Rooms, by the first word of what they hold: [`hsm`] (the token; the only place that speaks PKCS#11), [`policy`]
//! (permissions, access lists, decisions; pure).
#![forbid(unsafe_code)]

pub mod config;
pub mod hex;
pub mod hsm;
pub mod policy;
pub mod store;
