//! Making a token usable: its label, the security officer's PIN and the user PIN. The only place that logs in as the
//! security officer; a server never does.

use cryptoki::{error::Error as ModuleError, session::UserType};

use super::{
    keys::setup,
    token::{load, tokens},
};
use crate::{
    config::HsmConfig,
    hsm::{HsmError, pin::PinSource, self_test::described},
};

/// Initialises the first token that is not, and returns what it says it is. One that is initialised already is never
/// touched: that would destroy its keys.
///
/// # Errors
/// [`HsmError::Setup`] when there is a token of this label, or none that is new.
pub fn prepare_token(config: &HsmConfig, officer: &PinSource) -> Result<String, HsmError> {
    let label = &config.token;
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: ModuleError| setup(label, format!("{what} ({})", described(&error)))
    };
    let module = load(&config.module).map_err(failed("the module does not load"))?;
    let found = tokens(&module).map_err(failed("the module lists no tokens"))?;
    if found.iter().any(|(_, info)| info.label == *label) {
        return Err(setup(label, "exists already, and nothing was changed; choose another label".into()));
    }
    let slots = module.calls.get_slots_with_token().map_err(failed("the module lists no tokens"))?;
    let new = slots.into_iter().find(|slot| {
        module.teller.ask(*slot).is_ok_and(|info| {
            let serial = config.serial.as_deref();
            !info.is_initialized() && serial.is_none_or(|serial| info.serial == serial)
        })
    });
    let slot = new.ok_or_else(|| {
        setup(label, "the module shows no token that is new; nothing was changed, since that would destroy keys".into())
    })?;
    let unread = |error: crate::hsm::pin::PinError| setup(label, described(&error));
    let officer_pin = officer.read(&format!("the security officer of token {label:?}")).map_err(unread)?;
    let user_pin = config.pin.read(&format!("the user of token {label:?}")).map_err(unread)?;
    module.calls.init_token(slot, &officer_pin, label).map_err(failed("it is not initialised"))?;
    // SoftHSM gives it another slot number.
    let found = tokens(&module).map_err(failed("the module lists no tokens"))?;
    let (slot, info) = found
        .into_iter()
        .find(|(_, info)| info.label == *label)
        .ok_or_else(|| setup(label, "it was initialised, and does not show up".into()))?;
    let session = module.calls.open_rw_session(slot).map_err(failed("it gives no session"))?;
    session
        .login(UserType::So, Some(&officer_pin))
        .and_then(|()| session.init_pin(&user_pin))
        .and_then(|()| session.logout())
        .map_err(failed("its user PIN is not set; set it with your vendor's tool"))?;
    Ok(info.to_string())
}
