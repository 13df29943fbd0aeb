//! nameConstraints (RFC 5280 section 4.2.1.10) for directory names, host names and mail addresses.
//!
//! Constraints on another form of name refuse any certificate that has a name of that form: what cannot be judged does
//! not pass. Directory names are compared by type and by value without regard to case, string type and runs of spaces, as
//! section 7.1 wants it; encoded comparison would let an excluded name through in another string type.

use super::{Reason, Refusal, refuse};
use crate::authn::{
    certificate::{Certificate, GeneralName, NameConstraints},
    name::{EMAIL_ADDRESS, Name},
};

/// Checks all names of a certificate against the constraints of all authorities above it.
pub(super) fn check(constraints: &[&NameConstraints], certificate: &Certificate) -> Result<(), Refusal> {
    if constraints.is_empty() {
        return Ok(());
    }
    for name in names_of(certificate) {
        for constraint in constraints {
            let outside = |text: String| refuse(certificate, Reason::NameConstraints(text));
            let same_form: Vec<_> = constraint.permitted.iter().filter(|base| form(base) == form(&name)).collect();
            if !same_form.is_empty() && !same_form.iter().any(|base| within(&name, base) == Some(true)) {
                return Err(outside(format!("{} is not permitted", shown(&name))));
            }
            let mut excluded = constraint.excluded.iter().filter(|base| form(base) == form(&name));
            if excluded.any(|base| within(&name, base) != Some(false)) {
                return Err(outside(format!("{} is excluded", shown(&name))));
            }
        }
    }
    Ok(())
}

fn names_of(certificate: &Certificate) -> Vec<GeneralName> {
    let alternative = certificate.extensions().subject_alt_names.clone().unwrap_or_default();
    let has_email = alternative.iter().any(|name| matches!(name, GeneralName::Email(_)));
    let mut names = alternative;
    if !certificate.subject().is_empty() {
        names.push(GeneralName::Directory(certificate.subject().clone()));
    }
    if !has_email {
        let attributes = certificate.subject().attributes().unwrap_or_default();
        let emails = attributes.iter().flatten().filter(|one| one.kind == EMAIL_ADDRESS);
        names.extend(emails.map(|one| GeneralName::Email(one.text())));
    }
    names
}

fn form(name: &GeneralName) -> u32 {
    match name {
        GeneralName::Email(_) => 1,
        GeneralName::Host(_) => 2,
        GeneralName::Directory(_) => 4,
        GeneralName::Uri(_) => 6,
        GeneralName::Other(number) => *number,
    }
}

/// Whether a name lies below a base; `None` if this cannot be judged.
fn within(name: &GeneralName, base: &GeneralName) -> Option<bool> {
    match (name, base) {
        (GeneralName::Directory(name), GeneralName::Directory(base)) => {
            Some(comparable(name)?.starts_with(&comparable(base)?))
        }
        (GeneralName::Host(name), GeneralName::Host(base)) => Some(host_within(name, base, true)),
        (GeneralName::Email(name), GeneralName::Email(base)) => {
            if base.contains('@') {
                return Some(name.eq_ignore_ascii_case(base));
            }
            let (_, host) = name.rsplit_once('@')?;
            Some(match base.strip_prefix('.') {
                Some(domain) => host_within(host, domain, true) && !host.eq_ignore_ascii_case(domain),
                None => host_within(host, base, false),
            })
        }
        _ => None,
    }
}

fn host_within(name: &str, base: &str, below: bool) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let base = base.strip_prefix('.').unwrap_or(&base);
    base.is_empty() || name == base || (below && name.strip_suffix(base).is_some_and(|start| start.ends_with('.')))
}

/// Types and folded values of each relative name, in order.
type Comparable = Vec<Vec<(Vec<u8>, String)>>;

fn comparable(name: &Name) -> Option<Comparable> {
    let relative = name.attributes().ok()?;
    let fold = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    Some(
        relative
            .into_iter()
            .map(|attributes| {
                let mut pairs: Vec<_> = attributes.iter().map(|one| (one.kind.to_vec(), fold(one.text()))).collect();
                pairs.sort();
                pairs
            })
            .collect(),
    )
}

fn shown(name: &GeneralName) -> String {
    match name {
        GeneralName::Email(text) | GeneralName::Host(text) | GeneralName::Uri(text) => text.clone(),
        GeneralName::Directory(name) => name.to_string(),
        GeneralName::Other(number) => format!("a name of form {number}"),
    }
}
