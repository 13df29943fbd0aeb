//! Files of grid storages through `libgfal2`, which is loaded at run time where it is installed: `root://`, `srm://`,
//! `gsiftp://` and whatever else its plug-ins speak.
//!
//! The client library forbids unsafe code; what has to trust a C library is in this crate alone. Each call into it is one
//! function of `gfal_api.h` (2.x, `libgfal2.so.2`), whose types are written down once, in `Functions`. Its errors come as
//! an errno and a text.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    fmt,
    mem::ManuallyDrop,
    ptr,
    sync::Arc,
};

use libloading::Library;

/// The library, with a context of its own.
#[derive(Clone)]
pub struct Gfal(Arc<Context>);

/// An open file. Dropping it closes it; [`File::close`] says whether that went well.
pub struct File {
    gfal: Gfal,
    descriptor: c_int,
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no library, or none of version 2.
    #[error("libgfal2 cannot be loaded: {0}")]
    Library(String),
    /// A URL with a zero byte in it.
    #[error("a URL has a zero byte in it")]
    Url,
    /// The library failed.
    #[error("{message}")]
    Call {
        /// The errno.
        code: i32,
        /// What it says.
        message: String,
    },
}

impl Gfal {
    /// Loads the library and its plug-ins.
    ///
    /// # Errors
    /// [`Error::Library`], and [`Error::Call`] when a plug-in cannot be used.
    pub fn load() -> Result<Self, Error> {
        let missing = |error: libloading::Error| Error::Library(error.to_string());
        // SAFETY: loading runs the initialisers of libgfal2 and of what it links to, which set up their own state and nothing
        // of ours. The name is that of an ABI version, so the functions below have the types of its headers.
        let library = unsafe { Library::new(LIBRARY) }.map_err(missing)?;
        let functions = Functions::of(&library).map_err(missing)?;
        let mut error = ptr::null_mut();
        // SAFETY: `error` is a place for an error, empty as GLib wants it.
        let context = unsafe { (functions.context_new)(&mut error) };
        if context.is_null() {
            return Err(functions.take(error));
        }
        Ok(Self(Arc::new(Context { context, functions, _library: ManuallyDrop::new(library) })))
    }

    /// Shows this certificate, or proxy, and this key for URLs that begin with `below`.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Call`].
    pub fn show_certificate(&self, below: &str, certificate: &str, key: &str) -> Result<(), Error> {
        let (below, certificate, key) = (text(below)?, text(certificate)?, text(key)?);
        self.set(&below, c"X509_CERT", &certificate)?;
        self.set(&below, c"X509_KEY", &key)
    }

    fn set(&self, below: &CStr, kind: &CStr, value: &CStr) -> Result<(), Error> {
        let functions = &self.0.functions;
        // SAFETY: both are texts that end in zero, which the library copies.
        let credential = unsafe { (functions.cred_new)(kind.as_ptr(), value.as_ptr()) };
        // SAFETY: the credential is the library's own, made the line before; the URL is a text that ends in zero, copied too.
        let done =
            self.call(|error| unsafe { (functions.cred_set)(self.0.context, below.as_ptr(), credential, error) });
        // SAFETY: made above and freed once; `cred_set` kept a copy.
        unsafe { (functions.cred_free)(credential) };
        done.map(drop)
    }

    /// The length of a file in bytes, and whether it is a directory.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Call`].
    pub fn stat(&self, url: &str) -> Result<(u64, bool), Error> {
        let url = text(url)?;
        // SAFETY: `struct stat` is integers, for which all bytes zero is a value.
        let mut about: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the URL ends in zero; `about` is the `struct stat` of this platform, which the library fills.
        self.call(|error| unsafe { (self.0.functions.stat)(self.0.context, url.as_ptr(), &mut about, error) })?;
        Ok((u64::try_from(about.st_size).unwrap_or(0), about.st_mode & libc::S_IFMT == libc::S_IFDIR))
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Call`].
    pub fn open(&self, url: &str) -> Result<File, Error> {
        self.open_with(url, libc::O_RDONLY)
    }

    /// Makes a file that is not there.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Call`].
    pub fn create(&self, url: &str) -> Result<File, Error> {
        self.open_with(url, libc::O_WRONLY | libc::O_CREAT)
    }

