//! Which list counts among nodes that agree, missed a change, are away or lie.

use eds_core::{
    api::{
        Binary,
        access::{Entry, Grantee, PermissionsText, Subject},
    },
    directory::SUITE_P256_AES256GCM,
    ids::{ClusterId, Epoch, NodeId, Threshold},
    manifest::Point,
    permissions::Permissions,
    sharing::{FileSecret, SplitParams, split},
};
use rand_core::UnwrapErr;

use super::*;

const CLUSTER: ClusterId = ClusterId::from_bytes([3; 16]);
pub(in crate::keystore) const KEY: KeyId = KeyId::from_bytes([4; 16]);

fn index(number: u16) -> ShareIndex {
    ShareIndex::new(number).expect("not zero")
}

fn node(number: u16) -> Node {
    Node {
        number: index(number),
        id: NodeId::from_bytes([number as u8; 16]),
        url: format!("https://node-{number}").as_str().try_into().expect("fits"),
        transport_key: Point([2; 33]),
        audit_key: None,
        suites: [SUITE_P256_AES256GCM].into_iter().collect(),
        active: true,
    }
}

pub(in crate::keystore) fn directory(nodes: u16, floor: u8) -> Directory {
    Directory {
        cluster: CLUSTER,
        name: "test".try_into().expect("fits"),
        cluster_key: Point([2; 33]),
        version: 1,
        floor,
        nodes: (1..=nodes).map(node).collect(),
    }
}

pub(in crate::keystore) fn manifest(threshold: u8, nodes: u16) -> Box<Manifest> {
    let numbers: Vec<ShareIndex> = (1..=nodes).map(index).collect();
    let rng = &mut UnwrapErr(getrandom::SysRng);
    let params = SplitParams {
        key: KEY,
        cluster: CLUSTER,
        directory_version: 1,
        epoch: Epoch::new(0),
        threshold: Threshold::new(threshold, nodes as u8).expect("in range"),
        nodes: &numbers,
    };
    Box::new(split(&FileSecret::random(rng), &params, rng).expect("splits").0)
}

fn subject(name: &str) -> Subject {
    Subject {
        kind: "x509-slash".into(),
        namespace: Binary(b"ca".to_vec()),
        name: Binary(name.as_bytes().to_vec()),
        display: String::new(),
    }
}

pub(in crate::keystore) fn list(version: u64, entries: &[(&str, &str)]) -> AccessList {
    let entry = |(group, may): &(&str, &str)| Entry {
        who: Grantee::Group((*group).into()),
        may: PermissionsText(may.parse().expect("letters")),
    };
    AccessList {
        version,
        owner: subject("/CN=owner"),
        group: None,
        owner_may: PermissionsText(Permissions::OWNER),
        group_may: PermissionsText(Permissions::NONE),
        others_may: PermissionsText(Permissions::NONE),
        entries: entries.iter().map(entry).collect(),
    }
}

/// What nodes 1, 2, … show; `None` is away.
fn views(manifest: &Manifest, lists: &[Option<AccessList>]) -> Vec<NodeView<Seen>> {
    let view = |(number, list): (u16, &Option<AccessList>)| NodeView {
        node: node(number),
        answer: match list {
            Some(list) => {
                let manifest = Box::new(manifest.clone());
                Ok(Seen { digest: list.digest(), list: list.clone(), manifest, state: KeyState::Active })
            }
            None => Err(NodeFault::Timeout),
        },
    };
    (1..).zip(lists).map(view).collect()
}

fn numbers(repair: &Repair) -> Vec<u16> {
    repair.behind.iter().map(|(node, _)| node.number.value()).collect()
}

#[test]
fn a_list_counts_when_as_many_nodes_as_open_the_key_show_it() {
    let (manifest, old, new) = (manifest(2, 4), list(0, &[]), list(1, &[("/acme", "g")]));
    let of = |lists: &[&AccessList]| {
        let mut shown: Vec<_> = lists.iter().map(|list| Some((*list).clone())).collect();
        shown.resize(4, None);
        agree(&directory(4, 2), KEY, &views(&manifest, &shown))
    };
    let agreed = of(&[&old, &old, &old, &old]).expect("agrees");
    assert_eq!((agreed.list.version, agreed.holders.len(), agreed.threshold), (0, 4, 2));
    assert_eq!(agreed.enough_to_revoke(), 3);
    assert_eq!(of(&[&new, &old, &old]).expect("one ahead").list.version, 0);
    assert_eq!(of(&[&old, &old, &new, &new]).expect("half and half").list.version, 1, "the later of two counts");
    let alone = of(&[&new, &old]).expect_err("nobody agrees");
    let AccessError::NoAgreement { agreeing: 1, needed: 2, faults, .. } = &alone else { panic!("{alone}") };
    assert_eq!(faults.0.len(), 2);
    assert!(matches!(of(&[&new]), Err(AccessError::NoAgreement { agreeing: 1, needed: 2, .. })));
    assert!(matches!(of(&[]), Err(AccessError::NoAgreement { agreeing: 0, .. })));
    let other = list(1, &[("/other", "g")]);
    let split_brain = of(&[&new, &new, &other, &other]);
    assert!(matches!(split_brain, Err(AccessError::Contradiction { about: "access list", .. })), "{split_brain:?}");
}

