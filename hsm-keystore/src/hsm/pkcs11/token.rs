//! The token behind its module: found by label, logged in to once, with one anchor session that keeps the login alive.
//!
//! PIN rule: after the token refused a PIN, this process never tries to log in again, and it does not use the last try
//! that a token announces. A loop of retries locks a token.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error as ModuleError, RvError},
    session::{Session, SessionState, UserType},
    slot::Slot,
};

use super::{
    gate::Gate,
    info::{Teller, TokenInfo},
};
use crate::{
    config::HsmConfig,
    hsm::{HsmError, TokenKeyId, self_test::described},
};

/// A token that is present and has a user PIN.
pub(super) struct Token {
    config: HsmConfig,
    /// With the label, what a token is known by after a restart of its module.
    serial: String,
    link: Mutex<Link>,
    /// The KEK that this process adopted; none as long as it opens its keys.
    kek: Mutex<Option<TokenKeyId>>,
    /// What the token says it is.
    pub(super) description: String,
    /// Closed while the token does not work.
    pub(super) gate: Arc<Gate>,
}

/// A module that is loaded, and who asks its tokens what they are.
#[derive(Clone)]
pub(super) struct Module {
    pub(super) calls: Pkcs11,
    pub(super) teller: Teller,
}

/// What holds until the module is started anew.
struct Link {
    module: Module,
    slot: Slot,
    /// Never used for work. When the last session of a process closes, its login ends.
    anchor: Option<Session>,
    /// The PIN was refused: never again in this process.
    refused: bool,
}

/// A module that was not started anew.
pub(super) enum Restart {
    /// It may be possible later.
    Later(String),
    /// Only another process can.
    Impossible(String),
}

impl Token {
    /// Loads the module and finds the token.
    ///
    /// # Errors
    /// [`HsmError::Setup`] when the module does not load, or there is not exactly one token of this label.
    pub(super) fn find(config: &HsmConfig) -> Result<Self, HsmError> {
        let label = &config.token;
        let setup = |reason: String| HsmError::Setup { token: label.clone(), reason };
        let module = load(&config.module).map_err(|error| {
            let (name, told) = (config.module.display(), described(&error));
            setup(match error {
                ModuleError::Pkcs11(..) => format!(
                    "the module {name} does not start ({told}); start what it needs first, such as its daemon (for \
                     openCryptoki: pkcsslotd)"
                ),
                _ => format!("the module {name} does not load ({told}); name another file in hsm.module"),
            })
        })?;
        let tokens =
            tokens(&module).map_err(|error| setup(format!("the module lists no tokens ({})", described(&error))))?;
        let serial = config.serial.as_deref();
        let named = |info: &TokenInfo| info.label == *label && serial.is_none_or(|serial| info.serial == serial);
        let mut matching = tokens.iter().filter(|(_, info)| named(info));
        let (slot, info) = match (matching.next(), matching.next()) {
            (Some(found), None) => found,
            (None, _) => {
                let told = |info: &TokenInfo| match serial {
                    Some(_) => format!("{:?} with serial {}", info.label, info.serial),
                    None => format!("{:?}", info.label),
                };
                let seen: Vec<_> = tokens.iter().map(|(_, info)| told(info)).collect();
                return Err(setup(format!(
                    "there is no token with this label{} (the module shows: {}); make it with your vendor's tool or with \
                     `eds-keystored hsm init`, for SoftHSM: softhsm2-util --init-token --free --label {label}",
                    if serial.is_some() { " and serial number" } else { "" },
                    if seen.is_empty() { "none".to_owned() } else { seen.join(", ") }
                )));
            }
            (Some(_), Some(_)) => {
                return Err(setup("there is more than one token with this label; give them different labels".into()));
            }
        };
        if !info.has_user_pin() {
            return Err(setup("its user PIN is not set; set it with your vendor's tool".into()));
        }
        let (serial, description) = (info.serial.clone(), info.to_string());
        let link = Link { slot: *slot, anchor: None, refused: false, module: module.clone() };
        Ok(Self {
            config: config.clone(),
            serial,
            link: Mutex::new(link),
            kek: Mutex::default(),
            description,
            gate: Arc::new(Gate::new(label)),
        })
    }

