//! The link between an imaging device and the workstation that carries its images on: packets, bundle, transfer.
//!
//! One image is one *transfer*: a bundle (the signed manifest and one sealed message for each key server), then the container,
//! then the totals. It travels as numbered packets with a checksum each, set apart by zero bytes, so that a receiver that
//! comes late or saw damage finds the next packet. A lost packet is asked for again; a transfer without its end, or whose
//! totals do not fit, is recognisably incomplete. Spec: `docs/device-link.md`.
//!
//! Nothing here is secret and nothing here is believed: checksums and digest find accidents. Who changes bytes on purpose is
//! found by the signature of the manifest, by the nodes, and by whoever opens the container.
//!
//! | side | uses |
//! |---|---|
//! | device | [`encode`], [`BundleWriter`], [`Totals`]; [`Reader`] for the answers |
//! | workstation | [`Reader`], [`Receiver`], [`Bundle`] |

mod bundle;
mod packet;
mod reader;
mod receiver;
#[cfg(test)]
mod tests;
mod transfer;

pub use bundle::{BUNDLE_MAGIC, BUNDLE_VERSION, Bundle, BundleWriter, MAX_BUNDLE, MAX_SEALED};
pub use packet::{Fault, Kind, MAX_PACKET, MAX_PAYLOAD, Packet, VERSION, encode};
pub use reader::Reader;
pub use receiver::{Event, Receiver, Reply};
pub use transfer::{AbortReason, Begin, End, Totals};
