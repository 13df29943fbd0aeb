//! `eds key status` and `eds key confirm`: what the key servers hold of a key.

use std::fmt::Write as _;

use clap::Args;
use eds_core::{
    api::{KeyInfo, KeyState},
    ids::KeyId,
    manifest::Manifest,
};

use super::{Options, resolve};
use crate::{
    Error,
    config::Config,
    journey::Nodes,
    keystore::{NodeFault, NodeView},
    output,
    queue::{Contents, Queue, moment},
};

/// The arguments of `eds key status`.
#[derive(Args, Debug)]
pub struct Status {
    /// A key, or an image or file of the catalog
    #[arg(value_name = "ID")]
    id: String,
}

/// The arguments of `eds key confirm`.
#[derive(Args, Debug)]
pub struct Confirm {
    /// A key, or an image or file of the catalog
    #[arg(value_name = "ID")]
    id: String,
}

impl Status {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let key = resolve(&self.id, &config)?;
        let nodes = Nodes::open(&config)?;
        let mut views = nodes.key_status(key);
        for entry in of_key(&config, key).entries {
            let late = views.iter_mut().find(|view| view.node.number == entry.message.node);
            if let Some(view) = late
                && let Err(there) = &view.answer
            {
                let fault = NodeFault::Waiting { since: moment(entry.since), there: Box::new(there.clone()) };
                view.answer = Err(fault);
            }
        }
        output::print(&describe(key, &views))?;
        verdict(key, views)
    }
}

impl Confirm {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let key = resolve(&self.id, &config)?;
        let mut untold = Nodes::open(&config)?.confirm(&[key]);
        // What waits for a node is confirmed there when it is delivered.
        let waiting = of_key(&config, key).by_node();
        untold.retain(|error| !(error.fault.is("key-not-found") && waiting.contains_key(&error.node)));
        match untold {
            untold if untold.is_empty() => Ok(()),
            untold => Err(Error::NotEverywhere { key, nodes: untold }),
        }
    }
}

/// What waits of a key. A queue that cannot be used does not hide what the nodes say; the last line of the command tells.
fn of_key(config: &Config, key: KeyId) -> Contents {
    let queue = Queue::open_if_there(&config.state).ok().flatten();
    queue.and_then(|queue| queue.of_key(key).ok()).unwrap_or_default()
}

fn describe(key: KeyId, views: &[NodeView<KeyInfo>]) -> String {
    let mut text = format!("key {key}\n");
    for view in views {
        let said = match &view.answer {
            Ok(info) => {
                let manifest = info.manifest.as_ref().and_then(|bytes| Manifest::decode(&bytes.0).ok());
                let threshold = manifest.as_ref().map(|manifest| format!(", {}", manifest.threshold));
                let owner = info.owner.as_ref().map(|owner| format!(", owner {owner}"));
                let permissions = info.permissions.as_ref().map(|permissions| format!(", {permissions}"));
                let epoch = info.epoch.map(|epoch| format!(", epoch {epoch}"));
                format!(
                    "{}{}{}{}{}",
                    word(info.state),
                    threshold.unwrap_or_default(),
                    epoch.unwrap_or_default(),
                    owner.unwrap_or_default(),
                    permissions.unwrap_or_default()
                )
            }
            Err(fault) => fault.to_string(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "node {}  {}  {said}", view.node.number, view.node.url);
    }
    text
}

/// An error unless every node that should hold the key does, and all say the same.
fn verdict(key: KeyId, views: Vec<NodeView<KeyInfo>>) -> Result<(), Error> {
    let manifests: Vec<_> = views.iter().filter_map(|view| view.answer.as_ref().ok()?.manifest.as_ref()).collect();
    let contradiction = manifests.windows(2).any(|pair| matches!(pair, [a, b] if a != b));
    let mut bad = Vec::new();
    for view in views {
        let fault = match view.answer {
            Ok(info) if info.state == KeyState::Active && !contradiction => continue,
            Ok(info) if info.state == KeyState::Active => NodeFault::BadAnswer("the nodes' manifests differ".into()),
            Ok(info) => NodeFault::NotActive(word(info.state)),
            Err(fault) => fault,
        };
        bad.push(crate::keystore::NodeError { node: view.node.number, url: view.node.url.as_str().into(), fault });
    }
    if bad.is_empty() { Ok(()) } else { Err(Error::NotEverywhere { key, nodes: bad }) }
}

fn word(state: KeyState) -> &'static str {
    match state {
        KeyState::Pending => "pending",
        KeyState::Active => "active",
        KeyState::Tombstone => "deleted",
    }
}
