//! The path from a certificate up to a configured authority, found and checked (RFC 5280 section 6.1).
//!
//! Candidates for an issuer are the configured authorities first, then what was sent; names are chained by their encoding
//! and key identifiers must agree. A path ends at a configured certificate whose own issuer is not configured; a configured
//! intermediate is checked up to its configured root. The number of signatures tried is bounded.

use super::{Reason, Refusal, check_critical, check_purpose, check_validity, constraints, refuse};
use crate::authn::{
    certificate::{Certificate, NameConstraints},
    trust::{Authority, TrustStore},
};

/// A checked path.
pub(super) struct Path<'a> {
    /// The issuers, from that of the certificate to the root.
    pub(super) issuers: Vec<&'a Certificate>,
    /// Whether the first of them is configured.
    pub(super) issuer_is_configured: bool,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Configured(&'a Authority),
    Sent(&'a Certificate),
}

impl<'a> Step<'a> {
    fn certificate(self) -> &'a Certificate {
        match self {
            Self::Configured(authority) => &authority.certificate,
            Self::Sent(certificate) => certificate,
        }
    }
}

struct Search<'a> {
    sent: &'a [Certificate],
    trust: &'a TrustStore,
    now: i64,
    budget: usize,
    first_refusal: Option<Refusal>,
}

/// Finds a path for the certificate and checks all of it.
pub(super) fn find<'a>(
    certificate: &'a Certificate,
    sent: &'a [Certificate],
    trust: &'a TrustStore,
    now: i64,
) -> Result<Path<'a>, Refusal> {
    let mut search = Search { sent, trust, now, budget: MAX_SIGNATURES, first_refusal: None };
    match search.extend(certificate, &mut Vec::new()) {
        Some(path) => Ok(path),
        None => Err(search
            .first_refusal
            .unwrap_or_else(|| refuse(certificate, Reason::UnknownIssuer(certificate.issuer().to_string())))),
    }
}

impl<'a> Search<'a> {
    /// Looks for an issuer of the last certificate of the path; `certificate` is where the path starts.
    fn extend(&mut self, certificate: &'a Certificate, steps: &mut Vec<Step<'a>>) -> Option<Path<'a>> {
        let current = steps.last().map_or(certificate, |step| step.certificate());
        if steps.len() == MAX_ISSUERS {
            self.note(refuse(certificate, Reason::TooTangled));
            return None;
        }
        let configured = self.trust.named(current.issuer()).map(Step::Configured);
        let sent = self.sent.iter().map(Step::Sent);
        let only_configured = matches!(steps.last(), Some(Step::Configured(_)));
        let mut found_any = false;
        for candidate in configured.chain(sent.filter(|_| !only_configured)) {
            let issuer = candidate.certificate();
            if !current.names_as_issuer(issuer) || issuer == current || issuer == certificate {
                continue;
            }
            if steps.iter().any(|step| step.certificate() == issuer) {
                continue;
            }
            if self.budget == 0 {
                self.note(refuse(certificate, Reason::TooTangled));
                return None;
            }
            self.budget -= 1;
            found_any = true;
            if let Err(bad) = current.verify_signature(issuer.key()) {
                self.note(refuse(current, Reason::Signature(bad)));
                continue;
            }
            steps.push(candidate);
            let ends_here = matches!(candidate, Step::Configured(_)) && self.trust.is_root(issuer);
            let found = if ends_here { self.judge(certificate, steps) } else { self.extend(certificate, steps) };
            if found.is_some() {
                return found;
            }
            steps.pop();
        }
        if !found_any {
            self.note(refuse(current, Reason::UnknownIssuer(current.issuer().to_string())));
        }
        None
    }

    fn judge(&mut self, certificate: &'a Certificate, steps: &[Step<'a>]) -> Option<Path<'a>> {
        match check(certificate, steps, self.trust, self.now) {
            Ok(()) => Some(Path {
                issuers: steps.iter().map(|step| step.certificate()).collect(),
                issuer_is_configured: matches!(steps.first(), Some(Step::Configured(_))),
            }),
            Err(refusal) => {
                self.note(refusal);
                None
            }
        }
    }

    fn note(&mut self, refusal: Refusal) {
        self.first_refusal.get_or_insert(refusal);
    }
}

