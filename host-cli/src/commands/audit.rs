//! `eds audit verify`: is the audit log of each node what it was? For an auditor without access to the nodes' machines.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use eds_audit::verify::{Source, verify};

use super::Options;
use crate::{
    Error,
    audit::{self, Seen, Verdict, node_of_log},
    cluster::Trust,
    config::Config,
    credentials::in_words,
    journey::Nodes,
    keystore::NodeError,
    output,
};

/// Look at the audit logs of the key servers.
#[derive(Subcommand, Debug)]
pub enum Audit {
    /// Check that logs were only ever added to: signed heads against those seen before, or a whole exported log
    Verify(Verify),
}

/// The arguments of `eds audit verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// Only this node, by its number in the cluster directory; may be given several times
    #[arg(long = "node", value_name = "NUMBER", conflicts_with = "log")]
    nodes: Vec<u16>,
    /// The directory of a node's audit log, or a copy of it: every entry is checked, and no node is asked
    #[arg(long, value_name = "DIRECTORY")]
    log: Option<PathBuf>,
    /// A file of checkpoints that a witness kept
    #[arg(long, value_name = "FILE", requires = "log")]
    checkpoints: Vec<PathBuf>,
    /// Another copy of the log, to compare entry by entry
    #[arg(long, value_name = "DIRECTORY", requires = "log")]
    copy: Vec<PathBuf>,
}

impl Audit {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let Self::Verify(command) = self;
        let config = options.load()?;
        match &command.log {
            Some(log) => command.whole(&config, log),
            None => command.heads(&config),
        }
    }
}

impl Verify {
    /// Compares what the nodes sign now with what they signed before.
    fn heads(&self, config: &Config) -> Result<(), Error> {
        let nodes = Nodes::open(config)?;
        let seen = Seen::of(&config.state);
        let directory = nodes.directory();
        if let Some(unknown) =
            self.nodes.iter().find(|number| directory.active().all(|node| node.number.value() != **number))
        {
            return Err(audit::Error::NoNode(*unknown).into());
        }
        let (mut bad, mut away) = (0, Vec::new());
        for node in directory.active().filter(|node| self.nodes.is_empty() || self.nodes.contains(&node.number.value()))
        {
            let line = match nodes.witness(node, &seen)? {
                Ok(Verdict::First(head)) => {
                    format!("ok    {} entries, signed {}; seen for the first time", head.size, signed(head.time))
                }
                Ok(Verdict::Continues { from, head }) => {
                    format!(
                        "ok    {} entries, signed {}; continues the {from} seen before",
                        head.size,
                        signed(head.time)
                    )
                }
                Ok(Verdict::Contradicts { seen, head, evidence: [first, second] }) => {
                    bad += 1;
                    format!(
                        "BAD   its key signed {} entries {} and {} entries {}, and they exclude each other: entries were \
                         changed, dropped or forked\n      the signed heads: {} and {}",
                        seen.size,
                        signed(seen.time),
                        head.size,
                        signed(head.time),
                        first.display(),
                        second.display()
                    )
                }
                Err(fault) => {
                    let line = format!("?     {fault}");
                    away.push(NodeError { node: node.number, url: node.url.as_str().into(), fault });
                    line
                }
            };
            output::print(&format!("node {}  {line}\n", node.number))?;
        }
        if bad > 0 {
            return Err(audit::Error::NotInOrder(bad).into());
        }
        match away.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(Error::Node(first)),
        }
    }

    /// Reads a whole log.
    fn whole(&self, config: &Config, log: &std::path::Path) -> Result<(), Error> {
        let trust = Trust::load(&config.state)?;
        let node = node_of_log(log, &trust.directory)?;
        let verifier = audit::verifier(node)?;
        let seen = Seen::of(&config.state).file(node);
        let read = |path: &std::path::Path, source: std::io::Result<Source>| {
            source.map_err(|source| audit::Error::Read { path: path.into(), source })
        };
        let mut sources = vec![read(log, Source::own(log))?];
        if seen.exists() {
            sources.push(read(&seen, Source::read(&seen))?);
        } else {
            eprintln!("eds: note: no checkpoint of this node was seen before; eds audit verify asks the node for one");
        }
        for file in &self.checkpoints {
            sources.push(read(file, Source::read(file))?);
        }
        let report = verify(log, &verifier, &sources, &self.copy)
            .map_err(|source| audit::Error::Read { path: log.into(), source })?;
        output::print(&report.told(&verifier))?;
        if report.findings.is_empty() { Ok(()) } else { Err(audit::Error::NotInOrder(1).into()) }
    }
}

fn signed(time: u64) -> String {
    format!("on {}", in_words(i64::try_from(time).unwrap_or(i64::MAX)))
}