    fn open_with(&self, url: &str, flags: c_int) -> Result<File, Error> {
        let url = text(url)?;
        // SAFETY: the URL ends in zero and is copied.
        let descriptor =
            self.call(|error| unsafe { (self.0.functions.open)(self.0.context, url.as_ptr(), flags, error) })?;
        Ok(File { gfal: self.clone(), descriptor })
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Call`].
    pub fn unlink(&self, url: &str) -> Result<(), Error> {
        let url = text(url)?;
        // SAFETY: the URL ends in zero.
        self.call(|error| unsafe { (self.0.functions.unlink)(self.0.context, url.as_ptr(), error) }).map(drop)
    }

    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Call`].
    pub fn make_directories(&self, url: &str) -> Result<(), Error> {
        let url = text(url)?;
        // SAFETY: the URL ends in zero.
        self.call(|error| unsafe { (self.0.functions.mkdir_rec)(self.0.context, url.as_ptr(), 0o755, error) }).map(drop)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Call`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let (from, to) = (text(from)?, text(to)?);
        // SAFETY: both URLs end in zero.
        self.call(|error| unsafe { (self.0.functions.rename)(self.0.context, from.as_ptr(), to.as_ptr(), error) })
            .map(drop)
    }

    /// The checksum that the storage has of a file, or that the library computes by reading it: `ADLER32`, `MD5`, …
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Call`].
    pub fn checksum(&self, url: &str, kind: &str) -> Result<String, Error> {
        let (url, kind) = (text(url)?, text(kind)?);
        let mut buffer = [0u8; 256];
        // SAFETY: both texts end in zero; the buffer is as long as said, and the library writes no more into it.
        self.call(|error| unsafe {
            let to = buffer.as_mut_ptr().cast();
            (self.0.functions.checksum)(self.0.context, url.as_ptr(), kind.as_ptr(), 0, 0, to, buffer.len(), error)
        })?;
        let text = CStr::from_bytes_until_nul(&buffer).unwrap_or_default();
        Ok(text.to_string_lossy().into_owned())
    }

    /// Calls a function that answers with a number below zero when it fails.
    fn call(&self, function: impl FnOnce(*mut *mut GError) -> c_int) -> Result<c_int, Error> {
        let mut error = ptr::null_mut();
        let answer = function(&mut error);
        if answer >= 0 && error.is_null() { Ok(answer) } else { Err(self.0.functions.take(error)) }
    }
}

impl File {
    /// Reads from this offset on; 0 bytes at the end.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let offset = i64::try_from(offset).map_err(|_| invalid("an offset that no file has"))?;
        let context = &self.gfal.0;
        let mut error = ptr::null_mut();
        // SAFETY: the buffer is as long as said, and is written to for the time of the call only.
        let read = unsafe {
            let to: *mut c_void = buffer.as_mut_ptr().cast();
            (context.functions.pread)(context.context, self.descriptor, to, buffer.len(), offset, &mut error)
        };
        context.functions.length(read, error)
    }

    /// Adds to what was written; returns how many bytes were taken.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let context = &self.gfal.0;
        let mut error = ptr::null_mut();
        // SAFETY: the bytes are read for the time of the call only.
        let written = unsafe {
            let from: *const c_void = bytes.as_ptr().cast();
            (context.functions.write)(context.context, self.descriptor, from, bytes.len(), &mut error)
        };
        context.functions.length(written, error)
    }

    /// Closes the file: only then is what was written the storage's.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn close(mut self) -> Result<(), Error> {
        self.close_once()
    }

    fn close_once(&mut self) -> Result<(), Error> {
        let descriptor = std::mem::replace(&mut self.descriptor, CLOSED);
        if descriptor == CLOSED {
            return Ok(());
        }
        let context = &self.gfal.0;
        // SAFETY: the descriptor is one that `open` gave, and this is the only time that it is closed.
        self.gfal.call(|error| unsafe { (context.functions.close)(context.context, descriptor, error) }).map(drop)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.close_once();
    }
}

impl fmt::Debug for Gfal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gfal")
    }
}

struct Context {
    context: *mut c_void,
    functions: Functions,
    /// Never unloaded: plug-ins start threads that nobody can end.
    _library: ManuallyDrop<Library>,
}

// SAFETY: a gfal2 context may be used by several threads at a time: its header says so, and file transfer services do. The
// pointer is never followed here.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: files hold a reference to the context, so none is open; it is freed once, here.
        unsafe { (self.functions.context_free)(self.context) };
    }
}

