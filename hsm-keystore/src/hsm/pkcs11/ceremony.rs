//! Making the keys of a node, once, in a token that an officer has prepared.

use std::sync::Arc;

use eds_core::manifest::Point;

use super::{
    inspect::{self, KeyDescription},
    keys::{self, KeyIds, Points, Role, setup},
    seat::Seat,
    token::Token,
};
use crate::{
    config::HsmConfig,
    hsm::{HsmError, Suite, TokenKeyId, memory::random},
};

/// What a ceremony made, read back from the token.
#[derive(Clone, Debug)]
pub struct Ceremony {
    /// What the token says it is.
    pub token: String,
    /// The keys.
    pub keys: Vec<KeyDescription>,
    /// The public transport key.
    pub transport: Point,
    /// The public audit key.
    pub audit: Point,
}

/// Makes KEK and its HMAC key, transport key, policy key and audit key. When anything fails, what was made is taken back.
///
/// # Errors
/// [`HsmError::Setup`] when there are keys already, or when the token made a key with other attributes than were asked
/// for; [`HsmError::Pin`], [`HsmError::Unavailable`].
pub fn create_keys(config: &HsmConfig) -> Result<Ceremony, HsmError> {
    let token = Arc::new(Token::find(config)?);
    let session = token.session()?;
    for role in Role::ALL {
        if !keys::find(&session, role, None)?.is_empty() {
            let reason = format!(
                "it holds a key {:?} already, and nothing was changed; a node is initialised once, with a token of its own",
                role.label()
            );
            return Err(setup(token.label(), reason));
        }
    }
    let fresh = || Ok::<_, HsmError>(TokenKeyId::from_bytes(*random()?));
    let kek = fresh()?;
    let ids = KeyIds { kek, kek_mac: KeyIds::kek_mac_of(&kek), transport: fresh()?, policy: fresh()?, audit: fresh()? };
    let made = make(&token, &session, ids);
    if made.is_err() {
        Role::ALL.iter().for_each(|role| keys::destroy(&session, *role, ids.of(*role)));
    }
    made
}

fn make(token: &Arc<Token>, session: &cryptoki::session::Session, ids: KeyIds) -> Result<Ceremony, HsmError> {
    for role in Role::ALL {
        keys::generate(session, role, ids.of(role)).map_err(|error| {
            setup(token.label(), format!("it does not make the {} key {:?} ({error})", role.kind(), role.label()))
        })?;
    }
    let points = Points::find(session, token.label(), &ids)?;
    let mut seat = Seat::past_the_gate(Arc::clone(token), ids, Suite::Aes256Gcm);
    // Whether the token keeps the keys comes before what it says of them.
    if let Err(reason) = seat.look(|open, _, _| inspect::kept(open))?.outcome {
        return Err(setup(token.label(), reason));
    }
    let described = seat.look(|open, ids, _| inspect::describe(open, ids, &points))?;
    for key in &described {
        if let Err(reason) = key.check().outcome {
            return Err(setup(
                token.label(),
                format!("it made {:?} with other attributes: {reason}", key.role.label()),
            ));
        }
    }
    Ok(Ceremony { token: token.description.clone(), keys: described, transport: points.transport, audit: points.audit })
}

impl Ceremony {
    /// Takes back the keys, for a node that could not be completed.
    pub fn take_back(self, config: &HsmConfig) {
        if let Ok(session) = Token::find(config).and_then(|token| token.session()) {
            self.keys.iter().for_each(|key| keys::destroy(&session, key.role, &key.id));
        }
    }
}
