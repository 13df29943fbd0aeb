//! Which shares are released to whom: rows are read, access lists are believed, decisions are made, and shares are opened.
//!
//! A list is believed for an HMAC by the token's policy key, or for the voucher of the data key that opens the share. The
//! token unwraps that one anyway where the share is released; so a list with a voucher is read before it is believed, and
//! what it does not even claim to allow, what no voucher comes with, and what the data key does not vouch for goes the
//! longer way. Nothing is opened before its list is believed, and no data key is unwrapped for whom a list does not name.
//!
//! Lists may be long, and calls name many keys: so many are read at a time, and a decision keeps no list.

use eds_core::{
    Opaque,
    api::KeyState,
    ids::{Epoch, KeyId},
};
use sha2::{Digest, Sha256};
use tracing::Span;

use crate::{
    api::{
        ApiError, Word,
        keys::{Allowed, Found, Row, checked, decided, rows},
    },
    authn::Principal,
    node::Node,
    policy::{Permission, Rule, decide, stored::decode},
    shares::{ShareBytes, ShareContext, ToOpen, Unwrapped, Voucher},
};

/// So many keys are read at a time; their lists have 32 MiB at most.
const AT_ONCE: usize = 128;

/// A caller, a key that it asks for, and the request that does.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) caller: &'a Principal,
    pub(super) key: KeyId,
    /// What is logged of the key is of this request.
    pub(super) request: &'a Span,
}

/// What became of a key that a caller asks for.
pub(super) struct Outcome {
    /// What allows it, if anything does.
    pub(super) rule: Option<Rule>,
    /// The share, or why there is none.
    pub(super) share: Result<Released, ApiError>,
}

/// A share for its caller, with its manifest.
pub(super) struct Released {
    pub(super) epoch: Epoch,
    pub(super) share: ShareBytes,
    pub(super) manifest: Vec<u8>,
}

