//! The section `[policy]`: administrators and who may register keys.
//!
//! A person is named by authority and subject, never by a subject alone: another authority could issue the same name.

use std::ops::Range;

use eds_core::names;
use serde::Deserialize;
use toml::Spanned;

use crate::policy::node::{Administrator, Create, NodePolicy};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPolicy {
    admins: Vec<Spanned<RawAdministrator>>,
    create: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawAdministrator {
    Group(String),
    Person(RawPerson),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPerson {
    issuer: String,
    subject: String,
}

/// Where, what is wrong, and what to do.
type Refusal = (Range<usize>, String, &'static str);

impl RawPolicy {
    pub(super) fn read(self) -> Result<NodePolicy, Refusal> {
        let administrators = self.admins.into_iter().map(administrator).collect::<Result<_, _>>()?;
        let create = match self.create {
            None => Create::Anybody,
            Some(groups) if groups.iter().any(|group| group.get_ref() == "any") => Create::Anybody,
            Some(groups) => Create::Groups(groups.into_iter().map(creator).collect::<Result<_, _>>()?),
        };
        Ok(NodePolicy { administrators, create })
    }
}

fn administrator(raw: Spanned<RawAdministrator>) -> Result<Administrator, Refusal> {
    let span = raw.span();
    match raw.into_inner() {
        RawAdministrator::Group(group) => match names::group(&group) {
            Some(group) => Ok(Administrator::Group(group)),
            None => Err((span, format!("policy.admins: {group:?} is not a group"), PERSON)),
        },
        RawAdministrator::Person(RawPerson { issuer, subject }) if issuer.starts_with("https://") => {
            if subject.is_empty() {
                return Err((span, "policy.admins: the subject of a token is empty".into(), PERSON));
            }
            Ok(Administrator::Token { issuer, subject })
        }
        RawAdministrator::Person(RawPerson { issuer, subject }) => {
            for (which, name) in [("issuer", &issuer), ("subject", &subject)] {
                if !names::is_slash_form(name) {
                    return Err((span, format!("policy.admins: {which} {name:?} is not a name in slash form"), PERSON));
                }
            }
            Ok(Administrator::Certificate { issuer, subject })
        }
    }
}

fn creator(raw: Spanned<String>) -> Result<String, Refusal> {
    let hint = "name groups, such as \"/org.acme\", or write create = [\"any\"] for every caller who is known";
    match names::group(raw.get_ref()) {
        Some(group) => Ok(group),
        None => Err((raw.span(), format!("policy.create: {:?} is not a group", raw.get_ref()), hint)),
    }
}

const PERSON: &str = "name a group as \"/org.acme/Role=security\", and a person with the authority, as \
    { issuer = \"/C=CH/CN=Hospital CA\", subject = \"/C=CH/CN=Officer\" } or \
    { issuer = \"https://…\", subject = \"…\" }";
