//! A share as it stands in the database: sealed under a data key, which the token wrapped.
//!
//! Each call that stores shares draws one fresh AES-256 key. The token wraps it under the KEK; every share of the call is
//! sealed under it in this process, and its record holds both. So the token is asked once for all shares of a registration
//! that are opened together, and again for every answer: a data key is kept for no longer than that, and wiped.
//!
//! Record: wrapped data key ([`Record`]: version ‖ suite ‖ KEK id ‖ nonce or IV ‖ ciphertext ‖ tag) ‖ nonce 12 ‖
//! ciphertext 64 ‖ tag 16; the latter by AES-256-GCM. The additional data binds the share to key, node, epoch, index and
//! manifest: a record that was moved, or whose row was altered, does not open. The KEK is not named there, since the
//! wrapped data key is bound to it and nobody has that data key under another KEK but by the token; so a rotation of the
//! KEK wraps data keys anew and leaves sealed shares as they are.
//!
//! The data key of a registration vouches for its access lists, too, by an HMAC key that is derived from it: who has it has
//! the shares that the lists guard, so it gives nobody more, and a fetch asks the token once for both ([`Voucher`]).

use std::collections::HashMap;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    constant_time::verify_slices_are_equal,
    hkdf::{HKDF_SHA256, Prk},
    hmac,
};
use eds_core::{
    Opaque,
    ids::{Epoch, KeyId, NodeId, ShareIndex},
};
use zeroize::{Zeroize, Zeroizing};

use crate::hsm::{
    Hsm, HsmError, RecordContext, ToUnwrap, ToWrap,
    memory::random,
    record::{Record, prefixed},
};

/// What a share is bound to, beside its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShareContext {
    /// The key that it is a share of.
    pub key: KeyId,
    /// Its generation.
    pub epoch: Epoch,
    /// Its index.
    pub index: ShareIndex,
    /// The digest of the manifest that it was checked against.
    pub manifest: [u8; 32],
}

impl ShareContext {
    /// The additional data: each field after its length as u16 LE.
    pub fn additional_data(&self, node: NodeId) -> Vec<u8> {
        prefixed(&[
            b"eds/v1/record",
            &SUITE.to_le_bytes(),
            self.key.as_bytes(),
            node.as_bytes(),
            &self.epoch.value().to_le_bytes(),
            &self.index.value().to_le_bytes(),
            &self.manifest,
        ])
    }
}

/// The suite of sealed shares, 1: AES-256-GCM. That of the wrapped data key stands in the record.
const SUITE: u16 = 1;
const KEY: usize = 32;
const NONCE: usize = 12;
const SHARE: usize = 64;
const TAG: usize = 16;

/// The two scalars of a share.
pub type ShareBytes = Zeroizing<[u8; SHARE]>;

/// A share to be sealed, and what to bind it to.
pub struct ToSeal {
    /// What it is bound to.
    pub context: ShareContext,
    /// The share.
    pub share: ShareBytes,
}

/// A record with what its share must be bound to.
#[derive(Clone, Copy)]
pub struct ToOpen<'a> {
    /// What it must be bound to.
    pub context: ShareContext,
    /// The record, as [`seal`] returned it.
    pub record: &'a [u8],
}

/// What the data key of a record says of the access list of its key: HMAC-SHA-256, by a key derived from the data key, over
/// what the share is bound to and the list. It holds for this share of this key on this node and for this list, and for
/// no other; and for no share that is sealed anew.
pub type Voucher = [u8; 32];

/// Shares that were sealed together.
pub struct Sealed {
    /// One record for each, in order.
    pub records: Vec<Vec<u8>>,
    vouching: Option<hmac::Key>,
}

impl Sealed {
    /// Vouches for the access list, of this SHA-256 digest, of a key whose share is among these.
    pub fn voucher(&self, context: &ShareContext, node: NodeId, list: &[u8; 32]) -> Option<Voucher> {
        voucher(self.vouching.as_ref()?, context, node, list)
    }
}

