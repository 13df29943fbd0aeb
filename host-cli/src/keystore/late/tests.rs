//! Registrations at a quorum, and what is delivered late, against nodes in memory.

use std::sync::Arc;

use eds_core::{
    api::KeyState,
    directory::Directory,
    ids::{ClusterId, NodeId},
    manifest::Point,
    sealing::{Info, ShareList, open_vec},
    sharing::FileSecret,
};

use super::*;
use crate::{
    error::Kind,
    keystore::{
        Evidence, NewKey, Quorum, RegisterError, Terms, Want,
        tests::nodes::{FakeNodes, Mood, Nodes, REGISTRANT, cluster},
    },
};

/// Two keys that were registered while a node was away.
struct Story {
    client: Keystore<Nodes>,
    nodes: Arc<FakeNodes>,
    keys: Vec<KeyId>,
    secrets: Vec<[u8; 32]>,
    messages: Vec<Message>,
}

fn at(quorum: u8) -> Terms {
    Terms { quorum: Quorum::Nodes(quorum), ..Terms::default() }
}

fn input(secret: &FileSecret, key: KeyId) -> [u8; 32] {
    *secret.input_key("file", key).as_bytes()
}

/// Registers with the last of `count` nodes away.
async fn registered(count: u16, quorum: u8) -> Story {
    let (client, nodes) = cluster(count, 1);
    nodes.set(count, Mood::Away);
    let new = [NewKey::random(), NewKey::random()];
    let keys: Vec<KeyId> = new.iter().map(|key| key.id).collect();
    let secrets = new.iter().map(|key| input(&key.secret, key.id)).collect();
    let prepared = client.prepare(&new, at(quorum)).expect("fits");
    let mut messages = Vec::new();
    let keep = |kept: &[Message]| {
        // Nothing is confirmed before it is kept.
        for (node, key) in (1..count).flat_map(|node| keys.iter().map(move |key| (node, *key))) {
            assert_eq!(nodes.look(node, key, |held| held.state), Some(KeyState::Pending));
        }
        messages = kept.to_vec();
        Ok::<_, RegisterError>(())
    };
    let done = client.register_at_quorum(prepared, keep).await.expect("enough nodes");
    assert_eq!(done.late.iter().map(|error| error.node.value()).collect::<Vec<_>>(), [count]);
    assert_eq!(messages.iter().map(|message| message.node.value()).collect::<Vec<_>>(), [count]);
    Story { client, nodes, keys, secrets, messages }
}

impl Story {
    async fn deliver_as(&self, client: &Keystore<Nodes>, acknowledged: bool) -> Fate {
        let kept = [Kept { message: &self.messages[0], acknowledged }];
        client.deliver(&kept, &mut Away::new()).await.remove(0)
    }

    async fn deliver(&self) -> Fate {
        self.deliver_as(&self.client, true).await
    }

    fn state(&self, node: u16, key: usize) -> Option<KeyState> {
        self.nodes.look(node, self.keys[key], |held| held.state)
    }

    /// What keeps the message from ever being delivered by a client with this directory.
    async fn obstacle(&self, change: impl FnOnce(&mut Directory), registrant: [u8; 32]) -> String {
        let mut directory = self.client.directory().clone();
        change(&mut directory);
        let last = self.messages[0].node.value();
        self.nodes.calls_since_last_time();
        let fate = self.deliver_as(&self.nodes.client(directory, registrant), true).await;
        let Fate::Stays(obstacle) = fate else { panic!("{fate:?}") };
        assert!(obstacle.is_final(), "{obstacle}");
        // It was asked for the access list, perhaps, and nothing was stored there.
        assert_eq!((self.state(last, 0), self.state(last, 1)), (None, None));
        obstacle.to_string()
    }
}

