//! Secret elements of the P-256 scalar field: drawing, reading and writing them, wiped and in constant time.

use p256::{
    FieldBytes, Scalar,
    elliptic_curve::group::ff::{FromUniformBytes, PrimeField},
};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

/// A uniform scalar: 512 random bits, reduced. The bias is below 2⁻²⁵⁵, and no source can make it loop.
pub(crate) fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Zeroizing<Scalar> {
    let mut wide = Zeroizing::new([0u8; 64]);
    rng.fill_bytes(&mut *wide);
    Zeroizing::new(Scalar::from_uniform_bytes(&wide))
}

/// The scalar with these big-endian bytes, if they are below the order of the group.
pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Option<Zeroizing<Scalar>> {
    let mut repr = FieldBytes::from(*bytes);
    let scalar = Option::<Scalar>::from(Scalar::from_repr(repr)).map(Zeroizing::new);
    repr.zeroize();
    scalar
}

/// The 32 big-endian bytes of a scalar.
pub(crate) fn to_bytes(scalar: &Scalar) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(scalar.to_repr().into())
}