/// Seals shares that come together under a fresh data key. `wrap` is the token's.
///
/// # Errors
/// Those of `wrap`, and [`HsmError`] when there are no random bytes or no cipher.
pub fn seal<E: From<HsmError>>(
    node: NodeId,
    shares: &[ToSeal],
    wrap: impl FnOnce(Vec<ToWrap>) -> Result<Vec<Vec<u8>>, E>,
) -> Result<Sealed, E> {
    if shares.is_empty() {
        return Ok(Sealed { records: Vec::new(), vouching: None });
    }
    let bytes = random::<KEY>()?;
    let key = DataKey::new(bytes.as_slice()).map_err(|Opaque| broken())?;
    let secret = Zeroizing::new(bytes.to_vec());
    let wrapped = wrap(vec![ToWrap { context: RecordContext::data_key(node), secret }])?.pop().ok_or_else(broken)?;
    let seal_one = |item: &ToSeal| {
        let data = item.context.additional_data(node);
        let sealed = key.seal(*random::<NONCE>()?, &data, &item.share)?;
        Ok([wrapped.as_slice(), &sealed].concat())
    };
    let records = shares.iter().map(seal_one).collect::<Result<_, E>>()?;
    Ok(Sealed { records, vouching: Some(key.vouching) })
}

/// Records whose data keys the token unwrapped: for the moment of an answer.
pub struct Unwrapped<'a> {
    node: NodeId,
    records: Grouped<'a>,
    keys: Vec<Option<DataKey>>,
}

