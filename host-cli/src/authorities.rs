//! Which authorities may vouch for a server that is not a key server: those of a file or a directory, else the system's.
//!
//! A directory is one of `X509_CERT_DIR`: every certificate in it whose name ends in a number or in `.pem` counts.

use std::path::{Path, PathBuf};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub(crate) struct Unusable {
    pub(crate) path: PathBuf,
    pub(crate) problem: String,
}

/// The authorities of this file or directory; without one, those that the system believes.
pub(crate) fn load(place: Option<&Path>) -> Result<RootCertStore, Unusable> {
    let usual = || SYSTEM.iter().map(Path::new).find(|path| path.exists());
    let path = place.or_else(usual).unwrap_or(Path::new("ca-certificates.crt"));
    let wrong = |problem: String| Unusable { path: path.into(), problem };
    let files = if path.is_dir() {
        let entries = path.read_dir().map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        files.filter(|file| file.extension().is_some_and(is_certificate)).collect()
    } else {
        vec![path.to_path_buf()]
    };
    let mut roots = RootCertStore::empty();
    let mut added = 0;
    for file in files {
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(&file).and_then(Iterator::collect).map_err(|error| Unusable {
                path: file,
                problem: format!("cannot be read as PEM certificates: {error}"),
            })?;
        added += roots.add_parsable_certificates(certificates).0;
    }
    if added == 0 {
        return Err(wrong("holds no authority that can be used".into()));
    }
    Ok(roots)
}

/// `0a1b2c3d.0`, as OpenSSL finds them, or `name.pem`.
fn is_certificate(extension: &std::ffi::OsStr) -> bool {
    extension == "pem" || extension.to_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Where systems keep the authorities that they believe: Debian's, and Red Hat's.
const SYSTEM: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
