//! What a node's configuration says of people: who administers it, who may register keys and give them which names, and
//! who may deliver what imaging devices made.
//!
//! Administrators may do everything with every key of this node. They and couriers are named as a group, or as a subject together with
//! the authority that vouches for it, so that no other authority can issue one.

use eds_core::{
    api::{
        access::{KIND_TOKEN, KIND_X509},
        name::KeyName,
    },
    names,
};

use crate::policy::{Caller, Subject};

/// The policy of one node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodePolicy {
    /// Who administers the node.
    pub administrators: Vec<Party>,
    /// Who may deliver what imaging devices made.
    pub couriers: Vec<Party>,
    /// Who may register keys.
    pub create: Create,
    /// Names that only some may give.
    pub reserved: Vec<Reserved>,
}

/// Names below a path that only groups may give to keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reserved {
    /// The path: whole parts between slashes.
    pub path: String,
    /// Who may.
    pub groups: Vec<String>,
}

/// Somebody whom a configuration names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Party {
    /// The subject of a certificate, both names in slash form.
    Certificate {
        /// The authority.
        issuer: String,
        /// Its subject.
        subject: String,
    },
    /// The subject of a token.
    Token {
        /// The issuer's URL.
        issuer: String,
        /// The `sub` claim.
        subject: String,
    },
    /// Everybody who proves this group.
    Group(String),
}

/// Who may register keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Create {
    /// Every caller who is known.
    #[default]
    Anybody,
    /// Who proves one of these groups, and administrators.
    Groups(Vec<String>),
}

impl Party {
    fn is(&self, subject: &Subject, groups: &[String]) -> bool {
        match self {
            Self::Certificate { issuer, subject: name } => {
                subject.kind == KIND_X509
                    && names::slash_form(&subject.namespace).as_ref() == Some(issuer)
                    && names::slash_form(&subject.name).as_ref() == Some(name)
            }
            Self::Token { issuer, subject: name } => {
                subject.kind == KIND_TOKEN && subject.namespace == issuer.as_bytes() && subject.name == name.as_bytes()
            }
            Self::Group(group) => groups.contains(group),
        }
    }
}

impl NodePolicy {
    /// The caller as decisions see it.
    pub fn caller<'a>(&self, subject: &'a Subject, groups: &'a [String]) -> Caller<'a> {
        let administrator = self.administrators.iter().any(|administrator| administrator.is(subject, groups));
        Caller { subject, groups, administrator }
    }

    /// Whether the caller may deliver what imaging devices made.
    pub fn may_deliver(&self, caller: Caller<'_>) -> bool {
        caller.administrator || self.couriers.iter().any(|courier| courier.is(caller.subject, caller.groups))
    }

    /// Whether the caller may give this name to a key. Of several paths that the name is below, the longest decides.
    pub fn may_name(&self, caller: Caller<'_>, name: &KeyName) -> bool {
        let below = self.reserved.iter().filter(|reserved| name.is_below(&reserved.path));
        let decides = below.max_by_key(|reserved| reserved.path.trim_end_matches('/').len());
        caller.administrator
            || decides.is_none_or(|reserved| reserved.groups.iter().any(|group| caller.groups.contains(group)))
    }

    /// Whether the caller may register keys.
    pub fn may_create(&self, caller: Caller<'_>) -> bool {
        caller.administrator
            || match &self.create {
                Create::Anybody => true,
                Create::Groups(groups) => groups.iter().any(|group| caller.groups.contains(group)),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(common_name: &str) -> Vec<u8> {
        let length = |extra: usize| u8::try_from(common_name.len() + extra).expect("short");
        let head = [0x30, length(11), 0x31, length(9), 0x30, length(7), 0x06, 3, 0x55, 4, 3, 0x0c, length(0)];
        [&head[..], common_name.as_bytes()].concat()
    }

    fn subject(kind: &str, namespace: &[u8], name: &[u8]) -> Subject {
        Subject { kind: kind.into(), namespace: namespace.into(), name: name.into(), display: String::new() }
    }

    #[test]
    fn an_administrator_is_a_name_of_its_authority() {
        let text = |text: &str| text.to_owned();
        let policy = NodePolicy {
            administrators: vec![
                Party::Certificate { issuer: text("/CN=ca"), subject: text("/CN=officer") },
                Party::Token { issuer: text("https://id.example"), subject: text("42") },
                Party::Group(text("/acme/Role=security")),
            ],
            couriers: Vec::new(),
            create: Create::Groups(vec![text("/acme")]),
            reserved: Vec::new(),
        };
        let is = |subject: &Subject, groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|group| text(group)).collect();
            policy.caller(subject, &groups).administrator
        };
        let (ca, other, officer, bob) = (der("ca"), der("other"), der("officer"), der("bob"));
        assert!(is(&subject("x509", &ca, &officer), &[]));
        assert!(is(&subject("x509", &ca, &bob), &["/acme", "/acme/Role=security"]));
        assert!(is(&subject("jwt", b"https://id.example", b"42"), &[]));
        for (stranger, groups) in [
            (subject("x509", &other, &officer), &[][..]),
            (subject("x509", &ca, &bob), &["/acme/Role=securit", "/acme"][..]),
            (subject("x509", &officer, &ca), &[][..]),
            (subject("x509", &ca, &der("x/CN=officer")), &[][..]),
            (subject("jwt", b"https://id.example", b"43"), &[][..]),
            (subject("jwt", b"https://other.example", b"42"), &[][..]),
            (subject("jwt", &ca, &officer), &[][..]),
            (subject("x509", b"https://id.example", b"42"), &[][..]),
        ] {
            assert!(!is(&stranger, groups), "{stranger:?}");
        }
    }

