//! `eds queue`: shares that wait on this computer for key servers that were away at a registration.
//!
//! Commands that register deliver what they can in passing. Every command that talks to the key servers ends with a line
//! that says what still waits, since it is in danger with this computer: whoever closes the laptop must know.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, stdin},
};

use clap::{Args, Subcommand};
use eds_core::ids::{ShareIndex, Threshold};

use super::{Options, warn};
use crate::{
    Error,
    journey::Nodes,
    keystore::{Fate, NodeError, Quorum, Terms},
    output,
    queue::{Contents, Entry, Queue as Waiting, moment},
};

/// Shares that wait on this computer for key servers that were away.
#[derive(Subcommand, Debug)]
pub enum Queue {
    /// Deliver what waits
    Run(Run),
    /// List what waits: number, key server, keys, since when, what hindered it
    List(List),
    /// Show one message
    Show(Show),
    /// Give messages up: their key servers never get these shares
    Drop(Drop),
}

/// The arguments of `eds queue run`.
#[derive(Args, Debug)]
pub struct Run {}

/// The arguments of `eds queue list`.
#[derive(Args, Debug)]
pub struct List {}

/// The arguments of `eds queue show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Its number, as `eds queue list` shows it
    #[arg(value_name = "NUMBER")]
    number: i64,
}

/// The arguments of `eds queue drop`.
#[derive(Args, Debug)]
pub struct Drop {
    /// Their numbers, as `eds queue list` shows them
    #[arg(value_name = "NUMBER", required = true)]
    numbers: Vec<i64>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// How many key servers must hold their shares.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct AtQuorum {
    /// How many key servers must hold their shares for success, a number or all; the other shares wait on this computer
    /// [default: of the configuration, else all]
    #[arg(short = 'q', long, value_name = "Q")]
    quorum: Option<Quorum>,
}

impl AtQuorum {
    /// What was given.
    pub(super) fn given(self) -> Option<Quorum> {
        self.quorum
    }

    /// What was given, else what is configured.
    pub(super) fn or(self, configured: Terms) -> Quorum {
        self.quorum.unwrap_or(configured.quorum)
    }
}

impl Queue {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        match self {
            Self::Run(command) => command.run(options),
            Self::List(command) => command.run(options),
            Self::Show(command) => command.run(options),
            Self::Drop(command) => command.run(options),
        }
    }
}

impl Run {
    fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let Some(mut queue) = Waiting::open_if_there(&config.state)? else {
            eprintln!("nothing waits");
            return Ok(());
        };
        queue.check()?;
        if queue.contents()?.is_empty() {
            eprintln!("nothing waits");
            return Ok(());
        }
        let nodes = Nodes::open(&config)?;
        let (mut stuck, mut kind) = (0, None);
        nodes.deliver(&mut queue, |entry, fate| {
            match fate {
                Fate::Delivered(differing) => {
                    warn(differing);
                    if !differing.is_empty() {
                        eprintln!("hint: bring it up to date: eds key sync {}", keys(entry));
                    }
                }
                Fate::Stays(obstacle) => {
                    stuck += usize::from(obstacle.is_final());
                    kind.get_or_insert(obstacle.kind());
                }
                Fate::Deleted | Fate::TakenBack => {}
            }
            Ok(output::print(&format!("{}\n", outcome(entry, fate)))?)
        })?;
        let left = queue.contents()?;
        queue.whole(&left)?;
        match left.entries.len() {
            0 => Ok(()),
            messages => {
                eprint!("{}", waiting(&left));
                let kind = kind.unwrap_or(crate::Kind::Unavailable);
                Err(Error::StillWaiting { messages, stuck, kind })
            }
        }
    }
}

impl List {
    fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let Some(queue) = Waiting::open_if_there(&config.state)? else { return Ok(()) };
        queue.check()?;
        let contents = queue.contents()?;
        let mut text = String::new();
        for entry in &contents.entries {
            let hindrance = entry.hindrance.as_ref().map_or("not tried yet", |(_, why)| why.as_str());
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}\tnode {}\t{}\tsince {}\t{}",
                entry.number,
                entry.message.node,
                keys(entry),
                moment(entry.since),
                one_line(hindrance),
            );
        }
        output::print(&text)?;
        Ok(queue.whole(&contents)?)
    }
}

impl Show {
    fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let unknown = crate::queue::Error::Unknown { number: self.number };
        let entry = Waiting::open_if_there(&config.state)?.ok_or(unknown)?.entry(self.number)?;
        let request = &entry.message.request;
        let registration = request.registration.0.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let mut text = format!(
            "message {}\nnode {} (id {})\nregistration {registration}, {}\nregistered by {}\nsince {}\n",
            entry.number,
            entry.message.node,
            entry.message.node_id,
            if entry.acknowledged { "acknowledged" } else { "interrupted before it was acknowledged, or under way" },
            entry.registrant.escape_debug(),
            moment(entry.since),
        );
        for manifest in entry.message.manifests() {
            let _ = writeln!(
                text,
                "key {}, {} key servers open it, directory version {}",
                manifest.key, manifest.threshold, manifest.directory_version
            );
        }
        let _ = writeln!(text, "sealed {} bytes", request.sealed.0.len());
        match &entry.hindrance {
            Some((at, why)) => _ = writeln!(text, "tried {} time(s), last {}: {why}", entry.tries, moment(*at)),
            None => text += "not tried yet\n",
        }
        Ok(output::print(&text)?)
    }
}

