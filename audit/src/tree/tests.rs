//! The tree against the published heads of the certificate-transparency test leaves, against the recursion of RFC 9162
//! as it is printed there, and against proofs that were altered.

use std::convert::Infallible;

use hex_literal::hex;
use proptest::prelude::*;

use super::*;

/// Perfect subtrees in memory.
#[derive(Default)]
pub(crate) struct Stored(pub(crate) Vec<Hash>);

impl Nodes for Stored {
    type Error = Infallible;

    fn node(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
        Ok(self.0[usize::try_from(position(level, index)).expect("a small tree")])
    }
}

fn grown(leaves: &[Hash]) -> (Frontier, Stored) {
    let (mut frontier, mut stored) = (Frontier::default(), Stored::default());
    for leaf in leaves {
        frontier.append(*leaf, |hash| stored.0.push(*hash));
    }
    (frontier, stored)
}

/// The definitions of RFC 9162, sections 2.1.1, 2.1.3.1 and 2.1.4.1, word for word.
mod naive {
    use super::{EMPTY_ROOT, Hash, node_hash};

    fn k(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }

    pub(super) fn mth(d: &[Hash]) -> Hash {
        match d {
            [] => EMPTY_ROOT,
            [leaf] => *leaf,
            _ => node_hash(&mth(&d[..k(d.len())]), &mth(&d[k(d.len())..])),
        }
    }

    pub(super) fn path(m: usize, d: &[Hash]) -> Vec<Hash> {
        if d.len() == 1 {
            return Vec::new();
        }
        let k = k(d.len());
        if m < k {
            let mut path = path(m, &d[..k]);
            path.push(mth(&d[k..]));
            path
        } else {
            let mut path = path(m - k, &d[k..]);
            path.push(mth(&d[..k]));
            path
        }
    }

    pub(super) fn subproof(m: usize, d: &[Hash], whole: bool) -> Vec<Hash> {
        if m == d.len() {
            return if whole { Vec::new() } else { vec![mth(d)] };
        }
        let k = k(d.len());
        if m <= k {
            let mut proof = subproof(m, &d[..k], whole);
            proof.push(mth(&d[k..]));
            proof
        } else {
            let mut proof = subproof(m - k, &d[k..], false);
            proof.push(mth(&d[..k]));
            proof
        }
    }
}

