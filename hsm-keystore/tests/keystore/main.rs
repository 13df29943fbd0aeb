//! The key server as a whole: its HTTP API over real TLS, its tokens, and the program.

mod api;
mod common;
mod hsm;
mod program;
