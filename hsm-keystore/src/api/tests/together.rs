//! Fetches that are done together: each is decided, sealed and noted as if it were alone.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use axum::body::Bytes;
use eds_core::{
    api::{Binary, FetchAnswer, FetchRequest, KeyText},
    ids::KeyId,
    sealing::{AwsLcDhKey, Info, ShareList, open_vec},
};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use super::{
    harness::{TestNode, people, person},
    list,
};
use crate::{
    api::{
        ApiError, Word,
        fetch::{Asked, fetch_all},
        trail::Trail,
    },
    audit::{Operation, Outcome},
    policy::AccessList,
    store::AccessChange,
};

/// A call under way.
struct Call {
    key: AwsLcDhKey,
    body: Vec<u8>,
    trail: Arc<Trail>,
    answer: oneshot::Receiver<Result<FetchAnswer, ApiError>>,
}

fn call(caller: &str, keys: &[KeyId], request: u8) -> (Asked, Call) {
    let key = AwsLcDhKey::generate().expect("made");
    let keys = keys.iter().copied().map(KeyText).collect();
    let reply_key = Binary(key.public().as_bytes().to_vec());
    let body = serde_json::to_vec(&FetchRequest { keys, reply_key }).expect("encodes");
    let caller = people()[caller].0.clone().expect("known");
    let trail = Arc::new(Trail::new([request; 16], 0, Operation::FETCH, None));
    trail.caller(&caller);
    let (sender, answer) = oneshot::channel();
    let body_sent = Bytes::from(body.clone());
    let span = tracing::info_span!("request", id = request);
    let asked = Asked { caller, trail: Arc::clone(&trail), body: body_sent, answer: sender, request: span };
    (asked, Call { key, body, trail, answer })
}

impl Call {
    /// The words of the results and the keys of the shares, which open for this call; and that no other's do.
    async fn ended(&mut self, node: &TestNode, others: &[FetchAnswer]) -> (Vec<String>, Vec<KeyId>, FetchAnswer) {
        let answer = (&mut self.answer).await.expect("answered").expect("not refused as a whole");
        let word = |problem: &Option<eds_core::api::Problem>| {
            problem.as_ref().map_or("released", |problem| problem.word()).to_owned()
        };
        let words = answer.results.iter().map(|result| word(&result.problem)).collect();
        let info = Info::answer(node.node.directory.cluster, node.node.id);
        let open = |answer: &FetchAnswer| {
            let sealed = answer.sealed.as_ref()?;
            open_vec(&self.key, &info, &Sha256::digest(&self.body), &sealed.0).ok()
        };
        assert!(others.iter().all(|other| open(other).is_none()), "somebody else's answer opens");
        let list = open(&answer);
        assert_eq!(list.is_some(), answer.sealed.is_some());
        let list = list.map(|list| ShareList::parse(&list).expect("a list").iter().map(|share| share.key).collect());
        (words, list.unwrap_or_default(), answer)
    }
}

#[tokio::test]
async fn each_of_the_fetches_that_are_done_together_is_its_own() {
    let node = TestNode::new();
    let owners = node.store(&AccessList::of_new_key(person("owner"), None), false);
    let friends = node.store(&list("friend", eds_core::permissions::Permissions::from_bits(u8::MAX)), false);
    let nowhere = KeyId::from_bytes([9; 16]);
    let (owner_asks, mut owner) = call("owner", &[owners, friends], 1);
    let (stranger_asks, mut stranger) = call("stranger", &[owners, friends], 2);
    let (friend_asks, mut friend) = call("friend", &[nowhere, friends, owners], 3);
    let (gone_asks, gone) = call("owner", &[owners], 4);
    let (mut wrong_asks, mut wrong) = call("owner", &[owners], 5);
    let (again_asks, mut again) = call("owner", &[owners], 6);
    wrong_asks.body = Bytes::from_static(b"{}");
    drop(gone.answer);
    fetch_all(&node.node, vec![owner_asks, stranger_asks, gone_asks, friend_asks, wrong_asks, again_asks]);

    let (words, shares, owners_answer) = owner.ended(&node, &[]).await;
    assert_eq!((words, shares), (vec!["released".into(), "not-permitted".into()], vec![owners]));
    let (words, shares, _) = stranger.ended(&node, std::slice::from_ref(&owners_answer)).await;
    assert_eq!((words, shares), (vec!["not-permitted".to_owned(); 2], vec![]));
    let (words, shares, _) = friend.ended(&node, std::slice::from_ref(&owners_answer)).await;
    assert_eq!(words, ["key-not-found", "released", "not-permitted"]);
    assert_eq!(shares, [friends]);
    let (words, shares, _) = again.ended(&node, &[owners_answer]).await;
    assert_eq!((words, shares), (vec!["released".to_owned()], vec![owners]));
    let refused = wrong.answer.try_recv().expect("answered").expect_err("not understood");
    assert_eq!(refused.word(), Word::BadRequest);

    // What was decided for each call is in the log before its answer is, and its trail has nothing more to write.
    let written = node.decisions();
    let noted = |call: &Call, request: u8| {
        let mine = written.iter().filter(|decision| decision.request.0 == [request; 16]);
        let mut all: Vec<_> = mine
            .flat_map(|decision| {
                let allowed = decision.outcome == Outcome::Allowed;
                decision.keys.iter().map(move |key| (*key, allowed))
            })
            .collect();
        all.sort_unstable();
        assert!(call.trail.finish(None).is_empty());
        all
    };
    let sorted = |mut all: Vec<(KeyId, bool)>| {
        all.sort_unstable();
        all
    };
    assert_eq!(noted(&owner, 1), sorted(vec![(owners, true), (friends, false)]));
    assert_eq!(noted(&stranger, 2), sorted(vec![(owners, false), (friends, false)]));
    assert_eq!(noted(&friend, 3), sorted(vec![(nowhere, false), (friends, true), (owners, false)]));
    assert_eq!(noted(&again, 6), [(owners, true)]);
}

