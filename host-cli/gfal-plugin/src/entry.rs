//! What GFAL2 calls: pointers become values, values become pointers, errors become `GError`s.
//!
//! Rules of GFAL2 that the proofs below go by (`common/gfal_plugin_interface.h`): `plugin_data` is what `gfal_plugin_init` put into the
//! structure, until `plugin_delete`; URLs, names and lists of bytes are valid for the call, texts end with NUL; a handle is what
//! `openG` of this plugin returned, and is not used after its `closeG`; an error pointer is null or points to
//! a null pointer. No panic leaves: every entry goes through `call`.
#![expect(unsafe_code, reason = "the C edge of the plugin")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
};

use libc::{mode_t, off_t, size_t, ssize_t, stat};

use crate::{
    abi::{self, ErrorOut, FileHandle, Interface, Opaque},
    failure::Failure,
    handle::Handle,
    plugin::{Facts, Plugin},
};

/// The name under which GFAL2 knows this plugin and its handles.
const NAME: &CStr = c"eds";

/// Called by GFAL2 once for each context, after it loaded the library.
///
/// # Safety
/// Nothing is asked of the arguments: they are not used.
#[unsafe(no_mangle)]
unsafe extern "C" fn gfal_plugin_init(_context: Opaque, _error: ErrorOut) -> Interface {
    let none = ptr::null_mut();
    Interface {
        gfal_data: none,
        plugin_data: Box::into_raw(Box::new(Plugin::new())).cast(),
        priority: 0,
        get_name,
        plugin_delete,
        check_plugin_url,
        access,
        chmod: none,
        rename: none,
        symlink: none,
        stat: stat_,
        lstat: stat_,
        readlink: none,
        opendir: none,
        closedir: none,
        readdir: none,
        mkdirp: none,
        rmdir: none,
        open,
        read,
        write: none,
        close,
        lseek,
        pread,
        pwrite: none,
        unlink: none,
        getxattr,
        listxattr,
        setxattr: none,
        checksum_calc,
        check_plugin_url_transfer: none,
        copy_file: none,
        staging: [none; 4],
        readdirpp: none,
        lists: [none; 16],
        future: [none; 4],
    }
}

extern "C" fn get_name() -> *const c_char {
    NAME.as_ptr()
}

unsafe extern "C" fn plugin_delete(plugin: Opaque) {
    if !plugin.is_null() {
        // A destructor that panics has nobody to tell.
        // SAFETY: it came from `Box::into_raw` in `gfal_plugin_init`, and this is GFAL2's last call with it.
        let _ = catch_unwind(|| drop(unsafe { Box::from_raw(plugin.cast::<Plugin>()) }));
    }
}

unsafe extern "C" fn check_plugin_url(_: Opaque, url: *const c_char, operation: c_int, _: ErrorOut) -> c_int {
    // What is no text is not ours, and no error.
    // SAFETY: a URL of GFAL2, see above.
    catch_unwind(|| unsafe { text(url) }.is_ok_and(|url| Plugin::answers(url, operation))).unwrap_or(false).into()
}

unsafe extern "C" fn access(plugin: Opaque, url: *const c_char, mode: c_int, error: ErrorOut) -> c_int {
    // SAFETY: GFAL2's arguments, see above.
    unsafe { call(error, -1, || this(plugin)?.access(text(url)?, mode).map(|()| 0)) }
}

unsafe extern "C" fn stat_(plugin: Opaque, url: *const c_char, about: *mut stat, error: ErrorOut) -> c_int {
    // SAFETY: GFAL2's arguments, see above; `about` is a structure that the caller wants filled.
    unsafe {
        call(error, -1, || {
            let facts = this(plugin)?.facts(text(url)?)?;
            fill(about, &facts).map(|()| 0)
        })
    }
}

unsafe extern "C" fn open(plugin: Opaque, url: *const c_char, flags: c_int, _: mode_t, error: ErrorOut) -> FileHandle {
    // SAFETY: GFAL2's arguments, see above.
    unsafe { call(error, ptr::null_mut(), || Ok(hand_out(this(plugin)?.open(text(url)?, flags)?))) }
}

unsafe extern "C" fn read(_: Opaque, handle: FileHandle, to: *mut c_void, size: size_t, error: ErrorOut) -> ssize_t {
    // SAFETY: a handle of ours and a buffer of the caller's, see above.
    unsafe { call(error, -1, || count(of(&handle)?.reading()?.read(buffer(to, size)?)?)) }
}

