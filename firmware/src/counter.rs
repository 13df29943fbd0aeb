//! The frame counter: what a device keeps over a loss of power.

/// A number that only rises.
///
/// Implementers: [`Counter::advance`] returns a number that is higher than every number it returned before, in this life of the
/// device or an earlier one, and returns it only after it is stored so that a loss of power at any moment cannot bring it back. Numbers
/// may be skipped. For callers: take one for each image, before anything of the image is drawn.
///
/// Key servers refuse a manifest whose counter is not new, and [`crate::Random`] mixes it into every image's randomness.
pub trait Counter {
    /// Why there is no number.
    type Error: core::fmt::Debug;

    /// The next number.
    ///
    /// # Errors
    /// Whatever keeps it from being stored.
    fn advance(&mut self) -> Result<u64, Self::Error>;
}