    #[test]
    fn keys_are_registered_by_the_groups_named_and_by_everybody_where_none_is() {
        let person = subject("x509", &der("ca"), &der("bob"));
        let may = |create: Create, groups: &[String], administrator| {
            let policy = NodePolicy { create, ..NodePolicy::default() };
            policy.may_create(Caller { subject: &person, groups, administrator })
        };
        let acme = [String::from("/acme")];
        assert!(may(Create::default(), &[], false));
        assert!(may(Create::Groups(acme.to_vec()), &acme, false));
        assert!(!may(Create::Groups(acme.to_vec()), &["/acme/ward".into()], false));
        assert!(!may(Create::Groups(acme.to_vec()), &[], false));
        assert!(may(Create::Groups(Vec::new()), &[], true));
        assert!(!may(Create::Groups(Vec::new()), &acme, false));
    }

    #[test]
    fn couriers_are_those_named_and_administrators_and_nobody_where_none_is() {
        let courier = Party::Certificate { issuer: "/CN=ca".into(), subject: "/CN=cart".into() };
        let policy =
            NodePolicy { couriers: vec![courier, Party::Group("/acme/Role=courier".into())], ..NodePolicy::default() };
        let (ca, cart, bob) = (der("ca"), der("cart"), der("bob"));
        let may = |policy: &NodePolicy, namespace: &[u8], name: &[u8], groups: &[&str], administrator| {
            let (person, groups) = (subject("x509", namespace, name), groups.iter().map(|group| (*group).to_owned()));
            policy.may_deliver(Caller { subject: &person, groups: &groups.collect::<Vec<_>>(), administrator })
        };
        assert!(may(&policy, &ca, &cart, &[], false));
        assert!(may(&policy, &ca, &bob, &["/acme/Role=courier"], false));
        assert!(may(&policy, &ca, &bob, &[], true));
        assert!(!may(&policy, &ca, &bob, &["/acme"], false));
        assert!(!may(&policy, &bob, &cart, &[], false), "of another authority");
        assert!(!may(&NodePolicy::default(), &ca, &cart, &["/acme/Role=courier"], false));
    }

    #[test]
    fn of_paths_that_are_reserved_the_longest_decides() {
        let reserved = |path: &str, groups: &[&str]| Reserved {
            path: path.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        let policy = NodePolicy {
            administrators: vec![Party::Group("/officers".into())],
            reserved: vec![
                reserved("/myvo/", &["/myvo"]),
                reserved("/myvo/radiology", &["/myvo/radiology", "/myvo/head"]),
                reserved("/closed", &[]),
            ],
            ..NodePolicy::default()
        };
        let anybody = subject(KIND_TOKEN, b"https://id.example", b"7");
        // By hand: the name, the group of the caller, and whether that is enough.
        for (name, group, may) in [
            ("/open/a", "/none", true),
            ("secret", "/none", true),
            ("/myvo/a", "/myvo", true),
            ("/myvo", "/myvo", true),
            ("/myvo/a", "/none", false),
            ("/myvo2/a", "/none", true),
            ("/myvo/radiology/a", "/myvo/radiology", true),
            ("/myvo/radiology/a", "/myvo/head", true),
            ("/myvo/radiology/a", "/myvo", false),
            ("/myvo/radiology2/a", "/myvo", true),
            ("/closed/a", "/myvo", false),
            ("/closed/a", "/officers", true),
        ] {
            let groups = [group.to_owned()];
            let name = KeyName::new(name).expect("a name");
            assert_eq!(policy.may_name(policy.caller(&anybody, &groups), &name), may, "{name:?} {group}");
        }
    }
}
