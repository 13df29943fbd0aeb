//! `GET /v1/audit/…`: signed heads of the audit log and proofs, for whoever wants to be a witness of it.
//!
//! Nothing in them tells what the entries say, so every caller who is known may have them.

use axum::{Json, http::header, response::IntoResponse};
use eds_core::api::Binary;
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, Call, Segments, Word};

/// A proof of the Merkle tree: RFC 9162, sections 2.1.3 and 2.1.4.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditProof {
    /// The hashes, in the order of the RFC.
    pub hashes: Vec<Binary>,
}

/// `GET /v1/audit/checkpoint`: the last signed head, as a C2SP signed note.
pub(super) async fn checkpoint(call: Call) -> Result<impl IntoResponse, ApiError> {
    let Json(last) = call.work(|node, _, _| Ok(node.audit.last_checkpoint())).await?;
    let (_, note) = last.ok_or_else(|| ApiError::new(Word::Busy, "no checkpoint is signed yet; try again"))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], note))
}

/// `GET /v1/audit/proof/inclusion/{index}/{size}`: the entry `index` is in the tree of the first `size` entries.
pub(super) async fn inclusion(call: Call, numbers: Segments<(String, String)>) -> Result<Json<AuditProof>, ApiError> {
    let (index, size) = parsed(&numbers)?;
    call.work(move |node, _, _| proof(node.audit.inclusion_proof(index, size))).await
}

/// `GET /v1/audit/proof/consistency/{old}/{new}`: the tree of `new` entries continues that of `old`.
pub(super) async fn consistency(call: Call, numbers: Segments<(String, String)>) -> Result<Json<AuditProof>, ApiError> {
    let (old, new) = parsed(&numbers)?;
    call.work(move |node, _, _| proof(node.audit.consistency_proof(old, new))).await
}

fn parsed(Segments((first, second)): &Segments<(String, String)>) -> Result<(u64, u64), ApiError> {
    match (first.parse(), second.parse()) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        _ => Err(ApiError::new(Word::BadRequest, "the path must end in two numbers of entries")),
    }
}

fn proof(proof: std::io::Result<Option<Vec<[u8; 32]>>>) -> Result<AuditProof, ApiError> {
    match proof {
        Ok(Some(hashes)) => Ok(AuditProof { hashes: hashes.into_iter().map(|hash| Binary(hash.to_vec())).collect() }),
        Ok(None) => {
            Err(ApiError::new(Word::InvalidValue, "the log has no such entries yet, or the numbers are swapped"))
        }
        Err(error) => {
            tracing::error!(%error, "the hashes of the audit log cannot be read");
            Err(ApiError::new(Word::Internal, "this node's officers must look at its audit log"))
        }
    }
}
