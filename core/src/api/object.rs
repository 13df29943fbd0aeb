//! JSON objects and nothing else where a structure is wanted.
//!
//! Serde reads a structure from an array of its fields, too: `[]` would be a request all of whose fields may be missing.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A structure that was read from an object.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// For `#[serde(deserialize_with = …)]`.
///
/// # Errors
/// What the format says.
pub fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::<Object<T>>::deserialize(deserializer).map(|read| read.map(|Object(read)| read))
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::access::{ListRequest, WhyRequest};

    #[test]
    fn an_array_is_no_structure() {
        let key = "01234567-89ab-cdef-0123-456789abcdef";
        assert!(serde_json::from_str::<Object<ListRequest>>("{}").is_ok());
        assert!(serde_json::from_str::<Object<ListRequest>>("[]").is_err());
        let why = |principal: &str| {
            serde_json::from_str::<WhyRequest>(&std::format!(r#"{{"key":"{key}","principal":{principal}}}"#))
        };
        assert!(why("{}").is_ok() && why("null").is_ok());
        assert!(why("[]").is_err());
    }
}
