//! Making the keys of a node, once, in a token that an officer has prepared.

use std::sync::Arc;

use cryptoki::session::Session;
use eds_core::{ids::NodeId, manifest::Point};

use super::{
    direct::long,
    inspect::{self, KeyDescription, Place},
    keys::{self, KeyIds, Role, setup},
    ring::KeyRing,
    seat::Seat,
    suite,
    token::Token,
    trial::{self, Unfit},
};
use crate::{
    config::HsmConfig,
    hsm::{
        Custody, HsmError, Suite, TokenKeyId,
        memory::random,
        self_test::described,
        wrapped::{Pair, WrappedError, WrappedKeys},
    },
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
    /// The key pairs that the token cannot hold.
    pub wrapped: Option<WrappedKeys>,
    /// Where the key pairs are.
    pub custody: Custody,
    /// Why the token cannot hold those.
    pub why_weaker: Vec<String>,
}

/// Makes KEK and its HMAC key, policy key, transport key and audit key; the two key pairs beside the token where it has no
/// elliptic curves and the configuration permits that. When anything fails, what was made is taken back.
///
/// # Errors
/// [`HsmError::Setup`] when there are keys already, when the token made a key with other attributes than were asked for,
/// or when it cannot hold the key pairs; [`HsmError::Pin`], [`HsmError::Unavailable`].
pub fn create_keys(config: &HsmConfig, node: NodeId) -> Result<Ceremony, HsmError> {
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
    let ids = KeyIds {
        kek,
        kek_mac: KeyIds::kek_mac_of(&kek),
        transport: Some(fresh()?),
        policy: fresh()?,
        audit: Some(fresh()?),
    };
    let made = make(config, &token, &session, node, ids);
    if made.is_err() {
        ids.present().iter().for_each(|(role, id)| keys::destroy(&session, *role, id));
    }
    made
}

fn make(
    config: &HsmConfig,
    token: &Arc<Token>,
    session: &Session,
    node: NodeId,
    ids: KeyIds,
) -> Result<Ceremony, HsmError> {
    let refused = |reason: String| setup(token.label(), reason);
    let not_made = |role: Role, error: &dyn std::error::Error| {
        refused(format!("it does not make the {} key {:?} ({})", role.kind(), role.label(), described(error)))
    };
    for (role, id) in ids.present().into_iter().filter(|(role, _)| role.pair().is_none()) {
        keys::generate(session, role, &id).map_err(|error| not_made(role, &error))?;
    }
    let mut weaker = Vec::new();
    let mut ids = ids;
    for (pair, slot) in [(Pair::Transport, &mut ids.transport), (Pair::Audit, &mut ids.audit)] {
        let (role, Some(id)) = (Role::of_pair(pair), *slot) else { continue };
        match trial::make_pair(session, pair, &id) {
            Ok(()) => {}
            Err(Unfit::Failed(error)) => return Err(not_made(role, &error)),
            Err(Unfit::Lacking(reason)) if config.weaker_wrapped_keys.is_none() => {
                return Err(refused(format!("{reason}; {PERMIT}")));
            }
            Err(Unfit::Lacking(reason)) => {
                keys::destroy(session, role, &id);
                *slot = None;
                weaker.push((pair, reason));
            }
        }
    }
    let (pairs, why_weaker): (Vec<_>, Vec<_>) = weaker.into_iter().unzip();
    let suite = if pairs.is_empty() { Suite::Aes256Gcm } else { suite::choose(config, token, ids)?.suite };
    let mut seat = Seat::past_the_gate(Arc::clone(token), ids, suite);
    // Whether the token keeps the keys comes before what it says of them.
    if let Err(reason) = seat.look(|open, _| inspect::kept(open))?.outcome {
        return Err(refused(reason));
    }
    let wrapped = match pairs.as_slice() {
        [] => None,
        pairs => Some(WrappedKeys::make(node, pairs, |secrets| seat.wrap(&secrets, long()))?),
    };
    let ring = KeyRing::complete(session, token, ids, wrapped, &mut seat)?;
    let described = seat.look(|open, _| inspect::describe(open, &ring))?;
    for key in &described {
        if let Err(reason) = key.check().outcome {
            return Err(refused(format!("it made {:?} with other attributes: {reason}", key.role.label())));
        }
    }
    let facts = ring.facts();
    Ok(Ceremony {
        token: token.description.clone(),
        keys: described,
        transport: facts.transport,
        audit: facts.audit,
        wrapped: ring.wrapped,
        custody: facts.custody,
        why_weaker,
    })
}

/// What officers may do with a token that cannot hold the key pairs.
const PERMIT: &str = "use a token with P-256 key agreement and signatures. To use this one all the same, with key pairs \
    that it wraps and that are in the server's memory while it serves, which is weaker, add to [hsm]: \
    weaker_wrapped_keys = \"node.wrapped-keys.json\"";

impl Ceremony {
    /// Writes the wrapped key pairs, if there are any, to the file that the configuration names.
    ///
    /// # Errors
    /// [`WrappedError::Io`].
    pub fn keep_wrapped(&self, config: &HsmConfig) -> Result<(), WrappedError> {
        match (&self.wrapped, &config.weaker_wrapped_keys) {
            (Some(keys), Some(file)) => keys.create(file),
            _ => Ok(()),
        }
    }

    /// Takes back the keys, for a node that could not be completed.
    pub fn take_back(self, config: &HsmConfig) {
        if let (Some(keys), Some(file)) = (&self.wrapped, &config.weaker_wrapped_keys)
            && WrappedKeys::load(file).is_ok_and(|written| written == *keys)
        {
            let _ = std::fs::remove_file(file);
        }
        if let Ok(session) = Token::find(config).and_then(|token| token.session()) {
            for key in &self.keys {
                if let Place::Token(id) = &key.place {
                    keys::destroy(&session, key.role, id);
                }
            }
        }
    }
}
