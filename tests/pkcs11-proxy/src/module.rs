//! The functions of the module: each writes down its arguments, asks the daemon and copies out what came back.
#![expect(clippy::undocumented_unsafe_blocks, reason = "each reads and writes what its caller passed, as PKCS#11 says")]

use std::{cell::RefCell, env, ffi::c_void, os::unix::net::UnixStream, ptr, slice};

use cryptoki_sys::*;

use crate::{
    faults,
    wire::{Reader, Writer, receive, send},
};

thread_local! {
    /// One connection for each thread, so that calls run beside each other.
    static DAEMON: RefCell<Option<UnixStream>> = const { RefCell::new(None) };
}

/// The one symbol that a module must have.
///
/// # Safety
/// `list` points to room for a pointer.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    static LIST: CK_FUNCTION_LIST_IN_MEMORY = CK_FUNCTION_LIST_IN_MEMORY(FUNCTIONS);
    unsafe { *list = (&raw const LIST.0).cast_mut() };
    CKR_OK
}

#[expect(non_camel_case_types, reason = "beside the names of PKCS#11")]
struct CK_FUNCTION_LIST_IN_MEMORY(CK_FUNCTION_LIST);

// SAFETY: it is never written to.
unsafe impl Sync for CK_FUNCTION_LIST_IN_MEMORY {}

const FUNCTIONS: CK_FUNCTION_LIST = {
    // SAFETY: all bytes zero is a list without functions.
    let mut list: CK_FUNCTION_LIST = unsafe { std::mem::zeroed() };
    list.version = CK_VERSION { major: 2, minor: 40 };
    list.C_GetFunctionList = Some(C_GetFunctionList);
    list.C_Initialize = Some(initialize);
    list.C_Finalize = Some(finalize);
    list.C_GetInfo = Some(info);
    list.C_GetSlotList = Some(slot_list);
    list.C_GetSlotInfo = Some(slot_info);
    list.C_GetTokenInfo = Some(token_info);
    list.C_GetMechanismList = Some(mechanism_list);
    list.C_GetMechanismInfo = Some(mechanism_info);
    list.C_OpenSession = Some(open_session);
    list.C_CloseSession = Some(close_session);
    list.C_CloseAllSessions = Some(close_all_sessions);
    list.C_GetSessionInfo = Some(session_info);
    list.C_Login = Some(login);
    list.C_Logout = Some(logout);
    list.C_CreateObject = Some(create_object);
    list.C_DestroyObject = Some(destroy_object);
    list.C_GetAttributeValue = Some(attribute_value);
    list.C_FindObjectsInit = Some(find_init);
    list.C_FindObjects = Some(find);
    list.C_FindObjectsFinal = Some(find_final);
    list.C_EncryptInit = Some(encrypt_init);
    list.C_Encrypt = Some(encrypt);
    list.C_DecryptInit = Some(decrypt_init);
    list.C_Decrypt = Some(decrypt);
    list.C_SignInit = Some(sign_init);
    list.C_Sign = Some(sign);
    list.C_GenerateKey = Some(generate_key);
    list.C_GenerateKeyPair = Some(generate_key_pair);
    list.C_WrapKey = Some(wrap_key);
    list.C_DeriveKey = Some(derive_key);
    list
};

fn ask(name: &str, arguments: Writer) -> (CK_RV, Reader) {
    let nothing = || Reader::new(Vec::new());
    if let Err(code) = faults::enter(name) {
        return (code, nothing());
    }
    let request = Writer::default().bytes(name.as_bytes()).0.into_iter().chain(arguments.0).collect::<Vec<_>>();
    let answer = DAEMON.with_borrow_mut(|daemon| {
        let stream = match daemon {
            Some(stream) => stream,
            None => daemon.insert(UnixStream::connect(env::var_os("EDS_PROXY_SOCKET").unwrap_or_default())?),
        };
        let answer = send(stream, &request).and_then(|()| receive(stream));
        if answer.is_err() {
            *daemon = None;
        }
        answer
    });
    match answer {
        Ok(mut answer) => match answer.number() {
            Ok(code) => (code, answer),
            Err(_) => (CKR_DEVICE_ERROR, nothing()),
        },
        Err(_) => (CKR_DEVICE_ERROR, nothing()),
    }
}

