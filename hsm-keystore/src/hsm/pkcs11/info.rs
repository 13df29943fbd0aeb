//! What a token says of itself, past the crate `cryptoki`: that one gives up on the whole answer when its date does not
//! parse, and openCryptoki 3.8.1 writes a time of day there. Only what a node needs is read; the date is not.
//!
//! The one file of this crate with `unsafe` code. The module is loaded a second time for it, which the loader answers
//! with the same module: what `cryptoki` starts and ends, is started and ended for these calls too.

use std::{fmt, path::Path, ptr, sync::Arc};

use cryptoki::{
    context::Function,
    error::{Error as ModuleError, Rv},
    slot::Slot,
};
use cryptoki_sys::{
    CK_FLAGS, CK_FUNCTION_LIST, CK_RV, CK_SLOT_ID, CK_TOKEN_INFO, CKF_TOKEN_INITIALIZED, CKF_USER_PIN_FINAL_TRY,
    CKF_USER_PIN_INITIALIZED, CKF_USER_PIN_LOCKED, Pkcs11 as Library,
};

/// What a token says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TokenInfo {
    pub(super) label: String,
    pub(super) serial: String,
    maker: String,
    model: String,
    firmware: (u8, u8),
    flags: CK_FLAGS,
}

/// Asks tokens of one module what they are.
#[derive(Clone)]
pub(super) struct Teller(Arc<Inner>);

struct Inner {
    call: unsafe extern "C" fn(CK_SLOT_ID, *mut CK_TOKEN_INFO) -> CK_RV,
    /// What `call` is part of: it stays loaded as long as that may be called.
    _library: Library,
}

impl Teller {
    /// That of the module in this file.
    ///
    /// # Errors
    /// When the file does not load, or is no module.
    #[expect(unsafe_code, reason = "loads a library and reads the table of its functions")]
    pub(super) fn load(file: &Path) -> Result<Self, ModuleError> {
        // SAFETY: loading runs the initialisers of the library. It is the module that `cryptoki` has loaded, and which the
        // officers named: they have run already, and whoever may name it has this process anyway.
        let library = unsafe { Library::new(file) }.map_err(ModuleError::LibraryLoading)?;
        if library.C_GetFunctionList.is_err() {
            return Err(ModuleError::MissingSymbol("C_GetFunctionList"));
        }
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the symbol is there (checked above) and has this type by PKCS#11 v2.40, section 5.4; `list` lives
        // longer than the call, which may be made before C_Initialize.
        let code = unsafe { library.C_GetFunctionList(&raw mut list) };
        Rv::from(code).into_result(Function::GetFunctionList)?;
        // SAFETY: null, or the module's own table, which lives as long as the module (ibid.). C_GetTokenInfo stands at the
        // same place in the tables of all versions 2 and 3.
        let call = unsafe { list.as_ref() }.and_then(|list| list.C_GetTokenInfo);
        Ok(Self(Arc::new(Inner { call: call.ok_or(ModuleError::NullFunctionPointer)?, _library: library })))
    }

    /// What the token in this slot says of itself.
    ///
    /// # Errors
    /// What the module says.
    #[expect(unsafe_code, reason = "calls the module")]
    pub(super) fn ask(&self, slot: Slot) -> Result<TokenInfo, ModuleError> {
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: the function belongs to `_library`, which is loaded; it writes one CK_TOKEN_INFO, for which `info` is
        // there during the call. Every value of its fields is a valid one. Before C_Initialize and after C_Finalize the
        // module answers CKR_CRYPTOKI_NOT_INITIALIZED; it locks by itself (CKF_OS_LOCKING_OK).
        let code = unsafe { (self.0.call)(slot.into(), &raw mut info) };
        Rv::from(code).into_result(Function::GetTokenInfo)?;
        Ok(TokenInfo::from(&info))
    }
}

impl From<&CK_TOKEN_INFO> for TokenInfo {
    fn from(info: &CK_TOKEN_INFO) -> Self {
        Self {
            label: text(&info.label),
            serial: text(&info.serialNumber),
            maker: text(&info.manufacturerID),
            model: text(&info.model),
            firmware: (info.firmwareVersion.major, info.firmwareVersion.minor),
            flags: info.flags,
        }
    }
}

impl TokenInfo {
    /// Whether it has a label and a security officer.
    pub(super) fn is_initialized(&self) -> bool {
        self.has(CKF_TOKEN_INITIALIZED)
    }

    /// Whether it has a user PIN.
    pub(super) fn has_user_pin(&self) -> bool {
        self.has(CKF_USER_PIN_INITIALIZED)
    }

    /// Whether no PIN of the user is accepted any more.
    pub(super) fn user_pin_locked(&self) -> bool {
        self.has(CKF_USER_PIN_LOCKED)
    }

    /// Whether the next wrong PIN is the last.
    pub(super) fn user_pin_final_try(&self) -> bool {
        self.has(CKF_USER_PIN_FINAL_TRY)
    }

    fn has(&self, flag: CK_FLAGS) -> bool {
        self.flags & flag != 0
    }
}

/// Maker, model, serial number and firmware.
impl fmt::Display for TokenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.firmware;
        write!(f, "{} {}, serial {}, firmware {major}.{minor}", self.maker, self.model, self.serial)
    }
}

/// Text of fixed length, filled up with blanks; some tokens end it with a zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_at_their_blanks_or_at_a_zero_and_may_be_of_any_bytes() {
        assert_eq!(text(b"ward 7          "), "ward 7");
        assert_eq!(text(b"ward 7\0garbage "), "ward 7");
        assert_eq!(text(b"                "), "");
        assert_eq!(text(b"ward \xff "), "ward \u{fffd}");
    }

    #[test]
    fn a_date_that_does_not_parse_spoils_nothing() {
        let mut info = CK_TOKEN_INFO { utcTime: *b"13:22:00\0\0\0\0\0\0\0\0", ..CK_TOKEN_INFO::default() };
        info.label.fill(b' ');
        info.label[..4].copy_from_slice(b"ward");
        info.flags = CKF_TOKEN_INITIALIZED | CKF_USER_PIN_FINAL_TRY;
        info.firmwareVersion.minor = 7;
        let told = TokenInfo::from(&info);
        assert_eq!((told.label.as_str(), told.firmware), ("ward", (0, 7)));
        assert!(told.is_initialized() && told.user_pin_final_try() && !told.user_pin_locked() && !told.has_user_pin());
    }

    #[test]
    fn a_file_that_is_no_module_is_told() {
        let error = Teller::load(Path::new("/nonexistent/module.so")).err().expect("there is none");
        assert!(matches!(error, ModuleError::LibraryLoading(_)), "{error}");
    }
}
