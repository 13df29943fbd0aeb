//! The other end of the test module: owns a real PKCS#11 module and serves it on a socket.
//!
//!     eds-pkcs11-daemon MODULE SOCKET
//!
//! The variable `EDS_DAEMON_PARAMETERS`, if it is set, is given to `C_Initialize` as NSS wants it.
//! Says `ready` on standard output when it listens. `C_Initialize` of a new client ends what an earlier one left.
#![expect(clippy::undocumented_unsafe_blocks, reason = "every call passes buffers that live until it returns")]

use std::{
    env,
    ffi::CString,
    fs, io,
    os::unix::net::{UnixListener, UnixStream},
    process::ExitCode,
    ptr, slice, thread,
};

use cryptoki_sys::*;
use eds_pkcs11_proxy::wire::{Reader, Writer, receive, send};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().collect();
    let [_, module, socket] = arguments.as_slice() else {
        eprintln!("usage: eds-pkcs11-daemon MODULE SOCKET");
        return ExitCode::from(2);
    };
    let _ = fs::remove_file(socket);
    let served = functions(module).and_then(|functions| {
        let listener = UnixListener::bind(socket)?;
        println!("ready");
        for stream in listener.incoming() {
            let stream = stream?;
            thread::spawn(move || serve(stream, functions));
        }
        Ok(())
    });
    if let Err(error) = served {
        eprintln!("eds-pkcs11-daemon: {error}");
    }
    ExitCode::FAILURE
}

fn functions(module: &std::ffi::OsStr) -> io::Result<CK_FUNCTION_LIST> {
    let module = unsafe { Pkcs11::new(module) }.map_err(io::Error::other)?;
    let mut list = ptr::null_mut();
    let code = unsafe { module.C_GetFunctionList(&mut list) };
    // Loaded until the process ends.
    std::mem::forget(module);
    if code != CKR_OK || list.is_null() {
        return Err(io::Error::other("the module has no functions"));
    }
    Ok(unsafe { *list })
}

fn serve(mut stream: UnixStream, functions: CK_FUNCTION_LIST) {
    while let Ok(request) = receive(&mut stream) {
        let answer = answer(&functions, request).unwrap_or_else(|error| {
            eprintln!("eds-pkcs11-daemon: {error}");
            Writer::default().number(CKR_GENERAL_ERROR)
        });
        if send(&mut stream, &answer.0).is_err() {
            return;
        }
    }
}

/// A template whose values live as long as it does.
struct Template {
    attributes: Vec<CK_ATTRIBUTE>,
    _values: Vec<Vec<u8>>,
}

impl Template {
    fn read(request: &mut Reader) -> io::Result<Self> {
        let (mut attributes, mut values) = (Vec::new(), Vec::new());
        for _ in 0..request.number()? {
            let (kind, mut value) = (request.number()?, request.bytes()?);
            let length = value.len() as CK_ULONG;
            attributes.push(CK_ATTRIBUTE { type_: kind, pValue: value.as_mut_ptr().cast(), ulValueLen: length });
            values.push(value);
        }
        Ok(Self { attributes, _values: values })
    }

    fn pointer(&mut self) -> *mut CK_ATTRIBUTE {
        self.attributes.as_mut_ptr()
    }

    fn count(&self) -> CK_ULONG {
        self.attributes.len() as CK_ULONG
    }
}

/// A mechanism whose parameters live as long as it does.
struct Mechanism {
    kind: CK_MECHANISM_TYPE,
    first: Vec<u8>,
    second: Vec<u8>,
    numbers: [u64; 2],
    gcm: CK_GCM_PARAMS,
    ecdh: CK_ECDH1_DERIVE_PARAMS,
}