fn just(name: &str, arguments: Writer) -> CK_RV {
    ask(name, arguments).0
}

fn arguments(first: CK_ULONG) -> Writer {
    Writer::default().number(first)
}

unsafe fn bytes<'a>(data: *const u8, length: CK_ULONG) -> &'a [u8] {
    if data.is_null() { &[] } else { unsafe { slice::from_raw_parts(data, length as usize) } }
}

unsafe fn template(writer: Writer, template: *const CK_ATTRIBUTE, count: CK_ULONG) -> Writer {
    let attributes: &[CK_ATTRIBUTE] =
        if template.is_null() { &[] } else { unsafe { slice::from_raw_parts(template, count as usize) } };
    attributes.iter().fold(writer.number(attributes.len() as u64), |writer, attribute| {
        writer.number(attribute.type_).bytes(unsafe { bytes(attribute.pValue.cast(), attribute.ulValueLen) })
    })
}

unsafe fn mechanism(writer: Writer, mechanism: *const CK_MECHANISM) -> Writer {
    let mechanism = unsafe { &*mechanism };
    let writer = writer.number(mechanism.mechanism);
    match mechanism.mechanism {
        CKM_AES_GCM => {
            let gcm = unsafe { &*mechanism.pParameter.cast::<CK_GCM_PARAMS>() };
            let (iv, aad) = unsafe { (bytes(gcm.pIv, gcm.ulIvLen), bytes(gcm.pAAD, gcm.ulAADLen)) };
            writer.bytes(iv).number(gcm.ulIvBits).bytes(aad).number(gcm.ulTagBits)
        }
        CKM_ECDH1_DERIVE => {
            let ecdh = unsafe { &*mechanism.pParameter.cast::<CK_ECDH1_DERIVE_PARAMS>() };
            let shared = unsafe { bytes(ecdh.pSharedData, ecdh.ulSharedDataLen) };
            let public = unsafe { bytes(ecdh.pPublicData, ecdh.ulPublicDataLen) };
            writer.number(ecdh.kdf).bytes(shared).bytes(public)
        }
        _ => writer.bytes(unsafe { bytes(mechanism.pParameter.cast(), mechanism.ulParameterLen) }),
    }
}

/// Copies a structure of numbers and characters.
unsafe fn structure<T>(name: &str, arguments: Writer, out: *mut T) -> CK_RV {
    let (code, mut answer) = ask(name, arguments);
    if code == CKR_OK {
        let Ok(found) = answer.bytes() else { return CKR_DEVICE_ERROR };
        if found.len() != size_of::<T>() {
            return CKR_DEVICE_ERROR;
        }
        unsafe { ptr::copy_nonoverlapping(found.as_ptr(), out.cast(), found.len()) };
    }
    code
}

/// A list of numbers: its length alone when there is no room for it.
unsafe fn list(name: &str, arguments: Writer, out: *mut CK_ULONG, count: *mut CK_ULONG) -> CK_RV {
    let (code, mut answer) = ask(name, arguments);
    if code != CKR_OK {
        return code;
    }
    let Ok(found) = answer.number() else { return CKR_DEVICE_ERROR };
    let room = unsafe { *count };
    unsafe { *count = found };
    if out.is_null() {
        return CKR_OK;
    }
    if room < found {
        return CKR_BUFFER_TOO_SMALL;
    }
    for position in 0..found as usize {
        let Ok(number) = answer.number() else { return CKR_DEVICE_ERROR };
        unsafe { *out.add(position) = number };
    }
    CKR_OK
}

/// Output into a buffer: its length alone when there is none.
unsafe fn output(name: &str, arguments: Writer, out: *mut u8, length: *mut CK_ULONG) -> CK_RV {
    let room = (!out.is_null()).then(|| unsafe { *length });
    let (code, mut answer) = ask(name, arguments.room(room));
    if let (Ok(needed), Ok(found)) = (answer.number(), answer.bytes()) {
        unsafe { *length = needed };
        if code == CKR_OK && !out.is_null() {
            unsafe { ptr::copy_nonoverlapping(found.as_ptr(), out, found.len()) };
        }
    }
    code
}

