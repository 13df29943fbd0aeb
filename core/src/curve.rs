//! Multiplication on P-256, in functions of their own.
//!
//! A multiplication needs about 2 KiB of stack for its table. Where the compiler puts several into one function, their tables
//! lie beside each other, and an imaging device has no memory for that: here they use the same stack one after the other.

use p256::{ProjectivePoint, Scalar, elliptic_curve::group::Group};

/// scalar × G, in constant time.
#[inline(never)]
pub(crate) fn times_generator(scalar: &Scalar) -> ProjectivePoint {
    ProjectivePoint::mul_by_generator(scalar)
}

/// scalar × point, in constant time.
#[inline(never)]
pub(crate) fn times(point: &ProjectivePoint, scalar: &Scalar) -> ProjectivePoint {
    point * scalar
}