impl Mechanism {
    fn read(request: &mut Reader) -> io::Result<Self> {
        let kind = request.number()?;
        let (first, second, numbers) = match kind {
            CKM_AES_GCM => {
                let (iv, bits) = (request.bytes()?, request.number()?);
                (iv, request.bytes()?, [bits, request.number()?])
            }
            CKM_ECDH1_DERIVE => {
                let kdf = request.number()?;
                (request.bytes()?, request.bytes()?, [kdf, 0])
            }
            _ => (request.bytes()?, Vec::new(), [0, 0]),
        };
        // SAFETY: both are numbers and pointers.
        let (gcm, ecdh) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Ok(Self { kind, first, second, numbers, gcm, ecdh })
    }

    fn with<T>(&mut self, call: impl FnOnce(*mut CK_MECHANISM) -> T) -> T {
        let length = |bytes: &Vec<u8>| bytes.len() as CK_ULONG;
        let pointer = |bytes: &mut Vec<u8>| if bytes.is_empty() { ptr::null_mut() } else { bytes.as_mut_ptr() };
        let (parameter, size) = match self.kind {
            CKM_AES_GCM => {
                self.gcm = CK_GCM_PARAMS {
                    pIv: pointer(&mut self.first),
                    ulIvLen: length(&self.first),
                    ulIvBits: self.numbers[0],
                    pAAD: pointer(&mut self.second),
                    ulAADLen: length(&self.second),
                    ulTagBits: self.numbers[1],
                };
                ((&raw mut self.gcm).cast(), size_of::<CK_GCM_PARAMS>())
            }
            CKM_ECDH1_DERIVE => {
                self.ecdh = CK_ECDH1_DERIVE_PARAMS {
                    kdf: self.numbers[0],
                    ulSharedDataLen: length(&self.first),
                    pSharedData: pointer(&mut self.first),
                    ulPublicDataLen: length(&self.second),
                    pPublicData: pointer(&mut self.second),
                };
                ((&raw mut self.ecdh).cast(), size_of::<CK_ECDH1_DERIVE_PARAMS>())
            }
            _ => (pointer(&mut self.first).cast(), self.first.len()),
        };
        let mut mechanism =
            CK_MECHANISM { mechanism: self.kind, pParameter: parameter, ulParameterLen: size as CK_ULONG };
        call(&mut mechanism)
    }
}

