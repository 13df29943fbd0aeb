//! The hospital's side: DICOM peers store into EDS and get images back, over the protocol they already speak.
//!
//! One process on a trusted machine of the department. Each peer is allowed by its AE title, its address and, over TLS, its
//! certificate, and acts with the rights of a principal of its own: the key servers decide what it may have, not the
//! gateway. What is stored is encrypted as it arrives; success is answered when the container is durable and the key
//! servers hold the shares. Nothing that was not authenticated is sent: a failure in the middle of an object aborts the
//! association.
//!
//! | part | does |
//! |---|---|
//! | `settings` | gateway.toml |
//! | `peers` | who is calling |
//! | `association` | associations: negotiation, messages in and out |
//! | `command` | command sets |
//! | `spool` | holds an object while it arrives, encrypted |
//! | `storage` | C-STORE |
//! | `query` | C-FIND, and what is found |
//! | `delivery` | C-GET, C-MOVE |
//! | `server` | connections |

mod association;
mod command;
mod delivery;
mod error;
mod peers;
mod query;
mod server;
mod settings;
mod spool;
mod storage;

pub use error::Error;
pub use server::{Gateway, serve};
pub use settings::Settings;
