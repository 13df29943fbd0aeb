//! Certificates for tests: authorities, users and servers.

use eds_keystore::authn::certificate::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::forge::{self, Issued};

/// A certificate with its private key.
pub(crate) struct Credential {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: Vec<u8>,
}

impl Credential {
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).expect("PKCS#8")
    }

    pub(crate) fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("made")).expect("made"))
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate())
    }

    /// The authority with its key, for certificates that need another hand.
    pub(crate) fn issued(&self) -> Issued {
        let der = self.certificate().to_vec();
        let parsed = Certificate::from_der(&der).expect("a certificate");
        Issued {
            subject: parsed.subject().as_der().to_vec(),
            issuer: parsed.issuer().as_der().to_vec(),
            serial: parsed.serial().to_vec(),
            key: forge::Key::from_pkcs8(&self.0.key().serialize_der()),
            der,
        }
    }

    pub(crate) fn user(&self, name: &str) -> Credential {
        self.issue(name, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    pub(crate) fn expired(&self, name: &str) -> Credential {
        self.issue(name, |params| {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        })
    }

    pub(crate) fn server(&self) -> Credential {
        self.issue("node", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        })
    }

    /// A node's certificate for a host, valid for so many days from now.
    pub(crate) fn server_of(&self, host: &str, days: u64) -> Credential {
        self.issue("node", |params| {
            params.subject_alt_names = vec![SanType::DnsName(host.try_into().expect("a host name"))];
            params.not_after = (std::time::SystemTime::now() + std::time::Duration::from_secs(days * 86_400)).into();
        })
    }

    fn issue(&self, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Credential {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Ward");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        adjust(&mut params);
        let key = KeyPair::generate().expect("made");
        let certificate = params.signed_by(&key, &self.0).expect("made").der().clone();
        Credential { certificate, key: key.serialize_der() }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    let text = Base64::encode_string(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