unsafe fn handle(name: &str, arguments: Writer, out: *mut CK_ULONG) -> CK_RV {
    let (code, mut answer) = ask(name, arguments);
    if code == CKR_OK {
        let Ok(found) = answer.number() else { return CKR_DEVICE_ERROR };
        unsafe { *out = found };
    }
    code
}

unsafe extern "C" fn initialize(_: *mut c_void) -> CK_RV {
    just("C_Initialize", Writer::default())
}

unsafe extern "C" fn finalize(_: *mut c_void) -> CK_RV {
    // As with most network HSMs: the library forgets its state, whether its daemon is there or not.
    match just("C_Finalize", Writer::default()) {
        CKR_DEVICE_ERROR => CKR_OK,
        code => code,
    }
}

unsafe extern "C" fn info(out: *mut CK_INFO) -> CK_RV {
    unsafe { structure("C_GetInfo", Writer::default(), out) }
}

unsafe extern "C" fn slot_list(present: CK_BBOOL, out: *mut CK_SLOT_ID, count: *mut CK_ULONG) -> CK_RV {
    unsafe { list("C_GetSlotList", arguments(present.into()), out, count) }
}

unsafe extern "C" fn slot_info(slot: CK_SLOT_ID, out: *mut CK_SLOT_INFO) -> CK_RV {
    unsafe { structure("C_GetSlotInfo", arguments(slot), out) }
}

unsafe extern "C" fn token_info(slot: CK_SLOT_ID, out: *mut CK_TOKEN_INFO) -> CK_RV {
    unsafe { structure("C_GetTokenInfo", arguments(slot), out) }
}

unsafe extern "C" fn mechanism_list(slot: CK_SLOT_ID, out: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG) -> CK_RV {
    unsafe { list("C_GetMechanismList", arguments(slot), out, count) }
}

unsafe extern "C" fn mechanism_info(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, out: *mut CK_MECHANISM_INFO) -> CK_RV {
    unsafe { structure("C_GetMechanismInfo", arguments(slot).number(kind), out) }
}

unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    _: *mut c_void,
    _: CK_NOTIFY,
    out: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    unsafe { handle("C_OpenSession", arguments(slot).number(flags), out) }
}

unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    just("C_CloseSession", arguments(session))
}

unsafe extern "C" fn close_all_sessions(slot: CK_SLOT_ID) -> CK_RV {
    just("C_CloseAllSessions", arguments(slot))
}

unsafe extern "C" fn session_info(session: CK_SESSION_HANDLE, out: *mut CK_SESSION_INFO) -> CK_RV {
    unsafe { structure("C_GetSessionInfo", arguments(session), out) }
}

unsafe extern "C" fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> CK_RV {
    just("C_Login", arguments(session).number(user).bytes(unsafe { bytes(pin, length) }))
}

unsafe extern "C" fn logout(session: CK_SESSION_HANDLE) -> CK_RV {
    just("C_Logout", arguments(session))
}

unsafe extern "C" fn create_object(
    session: CK_SESSION_HANDLE,
    attributes: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    out: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    unsafe { handle("C_CreateObject", template(arguments(session), attributes, count), out) }
}

unsafe extern "C" fn destroy_object(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> CK_RV {
    just("C_DestroyObject", arguments(session).number(object))
}

unsafe extern "C" fn attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    attributes: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let attributes = unsafe { slice::from_raw_parts_mut(attributes, count as usize) };
    let asked = attributes.iter().fold(arguments(session).number(object).number(count), |writer, attribute| {
        writer.number(attribute.type_).room((!attribute.pValue.is_null()).then_some(attribute.ulValueLen))
    });
    let (code, mut answer) = ask("C_GetAttributeValue", asked);
    for attribute in attributes {
        let (Ok(length), Ok(value)) = (answer.number(), answer.bytes()) else { break };
        attribute.ulValueLen = length;
        if !attribute.pValue.is_null() && !value.is_empty() {
            unsafe { ptr::copy_nonoverlapping(value.as_ptr(), attribute.pValue.cast(), value.len()) };
        }
    }
    code
}