    /// Ends the module and starts it anew, for all its sessions in this process, and finds the token again by label and
    /// serial number. No session of it may be in use.
    pub(super) fn restart(&self) -> Result<(), Restart> {
        let mut link = self.lock();
        link.anchor = None;
        let never = |what: &str, error: &ModuleError| {
            Restart::Impossible(format!("its module cannot be started anew: {what}: {}", described(error)))
        };
        match link.module.calls.clone().finalize() {
            Ok(()) | Err(ModuleError::Pkcs11(RvError::CryptokiNotInitialized, _)) => {}
            Err(error) => return Err(never("C_Finalize", &error)),
        }
        match link.module.calls.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) => {}
            Err(error @ ModuleError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {
                return Err(never("C_Initialize", &error));
            }
            Err(error) => return Err(Restart::Later(format!("its module does not start: {}", described(&error)))),
        }
        let tokens = tokens(&link.module)
            .map_err(|error| Restart::Later(format!("its module lists no tokens: {}", described(&error))))?;
        let same = |info: &TokenInfo| info.label == self.config.token && info.serial == self.serial;
        match tokens.iter().find(|(_, info)| same(info)) {
            Some((slot, _)) => {
                link.slot = *slot;
                Ok(())
            }
            None => {
                Err(Restart::Later(format!("no token with this label and serial number {} is present", self.serial)))
            }
        }
    }

    /// The KEK that new records are wrapped under.
    pub(super) fn kek(&self) -> Option<TokenKeyId> {
        *self.kek.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has new records wrapped under this KEK. Every seat finds its keys anew at its next call.
    pub(super) fn adopt(&self, kek: TokenKeyId) {
        *self.kek.lock().unwrap_or_else(PoisonError::into_inner) = Some(kek);
    }

    /// Whether the token refused the PIN: it is not logged in to again.
    pub(super) fn is_refused(&self) -> bool {
        self.lock().refused
    }

    /// The label of the token.
    pub(super) fn label(&self) -> &str {
        &self.config.token
    }

    /// A new session that is logged in. Read-write, because some tokens know no other.
    ///
    /// # Errors
    /// [`HsmError::Pin`], or [`HsmError::Unavailable`] when the module gives no session.
    pub(super) fn session(&self) -> Result<Session, HsmError> {
        let mut link = self.lock();
        let session = link.open()?;
        if !logged_in(&session)? {
            self.log_in(&mut link)?;
        }
        if link.anchor.is_none() {
            link.anchor = Some(link.open()?);
        }
        Ok(session)
    }

    fn log_in(&self, link: &mut Link) -> Result<(), HsmError> {
        if link.refused {
            return Err(self.pin("the token refused the PIN before; put the PIN file right and restart".into()));
        }
        // A token that does not tell its state is asked for its answer to the PIN.
        if let Ok(info) = link.module.teller.ask(link.slot) {
            if info.user_pin_locked() {
                link.refused = true;
                return Err(self.pin("its user PIN is locked; the security officer must reset it".into()));
            }
            if info.user_pin_final_try() {
                link.refused = true;
                let reason =
                    "one try is left before the PIN locks, and it is not used; log in once with your vendor's tool";
                return Err(self.pin(reason.into()));
            }
        }
        let pin = self
            .config
            .pin
            .read(&format!("token {:?}", self.config.token))
            .map_err(|error| HsmError::Setup { token: self.config.token.clone(), reason: described(&error) })?;
        let anchor = link.open()?;
        match anchor.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(ModuleError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                link.anchor = Some(anchor);
                Ok(())
            }
            Err(ModuleError::Pkcs11(code, _)) if is_about_the_pin(code) => {
                link.refused = true;
                let file = &self.config.pin;
                Err(self.pin(format!("it refused the PIN in {file} ({code:?}); it is not tried again")))
            }
            Err(source) => Err(HsmError::Unavailable { operation: "log in", source: Some(source) }),
        }
    }

    fn pin(&self, reason: String) -> HsmError {
        HsmError::Pin { token: self.config.token.clone(), reason }
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    fn open(&self) -> Result<Session, HsmError> {
        self.module
            .calls
            .open_rw_session(self.slot)
            .map_err(|source| HsmError::Unavailable { operation: "open a session", source: Some(source) })
    }
}

/// The tokens that can describe themselves. A slot that cannot be asked is not ours; slot numbers change, labels do not.
pub(super) fn tokens(module: &Module) -> Result<Vec<(Slot, TokenInfo)>, ModuleError> {
    let slots = module.calls.get_slots_with_token()?.into_iter();
    let described = slots.filter_map(|slot| module.teller.ask(slot).ok().map(|info| (slot, info)));
    Ok(described.filter(|(_, info)| info.is_initialized()).collect())
}

fn logged_in(session: &Session) -> Result<bool, HsmError> {
    let info = session
        .get_session_info()
        .map_err(|source| HsmError::Unavailable { operation: "describe a session", source: Some(source) })?;
    Ok(matches!(info.session_state(), SessionState::RwUser | SessionState::RoUser))
}

fn is_about_the_pin(code: RvError) -> bool {
    matches!(
        code,
        RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked
            | RvError::PinTooWeak
            | RvError::UserPinNotInitialized
    )
}

/// A module is loaded and initialised once in a process, whoever uses it.
pub(super) fn load(file: &Path) -> Result<Module, ModuleError> {
    static LOADED: Mutex<Option<HashMap<PathBuf, Module>>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    if let Some(module) = loaded.get(file) {
        return Ok(module.clone());
    }
    let module = Module { calls: Pkcs11::new(file)?, teller: Teller::load(file)? };
    match module.calls.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(ModuleError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(error),
    }
    loaded.insert(file.to_owned(), module.clone());
    Ok(module)
}