#[tokio::test]
async fn a_node_that_was_away_gets_its_shares_later_and_opens_keys_with_one_other() {
    let story = registered(3, 2).await;
    // While it is away, the message stays, and says why.
    let Fate::Stays(Obstacle::Node(error)) = story.deliver().await else { panic!("the node is away") };
    assert_eq!(error.node.value(), 3);
    story.nodes.set(3, Mood::Honest);
    for _ in 0..2 {
        assert!(matches!(story.deliver().await, Fate::Delivered(differing) if differing.is_empty()));
        assert_eq!((story.state(3, 0), story.state(3, 1)), (Some(KeyState::Active), Some(KeyState::Active)));
    }
    story.nodes.set(1, Mood::Away);
    for (key, secret) in story.keys.iter().zip(&story.secrets) {
        let want = Want { key: *key, evidence: Evidence::Agreement };
        let fetched = story.client.fetch(&[want]).await.remove(0).expect("two nodes");
        assert_eq!(input(&fetched.secret, *key), *secret);
    }
}

#[tokio::test]
async fn what_waits_is_sealed_to_its_node() {
    let story = registered(3, 2).await;
    let message = &story.messages[0];
    let bytes = serde_json::to_vec(&message.request).expect("JSON");
    let aad = eds_core::registrant::registration_aad(message.manifests().iter().map(Manifest::digest), &REGISTRANT);
    let info = Info::share(message.manifests()[0].cluster, message.node_id);
    let list = open_vec(&story.nodes.keys[&3], &info, &aad, &message.request.sealed.0).expect("its node opens it");
    let shares: Vec<_> = ShareList::parse(&list).expect("a list").iter().collect();
    assert_eq!(shares.len(), 2);
    for share in &shares {
        let value = *share.share.value();
        for form in [value.to_vec(), <base64ct::Base64 as base64ct::Encoding>::encode_string(&value).into_bytes()] {
            assert!(!bytes.windows(form.len()).any(|window| window == form), "a share can be read");
        }
    }
    assert!(open_vec(&story.nodes.keys[&1], &info, &aad, &message.request.sealed.0).is_err());
}

#[tokio::test]
async fn the_node_comes_up_with_the_access_list_that_the_others_hold() {
    let story = registered(3, 2).await;
    // Somebody else was given the first key, and its registrant nothing was left.
    for node in [1, 2] {
        story.nodes.look(node, story.keys[0], |held| {
            held.list.version = 4;
            held.list.owner.name.0 = b"bob".to_vec();
        });
    }
    story.nodes.set(3, Mood::Honest);
    assert!(matches!(story.deliver().await, Fate::Delivered(differing) if differing.is_empty()));
    let list = story.nodes.look(3, story.keys[0], |held| held.list.clone()).expect("held");
    assert_eq!((list.version, list.owner.name.0.as_slice()), (4, b"bob".as_slice()));
    assert_eq!(story.nodes.look(3, story.keys[1], |held| held.list.version), Some(0));
    // From the first moment: not repaired afterwards.
    assert_eq!(story.nodes.look(3, story.keys[0], |held| held.came_with), Some(4));
}

#[tokio::test]
async fn nothing_is_delivered_while_the_others_do_not_agree_who_may_use_the_key() {
    let story = registered(3, 2).await;
    story.nodes.set(3, Mood::Honest);
    story.nodes.look(1, story.keys[0], |held| held.list.version = 4);
    let fate = story.deliver().await;
    assert!(matches!(&fate, Fate::Stays(obstacle @ Obstacle::AccessList(_)) if !obstacle.is_final()), "{fate:?}");
    assert_eq!((story.state(3, 0), story.state(3, 1)), (None, None));
    // One of them cannot be asked.
    story.nodes.look(1, story.keys[0], |held| held.list.version = 0);
    story.nodes.set(1, Mood::Away);
    assert!(matches!(story.deliver().await, Fate::Stays(Obstacle::AccessList(_))));
    story.nodes.set(1, Mood::Honest);
    assert!(matches!(story.deliver().await, Fate::Delivered(_)));
}

#[tokio::test]
async fn a_change_that_the_node_missed_while_it_was_confirmed_is_repaired() {
    let story = registered(3, 2).await;
    story.nodes.set(3, Mood::Honest);
    assert!(matches!(story.deliver().await, Fate::Delivered(_)));
    for node in [1, 2] {
        story.nodes.look(node, story.keys[0], |held| held.list.version = 1);
    }
    // Delivered again after a crash: it is confirmed already, so the registration changes nothing; the comparison does.
    assert!(matches!(story.deliver().await, Fate::Delivered(differing) if differing.is_empty()));
    assert_eq!(story.nodes.look(3, story.keys[0], |held| held.list.version), Some(1));
}

