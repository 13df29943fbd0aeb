//! The decision against a table written by hand from the rules, and its properties over every set of permissions.

use super::*;

fn subject(authority: &str, name: &str) -> Subject {
    Subject {
        kind: "x509".into(),
        namespace: authority.as_bytes().into(),
        name: name.as_bytes().into(),
        display: format!("/CN={name}"),
    }
}

/// One list in which every kind of rule gives something that no other gives.
fn sample() -> AccessList {
    AccessList {
        owner: subject("ca", "owner"),
        group: Some("/ward".into()),
        owner_may: permissions("p-------"),
        group_may: permissions("-d------"),
        others_may: permissions("--r-----"),
        entries: vec![
            (Grantee::Subject(subject("ca", "friend")), permissions("----l-g-")),
            (Grantee::Group("/research".into()), permissions("----l---")),
            (Grantee::Subject(subject("ca", "friend")), permissions("-------s")),
            (Grantee::Subject(subject("ca", "owner")), permissions("------g-")),
        ],
        version: 7,
    }
}

fn permissions(text: &str) -> Permissions {
    text.parse().expect("letters")
}

#[test]
fn the_printed_form_is_the_originals() {
    assert_eq!(Permissions::OWNER.to_string(), "pdrwl-gs");
    assert_eq!(Permissions::NONE.to_string(), "--------");
    assert_eq!(Permissions::from_bits(1 | 2 | 64).to_string(), "pd----g-");
    assert_eq!(Permissions::from_bits(32 | 16).to_string(), "----lx--");
    let list = AccessList::of_new_key(subject("ca", "owner"), None);
    assert_eq!(list.base_permissions(), "user pdrwl-gs, group --------, other --------");
}

/// What each caller may do with [`sample`], by hand: one row a caller, one column a permission, in printed order
/// `p d r w l x g s`. `A` administrator, `U` owner, `G` group, `O` others, 0–3 the entry, `.` refused.
const TABLE: [(&str, &str, &[&str], bool, &str); 12] = [
    ("ca", "owner", &[], false, "U.O...3."),
    ("ca", "owner", &["/ward"], false, "UGO...3."),
    ("ca", "owner", &[], true, "AAAAAAAA"),
    ("ca", "member", &["/ward"], false, ".GO....."),
    ("ca", "member", &["/other", "/ward"], false, ".GO....."),
    ("ca", "friend", &[], false, "..O.0.02"),
    ("ca", "friend", &["/research", "/ward"], false, ".GO.0.02"),
    ("ca", "researcher", &["/research"], false, "..O.1..."),
    ("ca", "stranger", &[], false, "..O....."),
    ("ca", "stranger", &["/ward/Role=x", "/WARD", "ward"], false, "..O....."),
    ("other ca", "owner", &[], false, "..O....."),
    ("other ca", "friend", &[], false, "..O....."),
];

#[test]
fn the_decision_follows_the_table() {
    let list = sample();
    for (authority, name, groups, administrator, row) in TABLE {
        let subject = subject(authority, name);
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let caller = Caller { subject: &subject, groups: &groups, administrator };
        assert_eq!(row.len(), LETTERS.len());
        for ((permission, letter), expected) in LETTERS.iter().zip(row.chars()) {
            let expected = match expected {
                'A' => Some(Rule::Administrator),
                'U' => Some(Rule::Owner),
                'G' => Some(Rule::Group),
                'O' => Some(Rule::Others),
                '.' => None,
                entry => Some(Rule::Entry(entry.to_digit(10).expect("a digit") as usize)),
            };
            let decided = decide(&list, caller, *permission);
            assert_eq!(decided, expected, "{authority}/{name} {groups:?} {letter}");
        }
    }
}

#[test]
fn a_new_key_is_its_owners_alone() {
    let list = AccessList::of_new_key(subject("ca", "owner"), Some("/ward".into()));
    for (permission, letter) in LETTERS {
        let may = |name: &str, groups: &[String]| {
            decide(&list, Caller { subject: &subject("ca", name), groups, administrator: false }, permission).is_some()
        };
        assert_eq!(may("owner", &[]), letter != 'x');
        assert!(!may("stranger", &["/ward".to_owned()]));
    }
}

#[test]
fn a_group_of_nobody_is_held_by_nobody() {
    let mut list = sample();
    list.group = None;
    list.group_may = Permissions::from_bits(255);
    let stranger = subject("ca", "stranger");
    for groups in [vec![], vec![String::new()], vec!["/ward".to_owned()]] {
        let caller = Caller { subject: &stranger, groups: &groups, administrator: false };
        assert_eq!(decide(&list, caller, Permission::Delete), None);
    }
}

#[test]
fn every_single_bit_gives_exactly_its_permission() {
    let owner = subject("ca", "owner");
    for bits in 0..=u8::MAX {
        let mut list = AccessList::of_new_key(owner.clone(), None);
        list.owner_may = Permissions::from_bits(bits);
        for (position, permission) in [1u8, 2, 4, 8, 16, 32, 64, 128].into_iter().zip([
            Permission::Change,
            Permission::Delete,
            Permission::Read,
            Permission::Write,
            Permission::Execute,
            Permission::List,
            Permission::Fetch,
            Permission::SetMetadata,
        ]) {
            let caller = Caller { subject: &owner, groups: &[], administrator: false };
            assert_eq!(decide(&list, caller, permission).is_some(), bits & position != 0);
        }
    }
}

#[test]
fn names_are_compared_encoded_and_never_by_their_display_form() {
    let mut twin = subject("ca", "stranger");
    twin.display = "/CN=owner".into();
    let list = sample();
    let caller = Caller { subject: &twin, groups: &[], administrator: false };
    assert_eq!(decide(&list, caller, Permission::Change), None);
    let mut renamed = subject("ca", "owner");
    renamed.display = "somebody".into();
    let caller = Caller { subject: &renamed, groups: &[], administrator: false };
    assert_eq!(decide(&list, caller, Permission::Change), Some(Rule::Owner));
}
