//! Names of keys: whom they are told, what a writer of the database can do with them, and what the audit log says.

use eds_core::api::{KeyState, KeyText, access, name::KeyName};

use super::{
    harness::{TestNode, name_of, people, person},
    list,
};
use crate::{
    audit::{Operation, Outcome},
    policy::{Permissions, wire},
    store::{NewKey, NewName, Registration},
};

fn word(answer: &super::Answer) -> Option<&str> {
    answer.word.as_deref()
}

#[tokio::test]
async fn a_name_leads_to_its_key_and_says_whose_it_is() {
    let (node, callers) = (TestNode::new(), people());
    let key = node.store(&list("group", Permissions::from_bits(64)), false);
    let (answer, found) = node.resolve(&callers["member"], &[&name_of(key)]).await.remove(0);
    assert!(answer.allowed, "{answer:?}");
    assert_eq!((found.key, found.state), (Some(KeyText(key)), Some(KeyState::Active)));
    let owner: access::Subject = wire::shown_subject(&person("owner"));
    assert_eq!((found.owner, found.group.as_deref()), (Some(owner), Some("/ward")));
    assert!(found.manifest.is_some());
}

#[tokio::test]
async fn a_stranger_cannot_tell_a_name_that_exists_from_one_that_does_not() {
    let (node, callers) = (TestNode::new(), people());
    let key = node.store(&list("owner", Permissions::from_bits(255)), false);
    let pending = node.store(&list("others", Permissions::from_bits(255)), true);
    let names = [name_of(key), name_of(pending), "/ward/nothing".to_owned()];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let answers = node.resolve(&callers["stranger"], &names).await;
    let told: Vec<_> = answers.iter().map(|(_, found)| found.clone()).collect();
    assert_eq!((&told[0], &told[1]), (&told[2], &told[2]), "the answers differ");
    assert_eq!(answers.iter().map(|(answer, _)| word(answer)).collect::<Vec<_>>(), [Some("name-not-found"); 3]);
    let one_by_one = node.resolve(&callers["owner"], &names).await;
    let allowed: Vec<bool> = one_by_one.iter().map(|(answer, _)| answer.allowed).collect();
    assert_eq!(allowed, [true, true, false], "the test asks for nothing that is there");
}

#[tokio::test]
async fn a_name_is_refused_to_everybody_while_its_key_lives() {
    let (node, callers) = (TestNode::new(), people());
    let name = Some("/ward/secret");
    let (key, told) = node.register_named(&callers["owner"], 1, name).await;
    assert_eq!(told.0, 200, "{told:?}");
    for caller in ["owner", "member", "stranger", "admin"] {
        let (other, (status, word)) = node.register_named(&callers[caller], 2, name).await;
        assert_eq!((status.as_u16(), word.as_deref()), (409, Some("name-taken")), "{caller}");
        assert_eq!(node.state(other), None, "{caller}");
    }
    assert_eq!(node.state(key), Some(KeyState::Pending), "the refused registration touched the key that is there");
    // Its name is free when it was taken back; its id is not.
    assert!(node.keys(&callers["owner"], "/v1/withdraw", &[key]).await[0].allowed);
    let (second, told) = node.register_named(&callers["member"], 3, name).await;
    assert_eq!(told.0, 200, "{told:?}");
    assert_ne!(second, key);
    let (_, found) = node.resolve(&callers["member"], &["/ward/secret"]).await.remove(0);
    assert_eq!(found.key, Some(KeyText(second)));
    // Unregistering frees it, too.
    assert!(node.keys(&callers["member"], "/v1/confirm", &[second]).await[0].allowed);
    assert!(node.unregister(&callers["member"], &[second]).await[0].allowed);
    assert_eq!(node.register_named(&callers["owner"], 4, name).await.1.0, 200);
}

#[tokio::test]
async fn names_below_a_reserved_path_are_given_by_its_groups_alone() {
    let (node, callers) = (TestNode::with_reserved("/ward", "/ward"), people());
    for (caller, may) in [("member", true), ("stranger", false), ("researcher", false), ("admin", true)] {
        let name = format!("/ward/of-{caller}");
        let (key, (status, word)) = node.register_named(&callers[caller], 1, Some(&name)).await;
        assert_eq!(status == 200, may, "{caller}");
        assert_eq!(word.as_deref(), (!may).then_some("not-permitted"), "{caller}");
        assert_eq!(node.state(key).is_some(), may, "{caller}");
    }
    // Whether the name is taken is told to nobody outside.
    let (_, told) = node.register_named(&callers["stranger"], 2, Some("/ward/of-member")).await;
    assert_eq!(told.1.as_deref(), Some("not-permitted"));
    assert_eq!(node.register_named(&callers["stranger"], 3, Some("/wards/of-nobody")).await.1.0, 200);
}

