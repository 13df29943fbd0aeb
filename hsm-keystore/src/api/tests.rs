//! Who may do what over the whole API: every rule and permission, every caller and every call, against a table written by
//! hand (`tests/access.txt`); batches, whose keys are decided one by one; and changes, which touch nothing else.
//!
//! The requests go through the real routes; callers are put in where the TLS connection would prove them.

mod change;
mod device;
mod harness;
mod names;
mod together;
mod vouched;
mod whoami;

use eds_core::{
    api::access::{Asked, WhyAnswer},
    permissions::Permissions,
};
use hyper::StatusCode;

use self::harness::{Answer, Caller, TestNode, people, person};
use crate::policy::{AccessList, Grantee, Permission};

const TABLE: &str = include_str!("tests/access.txt");
/// The columns of the table.
const CALLERS: [&str; 10] =
    ["owner", "member", "friend", "researcher", "typed", "stranger", "namesake", "admin", "expired", "nobody"];
/// The calls of the table.
const CALLS: &str = "ifuacotwWn";

/// The list that gives this set by this rule alone.
fn list(rule: &str, may: Permissions) -> AccessList {
    let mut list = AccessList::of_new_key(person("owner"), Some("/ward".into()));
    list.owner_may = Permissions::NONE;
    match rule {
        "owner" => list.owner_may = may,
        "group" => list.group_may = may,
        "others" | "pending" => list.others_may = may,
        "none" => {}
        "friend" => list.entries.push((Grantee::Subject(person("friend")), may)),
        "fqan" => list.entries.push((Grantee::Group("/research/Role=head".into()), may)),
        "typed" => list.entries.push((Grantee::Subject(harness::typed("typed")), may)),
        other => panic!("{other} is no rule"),
    }
    list
}

#[tokio::test]
async fn every_caller_may_do_over_every_endpoint_what_the_table_says_and_nothing_else() {
    let callers = people();
    let (mut rows, mut calls) = (0, 0);
    for line in TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(([rule, letters], cells)), true) = (words.split_first_chunk(), words.len() == 12) else {
            panic!("{line}")
        };
        let list = list(rule, letters.parse().expect("letters"));
        let node = TestNode::new();
        for (name, cell) in CALLERS.iter().zip(cells) {
            let caller = &callers[*name];
            for call in CALLS.chars() {
                // A key for each call: some of them change it.
                let key = node.store(&list, *rule == "pending");
                let answer = perform(&node, caller, call, key).await;
                let what = format!("{line:?}: {name}, call {call}: {answer:?}");
                match *cell {
                    "!" => {
                        assert_eq!((answer.status, answer.word.as_deref()), (401, Some("not-authenticated")), "{what}")
                    }
                    allowed if allowed.contains(call) => assert!(answer.allowed, "{what}"),
                    _ => {
                        assert!(!answer.allowed, "{what}");
                        let pending = *rule == "pending" && !matches!(call, 't' | 'W');
                        let word = match (call, pending) {
                            ('n', _) => "name-not-found",
                            (_, true) => "key-pending",
                            (_, false) => "not-permitted",
                        };
                        assert!(answer.word.as_deref() == Some(word) || call == 't', "{what}");
                    }
                }
                if !answer.allowed {
                    node.is_unchanged(key, &list, *rule == "pending");
                }
                calls += 1;
            }
        }
        rows += 1;
    }
    assert_eq!((rows, calls), (6 * 8 + 2, (6 * 8 + 2) * 10 * 10), "a row is missing");
}

