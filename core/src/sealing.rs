//! Sealing of shares to a public key: HPKE (RFC 9180) base mode, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
//!
//! A client or device seals the shares of a registration to the transport key of a node, and a node seals an answer to a
//! one-time key of the client. One message, one encapsulation, one AEAD call.
//!
//! The private-key operation is the trait [`DhKey`], so that the key can stay in a hardware token; every peer point is
//! checked in software before a key sees it. Where the key works on another thread, the steps are separate:
//! [`SealedMessage::parse`] checks the message, [`SealedMessage::peer`] is what the key gets, and
//! [`SealedMessage::open_with_dh`] does the rest.
//!
//! Base mode knows no sender. What a message is bound to is in its [`Info`] (purpose, suite, cluster, node) and its
//! associated data (for a registration `registrant::registration_aad`, for an answer the SHA-256 of the request body).
//! Plaintext buffers belong to the caller, who wipes them.

#[cfg(feature = "aws-lc-rs")]
pub mod aws_lc;
mod dh;
mod hpke;
mod info;
mod list;
mod message;
#[cfg(all(test, feature = "std"))]
mod tests;

#[cfg(feature = "aws-lc-rs")]
pub use aws_lc::AwsLcDhKey;
pub use dh::{DhKey, DhSecret, PublicKey, SoftDhKey};
pub use info::Info;
pub use list::{ENTRY_BYTES, LIST_VERSION, ShareList, encode_share_list, share_list_len};
pub use message::{MESSAGE_VERSION, OVERHEAD, SealedMessage, SealingError, open, seal, seal_from};
#[cfg(feature = "std")]
pub use message::{open_vec, seal_vec};
