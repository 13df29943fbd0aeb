//! Everybody who is known is told about themselves, and the log tells that they asked.

use super::harness::{TestNode, people};
use crate::{
    audit::{Operation, Outcome},
    policy::node::Create,
};

#[tokio::test]
async fn every_caller_is_told_about_themselves_and_strangers_nothing() {
    let node = TestNode::with_create(Create::Groups(vec!["/ward".into()]));
    let callers = people();
    for (name, groups, administrator, may_register) in [
        ("owner", &[][..], false, false),
        ("member", &["/ward"][..], false, true),
        ("researcher", &["/research/Role=head"][..], false, false),
        ("admin", &[][..], true, true),
    ] {
        let told = node.whoami(&callers[name]).await.expect("known");
        assert!(told.subject.ends_with(&format!("CN={name}")), "{told:?}");
        assert_eq!((told.kind.as_str(), told.registrant.0.len()), ("x509", 32));
        assert!(groups.iter().all(|group| told.groups.iter().any(|found| found == group)), "{told:?}");
        assert_eq!((told.administrator, told.may_register), (administrator, may_register), "{name}");
    }
    let own = |told: crate::api::tests::harness::Answer| (told.status, told.word);
    for name in ["expired", "nobody"] {
        let refused = node.whoami(&callers[name]).await.expect_err("unknown");
        assert_eq!(own(refused), (401, Some("not-authenticated".to_owned())), "{name}");
    }
    let decisions = node.decisions();
    let asked: Vec<_> = decisions.iter().filter(|decision| decision.operation == Operation::WHOAMI).collect();
    assert_eq!(asked.len(), 6);
    assert_eq!(asked.iter().filter(|decision| decision.outcome == Outcome::Allowed).count(), 4);
}
