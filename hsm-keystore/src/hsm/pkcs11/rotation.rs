//! One more KEK in a token: made, tried out before anything is wrapped with it, and in the end removed.

use std::sync::Arc;

use super::{
    inspect::{self, KeyDescription, Place},
    keys::{self, KekHandles, KeyIds, Role, setup},
    seat::Seat,
    suite,
    token::Token,
};
use crate::hsm::{HsmError, Suite, TokenKeyId, memory::random};

/// Makes a KEK with its HMAC key, and describes both. When they are not as they must be, they are taken back.
pub(super) fn make(
    seat: &mut Seat,
    token: &Arc<Token>,
    ids: KeyIds,
    suite: Suite,
) -> Result<(TokenKeyId, Vec<KeyDescription>), HsmError> {
    let kek = TokenKeyId::from_bytes(*random()?);
    let ids = ids.with_kek(kek);
    let parts = [(Role::Kek, ids.kek), (Role::KekMac, ids.kek_mac)];
    let made = seat
        .look(|open, token| {
            parts.iter().try_for_each(|(role, id)| {
                keys::generate(&open.session, *role, id).map_err(|error| {
                    let reason = format!("it does not make the {} key {:?} ({error})", role.kind(), role.label());
                    setup(token.label(), reason)
                })
            })
        })
        .and_then(|()| try_out(token, ids, suite));
    if made.is_err() {
        let taken_back = seat.look(|open, _| {
            parts.iter().for_each(|(role, id)| keys::destroy(&open.session, *role, id));
            Ok(())
        });
        if let Err(error) = taken_back {
            tracing::warn!(%kek, %error, "a KEK that was not completed may be left in the token");
        }
    }
    made.map(|described| (kek, described))
}

/// Does with the KEK of these ids what a node does, the wrong way too, and looks at it.
pub(super) fn try_out(token: &Arc<Token>, ids: KeyIds, suite: Suite) -> Result<Vec<KeyDescription>, HsmError> {
    let mut seat = Seat::of_kek(Arc::clone(token), ids, suite);
    suite::trial(&mut seat)?;
    seat.look(|open, token| {
        let refused = |reason: String| setup(token.label(), format!("its KEK {}: {reason}", ids.kek));
        inspect::kept(open)?.outcome.map_err(refused)?;
        let mut described = inspect::describe_keks(&open.session)?;
        described.retain(|key| matches!(key.place, Place::Token(id) if id == ids.kek || id == ids.kek_mac));
        described.iter().try_for_each(|key| key.check().outcome.map(drop)).map_err(refused)?;
        Ok(described)
    })
}

/// Removes a KEK and its HMAC key.
pub(super) fn destroy(seat: &mut Seat, kek: TokenKeyId) -> Result<(), HsmError> {
    seat.look(|open, token| {
        if kek == open.ids.kek {
            return Err(setup(token.label(), format!("its KEK {kek} is the one that new records are wrapped under")));
        }
        keys::destroy(&open.session, Role::Kek, &kek);
        keys::destroy(&open.session, Role::KekMac, &KeyIds::kek_mac_of(&kek));
        match KekHandles::find(&open.session, &kek)? {
            None => Ok(()),
            Some(_) => Err(setup(token.label(), format!("it does not let go of its KEK {kek}"))),
        }
    })
}
