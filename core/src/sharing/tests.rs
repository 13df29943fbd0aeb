//! The algebra of sharing as properties, our arithmetic against `vsss-rs`, and every kind of wrong share.

use std::{string::ToString, vec, vec::Vec};

use hex_literal::hex;
use p256::{ProjectivePoint, Scalar};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use vsss_rs::{
    DefaultShare, IdentifierPrimeField, PedersenResult, ReadableShareSet, StdPedersenResult, ValueGroup,
    pedersen::PedersenOptions,
};

use super::{pedersen, *};
use crate::{
    Error,
    counter_rng::CounterRng,
    ids::{ClusterId, Threshold},
    manifest::{Manifest, Point},
    scalar,
};

type VsssShare = DefaultShare<IdentifierPrimeField<Scalar>, IdentifierPrimeField<Scalar>>;

fn index(number: u16) -> ShareIndex {
    ShareIndex::new(number).expect("not zero")
}

fn split_among(needed: u8, nodes: &[u16], label: &str) -> (FileSecret, Manifest, Vec<ShareRecord>) {
    let mut rng = CounterRng::new(label);
    let secret = FileSecret::random(&mut rng);
    let nodes: Vec<_> = nodes.iter().copied().map(index).collect();
    let params = SplitParams {
        key: KeyId::random(&mut rng),
        cluster: ClusterId::from_bytes([0xc1; 16]),
        directory_version: 7,
        epoch: Epoch::new(0),
        threshold: Threshold::new(needed, nodes.len() as u8).expect("in range"),
        nodes: &nodes,
    };
    let (manifest, records) = split(&secret, &params, &mut rng).expect("splits");
    (secret, manifest, records.into_iter().collect())
}

fn same(a: &FileSecret, b: &FileSecret) -> bool {
    a.ct_eq(b).into()
}

fn copy(record: &ShareRecord) -> ShareRecord {
    let share = Share::from_bytes(record.index(), &record.share.to_bytes());
    ShareRecord { key: record.key, epoch: record.epoch, share }
}

/// The independent check of `combine`: Lagrange interpolation at 0, as in any textbook.
fn interpolate_at_zero(points: &[(u16, Scalar)]) -> Scalar {
    let mut sum = Scalar::ZERO;
    for (i, (x, y)) in points.iter().enumerate() {
        let mut term = *y;
        for (j, (other, _)) in points.iter().enumerate() {
            if i != j {
                let (x, other) = (Scalar::from(u32::from(*x)), Scalar::from(u32::from(*other)));
                term *= other * (other - x).invert().expect("distinct");
            }
        }
        sum += term;
    }
    sum
}

