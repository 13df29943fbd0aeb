//! Which key a name leads to among nodes that agree, are away, or lie.

use eds_core::{
    api::{Binary, Problem},
    ids::ShareIndex,
};

use super::*;
use crate::keystore::access::agree::tests::{directory, list, manifest};

/// What a node says.
#[derive(Clone, Copy)]
enum Says<'a> {
    Key(&'a Manifest, &'static str),
    Unknown,
    Away,
}

fn views(directory: &Directory, says: &[Says<'_>]) -> Vec<NodeView<Named>> {
    let view = |(number, says): (usize, &Says<'_>)| {
        let number = ShareIndex::new(u16::try_from(number + 1).expect("small")).expect("not zero");
        let node = directory.node(number).expect("there").clone();
        let answer = match says {
            Says::Key(manifest, owner) => {
                let mut of = list(0, &[]).owner;
                of.name = Binary(owner.as_bytes().to_vec());
                Ok(Named { key: manifest.key, manifest: (*manifest).clone(), owner: of, group: None })
            }
            Says::Unknown => {
                let kind = "urn:eds:problem:name-not-found".into();
                Err(NodeFault::Refused(Box::new(Problem {
                    kind,
                    title: "no".into(),
                    status: 404,
                    detail: None,
                    instance: None,
                })))
            }
            Says::Away => Err(NodeFault::Timeout),
        };
        NodeView { node, answer }
    };
    says.iter().enumerate().map(view).collect()
}

#[test]
fn a_name_leads_to_the_key_that_max_of_m_and_floor_nodes_name() {
    use Says::{Away, Key, Unknown};
    let (own, other) = (manifest(2, 3), manifest(2, 3));
    let (own, other) = (Key(&own, "/CN=a"), Key(&other, "/CN=a"));
    let directory = directory(3, 2);
    let found = |says: &[Says<'_>]| agree(&directory, &views(&directory, says));
    let digest = |says: Says<'_>| match says {
        Key(manifest, _) => manifest.digest(),
        _ => [0; 32],
    };
    for says in [[own, own, own], [own, own, Away], [own, Unknown, own], [own, other, own]] {
        assert_eq!(found(&says).expect("agreed").manifest.digest(), digest(own));
    }
    for says in [[own, Away, Away], [own, Unknown, Away], [own, other, Away], [Away, Away, Away], [Unknown, Away, Away]]
    {
        assert!(matches!(found(&says), Err(NameError::NoAgreement { .. })));
    }
    for says in [[Unknown, Unknown, Unknown], [Unknown, Unknown, Away]] {
        assert!(matches!(found(&says), Err(NameError::NotFound { .. })));
    }
}

#[test]
fn one_node_that_asks_for_less_chooses_nothing() {
    use Says::{Away, Key};
    let own = manifest(3, 4);
    let mut lie = own.clone();
    lie.threshold = eds_core::ids::Threshold::new(1, 4).expect("in range");
    lie.commitments.truncate(1);
    let directory = directory(4, 2);
    let found = |says: &[Says<'_>]| agree(&directory, &views(&directory, says));
    let (right, wrong) = (Key(&own, "/CN=a"), Key(&lie, "/CN=a"));
    assert_eq!(found(&[wrong, right, right, right]).expect("agreed").manifest.threshold.needed(), 3);
    // Two are fewer than the threshold that they name, and the liar is below the floor.
    assert!(matches!(found(&[wrong, right, right, Away]), Err(NameError::NoAgreement { .. })));
    // As many liars as the floor: nothing decides.
    assert!(found(&[right, right, right, wrong]).is_ok());
    assert!(found(&[wrong, wrong, Away, Away]).is_ok(), "the floor is what it takes to lie");
}

#[test]
fn another_owner_is_another_answer() {
    use Says::{Away, Key};
    let own = manifest(2, 3);
    let directory = directory(3, 2);
    let (right, wrong) = (Key(&own, "/CN=a"), Key(&own, "/CN=eve"));
    let found = |says: &[Says<'_>]| agree(&directory, &views(&directory, says));
    assert_eq!(found(&[wrong, right, right]).expect("agreed").owner.name.0, b"/CN=a");
    assert!(matches!(found(&[wrong, right, Away]), Err(NameError::NoAgreement { .. })));
}