/// Decides for each caller and key, and opens the shares that are allowed. The token is asked once for all of them.
///
/// # Errors
/// When store or token fail; else each key has its own error.
pub(super) fn release(node: &Node, wanted: &[Wanted<'_>]) -> Result<Vec<Outcome>, ApiError> {
    let mut outcomes = opened(node, wanted, permitted(node, wanted, true)?)?;
    let doubtful = outcomes.iter_mut().zip(wanted).filter(|(outcome, _)| outcome.is_none());
    let (doubtful, again): (Vec<_>, Vec<Wanted<'_>>) = doubtful.map(|(outcome, wanted)| (outcome, *wanted)).unzip();
    if !again.is_empty() {
        let certain = opened(node, &again, permitted(node, &again, false)?)?;
        doubtful.into_iter().zip(certain).for_each(|(place, outcome)| *place = outcome);
    }
    outcomes.into_iter().map(|outcome| outcome.ok_or_else(ApiError::internal)).collect()
}

/// A share that its caller may have, if it opens.
struct Permitted {
    context: ShareContext,
    record: Vec<u8>,
    manifest: Vec<u8>,
    rule: Rule,
    /// The digest of a list that is to be believed for this voucher alone.
    believed_for: Option<([u8; 32], Voucher)>,
}

impl Permitted {
    fn new(node: &Node, Allowed { stored, body, list: _, rule }: Allowed) -> Self {
        let context = node.to_open(&stored, &body).context;
        Self { context, record: body.record, manifest: body.manifest, rule, believed_for: None }
    }
}

/// What a row claims before its list is believed.
enum Claim {
    /// It has a voucher, and permits what is wanted.
    Permits(Permitted),
    /// Anything else.
    Other(Row),
}

impl Claim {
    fn of(node: &Node, Wanted { caller, key, .. }: &Wanted<'_>, row: Row) -> Self {
        let claim = || {
            let stored = row.as_ref().ok()?.as_ref()?;
            let access = &stored.body.as_ref()?.access;
            let (voucher, list) = (*access.voucher()?, decode(&access.list).ok()?);
            let asker = node.policy.caller(&caller.subject, &caller.groups);
            let hidden = stored.state == KeyState::Pending && stored.registrant != caller.registrant();
            decide(&list, asker, Permission::Fetch).filter(|_| !hidden)?;
            Some((list, (Sha256::digest(&access.list).into(), voucher)))
        };
        let Some((list, believed_for)) = claim() else { return Self::Other(row) };
        let Ok(Some(mut stored)) = row else { return Self::Other(row) };
        let Some(body) = stored.body.take() else { return Self::Other(Ok(Some(stored))) };
        match decided(node, caller, *key, Ok(Found { stored, body, list }), &[Permission::Fetch]) {
            Ok(allowed) => {
                Self::Permits(Permitted { believed_for: Some(believed_for), ..Permitted::new(node, allowed) })
            }
            Err(refused) => Self::Other(Err(refused)),
        }
    }
}

/// Reads what is wanted and decides; where vouchers count, a list that has one may still turn out not to be genuine.
fn permitted(node: &Node, wanted: &[Wanted<'_>], vouchers: bool) -> Result<Vec<Result<Permitted, ApiError>>, ApiError> {
    let mut all = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let keys: Vec<KeyId> = wanted.iter().map(|one| one.key).collect();
        let (mut claims, mut others) = (Vec::with_capacity(keys.len()), (Vec::new(), Vec::new()));
        for (one, row) in wanted.iter().zip(rows(node, &keys)?) {
            let _of = one.request.enter();
            claims.push(match if vouchers { Claim::of(node, one, row) } else { Claim::Other(row) } {
                Claim::Permits(permitted) => Some(permitted),
                Claim::Other(row) => {
                    others.extend([(one.key, row)]);
                    None
                }
            });
        }
        let others = if others.0.is_empty() { None } else { Some(checked(node, &others.0, others.1)?) };
        let mut others = others.into_iter().flatten();
        all.extend(wanted.iter().zip(claims).map(|(Wanted { caller, key, request }, claim)| {
            let _of = request.enter();
            if let Some(permitted) = claim {
                return Ok(permitted);
            }
            let found = others.next().unwrap_or_else(|| Err(ApiError::internal()));
            let allowed = decided(node, caller, *key, found, &[Permission::Fetch])?;
            Ok(Permitted::new(node, allowed))
        }));
    }
    Ok(all)
}

/// A share that was opened, or could not be; none where nothing was to be opened.
type Opened = Option<Result<ShareBytes, Opaque>>;

/// Opens what is permitted. None is where the data key does not vouch for the list that permits it.
fn opened(
    node: &Node,
    wanted: &[Wanted<'_>],
    decided: Vec<Result<Permitted, ApiError>>,
) -> Result<Vec<Option<Outcome>>, ApiError> {
    let permitted = decided.iter().flatten();
    let records: Vec<_> = permitted.map(|one| ToOpen { context: one.context, record: &one.record }).collect();
    let keys = Unwrapped::of(node.hsm.as_ref(), node.id, &records)?;
    let mut position = 0..;
    let mut open = |one: &Permitted| {
        let position = position.next()?;
        let believed = one.believed_for.is_none_or(|(list, voucher)| keys.vouches(position, &list, &voucher));
        believed.then(|| keys.open(position))
    };
    let shares: Vec<Opened> = decided.iter().map(|one| one.as_ref().ok().and_then(&mut open)).collect();
    let outcome = |((decided, share), wanted): ((Result<Permitted, ApiError>, Opened), &Wanted<'_>)| {
        let _of = wanted.request.enter();
        let Permitted { context, manifest, rule, .. } = match decided {
            Ok(permitted) => permitted,
            Err(error) => return Some(Outcome { rule: None, share: Err(error) }),
        };
        let released = share?.map(|share| Released { epoch: context.epoch, share, manifest });
        Some(Outcome { rule: Some(rule), share: released.map_err(|Opaque| unreadable(context.key)) })
    };
    Ok(decided.into_iter().zip(shares).zip(wanted).map(outcome).collect())
}

fn unreadable(key: KeyId) -> ApiError {
    tracing::error!(%key, "the share does not open: its row was altered, or the token has another KEK");
    let detail = format!("key {key}: this node's officers must look at its database and token; use other nodes");
    ApiError::new(Word::ShareUnreadable, detail)
}