impl<'a> Unwrapped<'a> {
    /// Has the data keys of records unwrapped. The token is asked once for each distinct one.
    ///
    /// # Errors
    /// [`HsmError`] when the token could not decide.
    pub fn of(hsm: &dyn Hsm, node: NodeId, records: &[ToOpen<'a>]) -> Result<Self, HsmError> {
        let records = Grouped::new(records);
        let keys = records.unwrap(hsm, node)?;
        let keys = keys.iter().map(|key| DataKey::new(key.as_ref()?).ok()).collect();
        Ok(Self { node, records, keys })
    }

    /// Opens the share of the record at this position.
    ///
    /// # Errors
    /// [`Opaque`] when it was altered, is bound to something else, or its data key does not unwrap. It spoils no other.
    pub fn open(&self, position: usize) -> Result<ShareBytes, Opaque> {
        Grouped::open_one(self.node, &self.keys, self.records.parts.get(position).ok_or(Opaque)?)
    }

    /// Vouches for the access list, of this SHA-256 digest, of the key whose record is at this position: the caller knows
    /// that the list is genuine. Nobody vouches where the data key does not unwrap.
    pub fn voucher(&self, position: usize, list: &[u8; 32]) -> Option<Voucher> {
        let parts = self.records.parts.get(position)?.as_ref().ok()?;
        let key = self.keys.get(parts.place)?.as_ref()?;
        voucher(&key.vouching, &parts.context, self.node, list)
    }

    /// Whether this is the voucher of the record at this position for this access list.
    pub fn vouches(&self, position: usize, list: &[u8; 32], claimed: &Voucher) -> bool {
        self.voucher(position, list).is_some_and(|right| verify_slices_are_equal(&right, claimed).is_ok())
    }
}

/// Opens shares, in order: see [`Unwrapped`].
///
/// # Errors
/// [`HsmError`] when the token could not decide.
pub fn open(hsm: &dyn Hsm, node: NodeId, records: &[ToOpen<'_>]) -> Result<Vec<Result<ShareBytes, Opaque>>, HsmError> {
    let keys = Unwrapped::of(hsm, node, records)?;
    Ok((0..records.len()).map(|position| keys.open(position)).collect())
}

/// Over label, additional data of the share and digest of the list, each after its length as u16 LE.
fn voucher(key: &hmac::Key, context: &ShareContext, node: NodeId, list: &[u8; 32]) -> Option<Voucher> {
    let message = prefixed(&[b"eds/v1/access-list-voucher", &context.additional_data(node), list]);
    hmac::sign(key, &message).as_ref().try_into().ok()
}

/// Wraps the data keys of records anew under the KEK that is active by now: what older KEKs wrapped, in the order in which
/// `ShareStore::wrapped_by` gives it, so that records of one data key stand together.
#[derive(Default)]
pub struct Rewrap {
    /// The last data key as it was wrapped before and anew: its records may not have come to their end.
    last: Option<(Vec<u8>, Vec<u8>)>,
}

impl Rewrap {
    /// Records whose data keys are wrapped anew, in order; of those that do not open, [`Opaque`]. Records that had one
    /// wrapped data key have one again. `wrap` is the token's.
    ///
    /// # Errors
    /// Those of `wrap`, and [`HsmError`] when the token could not decide.
    pub fn step<E: From<HsmError>>(
        &mut self,
        hsm: &dyn Hsm,
        node: NodeId,
        records: &[ToOpen<'_>],
        wrap: impl FnOnce(Vec<ToWrap>) -> Result<Vec<Vec<u8>>, E>,
    ) -> Result<Vec<Result<Vec<u8>, Opaque>>, E> {
        let records = Grouped::new(records);
        let secrets = records.unwrap(hsm, node)?;
        let keys: Vec<Option<DataKey>> = secrets.iter().map(|key| DataKey::new(key.as_ref()?).ok()).collect();
        // A record that would not open later is told of now, while the KEK is still there.
        let opened: Vec<bool> = records.open(node, &keys).iter().map(Result::is_ok).collect();
        let active = hsm.kek();
        let known = |old: &[u8]| {
            let (_, anew) = self.last.as_ref().filter(|(before, _)| before.as_slice() == old)?;
            Record::parse(anew).is_ok_and(|record| record.kek == active).then(|| anew.clone())
        };
        let mut anew: Vec<Option<Vec<u8>>> = records.wrapped.iter().map(|old| known(old)).collect();
        let new =
            |place: usize| anew.get(place).is_some_and(Option::is_none) && keys.get(place).is_some_and(Option::is_some);
        let context = RecordContext::data_key(node);
        let to_wrap = secrets.into_iter().enumerate().filter(|(place, _)| new(*place));
        let to_wrap: Vec<_> = to_wrap.filter_map(|(_, secret)| Some(ToWrap { context, secret: secret? })).collect();
        let mut made = if to_wrap.is_empty() { Vec::new() } else { wrap(to_wrap)? }.into_iter();
        for (place, key) in anew.iter_mut().zip(&keys) {
            if place.is_none() && key.is_some() {
                *place = Some(made.next().ok_or_else(broken)?);
            }
        }
        let last = records.wrapped.last().zip(anew.last().cloned().flatten());
        self.last = last.map(|(old, anew)| (old.to_vec(), anew));
        let renewed = |(record, opened): (&Result<Parts<'_>, Opaque>, bool)| {
            let parts = record.as_ref().ok().filter(|_| opened).ok_or(Opaque)?;
            let anew = anew.get(parts.place).and_then(Option::as_ref).ok_or(Opaque)?;
            Ok([anew.as_slice(), parts.nonce, parts.ciphertext, parts.tag].concat())
        };
        Ok(records.parts.iter().zip(opened).map(renewed).collect())
    }
}

/// A record taken apart.
struct Parts<'a> {
    context: ShareContext,
    /// Which of the distinct data keys sealed it.
    place: usize,
    nonce: &'a [u8; NONCE],
    ciphertext: &'a [u8; SHARE],
    tag: &'a [u8; TAG],
}

/// Records, and the wrapped data keys that they name, each once.
struct Grouped<'a> {
    parts: Vec<Result<Parts<'a>, Opaque>>,
    wrapped: Vec<&'a [u8]>,
}

impl<'a> Grouped<'a> {
    fn new(records: &[ToOpen<'a>]) -> Self {
        let (mut wrapped, mut places) = (Vec::new(), HashMap::new());
        let parts = records.iter().map(|item| {
            let (key, rest) = Record::split(item.record, KEY).map_err(|_| Opaque)?;
            let (nonce, rest) = rest.split_first_chunk().ok_or(Opaque)?;
            let (ciphertext, tag) = rest.split_first_chunk().ok_or(Opaque)?;
            let tag = tag.try_into().map_err(|_| Opaque)?;
            let place = *places.entry(key).or_insert_with(|| {
                wrapped.push(key);
                wrapped.len() - 1
            });
            Ok(Parts { context: item.context, place, nonce, ciphertext, tag })
        });
        let parts = parts.collect();
        Self { parts, wrapped }
    }

    /// The data keys, in order; none for what does not unwrap.
    fn unwrap(&self, hsm: &dyn Hsm, node: NodeId) -> Result<Vec<Option<Zeroizing<Vec<u8>>>>, HsmError> {
        if self.wrapped.is_empty() {
            return Ok(Vec::new());
        }
        let context = RecordContext::data_key(node);
        let items = self.wrapped.iter().map(|record| ToUnwrap { context, record: record.to_vec() });
        Ok(hsm.unwrap(items.collect())?.into_iter().map(Result::ok).collect())
    }

    fn open(&self, node: NodeId, keys: &[Option<DataKey>]) -> Vec<Result<ShareBytes, Opaque>> {
        self.parts.iter().map(|record| Self::open_one(node, keys, record)).collect()
    }

    fn open_one(
        node: NodeId,
        keys: &[Option<DataKey>],
        record: &Result<Parts<'_>, Opaque>,
    ) -> Result<ShareBytes, Opaque> {
        let parts = record.as_ref().map_err(|_| Opaque)?;
        let key = keys.get(parts.place).and_then(Option::as_ref).ok_or(Opaque)?;
        key.open(parts, &parts.context.additional_data(node))
    }
}

/// A data key in memory, and what is derived from it. AWS-LC cleans its memory when it is dropped.
struct DataKey {
    sealing: LessSafeKey,
    vouching: hmac::Key,
}

impl DataKey {
    /// The key that vouches for access lists: HKDF-Expand-SHA-256 (RFC 5869, section 2.3) of the data key, which is
    /// uniformly random.
    fn new(bytes: &[u8]) -> Result<Self, Opaque> {
        let sealing = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| Opaque)?);
        let random = Prk::new_less_safe(HKDF_SHA256, bytes);
        let vouching = random.expand(&[b"eds/v1/access-list-voucher"], hmac::HMAC_SHA256).map_err(|_| Opaque)?.into();
        Ok(Self { sealing, vouching })
    }

