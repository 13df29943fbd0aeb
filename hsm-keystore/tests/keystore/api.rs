//! The HTTP API of a node over real TLS: what it does, and everything that it refuses.

mod audit;
mod connections;
mod life;
mod limits;
mod problems;
mod proofs;
mod refusals;
mod tampering;
