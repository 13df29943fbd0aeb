//! Fetching keys: m nodes at once, another as soon as one fails or is slower than usual, never waiting for the slowest.
//!
//! A process that goes on fetching keeps a connection open to the node that would be asked next (`spare`).

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use eds_core::{
    api::{Binary, FetchAnswer, FetchRequest, KeyText},
    directory::Node,
    ids::{ClusterId, KeyId, ShareIndex},
    manifest::Manifest,
    sealing::{AwsLcDhKey, Info, ShareList, open_vec},
    sharing::FileSecret,
};
use hyper::body::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::{
    Culprit, FetchError, Keystore, NodeFault, Transport, Want,
    alarm::Alarm,
    gather::{Answer, Gather},
    lock,
    transport::Call,
};

/// A key that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The secret, proven against the first commitment.
    pub secret: FileSecret,
    /// The proven manifest.
    pub manifest: Manifest,
    /// Nodes that answered wrongly on the way.
    pub culprits: Vec<Culprit>,
}

/// A node that takes longer for a handshake, or four times as long as it usually takes to answer, is no good spare.
const ENOUGH_TO_CONNECT: Duration = Duration::from_millis(100);

/// One node that was asked and has not answered.
struct Waiting {
    node: ShareIndex,
    since: Instant,
    until: Instant,
}

type NodeAnswers = Result<Vec<Result<Answer, NodeFault>>, NodeFault>;