async fn perform(node: &TestNode, caller: &Caller, call: char, key: eds_core::ids::KeyId) -> Answer {
    match call {
        'i' => node.information(caller, key).await,
        'f' => node.fetch(caller, &[key]).await.remove(0),
        'u' => node.unregister(caller, &[key]).await.remove(0),
        'a' => node.read_access(caller, &[key]).await.remove(0),
        'c' => node.change(caller, &[(key, |list| list.version += 1)]).await.remove(0),
        'o' => {
            let give = |list: &mut eds_core::api::access::AccessList| {
                list.version += 1;
                list.owner = crate::policy::wire::shown(&AccessList::of_new_key(person("heir"), None)).owner;
            };
            node.change(caller, &[(key, give)]).await.remove(0)
        }
        't' => node.is_listed(caller, key).await,
        'w' => node.why(caller, key, None).await.0,
        'W' => {
            let asked = Asked { subject: None, groups: vec!["/ward".into()] };
            node.why(caller, key, Some(asked)).await.0
        }
        'n' => node.resolve(caller, &[&harness::name_of(key)]).await.remove(0).0,
        other => panic!("{other} is no call"),
    }
}

#[tokio::test]
async fn why_says_what_the_other_calls_do() {
    let node = TestNode::new();
    let callers = people();
    for rule in ["owner", "group", "others", "friend", "fqan", "typed"] {
        for bits in [1, 2, 32, 64, 255] {
            let list = list(rule, Permissions::from_bits(bits));
            for name in ["owner", "member", "friend", "researcher", "typed", "stranger", "namesake", "admin"] {
                let key = node.store(&list, false);
                let told = node.why(&callers[name], key, None).await.1.expect("answers");
                let says = |permission| {
                    told.decisions.iter().any(|decision| decision.is_about(permission) && decision.allowed)
                };
                let what = format!("{rule} {bits} {name}");
                let read = node.read_access(&callers[name], &[key]).await.remove(0).allowed;
                assert_eq!(says(Permission::List), read, "{what}");
                assert_eq!(says(Permission::Fetch), node.fetch(&callers[name], &[key]).await[0].allowed, "{what}");
                let change = node.change(&callers[name], &[(key, |list| list.version += 1)]).await;
                assert_eq!(says(Permission::Change), change[0].allowed, "{what}");
                assert_eq!(
                    says(Permission::Delete),
                    node.unregister(&callers[name], &[key]).await[0].allowed,
                    "{what}"
                );
            }
        }
    }
}