/// Checks a whole path from the root down. Signatures, names and key identifiers were checked when it was built.
fn check(certificate: &Certificate, steps: &[Step<'_>], trust: &TrustStore, now: i64) -> Result<(), Refusal> {
    let skew = trust.settings().skew;
    let mut constraints: Vec<&NameConstraints> = Vec::new();
    let mut allowed_below: Option<(u32, &Certificate)> = None;
    let mut issuer: Option<Step<'_>> = None;
    for step in steps.iter().rev().copied() {
        let authority = step.certificate();
        check_validity(authority, now, skew)?;
        if let Some(issuer) = issuer {
            check_critical(authority)?;
            check_issued(authority, issuer, trust, now)?;
            check_authority(authority)?;
            if !authority.is_self_issued() {
                constraints::check(&constraints, authority)?;
                allowed_below = match allowed_below {
                    Some((0, above)) => return Err(refuse(above, Reason::PathLength)),
                    Some((left, above)) => Some((left - 1, above)),
                    None => None,
                };
            }
        } else if let Some(oid) = &authority.extensions().unknown_critical {
            return Err(refuse(authority, Reason::CriticalExtension(oid.clone())));
        }
        if let Some(own) = authority.extensions().basic_constraints.and_then(|constraints| constraints.path_length)
            && allowed_below.is_none_or(|(left, _)| own < left)
        {
            allowed_below = Some((own, authority));
        }
        constraints.extend(&authority.extensions().name_constraints);
        issuer = Some(step);
    }
    check_validity(certificate, now, skew)?;
    check_critical(certificate)?;
    if let Some(issuer) = issuer {
        check_issued(certificate, issuer, trust, now)?;
    }
    constraints::check(&constraints, certificate)
}

fn check_authority(certificate: &Certificate) -> Result<(), Refusal> {
    if !certificate.is_authority() {
        return Err(refuse(certificate, Reason::NotAnAuthority));
    }
    if certificate.extensions().key_usage.is_some_and(|usage| !usage.certificate_sign()) {
        return Err(refuse(certificate, Reason::MayNotSignCertificates));
    }
    check_purpose(certificate, true)
}

/// Signing policy and revocation: what the issuer says of this certificate.
fn check_issued(certificate: &Certificate, issuer: Step<'_>, trust: &TrustStore, now: i64) -> Result<(), Refusal> {
    // By name: a caller may send another certificate of a configured authority, which must not evade its policy.
    for authority in trust.named(certificate.issuer()) {
        if let Some(reason) = &authority.unusable {
            return Err(refuse(certificate, Reason::UnusableAuthority(reason.clone())));
        }
        if authority.policy.as_ref().is_some_and(|policy| !policy.allows(certificate.issuer(), certificate.subject())) {
            return Err(refuse(certificate, Reason::SigningPolicy));
        }
    }
    let settings = trust.settings();
    let (mut present, mut genuine, mut current) = (false, false, false);
    for (crl, signed) in trust.crls_of(certificate.issuer(), issuer.certificate().key()) {
        present = true;
        if !signed {
            continue;
        }
        genuine = true;
        if crl.lists(certificate.serial()) {
            return Err(refuse(certificate, Reason::Revoked));
        }
        current |= crl.is_current(now, settings.skew, settings.crl_grace);
    }
    let may_sign_lists = issuer.certificate().extensions().key_usage.is_none_or(|usage| usage.crl_sign());
    match (present, genuine && may_sign_lists, current) {
        (false, ..) if settings.require_crl => Err(refuse(certificate, Reason::NoCrl)),
        (false, ..) => Ok(()),
        (true, false, _) => Err(refuse(certificate, Reason::CrlNotGenuine)),
        (true, true, false) => Err(refuse(certificate, Reason::CrlNotCurrent)),
        (true, true, true) => Ok(()),
    }
}

/// The longest path, in issuers.
const MAX_ISSUERS: usize = 8;
/// The most signatures that one search tries.
const MAX_SIGNATURES: usize = 32;
