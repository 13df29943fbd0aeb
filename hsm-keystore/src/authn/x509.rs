//! Principals from certificates: the encoded subject of the end-entity certificate, within the namespace of its issuer.

use crate::{
    authn::{Principal, certificate::Certificate, chain, fields::Malformed, voms},
    policy::Subject,
};

/// The kind of subjects that come from certificates.
pub const KIND: &str = "x509";

/// The principal of a proven chain and of the VOMS attributes in it.
pub fn principal(proven: &chain::Proven, attested: Option<voms::Attested>) -> Principal {
    let mut proof = proven.how().to_string();
    let (mut groups, mut valid_until) = (Vec::new(), proven.valid_until);
    if let Some(attested) = attested {
        for source in &attested.sources {
            proof.push_str("; ");
            proof.push_str(source);
        }
        groups = attested.fqans;
        valid_until = valid_until.min(attested.valid_until);
    }
    Principal {
        subject: subject(&proven.end_entity),
        groups,
        proxied: !proven.proxies.is_empty(),
        limited: proven.limited,
        proof,
        valid_until,
    }
}

/// The subject of an end-entity certificate.
pub fn subject(certificate: &Certificate) -> Subject {
    Subject {
        kind: KIND.into(),
        namespace: certificate.issuer().as_der().to_vec(),
        name: certificate.subject().as_der().to_vec(),
        display: certificate.subject().to_string(),
    }
}

/// The subject that a DER certificate names. Proves nothing: for those who hold a certificate and ask what they are called.
///
/// # Errors
/// [`Malformed`].
pub fn named_by(certificate: &[u8]) -> Result<Subject, Malformed> {
    Certificate::from_der(certificate).map(|certificate| subject(&certificate))
}
