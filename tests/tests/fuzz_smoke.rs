//! Each fuzz target on its seeds and on a bounded number of mutations of them. `make fuzz` goes on for hours.
//!
//! The seed is printed: `EDS_SEED=… cargo test -p eds-tests --test fuzz_smoke` does the same again, and the input that
//! broke a property is written to a file named in the message.

use std::{fs, panic};

use eds_tests::{
    fuzz_programs,
    fuzz_targets::{TARGETS, Target},
    sample,
};

/// Mutations of the seeds of each target in an ordinary run.
const MUTATIONS: u32 = 3_000;

#[test]
fn no_bytes_from_outside_break_a_parser() {
    let seed = sample::seed();
    let mutations = if std::env::var_os("EDS_SOAK").is_some() { MUTATIONS * 100 } else { MUTATIONS };
    println!("seed: EDS_SEED={seed}");
    for target in TARGETS.iter().chain(fuzz_programs::TARGETS) {
        for input in target.seeds {
            check(target, input, seed);
        }
        let mut random = Random(seed ^ u64::from(target.name.len() as u32) << 32);
        for _ in 0..mutations {
            let mut input = random.pick(target.seeds).to_vec();
            for _ in 0..=random.below(3) {
                mutate(&mut input, &mut random);
            }
            check(target, &input, seed);
        }
        for input in [&[][..], &[0], &[0xff; 300], &[0; 20_000]] {
            check(target, input, seed);
        }
    }
}

#[test]
fn every_seed_is_taken_by_its_parser() {
    // A seed that is refused at once would make all of this test nothing.
    use eds_core::{api, container::Opening, manifest::Manifest, sealing};
    let seeds = |name: &str| TARGETS.iter().find(|target| target.name == name).expect("a target").seeds;
    assert!(seeds("container_open").iter().all(|bytes| Opening::parse(bytes).is_ok()));
    assert!(seeds("manifest").iter().all(|bytes| Manifest::decode(bytes).is_ok()));
    let shares =
        |bytes: &&&[u8]| sealing::SealedMessage::parse(bytes).is_ok() || sealing::ShareList::parse(bytes).is_ok();
    assert_eq!(seeds("sealed_shares").iter().filter(shares).count(), 2);
    assert!(seeds("device_link").iter().all(|bytes| is_a_transfer(bytes)));
    let [register, keys, keys_answer, fetch, fetch_answer, key, node, problem] = seeds("api_json") else {
        panic!("one seed for each body")
    };
    serde_json::from_slice::<api::RegisterRequest>(register).expect("register");
    serde_json::from_slice::<api::KeysRequest>(keys).expect("keys");
    serde_json::from_slice::<api::KeysAnswer>(keys_answer).expect("keys answer");
    serde_json::from_slice::<api::FetchRequest>(fetch).expect("fetch");
    serde_json::from_slice::<api::FetchAnswer>(fetch_answer).expect("fetch answer");
    serde_json::from_slice::<api::KeyInfo>(key).expect("key");
    serde_json::from_slice::<api::NodeInfo>(node).expect("node");
    serde_json::from_slice::<api::Problem>(problem).expect("problem");
}

#[test]
fn every_seed_of_the_programs_is_taken_by_its_parser() {
    use eds::dicom::{How, PrivatePart, Profile, ProjectSecret, deidentify};
    use eds_audit::{checkpoint::danger_read_unverified, entry::Entry};
    use eds_keystore::authn::{
        certificate::Certificate, jwt::Token, trust::Crl, voms::attribute_certificate::parse_sequence,
    };
    let seeds = |name: &str| fuzz_programs::TARGETS.iter().find(|target| target.name == name).expect("a target").seeds;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let [proxy, person] = seeds("certificate") else { panic!("two certificates") };
    let proxy = Certificate::from_der(proxy).expect("a proxy");
    parse_sequence(proxy.extensions().voms.as_deref().expect("attributes")).expect("good attributes");
    Certificate::from_der(person).expect("a certificate");
    assert!(seeds("revocation_list").iter().all(|bytes| Crl::from_der(bytes).is_ok()));
    assert!(seeds("token").iter().all(|bytes| Token::parse(&text(bytes)).is_ok()));
    assert!(seeds("audit_entry").iter().all(|bytes| Entry::decode(bytes).is_ok()));
    assert!(seeds("audit_note").iter().all(|bytes| danger_read_unverified(&text(bytes)).is_ok()));
    assert!(seeds("private_part").iter().all(|bytes| PrivatePart::decode(bytes).is_ok()));
    let (profile, secret) = (Profile::default(), ProjectSecret::new([7; 32]));
    let how = How::new(&profile, &secret);
    assert!(seeds("image").iter().all(|bytes| deidentify(&mut std::io::Cursor::new(bytes), &how).is_ok()));
    assert!(seeds("profile").iter().all(|bytes| Profile::parse(bytes).is_ok()));
}

fn is_a_transfer(recording: &[u8]) -> bool {
    use eds_core::link::{Event, Reader, Receiver};
    let (mut reader, mut receiver) = (Reader::new(), Receiver::new());
    let mut last =
        |byte: &u8| matches!(receiver.take(&reader.push(*byte)?.ok()?), Ok((Event::Complete(_), _))).then_some(());
    recording.iter().find_map(&mut last).is_some()
}

fn check(target: &Target, input: &[u8], seed: u64) {
    if let Err(cause) = panic::catch_unwind(|| (target.run)(input)) {
        let path = std::env::temp_dir().join(format!("eds-fuzz-{}-{seed}", target.name));
        fs::write(&path, input).expect("writes the input");
        eprintln!("target {} broke on {} (EDS_SEED={seed})", target.name, path.display());
        panic::resume_unwind(cause);
    }
}

fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(8) {
        0 => input.truncate(at),
        1 => input.insert(at, random.next() as u8),
        2 => {
            let from = random.below(input.len() + 1);
            let piece = input.get(from..(from + random.below(64)).min(input.len())).unwrap_or(&[]).to_vec();
            input.splice(at..at, piece);
        }
        3 => {
            let end = (at + random.below(64)).min(input.len());
            input.drain(at..end);
        }
        other => {
            // Most formats have their numbers near the start: aim there half of the time.
            let at = if other % 2 == 0 { at.min(random.below(80)) } else { at };
            if let Some(byte) = input.get_mut(at) {
                *byte = match random.below(3) {
                    0 => *byte ^ 1 << random.below(8),
                    1 => *random.pick(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'0']),
                    _ => random.next() as u8,
                };
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
