//! The subject of a client certificate, whose chain the TLS handshake has verified.
//!
//! Names are taken as their DER bytes, which are what is compared. The slash form is for people only; a `/` or an
//! unprintable character in a value is shown escaped, so that no name can look like another.

use std::fmt::Write;

use x509_parser::{
    certificate::X509Certificate,
    prelude::FromDer,
    x509::{AttributeTypeAndValue, X509Name},
};

use crate::{
    authn::{AuthnError, Principal},
    policy::Subject,
};

/// The kind of subjects that come from certificates.
pub const KIND: &str = "x509";

/// The principal of a verified leaf certificate, in DER.
///
/// # Errors
/// [`AuthnError`].
pub fn principal(leaf: &[u8]) -> Result<Principal, AuthnError> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| AuthnError::Malformed)?;
    if certificate.subject().iter_attributes().next().is_none() {
        return Err(AuthnError::NoSubject);
    }
    Ok(Principal {
        subject: Subject {
            kind: KIND.into(),
            namespace: certificate.issuer().as_raw().to_vec(),
            name: certificate.subject().as_raw().to_vec(),
            display: slash_form(certificate.subject()),
        },
        groups: Vec::new(),
        valid_until: certificate.validity().not_after.timestamp(),
    })
}

/// `/C=CH/O=Ward/CN=Dr Jones`.
fn slash_form(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for attribute in name.iter_attributes() {
        let kind = attribute.attr_type().to_id_string();
        let kind = ABBREVIATIONS.iter().find(|(oid, _)| *oid == kind).map_or(kind.as_str(), |(_, short)| short);
        // Writing to a string cannot fail.
        let _ = write!(text, "/{kind}=");
        escape(attribute, &mut text);
    }
    text
}

fn escape(attribute: &AttributeTypeAndValue<'_>, text: &mut String) {
    match attribute.as_str() {
        Ok(value) => {
            for character in value.chars() {
                if character == '/' || character == '\\' || character.is_control() {
                    let _ = write!(text, "\\x{:02X}", u32::from(character));
                } else {
                    text.push(character);
                }
            }
        }
        Err(_) => attribute.as_slice().iter().for_each(|byte| {
            let _ = write!(text, "\\x{byte:02X}");
        }),
    }
}

/// The short names that OpenSSL and the original use.
const ABBREVIATIONS: [(&str, &str); 13] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

    use super::*;

    fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        parts.iter().for_each(|(kind, value)| name.push(kind.clone(), *value));
        name
    }

    fn leaf(authority: &str, subject: &[(DnType, &str)]) -> Vec<u8> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name = name(&[(DnType::CommonName, authority)]);
        ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("made")).expect("made");
        let mut params = CertificateParams::default();
        params.distinguished_name = name(subject);
        params.not_after = rcgen::date_time_ymd(2040, 1, 2);
        params.signed_by(&KeyPair::generate().expect("made"), &ca).expect("made").der().to_vec()
    }

    const JONES: &[(DnType, &str)] =
        &[(DnType::CountryName, "CH"), (DnType::OrganizationName, "Ward"), (DnType::CommonName, "Dr Jones")];

    #[test]
    fn a_principal_is_the_subject_within_its_authority() {
        let jones = principal(&leaf("ca", JONES)).expect("read");
        assert_eq!(jones.subject.display, "/C=CH/O=Ward/CN=Dr Jones");
        assert_eq!(jones, principal(&leaf("ca", JONES)).expect("read"));
        let impostor = principal(&leaf("other ca", JONES)).expect("read");
        assert_eq!(impostor.subject.display, jones.subject.display);
        assert_ne!(impostor.subject, jones.subject);
        assert_ne!(impostor.registrant(), jones.registrant());
    }

    #[test]
    fn the_proof_ends_with_the_certificate() {
        let jones = principal(&leaf("ca", JONES)).expect("read");
        assert_eq!(jones.valid_until, 2_209_075_200);
        assert!(jones.is_valid_at(2_209_075_200));
        assert!(!jones.is_valid_at(2_209_075_201));
        assert!(!jones.is_valid_at(u64::MAX));
    }

    #[test]
    fn no_value_can_look_like_another_name() {
        let sly = principal(&leaf("ca", &[(DnType::OrganizationName, "Ward/CN=Dr Jones\n")])).expect("read");
        assert_eq!(sly.subject.display, "/O=Ward\\x2FCN=Dr Jones\\x0A");
    }

    #[test]
    fn nobody_and_noise_are_no_principals() {
        assert_eq!(principal(&leaf("ca", &[])), Err(AuthnError::NoSubject));
        assert_eq!(principal(b"noise"), Err(AuthnError::Malformed));
    }
}
