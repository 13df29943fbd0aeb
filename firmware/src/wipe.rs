//! Wiping what the compiler leaves behind.
//!
//! Types with secrets wipe themselves when they are dropped, but a value that was moved, or a register that was spilled,
//! can leave a copy further down the stack. After an image the part of the stack that was in use is therefore overwritten.
//! The QEMU test reads all of the memory of the board after an image and looks for its secrets.

use core::hint::black_box;

use zeroize::Zeroize;

/// Overwrites `DEPTH` bytes of stack below the caller with zeros. Safe code: it has an array there.
#[inline(never)]
pub fn scrub_stack<const DEPTH: usize>() {
    let mut depth = [0xffu8; DEPTH];
    black_box(&mut depth);
    depth.zeroize();
    black_box(&depth);
}
