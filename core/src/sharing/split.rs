//! Splitting: draws the two polynomials, commits to them, evaluates them for every node and wipes them.
//!
//! Nothing here depends on the value of a secret in its timing: P-256 scalars are multiplied and added in constant time,
//! and the only branches are on the public numbers m, n and the node numbers.

use heapless::Vec;
use p256::Scalar;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{FileSecret, Share, ShareRecord, pedersen};
use crate::{
    Error,
    ids::{ClusterId, Epoch, KeyId, MAX_NODES, MAX_THRESHOLD, ShareIndex, Threshold},
    manifest::Manifest,
    scalar,
};

/// What a secret is split for.
#[derive(Clone, Copy, Debug)]
pub struct SplitParams<'a> {
    /// The key that the secret is.
    pub key: KeyId,
    /// The cluster that gets the shares.
    pub cluster: ClusterId,
    /// The version of the cluster directory that the nodes were taken from.
    pub directory_version: u64,
    /// The generation of the shares: 0 when a key is registered.
    pub epoch: Epoch,
    /// m of n; n must be the number of nodes.
    pub threshold: Threshold,
    /// The directory numbers of the nodes, in any order.
    pub nodes: &'a [ShareIndex],
}

impl SplitParams<'_> {
    /// The manifest without what only the dealer knows: no shares, no commitments.
    pub const fn outline(&self) -> Manifest {
        Manifest {
            key: self.key,
            cluster: self.cluster,
            directory_version: self.directory_version,
            epoch: self.epoch,
            threshold: self.threshold,
            shares: Vec::new(),
            commitments: Vec::new(),
            origin: None,
        }
    }
}

/// Splits a secret: one share for each node, in rising order of node number, and the manifest that describes them.
///
/// The manifest has no origin; a device adds its own and signs.
///
/// # Errors
/// [`Error::Mismatch`] when there are not n nodes, [`Error::Duplicate`] when a node is named twice.
pub fn split<R: CryptoRng + ?Sized>(
    secret: &FileSecret,
    params: &SplitParams<'_>,
    rng: &mut R,
) -> Result<(Manifest, Vec<ShareRecord, MAX_NODES>), Error> {
    let dealer = Dealer::new(secret, params, rng)?;
    let manifest = dealer.manifest(params)?;
    let mut records = Vec::new();
    for (index, _) in &manifest.shares {
        records.push(dealer.share(*index)).map_err(|_| Error::OutOfRange)?;
    }
    Ok((manifest, records))
}

/// A secret that is being split: gives the manifest, and one share after the other, so that a device with little memory never
/// holds two. Wiped on drop.
pub struct Dealer {
    key: KeyId,
    epoch: Epoch,
    values: Polynomial,
    blinders: Polynomial,
}

impl Dealer {
    /// Draws the polynomials.
    ///
    /// # Errors
    /// As [`split`].
    #[inline(never)]
    pub fn new<R: CryptoRng + ?Sized>(
        secret: &FileSecret,
        params: &SplitParams<'_>,
        rng: &mut R,
    ) -> Result<Self, Error> {
        sorted_nodes(params)?;
        let needed = usize::from(params.threshold.needed());
        Ok(Self {
            key: params.key,
            epoch: params.epoch,
            values: Polynomial::random(secret.scalar(), needed, rng),
            blinders: Polynomial::random(&scalar::random(rng), needed, rng),
        })
    }

    /// The manifest, for the parameters that the dealer was made with.
    ///
    /// # Errors
    /// As [`split`]; [`Error::Mismatch`] for other parameters.
    pub fn manifest(&self, params: &SplitParams<'_>) -> Result<Manifest, Error> {
        let mut manifest = params.outline();
        self.describe(params, &mut manifest)?;
        Ok(manifest)
    }

    /// [`Dealer::manifest`] into the place of [`SplitParams::outline`], for a device that has no memory for a second one.
    ///
    /// # Errors
    /// As [`Dealer::manifest`]; then the manifest is unfinished and fails its own checks.
    pub fn describe(&self, params: &SplitParams<'_>, manifest: &mut Manifest) -> Result<(), Error> {
        if params.key != self.key
            || params.epoch != self.epoch
            || usize::from(params.threshold.needed()) != self.values.length
        {
            return Err(Error::Mismatch);
        }
        for (value, blinder) in self.values.coefficients().zip(self.blinders.coefficients()) {
            let commitment = pedersen::encode_point(&pedersen::commit(value, blinder)?)?;
            manifest.commitments.push(commitment).map_err(|_| Error::OutOfRange)?;
        }
        for index in sorted_nodes(params)? {
            manifest.shares.push((index, self.digest(index))).map_err(|_| Error::OutOfRange)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn digest(&self, index: ShareIndex) -> [u8; 32] {
        self.share(index).digest()
    }

    /// The share of the node with this number.
    pub fn share(&self, index: ShareIndex) -> ShareRecord {
        let share = Share::new(index, *self.values.at(index), *self.blinders.at(index));
        ShareRecord { key: self.key, epoch: self.epoch, share }
    }
}

/// A polynomial over the scalar field, lowest coefficient first. Wiped on drop.
struct Polynomial {
    coefficients: Zeroizing<[Scalar; MAX_THRESHOLD]>,
    length: usize,
}

impl Polynomial {
    /// The polynomial with this value at 0 and `length` − 1 uniformly random further coefficients. None of them is kept
    /// from being zero: secrecy is perfect only if all of the field is possible.
    fn random<R: CryptoRng + ?Sized>(constant: &Scalar, length: usize, rng: &mut R) -> Self {
        let mut coefficients = Zeroizing::new([Scalar::ZERO; MAX_THRESHOLD]);
        let mut slots = coefficients.iter_mut().take(length);
        if let Some(first) = slots.next() {
            *first = *constant;
        }
        for slot in slots {
            *slot = *scalar::random(rng);
        }
        Self { coefficients, length }
    }

    fn coefficients(&self) -> impl DoubleEndedIterator<Item = &Scalar> {
        let (used, _) = self.coefficients.split_at(self.length.min(MAX_THRESHOLD));
        used.iter()
    }

    /// The value at x = index, big endian (Horner).
    fn at(&self, index: ShareIndex) -> Zeroizing<[u8; 32]> {
        let x = Scalar::from(u32::from(index.value()));
        let mut value = Zeroizing::new(Scalar::ZERO);
        for coefficient in self.coefficients().rev() {
            *value = *value * x + coefficient;
        }
        scalar::to_bytes(&value)
    }
}

fn sorted_nodes(params: &SplitParams<'_>) -> Result<Vec<ShareIndex, MAX_NODES>, Error> {
    if params.nodes.len() != usize::from(params.threshold.nodes()) {
        return Err(Error::Mismatch);
    }
    let mut nodes = Vec::from_slice(params.nodes).map_err(|_| Error::OutOfRange)?;
    nodes.sort_unstable();
    if nodes.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(Error::Duplicate);
    }
    Ok(nodes)
}
