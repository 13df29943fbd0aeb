//! Sample data that is the same for the same seed. `EDS_SEED` chooses another; failing runs print it.

use sha2::{Digest as _, Sha256};

/// The seed of this run.
pub fn seed() -> u64 {
    std::env::var("EDS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// `length` bytes that look random, made from the seed and a label.
pub fn bytes(label: &str, length: usize) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(seed().to_le_bytes());
    hash.update(label);
    let start: [u8; 32] = hash.finalize().into();
    let mut state =
        u64::from_le_bytes([start[0], start[1], start[2], start[3], start[4], start[5], start[6], start[7]]);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&next(&mut state).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A number below `end`, made from the seed and a label.
pub fn below(label: &str, end: u64) -> u64 {
    let bytes = bytes(label, 8);
    let mut number = [0; 8];
    number.copy_from_slice(&bytes);
    u64::from_le_bytes(number) % end.max(1)
}

/// SplitMix64: fast, and good enough for sample data.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