#[tokio::test]
async fn what_is_no_name_is_refused() {
    let (node, callers) = (TestNode::new(), people());
    for wrong in ["", "/", "/a//b", "/a/../b", "/a\n", "00112233-4455-6677-8899-aabbccddeeff", &"x".repeat(251)] {
        let (key, (status, word)) = node.register_named(&callers["owner"], 1, Some(wrong)).await;
        assert_eq!((status.as_u16(), word.as_deref()), (422, Some("invalid-value")), "{wrong:?}");
        assert_eq!(node.state(key), None);
        let (answer, _) = node.resolve(&callers["owner"], &[wrong]).await.remove(0);
        assert_eq!((answer.status, self::word(&answer)), (422, Some("invalid-value")), "{wrong:?}");
    }
}

#[tokio::test]
async fn who_can_write_the_database_cannot_lead_a_name_to_another_key() {
    let (node, callers) = (TestNode::new(), people());
    // Eve's own key, and a row that gives it the name of somebody's: with the HMAC of her own name, and with none.
    for mac_of_her_own in [true, false] {
        let everything = list("others", Permissions::from_bits(255));
        let key = node.store(&everything, false);
        let stored = node.node.store.read(&[key]).expect("reads").remove(0).expect("there");
        let body = stored.body.expect("whole");
        let other = super::harness::random_key();
        let own = KeyName::new("/eve/own").expect("a name");
        let sealed = node.node.names.seal(&[(other, Some(own))]).expect("seals").remove(0).expect("named");
        let redirected = KeyName::new(&format!("/ward/{mac_of_her_own}")).expect("a name");
        let access = node.node.access.seal(&[(other, everything)]).expect("seals").remove(0);
        let mac = if mac_of_her_own { sealed.mac } else { Vec::new() };
        let new = NewKey {
            key: other,
            epoch: body.epoch,
            manifest: body.manifest,
            manifest_digest: stored.manifest_digest,
            record: body.record,
            access,
            name: Some(NewName { name: redirected.clone(), mac }),
        };
        let registrant = person("owner").registrant().digest();
        let registration = Registration { registrant, id: *other.as_bytes(), content: [1; 32], counter: None, at: 1 };
        node.node.store.register(&registration, &[new]).expect("stores");
        node.node.store.confirm(&[other], &registrant, 1).expect("confirms");
        let (answer, found) = node.resolve(&callers["owner"], &[redirected.as_str()]).await.remove(0);
        assert_eq!((word(&answer), found.key), (Some("name-altered"), None));
        // The key itself is as it was.
        assert!(node.read_access(&callers["owner"], &[other]).await[0].allowed);
    }
}

#[tokio::test]
async fn the_log_tells_keys_and_rules_and_never_a_name() {
    let (node, callers) = (TestNode::new(), people());
    let key = node.store(&list("owner", Permissions::from_bits(255)), false);
    let name = name_of(key);
    node.resolve(&callers["owner"], &[&name, "/ward/nothing"]).await;
    node.resolve(&callers["stranger"], &[&name]).await;
    let told: Vec<_> = node
        .decisions()
        .into_iter()
        .filter(|decision| decision.operation == Operation::RESOLVE)
        .map(|decision| {
            assert!(!format!("{decision:?}").contains("ward/"), "{decision:?}");
            (decision.who.display, decision.keys, decision.outcome, decision.rule)
        })
        .collect();
    let refused = |word: &str| Outcome::Refused(word.to_owned());
    assert_eq!(
        told,
        [
            ("/CN=owner".to_owned(), vec![key], Outcome::Allowed, "owner".to_owned()),
            ("/CN=owner".to_owned(), vec![], refused("name-not-found"), String::new()),
            ("/CN=stranger".to_owned(), vec![key], refused("not-permitted"), String::new()),
        ]
    );
}