unsafe extern "C" fn find_init(session: CK_SESSION_HANDLE, attributes: *mut CK_ATTRIBUTE, count: CK_ULONG) -> CK_RV {
    just("C_FindObjectsInit", unsafe { template(arguments(session), attributes, count) })
}

unsafe extern "C" fn find(
    session: CK_SESSION_HANDLE,
    out: *mut CK_OBJECT_HANDLE,
    most: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    unsafe {
        *count = most;
        list("C_FindObjects", arguments(session).number(most), out, count)
    }
}

unsafe extern "C" fn find_final(session: CK_SESSION_HANDLE) -> CK_RV {
    just("C_FindObjectsFinal", arguments(session))
}

unsafe extern "C" fn encrypt_init(session: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) -> CK_RV {
    just("C_EncryptInit", unsafe { mechanism(arguments(session).number(key), how) })
}

unsafe extern "C" fn encrypt(
    session: CK_SESSION_HANDLE,
    data: *mut u8,
    data_length: CK_ULONG,
    out: *mut u8,
    length: *mut CK_ULONG,
) -> CK_RV {
    unsafe { output("C_Encrypt", arguments(session).bytes(bytes(data, data_length)), out, length) }
}

unsafe extern "C" fn decrypt_init(session: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) -> CK_RV {
    just("C_DecryptInit", unsafe { mechanism(arguments(session).number(key), how) })
}

unsafe extern "C" fn decrypt(
    session: CK_SESSION_HANDLE,
    data: *mut u8,
    data_length: CK_ULONG,
    out: *mut u8,
    length: *mut CK_ULONG,
) -> CK_RV {
    unsafe { output("C_Decrypt", arguments(session).bytes(bytes(data, data_length)), out, length) }
}

unsafe extern "C" fn sign_init(session: CK_SESSION_HANDLE, how: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE) -> CK_RV {
    just("C_SignInit", unsafe { mechanism(arguments(session).number(key), how) })
}

unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut u8,
    data_length: CK_ULONG,
    out: *mut u8,
    length: *mut CK_ULONG,
) -> CK_RV {
    unsafe { output("C_Sign", arguments(session).bytes(bytes(data, data_length)), out, length) }
}

unsafe extern "C" fn generate_key(
    session: CK_SESSION_HANDLE,
    how: *mut CK_MECHANISM,
    attributes: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    out: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let asked = unsafe { template(mechanism(arguments(session), how), attributes, count) };
    unsafe { handle("C_GenerateKey", asked, out) }
}

unsafe extern "C" fn generate_key_pair(
    session: CK_SESSION_HANDLE,
    how: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_out: *mut CK_OBJECT_HANDLE,
    private_out: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let asked = unsafe { template(mechanism(arguments(session), how), public, public_count) };
    let (code, mut answer) = ask("C_GenerateKeyPair", unsafe { template(asked, private, private_count) });
    if code == CKR_OK {
        let (Ok(public), Ok(private)) = (answer.number(), answer.number()) else { return CKR_DEVICE_ERROR };
        unsafe {
            *public_out = public;
            *private_out = private;
        }
    }
    code
}

unsafe extern "C" fn wrap_key(
    session: CK_SESSION_HANDLE,
    how: *mut CK_MECHANISM,
    wrapping: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    out: *mut u8,
    length: *mut CK_ULONG,
) -> CK_RV {
    unsafe { output("C_WrapKey", mechanism(arguments(session).number(wrapping).number(key), how), out, length) }
}

unsafe extern "C" fn derive_key(
    session: CK_SESSION_HANDLE,
    how: *mut CK_MECHANISM,
    base: CK_OBJECT_HANDLE,
    attributes: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    out: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let asked = unsafe { template(mechanism(arguments(session).number(base), how), attributes, count) };
    unsafe { handle("C_DeriveKey", asked, out) }
}
