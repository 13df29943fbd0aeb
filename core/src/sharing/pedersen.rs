//! Pedersen commitments v·G + b·H over P-256.
//!
//! Hiding is perfect; binding needs that nobody knows the discrete logarithm of H to the base G. H is therefore the
//! RFC 9380 hash of a fixed message under a fixed domain separation tag; a test repeats the derivation.

use p256::{
    AffinePoint, ProjectivePoint, Scalar, Sec1Point,
    elliptic_curve::{
        group::Group,
        sec1::{FromSec1Point, ToSec1Point},
    },
};

use crate::{
    Error, curve,
    ids::ShareIndex,
    manifest::{Manifest, Point},
};

/// The domain separation tag under which the second generator is hashed.
pub const SECOND_GENERATOR_DST: &str = "eds/v1/pedersen-P256_XMD:SHA-256_SSWU_RO_";
/// The message whose hash is the second generator.
pub const SECOND_GENERATOR_MESSAGE: &str = "second generator";
/// The second generator H, uncompressed SEC 1: `hash_to_curve` of RFC 9380, section 3, suite P256_XMD:SHA-256_SSWU_RO_.
pub const SECOND_GENERATOR: [u8; 65] = [
    0x04, // uncompressed: x, then y
    0xe6, 0x4e, 0x07, 0x15, 0x4f, 0xe6, 0xe0, 0xa6, 0xfa, 0xab, 0x76, 0xfc, 0x94, 0xdc, 0x63, 0x44, //
    0x7d, 0xd5, 0x62, 0x21, 0x61, 0x96, 0xab, 0xaf, 0x62, 0xa3, 0x0f, 0x15, 0x24, 0x50, 0xf9, 0x2e, //
    0x4c, 0x34, 0x32, 0x04, 0x20, 0x52, 0x1b, 0x66, 0x59, 0x46, 0x29, 0xf2, 0x83, 0x74, 0xec, 0xe0, //
    0x6b, 0xcd, 0x4b, 0x2e, 0x47, 0xa5, 0x95, 0x56, 0xf9, 0x04, 0xb4, 0x8a, 0x29, 0xf6, 0x49, 0xba, //
];

/// H as a point. The error cannot happen while [`SECOND_GENERATOR`] is what its test says.
#[inline(never)]
pub(super) fn second_generator() -> Result<ProjectivePoint, Error> {
    let encoded = Sec1Point::from_bytes(SECOND_GENERATOR).map_err(|_| Error::Malformed)?;
    Option::<AffinePoint>::from(AffinePoint::from_sec1_point(&encoded)).map(Into::into).ok_or(Error::Malformed)
}

/// v·G + b·H, in constant time.
pub(super) fn commit(value: &Scalar, blinder: &Scalar) -> Result<ProjectivePoint, Error> {
    Ok(curve::times_generator(value) + curve::times(&second_generator()?, blinder))
}

/// The compressed form of a commitment.
///
/// # Errors
/// [`Error::Malformed`] for the point at infinity, which has no 33-byte form; a random commitment is never that.
#[inline(never)]
pub(super) fn encode_point(point: &ProjectivePoint) -> Result<Point, Error> {
    let encoded = point.to_affine().to_sec1_point(true);
    encoded.as_bytes().try_into().map(Point).map_err(|_| Error::Malformed)
}

/// A commitment of a manifest as a point of the curve.
///
/// # Errors
/// [`Error::Malformed`] for anything but a compressed point of the curve.
pub(super) fn decode_point(point: &Point) -> Result<AffinePoint, Error> {
    let encoded = Sec1Point::from_bytes(point.0).map_err(|_| Error::Malformed)?;
    if !encoded.is_compressed() {
        // SEC 1 also has a compact form of 33 bytes: one point would have two encodings.
        return Err(Error::Malformed);
    }
    AffinePoint::try_from(&encoded).map_err(|_| Error::Malformed)
}

/// C₀ + C₁·x + … + C₍m−1₎·xᵐ⁻¹ at x = index: the commitment to the share of that node. Variable time: all of it is public.
pub(super) fn commitment_at(manifest: &Manifest, index: ShareIndex) -> Result<ProjectivePoint, Error> {
    let mut sum = ProjectivePoint::IDENTITY;
    for point in manifest.commitments.iter().rev() {
        sum = times_index(&sum, index) + decode_point(point)?;
    }
    Ok(sum)
}

/// A point times a small public number, by doubling and adding.
pub(super) fn times_index(point: &ProjectivePoint, index: ShareIndex) -> ProjectivePoint {
    let index = index.value();
    let mut product = ProjectivePoint::IDENTITY;
    for bit in (0..u16::BITS - index.leading_zeros()).rev() {
        product = product.double();
        if index >> bit & 1 == 1 {
            product += point;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use p256::{NistP256, hash2curve::GroupDigest};

    use super::*;

    #[test]
    fn the_second_generator_is_the_hash_of_its_label() {
        let hashed =
            NistP256::hash_from_bytes(&[SECOND_GENERATOR_MESSAGE.as_bytes()], &[SECOND_GENERATOR_DST.as_bytes()])
                .expect("a short label");
        assert_eq!(hashed.to_affine().to_sec1_point(false).as_bytes(), SECOND_GENERATOR);
        assert_eq!(second_generator(), Ok(hashed));
    }

    #[test]
    fn a_point_times_a_number_is_the_sum_of_so_many() {
        for number in [1, 2, 3, 255, 256, 65_535] {
            let index = ShareIndex::new(number).expect("not zero");
            let product = times_index(&ProjectivePoint::GENERATOR, index);
            assert_eq!(product, ProjectivePoint::GENERATOR * Scalar::from(u32::from(number)));
        }
    }

    #[test]
    fn only_a_compressed_point_of_the_curve_is_a_commitment() {
        let good = encode_point(&ProjectivePoint::GENERATOR).expect("not infinity");
        assert_eq!(decode_point(&good), Ok(AffinePoint::GENERATOR));
        for tag in [0, 1, 4, 5, 6, 7] {
            let mut bad = good;
            bad.0[0] = tag;
            assert_eq!(decode_point(&bad), Err(Error::Malformed), "tag {tag}");
        }
        assert_eq!(decode_point(&Point([0; 33])), Err(Error::Malformed));
        assert_eq!(decode_point(&Point([0xff; 33])), Err(Error::Malformed));
        assert_eq!(encode_point(&ProjectivePoint::IDENTITY), Err(Error::Malformed));
    }
}
