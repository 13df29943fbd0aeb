//! `eds key sync`: shows how the key servers differ about the access list of a key, and repairs what is sure.
//!
//! A list is copied only if as many nodes hold it identically as open the key (or the cluster's floor), or if the caller
//! says whose list is right: a single node could otherwise write policy on all others.

use std::fmt::Write as _;

use clap::Args;
use eds_core::ids::{KeyId, ShareIndex};

use super::{Options, Part};
use crate::{
    Error,
    commands::warn,
    journey::Nodes,
    keystore::{
        NodeView,
        access::{
            agree::{Repair, Seen, plan},
            text::describe,
        },
    },
    output,
};

/// The arguments of `eds key sync`.
#[derive(Args, Debug)]
pub struct Sync {
    /// A key, or an image or file of the catalog
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    part: Part,
    /// Copy the list of this node, whatever the others hold: look at the differences first
    #[arg(long, value_name = "NODE", value_parser = node_number)]
    from: Option<ShareIndex>,
    /// Only show the differences
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Sync {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let key = self.part.resolve(&self.id, &config)?;
        let nodes = Nodes::open(&config)?;
        let views = nodes.access(key);
        let planned = plan(nodes.directory(), key, &views, self.from);
        output::print(&differences(key, &views, planned.as_ref().ok()))?;
        let planned = planned?;
        if self.dry_run {
            return Ok(());
        }
        if planned.behind.is_empty() && planned.unseen.is_empty() {
            eprintln!("nothing to do: all nodes hold version {}", planned.list.version);
            return Ok(());
        }
        let (held, missing) = nodes.repair(key, &planned)?;
        warn(&missing);
        eprintln!("version {} is on {} of {} nodes", planned.list.version, held.nodes, held.of);
        Ok(())
    }
}

/// What each node holds, and what of it is in the list that counts and what is not.
fn differences(key: KeyId, views: &[NodeView<Seen>], plan: Option<&Repair>) -> String {
    let mut text = format!("key {key}\n");
    let id = key.to_string();
    for view in views {
        // Writing to a String cannot fail.
        let _ = write!(text, "node {}  {}  ", view.node.number, view.node.url);
        let seen = match &view.answer {
            Ok(seen) => seen,
            Err(fault) => {
                let _ = writeln!(text, "{fault}");
                continue;
            }
        };
        let digest = seen.digest.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let _ = write!(text, "version {}, digest {digest}", seen.list.version);
        match plan {
            Some(plan) if plan.agreed.digest == seen.digest => text += ", the list that counts\n",
            Some(plan) => {
                text += ", differs\n";
                let (own, counts) = (describe(&id, &seen.list), describe(&id, &plan.agreed.list));
                own.lines().filter(|line| !counts.lines().any(|other| other == *line)).for_each(|line| {
                    let _ = writeln!(text, "  - {line}");
                });
                counts.lines().filter(|line| !own.lines().any(|other| other == *line)).for_each(|line| {
                    let _ = writeln!(text, "  + {line}");
                });
            }
            None => {
                text.push('\n');
                describe(&id, &seen.list).lines().for_each(|line| _ = writeln!(text, "    {line}"));
            }
        }
    }
    text
}

fn node_number(text: &str) -> Result<ShareIndex, String> {
    text.parse().ok().and_then(|number| ShareIndex::new(number).ok()).ok_or_else(|| "not the number of a node".into())
}