#[test]
fn a_lying_node_chooses_neither_threshold_nor_list() {
    let (honest, false_one, list0) = (manifest(2, 3), manifest(1, 3), list(0, &[]));
    let lie = list(99, &[("/mallory", "g")]);
    let mut shown = views(&honest, &[Some(list0.clone()), Some(list0.clone()), Some(lie.clone())]);
    if let Ok(seen) = &mut shown[2].answer {
        seen.manifest = false_one.clone();
    }
    assert_eq!(agree(&directory(3, 2), KEY, &shown).expect("two agree").list, list0);
    // With a floor of 1 the manifest that asks for one node would qualify by itself: nothing decides then.
    let contested = agree(&directory(3, 1), KEY, &shown);
    assert!(matches!(contested, Err(AccessError::Contradiction { about: "manifest", .. })), "{contested:?}");
    // Alone with nodes that are away, it is not believed either.
    shown[0].answer = Err(NodeFault::Timeout);
    shown[1].answer = Err(NodeFault::Timeout);
    assert!(agree(&directory(3, 2), KEY, &shown).is_err());
}

#[test]
fn a_repair_brings_only_those_up_to_date_that_missed_the_change() {
    let (manifest, old, new) = (manifest(2, 4), list(3, &[("/acme", "g")]), list(4, &[]));
    let directory = directory(4, 2);
    let shown = views(&manifest, &[Some(new.clone()), Some(old.clone()), Some(new.clone()), None]);
    let repair = plan(&directory, KEY, &shown, None).expect("two agree");
    assert_eq!((&repair.list, numbers(&repair)), (&new, vec![2]));
    assert_eq!(repair.behind[0].1, old.digest());
    assert_eq!(repair.unseen.iter().map(|error| error.node.value()).collect::<Vec<_>>(), [4]);

    let same = views(&manifest, &[Some(new.clone()), Some(new.clone()), Some(new.clone()), Some(new.clone())]);
    let nothing = plan(&directory, KEY, &same, None).expect("all agree");
    assert!(nothing.behind.is_empty() && nothing.unseen.is_empty());

    let one = views(&manifest, &[Some(new.clone()), Some(old.clone()), None, None]);
    assert!(matches!(plan(&directory, KEY, &one, None), Err(AccessError::NoAgreement { .. })));
}

#[test]
fn the_caller_may_say_which_list_is_right_and_versions_still_rise() {
    let (manifest, old, new) = (manifest(2, 3), list(3, &[]), list(4, &[("/mallory", "g")]));
    let directory = directory(3, 2);
    // The later list is wrong: the earlier one comes back under a version of its own, on all nodes.
    let shown = views(&manifest, &[Some(new.clone()), Some(new.clone()), Some(old.clone())]);
    let repair = plan(&directory, KEY, &shown, Some(index(3))).expect("stated");
    assert_eq!((repair.list.version, &repair.list.entries), (5, &old.entries));
    assert_eq!(numbers(&repair), [1, 2, 3]);
    // The same version twice, which nothing decides.
    let other = list(4, &[("/other", "g")]);
    let shown = views(&manifest, &[Some(new.clone()), Some(other), None]);
    assert!(plan(&directory, KEY, &shown, None).is_err());
    let repair = plan(&directory, KEY, &shown, Some(index(1))).expect("stated");
    assert_eq!((repair.list.version, numbers(&repair)), (5, vec![1, 2]));
    assert!(matches!(plan(&directory, KEY, &shown, Some(index(3))), Err(AccessError::NoSource { .. })));
}

#[test]
fn a_node_with_an_impossible_version_is_named_and_does_not_stop_the_repair() {
    let (manifest, good, lie) = (manifest(2, 3), list(3, &[]), list(u64::MAX, &[]));
    let shown = views(&manifest, &[Some(good.clone()), Some(good.clone()), Some(lie)]);
    let repair = plan(&directory(3, 2), KEY, &shown, None).expect("two agree");
    assert_eq!((repair.list.version, repair.behind.len()), (3, 0));
    assert!(repair.unseen[0].to_string().contains("impossible version"), "{}", repair.unseen[0]);
}

#[test]
fn what_takes_something_away_is_a_revocation() {
    let before = list(0, &[("/acme", "lg"), ("/ward", "g")]);
    type Change = fn(&mut AccessList);
    let takes: [Change; 6] = [
        |list| list.entries.truncate(1),
        |list| list.entries[0].may = PermissionsText("l".parse().expect("letters")),
        |list| list.entries[1].who = Grantee::Group("/other".into()),
        |list| list.owner_may = PermissionsText("pdrwl-g-".parse().expect("letters")),
        |list| list.owner = subject("/CN=other"),
        |list| list.entries.clear(),
    ];
    for (position, change) in takes.into_iter().enumerate() {
        let mut after = before.clone();
        change(&mut after);
        assert!(revokes(&before, &after), "change {position}");
    }
    let gives: [Change; 6] = [
        |_| (),
        |list| list.entries.swap(0, 1),
        |list| list.entries[1].may = PermissionsText(Permissions::OWNER),
        |list| list.others_may = PermissionsText("g".parse().expect("letters")),
        |list| list.group = Some("/acme".into()),
        |list| list.owner_may = PermissionsText(Permissions::from_bits(255)),
    ];
    for (position, change) in gives.into_iter().enumerate() {
        let mut after = before.clone();
        change(&mut after);
        assert!(!revokes(&before, &after), "change {position}");
    }
    let mut with_group = before.clone();
    with_group.group = Some("/acme".into());
    with_group.group_may = PermissionsText("g".parse().expect("letters"));
    let mut without = with_group.clone();
    without.group = None;
    assert!(revokes(&with_group, &without));
}
