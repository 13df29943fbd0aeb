//! `eds key why`: which rule of which key server allows or refuses what.

use std::fmt::Write as _;

use clap::Args;
use eds_core::{
    api::{
        KeyState,
        access::{Asked, Grantee, WhyAnswer, typed::TypedError},
    },
    names,
};

use super::{
    Options, Part,
    access::{Names, grantee},
};
use crate::{
    Error,
    journey::Nodes,
    keystore::{NodeError, NodeView, kind_of},
    output,
};

/// The arguments of `eds key why`.
#[derive(Args, Debug)]
pub struct Why {
    /// A key, or an image or file of the catalog
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    part: Part,
    /// For whom, a subject or a group; for administrators [default: for you]
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// A group that the principal would prove; may be given several times
    #[arg(long = "group", value_name = "GROUP", requires = "principal")]
    groups: Vec<String>,
    #[command(flatten)]
    names: Names,
}

impl Why {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let key = self.part.resolve(&self.id, &config)?;
        let principal = match &self.principal {
            None => None,
            Some(text) => {
                let group = |text: &String| names::group(text).ok_or_else(|| TypedError::Principal(text.clone()));
                let mut groups = self.groups.iter().map(group).collect::<Result<Vec<_>, _>>()?;
                let subject = match grantee(&self.names.namespace(&config)?, text)? {
                    Grantee::Subject(subject) => Some(subject),
                    Grantee::Group(group) => {
                        groups.push(group);
                        None
                    }
                };
                Some(Asked { subject, groups })
            }
        };
        let views = Nodes::open(&config)?.why(key, principal);
        output::print(&views.iter().fold(format!("key {key}\n"), describe))?;
        let failed: Vec<NodeError> = views
            .iter()
            .filter_map(|view| {
                let fault = view.answer.as_ref().err()?.clone();
                Some(NodeError { node: view.node.number, url: view.node.url.as_str().into(), fault })
            })
            .collect();
        if failed.len() == views.len() {
            return Err(Error::NoAnswer { kind: kind_of(&failed) });
        }
        Ok(())
    }
}

fn describe(mut text: String, view: &NodeView<WhyAnswer>) -> String {
    // Writing to a String cannot fail.
    let _ = write!(text, "node {}  {}", view.node.number, view.node.url);
    let answer = match &view.answer {
        Ok(answer) => answer,
        Err(fault) => return text + &format!("  {fault}\n"),
    };
    let groups = if answer.groups.is_empty() { "no groups".into() } else { answer.groups.join(", ") };
    let pending = if answer.state == KeyState::Pending { ", pending: for its registrant alone" } else { "" };
    let who = format!("{} ({groups})", answer.principal);
    let _ = writeln!(text, "  version {}{pending}, for {}", answer.version, who.escape_debug());
    for decision in &answer.decisions {
        let verdict = if decision.allowed { "allowed" } else { "refused" };
        let (rule, reason) = (decision.rule.escape_debug(), decision.reason.escape_debug());
        let _ = writeln!(text, "  {}  {verdict}  {rule}: {reason}", decision.permission);
    }
    text
}