impl Drop {
    fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let first = self.numbers.first().copied().unwrap_or_default();
        let unknown = |number| crate::queue::Error::Unknown { number };
        let mut queue = Waiting::open_if_there(&config.state)?.ok_or(unknown(first))?;
        for number in &self.numbers {
            if !queue.holds(*number)? {
                return Err(unknown(*number).into());
            }
            match queue.entry(*number) {
                Ok(entry) => eprintln!(
                    "message {number}: node {} never gets its share of {}. Enough of the other key servers still open what is \
                     encrypted under it; a lost one is one less.",
                    entry.message.node,
                    keys(&entry)
                ),
                Err(error) => eprintln!("message {number}: {error}"),
            }
        }
        if !self.yes && !confirmed() {
            return Err(Error::DropNotConfirmed);
        }
        queue.remove(&self.numbers)?;
        eprintln!("{} message(s) dropped", self.numbers.len());
        Ok(())
    }
}

/// Says, after a registration, which key servers have no share yet and what that means.
pub(super) fn tell_late(threshold: Threshold, late: &[NodeError]) {
    if late.is_empty() {
        return;
    }
    let held = usize::from(threshold.nodes()).saturating_sub(late.len());
    let spare = held.saturating_sub(usize::from(threshold.needed()));
    let meaning = match spare {
        0 => "all of these are needed to open it until the others have theirs".to_owned(),
        spare => format!("{spare} of these may fail until the others have theirs"),
    };
    eprintln!("eds: note: {held} of {} key servers hold their shares; {meaning}; the others:", threshold.nodes());
    for node in late {
        eprintln!("  {node}");
    }
}

/// What became of delivering in passing: a command that did its work does not fail because of it.
pub(super) fn in_passing(done: Result<(), Error>) {
    if let Err(error) = done {
        eprintln!("eds: warning: {}", error.report().trim_start_matches("eds: error: "));
    }
}

/// Says what waits, if anything does.
pub(super) fn remind(options: &Options) {
    // What is wrong with the configuration has been said by the command.
    let Ok(config) = options.load() else { return };
    match Waiting::open_if_there(&config.state).and_then(|queue| queue.map(|queue| queue.contents()).transpose()) {
        Ok(None) => {}
        Ok(Some(contents)) => eprint!("{}", waiting(&contents)),
        Err(error) => in_passing(Err(error.into())),
    }
}

/// What waits and what it means, for standard error; empty when nothing does.
fn waiting(contents: &Contents) -> String {
    let mut text = String::new();
    if let Some(since) = contents.since() {
        let nodes = contents.by_node().into_keys().collect::<Vec<ShareIndex>>();
        let nodes = nodes.iter().map(ShareIndex::to_string).collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "eds: {} share(s) wait on this computer for node {nodes}, the oldest since {}. If this computer is lost, those key \
             servers never get them. When they are back, on this computer: eds queue run",
            contents.shares(),
            moment(since),
        );
    }
    if !contents.damaged.is_empty() {
        let _ = writeln!(
            text,
            "eds: warning: {} message(s) in the queue are damaged: eds queue list",
            contents.damaged.len()
        );
    }
    text
}

fn outcome(entry: &Entry, fate: &Fate) -> String {
    let what = format!("message {}, {}, for node {}", entry.number, keys(entry), entry.message.node);
    match fate {
        Fate::Delivered(_) => format!("delivered  {what}"),
        Fate::Deleted => format!("dropped    {what}: deleted meanwhile"),
        Fate::TakenBack => format!("dropped    {what}: its registration was interrupted, and is taken back"),
        Fate::Stays(obstacle) if obstacle.is_final() => {
            format!("STUCK      {what}: {}", one_line(&obstacle.to_string()))
        }
        Fate::Stays(obstacle) => format!("waits      {what}: {}", one_line(&obstacle.to_string())),
    }
}

fn keys(entry: &Entry) -> String {
    let keys = entry.message.keys();
    let shown: Vec<String> = keys.iter().take(3).map(|key| format!("{key}")).collect();
    let more = if keys.len() > shown.len() { format!(" and {} more", keys.len() - shown.len()) } else { String::new() };
    format!("{} {}{more}", if keys.len() == 1 { "key" } else { "keys" }, shown.join(" "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn confirmed() -> bool {
    if stdin().is_terminal() {
        eprint!("drop them? yes/no: ");
    }
    let mut line = String::new();
    stdin().read_line(&mut line).is_ok() && line.trim() == "yes"
}
