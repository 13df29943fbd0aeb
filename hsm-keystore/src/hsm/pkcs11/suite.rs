//! Which suite a token can do, found by doing it.
//!
//! AES-256-GCM where it works, else AES-256-CBC with HMAC-SHA-256; `hsm.suite` of the configuration narrows the choice.
//! A token that can do neither is refused. The choice is for new records: what a record was wrapped with stands in it.

use std::sync::Arc;

use eds_core::ids::NodeId;
use zeroize::Zeroizing;

use super::{
    direct::long,
    keys::{KeyIds, setup},
    seat::Seat,
    token::Token,
};
use crate::{
    config::HsmConfig,
    hsm::{HsmError, RecordContext, Suite, ToUnwrap, ToWrap, memory::random, record::HEADER, self_test::described},
};

/// A suite that works, and why those before it do not.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) suite: Suite,
    pub(super) why: String,
}

/// Tries the suites, the preferred one first.
pub(super) fn choose(config: &HsmConfig, token: &Arc<Token>, ids: KeyIds) -> Result<Choice, HsmError> {
    let allowed = Suite::ALL.into_iter().filter(|suite| config.suite.is_none_or(|only| only == *suite));
    let mut failed = Vec::new();
    for suite in allowed {
        match trial(&mut Seat::past_the_gate(Arc::clone(token), ids, suite)) {
            Ok(()) => {
                let chosen = if config.suite.is_some() { "as configured" } else { "the best that works" };
                let why =
                    if failed.is_empty() { chosen.to_owned() } else { format!("{chosen}: {}", failed.join("; ")) };
                return Ok(Choice { suite, why });
            }
            Err(error @ (HsmError::Pin { .. } | HsmError::Setup { .. })) => return Err(error),
            Err(error) => failed.push(format!("{} does not work ({})", suite.name(), described(&error))),
        }
    }
    Err(setup(token.label(), format!("it cannot wrap shares: {}; use another token", failed.join("; "))))
}

/// Wraps and unwraps, the wrong way too.
pub(super) fn trial(seat: &mut Seat) -> Result<(), HsmError> {
    let context = RecordContext::data_key(NodeId::from_bytes(*random()?));
    let secret = Zeroizing::new(random::<64>()?.to_vec());
    let broken = |operation| HsmError::Unavailable { operation, source: None };
    let records = seat.wrap(&[ToWrap { context, secret: secret.clone() }], long())?;
    let record = records.into_iter().next().ok_or(broken("encrypt"))?;
    let elsewhere = RecordContext { node: NodeId::from_bytes(*random()?), ..context };
    let mut altered = record.clone();
    // The last byte of the tag.
    if let Some(byte) = altered.last_mut() {
        *byte ^= 1;
    }
    let mut moved = record.clone();
    if let Some(byte) = moved.get_mut(HEADER) {
        *byte ^= 1;
    }
    let items = [(context, record.clone()), (elsewhere, record), (context, altered), (context, moved)]
        .map(|(context, record)| ToUnwrap { context, record });
    match seat.unwrap(&items, long())?.as_slice() {
        [Ok(opened), Err(_), Err(_), Err(_)] if **opened == *secret => Ok(()),
        _ => Err(broken("refuse altered records")),
    }
}
