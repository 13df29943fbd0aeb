//! Which answers make a key, and who contradicts: the decisions of a fetch, without any I/O.
//!
//! A manifest counts when it fits the key anchor and its shares open the first commitment, which only the true secret
//! does. Without an anchor it counts when max(m, floor) nodes return it and no other manifest reaches that. A node whose
//! share does not fit its digest, or whose manifest loses against the proven one, is named.

use eds_core::{
    directory::{Directory, Node},
    ids::{KeyId, ShareIndex, Threshold},
    manifest::Manifest,
    sharing::{FileSecret, ShareRecord, check_digest, combine},
};

use super::{FetchError, NodeError, NodeFault, error::Faults, fetch::Fetched};

/// What a caller knows of a key before it asks.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// The key anchor in the header of a container.
    Anchor([u8; 32]),
    /// The manifest that the catalog recorded at registration.
    Recorded(Box<Manifest>),
    /// Nothing but the id: enough nodes must agree.
    Agreement,
}

/// A key to fetch.
#[derive(Clone, Debug)]
pub struct Want {
    /// Its id.
    pub key: KeyId,
    /// What is known of it.
    pub evidence: Evidence,
}

/// What a node answered for one key.
pub(super) struct Answer {
    pub(super) manifest: Manifest,
    pub(super) share: ShareRecord,
}

/// The state of fetching one key.
pub(super) struct Gather<'a> {
    want: &'a Want,
    directory: &'a Directory,
    candidates: Vec<Candidate>,
    faults: Vec<NodeError>,
    secret: Option<(FileSecret, Manifest)>,
    /// Nodes that may still answer, known to the caller; only used to wait for all of them when they must agree.
    unheard: usize,
}

struct Candidate {
    manifest: Manifest,
    digest: [u8; 32],
    shares: Vec<ShareRecord>,
    nodes: Vec<Node>,
}

impl<'a> Gather<'a> {
    pub(super) fn new(want: &'a Want, directory: &'a Directory) -> Self {
        let mut gather = Self {
            want,
            directory,
            candidates: Vec::new(),
            faults: Vec::new(),
            secret: None,
            unheard: directory.nodes.len(),
        };
        if let Evidence::Recorded(manifest) = &want.evidence {
            gather.candidates.push(Candidate::new(manifest.as_ref().clone()));
        }
        gather
    }

    /// How many more good answers are needed at least; 0 when the key is there.
    pub(super) fn needed(&self) -> usize {
        if self.secret.is_some() {
            return 0;
        }
        if matches!(self.want.evidence, Evidence::Agreement) {
            return self.unheard;
        }
        let guess = || {
            let nodes = u8::try_from(self.directory.active().count()).unwrap_or(u8::MAX);
            let usual = Threshold::majority(nodes).map_or(1, Threshold::needed);
            usize::from(usual.max(self.directory.floor))
        };
        self.candidates.iter().map(Candidate::missing).min().unwrap_or_else(guess).max(1)
    }

    /// Takes the answer of one node.
    pub(super) fn take(&mut self, node: &Node, answer: Result<Answer, NodeFault>) {
        self.unheard = self.unheard.saturating_sub(1);
        if let Err(fault) = answer.and_then(|answer| self.weigh(node, answer)) {
            self.blame(node, fault);
        }
        self.decide();
    }

    /// The end: the key with the nodes that answered wrongly, or why there is none.
    pub(super) fn finish(mut self) -> Result<Fetched, FetchError> {
        let key = self.want.key;
        if let Some((secret, manifest)) = self.secret {
            let culprits = self.faults.into_iter().filter(|error| error.fault.is_lie()).collect();
            return Ok(Fetched { secret, manifest, culprits });
        }
        let contested = self.candidates.iter().filter(|candidate| candidate.missing() == 0).count() > 1;
        let best = self.candidates.iter().min_by_key(|candidate| candidate.missing());
        let (good, needed) =
            best.map_or((0, self.needed()), |best| (best.shares.len(), usize::from(best.manifest.threshold.needed())));
        self.faults.sort_by_key(|error| error.node);
        let faults = Faults(self.faults);
        if contested {
            return Err(FetchError::Contradiction { key, faults });
        }
        Err(FetchError::NotEnough { key, good, needed, faults })
    }

