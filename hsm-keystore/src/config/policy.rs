//! The section `[policy]`: administrators, couriers, who may register keys, and who may give them which names.
//!
//! A person is named by authority and subject, never by a subject alone: another authority could issue the same name.

use std::ops::Range;

use eds_core::{api::name::KeyName, names};

use super::reader::{Item, Section, Text};
use crate::policy::node::{Create, NodePolicy, Party, Reserved};

/// Reads the section.
pub(super) fn read(section: &Section<'_>) -> NodePolicy {
    let (administrators, couriers) = (parties(section, "admins"), parties(section, "couriers"));
    let create = match section.texts("create") {
        None => Create::Anybody,
        Some(groups) if groups.iter().any(|group| group.value == "any") => Create::Anybody,
        Some(groups) => Create::Groups(groups.into_iter().filter_map(|group| creator(section, group)).collect()),
    };
    let reserved = section.sections("reserved_names", reserved).into_iter().flatten().collect();
    NodePolicy { administrators, couriers, create, reserved }
}

/// A path whose names only groups may give.
fn reserved(section: &Section<'_>) -> Option<Reserved> {
    section.need(&["path", "groups"]);
    let (path, groups) = (section.text("path"), section.texts("groups"));
    let path = path.and_then(|text| {
        let whole = text.value.starts_with('/') && KeyName::new(text.value.trim_end_matches('/')).is_ok();
        if !whole {
            let message = format!("policy.reserved_names.path: {:?} is not a path of names", text.value);
            section.fault(text.span, message, "name whole parts, such as \"/myvo/radiology\"");
        }
        whole.then(|| text.value.to_owned())
    });
    let group = |text: Text<'_>| {
        let group = names::group(text.value);
        if group.is_none() {
            let message = format!("policy.reserved_names.groups: {:?} is not a group", text.value);
            section.fault(text.span, message, "name groups, such as \"/org.acme\"; [] leaves it to administrators");
        }
        group
    };
    Some(Reserved { path: path?, groups: groups?.into_iter().filter_map(group).collect() })
}

/// Groups, and people with the authority that speaks for them.
fn parties(section: &Section<'_>, key: &'static str) -> Vec<Party> {
    let mut parties = Vec::new();
    for item in section.list(key).unwrap_or_default() {
        let read = match item {
            Item::Text(text) => group(&text).ok_or_else(|| (text.span, format!("{:?} is not a group", text.value))),
            Item::Table(table) => person(table),
        };
        match read {
            Ok(party) => parties.push(party),
            Err((span, wrong)) => section.fault(span, format!("policy.{key}: {wrong}"), PERSON),
        }
    }
    parties
}

fn group(text: &Text<'_>) -> Option<Party> {
    names::group(text.value).map(Party::Group)
}

/// A person, with the authority that speaks for the name.
fn person(table: Section<'_>) -> Result<Party, (Range<usize>, String)> {
    let span = table.span();
    table.need(&["issuer", "subject"]);
    let (issuer, subject) = (table.text("issuer"), table.text("subject"));
    table.finish();
    // Where one is missing, that is noted already, and the empty name goes nowhere.
    let (Some(issuer), Some(subject)) = (issuer, subject) else {
        return Ok(Party::Token { issuer: String::new(), subject: String::new() });
    };
    let (issuer, subject) = (issuer.value.to_owned(), subject.value.to_owned());
    if issuer.starts_with("https://") {
        if subject.is_empty() {
            return Err((span, "the subject of a token is empty".to_owned()));
        }
        return Ok(Party::Token { issuer, subject });
    }
    for (which, name) in [("issuer", &issuer), ("subject", &subject)] {
        if !names::is_slash_form(name) {
            return Err((span, format!("{which} {name:?} is not a name in slash form")));
        }
    }
    Ok(Party::Certificate { issuer, subject })
}

fn creator(section: &Section<'_>, text: Text<'_>) -> Option<String> {
    let hint = "name groups, such as \"/org.acme\", or write create = [\"any\"] for every caller who is known";
    let group = names::group(text.value);
    if group.is_none() {
        section.fault(text.span, format!("policy.create: {:?} is not a group", text.value), hint);
    }
    group
}

const PERSON: &str = "name a group as \"/org.acme/Role=security\", and a person with the authority, as \
    { issuer = \"/C=CH/CN=Hospital CA\", subject = \"/C=CH/CN=Officer\" } or \
    { issuer = \"https://…\", subject = \"…\" }";