#[tokio::test]
async fn an_administrator_learns_why_of_anybody_and_others_of_themselves() {
    let node = TestNode::new();
    let callers = people();
    let key = node.store(&list("group", Permissions::from_bits(64)), false);
    let asked = |name: &str, groups: &[&str]| Asked {
        subject: Some(crate::policy::wire::shown(&AccessList::of_new_key(person(name), None)).owner),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    let rule = |answer: Option<WhyAnswer>| {
        let answer = answer.expect("answers");
        let fetch = answer.decisions.iter().find(|decision| decision.is_about(Permission::Fetch));
        (answer.principal.clone(), fetch.expect("all eight").rule.clone())
    };
    let admin = &callers["admin"];
    let told = rule(node.why(admin, key, Some(asked("stranger", &["/ward"]))).await.1);
    assert_eq!(told, ("/CN=stranger".into(), "group".into()));
    let told = rule(node.why(admin, key, Some(asked("stranger", &[]))).await.1);
    assert_eq!(told, ("/CN=stranger".into(), "none".into()));
    let told = rule(node.why(admin, key, Some(asked("admin", &[]))).await.1);
    assert_eq!(told, ("/CN=admin".into(), "administrator".into()));
    // Even of oneself by name: who asks for a principal must be an administrator.
    let refused = node.why(&callers["owner"], key, Some(asked("owner", &[]))).await.0;
    assert_eq!((refused.status, refused.word.as_deref()), (403, Some("not-permitted")));
    let mut wrong = asked("stranger", &[]);
    wrong.groups.push("/CN=eve".into());
    assert_eq!(node.why(admin, key, Some(wrong)).await.0.word.as_deref(), Some("invalid-value"));
}

#[tokio::test]
async fn registering_needs_the_create_attribute_or_an_administrator() {
    use crate::policy::node::Create;
    let callers = people();
    // By hand: who may register on a node that says nothing, names a group, names nobody.
    for (name, anybody, research, nobody) in [
        ("owner", true, false, false),
        ("member", true, false, false),
        ("researcher", true, true, false),
        ("stranger", true, false, false),
        ("namesake", true, false, false),
        ("admin", true, true, true),
        ("expired", false, false, false),
        ("nobody", false, false, false),
    ] {
        for (create, may) in [
            (Create::default(), anybody),
            (Create::Groups(vec!["/research/Role=head".into()]), research),
            (Create::Groups(Vec::new()), nobody),
        ] {
            let node = TestNode::with_create(create.clone());
            let (status, word) = node.register(&callers[name]).await;
            let expected = match (may, name) {
                (true, _) => (StatusCode::OK, None),
                (false, "expired" | "nobody") => (StatusCode::UNAUTHORIZED, Some("not-authenticated")),
                (false, _) => (StatusCode::FORBIDDEN, Some("not-permitted")),
            };
            assert_eq!((status, word.as_deref()), expected, "{name} {create:?}");
        }
    }
}

#[tokio::test]
async fn confirming_and_withdrawing_is_for_the_registrant_alone() {
    let node = TestNode::new();
    let callers = people();
    let everything = list("others", Permissions::from_bits(255));
    for path in ["/v1/confirm", "/v1/withdraw"] {
        for (name, caller) in &callers {
            let key = node.store(&everything, true);
            let answer = node.keys(caller, path, &[key]).await.remove(0);
            assert_eq!(answer.allowed, *name == "owner", "{path} {name}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn every_key_of_a_batch_is_decided_on_its_own_in_every_call() {
    // The original's test stopped at the first entry that was allowed, and let the rest through.
    let node = TestNode::new();
    let callers = people();
    let friend = &callers["friend"];
    for permission in [Permission::Fetch, Permission::Delete, Permission::List, Permission::Change] {
        let give = list("friend", Permissions::NONE.with(permission));
        // Denied although an entry names the friend, and although somebody else has it.
        let mut deny = list("friend", Permissions::from_bits(255).without(Permissions::NONE.with(permission)));
        deny.entries.push((Grantee::Subject(person("stranger")), Permissions::from_bits(255)));
        let expected = [true, false, true, false, false, true];
        let keys: Vec<_> =
            expected.iter().map(|allowed| node.store(if *allowed { &give } else { &deny }, false)).collect();
        let answers = match permission {
            Permission::Fetch => node.fetch(friend, &keys).await,
            Permission::Delete => node.unregister(friend, &keys).await,
            Permission::List => node.read_access(friend, &keys).await,
            _ => {
                let changes: Vec<_> = keys.iter().map(|key| (*key, harness::next_version)).collect();
                node.change(friend, &changes).await
            }
        };
        let allowed: Vec<bool> = answers.iter().map(|answer| answer.allowed).collect();
        assert_eq!(allowed, expected, "{permission:?}: {answers:?}");
        for (answer, key) in answers.iter().zip(&keys).filter(|(answer, _)| !answer.allowed) {
            assert_eq!(answer.word.as_deref(), Some("not-permitted"));
            node.is_unchanged(*key, &deny, false);
        }
    }
}

#[tokio::test]
async fn listings_come_in_pages_that_hide_what_may_not_be_listed() {
    let node = TestNode::new();
    let callers = people();
    let (mut shown, mut all) = (Vec::new(), Vec::new());
    for number in 0..1_100 {
        let rule = if number % 7 == 0 { "friend" } else { "owner" };
        let key = node.store(&list(rule, Permissions::from_bits(32)), false);
        if rule == "friend" {
            shown.push(key);
        }
        all.push(key);
    }
    shown.sort();
    all.sort();
    assert_eq!(node.listing(&callers["friend"]).await, shown);
    assert_eq!(node.listing(&callers["admin"]).await, all);
    assert!(node.listing(&callers["stranger"]).await.is_empty());
    assert!(node.pages() > 1, "the test does not reach a second page");
}