#[tokio::test]
async fn a_fetch_that_is_refused_before_it_is_decided_names_its_keys_in_the_log() {
    let node = TestNode::new();
    let callers = people();
    let key = node.store(&AccessList::of_new_key(person("owner"), None), false);
    let keys = vec![KeyText(key), KeyText(key)];
    let good = AwsLcDhKey::generate().expect("made").public().as_bytes().to_vec();
    for (what, reply_key) in [("a key twice", good), ("a key twice, and no point", vec![4; 65])] {
        let request = FetchRequest { keys: keys.clone(), reply_key: Binary(reply_key) };
        let refused = node.post::<FetchAnswer>(&callers["owner"], "/v1/fetch", &request).await.expect_err(what);
        assert_eq!(refused.word.as_deref(), Some("invalid-value"), "{what}");
        let last = node.decisions().pop().expect("logged");
        assert_eq!((last.operation, last.keys), (Operation::FETCH, vec![key, key]), "{what}");
        assert_eq!(last.outcome, Outcome::Refused("invalid-value".into()), "{what}");
    }
}

/// A line, with the request that it is logged for.
type Line = (Option<u64>, String);

/// What is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Line>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).expect("there").extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let request = context.event_span(event).and_then(|span| span.extensions().get::<Fields>()?.id);
        self.0.lock().expect("unpoisoned").push((request, fields.message));
    }
}

#[derive(Default)]
struct Fields {
    id: Option<u64>,
    message: String,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "id" {
            self.id = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

#[tokio::test]
async fn what_is_logged_of_fetches_that_are_done_together_names_the_request_of_each() {
    let node = TestNode::new();
    let lines = Lines::default();
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let owners = node.store(&AccessList::of_new_key(person("owner"), None), false);
    let altered = node.store(&AccessList::of_new_key(person("owner"), None), false);
    let stored = node.node.store.read(&[altered]).expect("reads").remove(0).expect("there").body.expect("whole");
    let mut new = stored.access.clone();
    // The HMAC and the voucher: one of them alone is believed.
    new.mac.iter_mut().for_each(|byte| *byte ^= 1);
    let change = AccessChange { key: altered, seen: stored.access, new };
    node.node.store.change_access(&[change], 1).expect("changes");
    let (first, _first) = call("stranger", &[owners], 1);
    let (second, _second) = call("owner", &[owners, altered], 2);
    let (third, _third) = call("friend", &[owners], 3);
    lines.0.lock().expect("unpoisoned").clear();
    // Tests beside this one, which nobody listens to, may have decided for all that these lines are of no interest.
    tracing::callsite::rebuild_interest_cache();
    fetch_all(&node.node, vec![first, second, third]);
    let logged = lines.0.lock().expect("unpoisoned").clone();
    let of =
        |request: u64, message: &str| logged.iter().any(|(of, line)| *of == Some(request) && line.contains(message));
    assert!(of(1, "refused") && of(3, "refused"), "{logged:?}");
    assert!(of(2, "allowed") && of(2, "the access list was altered"), "{logged:?}");
    assert!(logged.iter().all(|(of, _)| of.is_some()), "a line is of no request: {logged:?}");
}