/// `GError` of GLib.
#[repr(C)]
struct GError {
    domain: c_uint,
    code: c_int,
    message: *const c_char,
}

type Errors = *mut *mut GError;
type Handle = *mut c_void;
type Text = *const c_char;

/// The functions of `gfal_api.h` that are used, with the types that they have there.
struct Functions {
    context_new: unsafe extern "C" fn(Errors) -> Handle,
    context_free: unsafe extern "C" fn(Handle),
    cred_new: unsafe extern "C" fn(Text, Text) -> Handle,
    cred_set: unsafe extern "C" fn(Handle, Text, Handle, Errors) -> c_int,
    cred_free: unsafe extern "C" fn(Handle),
    stat: unsafe extern "C" fn(Handle, Text, *mut libc::stat, Errors) -> c_int,
    open: unsafe extern "C" fn(Handle, Text, c_int, Errors) -> c_int,
    pread: unsafe extern "C" fn(Handle, c_int, *mut c_void, usize, libc::off_t, Errors) -> isize,
    write: unsafe extern "C" fn(Handle, c_int, *const c_void, usize, Errors) -> isize,
    close: unsafe extern "C" fn(Handle, c_int, Errors) -> c_int,
    unlink: unsafe extern "C" fn(Handle, Text, Errors) -> c_int,
    mkdir_rec: unsafe extern "C" fn(Handle, Text, libc::mode_t, Errors) -> c_int,
    rename: unsafe extern "C" fn(Handle, Text, Text, Errors) -> c_int,
    checksum: unsafe extern "C" fn(Handle, Text, Text, libc::off_t, usize, *mut c_char, usize, Errors) -> c_int,
    error_free: unsafe extern "C" fn(*mut GError),
}

impl Functions {
    fn of(library: &Library) -> Result<Self, libloading::Error> {
        // SAFETY: each symbol is looked up by its name in the header and gets the type that it has there, through the type of
        // the field. The library is never unloaded, so they stay where they are. `g_error_free` is of GLib,
        // which libgfal2 is linked to, and is found through it.
        unsafe {
            Ok(Self {
                context_new: *library.get(b"gfal2_context_new\0")?,
                context_free: *library.get(b"gfal2_context_free\0")?,
                cred_new: *library.get(b"gfal2_cred_new\0")?,
                cred_set: *library.get(b"gfal2_cred_set\0")?,
                cred_free: *library.get(b"gfal2_cred_free\0")?,
                stat: *library.get(b"gfal2_stat\0")?,
                open: *library.get(b"gfal2_open\0")?,
                pread: *library.get(b"gfal2_pread\0")?,
                write: *library.get(b"gfal2_write\0")?,
                close: *library.get(b"gfal2_close\0")?,
                unlink: *library.get(b"gfal2_unlink\0")?,
                mkdir_rec: *library.get(b"gfal2_mkdir_rec\0")?,
                rename: *library.get(b"gfal2_rename\0")?,
                checksum: *library.get(b"gfal2_checksum\0")?,
                error_free: *library.get(b"g_error_free\0")?,
            })
        }
    }

    /// What an error says, and frees it.
    fn take(&self, error: *mut GError) -> Error {
        if error.is_null() {
            return Error::Call { code: libc::EIO, message: "libgfal2 failed without a reason".into() };
        }
        // SAFETY: an error that the library filled in: it stays until it is freed below, and its message ends in zero.
        let (code, message) = unsafe { ((*error).code, (*error).message) };
        let message = if message.is_null() {
            String::new()
        } else {
            // SAFETY: as above.
            unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
        };
        // SAFETY: it is ours since the call returned, and is not used any more.
        unsafe { (self.error_free)(error) };
        Error::Call { code, message }
    }

    fn length(&self, answer: isize, error: *mut GError) -> Result<usize, Error> {
        match usize::try_from(answer) {
            Ok(length) if error.is_null() => Ok(length),
            _ => Err(self.take(error)),
        }
    }
}

fn text(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Url)
}

fn invalid(message: &str) -> Error {
    Error::Call { code: libc::EINVAL, message: message.into() }
}

const LIBRARY: &str = "libgfal2.so.2";
/// What no open file has as descriptor.
const CLOSED: c_int = -1;