/// The leaves and heads of the certificate-transparency reference tests.
#[test]
fn the_published_heads_come_out() {
    let leaves: [&[u8]; 8] = [
        b"",
        &hex!("00"),
        &hex!("10"),
        &hex!("2021"),
        &hex!("3031"),
        &hex!("40414243"),
        &hex!("5051525354555657"),
        &hex!("606162636465666768696a6b6c6d6e6f"),
    ];
    let heads = [
        hex!("6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        hex!("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        hex!("aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        hex!("d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
        hex!("4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
        hex!("76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
        hex!("ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
        hex!("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ];
    let mut frontier = Frontier::default();
    assert_eq!(frontier.root(), EMPTY_ROOT);
    for (leaf, head) in leaves.iter().zip(heads) {
        frontier.append(leaf_hash(leaf), |_| ());
        assert_eq!(frontier.root(), head, "of {} leaves", frontier.size());
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(&n.to_le_bytes())).collect()
}

#[test]
fn every_proof_of_small_trees_is_the_one_of_the_rfc_and_checks() {
    let all = leaves(40);
    let (_, stored) = grown(&all);
    for size in 0..=all.len() {
        let root = naive::mth(&all[..size]);
        assert_eq!(range_root(&stored, 0, size as u64).expect("stored"), root);
        for index in 0..size {
            let proof = inclusion_proof(&stored, index as u64, size as u64).expect("stored").expect("inside");
            assert_eq!(proof, naive::path(index, &all[..size]), "{index} of {size}");
            assert!(verify_inclusion(&all[index], index as u64, size as u64, &proof, &root));
        }
        assert_eq!(inclusion_proof(&stored, size as u64, size as u64).expect("stored"), None);
        for old in 0..=size {
            let proof = consistency_proof(&stored, old as u64, size as u64).expect("stored").expect("not older");
            if old > 0 {
                assert_eq!(proof, naive::subproof(old, &all[..size], true), "{old} to {size}");
            }
            let old_root = naive::mth(&all[..old]);
            assert!(verify_consistency(old as u64, &old_root, size as u64, &root, &proof), "{old} to {size}");
        }
    }
    assert_eq!(consistency_proof(&stored, 8, 7).expect("stored"), None);
}

#[test]
fn the_number_of_peaks_must_fit_the_size() {
    assert!(Frontier::from_peaks(5, vec![[0; 32]; 2]).is_some());
    assert!(Frontier::from_peaks(5, vec![[0; 32]; 3]).is_none());
}

/// What may be done to a proof; every one of them must make it fail.
fn altered(proof: &[Hash], which: prop::sample::Index, bit: u8) -> Vec<Vec<Hash>> {
    let mut all = vec![[proof, &[[0; 32]]].concat(), [&[[0; 32]], proof].concat()];
    if !proof.is_empty() {
        let at = which.index(proof.len());
        let mut flipped = proof.to_vec();
        flipped[at][usize::from(bit) % 32] ^= 1 << (bit % 8);
        all.push(flipped);
        let mut shorter = proof.to_vec();
        shorter.remove(at);
        all.push(shorter);
        let mut doubled = proof.to_vec();
        doubled.insert(at, proof[at]);
        all.push(doubled);
    }
    all
}

proptest! {
    #[test]
    fn inclusion_holds_for_the_true_leaf_only(size in 1usize..600, index: prop::sample::Index, which: prop::sample::Index, bit: u8) {
        let all = leaves(size);
        let (frontier, stored) = grown(&all);
        let (index, size, root) = (index.index(size), size as u64, frontier.root());
        let proof = inclusion_proof(&stored, index as u64, size).expect("stored").expect("inside");
        prop_assert_eq!(&proof, &naive::path(index, &all));
        prop_assert!(verify_inclusion(&all[index], index as u64, size, &proof, &root));
        let mut other = all[index];
        other[usize::from(bit) % 32] ^= 1;
        prop_assert!(!verify_inclusion(&other, index as u64, size, &proof, &root));
        prop_assert!(!verify_inclusion(&all[index], index as u64, size, &proof, &other));
        for wrong in (0..size).filter(|wrong| *wrong != index as u64) {
            prop_assert!(!verify_inclusion(&all[index], wrong, size, &proof, &root));
        }
        for wrong in altered(&proof, which, bit) {
            prop_assert!(!verify_inclusion(&all[index], index as u64, size, &wrong, &root));
        }
    }

    #[test]
    fn consistency_holds_for_true_continuations_only(new in 1usize..600, old: prop::sample::Index, which: prop::sample::Index, bit: u8) {
        let all = leaves(new);
        let (frontier, stored) = grown(&all);
        let old = 1 + old.index(new);
        let (old_root, new_root) = (naive::mth(&all[..old]), frontier.root());
        let (old, new) = (old as u64, new as u64);
        let proof = consistency_proof(&stored, old, new).expect("stored").expect("not older");
        prop_assert!(verify_consistency(old, &old_root, new, &new_root, &proof));
        prop_assert!(old == new || !verify_consistency(new, &new_root, old, &old_root, &proof));
        let mut forked = old_root;
        forked[0] ^= 1;
        prop_assert!(!verify_consistency(old, &forked, new, &new_root, &proof));
        prop_assert!(!verify_consistency(old, &old_root, new, &forked, &proof));
        for wrong in altered(&proof, which, bit) {
            prop_assert!(!verify_consistency(old, &old_root, new, &new_root, &wrong));
        }
    }

    #[test]
    fn hostile_proofs_never_panic(numbers: (u64, u64), proof: Vec<[u8; 32]>, root: [u8; 32]) {
        let _ = verify_inclusion(&root, numbers.0, numbers.1, &proof, &root);
        let _ = verify_consistency(numbers.0, &root, numbers.1, &root, &proof);
    }
}
