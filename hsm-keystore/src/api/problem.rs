//! Errors as callers see them: RFC 9457 problem documents, each with a word that programs may match on.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use eds_core::api::Problem;

use crate::{
    hsm::{HsmError, HsmErrorKind, self_test::described},
    logging::Trouble,
    node::kek::WrapError,
    store::StoreError,
};

/// Defines [`Word`]: each word with its text, its HTTP status and its title.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $title:literal;)*) => {
        /// What went wrong, in one of the words of the API.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Word {
            $($(#[$doc])* $name,)*
        }

        impl Word {
            /// Every word.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word itself, its HTTP status and its title.
            const fn parts(self) -> (&'static str, StatusCode, &'static str) {
                match self {
                    $(Self::$name => ($text, StatusCode::$status, $title),)*
                }
            }
        }
    };
}

words! {
    /// The caller did not prove who it is.
    NotAuthenticated = "not-authenticated", UNAUTHORIZED, "the caller is not known";
    /// The caller may not do this with this key.
    NotPermitted = "not-permitted", FORBIDDEN, "not permitted";
    /// There is no such key here.
    KeyNotFound = "key-not-found", NOT_FOUND, "no such key on this node";
    /// The name is nobody's here, or its key is nothing to the caller.
    NameNotFound = "name-not-found", NOT_FOUND, "no such name on this node";
    /// There is no such path.
    NotFound = "not-found", NOT_FOUND, "no such path";
    /// The path does not know this method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "no such method here";
    /// The key exists already, from another registration.
    KeyExists = "key-exists", CONFLICT, "the key exists already";
    /// The name is another key's.
    NameTaken = "name-taken", CONFLICT, "the name is taken";
    /// The key was deleted for ever.
    KeyDeleted = "key-deleted", GONE, "the key was deleted";
    /// The key is not confirmed yet, and the caller is not its registrant.
    KeyPending = "key-pending", CONFLICT, "the key is not confirmed yet";
    /// The key is confirmed, so that it cannot be taken back.
    KeyActive = "key-active", CONFLICT, "the key is confirmed";
    /// The key changed while the call was under way.
    KeyChanged = "key-changed", CONFLICT, "the key changed meanwhile";
    /// The registration id was used for something else.
    RegistrationConflict = "registration-conflict", CONFLICT, "the registration id is taken";
    /// The request is not understood.
    BadRequest = "bad-request", BAD_REQUEST, "the request is not understood";
    /// The request is understood, and holds a value that cannot be.
    InvalidValue = "invalid-value", UNPROCESSABLE_ENTITY, "a value is not acceptable";
    /// The body is not JSON by its content type, or is compressed.
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "the body is of another type";
    /// A manifest is not acceptable.
    ManifestRejected = "manifest-rejected", UNPROCESSABLE_ENTITY, "a manifest is not acceptable";
    /// The device is not enrolled here.
    DeviceUnknown = "device-unknown", FORBIDDEN, "the device is not enrolled on this node";
    /// The device was revoked here.
    DeviceRevoked = "device-revoked", FORBIDDEN, "the device was revoked";
    /// The device used the counter for another key.
    CounterUsed = "counter-used", CONFLICT, "the device used this counter before";
    /// The registrant used a newer cluster directory than this node has.
    DirectoryOutdated = "directory-outdated", CONFLICT, "the node's cluster directory is older";
    /// The sealed shares do not open, or do not fit the manifests.
    ShareRejected = "share-rejected", UNPROCESSABLE_ENTITY, "the shares are not acceptable";
    /// The request is for another node or cluster.
    WrongNode = "wrong-node", UNPROCESSABLE_ENTITY, "not for this node";
    /// More keys than a call may name.
    BatchTooLarge = "batch-too-large", PAYLOAD_TOO_LARGE, "too many keys in one call";
    /// More bytes than a call may have.
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "too many bytes in one call";
    /// A longer head of a request than a node reads.
    HeadTooLarge = "head-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "too many bytes or fields in a head";
    /// A longer path than a node reads.
    PathTooLong = "path-too-long", URI_TOO_LONG, "the path is too long";
    /// The request did not arrive in time.
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT, "the request did not arrive in time";
    /// The key's access list was altered in the database.
    AccessListAltered = "access-list-altered", INTERNAL_SERVER_ERROR, "access list was altered";
    /// The name of a key was altered in the database.
    NameAltered = "name-altered", INTERNAL_SERVER_ERROR, "the name was altered";
    /// The enrolment of a device was altered in the database.
    EnrolmentAltered = "enrolment-altered", INTERNAL_SERVER_ERROR, "the enrolment was altered";
    /// The key's share does not open: its row was altered, or is another KEK's.
    ShareUnreadable = "share-unreadable", INTERNAL_SERVER_ERROR, "the share does not open";
    /// The token does not answer.
    HsmUnavailable = "hsm-unavailable", SERVICE_UNAVAILABLE, "the token does not answer";
    /// The audit log cannot be written.
    AuditUnavailable = "audit-unavailable", SERVICE_UNAVAILABLE, "the audit log cannot be written";
    /// The node does not keep up.
    Busy = "busy", SERVICE_UNAVAILABLE, "the node is busy";
    /// The request took too long.
    Timeout = "timeout", SERVICE_UNAVAILABLE, "the request took too long";
    /// Something else, for the node's officers to look at.
    Internal = "internal", INTERNAL_SERVER_ERROR, "internal error";
}

