//! What users type and read of access lists, as the original's commands have it: principals, `PRINCIPAL:perms`, and modes
//! such as `g+g,o-rw,u=pdrwl-gs`.
//!
//! | typed | is |
//! |---|---|
//! | `/C=CH/O=Ward/CN=Dr Jones` | a subject of the caller's own authority, or of the one named with `--ca` |
//! | `/org.acme/ward/Role=head`, `researchers` | a group |
//! | `https://id.example#sub` | a subject of a token issuer |

use std::fmt::Write as _;

use eds_core::{
    api::{
        Binary,
        access::{AccessList, Entry, Grantee, KIND_TOKEN, KIND_X509, KIND_X509_SLASH, PermissionsText, Subject},
    },
    names,
    permissions::Permissions,
};

/// A text that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not a principal.
    #[error("{0:?} is neither a subject nor a group")]
    Principal(String),
    /// A subject in slash form without an authority to look for it.
    #[error("{0:?} is a name, and this caller has no certificate whose authority could vouch for it")]
    NoAuthority(String),
    /// Not an entry.
    #[error("{0:?} is not PRINCIPAL:perms with permissions out of pdrwlxgs")]
    Entry(String),
    /// Not a mode.
    #[error("{0:?} is not a mode")]
    Mode(String),
    /// A principal that is named more than once.
    #[error("{0} is named more than once")]
    Twice(String),
    /// An entry to delete that is not there.
    #[error("the access list has no entry of {0}")]
    NoEntry(String),
}

impl TextError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Principal(_) => {
                "write a subject as /C=CH/O=Ward/CN=Dr Jones (no / or \\ within a value) or @FILE with its certificate, a \
                 group as /org.acme/Role=head, the subject of a token as https://issuer#subject"
            }
            Self::NoAuthority(_) => "name the authority's certificate with --ca FILE",
            Self::Entry(_) => "for example /org.acme:----l-g-",
            Self::Mode(_) => {
                "for example g+g,o-rw,u=pdrwl-gs: who out of u g o a, then + - or =, then letters out of pdrwlxgs"
            }
            Self::Twice(_) | Self::NoEntry(_) => return None,
        };
        Some(text.into())
    }
}

/// What a typed name is looked for in.
#[derive(Debug, Clone, Default)]
pub struct Namespace {
    /// DER of the authority's subject name.
    pub authority: Option<Vec<u8>>,
}

impl Namespace {
    /// The principal that a text names.
    ///
    /// # Errors
    /// [`TextError::Principal`], [`TextError::NoAuthority`].
    pub fn grantee(&self, text: &str) -> Result<Grantee, TextError> {
        if names::is_slash_form(text) {
            return self.subject(text).map(Grantee::Subject);
        }
        if text.starts_with("https://") {
            return self.subject(text).map(Grantee::Subject);
        }
        names::group(text).map(Grantee::Group).ok_or_else(|| TextError::Principal(text.into()))
    }

    /// The subject that a text names.
    ///
    /// # Errors
    /// [`TextError::Principal`], [`TextError::NoAuthority`].
    pub fn subject(&self, text: &str) -> Result<Subject, TextError> {
        let wrong = || TextError::Principal(text.into());
        if let Some((issuer, subject)) = text.split_once('#').filter(|_| text.starts_with("https://")) {
            if issuer.is_empty() || subject.is_empty() || text.contains('\\') || text.chars().any(char::is_control) {
                return Err(wrong());
            }
            return Ok(subject_of(KIND_TOKEN, issuer.as_bytes(), subject.as_bytes()));
        }
        if !names::is_slash_form(text) {
            return Err(wrong());
        }
        let authority = self.authority.as_ref().ok_or_else(|| TextError::NoAuthority(text.into()))?;
        Ok(subject_of(KIND_X509_SLASH, authority, text.as_bytes()))
    }

    /// The entry that `PRINCIPAL:perms` stands for.
    ///
    /// # Errors
    /// [`TextError::Entry`], and as [`Namespace::grantee`].
    pub fn entry(&self, text: &str) -> Result<Entry, TextError> {
        let wrong = || TextError::Entry(text.into());
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

/// What is to become of the entries of an access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entries {
    /// Adds or changes some, deletes others.
    Edit {
        /// Entries to add or to put in the place of those of the same principals.
        modify: Vec<Entry>,
        /// Principals whose entries are deleted.
        delete: Vec<Grantee>,
    },
    /// Replaces all.
    Replace(Vec<Entry>),
}

impl Entries {
    /// The list with these entries. An entry that stays the same stays where it is.
    ///
    /// # Errors
    /// [`TextError::Twice`], [`TextError::NoEntry`].
    pub fn apply(self, mut list: AccessList) -> Result<AccessList, TextError> {
        match self {
            Self::Replace(entries) => {
                once(entries.iter().map(|entry| &entry.who))?;
                // The exact form of a name that is there already is kept.
                list.entries = entries
                    .into_iter()
                    .map(|new| match list.entries.iter().find(|old| old.who.is_same(&new.who)) {
                        Some(old) => Entry { who: old.who.clone(), may: new.may },
                        None => new,
                    })
                    .collect();
            }
            Self::Edit { modify, delete } => {
                once(modify.iter().map(|entry| &entry.who).chain(&delete))?;
                for who in delete {
                    let before = list.entries.len();
                    list.entries.retain(|entry| !entry.who.is_same(&who));
                    if list.entries.len() == before {
                        return Err(TextError::NoEntry(who.shown()));
                    }
                }
                for new in modify {
                    match list.entries.iter_mut().find(|old| old.who.is_same(&new.who)) {
                        Some(old) => old.may = new.may,
                        None => list.entries.push(new),
                    }
                }
            }
        }
        Ok(list)
    }
}

fn once<'a>(named: impl Iterator<Item = &'a Grantee>) -> Result<(), TextError> {
    let mut seen: Vec<&Grantee> = Vec::new();
    for who in named {
        if seen.iter().any(|other| other.is_same(who)) {
            return Err(TextError::Twice(who.shown()));
        }
        seen.push(who);
    }
    Ok(())
}

