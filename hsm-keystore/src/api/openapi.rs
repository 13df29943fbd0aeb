//! `GET /v1/openapi.json`: the description of the API, OpenAPI 3.1.
//!
//! It is made from the wire types, the words of errors and the table of routes by a test, kept in the
//! repository as `docs/openapi.json`, and built into the program. It says nothing of this node, and anybody may read it.

use axum::{http::header, response::IntoResponse};

/// The description.
pub(super) const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

pub(super) async fn handler() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=3600")], DOCUMENT)
}

#[cfg(test)]
mod tests;
