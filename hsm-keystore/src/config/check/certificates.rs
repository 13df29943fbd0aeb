//! Certificates that `check-config` looks at: readable, in time, for this key and this host.

use eds_core::directory::Directory;
use rustls::{
    client::verify_server_name,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::{Look, one, told};
use crate::{
    authn::certificate::Certificate,
    config::{Named, Reading, Role},
    identity::Identity,
};

impl Look {
    /// Every PEM file of certificates, and the key of the node's own.
    pub(super) fn certificates(&mut self, reading: &Reading) {
        let mut leaf = None;
        for named in reading.named.iter().filter(|named| named.path.is_file()) {
            match named.role {
                Role::Certificate => leaf = self.pem(named),
                Role::Authorities => {
                    self.pem(named);
                }
                _ => {}
            }
        }
        let Some(named) = one(reading, Role::PrivateKey).filter(|named| named.path.is_file()) else { return };
        let key = match PrivateKeyDer::from_pem_file(&named.path) {
            Ok(key) => key,
            // A file that may not be read is told already.
            Err(rustls::pki_types::pem::Error::Io(_)) => return,
            Err(_) => {
                let hint = "it holds a -----BEGIN … PRIVATE KEY----- block that asks for no password";
                return self.error(named.line, told(named, "no private key in PEM"), hint);
            }
        };
        let Some(chain) = leaf else { return };
        if CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).is_err() {
            let hint = "the key must be the one of the first certificate in tls.certificate";
            self.error(
                named.line,
                told(named, "is not the key of tls.certificate, or of no kind that TLS 1.3 takes"),
                hint,
            );
        }
    }

    /// The certificates of a file, each looked at.
    fn pem(&mut self, named: &Named) -> Option<Vec<CertificateDer<'static>>> {
        let hint = "it holds -----BEGIN CERTIFICATE----- blocks";
        let read = CertificateDer::pem_file_iter(&named.path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let found = match read {
            Ok(found) if !found.is_empty() => found,
            Err(rustls::pki_types::pem::Error::Io(_)) => return None,
            _ => {
                self.error(named.line, told(named, "no certificate in PEM"), hint);
                return None;
            }
        };
        let parsed: Vec<_> = found.iter().map(|der| Certificate::from_der(der).ok()).collect();
        let is_current =
            |certificate: &Certificate| (certificate.not_before()..=certificate.not_after()).contains(&self.now);
        // One old authority among others that are current closes nothing but itself.
        let lesser = named.role == Role::Authorities && parsed.iter().flatten().any(is_current);
        for (number, certificate) in parsed.iter().enumerate() {
            let which = format!("certificate {} of {}", number + 1, found.len());
            match certificate {
                Some(certificate) => self.in_time(named, &which, certificate, lesser),
                None => self.error(named.line, told(named, format_args!("{which}: cannot be read")), hint),
            }
        }
        Some(found)
    }

    fn in_time(&mut self, named: &Named, which: &str, certificate: &Certificate, lesser: bool) {
        let left = certificate.not_after().saturating_sub(self.now);
        let wrong = if certificate.not_before() > self.now {
            "is not valid yet".to_owned()
        } else if left < 0 {
            format!("expired {} days ago", left.saturating_neg() / DAY)
        } else if left < SOON {
            let message = told(named, format_args!("{which}: expires in {} days", left / DAY));
            let hint = "have it renewed; SIGHUP loads authorities anew, a restart the node's own certificate";
            return self.warning(named.line, message, hint);
        } else {
            return;
        };
        let message = told(named, format_args!("{which}: {wrong}"));
        let hint = "have it renewed, and see that the clock of this machine is right";
        if lesser { self.warning(named.line, message, hint) } else { self.error(named.line, message, hint) }
    }

    /// That clients who follow the directory's URL will accept the node's certificate.
    pub(super) fn url(&mut self, reading: &Reading, directory: &Directory, identity: &Identity) {
        let Some(named) = one(reading, Role::Certificate).filter(|named| named.path.is_file()) else { return };
        let entry = directory.nodes.iter().find(|node| node.id == identity.node);
        let url: Option<axum::http::Uri> = entry.and_then(|node| node.url.parse().ok());
        let host = url.as_ref().and_then(axum::http::Uri::host).map(|host| host.trim_matches(['[', ']']).to_owned());
        let Some((host, name)) = host.and_then(|host| Some((host.clone(), ServerName::try_from(host).ok()?))) else {
            return;
        };
        let Ok(der) = CertificateDer::from_pem_file(&named.path) else { return };
        let fits = ParsedCertificate::try_from(&der).and_then(|certificate| verify_server_name(&certificate, &name));
        if fits.is_err() {
            let message =
                told(named, format_args!("is not for {host}, the host of this node in the cluster directory"));
            self.error(named.line, message, "have it issued with that subjectAltName; clients refuse it otherwise");
        }
    }
}

/// Below this many seconds an end of validity is told.
const SOON: i64 = 30 * DAY;
const DAY: i64 = 86_400;
