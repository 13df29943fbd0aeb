//! What users read of access lists, as the original's commands have it, and edit of their entries. What they type is in
//! [`eds_core::api::access::typed`].

use std::fmt::Write as _;

use eds_core::api::access::{AccessList, Entry, Grantee, typed::TypedError};

/// A text that is not understood, or does not fit the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not a principal, an entry or a mode.
    #[error(transparent)]
    Typed(#[from] TypedError),
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
        match self {
            Self::Typed(error) => Some(error.hint().into()),
            Self::Twice(_) | Self::NoEntry(_) => None,
        }
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
    use eds_core::{
        api::access::{
            PermissionsText,
            typed::{Namespace, subject_of_certificate},
        },
        permissions::Permissions,
    };

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
