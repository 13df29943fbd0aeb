//! The token behind its module: found by label, logged in to once, with one anchor session that keeps the login alive.
//!
//! PIN rule: after the token refused a PIN, this process never tries to log in again, and it does not use the last try
//! that a token announces. A loop of retries locks a token.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error as ModuleError, RvError},
    session::{Session, SessionState, UserType},
    slot::{Slot, TokenInfo},
};

use crate::{
    config::HsmConfig,
    hsm::{HsmError, pin, self_test::described},
};

/// A token that is present and has a user PIN.
pub(super) struct Token {
    module: Pkcs11,
    slot: Slot,
    label: String,
    pin_file: PathBuf,
    login: Mutex<Login>,
    /// What the token says it is.
    pub(super) description: String,
}

#[derive(Default)]
struct Login {
    /// Never used for work. When the last session of a process closes, its login ends.
    anchor: Option<Session>,
    refused: bool,
}

impl Token {
    /// Loads the module and finds the token.
    ///
    /// # Errors
    /// [`HsmError::Setup`] when the module does not load, or there is not exactly one token of this label.
    pub(super) fn find(config: &HsmConfig) -> Result<Self, HsmError> {
        let label = config.token.clone();
        let setup = |reason: String| HsmError::Setup { token: label.clone(), reason };
        let module = load(&config.module).map_err(|error| {
            let name = config.module.display();
            setup(format!("the module {name} does not load ({}); name another file in hsm.module", described(&error)))
        })?;
        let slots = module
            .get_slots_with_token()
            .map_err(|error| setup(format!("the module lists no tokens ({})", described(&error))))?;
        // A slot that cannot be asked is not ours; slot numbers change, labels do not.
        let tokens: Vec<(Slot, TokenInfo)> = slots
            .into_iter()
            .filter_map(|slot| module.get_token_info(slot).ok().map(|info| (slot, info)))
            .filter(|(_, info)| info.token_initialized())
            .collect();
        let mut matching = tokens.iter().filter(|(_, info)| info.label().trim_end() == label);
        let (slot, info) = match (matching.next(), matching.next()) {
            (Some(found), None) => found,
            (None, _) => {
                let seen: Vec<_> = tokens.iter().map(|(_, info)| format!("{:?}", info.label().trim_end())).collect();
                return Err(setup(format!(
                    "there is no token with this label (the module shows: {}); make it with your vendor's tool, for \
                     SoftHSM: softhsm2-util --init-token --free --label {label}",
                    if seen.is_empty() { "none".to_owned() } else { seen.join(", ") }
                )));
            }
            (Some(_), Some(_)) => {
                return Err(setup("there is more than one token with this label; give them different labels".into()));
            }
        };
        if !info.user_pin_initialized() {
            return Err(setup("its user PIN is not set; set it with your vendor's tool".into()));
        }
        let description = format!(
            "{} {}, serial {}, firmware {}",
            info.manufacturer_id().trim_end(),
            info.model().trim_end(),
            info.serial_number().trim_end(),
            info.firmware_version()
        );
        Ok(Self {
            slot: *slot,
            label: label.clone(),
            pin_file: config.pin_file.clone(),
            login: Mutex::default(),
            description,
            module: module.clone(),
        })
    }

    /// The label of the token.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// A new session that is logged in. Read-write, because some tokens know no other.
    ///
    /// # Errors
    /// [`HsmError::Pin`], or [`HsmError::Unavailable`] when the module gives no session.
    pub(super) fn session(&self) -> Result<Session, HsmError> {
        let mut login = self.lock();
        let session = self.open()?;
        if !logged_in(&session)? {
            self.log_in(&mut login)?;
        }
        if login.anchor.is_none() {
            login.anchor = Some(self.open()?);
        }
        Ok(session)
    }

    fn log_in(&self, login: &mut MutexGuard<'_, Login>) -> Result<(), HsmError> {
        if login.refused {
            return Err(self.pin("the token refused the PIN before; put the PIN file right and restart".into()));
        }
        // A token that cannot describe itself does not stop us: openCryptoki 3.8.1 gives a date that does not parse.
        if let Ok(info) = self.module.get_token_info(self.slot) {
            if info.user_pin_locked() {
                login.refused = true;
                return Err(self.pin("its user PIN is locked; the security officer must reset it".into()));
            }
            if info.user_pin_final_try() {
                login.refused = true;
                let reason =
                    "one try is left before the PIN locks, and it is not used; log in once with your vendor's tool";
                return Err(self.pin(reason.into()));
            }
        }
        let pin = pin::read(&self.pin_file).map_err(|error| self.pin(described(&error)))?;
        let anchor = self.open()?;
        match anchor.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(ModuleError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                login.anchor = Some(anchor);
                Ok(())
            }
            Err(ModuleError::Pkcs11(code, _)) if is_about_the_pin(code) => {
                login.refused = true;
                let file = self.pin_file.display();
                Err(self.pin(format!("it refused the PIN in {file} ({code:?}); it is not tried again")))
            }
            Err(source) => Err(HsmError::Unavailable { operation: "log in", source: Some(source) }),
        }
    }

    fn open(&self) -> Result<Session, HsmError> {
        self.module
            .open_rw_session(self.slot)
            .map_err(|source| HsmError::Unavailable { operation: "open a session", source: Some(source) })
    }

    fn pin(&self, reason: String) -> HsmError {
        HsmError::Pin { token: self.label.clone(), reason }
    }

    fn lock(&self) -> MutexGuard<'_, Login> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
fn load(file: &Path) -> Result<Pkcs11, ModuleError> {
    static LOADED: Mutex<Option<HashMap<PathBuf, Pkcs11>>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    if let Some(module) = loaded.get(file) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(file)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(ModuleError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(error),
    }
    loaded.insert(file.to_owned(), module.clone());
    Ok(module)
}
