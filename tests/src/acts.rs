//! What officers did at a node's command line, as its audit log tells it.

use eds_audit::{
    Proof,
    log::{FaultKind, Reader},
};

use crate::{Outcome, node::Node};

/// One entry of an officer: operation, why not, and the detail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The operation.
    pub operation: String,
    /// Why it was refused or failed; none when it was done.
    pub reason: Option<String>,
    /// What was done.
    pub detail: String,
}

/// Every entry of officers in the log of a node, in order; the node may serve. That each names who acted is checked.
///
/// # Errors
/// When the log cannot be read, or an entry says less.
pub fn of(node: &Node) -> Outcome<Vec<Told>> {
    let mut reader = Reader::open(&node.folder().join("audit"), None)?;
    let mut told = Vec::new();
    loop {
        let decision = match reader.read(|_| ()) {
            Ok(Some(record)) => record.entry.decision,
            Ok(None) => return Ok(told),
            // The server writes on.
            Err(fault) if matches!(fault.kind, FaultKind::Torn) => return Ok(told),
            Err(fault) => return Err(fault.into()),
        };
        if decision.who.proof == Proof::Console {
            assert!(
                decision.who.display.starts_with("uid ") && decision.who.evidence.contains("login"),
                "{decision:?}"
            );
            assert!(decision.time > 0 && decision.request.0 != [0; 16] && decision.keys.is_empty(), "{decision:?}");
            let (operation, reason) = (decision.operation.to_string(), decision.outcome.reason().map(str::to_owned));
            told.push(Told { operation, reason, detail: decision.detail });
        }
    }
}

/// The last two entries are about one act, which was done; returns their details.
///
/// # Errors
/// As [`of`].
pub fn last_done(node: &Node, operation: &str) -> Outcome<(String, String)> {
    let told = of(node)?;
    let [.., begun, done] = told.as_slice() else { panic!("no act: {told:?}") };
    for entry in [begun, done] {
        assert!(entry.operation == operation && entry.reason.is_none(), "{told:?}");
    }
    let words = (begun.detail.strip_prefix("begun: "), done.detail.strip_prefix("done: "));
    let (Some(begun), Some(done)) = words else { panic!("not an act: {told:?}") };
    Ok((begun.to_owned(), done.to_owned()))
}

/// The last two entries are about one act, which was refused; returns the reason.
///
/// # Errors
/// As [`of`].
pub fn last_refused(node: &Node, operation: &str) -> Outcome<String> {
    let told = of(node)?;
    let [.., begun, refused] = told.as_slice() else { panic!("no act: {told:?}") };
    assert!(begun.operation == operation && begun.detail.starts_with("begun: "), "{told:?}");
    assert_eq!(refused.operation, operation);
    Ok(refused.reason.clone().unwrap_or_else(|| panic!("not refused: {told:?}")))
}