    /// Puts an answer with the others that say the same.
    fn weigh(&mut self, node: &Node, answer: Answer) -> Result<(), NodeFault> {
        let Answer { manifest, share } = answer;
        let belongs = manifest.key == self.want.key
            && manifest.cluster == self.directory.cluster
            && self.anchor().is_none_or(|anchor| manifest.anchor() == anchor);
        if !belongs {
            return Err(NodeFault::FalseManifest);
        }
        if share.index() != node.number || check_digest(&manifest, &share).is_err() {
            return Err(NodeFault::BadShare);
        }
        let digest = manifest.digest();
        let candidate = match self.candidates.iter_mut().position(|candidate| candidate.digest == digest) {
            Some(position) => self.candidates.get_mut(position),
            None => {
                self.candidates.push(Candidate::new(manifest));
                self.candidates.last_mut()
            }
        };
        if let Some(candidate) = candidate.filter(|candidate| !candidate.holds(node.number)) {
            candidate.shares.push(share);
            candidate.nodes.push(node.clone());
        }
        Ok(())
    }

    /// Combines when a candidate has enough shares; a candidate that does not open its own commitment is false.
    fn decide(&mut self) {
        if self.secret.is_some() {
            return self.blame_losers();
        }
        if matches!(self.want.evidence, Evidence::Agreement) {
            return self.decide_by_agreement();
        }
        while let Some(position) = self.candidates.iter().position(|candidate| candidate.missing() == 0) {
            let candidate = self.candidates.swap_remove(position);
            if self.open(candidate) {
                return self.blame_losers();
            }
        }
    }

    fn decide_by_agreement(&mut self) {
        if self.unheard > 0 {
            return;
        }
        let floor = usize::from(self.directory.floor);
        let agreed = |candidate: &Candidate| {
            candidate.nodes.len() >= floor.max(usize::from(candidate.manifest.threshold.needed()))
        };
        if self.candidates.iter().filter(|candidate| agreed(candidate)).count() != 1 {
            return;
        }
        if let Some(position) = self.candidates.iter().position(agreed) {
            let candidate = self.candidates.swap_remove(position);
            if self.open(candidate) {
                self.blame_losers();
            }
        }
    }

    fn open(&mut self, candidate: Candidate) -> bool {
        match combine(&candidate.manifest, &candidate.shares) {
            Ok(secret) => {
                self.secret = Some((secret, candidate.manifest));
                true
            }
            Err(_) => {
                for node in &candidate.nodes {
                    self.blame(node, NodeFault::FalseManifest);
                }
                false
            }
        }
    }

    fn blame_losers(&mut self) {
        for candidate in std::mem::take(&mut self.candidates) {
            for node in &candidate.nodes {
                self.blame(node, NodeFault::FalseManifest);
            }
        }
    }

    fn blame(&mut self, node: &Node, fault: NodeFault) {
        self.faults.push(NodeError { node: node.number, url: node.url.as_str().into(), fault });
    }

    fn anchor(&self) -> Option<[u8; 32]> {
        match &self.want.evidence {
            Evidence::Anchor(anchor) => Some(*anchor),
            Evidence::Recorded(manifest) => Some(manifest.anchor()),
            Evidence::Agreement => None,
        }
    }
}

impl Candidate {
    fn new(manifest: Manifest) -> Self {
        Self { digest: manifest.digest(), manifest, shares: Vec::new(), nodes: Vec::new() }
    }

    fn missing(&self) -> usize {
        usize::from(self.manifest.threshold.needed()).saturating_sub(self.shares.len())
    }

    fn holds(&self, number: ShareIndex) -> bool {
        self.nodes.iter().any(|node| node.number == number)
    }
}
