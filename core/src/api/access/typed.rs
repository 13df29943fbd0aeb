//! What people type of access lists, as the original's commands have it: principals, `PRINCIPAL:perms`, and modes such as
//! `g+g,o-rw,u=pdrwl-gs`. For users of keys and for officers who enrol devices alike.
//!
//! | typed | is |
//! |---|---|
//! | `/C=CH/O=Ward/CN=Dr Jones` | a subject of the authority that names are looked for in |
//! | `/org.acme/ward/Role=head`, `researchers` | a group |
//! | `https://id.example#sub` | a subject of a token issuer |

use core::fmt;
use std::string::String;

use super::{AccessList, Entry, Grantee, KIND_TOKEN, KIND_X509, KIND_X509_SLASH, PermissionsText, Subject};
use crate::{api::Binary, names, permissions::Permissions};

/// A text that is not understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TypedError {
    /// Not a principal.
    Principal(String),
    /// A subject in slash form without an authority to look for it.
    NoAuthority(String),
    /// Not an entry.
    Entry(String),
    /// Not a mode.
    Mode(String),
}

impl TypedError {
    /// How to write it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Principal(_) => {
                "write a subject as /C=CH/O=Ward/CN=Dr Jones (no / or \\ within a value) or @FILE with its certificate, a \
                 group as /org.acme/Role=head, the subject of a token as https://issuer#subject"
            }
            Self::NoAuthority(_) => "name the authority's certificate with --ca FILE",
            Self::Entry(_) => "for example /org.acme:----l-g-",
            Self::Mode(_) => {
                "for example g+g,o-rw,u=pdrwl-gs: who out of u g o a, then + - or =, then letters out of pdrwlxgs"
            }
        }
    }
}

impl fmt::Display for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(text) => write!(f, "{text:?} is neither a subject nor a group"),
            Self::NoAuthority(text) => {
                write!(f, "{text:?} is a name, and no authority is known that could vouch for it")
            }
            Self::Entry(text) => write!(f, "{text:?} is not PRINCIPAL:perms with permissions out of pdrwlxgs"),
            Self::Mode(text) => write!(f, "{text:?} is not a mode"),
        }
    }
}

impl core::error::Error for TypedError {}

/// What a typed name is looked for in.
#[derive(Debug, Clone, Default)]
pub struct Namespace {
    /// DER of the authority's subject name.
    pub authority: Option<std::vec::Vec<u8>>,
}

impl Namespace {
    /// The principal that a text names.
    ///
    /// # Errors
    /// [`TypedError::Principal`], [`TypedError::NoAuthority`].
    pub fn grantee(&self, text: &str) -> Result<Grantee, TypedError> {
        if names::is_slash_form(text) || text.starts_with("https://") {
            return self.subject(text).map(Grantee::Subject);
        }
        names::group(text).map(Grantee::Group).ok_or_else(|| TypedError::Principal(text.into()))
    }

    /// The subject that a text names.
    ///
    /// # Errors
    /// [`TypedError::Principal`], [`TypedError::NoAuthority`].
    pub fn subject(&self, text: &str) -> Result<Subject, TypedError> {
        let wrong = || TypedError::Principal(text.into());
        if let Some((issuer, subject)) = text.split_once('#').filter(|_| text.starts_with("https://")) {
            if issuer.is_empty() || subject.is_empty() || text.contains('\\') || text.chars().any(char::is_control) {
                return Err(wrong());
            }
            return Ok(subject_of(KIND_TOKEN, issuer.as_bytes(), subject.as_bytes()));
        }
        if !names::is_slash_form(text) {
            return Err(wrong());
        }
        let authority = self.authority.as_ref().ok_or_else(|| TypedError::NoAuthority(text.into()))?;
        Ok(subject_of(KIND_X509_SLASH, authority, text.as_bytes()))
    }

    /// The entry that `PRINCIPAL:perms` stands for.
    ///
    /// # Errors
    /// [`TypedError::Entry`], and as [`Namespace::grantee`].
    pub fn entry(&self, text: &str) -> Result<Entry, TypedError> {
        let wrong = || TypedError::Entry(text.into());
        let (who, may) = text.rsplit_once(':').ok_or_else(wrong)?;
        let may: Permissions = may.parse().map_err(|_| wrong())?;
        if may.is_empty() {
            return Err(wrong());
        }
        Ok(Entry { who: self.grantee(who)?, may: PermissionsText(may) })
    }
}

/// The subject of a certificate, exactly.
pub fn subject_of_certificate(issuer: &[u8], subject: &[u8]) -> Subject {
    subject_of(KIND_X509, issuer, subject)
}

fn subject_of(kind: &str, namespace: &[u8], name: &[u8]) -> Subject {
    Subject {
        kind: kind.into(),
        namespace: Binary(namespace.into()),
        name: Binary(name.into()),
        display: String::new(),
    }
}

