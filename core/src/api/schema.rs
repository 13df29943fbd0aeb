//! JSON schemas of what the API writes as text: base64, key ids, permissions.
//!
//! They say exactly what is read: who generates from them is not refused for the form of a value.

use std::{borrow::Cow, string::String};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Binary, KeyText, access::PermissionsText};

impl JsonSchema for Binary {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Binary".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        base64("([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?")
    }
}

impl JsonSchema for KeyText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "uuid",
            "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        })
    }
}

impl JsonSchema for PermissionsText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Permissions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[pdrwlxgs-]*$" })
    }
}

/// 16 bytes.
pub(super) fn registration(_: &mut SchemaGenerator) -> Schema {
    base64("[A-Za-z0-9+/]{21}[AQgw]==")
}

/// 65 bytes, the first of which is 4.
pub(super) fn point(_: &mut SchemaGenerator) -> Schema {
    base64("B[A-P][A-Za-z0-9+/]{84}[AEIMQUYcgkosw048]=")
}

/// The alphabet and padding of RFC 4648, section 4; bits that stand for nothing are zero.
fn base64(pattern: &str) -> Schema {
    let pattern: String = std::format!("^{pattern}$");
    json_schema!({ "type": "string", "contentEncoding": "base64", "pattern": pattern })
}