unsafe extern "C" fn pread(
    _: Opaque,
    handle: FileHandle,
    to: *mut c_void,
    size: size_t,
    offset: off_t,
    error: ErrorOut,
) -> ssize_t {
    // SAFETY: a handle of ours and a buffer of the caller's, see above.
    unsafe {
        call(error, -1, || {
            let offset = position(offset)?;
            count(of(&handle)?.reading()?.read_at(buffer(to, size)?, offset)?)
        })
    }
}

unsafe extern "C" fn close(_: Opaque, handle: FileHandle, error: ErrorOut) -> c_int {
    // SAFETY: GFAL2's arguments, see above; a handle of ours, closed once.
    unsafe { call(error, -1, || take_back(handle)?.close().map(|()| 0)) }
}

unsafe extern "C" fn lseek(_: Opaque, handle: FileHandle, offset: off_t, whence: c_int, error: ErrorOut) -> off_t {
    // SAFETY: a handle of ours, see above.
    unsafe { call(error, -1, || of(&handle)?.reading()?.seek(offset, whence)) }
}

unsafe extern "C" fn getxattr(
    plugin: Opaque,
    url: *const c_char,
    name: *const c_char,
    to: *mut c_void,
    size: size_t,
    error: ErrorOut,
) -> ssize_t {
    // SAFETY: GFAL2's arguments, see above; `to` is a buffer of the caller's, or null to ask for the size.
    unsafe {
        call(error, -1, || {
            let value = this(plugin)?.attribute(text(url)?, text(name)?)?;
            give(value.as_bytes(), to.cast(), size)
        })
    }
}

unsafe extern "C" fn listxattr(
    plugin: Opaque,
    url: *const c_char,
    to: *mut c_char,
    size: size_t,
    error: ErrorOut,
) -> ssize_t {
    // SAFETY: GFAL2's arguments, see above; `to` is a buffer of the caller's, or null to ask for the size.
    unsafe {
        call(error, -1, || {
            let names = this(plugin)?.attributes(text(url)?)?;
            let list = names.iter().fold(String::new(), |list, name| list + name + "\0");
            give(list.as_bytes(), to.cast(), size)
        })
    }
}

unsafe extern "C" fn checksum_calc(
    plugin: Opaque,
    url: *const c_char,
    kind: *const c_char,
    to: *mut c_char,
    size: size_t,
    offset: off_t,
    length: size_t,
    error: ErrorOut,
) -> c_int {
    // SAFETY: GFAL2's arguments, see above; `to` is a buffer of the caller's.
    unsafe {
        call(error, -1, || {
            let sum = this(plugin)?.checksum(text(url)?, text(kind)?, position(offset)?, length as u64)?;
            let sum = CString::new(sum).map_err(|_| Failure::of_panic())?;
            give(sum.as_bytes_with_nul(), to.cast(), size.max(1)).map(|_| 0)
        })
    }
}

/// Does the work; a failure or a panic becomes the error and the value that says so.
///
/// # Safety
/// `error` is null or points to a null pointer.
unsafe fn call<T>(error: ErrorOut, failed: T, work: impl FnOnce() -> Result<T, Failure>) -> T {
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return value,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            // Its destructor might panic again.
            std::mem::forget(panic);
            Failure::of_panic()
        }
    };
    let text = CString::new(failure.text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: both texts end with NUL, the first is static, GLib copies the second; `error` as promised.
    unsafe {
        abi::g_set_error_literal(error, abi::g_quark_from_static_string(NAME.as_ptr()), failure.errno, text.as_ptr())
    };
    failed
}

/// # Safety
/// `plugin` is null or the `plugin_data` of this plugin, before `plugin_delete`.
unsafe fn this<'a>(plugin: Opaque) -> Result<&'a Plugin, Failure> {
    // SAFETY: made by `gfal_plugin_init`; shared references only, for `Plugin` is `Sync`.
    unsafe { plugin.cast::<Plugin>().as_ref() }.ok_or_else(|| missing("plugin data"))
}

/// # Safety
/// `text` is null or ends with NUL, and stays as it is for `'a`.
unsafe fn text<'a>(text: *const c_char) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(missing("a text"));
    }
    // SAFETY: not null, the rest as promised.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| Failure::new(libc::EILSEQ, "a URL or name that is not UTF-8"))
}

