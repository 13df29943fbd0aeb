//! The node's side of the audit log: its key in the token signs checkpoints ([`signer`]), officers verify and export it
//! ([`command`]), what officers do there is in it too ([`console`]), and entries go to a hospital's audit repository as DICOM audit messages over syslog ([`export`]).
//!
//! The log itself is the crate `eds_audit`, which clients verify with.

pub mod command;
pub mod console;
pub mod export;
pub mod signer;

pub use eds_audit::{
    AppendError, Checkpoint, Decision, Entry, Log, OpenError, Operation, Outcome, Proof, Receipt, RequestId, Signer,
    Who, checkpoint, entry, log, tree, verify,
};
