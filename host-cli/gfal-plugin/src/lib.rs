//! A plugin of GFAL2, the file access library of the grid: `gfal-ls`, `gfal-stat`, `gfal-cat`, `gfal-copy`, `gfal-rm`, `gfal-mkdir`,
//! `gfal-sum` and Python's `gfal2` see plain files where storage holds ciphertext.
//!
//! | part | purpose |
//! |---|---|
//! | `abi` | GFAL2's structures and functions, as its headers have them |
//! | `entry` | what GFAL2 calls: from pointers to values and back, and no panic beyond it |
//! | `plugin` | the operations |
//! | `url` | `eds:`, `lfn:`, `lfc:` and `guid:` |
//! | `handle` | what is open: files and listings |
//! | `sums` | checksums of the plaintext |
//! | `failure` | errors, with the errno that GFAL2's callers go by |
//!
//! Plaintext and keys are in the memory of the process that called, while a file is open, and nowhere else. Unsafe code is in
//! `abi` and `entry` alone.
#![deny(unsafe_code)]

mod abi;
mod entry;
mod failure;
mod handle;
mod plugin;
mod sums;
mod url;
