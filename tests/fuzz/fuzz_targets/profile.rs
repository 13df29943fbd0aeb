//! `profile` of `tests/src/fuzz_programs.rs` under libFuzzer.
#![no_main]
#[path = "../../src/fuzz_programs.rs"]
#[expect(dead_code, reason = "each binary runs one of the targets")]
mod fuzz_programs;
#[path = "../../src/fuzz_targets.rs"]
#[expect(dead_code, reason = "only the type of targets is used")]
mod fuzz_targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_programs::profile(bytes));