    /// Nonce, ciphertext and tag.
    fn seal(&self, nonce: [u8; NONCE], data: &[u8], share: &ShareBytes) -> Result<[u8; NONCE + SHARE + TAG], HsmError> {
        let mut sealed = [0; NONCE + SHARE + TAG];
        let (front, rest) = sealed.split_at_mut(NONCE);
        let (body, end) = rest.split_at_mut(SHARE);
        front.copy_from_slice(&nonce);
        body.copy_from_slice(share.as_slice());
        let tag = self.sealing.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(data), body);
        match tag {
            Ok(tag) if tag.as_ref().len() == TAG => end.copy_from_slice(tag.as_ref()),
            _ => {
                body.zeroize();
                return Err(broken());
            }
        }
        Ok(sealed)
    }

    fn open(&self, parts: &Parts<'_>, data: &[u8]) -> Result<ShareBytes, Opaque> {
        let mut share = Zeroizing::new(*parts.ciphertext);
        let nonce = Nonce::assume_unique_for_key(*parts.nonce);
        match self.sealing.open_in_place_separate_tag(nonce, Aad::from(data), parts.tag, share.as_mut_slice()) {
            Ok(_) => Ok(share),
            Err(_) => Err(Opaque),
        }
    }
}

fn broken() -> HsmError {
    HsmError::Unavailable { operation: "wrap a data key", source: None }
}

#[cfg(test)]
mod tests;
