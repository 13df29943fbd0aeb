//! Bounded random mutation of everything that is parsed: no panic, and nothing that two parsers read differently.
//!
//! The seed is printed; `EDS_SEED` repeats a run and `EDS_SOAK` lengthens it.

use eds_keystore::authn::{
    certificate::Certificate, chain, name::Name, trust::Crl, voms::attribute_certificate::parse_sequence,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    chain::store,
    forge::{INHERIT_ALL, NOW, Template, crl, seq, voms_extension},
    voms::grid,
};

/// A small generator: xorshift, seeded and printed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let seed = std::env::var("EDS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            since.as_nanos() as u64 | 1
        });
        println!("EDS_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    pub(crate) fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        for _ in 0..=self.below(3) {
            if changed.is_empty() {
                return changed;
            }
            let at = self.below(changed.len());
            match self.below(6) {
                0 => changed[at] ^= 1 << self.below(8),
                1 => changed[at] = self.below(256) as u8,
                2 => changed.truncate(at),
                3 => changed.insert(at, self.below(256) as u8),
                4 => _ = changed.remove(at),
                _ => {
                    let from = self.below(changed.len());
                    let to = (from + self.below(40)).min(changed.len());
                    let piece = changed[from..to].to_vec();
                    changed.splice(at..at, piece);
                }
            }
        }
        changed
    }
}

pub(crate) fn rounds() -> usize {
    if std::env::var_os("EDS_SOAK").is_some() { 2_000_000 } else { 20_000 }
}

#[test]
fn mutated_certificates_do_not_panic_and_mean_the_same_to_another_parser() {
    let mut random = Random::new();
    let grid = grid();
    let attributes = grid.attributes().signed_by(&grid.server.key);
    let proxy =
        Template::proxy(&grid.alice, "1", INHERIT_ALL).with(voms_extension(&[&attributes])).signed_by(&grid.alice);
    let samples = [&proxy.der, &grid.alice.der, &grid.root.der];
    let mut parsed = 0;
    for round in 0..rounds() {
        let bytes = random.mutate(samples[round % samples.len()]);
        let Ok(ours) = Certificate::from_der(&bytes) else { continue };
        parsed += 1;
        let _ = (ours.subject().to_string(), ours.subject().matching());
        // The other parser may be pickier about values, never about structure that ours reads another way.
        if let Ok((rest, theirs)) = X509Certificate::from_der(&bytes) {
            assert!(rest.is_empty());
            assert_eq!(ours.subject().as_der(), theirs.subject().as_raw());
            assert_eq!(ours.issuer().as_der(), theirs.issuer().as_raw());
            assert_eq!(ours.serial(), theirs.raw_serial());
            assert_eq!(ours.not_after(), theirs.validity().not_after.timestamp());
            assert_eq!(ours.not_before(), theirs.validity().not_before.timestamp());
            assert_eq!(ours.key().as_der(), theirs.public_key().raw);
            assert_eq!(ours.is_authority(), theirs.is_ca());
        }
    }
    assert!(parsed > rounds() / 100, "mutations must reach past the parser: {parsed}");
}

#[test]
fn mutated_chains_prove_nobody() {
    let mut random = Random::new();
    let root = Template::authority("/DC=org/CN=CA").self_signed();
    let alice = Template::person("/DC=org/CN=Alice").signed_by(&root);
    let proxy = Template::proxy(&alice, "1", INHERIT_ALL).signed_by(&alice);
    let trust = store(&[&root]);
    for _ in 0..rounds() / 10 {
        let (one, two) = (random.mutate(&proxy.der), random.mutate(&alice.der));
        if one != proxy.der {
            assert!(chain::verify(&[&one, &alice.der], &trust, NOW).is_err());
        }
        if two != alice.der {
            assert!(chain::verify(&[&proxy.der, &two], &trust, NOW).is_err());
        }
    }
}

#[test]
fn mutated_attributes_names_and_lists_do_not_panic() {
    let mut random = Random::new();
    let grid = grid();
    let sequence = seq(&[&seq(&[&grid.attributes().signed_by(&grid.server.key)])]);
    let list = crl(&grid.root, &grid.root.key, (NOW - 1, NOW + 1), &[&[1], &[2, 3]], &[]);
    let mut parsed = 0;
    for _ in 0..rounds() {
        parsed += usize::from(parse_sequence(&random.mutate(&sequence)).is_ok());
        parsed += usize::from(Crl::from_der(&random.mutate(&list)).is_ok());
        parsed += usize::from(
            Name::from_der(&random.mutate(&grid.alice.subject)).is_ok_and(|name| !name.to_string().is_empty()),
        );
    }
    assert!(parsed > rounds() / 100, "mutations must reach past the parser: {parsed}");
}
