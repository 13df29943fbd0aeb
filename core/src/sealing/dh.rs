//! The Diffie-Hellman step of DHKEM(P-256, HKDF-SHA256) (RFC 9180, section 4.1), and the P-256 keys around it.

use core::fmt;

use p256::{
    AffinePoint, ProjectivePoint, Scalar, Sec1Point,
    elliptic_curve::{point::AffineCoordinates, sec1::ToSec1Point},
};
use rand_core::CryptoRng;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Error, Opaque, curve, manifest::Point, scalar};

/// A private P-256 key that can do Diffie-Hellman: in memory, or a handle to one in a token.
///
/// For implementers: `dh` is only ever called with a point of the curve that is not the point at infinity. It gives the
/// x coordinate of private key × peer, and must not derive anything from it. For callers: a call may take milliseconds
/// in a token, and blocks.
pub trait DhKey {
    /// Why the key could not be used.
    type Error;

    /// The public half, uncompressed SEC 1.
    fn public_key(&self) -> [u8; 65];

    /// The x coordinate of private key × peer (SEC 1, section 3.3.1).
    ///
    /// # Errors
    /// Whatever keeps the key from being used.
    fn dh(&self, peer: &[u8; 65]) -> Result<DhSecret, Self::Error>;
}

/// The x coordinate of a Diffie-Hellman point, 32 bytes big endian. Wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DhSecret([u8; 32]);

impl DhSecret {
    /// The secret with these bytes. The caller wipes its own copy.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DhSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DhSecret(<redacted>)")
    }
}

/// A public P-256 key that was checked to be a point of the curve and not the point at infinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey([u8; 65]);

impl PublicKey {
    /// Reads an uncompressed (65 bytes) or compressed (33 bytes) SEC 1 point and checks it (RFC 9180, section 7.1.4).
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything else.
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, Error> {
        let point = parse(bytes)?;
        Self::from_affine(&point)
    }

    /// The key as uncompressed SEC 1.
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// The key as compressed SEC 1.
    pub fn compressed(&self) -> Point {
        let mut bytes = [0; 33];
        let (tag, x) = bytes.split_at_mut(1);
        tag.copy_from_slice(&[2 | self.0[64] & 1]);
        x.copy_from_slice(&self.0[1..33]);
        Point(bytes)
    }

    fn from_affine(point: &AffinePoint) -> Result<Self, Error> {
        point.to_sec1_point(false).as_bytes().try_into().map(Self).map_err(|_| Error::Malformed)
    }
}

impl TryFrom<&Point> for PublicKey {
    type Error = Error;

    fn try_from(point: &Point) -> Result<Self, Error> {
        Self::from_sec1(&point.0)
    }
}

/// A private key in memory, with the arithmetic of the `p256` crate. Wiped on drop.
pub struct SoftDhKey {
    scalar: Scalar,
    public: PublicKey,
}

impl SoftDhKey {
    /// A fresh key.
    #[inline(never)]
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let drawn = scalar::random(rng);
        // Zero has no public key. It comes once in 2²⁵⁶ draws and then becomes one, so that nothing can fail here.
        let scalar = Zeroizing::new(Scalar::conditional_select(&drawn, &Scalar::ONE, drawn.ct_eq(&Scalar::ZERO)));
        let public = PublicKey::from_affine(&curve::times_generator(&scalar).to_affine());
        // The generator times a number that is neither zero nor the order of the group is not the point at infinity.
        let public = public.unwrap_or(PublicKey([0; 65]));
        Self { scalar: *scalar, public }
    }

    /// The key with these big-endian bytes.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless it is from 1 to the order of the group − 1.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let scalar = scalar::from_bytes(bytes).ok_or(Error::OutOfRange)?;
        let public =
            PublicKey::from_affine(&curve::times_generator(&scalar).to_affine()).map_err(|_| Error::OutOfRange)?;
        Ok(Self { scalar: *scalar, public })
    }

    /// The big-endian bytes of the key, for whoever must store it.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        scalar::to_bytes(&self.scalar)
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl DhKey for SoftDhKey {
    type Error = Opaque;

    fn public_key(&self) -> [u8; 65] {
        self.public.0
    }

    #[inline(never)]
    fn dh(&self, peer: &[u8; 65]) -> Result<DhSecret, Opaque> {
        let peer = parse(peer).map_err(|_| Opaque)?;
        let product = Zeroizing::new(curve::times(&ProjectivePoint::from(peer), &self.scalar));
        let affine = Zeroizing::new(product.to_affine());
        Ok(DhSecret(affine.x().into()))
    }
}

impl Drop for SoftDhKey {
    fn drop(&mut self) {
        self.scalar.zeroize();
    }
}

impl ZeroizeOnDrop for SoftDhKey {}

impl fmt::Debug for SoftDhKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftDhKey").field("public", &self.public.compressed()).finish_non_exhaustive()
    }
}

#[inline(never)]
fn parse(bytes: &[u8]) -> Result<AffinePoint, Error> {
    let encoded = Sec1Point::from_bytes(bytes).map_err(|_| Error::Malformed)?;
    // What is left out is the point at infinity and the compact form, which would give a point a second encoding.
    if !matches!(encoded.as_bytes(), [2 | 3, x @ ..] if x.len() == 32) && !matches!(encoded.as_bytes(), [4, ..]) {
        return Err(Error::Malformed);
    }
    AffinePoint::try_from(&encoded).map_err(|_| Error::Malformed)
}
