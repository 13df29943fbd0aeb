//! Names of keys: an alias such as `/myvo/home/secret`, kept by the key servers and by no container, storage or log.
//!
//! A node keeps each name once. Who asks for the key of a name and may do nothing with it gets the answer of a name that
//! nobody registered.

use std::{
    fmt,
    string::{String, ToString as _},
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use super::{Binary, KeyState, KeyText, Problem, access::Subject};
use crate::ids::KeyId;

/// The longest name, in bytes.
pub const MAX_NAME: usize = 250;

/// A name that a key can have.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

/// A text that is no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// Nothing, or more than [`MAX_NAME`] bytes.
    Length,
    /// A control character.
    Control,
    /// A part between slashes that is empty, `.` or `..`: other names would look like the same place.
    Part,
    /// The id of a key, which stands for itself.
    Id,
}

impl core::error::Error for NameError {}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "a name of a key has 1 to {MAX_NAME} bytes"),
            Self::Control => f.write_str("a name of a key has no control characters"),
            Self::Part => f.write_str("a name of a key has no part between slashes that is empty, . or .."),
            Self::Id => f.write_str("the id of a key is no name"),
        }
    }
}

impl KeyName {
    /// The name in this text.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > MAX_NAME {
            return Err(NameError::Length);
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        let path = text.strip_prefix('/').unwrap_or(text);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(NameError::Part);
        }
        if text.parse::<KeyId>().is_ok() {
            return Err(NameError::Id);
        }
        Ok(Self(text.to_string()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn last_part(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Whether the name is this path or one below it.
    pub fn is_below(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.0.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Names are for their users and not for logs.
impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyName(<not shown>)")
    }
}

/// `POST /v1/resolve`: the keys of names, for callers who may do something with them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// The names.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = super::MAX_BATCH), inner(length(min = 1, max = MAX_NAME))))]
    pub names: Vec<String>,
}

/// Answer to resolve.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResolveAnswer {
    /// One entry for each name of the request, in order.
    pub results: Vec<ResolveResult>,
}

/// One name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResolveResult {
    /// The key; absent with a problem, as are the fields below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyText>,
    /// Where it is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<KeyState>,
    /// Its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Binary>,
    /// Whose it is: who encrypts under a name of somebody else's lets them read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Subject>,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Why there is no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn a_name_is_a_path_or_a_word_and_never_an_id() {
        for name in ["/myvo/home/secret", "secret", "a b", "/é", "x.y", "...", "/a/..b", &"x".repeat(MAX_NAME)] {
            assert_eq!(KeyName::new(name).map(|name| name.as_str().to_string()), Ok(name.to_string()));
        }
        for (text, wrong) in [
            ("", NameError::Length),
            (&*"x".repeat(MAX_NAME + 1), NameError::Length),
            ("a\nb", NameError::Control),
            ("a\u{9b}b", NameError::Control),
            ("/", NameError::Part),
            ("//a", NameError::Part),
            ("/a//b", NameError::Part),
            ("/a/", NameError::Part),
            ("/a/../b", NameError::Part),
            ("./b", NameError::Part),
            ("00112233-4455-6677-8899-aabbccddeeff", NameError::Id),
        ] {
            assert_eq!(KeyName::new(text).err(), Some(wrong), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_below_whole_parts_of_a_path() {
        let name = KeyName::new("/myvo/home/secret").expect("a name");
        for path in ["/myvo", "/myvo/", "/myvo/home", "/myvo/home/secret", "/"] {
            assert!(name.is_below(path), "{path}");
        }
        for path in ["/my", "/myvo/home/secret/x", "myvo", "/myvo/home/sec"] {
            assert!(!name.is_below(path), "{path}");
        }
        assert_eq!(name.last_part(), "secret");
    }

    #[test]
    fn a_name_is_not_shown_in_logs() {
        assert!(!format!("{:?}", KeyName::new("/myvo/secret").expect("a name")).contains("secret"));
    }
}
