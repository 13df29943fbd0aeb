//! The audit log: one entry for every decision, durable before the answer leaves, and no way to change it unseen.
//!
//! Entries ([`entry`]) are the leaves of a Merkle tree ([`tree`]); its head is signed from time to time by a key in the
//! node's token ([`checkpoint`]). The files ([`log`]) are append-only; whoever holds a checkpoint, or a copy of an earlier
//! log, finds every later change ([`verify`]).
//!
//! A crate of its own, because a log is written by the node and verified by anybody: `eds-keystored audit verify` on the
//! machine, `eds audit verify` elsewhere, over the same code. It knows nothing of tokens, requests and configuration.
//!
//! Threat model: whoever owns the disk can cut off or rewrite what no checkpoint covers yet; what a checkpoint outside
//! of the node covers, nobody can change without being found. The log holds ids only: no keys, shares, tokens, key
//! names or patient data. The format is in `docs/audit.md`.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod entry;
pub mod log;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tree;
pub mod verify;

pub use checkpoint::{Checkpoint, Signer};
pub use entry::{Decision, Entry, Operation, Outcome, Proof, RequestId, Who};
pub use log::{AppendError, Log, OpenError, Receipt};