macro_rules! call {
    ($list:expr, $name:ident, $($argument:expr),* $(,)?) => {
        match $list.$name {
            Some(function) => unsafe { function($($argument),*) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}

macro_rules! structure {
    ($list:expr, $name:ident, $kind:ty $(, $argument:expr)*) => {{
        // SAFETY: a structure of numbers and characters.
        let mut found: $kind = unsafe { std::mem::zeroed() };
        let code = call!($list, $name, $($argument,)* &mut found);
        let bytes = unsafe { slice::from_raw_parts((&raw const found).cast::<u8>(), size_of::<$kind>()) };
        Writer::default().number(code).bytes(bytes)
    }};
}

fn numbers(code: CK_RV, found: &[CK_ULONG]) -> Writer {
    found.iter().fold(Writer::default().number(code).number(found.len() as u64), |writer, one| writer.number(*one))
}

/// Output of a length that the module tells.
fn output(room: Option<u64>, call: impl FnOnce(*mut u8, *mut CK_ULONG) -> CK_RV) -> Writer {
    let mut buffer = vec![0; room.unwrap_or(0) as usize];
    let mut length = room.unwrap_or(0);
    let out = if room.is_some() { buffer.as_mut_ptr() } else { ptr::null_mut() };
    let code = call(out, &mut length);
    let filled = if code == CKR_OK && room.is_some() { buffer.get(..length as usize) } else { None };
    Writer::default().number(code).number(length).bytes(filled.unwrap_or_default())
}

fn handle(call: impl FnOnce(*mut CK_ULONG) -> CK_RV) -> Writer {
    let mut found = 0;
    let code = call(&mut found);
    Writer::default().number(code).number(found)
}

fn answer(list: &CK_FUNCTION_LIST, mut request: Reader) -> io::Result<Writer> {
    let just = |code: CK_RV| Writer::default().number(code);
    let name = String::from_utf8(request.bytes()?).map_err(io::Error::other)?;
    Ok(match name.as_str() {
        "C_Initialize" => just(initialize(list)),
        "C_Finalize" => just(call!(list, C_Finalize, ptr::null_mut())),
        "C_GetInfo" => structure!(list, C_GetInfo, CK_INFO),
        "C_GetSlotList" => {
            let (present, mut count) = (request.number()? as CK_BBOOL, 64);
            let mut slots = vec![0; 64];
            let code = call!(list, C_GetSlotList, present, slots.as_mut_ptr(), &mut count);
            numbers(code, slots.get(..count as usize).unwrap_or_default())
        }
        "C_GetSlotInfo" => structure!(list, C_GetSlotInfo, CK_SLOT_INFO, request.number()?),
        "C_GetTokenInfo" => structure!(list, C_GetTokenInfo, CK_TOKEN_INFO, request.number()?),
        "C_GetMechanismList" => {
            let (slot, mut count) = (request.number()?, 512);
            let mut kinds = vec![0; 512];
            let code = call!(list, C_GetMechanismList, slot, kinds.as_mut_ptr(), &mut count);
            numbers(code, kinds.get(..count as usize).unwrap_or_default())
        }
        "C_GetMechanismInfo" => {
            let (slot, kind) = (request.number()?, request.number()?);
            structure!(list, C_GetMechanismInfo, CK_MECHANISM_INFO, slot, kind)
        }
        "C_OpenSession" => {
            let (slot, flags) = (request.number()?, request.number()?);
            handle(|out| call!(list, C_OpenSession, slot, flags, ptr::null_mut(), None, out))
        }
        "C_CloseSession" => just(call!(list, C_CloseSession, request.number()?)),
        "C_CloseAllSessions" => just(call!(list, C_CloseAllSessions, request.number()?)),
        "C_GetSessionInfo" => structure!(list, C_GetSessionInfo, CK_SESSION_INFO, request.number()?),
        "C_Login" => {
            let (session, user, mut pin) = (request.number()?, request.number()?, request.bytes()?);
            just(call!(list, C_Login, session, user, pin.as_mut_ptr(), pin.len() as CK_ULONG))
        }
        "C_Logout" => just(call!(list, C_Logout, request.number()?)),
        "C_CreateObject" => {
            let (session, mut new) = (request.number()?, Template::read(&mut request)?);
            handle(|out| call!(list, C_CreateObject, session, new.pointer(), new.count(), out))
        }
        "C_DestroyObject" => {
            let (session, object) = (request.number()?, request.number()?);
            just(call!(list, C_DestroyObject, session, object))
        }
        "C_GetAttributeValue" => attributes(list, &mut request)?,
        "C_FindObjectsInit" => {
            let (session, mut like) = (request.number()?, Template::read(&mut request)?);
            just(call!(list, C_FindObjectsInit, session, like.pointer(), like.count()))
        }
        "C_FindObjects" => {
            let (session, most) = (request.number()?, request.number()?);
            let (mut found, mut count) = (vec![0; most as usize], 0);
            let code = call!(list, C_FindObjects, session, found.as_mut_ptr(), most, &mut count);
            numbers(code, found.get(..count as usize).unwrap_or_default())
        }
        "C_FindObjectsFinal" => just(call!(list, C_FindObjectsFinal, request.number()?)),
        "C_EncryptInit" | "C_DecryptInit" | "C_SignInit" => {
            let (session, key, mut how) = (request.number()?, request.number()?, Mechanism::read(&mut request)?);
            just(how.with(|how| match name.as_str() {
                "C_EncryptInit" => call!(list, C_EncryptInit, session, how, key),
                "C_DecryptInit" => call!(list, C_DecryptInit, session, how, key),
                _ => call!(list, C_SignInit, session, how, key),
            }))
        }
        "C_Encrypt" | "C_Decrypt" | "C_Sign" => {
            let (session, mut data, room) = (request.number()?, request.bytes()?, request.room()?);
            let (pointer, size) = (data.as_mut_ptr(), data.len() as CK_ULONG);
            output(room, |out, length| match name.as_str() {
                "C_Encrypt" => call!(list, C_Encrypt, session, pointer, size, out, length),
                "C_Decrypt" => call!(list, C_Decrypt, session, pointer, size, out, length),
                _ => call!(list, C_Sign, session, pointer, size, out, length),
            })
        }
        "C_GenerateKey" => {
            let (session, mut how) = (request.number()?, Mechanism::read(&mut request)?);
            let mut new = Template::read(&mut request)?;
            handle(|out| how.with(|how| call!(list, C_GenerateKey, session, how, new.pointer(), new.count(), out)))
        }
        "C_GenerateKeyPair" => {
            let (session, mut how) = (request.number()?, Mechanism::read(&mut request)?);
            let (mut public, mut private) = (Template::read(&mut request)?, Template::read(&mut request)?);
            let (mut one, mut other) = (0, 0);
            let (public, public_count) = (public.pointer(), public.count());
            let (private, private_count) = (private.pointer(), private.count());
            let code = how.with(|how| {
                call!(
                    list,
                    C_GenerateKeyPair,
                    session,
                    how,
                    public,
                    public_count,
                    private,
                    private_count,
                    &mut one,
                    &mut other
                )
            });
            Writer::default().number(code).number(one).number(other)
        }
        "C_WrapKey" => {
            let (session, wrapping, key) = (request.number()?, request.number()?, request.number()?);
            let (mut how, room) = (Mechanism::read(&mut request)?, request.room()?);
            output(room, |out, length| how.with(|how| call!(list, C_WrapKey, session, how, wrapping, key, out, length)))
        }
        "C_DeriveKey" => {
            let (session, base, mut how) = (request.number()?, request.number()?, Mechanism::read(&mut request)?);
            let mut new = Template::read(&mut request)?;
            let (new, count) = (new.pointer(), new.count());
            handle(|out| how.with(|how| call!(list, C_DeriveKey, session, how, base, new, count, out)))
        }
        _ => just(CKR_FUNCTION_NOT_SUPPORTED),
    })
}

fn initialize(list: &CK_FUNCTION_LIST) -> CK_RV {
    // SAFETY: all bytes zero is «nothing is said».
    let mut arguments: CK_C_INITIALIZE_ARGS = unsafe { std::mem::zeroed() };
    arguments.flags = CKF_OS_LOCKING_OK;
    let parameters = env::var("EDS_DAEMON_PARAMETERS").ok().and_then(|text| CString::new(text).ok());
    // Where it is set, the module keeps the pointer.
    arguments.pReserved = parameters.map_or(ptr::null_mut(), |parameters| parameters.into_raw().cast());
    let code = call!(list, C_Initialize, (&raw mut arguments).cast());
    if code != CKR_CRYPTOKI_ALREADY_INITIALIZED {
        return code;
    }
    call!(list, C_Finalize, ptr::null_mut());
    call!(list, C_Initialize, (&raw mut arguments).cast())
}

fn attributes(list: &CK_FUNCTION_LIST, request: &mut Reader) -> io::Result<Writer> {
    let (session, object) = (request.number()?, request.number()?);
    let (mut asked, mut buffers) = (Vec::new(), Vec::new());
    for _ in 0..request.number()? {
        let (kind, room) = (request.number()?, request.room()?);
        let mut buffer = vec![0_u8; room.unwrap_or(0) as usize];
        let value = if room.is_some() { buffer.as_mut_ptr().cast() } else { ptr::null_mut() };
        asked.push(CK_ATTRIBUTE { type_: kind, pValue: value, ulValueLen: room.unwrap_or(0) });
        buffers.push(buffer);
    }
    let code = call!(list, C_GetAttributeValue, session, object, asked.as_mut_ptr(), asked.len() as CK_ULONG);
    let answer = asked.iter().zip(&buffers).fold(Writer::default().number(code), |writer, (attribute, buffer)| {
        let value = buffer.get(..attribute.ulValueLen as usize).unwrap_or_default();
        writer.number(attribute.ulValueLen).bytes(value)
    });
    Ok(answer)
}
