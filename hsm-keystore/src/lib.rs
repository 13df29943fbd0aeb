//! The EDS key server: one of n nodes that hold the shares of keys.
//!
//! Rooms, by the first word of what they hold:
//! - [`api`]: the HTTP API; its bodies are in `eds_core::api`;
//! - [`authn`]: who asks, from what the connection proved;
//! - [`audit`]: the log of every decision;
//! - [`policy`]: permissions, access lists, decisions; pure;
//! - [`hsm`]: the token, and the only place that speaks PKCS#11; [`shares`]: what is sealed under keys that it wraps;
//! - [`store`]: wrapped shares and authenticated access lists, in SQLite;
//! - [`node`]: all of them together, and the checks before a node serves;
//! - [`server`]: TLS, connections and limits; [`metrics`]: what Prometheus reads;
//! - [`logging`]: the log, with ids only;
//! - [`config`], [`identity`]: the files of a node; [`ceremony`]: making a node; [`recovery`]: backup and restore.
//!
//! What is assumed of an adversary: who steals the disk has no share without the token; who writes the database can
//! neither read a share, nor change who may read it; who sees the network sees traffic; who has another certificate has
//! the rights of that name. Who controls the running process sees the shares that it releases meanwhile and, with the
//! database, those that were registered together with them; no others.
#![deny(unsafe_code)]

pub mod api;
pub mod audit;
pub mod authn;
pub mod ceremony;
pub mod config;
pub mod devices;
pub mod hex;
pub mod hsm;
pub mod identity;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod policy;
pub mod recovery;
pub mod rotation;
pub mod server;
pub mod shares;
pub mod store;
mod whole_file;
