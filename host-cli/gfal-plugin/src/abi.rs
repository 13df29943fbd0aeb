//! GFAL2's plugin interface, version 2.21: the structure that a plugin returns, and what it calls of GFAL2 and GLib.
//!
//! The layout is that of `common/gfal_plugin_interface.h`. It differs between releases of GFAL2, so a test compiles a C
//! program against the installed header and compares every offset (`tests/layout.rs`).
#![expect(unsafe_code, reason = "declarations of C functions, and its structures")]

use std::{
    ffi::{c_char, c_int, c_uint, c_void},
    mem,
};

use libc::{mode_t, off_t, size_t, ssize_t, stat};

use crate::plugin::Facts;

/// `gfal2_context_t`, `plugin_handle`, and others of which only the address matters.
pub(crate) type Opaque = *mut c_void;
/// `gfal_file_handle`.
pub(crate) type FileHandle = *mut c_void;
/// `GError **`.
pub(crate) type ErrorOut = *mut *mut c_void;

/// `struct _gfal_plugin_interface`. What this plugin does not offer is null.
#[repr(C)]
pub(crate) struct Interface {
    pub(crate) gfal_data: Opaque,
    pub(crate) plugin_data: Opaque,
    pub(crate) priority: c_int,
    pub(crate) get_name: extern "C" fn() -> *const c_char,
    pub(crate) plugin_delete: unsafe extern "C" fn(Opaque),
    pub(crate) check_plugin_url: unsafe extern "C" fn(Opaque, *const c_char, c_int, ErrorOut) -> c_int,
    pub(crate) access: unsafe extern "C" fn(Opaque, *const c_char, c_int, ErrorOut) -> c_int,
    pub(crate) chmod: Opaque,
    pub(crate) rename: Opaque,
    pub(crate) symlink: Opaque,
    pub(crate) stat: unsafe extern "C" fn(Opaque, *const c_char, *mut stat, ErrorOut) -> c_int,
    pub(crate) lstat: unsafe extern "C" fn(Opaque, *const c_char, *mut stat, ErrorOut) -> c_int,
    pub(crate) readlink: Opaque,
    pub(crate) opendir: Opaque,
    pub(crate) closedir: Opaque,
    pub(crate) readdir: Opaque,
    pub(crate) mkdirp: Opaque,
    pub(crate) rmdir: Opaque,
    pub(crate) open: unsafe extern "C" fn(Opaque, *const c_char, c_int, mode_t, ErrorOut) -> FileHandle,
    pub(crate) read: unsafe extern "C" fn(Opaque, FileHandle, *mut c_void, size_t, ErrorOut) -> ssize_t,
    pub(crate) write: Opaque,
    pub(crate) close: unsafe extern "C" fn(Opaque, FileHandle, ErrorOut) -> c_int,
    pub(crate) lseek: unsafe extern "C" fn(Opaque, FileHandle, off_t, c_int, ErrorOut) -> off_t,
    pub(crate) pread: unsafe extern "C" fn(Opaque, FileHandle, *mut c_void, size_t, off_t, ErrorOut) -> ssize_t,
    pub(crate) pwrite: Opaque,
    pub(crate) unlink: Opaque,
    pub(crate) getxattr:
        unsafe extern "C" fn(Opaque, *const c_char, *const c_char, *mut c_void, size_t, ErrorOut) -> ssize_t,
    pub(crate) listxattr: unsafe extern "C" fn(Opaque, *const c_char, *mut c_char, size_t, ErrorOut) -> ssize_t,
    pub(crate) setxattr: Opaque,
    pub(crate) checksum_calc: unsafe extern "C" fn(
        Opaque,
        *const c_char,
        *const c_char,
        *mut c_char,
        size_t,
        off_t,
        size_t,
        ErrorOut,
    ) -> c_int,
    pub(crate) check_plugin_url_transfer: Opaque,
    pub(crate) copy_file: Opaque,
    /// `bring_online` to `release_file`.
    pub(crate) staging: [Opaque; 4],
    pub(crate) readdirpp: Opaque,
    /// `bring_online_list` to `token_retrieve`.
    pub(crate) lists: [Opaque; 16],
    pub(crate) future: [Opaque; 4],
}

/// The operations that GFAL2 asks for by number (`plugin_mode`).
pub(crate) mod operation {
    use std::ffi::c_int;

    pub(crate) const ACCESS: c_int = 1;
    pub(crate) const STAT: c_int = 5;
    pub(crate) const LSTAT: c_int = 6;
    pub(crate) const OPEN: c_int = 10;
    pub(crate) const GETXATTR: c_int = 12;
    pub(crate) const LISTXATTR: c_int = 14;
    pub(crate) const CHECKSUM: c_int = 17;
}

#[link(name = "gfal2")]
unsafe extern "C" {
    pub(crate) fn gfal_file_handle_new(module: *const c_char, descriptor: Opaque) -> FileHandle;
    pub(crate) fn gfal_file_handle_get_fdesc(handle: FileHandle) -> Opaque;
    pub(crate) fn gfal_file_handle_delete(handle: FileHandle);
}

#[link(name = "glib-2.0")]
unsafe extern "C" {
    pub(crate) fn g_quark_from_static_string(name: *const c_char) -> c_uint;
    /// Does nothing when `error` is null.
    pub(crate) fn g_set_error_literal(error: ErrorOut, domain: c_uint, code: c_int, message: *const c_char);
}

/// What there is to tell, as C has it: the caller's own, readable and writable by them alone.
pub(crate) fn stat_of(facts: &Facts) -> stat {
    // SAFETY: numbers alone, for which zero is a value.
    let mut about: stat = unsafe { mem::zeroed() };
    about.st_ino = facts.number();
    about.st_mode = if facts.directory { libc::S_IFDIR | 0o700 } else { libc::S_IFREG | 0o600 };
    about.st_nlink = 1;
    // SAFETY: both always succeed and touch no memory.
    (about.st_uid, about.st_gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    about.st_size = off_t::try_from(facts.size).unwrap_or(off_t::MAX);
    about.st_blksize = CHUNK;
    about.st_blocks = about.st_size.div_euclid(512).saturating_add(1);
    (about.st_mtime, about.st_ctime, about.st_atime) = (facts.seconds(), facts.seconds(), facts.seconds());
    about
}

/// Reads of a multiple of this decrypt nothing twice.
const CHUNK: i64 = 16 * 1024;

#[cfg(test)]
mod tests;