impl<T: Transport> Keystore<T> {
    /// Fetches keys; one result for each, in order. At most [`eds_core::api::MAX_BATCH`] keys go into one call.
    pub async fn fetch(&self, wants: &[Want]) -> Vec<Result<Fetched, FetchError>> {
        let keys: Vec<KeyId> = wants.iter().map(|want| want.key).collect();
        let mut gathers: Vec<Gather<'_>> = wants.iter().map(|want| Gather::new(want, self.directory())).collect();
        let mut queue: VecDeque<ShareIndex> =
            self.latencies().order(self.directory().nodes.iter().map(|node| node.number)).into();
        let mut calls: JoinSet<(ShareIndex, Instant, NodeAnswers)> = JoinSet::new();
        let mut waiting: Vec<Waiting> = Vec::new();
        let again = self.spares().fetches_again(Instant::now());
        let alarm = Alarm::new();
        loop {
            let missing = gathers.iter().map(Gather::needed).max().unwrap_or(0);
            if missing == 0 {
                break;
            }
            let now = Instant::now();
            let mut hopeful = waiting.iter().filter(|waiting| waiting.until > now).count();
            while hopeful < missing {
                let Some(node) = queue.pop_front().and_then(|number| self.directory().node(number)) else { break };
                let until = now + self.latencies().patience(node.number);
                waiting.push(Waiting { node: node.number, since: now, until });
                self.ask(&mut calls, node, &keys);
                hopeful += 1;
            }
            if waiting.is_empty() {
                break;
            }
            if let Some(spare) = queue.front().and_then(|number| self.directory().node(*number)).filter(|_| again) {
                self.open_beforehand(spare);
            }
            let patience = waiting.iter().map(|waiting| waiting.until).filter(|until| *until > now).min();
            let too_late = async {
                match patience.filter(|_| !queue.is_empty()) {
                    Some(until) => alarm.at(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(Ok((number, since, answers))) = calls.join_next() => {
                    waiting.retain(|waiting| waiting.node != number);
                    if let Some(node) = self.directory().node(number) {
                        self.hear(&mut gathers, node, since.elapsed(), answers);
                    }
                }
                () = too_late => {}
            }
        }
        for waiting in &waiting {
            // The call ends here, and its connection with it.
            self.spares().lost(waiting.node);
        }
        let now = Instant::now();
        for late in waiting.iter().filter(|waiting| waiting.until <= now && waiting.since < now) {
            self.latencies().let_down(late.node);
        }
        gathers.into_iter().map(Gather::finish).collect()
    }

    fn ask(&self, calls: &mut JoinSet<(ShareIndex, Instant, NodeAnswers)>, node: &Node, keys: &[KeyId]) {
        let transport = Arc::clone(&self.transport);
        let cluster = self.directory().cluster;
        let (node, keys) = (node.clone(), keys.to_vec());
        calls.spawn(async move {
            let since = Instant::now();
            let answers = ask_node(transport.as_ref(), cluster, &node, &keys).await;
            (node.number, since, answers)
        });
    }

    /// Opens a connection to the node that will be asked next, unless there is one, and does not wait for it.
    fn open_beforehand(&self, node: &Node) {
        if !self.spares().is_missing(node.number, Instant::now()) {
            return;
        }
        let (transport, spares, node) = (Arc::clone(&self.transport), Arc::clone(&self.spares), node.clone());
        let enough = ENOUGH_TO_CONNECT.max(self.latencies().patience(node.number) * 4);
        tokio::spawn(async move {
            let call = transport.call(&node, Call { path: "/healthz".into(), body: None });
            if !matches!(tokio::time::timeout(enough, call).await, Ok(Ok(_))) {
                lock(&spares).lost(node.number);
            }
        });
    }

    fn hear(&self, gathers: &mut [Gather<'_>], node: &Node, after: Duration, answers: NodeAnswers) {
        match answers {
            Ok(answers) => {
                self.latencies().answered(node.number, after);
                self.spares().used(node.number, Instant::now());
                for (gather, answer) in gathers.iter_mut().zip(answers) {
                    gather.take(node, answer);
                }
            }
            Err(fault) => {
                self.latencies().let_down(node.number);
                self.spares().lost(node.number);
                for gather in gathers {
                    gather.take(node, Err(fault.clone()));
                }
            }
        }
    }
}

/// Asks one node for its shares and opens the answer with a key made for this call alone.
async fn ask_node(transport: &impl Transport, cluster: ClusterId, node: &Node, keys: &[KeyId]) -> NodeAnswers {
    let bad = |what: &str| NodeFault::BadAnswer(what.into());
    let reply = AwsLcDhKey::generate().map_err(|_| bad("no one-time key could be made"))?;
    let request = FetchRequest {
        keys: keys.iter().copied().map(KeyText).collect(),
        reply_key: Binary(reply.public().as_bytes().to_vec()),
    };
    let body = serde_json::to_vec(&request).map_err(|_| bad("the request could not be written"))?;
    let aad: [u8; 32] = Sha256::digest(&body).into();
    let call = Call { path: "/v1/fetch".into(), body: Some(Bytes::from(body)) };
    let answer = transport.call(node, call).await?;
    let answer: FetchAnswer = serde_json::from_slice(&answer).map_err(|error| bad(&error.to_string()))?;
    if answer.results.len() != keys.len() {
        return Err(bad("the number of results is not that of the keys asked for"));
    }
    let opened = match &answer.sealed {
        None => None,
        Some(sealed) => {
            let info = Info::answer(cluster, node.id);
            Some(open_vec(&reply, &info, &aad, &sealed.0).map_err(|_| bad("its seal does not open"))?)
        }
    };
    let list = match &opened {
        None => None,
        Some(bytes) => Some(ShareList::parse(bytes).map_err(|_| bad("the list of shares is malformed"))?),
    };
    let mut shares = list.iter().flat_map(ShareList::iter);
    let mut answers = Vec::with_capacity(keys.len());
    for (key, result) in keys.iter().zip(answer.results) {
        if result.key.0 != *key {
            return Err(bad("the results are not in the order of the keys asked for"));
        }
        answers.push(match (result.manifest, result.problem) {
            (Some(manifest), None) => {
                let manifest = Manifest::decode(&manifest.0).map_err(|_| NodeFault::FalseManifest);
                let share = shares.next().ok_or_else(|| bad("a share is missing"))?;
                manifest.map(|manifest| Answer { manifest, share })
            }
            (None, Some(problem)) => Err(NodeFault::Refused(Box::new(problem))),
            _ => Err(bad("a result has neither a manifest nor a reason")),
        });
    }
    Ok(answers)
}
