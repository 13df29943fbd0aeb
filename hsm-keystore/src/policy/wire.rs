//! Access lists between the API and the policy. What comes in is checked; what is shown to people is made here, so that
//! who changes a list cannot give a subject somebody else's name.

use eds_core::{
    api::{
        Binary,
        access::{self, Entry, KIND_TOKEN, KIND_X509, KIND_X509_SLASH, MAX_ENTRIES, PermissionsText},
    },
    names,
};

use crate::policy::{AccessList, Grantee, Subject};

/// The longest namespace or name of a subject, in bytes.
const MAX_NAME: usize = 4 * 1024;

/// The list for a caller who may read it.
pub fn shown(list: &AccessList) -> access::AccessList {
    let entry = |(grantee, may): &(Grantee, _)| {
        let who = match grantee {
            Grantee::Subject(subject) => access::Grantee::Subject(shown_subject(subject)),
            Grantee::Group(group) => access::Grantee::Group(group.clone()),
        };
        Entry { who, may: PermissionsText(*may) }
    };
    access::AccessList {
        version: list.version,
        owner: shown_subject(&list.owner),
        group: list.group.clone(),
        owner_may: PermissionsText(list.owner_may),
        group_may: PermissionsText(list.group_may),
        others_may: PermissionsText(list.others_may),
        entries: list.entries.iter().map(entry).collect(),
    }
}

/// A subject for a caller who may know it.
pub fn shown_subject(subject: &Subject) -> access::Subject {
    access::Subject {
        kind: subject.kind.clone(),
        namespace: Binary(subject.namespace.clone()),
        name: Binary(subject.name.clone()),
        display: subject.display.clone(),
    }
}

/// The list that a caller asks for.
///
/// # Errors
/// What is wrong with it, in words.
pub fn asked(list: &access::AccessList) -> Result<AccessList, String> {
    if list.entries.len() > MAX_ENTRIES {
        return Err(format!("{} entries; an access list has at most {MAX_ENTRIES}", list.entries.len()));
    }
    for (position, entry) in list.entries.iter().enumerate() {
        if list.entries.iter().take(position).any(|earlier| earlier.who.is_same(&entry.who)) {
            return Err(format!("{} is named twice", entry.who.shown()));
        }
        if entry.may.0.is_empty() {
            return Err(format!("the entry of {} gives nothing: leave it out", entry.who.shown()));
        }
    }
    let entry = |entry: &Entry| {
        let who = match &entry.who {
            access::Grantee::Subject(subject) => Grantee::Subject(asked_subject(subject)?),
            access::Grantee::Group(group) => Grantee::Group(asked_group(group)?),
        };
        Ok((who, entry.may.0))
    };
    Ok(AccessList {
        owner: asked_subject(&list.owner)?,
        group: list.group.as_deref().map(asked_group).transpose()?,
        owner_may: list.owner_may.0,
        group_may: list.group_may.0,
        others_may: list.others_may.0,
        entries: list.entries.iter().map(entry).collect::<Result<_, String>>()?,
        version: list.version,
    })
}

/// The subject that a caller names.
///
/// # Errors
/// What is wrong with it, in words.
pub fn asked_subject(subject: &access::Subject) -> Result<Subject, String> {
    let (namespace, name) = (&subject.namespace.0, &subject.name.0);
    if namespace.len() > MAX_NAME || name.len() > MAX_NAME {
        return Err(format!("a subject has more than {MAX_NAME} bytes"));
    }
    let text = |bytes| str::from_utf8(bytes).ok();
    let good = match subject.kind.as_str() {
        KIND_X509 => names::is_name(namespace) && names::is_name(name),
        KIND_X509_SLASH => names::is_name(namespace) && text(name).is_some_and(names::is_slash_form),
        KIND_TOKEN => {
            text(namespace).is_some_and(|text| !text.is_empty()) && text(name).is_some_and(|text| !text.is_empty())
        }
        kind => return Err(format!("{kind:?} is no kind of subject that this node knows")),
    };
    if !good {
        return Err(format!("{} is no subject of kind {}", subject.shown(), subject.kind));
    }
    Ok(Subject {
        kind: subject.kind.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
        display: subject.shown(),
    })
}

