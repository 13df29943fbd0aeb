//! `GET /v1/whoami`: whom the node takes the caller for, and what its configuration lets them do.
//!
//! Everybody who is known may ask: the answer is about the caller alone. It is in the audit log, as every answer is.

use axum::Json;
use eds_core::{
    api::{Binary, whoami::WhoAmI},
    names,
};

use crate::{api::Call, authn::x509};

pub(super) async fn handler(Call { shared, caller, .. }: Call) -> Json<WhoAmI> {
    let policy = &shared.node.policy;
    let asker = policy.caller(&caller.subject, &caller.groups);
    let authority = match caller.subject.kind.as_str() {
        x509::KIND => names::display(&caller.subject.namespace),
        _ => String::from_utf8_lossy(&caller.subject.namespace).escape_debug().to_string(),
    };
    Json(WhoAmI {
        kind: caller.subject.kind.clone(),
        subject: caller.subject.display.clone(),
        authority,
        registrant: Binary(caller.registrant().to_vec()),
        groups: caller.groups.clone(),
        proof: caller.proof.clone(),
        limited: caller.limited,
        valid_until: caller.valid_until,
        administrator: asker.administrator,
        may_register: policy.may_create(asker),
        may_deliver: policy.may_deliver(asker),
    })
}