#[tokio::test]
async fn what_was_deleted_is_not_delivered() {
    let story = registered(3, 2).await;
    // One key of the two: the other is delivered, and this one is a tombstone there.
    story.client.unregister(&story.keys[..1]).await;
    story.nodes.set(3, Mood::Honest);
    assert!(matches!(story.deliver().await, Fate::Delivered(_)));
    assert_eq!((story.state(3, 0), story.state(3, 1)), (None, Some(KeyState::Active)));
    // Again after a crash, although its tombstone makes the node refuse the message.
    assert!(matches!(story.deliver().await, Fate::Delivered(_)));
    let all = registered(3, 2).await;
    all.client.unregister(&all.keys).await;
    all.nodes.set(3, Mood::Honest);
    assert!(matches!(all.deliver().await, Fate::Deleted));
    assert_eq!((all.state(3, 0), all.state(3, 1)), (None, None));
}

#[tokio::test]
async fn a_key_that_some_nodes_have_deleted_is_neither_delivered_nor_given_up() {
    let story = registered(4, 3).await;
    story.nodes.set(2, Mood::Away);
    story.client.unregister(&story.keys).await;
    story.nodes.set(4, Mood::Honest);
    for mood in [Mood::Away, Mood::Honest] {
        story.nodes.set(2, mood);
        let fate = story.deliver().await;
        let Fate::Stays(Obstacle::HalfDeleted { nodes, .. }) = &fate else { panic!("{fate:?}") };
        assert_eq!(nodes.iter().map(|node| node.value()).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(story.state(4, 0), None);
    }
    story.client.unregister(&story.keys).await;
    assert!(matches!(story.deliver().await, Fate::Deleted));
}

#[tokio::test]
async fn a_registration_that_was_cut_off_before_it_was_confirmed_is_taken_back() {
    let story = registered(3, 2).await;
    for (node, key) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
        story.nodes.look(node, story.keys[key], |held| held.state = KeyState::Pending);
    }
    // One node cannot be asked: it may have been confirmed there.
    story.nodes.set(2, Mood::Away);
    assert!(matches!(story.deliver_as(&story.client, false).await, Fate::Stays(Obstacle::CutOff)));
    story.nodes.set(2, Mood::Honest);
    assert!(matches!(story.deliver_as(&story.client, false).await, Fate::TakenBack));
    for node in 1..=3 {
        assert_eq!((story.state(node, 0), story.state(node, 1)), (None, None));
    }
}

#[tokio::test]
async fn a_registration_that_one_node_has_confirmed_is_finished() {
    for acknowledged in [false, true] {
        let story = registered(3, 2).await;
        let confirmed = if acknowledged { KeyState::Pending } else { KeyState::Active };
        for key in 0..2 {
            story.nodes.look(1, story.keys[key], |held| held.state = KeyState::Pending);
            // Of one that was acknowledged, nothing is ever taken back.
            story.nodes.look(2, story.keys[key], |held| held.state = confirmed);
        }
        story.nodes.set(3, Mood::Honest);
        let fate = story.deliver_as(&story.client, acknowledged).await;
        assert!(matches!(fate, Fate::Delivered(_)), "{fate:?}");
        for node in 1..=3 {
            assert_eq!((story.state(node, 0), story.state(node, 1)), (Some(KeyState::Active), Some(KeyState::Active)));
        }
    }
}

