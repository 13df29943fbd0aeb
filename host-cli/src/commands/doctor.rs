//! `eds doctor`: can I reach, authenticate to and use each key server, and are my own rooms in order?

use clap::Args;

use super::Options;
use crate::{
    Error, Kind,
    catalog::Catalog,
    cluster::Trust,
    config::Config,
    credentials,
    journey::Nodes,
    keystore::Identity,
    metadata::Metadata,
    output,
    queue::{Entry, Queue, moment},
};

/// The arguments of `eds doctor`.
#[derive(Args, Debug)]
pub struct Doctor {}

/// A line of the report for each check.
#[derive(Default)]
struct Report {
    failed: usize,
    worst: Option<Kind>,
}

impl Doctor {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let mut report = Report::default();
        report.note("configuration", Ok::<_, Error>(config.file.display().to_string()))?;
        let identity = Identity::load(&config).map_err(Error::from);
        let described = identity.and_then(|identity| Ok(identity.described(credentials::now())?));
        report.note("identity", described)?;
        let trust = Trust::load(&config.state).map_err(Error::from);
        report.note("cluster", trust.map(|trust| cluster(&trust)))?;
        rooms(&mut report, &config)?;
        let nodes = Nodes::open(&config);
        report.note("queue", queue(&config, nodes.as_ref().ok()))?;
        if let Ok(nodes) = nodes {
            for view in nodes.node_status() {
                let name = format!("node {}", view.node.number);
                let said = view.answer.map(|info| {
                    let weaker = info.weaker.map(|weaker| format!("; WEAKER than keys in a token: {weaker}"));
                    format!(
                        "{}  ready, version {}, takes you for {}{}",
                        view.node.url,
                        info.version,
                        info.caller,
                        weaker.unwrap_or_default()
                    )
                });
                let url = view.node.url.to_string();
                let fault = |fault| crate::keystore::NodeError { node: view.node.number, url, fault };
                report.note(&name, said.map_err(|error| Error::Node(fault(error))))?;
            }
        }
        match report.worst {
            None => Ok(()),
            Some(kind) => Err(Error::Unwell { failed: report.failed, kind }),
        }
    }
}

fn rooms(report: &mut Report, config: &Config) -> Result<(), Error> {
    for site in config.storage.iter() {
        let usable = site.open().and_then(|store| store.check()).map_err(Error::from);
        report.note(&format!("storage {}", site.name()), usable.map(|()| site.url().to_string()))?;
    }
    let catalog = Catalog::open(&config.catalog).and_then(|catalog| catalog.pending()).map_err(Error::from);
    report.note(
        "catalog",
        catalog.map(|pending| match pending.len() {
            0 => config.catalog.display().to_string(),
            count => format!(
                "{}  {count} interrupted registration(s): register those images again",
                config.catalog.display()
            ),
        }),
    )?;
    let metadata = Metadata::open(&config.metadata).map_err(Error::from);
    report.note("metadata", metadata.map(|_| config.metadata.to_string()))
}

/// What waits in the queue. That it waits is well; that it can never be delivered is not.
fn queue(config: &Config, nodes: Option<&Nodes>) -> Result<String, Error> {
    let Some(queue) = Queue::open_if_there(&config.state)? else { return Ok("nothing waits".into()) };
    queue.check()?;
    let contents = queue.contents()?;
    queue.whole(&contents)?;
    let undeliverable = |entry: &Entry| nodes?.keystore().undeliverable(&entry.message).map(|why| (entry.number, why));
    if let Some((number, source)) = contents.entries.iter().find_map(undeliverable) {
        return Err(Error::Stuck { number, source });
    }
    Ok(match contents.since() {
        None => format!("{}  nothing waits", queue.path().display()),
        Some(since) => {
            let nodes = contents.by_node().into_iter().map(|(node, messages)| format!("{messages} for node {node}"));
            let nodes = nodes.collect::<Vec<_>>().join(", ");
            format!("{}  waiting: {nodes}, the oldest since {}: eds queue run", queue.path().display(), moment(since))
        }
    })
}

fn cluster(trust: &Trust) -> String {
    let directory = &trust.directory;
    format!(
        "{:?}, directory version {}, {} active node(s)",
        directory.name,
        directory.version,
        directory.active().count()
    )
}

impl Report {
    fn note(&mut self, what: &str, result: Result<String, Error>) -> Result<(), Error> {
        match result {
            Ok(text) => Ok(output::print(&format!("ok    {what:<14} {text}\n"))?),
            Err(error) => {
                self.failed += 1;
                self.worst.get_or_insert(error.kind());
                let text = error.report();
                Ok(output::print(&format!("FAIL  {what:<14} {}\n", text.trim_start_matches("eds: error: ")))?)
            }
        }
    }
}