impl Word {
    /// The word itself.
    pub const fn as_str(self) -> &'static str {
        self.parts().0
    }

    /// The HTTP status of an answer that fails with it.
    pub const fn status(self) -> StatusCode {
        self.parts().1
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

    /// Something that only the node's log explains.
    pub(super) fn internal() -> Self {
        Self::new(Word::Internal, "this node could not do it; its officers must look at its log; use other nodes")
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

    /// The error with a detail of its own, where it has none.
    pub(super) fn or_detail(mut self, detail: impl FnOnce() -> String) -> Self {
        if self.detail.is_empty() {
            self.detail = detail();
        }
        self
    }

    /// The answer for a request of this id.
    pub fn response(&self, request: Option<&str>) -> Response {
        let status = self.word.status();
        let mut response = (status, Json(self.problem(request))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.word {
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            Word::UnsupportedMediaType => {
                headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            // What was not read of the body would be taken for the next request.
            Word::RequestTimeout | Word::BodyTooLarge => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

static NOTHING_WRAPPED: Trouble = Trouble::new();
static DATABASE_FAILED: Trouble = Trouble::new();

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

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
                // An outage is told once, by the gate before the token; this is one of the requests that it refuses.
                tracing::warn!(error = described(&error), "the token does not answer");
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
                let error = described(&error);
                if NOTHING_WRAPPED.calls() {
                    tracing::error!(error, "nothing can be wrapped: run `eds-keystored hsm rotate`");
                } else {
                    tracing::warn!(error, "nothing can be wrapped");
                }
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
        let error = described(&error);
        if DATABASE_FAILED.calls() {
            tracing::error!(error, "the database failed");
        } else {
            tracing::warn!(error, "the database failed");
        }
        Self::new(Word::Internal, "this node's database failed; its officers must look at its log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_in_the_documentation_with_its_status() {
        let document = include_str!("../../../docs/keystore.md");
        let (_, section) = document.split_once("## Problem words").expect("the section");
        for word in Word::ALL {
            let row = section.lines().find(|line| line.contains(&format!("`{}`", word.as_str())));
            let row = row.unwrap_or_else(|| panic!("{} is not documented", word.as_str()));
            assert!(row.contains(word.status().as_str()), "{row}");
        }
    }

    #[test]
    fn what_may_pass_says_when_to_try_again() {
        for word in Word::ALL {
            let answer = ApiError::new(*word, "why").response(Some("id"));
            let passes = word.status() == StatusCode::SERVICE_UNAVAILABLE;
            assert_eq!(answer.headers().contains_key(header::RETRY_AFTER), passes, "{word:?}");
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
    }
}
