//! `device_link` of `tests/src/fuzz_targets.rs` under libFuzzer.
#![no_main]
#[path = "../../src/fuzz_targets.rs"]
#[expect(dead_code, reason = "each binary runs one of the targets")]
mod fuzz_targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_targets::device_link(bytes));
