//! Why somebody may or may not: the decision of [`decide`], and what each rule that concerns the caller says.
//!
//! Nothing is told of rules that concern others: who may not read the access list learns nothing of it here.

use eds_core::api::access::Decision;

use crate::policy::{AccessList, Caller, LETTERS, Rule, decide};

/// The decisions about all permissions, in printed order.
pub fn explain(list: &AccessList, caller: Caller<'_>) -> Vec<Decision> {
    let one = |(permission, letter)| match decide(list, caller, permission) {
        Some(rule) => {
            Decision { permission: letter, allowed: true, rule: rule.to_string(), reason: allowed(list, rule) }
        }
        None => Decision { permission: letter, allowed: false, rule: "none".into(), reason: refused(list, caller) },
    };
    LETTERS.into_iter().map(one).collect()
}

fn allowed(list: &AccessList, rule: Rule) -> String {
    match rule {
        Rule::Administrator => "is an administrator of this node".into(),
        Rule::Owner => format!("owns the key, and its owner may {}", list.owner_may),
        Rule::Group => format!("holds the key's group, which may {}", list.group_may),
        Rule::Others => format!("everybody may {}", list.others_may),
        Rule::Entry(position) => match list.entries.get(position) {
            Some((_, may)) => format!("entry {} of the access list says {may}", position + 1),
            None => String::new(),
        },
    }
}

/// What the rules that concern the caller say, none of which allows.
fn refused(list: &AccessList, caller: Caller<'_>) -> String {
    let mut said = vec![if list.owner.is(caller.subject) {
        format!("owns the key, and its owner may {}", list.owner_may)
    } else {
        "does not own the key".to_owned()
    }];
    said.push(if list.group.as_ref().is_some_and(|group| caller.groups.contains(group)) {
        format!("holds its group, which may {}", list.group_may)
    } else {
        "does not hold its group".to_owned()
    });
    said.push(format!("everybody may {}", list.others_may));
    let mut named = list.entries.iter().enumerate().filter(|(_, (grantee, _))| grantee.names(caller)).peekable();
    if named.peek().is_none() {
        said.push("no entry of the access list names the principal".to_owned());
    }
    said.extend(named.map(|(position, (_, may))| format!("entry {} says {may}", position + 1)));
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Grantee, Permissions, Subject};

    fn subject(name: &str) -> Subject {
        Subject { kind: "x509".into(), namespace: b"ca".to_vec(), name: name.into(), display: name.into() }
    }

    #[test]
    fn every_permission_has_its_rule_or_every_reason_why_not() {
        let mut list = AccessList::of_new_key(subject("owner"), Some("/ward".into()));
        list.group_may = Permissions::from_bits(32);
        list.entries.push((Grantee::Subject(subject("secret friend")), Permissions::from_bits(2)));
        list.entries.push((Grantee::Subject(subject("bob")), Permissions::from_bits(64)));
        let (bob, ward) = (subject("bob"), ["/ward".to_owned()]);
        let told = explain(&list, Caller { subject: &bob, groups: &ward, administrator: false });
        let letters: String = told.iter().filter(|decision| decision.allowed).map(|told| told.permission).collect();
        assert_eq!(letters, "lg");
        assert_eq!((told[4].rule.as_str(), told[6].rule.as_str()), ("group", "entry-2"));
        assert_eq!(
            told[0].reason,
            "does not own the key; holds its group, which may ----l---; everybody may --------; entry 2 says ------g-"
        );
        assert!(told.iter().all(|decision| !decision.reason.contains("friend")));
        let officer = subject("officer");
        let told = explain(&list, Caller { subject: &officer, groups: &[], administrator: true });
        assert!(told.iter().all(|decision| decision.allowed && decision.rule == "administrator"));
        let told = explain(&list, Caller { subject: &officer, groups: &[], administrator: false });
        assert!(told.iter().all(|decision| !decision.allowed && decision.rule == "none"));
        assert!(told[0].reason.ends_with("no entry of the access list names the principal"), "{}", told[0].reason);
    }
}
