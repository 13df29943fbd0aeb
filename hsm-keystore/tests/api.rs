//! The HTTP API of a node over real TLS: what it does, and everything that it refuses.

#[path = "api/connections.rs"]
mod connections;
#[path = "common/keys.rs"]
mod keys;
#[path = "api/life.rs"]
mod life;
#[path = "common/node.rs"]
mod node;
#[path = "common/pki.rs"]
mod pki;
#[path = "api/refusals.rs"]
mod refusals;
#[path = "api/tampering.rs"]
mod tampering;