/// Applies a mode such as `g+g,o-rw,u=pdrwl-gs`. A `-` among the letters after `=` stands for a permission not given.
///
/// # Errors
/// [`TypedError::Mode`].
pub fn apply_mode(mode: &str, mut list: AccessList) -> Result<AccessList, TypedError> {
    let wrong = || TypedError::Mode(mode.into());
    for clause in mode.split(',') {
        let at = clause.find(['+', '-', '=']).filter(|at| *at > 0).ok_or_else(wrong)?;
        let (who, change) = clause.split_at(at);
        let mut change = change.chars();
        let operator = change.next().ok_or_else(wrong)?;
        let letters = change.as_str();
        // After + and -, a - would be read as another operator by some and as nothing by others.
        if operator != '=' && (letters.contains('-') || letters.is_empty()) {
            return Err(wrong());
        }
        let set: Permissions = letters.parse().map_err(|_| wrong())?;
        for who in who.chars() {
            let (user, group, others) = match who {
                'u' => (true, false, false),
                'g' => (false, true, false),
                'o' => (false, false, true),
                'a' => (true, true, true),
                _ => return Err(wrong()),
            };
            let sets = [(user, &mut list.owner_may), (group, &mut list.group_may), (others, &mut list.others_may)];
            for (_, may) in sets.into_iter().filter(|(meant, _)| *meant) {
                may.0 = match operator {
                    '+' => may.0.union(set),
                    '-' => may.0.without(set),
                    _ => set,
                };
            }
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::{format, vec::Vec};

    use super::*;

    fn here() -> Namespace {
        Namespace { authority: Some(b"ca".to_vec()) }
    }

    fn list() -> AccessList {
        AccessList {
            version: 1,
            owner: here().subject("/CN=owner").expect("a subject"),
            group: None,
            owner_may: PermissionsText(Permissions::OWNER),
            group_may: PermissionsText(Permissions::NONE),
            others_may: PermissionsText("rw".parse().expect("letters")),
            entries: Vec::new(),
        }
    }

    fn base(list: &AccessList) -> String {
        format!("{} {} {}", list.owner_may.0, list.group_may.0, list.others_may.0)
    }

    #[test]
    fn modes_change_what_they_name_and_nothing_else() {
        for (mode, after) in [
            ("g+g", "pdrwl-gs ------g- --rw----"),
            ("g+g,o-rw,u=pdrwl-gs", "pdrwl-gs ------g- --------"),
            ("o-r", "pdrwl-gs -------- ---w----"),
            ("a=lg", "----l-g- ----l-g- ----l-g-"),
            ("go+l", "pdrwl-gs ----l--- --rwl---"),
            ("u-pdrwlxgs", "-------- -------- --rw----"),
            ("o=", "pdrwl-gs -------- --------"),
            ("g+g,g-g", "pdrwl-gs -------- --rw----"),
        ] {
            assert_eq!(base(&apply_mode(mode, list()).expect(mode)), after, "{mode}");
        }
        for wrong in ["", "g", "+g", "gg", "x+g", "g+", "g+q", "g+g,", "u+r-w", "g*g", "640", "g+G"] {
            assert_eq!(apply_mode(wrong, list()), Err(TypedError::Mode(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn principals_are_subjects_of_an_authority_or_groups() {
        let Ok(Grantee::Subject(person)) = here().grantee("/O=Ward/CN=Dr Jones") else { panic!("no subject") };
        assert_eq!((person.kind.as_str(), person.namespace.0.as_slice()), (KIND_X509_SLASH, &b"ca"[..]));
        let Ok(Grantee::Subject(token)) = here().grantee("https://id.example/realm#42") else { panic!("no subject") };
        assert_eq!((token.namespace.0, token.name.0), (b"https://id.example/realm".to_vec(), b"42".to_vec()));
        for group in ["/acme", "/acme/Role=head", "researchers"] {
            assert_eq!(here().grantee(group), Ok(Grantee::Group(group.into())));
        }
        assert_eq!(here().grantee("/acme/Role=NULL"), Ok(Grantee::Group("/acme".into())));
        for wrong in ["", "/", "/CN=a\\x2FCN=b", "/CN=", "https://id.example", "https://id.example#"] {
            assert_eq!(here().grantee(wrong), Err(TypedError::Principal(wrong.into())), "{wrong}");
        }
        let nowhere = Namespace::default();
        assert_eq!(nowhere.grantee("/CN=bob"), Err(TypedError::NoAuthority("/CN=bob".into())));
    }

    #[test]
    fn entries_are_a_principal_and_its_letters() {
        let entry = here().entry("https://id.example:8443#42:----l-g-").expect("an entry");
        assert_eq!((entry.who.shown().as_str(), entry.may.0.bits()), ("https://id.example:8443#42", 96));
        for wrong in ["/acme", "/acme:", "/acme:--------", "/acme:q"] {
            assert_eq!(here().entry(wrong), Err(TypedError::Entry(wrong.into())), "{wrong}");
        }
    }
}