/// The group that a caller names.
///
/// # Errors
/// That it is none, in words.
pub fn asked_group(group: &str) -> Result<String, String> {
    match names::group(group) {
        Some(known) if known == group => Ok(known),
        _ => Err(format!("{group:?} is not a group as it is proven")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Permissions;

    const BOB: &[u8] = b"\x30\x0e\x31\x0c\x30\x0a\x06\x03\x55\x04\x03\x0c\x03bob";
    const CA: &[u8] = b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02ca";

    fn subject(kind: &str, namespace: &[u8], name: &[u8]) -> access::Subject {
        access::Subject {
            kind: kind.into(),
            namespace: Binary(namespace.into()),
            name: Binary(name.into()),
            display: "/CN=Somebody Else".into(),
        }
    }

    fn list(entries: Vec<access::Grantee>) -> access::AccessList {
        let may = PermissionsText(Permissions::OWNER);
        access::AccessList {
            version: 1,
            owner: subject(KIND_X509, CA, BOB),
            group: Some("/ward".into()),
            owner_may: may,
            group_may: may,
            others_may: may,
            entries: entries.into_iter().map(|who| Entry { who, may }).collect(),
        }
    }

    fn person(kind: &str, namespace: &[u8], name: &[u8]) -> access::Grantee {
        access::Grantee::Subject(subject(kind, namespace, name))
    }

    #[test]
    fn a_list_goes_through_and_back_and_its_names_are_made_here() {
        let group = access::Grantee::Group("/research/Role=head".into());
        let given = list(vec![
            person(KIND_X509, CA, CA),
            person(KIND_X509_SLASH, CA, b"/CN=eve"),
            person(KIND_TOKEN, b"https://id.example", b"42"),
            group,
        ]);
        let taken = asked(&given).expect("a good list");
        assert_eq!(shown(&taken).digest(), given.digest());
        let displays: Vec<_> = shown(&taken).entries.iter().map(|entry| entry.who.shown()).collect();
        assert_eq!(displays, ["/CN=ca", "/CN=eve", "https://id.example#42", "/research/Role=head"]);
        assert_eq!(taken.owner.display, "/CN=bob");
    }

    #[test]
    fn what_names_nobody_or_somebody_twice_is_refused() {
        let group = |text: &str| access::Grantee::Group(text.into());
        for (entries, why) in [
            (vec![group("/ward"), group("/ward")], "named twice"),
            (vec![person(KIND_X509, CA, BOB), person(KIND_X509_SLASH, CA, b"/CN=bob")], "named twice"),
            (vec![group("/CN=bob")], "not a group"),
            (vec![group("/ward/Role=NULL")], "not a group"),
            (vec![group("")], "not a group"),
            (vec![person(KIND_X509, CA, b"bob")], "no subject"),
            (vec![person(KIND_X509, b"ca", BOB)], "no subject"),
            (vec![person(KIND_X509_SLASH, CA, BOB)], "no subject"),
            (vec![person(KIND_X509_SLASH, CA, b"/ward")], "no subject"),
            (vec![person(KIND_TOKEN, b"", b"42")], "no subject"),
            (vec![person("device", CA, BOB)], "no kind"),
            (vec![person(KIND_X509, CA, &[0x30; MAX_NAME + 1])], "more than"),
            ((0..=MAX_ENTRIES).map(|number| group(&format!("/{number}"))).collect(), "at most"),
        ] {
            let error = asked(&list(entries)).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
        let mut empty = list(vec![group("/ward")]);
        empty.entries[0].may = PermissionsText(Permissions::NONE);
        assert!(asked(&empty).expect_err("gives nothing").contains("gives nothing"));
        let mut owner = list(Vec::new());
        owner.owner = subject("nobody", CA, BOB);
        assert!(asked(&owner).is_err());
    }
}
