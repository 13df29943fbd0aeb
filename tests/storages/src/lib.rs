//! Sites of the lab, as a configuration would name them; the tests over them are in `tests/`.

use eds::storage::{
    Site,
    site::{Access, Proof},
};
use eds_tests::{
    Outcome, Trouble,
    storages::{Apache, Lab, Seaweed, Srm, Sshd, Xrootd},
};

/// A site with this URL and these proofs.
///
/// # Errors
/// When it is none.
pub fn site(name: &str, url: &str, access: Access) -> Outcome<Site> {
    let wrong = |error: eds::storage::Error| Trouble::new(error.to_string());
    Site::new(name, url.parse().map_err(wrong)?, access).map_err(wrong)
}

/// XRootD's HTTP door, for the holder of a proxy.
///
/// # Errors
/// As [`site`].
pub fn davs(lab: &Lab, xrootd: &Xrootd, proxy: &std::path::Path) -> Outcome<Site> {
    let access =
        Access { proofs: vec![Proof::Proxy(proxy.into())], ca: Some(lab.grid().authorities()), ..Access::default() };
    site("davs", &xrootd.url("davs", "/myvo/radiology/eds"), access)
}

/// XRootD's own protocol, through libgfal2.
///
/// # Errors
/// As [`site`].
pub fn root(xrootd: &Xrootd, proxy: &std::path::Path) -> Outcome<Site> {
    let access = Access { proofs: vec![Proof::Proxy(proxy.into())], ..Access::default() };
    site("root", &xrootd.url("root", "//myvo/radiology/eds"), access)
}

/// The stand-in of a storage resource manager, through Debian's libgfal2.
///
/// # Errors
/// As [`site`].
pub fn srm(srm: &Srm, proxy: &std::path::Path) -> Outcome<Site> {
    let access = Access { proofs: vec![Proof::Proxy(proxy.into())], ..Access::default() };
    site("srm", &srm.url(), access)
}

/// Apache with WebDAV and a password.
///
/// # Errors
/// As [`site`].
pub fn webdav(lab: &Lab, apache: &Apache) -> Outcome<Site> {
    let access = Access {
        user: Some(Apache::USER.into()),
        password_file: Some(apache.password_file()),
        ca: Some(lab.grid().authorities()),
        ..Access::default()
    };
    site("webdav", &apache.url(), access)
}

/// SeaweedFS with S3.
///
/// # Errors
/// As [`site`].
pub fn s3(seaweed: &Seaweed) -> Outcome<Site> {
    let access = Access { key_file: Some(seaweed.key_file()), endpoint: Some(seaweed.endpoint()), ..Access::default() };
    site("s3", "s3://images/eds", access)
}

/// OpenSSH.
///
/// # Errors
/// As [`site`].
pub fn sftp(sshd: &Sshd) -> Outcome<Site> {
    let access = Access { key_file: Some(sshd.key_file()), known_hosts: Some(sshd.known_hosts()), ..Access::default() };
    site("sftp", &sshd.url(), access)
}