/// # Safety
/// `to` is null or `size` bytes that nobody else uses while the result is. They may hold anything: it is written only.
unsafe fn buffer<'a>(to: *mut c_void, size: size_t) -> Result<&'a mut [u8], Failure> {
    match (to.is_null(), isize::try_from(size)) {
        (_, Ok(0)) => Ok(&mut []),
        (true, _) => Err(missing("a buffer")),
        (false, Err(_)) => Err(Failure::new(libc::EINVAL, "a buffer larger than memory")),
        // SAFETY: not null and not too long, the rest as promised.
        (false, Ok(_)) => Ok(unsafe { slice::from_raw_parts_mut(to.cast::<u8>(), size) }),
    }
}

/// Copies a value to the caller, who learns its size when there is no buffer.
///
/// # Safety
/// `to` is null or `size` bytes that nobody else uses.
unsafe fn give(value: &[u8], to: *mut c_void, size: size_t) -> Result<ssize_t, Failure> {
    if !to.is_null() && size > 0 {
        // SAFETY: as promised.
        let free = unsafe { buffer(to, size) }?;
        let place = free.get_mut(..value.len()).ok_or_else(|| Failure::new(libc::ERANGE, "the buffer is too small"))?;
        place.copy_from_slice(value);
        if let Some(end) = free.get_mut(value.len()) {
            // Callers take it for text.
            *end = 0;
        }
    }
    count(value.len())
}

/// # Safety
/// `about` is null or a structure that nobody else uses.
unsafe fn fill(about: *mut stat, facts: &Facts) -> Result<(), Failure> {
    if about.is_null() {
        return Err(missing("a place for what there is to tell"));
    }
    // SAFETY: not null; written as a whole, so that it does not matter what it held.
    unsafe { about.write(abi::stat_of(facts)) };
    Ok(())
}

/// Gives GFAL2 a handle, to be taken back once.
fn hand_out(handle: Handle) -> FileHandle {
    let handle = Box::into_raw(Box::new(handle));
    // SAFETY: the name is static and ends with NUL; GFAL2 keeps the pointer without looking at what it points to.
    unsafe { abi::gfal_file_handle_new(NAME.as_ptr(), handle.cast()) }
}

/// # Safety
/// `handle` is null or from `hand_out`, and was not taken back.
unsafe fn of(handle: &FileHandle) -> Result<&Handle, Failure> {
    if handle.is_null() {
        return Err(missing("a handle"));
    }
    // SAFETY: what `hand_out` put there; shared references only, for `Handle` is `Sync`.
    unsafe { abi::gfal_file_handle_get_fdesc(*handle).cast::<Handle>().as_ref() }.ok_or_else(|| missing("a handle"))
}

/// # Safety
/// As [`of`], and it is not used again.
unsafe fn take_back(handle: FileHandle) -> Result<Handle, Failure> {
    if handle.is_null() {
        return Err(missing("a handle"));
    }
    // SAFETY: what `hand_out` put there, for the last time.
    unsafe {
        let ours = abi::gfal_file_handle_get_fdesc(handle).cast::<Handle>();
        abi::gfal_file_handle_delete(handle);
        if ours.is_null() { Err(missing("a handle")) } else { Ok(*Box::from_raw(ours)) }
    }
}

fn count(bytes: usize) -> Result<ssize_t, Failure> {
    ssize_t::try_from(bytes).map_err(|_| Failure::new(libc::EOVERFLOW, "more bytes than a number holds"))
}

fn position(offset: off_t) -> Result<u64, Failure> {
    u64::try_from(offset).map_err(|_| Failure::new(libc::EINVAL, "a position before the start"))
}

fn missing(what: &str) -> Failure {
    Failure::new(libc::EFAULT, format!("GFAL2 gave no pointer to {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_may_share_what_c_holds() {
        fn shared<T: Sync>() {}
        shared::<Plugin>();
        shared::<Handle>();
    }

    #[test]
    fn a_panic_becomes_an_error() {
        // SAFETY: GLib ignores an error pointer that is null.
        let value = unsafe { call(ptr::null_mut(), -1, || -> Result<c_int, Failure> { panic!("on purpose") }) };
        assert_eq!(value, -1);
    }

    #[test]
    fn pointers_that_are_missing_are_errors() {
        // SAFETY: null is allowed everywhere here.
        unsafe {
            assert_eq!(text(ptr::null()).expect_err("null").errno, libc::EFAULT);
            assert_eq!(this(ptr::null_mut()).map(|_| ()).expect_err("null").errno, libc::EFAULT);
            assert_eq!(read(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 1, ptr::null_mut()), -1);
            assert_eq!(close(ptr::null_mut(), ptr::null_mut(), ptr::null_mut()), -1);
            assert_eq!(check_plugin_url(ptr::null_mut(), ptr::null(), 5, ptr::null_mut()), 0);
        }
    }
}
