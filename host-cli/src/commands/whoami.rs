//! `eds whoami`: which proof is sent, and whom each key server takes it for.

use std::{collections::BTreeSet, fmt::Write as _};

use clap::Args;
use eds_core::{api::whoami::WhoAmI, ids::Threshold};

use super::{Options, warn};
use crate::{
    Error,
    credentials::{Credential, Places, in_words},
    journey::Nodes,
    keystore::{Identity, NodeError, NodeFault, NodeView},
    output,
};

/// The arguments of `eds whoami`.
#[derive(Args, Debug)]
pub struct Whoami {}

impl Whoami {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let places = Places::of_process(&config).find(None);
        let identity = Identity::load(&config)?;
        output::print(&sent(&identity))?;
        let wanted = config.identity.wanted;
        let used = places.iter().position(|place| wanted.is_none_or(|kind| place.kind() == kind));
        for (_, place) in places.iter().enumerate().filter(|(position, _)| Some(*position) != used) {
            output::print(&format!("not sent   {} {place}\n", place.kind()))?;
        }
        let nodes = Nodes::open(&config)?;
        let directory = nodes.directory();
        let active = u8::try_from(directory.active().count()).unwrap_or(u8::MAX);
        let usual = Threshold::majority(active).map_or(1, Threshold::needed);
        let needed = config.terms.needed.unwrap_or(usual).max(directory.floor);
        let views = nodes.whoami();
        let mut accepted = 0;
        let mut refused = Vec::new();
        let mut groups = BTreeSet::new();
        for view in views {
            output::print(&told(&view))?;
            let fault = match view.answer {
                Ok(answer) if answer.registrant.0 == identity.registrant() => {
                    accepted += 1;
                    groups.insert(answer.groups);
                    continue;
                }
                Ok(answer) => NodeFault::OtherSubject(answer.subject),
                Err(fault) => fault,
            };
            refused.push(NodeError { node: view.node.number, url: view.node.url.as_str().into(), fault });
        }
        if groups.len() > 1 {
            eprintln!(
                "eds: warning: the key servers do not agree on your groups: what is shared with a group may not open"
            );
        }
        if accepted < usize::from(needed) {
            return Err(Error::NotAccepted { accepted, needed, nodes: refused });
        }
        warn(&refused);
        Ok(())
    }
}

/// The proof that is sent.
fn sent(identity: &Identity) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: &str| _ = writeln!(text, "{what:<10} {value}");
    match identity.proof().as_ref() {
        Credential::Chain(chain) => {
            line("proof", &format!("{} {}", chain.kind(), chain.place()));
            line("subject", &chain.subject());
            line("authority", &chain.authority());
            if chain.is_limited() {
                line("limited", "yes");
            }
            for attested in chain.attested() {
                for group in &attested.fqans {
                    line("group", group);
                }
                line("groups", &format!("valid until {}", in_words(attested.not_after)));
            }
            line("valid", &format!("until {}", in_words(chain.not_after())));
        }
        Credential::Token(source) => {
            let claims = source.claims();
            line("proof", &format!("token {}", source.place()));
            line("subject", &claims.subject.escape_debug().to_string());
            line("issuer", &claims.issuer.escape_debug().to_string());
            for audience in &claims.audience {
                line("audience", &audience.escape_debug().to_string());
            }
            for group in &claims.groups {
                line("group", &group.escape_debug().to_string());
            }
            line("valid", &format!("until {}", in_words(claims.expires)));
        }
    }
    text
}

/// What a node says.
fn told(view: &NodeView<WhoAmI>) -> String {
    let head = format!("node {}  {}  ", view.node.number, view.node.url);
    let plain = |text: &str| text.chars().filter(|character| !character.is_control()).collect::<String>();
    match &view.answer {
        Err(fault) => format!("{head}{fault}\n"),
        Ok(answer) => {
            let groups = match answer.groups.as_slice() {
                [] => "none".to_owned(),
                groups => plain(&groups.join(" ")),
            };
            let role = match (answer.administrator, answer.may_register) {
                (true, _) => "administers the node",
                (false, true) => "may register keys",
                (false, false) => "may not register keys",
            };
            let courier =
                if answer.may_deliver && !answer.administrator { ", delivers for imaging devices" } else { "" };
            format!(
                "{head}takes you for {}\n        groups {groups}; {role}{courier}\n        proven by {}\n",
                plain(&answer.subject),
                plain(&answer.proof)
            )
        }
    }
}
