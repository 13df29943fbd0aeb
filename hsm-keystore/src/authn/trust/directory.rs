//! Loads authorities from the grid's hashed directories and from PEM bundles. The only file access of trust.
//!
//! In a directory every `<hash>.<n>` is a certificate, `<hash>.r<n>` a revocation list and `<hash>.signing_policy` a
//! policy; both hash styles of OpenSSL are only file names here. A certificate that cannot be read is left out with a
//! warning; a list or a policy that cannot be read makes the authorities of the same hash unusable.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};

use super::{Authority, Crl, Settings, SigningPolicy, TrustError, TrustStore};
use crate::authn::certificate::Certificate;

/// Authorities that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory cannot be read.
    #[error("{path}: cannot be read\nhint: see that this user may read it")]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A bundle holds something else than certificates and revocation lists.
    #[error("{path}: holds no certificates, or something that is not one\nhint: give a PEM file of authorities")]
    NotCertificates {
        /// The file.
        path: PathBuf,
    },
    /// The directory holds no authority.
    #[error(
        "{path}: holds no authority\nhint: files are named by hash, such as 5a1b2c3d.0; `openssl rehash` makes the names"
    )]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// The authorities cannot be used together.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Where authorities are found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    /// Directories in the hashed layout of the grid.
    pub directories: Vec<PathBuf>,
    /// PEM files of certificates, and of revocation lists if there are any.
    pub bundles: Vec<PathBuf>,
}

/// Loads a store; the second value holds warnings, one a line of a log.
///
/// # Errors
/// [`LoadError`].
pub fn load(sources: &Sources, settings: Settings) -> Result<(TrustStore, Vec<String>), LoadError> {
    let (mut authorities, mut crls, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for directory in &sources.directories {
        load_directory(directory, &mut authorities, &mut crls, &mut warnings)?;
    }
    for bundle in &sources.bundles {
        load_bundle(bundle, &mut authorities, &mut crls)?;
    }
    Ok((TrustStore::new(authorities, crls, settings)?, warnings))
}

#[derive(Default)]
struct Hash {
    certificates: Vec<PathBuf>,
    crls: Vec<PathBuf>,
    policy: Option<PathBuf>,
}

fn load_directory(
    directory: &Path,
    authorities: &mut Vec<Authority>,
    crls: &mut Vec<Crl>,
    warnings: &mut Vec<String>,
) -> Result<(), LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: directory.to_owned(), source };
    let mut hashes: BTreeMap<String, Hash> = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some((stem, ending)) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('.'))
        else {
            continue;
        };
        if stem.len() != 8 || !stem.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let numbered = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let hash = hashes.entry(stem.to_owned()).or_default();
        match ending {
            "signing_policy" => hash.policy = Some(path),
            number if numbered(number) => hash.certificates.push(path),
            list if list.strip_prefix('r').is_some_and(numbered) => hash.crls.push(path),
            _ => {}
        }
    }
    let before = authorities.len();
    for hash in hashes.into_values() {
        let mut unusable = None;
        for path in &hash.crls {
            match read(path).ok().and_then(|bytes| parse_crls(&bytes)) {
                Some(found) if !found.is_empty() => crls.extend(found),
                _ => unusable = Some(format!("its revocation list {} cannot be read", path.display())),
            }
        }
        let mut policy = None;
        if let Some(path) = &hash.policy {
            let text = read(path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            match text.as_deref().map(SigningPolicy::parse) {
                Some(Ok(parsed)) => policy = Some(parsed),
                Some(Err(reason)) => {
                    unusable = Some(format!("its signing policy {} cannot be read: {reason}", path.display()))
                }
                None => unusable = Some(format!("its signing policy {} cannot be read", path.display())),
            }
        }
        if let (Some(reason), Some(path)) = (&unusable, hash.certificates.first()) {
            warnings.push(format!("{}: nothing that this authority issued counts: {reason}", path.display()));
        }
        for path in hash.certificates {
            match read(&path).ok().and_then(|bytes| parse_certificates(&bytes)) {
                Some(found) if !found.is_empty() => {
                    authorities.extend(found.into_iter().map(|certificate| Authority {
                        certificate,
                        policy: policy.clone(),
                        unusable: unusable.clone(),
                        source: path.display().to_string(),
                    }))
                }
                _ => warnings.push(format!("{}: left out: not a certificate that can be read", path.display())),
            }
        }
    }
    if authorities.len() == before { Err(LoadError::Empty { path: directory.to_owned() }) } else { Ok(()) }
}

fn load_bundle(path: &Path, authorities: &mut Vec<Authority>, crls: &mut Vec<Crl>) -> Result<(), LoadError> {
    let bytes = read(path)?;
    let wrong = || LoadError::NotCertificates { path: path.to_owned() };
    let certificates = parse_certificates(&bytes).filter(|found| !found.is_empty()).ok_or_else(wrong)?;
    crls.extend(parse_crls(&bytes).ok_or_else(wrong)?);
    authorities.extend(certificates.into_iter().map(|certificate| Authority {
        certificate,
        policy: None,
        unusable: None,
        source: path.display().to_string(),
    }));
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })
}

/// All certificates of a PEM file, or the one of a DER file; `None` if any cannot be read.
pub(crate) fn parse_certificates(bytes: &[u8]) -> Option<Vec<Certificate>> {
    if bytes.first() == Some(&0x30) {
        return Some(vec![Certificate::from_der(bytes).ok()?]);
    }
    CertificateDer::pem_slice_iter(bytes).map(|item| Certificate::from_der(&item.ok()?).ok()).collect()
}

fn parse_crls(bytes: &[u8]) -> Option<Vec<Crl>> {
    if bytes.first() == Some(&0x30) {
        return Some(vec![Crl::from_der(bytes).ok()?]);
    }
    CertificateRevocationListDer::pem_slice_iter(bytes).map(|item| Crl::from_der(&item.ok()?).ok()).collect()
}