/// m of n with at least this m, n distinct node numbers, and an order of them of which any m may be used.
fn scheme(least: u8) -> impl Strategy<Value = (u8, Vec<u16>, Vec<u16>)> {
    (least..=9)
        .prop_flat_map(move |nodes| {
            let numbers = proptest::collection::hash_set(1u16..=u16::MAX, usize::from(nodes));
            (least..=nodes, numbers)
        })
        .prop_flat_map(|(needed, numbers)| {
            let numbers: Vec<u16> = numbers.into_iter().collect();
            (Just(needed), Just(numbers.clone()), Just(numbers).prop_shuffle())
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_m_of_n_open_the_secret((needed, numbers, order) in scheme(1), label in "[a-z]{8}") {
        let (secret, manifest, records) = split_among(needed, &numbers, &label);
        let chosen: Vec<_> = order.iter().take(needed.into())
            .map(|number| copy(records.iter().find(|record| record.index().value() == *number).expect("has it")))
            .collect();
        prop_assert!(same(&combine(&manifest, &chosen).expect("combines"), &secret));
        let points: Vec<_> = chosen.iter()
            .map(|record| (record.index().value(), *scalar::from_bytes(record.share.value()).expect("in the field")))
            .collect();
        prop_assert_eq!(&*scalar::to_bytes(&interpolate_at_zero(&points)), &*secret.to_bytes());
        for record in &records {
            prop_assert_eq!(check_digest(&manifest, record), Ok(()));
            prop_assert_eq!(check_commitments(&manifest, record), Ok(()));
            prop_assert_eq!(verify(&manifest, record), Ok(()));
        }
    }

    #[test]
    fn m_minus_1_shares_fit_any_secret((needed, numbers, order) in scheme(2), label in "[a-z]{8}") {
        let (_, _, records) = split_among(needed, &numbers, &label);
        // For any other secret there is a polynomial of degree m − 1 through it and the m − 1 known shares: the known
        // shares and the value at 0 are m points, and any m points are on one.
        let mut points: Vec<_> = order.iter().take(usize::from(needed) - 1)
            .map(|number| records.iter().find(|record| record.index().value() == *number).expect("has it"))
            .map(|record| (record.index().value(), *scalar::from_bytes(record.share.value()).expect("in the field")))
            .collect();
        let other = *scalar::random(&mut CounterRng::new("another secret"));
        let free = (1..=u16::MAX).find(|x| points.iter().all(|(known, _)| known != x)).expect("there is one");
        // Solve for the value at a further point that makes the secret `other`, and see that it does.
        points.push((free, Scalar::ZERO));
        let without = interpolate_at_zero(&points);
        let weight = { let mut unit = points.clone(); unit.iter_mut().for_each(|p| p.1 = Scalar::ZERO);
            unit.last_mut().expect("has one").1 = Scalar::ONE; interpolate_at_zero(&unit) };
        points.last_mut().expect("has one").1 = (other - without) * weight.invert().expect("not zero");
        prop_assert_eq!(interpolate_at_zero(&points), other);
    }

    #[test]
    fn a_changed_bit_is_named_and_never_combined((needed, numbers, _) in scheme(1), label in "[a-z]{8}", bit in 0usize..512) {
        let (_, manifest, mut records) = split_among(needed, &numbers, &label);
        let mut bytes = records[0].share.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        records[0].share = Share::from_bytes(records[0].index(), &bytes);
        let culprit = Culprit { index: records[0].index(), fault: ShareFault::WrongDigest };
        match combine(&manifest, &records) {
            Err(CombineError::Faulty { culprits, good, .. }) => {
                prop_assert_eq!(culprits, vec![culprit]);
                prop_assert_eq!(good, records.len() - 1);
            }
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(check_commitments(&manifest, &records[0]), Err(ShareFault::OffPolynomial));
        prop_assert_eq!(verify(&manifest, &records[0]), Err(ShareFault::WrongDigest));
    }

    #[test]
    fn what_vsss_splits_is_verified_and_combined_here((needed, numbers, order) in scheme(2), label in "[a-z]{8}") {
        let (secret, manifest, records) = split_by_vsss(needed, &numbers, &label);
        for record in &records {
            prop_assert_eq!(check_commitments(&manifest, record), Ok(()));
        }
        let chosen: Vec<_> = order.iter().take(needed.into())
            .map(|number| copy(records.iter().find(|record| record.index().value() == *number).expect("has it")))
            .collect();
        prop_assert!(same(&combine(&manifest, &chosen).expect("combines"), &secret));
        let pairs: Vec<_> = records.iter().map(|record| (&manifest, record)).collect();
        prop_assert_eq!(verify_batch(&pairs, &mut CounterRng::new("weights")), Ok(()));
    }
}

/// A manifest and shares made by `vsss-rs` with our generators and node numbers.
fn split_by_vsss(needed: u8, numbers: &[u16], label: &str) -> (FileSecret, Manifest, Vec<ShareRecord>) {
    let mut rng = CounterRng::new(label);
    let secret = FileSecret::random(&mut rng);
    let options = PedersenOptions::<VsssShare, ValueGroup<ProjectivePoint>> {
        secret: &IdentifierPrimeField(*secret.scalar()),
        blinder: None,
        secret_generator: Some(ValueGroup(ProjectivePoint::GENERATOR)),
        blinder_generator: Some(ValueGroup(pedersen::second_generator().expect("is a point"))),
    };
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let ids: Vec<_> = numbers.iter().map(|number| IdentifierPrimeField(Scalar::from(u32::from(*number)))).collect();
    let result: StdPedersenResult<VsssShare, ValueGroup<ProjectivePoint>> =
        vsss_rs::pedersen::split_secret_with_participant_ids_iter(needed.into(), ids.len(), &options, &mut rng, ids)
            .expect("splits");
    let (key, epoch) = (KeyId::random(&mut rng), Epoch::new(3));
    let records: Vec<_> = numbers
        .iter()
        .zip(result.secret_shares().iter().zip(result.blinder_shares().iter()))
        .map(|(number, (value, blinder))| ShareRecord {
            key,
            epoch,
            share: Share::new(index(*number), *scalar::to_bytes(&value.value.0), *scalar::to_bytes(&blinder.value.0)),
        })
        .collect();
    let commitments = result.pedersen_verifier_set().iter().skip(2);
    let manifest = Manifest {
        key,
        cluster: ClusterId::from_bytes([0xc1; 16]),
        directory_version: 7,
        epoch,
        threshold: Threshold::new(needed, numbers.len() as u8).expect("in range"),
        shares: records.iter().map(|record| (record.index(), record.digest())).collect(),
        commitments: commitments.map(|point| pedersen::encode_point(&point.0).expect("not infinity")).collect(),
        origin: None,
    };
    (secret, manifest, records)
}

#[test]
fn the_largest_scheme_works() {
    let numbers: Vec<u16> = (1..=32).map(|n| n * 2000).collect();
    let (secret, manifest, records) = split_among(16, &numbers, "largest");
    assert!(same(&combine(&manifest, &records[16..]).expect("combines"), &secret));
    let values: Vec<_> = records.iter().map(|r| scalar::from_bytes(r.share.value()).expect("in the field")).collect();
    let shares: Vec<_> = records
        .iter()
        .zip(&values)
        .map(|(r, v)| VsssShare {
            identifier: IdentifierPrimeField(Scalar::from(u32::from(r.index().value()))),
            value: IdentifierPrimeField(**v),
        })
        .collect();
    assert_eq!(shares.combine().expect("combines").0, *secret.scalar(), "all 32 are on one polynomial");
}

#[test]
fn foreign_and_repeated_shares_are_named() {
    let (_, manifest, records) = split_among(2, &[1, 2, 3], "one");
    let (_, other, others) = split_among(2, &[1, 2, 3], "two");
    assert_ne!(manifest.key, other.key);
    let moved = |record: &ShareRecord, change: fn(&mut ShareRecord)| {
        let mut record = copy(record);
        change(&mut record);
        record
    };
    let renumbered = |record: &ShareRecord, number| ShareRecord {
        key: record.key,
        epoch: record.epoch,
        share: Share::from_bytes(index(number), &record.share.to_bytes()),
    };
    let (first, second) = (|| copy(&records[0]), || copy(&records[1]));
    let cases: [(&str, ShareRecord, u16, ShareFault); 6] = [
        ("of another key", copy(&others[1]), 2, ShareFault::OtherKey),
        ("of another epoch", moved(&records[1], |r| r.epoch = Epoch::new(1)), 2, ShareFault::OtherEpoch),
        ("of an unknown node", renumbered(&records[1], 9), 9, ShareFault::NotInManifest),
        ("under another number", renumbered(&records[1], 3), 3, ShareFault::WrongDigest),
        ("twice", first(), 1, ShareFault::Duplicate),
        (
            "relabelled from another key",
            ShareRecord { key: manifest.key, ..copy(&others[1]) },
            2,
            ShareFault::WrongDigest,
        ),
    ];
    for (what, bad, number, fault) in cases {
        let result = combine(&manifest, &[first(), bad]);
        let culprits = vec![Culprit { index: index(number), fault }];
        let expected = CombineError::Faulty { key: manifest.key, culprits, good: 1, needed: 2 };
        assert_eq!(result.expect_err(what), expected, "{what}");
    }
    // Two shares that swapped places: both are named.
    let swapped = [renumbered(&records[0], 2), renumbered(&records[1], 1)];
    match combine(&manifest, &swapped).expect_err("swapped") {
        CombineError::Faulty { culprits, good: 0, .. } => assert_eq!(culprits.len(), 2),
        other => panic!("{other:?}"),
    }
    // A wrong share does not make a good one of the same number a duplicate.
    match combine(&manifest, &[renumbered(&records[1], 1), first(), second()]).expect_err("one is wrong") {
        CombineError::Faulty { culprits, good: 2, .. } => {
            assert_eq!(culprits, [Culprit { index: index(1), fault: ShareFault::WrongDigest }]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn too_few_shares_say_how_many_are_missing() {
    let (_, manifest, records) = split_among(3, &[1, 2, 3, 4], "few");
    for have in 0..3 {
        let error = combine(&manifest, &records[..have]).expect_err("too few");
        assert!(matches!(error, CombineError::TooFew { have: h, needed: 3, .. } if h == have), "{error:?}");
        assert!(error.to_string().starts_with(&(3 - have).to_string()), "{error}");
    }
}

#[test]
fn digests_made_for_a_wrong_share_do_not_help() {
    let (_, mut manifest, mut records) = split_among(2, &[1, 2, 3], "dishonest registrant");
    let mut bytes = records[1].share.to_bytes();
    bytes[31] ^= 1;
    records[1].share = Share::from_bytes(index(2), &bytes);
    manifest.shares[1].1 = records[1].digest();
    assert_eq!(verify(&manifest, &records[1]), Err(ShareFault::OffPolynomial));
    match combine(&manifest, &records[..2]).expect_err("off the polynomial") {
        CombineError::Faulty { culprits, .. } => {
            assert_eq!(culprits, [Culprit { index: index(2), fault: ShareFault::OffPolynomial }]);
        }
        other => panic!("{other:?}"),
    }
    manifest.commitments[1] = Point([0; 33]);
    assert_eq!(verify(&manifest, &records[0]), Err(ShareFault::BadCommitments));
    assert_eq!(check_commitments(&manifest, &records[0]), Err(ShareFault::BadCommitments));
    // A scalar has one encoding: the order of the group added to it is refused, although it is the same number mod n.
    let too_large = Share::new(index(1), [0xff; 32], [0; 32]);
    let record = ShareRecord { key: manifest.key, epoch: manifest.epoch, share: too_large };
    assert_eq!(check_commitments(&manifest, &record), Err(ShareFault::OffPolynomial));
}

#[test]
fn a_batch_names_exactly_the_wrong_ones() {
    let keys: Vec<_> = (0..70u16).map(|n| split_among(2 + (n % 3) as u8, &[1, 5, 9, 300], &n.to_string())).collect();
    let mut records: Vec<_> = keys.iter().map(|(_, _, records)| copy(&records[3])).collect();
    records.push(copy(&keys[0].2[1]));
    let mut manifests: Vec<_> = keys.iter().map(|(_, manifest, _)| manifest.clone()).collect();
    manifests.push(manifests[0].clone());
    let batch = |manifests: &[Manifest], records: &[ShareRecord]| {
        let pairs: Vec<_> = manifests.iter().zip(records).collect();
        verify_batch(&pairs, &mut CounterRng::new("weights"))
    };
    assert_eq!(batch(&manifests, &records), Ok(()));
    assert_eq!(batch(&[], &[]), Ok(()));
    for bad in [0, 33, 70] {
        let mut wrong: Vec<_> = records.iter().map(copy).collect();
        let mut bytes = wrong[bad].share.to_bytes();
        bytes[63] ^= 1;
        wrong[bad].share = Share::from_bytes(wrong[bad].index(), &bytes);
        let fault = ShareFault::WrongDigest;
        assert_eq!(batch(&manifests, &wrong), Err(vec![BatchFault { position: bad, fault }]));
        // The same with a digest made for it: only the commitments tell.
        let mut fitted = manifests.clone();
        let slot = fitted[bad].shares.iter_mut().find(|(number, _)| *number == wrong[bad].index()).expect("has it");
        slot.1 = wrong[bad].digest();
        let fault = ShareFault::OffPolynomial;
        assert_eq!(batch(&fitted, &wrong), Err(vec![BatchFault { position: bad, fault }]));
    }
    let mut unreadable = manifests.clone();
    unreadable[5].commitments[0] = Point([0; 33]);
    let fault = ShareFault::BadCommitments;
    assert_eq!(batch(&unreadable, &records), Err(vec![BatchFault { position: 5, fault }]));
}

#[test]
fn two_wrong_shares_do_not_cancel_out() {
    // Without random weights, +1 and −1 on two values would sum to nothing.
    let keys: Vec<_> = ["a", "b"].iter().map(|label| split_among(2, &[1, 2], label)).collect();
    let mut manifests: Vec<_> = keys.iter().map(|(_, manifest, _)| manifest.clone()).collect();
    let mut records = Vec::new();
    for (manifest, (change, (_, _, shares))) in manifests.iter_mut().zip([Scalar::ONE, -Scalar::ONE].iter().zip(&keys))
    {
        let record = &shares[0];
        let value = *scalar::from_bytes(record.share.value()).expect("in the field") + change;
        let share = Share::new(record.index(), *scalar::to_bytes(&value), *record.share.blinder());
        records.push(ShareRecord { key: record.key, epoch: record.epoch, share });
        manifest.shares[0].1 = records.last().expect("just pushed").digest();
    }
    let pairs: Vec<_> = manifests.iter().zip(&records).collect();
    let faults = verify_batch(&pairs, &mut CounterRng::new("weights")).expect_err("both are wrong");
    assert_eq!(faults.len(), 2);
}

#[test]
fn nodes_must_be_as_many_as_the_threshold_says_and_different() {
    let mut rng = CounterRng::new("parameters");
    let secret = FileSecret::random(&mut rng);
    let mut attempt = |nodes: &[u16]| {
        let nodes: Vec<_> = nodes.iter().copied().map(index).collect();
        let params = SplitParams {
            key: KeyId::from_bytes([1; 16]),
            cluster: ClusterId::from_bytes([2; 16]),
            directory_version: 1,
            epoch: Epoch::new(0),
            threshold: Threshold::new(2, 3).expect("in range"),
            nodes: &nodes,
        };
        split(&secret, &params, &mut rng).map(|(manifest, _)| manifest)
    };
    assert_eq!(attempt(&[1, 2]), Err(Error::Mismatch));
    assert_eq!(attempt(&[1, 2, 3, 4]), Err(Error::Mismatch));
    assert_eq!(attempt(&[1, 2, 1]), Err(Error::Duplicate));
    let unsorted = attempt(&[30, 2, 7]).expect("any order will do");
    assert_eq!(unsorted.shares.iter().map(|(number, _)| number.value()).collect::<Vec<_>>(), [2, 7, 30]);
}

#[test]
fn secrets_do_not_print() {
    let (secret, _, records) = split_among(2, &[1, 2], "print");
    let printed = std::format!("{secret:?} {:?}", records[0]);
    assert!(printed.contains("<redacted>"));
    for byte in records[0].share.value().iter().chain(&*secret.to_bytes()).take(8) {
        assert!(!printed.contains(&std::format!("{byte}, ")), "{printed}");
    }
}

#[test]
fn the_digest_of_a_share_is_as_documented() {
    let share = Share::new(index(0x0201), [0xaa; 32], [0xbb; 32]);
    let record = ShareRecord { key: KeyId::from_bytes([0x11; 16]), epoch: Epoch::new(0x0403_0201), share };
    let mut bytes = vec![0x11; 16];
    bytes.extend(hex!("01020304 0102"));
    bytes.extend([0xaa; 32]);
    bytes.extend([0xbb; 32]);
    assert_eq!(record.digest(), <[u8; 32]>::from(Sha256::digest(&bytes)));
}

/// HKDF (RFC 5869) written out over HMAC, one block.
#[test]
fn input_keys_are_derived_as_documented() {
    use hmac::{Hmac, KeyInit, Mac};
    let secret = FileSecret::from_bytes(&[0x21; 32]).expect("in the field");
    let key = KeyId::from_bytes([0x42; 16]);
    let hmac = |key: &[u8], text: &[u8]| {
        Hmac::<sha2::Sha512>::new_from_slice(key).expect("any length").chain_update(text).finalize().into_bytes()
    };
    let prk = hmac(&[0; 64], &[0x21; 32]);
    let expected = hmac(&prk, &[&b"eds/v1/image\0"[..], key.as_bytes(), &[1]].concat());
    assert_eq!(secret.input_key("image", key).as_bytes()[..], expected[..32]);
    assert_ne!(secret.input_key("private", key).as_bytes(), secret.input_key("image", key).as_bytes());
    assert_ne!(
        secret.input_key("image", KeyId::from_bytes([0x43; 16])).as_bytes(),
        secret.input_key("image", key).as_bytes()
    );
    assert!(FileSecret::from_bytes(&[0xff; 32]).is_err(), "a secret has one encoding");
}