#[tokio::test]
async fn a_message_that_no_node_can_open_any_more_is_named() {
    let story = registered(3, 2).await;
    story.nodes.set(3, Mood::Honest);
    let gone = story.obstacle(|directory| directory.nodes.truncate(2), REGISTRANT).await;
    assert!(gone.contains("node 3 takes no shares any more"), "{gone}");
    let retired = story.obstacle(|directory| directory.nodes[2].active = false, REGISTRANT).await;
    assert!(retired.contains("node 3 takes no shares any more"), "{retired}");
    let rekeyed = story.obstacle(|directory| directory.nodes[2].transport_key = Point([3; 33]), REGISTRANT).await;
    assert!(rekeyed.contains("node 3 has another key"), "{rekeyed}");
    let renewed = story.obstacle(|directory| directory.nodes[2].id = NodeId::from_bytes([9; 16]), REGISTRANT).await;
    assert!(renewed.contains("node 3 has another key"), "{renewed}");
    let floor = story.obstacle(|directory| directory.floor = 3, REGISTRANT).await;
    assert!(floor.contains("2 shares open its keys, and the cluster asks for at least 3"), "{floor}");
    let elsewhere = story.obstacle(|directory| directory.cluster = ClusterId::from_bytes([8; 16]), REGISTRANT).await;
    assert!(elsewhere.contains("it is for cluster"), "{elsewhere}");
    let other = story.obstacle(|_| {}, [6; 32]).await;
    assert!(other.contains("nobody but its registrant"), "{other}");
    // Another address is no other node.
    let mut directory = story.client.directory().clone();
    directory.nodes[2].url = "https://moved".try_into().expect("fits");
    directory.version += 1;
    let moved = story.nodes.client(directory, REGISTRANT);
    assert!(matches!(story.deliver_as(&moved, true).await, Fate::Delivered(_)));
}

#[tokio::test]
async fn a_quorum_is_between_the_threshold_and_all() {
    let (client, _) = cluster(5, 1);
    for (needed, quorum, good) in
        [(3, 2, false), (3, 3, true), (3, 5, true), (3, 6, false), (1, 0, false), (1, 1, true)]
    {
        let terms = Terms { needed: Some(needed), quorum: Quorum::Nodes(quorum) };
        let prepared = client.prepare(&[NewKey::random()], terms);
        assert_eq!(prepared.is_ok(), good, "m {needed}, q {quorum}");
        if let Err(error) = prepared {
            assert!(matches!(error, RegisterError::Quorum { .. }) && error.kind() == Kind::Usage, "{error}");
        }
    }
}

#[tokio::test]
async fn with_fewer_than_the_quorum_nothing_is_registered_and_nothing_kept() {
    for moods in [[Mood::Away, Mood::Away], [Mood::Refuses("share-rejected"), Mood::Honest]] {
        let (client, nodes) = cluster(3, 1);
        nodes.set(2, moods[0]);
        nodes.set(3, moods[1]);
        let key = NewKey::random();
        let prepared = client.prepare(std::slice::from_ref(&key), at(2)).expect("fits");
        let keep = |_: &[Message]| -> Result<(), RegisterError> { panic!("nothing is to be kept") };
        let error = client.register_at_quorum(prepared, keep).await.expect_err("refused");
        assert!(error.to_string().contains("2 of the 3 nodes must store their shares"), "{error}");
        assert_eq!(nodes.look(1, key.id, |_| ()), None);
    }
}

#[tokio::test]
async fn who_demands_all_gets_all_or_nothing_whatever_the_keys_were_prepared_for() {
    let (client, nodes) = cluster(3, 1);
    nodes.set(3, Mood::Away);
    let key = NewKey::random();
    let prepared = client.prepare(std::slice::from_ref(&key), at(2)).expect("fits");
    let error = client.register(prepared).await.expect_err("one node is away");
    assert!(error.to_string().contains("every node must store its share"), "{error}");
    assert_eq!(nodes.look(1, key.id, |_| ()), None);
}

#[tokio::test]
async fn what_cannot_be_kept_is_taken_back() {
    let (client, nodes) = cluster(3, 1);
    nodes.set(3, Mood::Away);
    let key = NewKey::random();
    let prepared = client.prepare(std::slice::from_ref(&key), at(2)).expect("fits");
    let full = RegisterError::Core(eds_core::Error::BufferTooSmall);
    client.register_at_quorum(prepared, |_| Err(full)).await.expect_err("the disk is full");
    assert_eq!((nodes.look(1, key.id, |_| ()), nodes.look(2, key.id, |_| ())), (None, None));
}
