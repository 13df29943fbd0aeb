//! The key server as a whole: its HTTP API over real TLS, its tokens, and the program.

mod api;
mod check_config;
mod common;
#[path = "../authn/forge.rs"]
#[expect(dead_code, reason = "shared with the tests of authn, which use all of it")]
mod forge;
mod hsm;
#[cfg(feature = "hsm-matrix")]
mod hsm_matrix;
#[cfg(feature = "hsm-matrix")]
mod opencryptoki;
mod program;
mod service;
