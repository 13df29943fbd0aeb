//! Errors as callers see them: RFC 9457 problem documents, each with a word that programs may match on.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use eds_core::api::Problem;

use crate::{
    hsm::{HsmError, HsmErrorKind, self_test::described},
    node::kek::WrapError,
    store::StoreError,
};

/// What went wrong, in one of the words of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// The caller did not prove who it is.
    NotAuthenticated,
    /// The caller may not do this with this key.
    NotPermitted,
    /// There is no such key here.
    KeyNotFound,
    /// There is no such path.
    NotFound,
    /// The path does not know this method.
    MethodNotAllowed,
    /// The key exists already, from another registration.
    KeyExists,
    /// The key was deleted for ever.
    KeyDeleted,
    /// The key is not confirmed yet, and the caller is not its registrant.
    KeyPending,
    /// The key is confirmed, so that it cannot be taken back.
    KeyActive,
    /// The key changed while the call was under way.
    KeyChanged,
    /// The registration id was used for something else.
    RegistrationConflict,
    /// The request is not understood.
    BadRequest,
    /// A manifest is not acceptable.
    ManifestRejected,
    /// The registrant used a newer cluster directory than this node has.
    DirectoryOutdated,
    /// The sealed shares do not open, or do not fit the manifests.
    ShareRejected,
    /// The request is for another node or cluster.
    WrongNode,
    /// More keys than a call may name.
    BatchTooLarge,
    /// More bytes than a call may have.
    BodyTooLarge,
    /// The key's access list was altered in the database.
    AccessListAltered,
    /// The key's share does not open: its row was altered, or is another KEK's.
    ShareUnreadable,
    /// The token does not answer.
    HsmUnavailable,
    /// The audit log cannot be written.
    AuditUnavailable,
    /// The node does not keep up.
    Busy,
    /// The request took too long.
    Timeout,
    /// Something else, for the node's officers to look at.
    Internal,
}

impl Word {
    /// The word itself.
    pub const fn as_str(self) -> &'static str {
        self.parts().0
    }

    /// The word itself, its HTTP status and its title.
    const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::NotAuthenticated => ("not-authenticated", S::UNAUTHORIZED, "the caller is not known"),
            Self::NotPermitted => ("not-permitted", S::FORBIDDEN, "not permitted"),
            Self::KeyNotFound => ("key-not-found", S::NOT_FOUND, "no such key on this node"),
            Self::NotFound => ("not-found", S::NOT_FOUND, "no such path"),
            Self::MethodNotAllowed => ("method-not-allowed", S::METHOD_NOT_ALLOWED, "no such method here"),
            Self::KeyExists => ("key-exists", S::CONFLICT, "the key exists already"),
            Self::KeyDeleted => ("key-deleted", S::GONE, "the key was deleted"),
            Self::KeyPending => ("key-pending", S::CONFLICT, "the key is not confirmed yet"),
            Self::KeyActive => ("key-active", S::CONFLICT, "the key is confirmed"),
            Self::KeyChanged => ("key-changed", S::CONFLICT, "the key changed meanwhile"),
            Self::RegistrationConflict => ("registration-conflict", S::CONFLICT, "the registration id is taken"),
            Self::BadRequest => ("bad-request", S::BAD_REQUEST, "the request is not understood"),
            Self::ManifestRejected => ("manifest-rejected", S::UNPROCESSABLE_ENTITY, "a manifest is not acceptable"),
            Self::DirectoryOutdated => ("directory-outdated", S::CONFLICT, "the node's cluster directory is older"),
            Self::ShareRejected => ("share-rejected", S::UNPROCESSABLE_ENTITY, "the shares are not acceptable"),
            Self::WrongNode => ("wrong-node", S::UNPROCESSABLE_ENTITY, "not for this node"),
            Self::BatchTooLarge => ("batch-too-large", S::PAYLOAD_TOO_LARGE, "too many keys in one call"),
            Self::BodyTooLarge => ("body-too-large", S::PAYLOAD_TOO_LARGE, "too many bytes in one call"),
            Self::AccessListAltered => ("access-list-altered", S::INTERNAL_SERVER_ERROR, "access list was altered"),
            Self::ShareUnreadable => ("share-unreadable", S::INTERNAL_SERVER_ERROR, "the share does not open"),
            Self::HsmUnavailable => ("hsm-unavailable", S::SERVICE_UNAVAILABLE, "the token does not answer"),
            Self::AuditUnavailable => ("audit-unavailable", S::SERVICE_UNAVAILABLE, "the audit log cannot be written"),
            Self::Busy => ("busy", S::SERVICE_UNAVAILABLE, "the node is busy"),
            Self::Timeout => ("timeout", S::SERVICE_UNAVAILABLE, "the request took too long"),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "internal error"),
        }
    }
}

/// An error for the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiError {
    word: Word,
    detail: String,
}

impl ApiError {
    /// An error with its explanation: what is wrong with what, and what to do.
    pub fn new(word: Word, detail: impl Into<String>) -> Self {
        Self { word, detail: detail.into() }
    }

    /// The word of the error.
    pub fn word(&self) -> Word {
        self.word
    }

    /// The problem document, for one key of a batch or for a whole answer.
    pub fn problem(&self, request: Option<&str>) -> Problem {
        let (word, status, title) = self.word.parts();
        Problem {
            kind: format!("urn:eds:problem:{word}"),
            title: title.into(),
            status: status.as_u16(),
            detail: Some(self.detail.clone()).filter(|detail| !detail.is_empty()),
            instance: request.map(str::to_owned),
        }
    }

    /// The answer for a request of this id.
    pub fn response(&self, request: Option<&str>) -> Response {
        let (_, status, _) = self.word.parts();
        let mut response = (status, Json(self.problem(request))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// Leaves the error in the extensions of the response; the outermost layer writes it out with the request id.
    fn into_response(self) -> Response {
        let mut response = self.response(None);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<HsmError> for ApiError {
    fn from(error: HsmError) -> Self {
        if error.kind() == HsmErrorKind::Caller {
            return Self::new(Word::BadRequest, error.to_string());
        }
        match error {
            HsmError::Busy => Self::new(Word::Busy, "the token has more to do than it can hold; try again"),
            error => {
                tracing::error!(error = described(&error), "the token does not answer");
                Self::new(Word::HsmUnavailable, "this node's token does not answer; try again, or use other nodes")
            }
        }
    }
}

impl From<WrapError> for ApiError {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Hsm(error) => error.into(),
            WrapError::Store(error) => error.into(),
            error => {
                tracing::error!(error = described(&error), "nothing can be wrapped");
                let detail = "this node takes no new keys: its officers must run `eds-keystored hsm rotate`";
                Self::new(Word::HsmUnavailable, detail)
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.may_pass() {
            return Self::new(Word::Busy, "the database is in use; try again");
        }
        tracing::error!(error = described(&error), "the database failed");
        Self::new(Word::Internal, "this node's database failed; its officers must look at its log")
    }
}
