//! Test certificates: an authority, servers and people, and the wrong ones that must be turned away.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::{Outcome, trouble::During as _};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its private key, both PEM.
#[derive(Debug)]
pub struct Credentials {
    certificate: String,
    key: String,
}

/// Where [`Credentials`] were written.
#[derive(Clone, Debug)]
pub struct CredentialFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key, mode 0600.
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority with a new key.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn new(name: &str) -> Outcome<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::OrganizationName, "EDS test hospital");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Writes the authority's own certificate.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Outcome {
        fs::write(path, &self.certificate).during(path.display())
    }

    /// A certificate for a key server on the loopback address.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn server(&self, name: &str) -> Outcome<Credentials> {
        let hosts = vec![String::from("127.0.0.1"), String::from("localhost")];
        self.issue(CertificateParams::new(hosts)?, name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a person.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn person(&self, name: &str) -> Outcome<Credentials> {
        self.issue(CertificateParams::new(Vec::new())?, name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate for a person that ran out long ago.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn expired_person(&self, name: &str) -> Outcome<Credentials> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.issue(params, name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, name: &str, usage: ExtendedKeyUsagePurpose) -> Outcome<Credentials> {
        params.distinguished_name.push(DnType::OrganizationName, "EDS test hospital");
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Credentials { certificate, key: key.serialize_pem() })
    }
}

impl Credentials {
    /// Reads what another program made.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(files: &CredentialFiles) -> Outcome<Self> {
        let read = |path: &Path| fs::read_to_string(path).during(path.display());
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    /// Writes `<stem>.crt` and `<stem>.key` into a folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path, stem: &str) -> Outcome<CredentialFiles> {
        let certificate = folder.join(format!("{stem}.crt"));
        let key = folder.join(format!("{stem}.key"));
        fs::write(&certificate, &self.certificate).during(certificate.display())?;
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&key)?;
        file.write_all(self.key.as_bytes())?;
        Ok(CredentialFiles { certificate, key })
    }
}