/// Applies a mode such as `g+g,o-rw,u=pdrwl-gs`. A `-` among the letters after `=` stands for a permission not given.
///
/// # Errors
/// [`TextError::Mode`].
pub fn apply_mode(mode: &str, mut list: AccessList) -> Result<AccessList, TextError> {
    let wrong = || TextError::Mode(mode.into());
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

/// The list as the original's `getacl` prints it. What was printed can be fed back.
pub fn describe(id: &str, list: &AccessList) -> String {
    let mut text = format!("# ENTRY: {id}\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# Version: {}", list.version);
    let _ = writeln!(text, "# User: {} (of {})", list.owner.shown(), list.owner.authority());
    let _ = writeln!(text, "# Group: {}", list.group.as_deref().unwrap_or("none"));
    let (user, group, others) = (list.owner_may.0, list.group_may.0, list.others_may.0);
    let _ = writeln!(text, "# Base perms: user {user}, group {group}, other {others}");
    for entry in &list.entries {
        if let Grantee::Subject(subject) = &entry.who {
            let _ = writeln!(text, "# the next is a name of {}", subject.authority());
        }
        let _ = writeln!(text, "{}:{}", entry.who.shown(), entry.may.0);
    }
    text
}

#[cfg(test)]
mod tests {
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
            assert_eq!(apply_mode(wrong, list()), Err(TextError::Mode(wrong.into())), "{wrong}");
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
            assert_eq!(here().grantee(wrong), Err(TextError::Principal(wrong.into())), "{wrong}");
        }
        let nowhere = Namespace::default();
        assert_eq!(nowhere.grantee("/CN=bob"), Err(TextError::NoAuthority("/CN=bob".into())));
    }

    #[test]
    fn entries_are_a_principal_and_its_letters() {
        let entry = here().entry("https://id.example:8443#42:----l-g-").expect("an entry");
        assert_eq!((entry.who.shown().as_str(), entry.may.0.bits()), ("https://id.example:8443#42", 96));
        for wrong in ["/acme", "/acme:", "/acme:--------", "/acme:q"] {
            assert_eq!(here().entry(wrong), Err(TextError::Entry(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn entries_are_added_changed_deleted_and_replaced() {
        let entry = |text: &str| here().entry(text).expect("an entry");
        let edit = |modify: &[&str], delete: &[&str]| Entries::Edit {
            modify: modify.iter().map(|text| entry(text)).collect(),
            delete: delete.iter().map(|text| here().grantee(text).expect("a principal")).collect(),
        };
        let shown = |list: &AccessList| {
            let shown = list.entries.iter().map(|entry| format!("{}:{}", entry.who.shown(), entry.may.0));
            shown.collect::<Vec<_>>().join(" ")
        };
        let two = edit(&["/CN=bob:g", "/acme:l"], &[]).apply(list()).expect("adds");
        assert_eq!(shown(&two), "/CN=bob:------g- /acme:----l---");
        let changed = edit(&["/CN=bob:lg", "/CN=eve:g"], &["/acme"]).apply(two.clone()).expect("changes");
        assert_eq!(shown(&changed), "/CN=bob:----l-g- /CN=eve:------g-");
        let replaced = Entries::Replace(vec![entry("/acme:g")]).apply(two.clone()).expect("replaces");
        assert_eq!(shown(&replaced), "/acme:------g-");
        assert_eq!(edit(&[], &["/CN=eve"]).apply(two.clone()), Err(TextError::NoEntry("/CN=eve".into())));
        assert_eq!(edit(&["/acme:g"], &["/acme"]).apply(two.clone()), Err(TextError::Twice("/acme".into())));
        assert_eq!(edit(&["/acme:g", "/acme:l"], &[]).apply(two), Err(TextError::Twice("/acme".into())));
    }

    #[test]
    fn a_typed_name_finds_the_entry_of_the_certificate() {
        const BOB: &[u8] = b"\x30\x0e\x31\x0c\x30\x0a\x06\x03\x55\x04\x03\x0c\x03bob";
        let mut exact = list();
        let who = Grantee::Subject(subject_of_certificate(b"ca", BOB));
        exact.entries.push(Entry { who: who.clone(), may: PermissionsText(Permissions::OWNER) });
        let bob = here().entry("/CN=bob:g").expect("an entry");
        let changed =
            Entries::Edit { modify: vec![bob.clone()], delete: Vec::new() }.apply(exact.clone()).expect("one");
        assert_eq!(
            changed.entries,
            [Entry { who, may: bob.may }],
            "a second entry would outlive a revocation of the first"
        );
        let delete = vec![here().grantee("/CN=bob").expect("a principal")];
        let gone = Entries::Edit { modify: Vec::new(), delete }.apply(exact).expect("deleted");
        assert!(gone.entries.is_empty());
    }

    #[test]
    fn what_is_printed_is_the_originals_form() {
        let list = Entries::Replace(vec![here().entry("/acme:lg").expect("an entry")]).apply(list()).expect("replaces");
        let text = describe("ID", &list);
        assert!(text.starts_with("# ENTRY: ID\n"), "{text}");
        assert!(text.contains("\n# User: /CN=owner (of ") && text.contains("\n# Group: none\n"), "{text}");
        assert!(text.contains("\n# Base perms: user pdrwl-gs, group --------, other --rw----\n"), "{text}");
        assert!(text.ends_with("\n/acme:----l-g-\n"), "{text}");
    }
}
