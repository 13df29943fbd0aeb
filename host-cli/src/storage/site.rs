//! Sites: the storages that a user configured, in the order in which they are used.
//!
//! A site is a name, a URL below which its objects lie, and the files that prove who the caller is there. Secrets are never
//! part of it, only the names of files that hold them. A bearer token for key servers is never sent to a storage, which could
//! fetch keys with it: a site has a token file of its own, or none.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{Error, Object, ObjectName, ObjectStore};
use crate::config::Pair;

/// A storage, as the configuration names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    name: String,
    url: SiteUrl,
    access: Access,
}

/// What a site wants to know of the caller, and what the caller wants of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Certificates, leaf first, with their key, shown in the TLS handshake: the caller's proxies and certificates, the first
    /// that there is.
    pub proofs: Vec<Proof>,
    /// A file with a bearer token for this storage.
    pub token_file: Option<PathBuf>,
    /// A name, for a password (HTTP) or an SSH key (SFTP).
    pub user: Option<String>,
    /// A file with the password of `user`.
    pub password_file: Option<PathBuf>,
    /// A file with an S3 access key and its secret, or with an SSH private key.
    pub key_file: Option<PathBuf>,
    /// The known hosts of SSH; the user's own when there is none.
    pub known_hosts: Option<PathBuf>,
    /// PEM file or directory of the authorities of the storage's server; those that the system believes when there is none.
    pub ca: Option<PathBuf>,
    /// The server of an `s3://` URL; Amazon's when there is none.
    pub endpoint: Option<String>,
    /// The region of an `s3://` URL.
    pub region: Option<String>,
}

/// A file that proves who the caller is in the TLS handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// A certificate and its key.
    Certificate(Pair),
    /// A file with an RFC 3820 proxy.
    Proxy(PathBuf),
}

impl Site {
    /// A site.
    ///
    /// # Errors
    /// [`Error::Setting`] when the name is not one, or when the settings do not go with the URL.
    pub fn new(name: &str, url: SiteUrl, access: Access) -> Result<Self, Error> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
            let problem = "its name is not one: up to 64 letters, digits, dots, - and _ are".into();
            return Err(Error::Setting { site: name.into(), problem });
        }
        let s3 = url.protocol() == Protocol::S3;
        let named = [("endpoint", access.endpoint.is_some() && !s3), ("region", access.region.is_some() && !s3)];
        if let Some((setting, _)) = named.into_iter().find(|(_, wrong)| *wrong) {
            let problem = format!("{setting} goes with s3:// only, not with {url}");
            return Err(Error::Setting { site: name.into(), problem });
        }
        Ok(Self { name: name.into(), url, access })
    }

    /// The directory of this machine with this path, under the name `local`.
    pub fn local(path: PathBuf) -> Self {
        Self { name: LOCAL.into(), url: SiteUrl::of_directory(path), access: Access::default() }
    }

    /// Its name, which catalogs record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL below which its objects are.
    pub fn url(&self) -> &SiteUrl {
        &self.url
    }

    /// What proves who the caller is there.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The URL of an object: for display, for catalogs, and for other tools that copy it.
    pub fn url_of(&self, name: &ObjectName) -> String {
        format!("{}/{name}", self.url)
    }

    /// Opens the storage. One elsewhere is not asked anything yet.
    ///
    /// # Errors
    /// [`Error::NotBuilt`], [`Error::Setting`], unusable credentials, and for a local one [`Error::Place`].
    pub fn open(&self) -> Result<Box<dyn ObjectStore>, Error> {
        super::open(self)
    }

    /// Opens any object below the URL of this site, whatever its name is: a replica that another tool made.
    ///
    /// # Errors
    /// As [`Site::open`] and [`ObjectStore::open`]; [`Error::OtherPlace`] when the URL is of elsewhere.
    pub fn open_url(&self, url: &str) -> Result<Box<dyn Object>, Error> {
        let path = self.path_of(url).ok_or_else(|| Error::OtherPlace { url: url.into() })?;
        super::open_any(self)?.open_path(path)
    }

    /// Deletes any object below the URL of this site.
    ///
    /// # Errors
    /// As [`Site::open_url`].
    pub fn delete_url(&self, url: &str) -> Result<(), Error> {
        let path = self.path_of(url).ok_or_else(|| Error::OtherPlace { url: url.into() })?;
        super::open_any(self)?.delete_path(path)
    }

    /// The part of a URL that is below this site's, if it is and does not lead out again.
    fn path_of<'a>(&self, url: &'a str) -> Option<&'a str> {
        let path = url.strip_prefix(self.url.as_str())?.strip_prefix('/')?;
        let sound =
            path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains(['?', '#', '%', '\\']);
        sound.then_some(path)
    }
}

/// The sites of a user: at least one, each name once; the first is where new objects go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sites {
    first: Site,
    more: Vec<Site>,
}

impl Sites {
    /// These sites.
    ///
    /// # Errors
    /// [`Error::NoSite`], [`Error::Setting`] for a name that is there twice.
    pub fn new(sites: Vec<Site>) -> Result<Self, Error> {
        let mut known = Vec::new();
        for site in &sites {
            if known.contains(&site.name()) {
                let problem = "there are two storages of this name".into();
                return Err(Error::Setting { site: site.name.clone(), problem });
            }
            known.push(site.name());
        }
        let mut sites = sites.into_iter();
        let first = sites.next().ok_or(Error::NoSite)?;
        Ok(Self { first, more: sites.collect() })
    }

    /// Where new objects go.
    pub fn first(&self) -> &Site {
        &self.first
    }

    /// All of them, in the configured order.
    pub fn iter(&self) -> impl Iterator<Item = &Site> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The site of this name.
    ///
    /// # Errors
    /// [`Error::UnknownSite`].
    pub fn named(&self, name: &str) -> Result<&Site, Error> {
        self.iter().find(|site| site.name == name).ok_or_else(|| Error::UnknownSite {
            name: name.into(),
            known: self.iter().map(|site| site.name.clone()).collect(),
        })
    }

    /// The site below whose URL this one is; the longest, if there are several.
    pub fn of_url(&self, url: &str) -> Option<&Site> {
        let below = self.iter().filter(|site| site.path_of(url).is_some());
        below.max_by_key(|site| site.url.as_str().len())
    }

    /// Opens an object by its URL, which must be below one of the sites: credentials go nowhere else.
    ///
    /// # Errors
    /// [`Error::OtherPlace`], and as [`Site::open_url`].
    pub fn open_url(&self, url: &str) -> Result<Box<dyn Object>, Error> {
        self.of_url(url).ok_or_else(|| Error::OtherPlace { url: url.into() })?.open_url(url)
    }
}

/// A URL below which objects lie: `scheme://authority/path`, without a slash at its end, a query, or a password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteUrl {
    text: String,
    protocol: Protocol,
    /// Where the authority ends and the path begins.
    path: usize,
}

/// How a storage is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Protocol {
    /// A directory of this machine.
    File,
    /// S3.
    S3,
    /// HTTP with the verbs of WebDAV, and XRootD's HTTP.
    Http {
        /// Whether over TLS.
        tls: bool,
    },
    /// SFTP.
    Sftp,
    /// Whatever libgfal2 speaks.
    Gfal,
}

impl SiteUrl {
    fn of_directory(path: PathBuf) -> Self {
        Self { text: format!("file://{}", path.display()), protocol: Protocol::File, path: "file://".len() }
    }

    /// How it is spoken to.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part between the scheme and the path: host and port, or an S3 bucket.
    pub fn authority(&self) -> &str {
        let start = self.text.find("://").map_or(0, |end| end + 3);
        self.text.get(start..self.path).unwrap_or_default()
    }

    /// The part after the authority: empty, or with a slash at its start and none at its end.
    pub fn path(&self) -> &str {
        self.text.get(self.path..).unwrap_or_default()
    }
}

impl FromStr for SiteUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |problem: &'static str| Error::Url { url: text.into(), problem };
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| wrong("it has no scheme, such as s3:// or davs://"))?;
        let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "+-.".contains(letter);
        if !scheme.starts_with(|first: char| first.is_ascii_lowercase()) || !scheme.chars().all(letters) {
            return Err(wrong("its scheme is not one: small letters are"));
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if authority.split_once('@').is_some_and(|(user, _)| user.contains(':')) {
            // Without the text: there is a password in it.
            let url = format!("{scheme}://…");
            return Err(Error::Url {
                url,
                problem: "a password does not belong into it: name a file with password_file",
            });
        }
        let protocol = match scheme {
            "file" => Protocol::File,
            "s3" => Protocol::S3,
            "http" | "dav" => Protocol::Http { tls: false },
            "https" | "davs" => Protocol::Http { tls: true },
            "sftp" => Protocol::Sftp,
            _ => Protocol::Gfal,
        };
        match protocol {
            Protocol::File if !authority.is_empty() => {
                return Err(wrong("a file:// URL has three slashes and no host"));
            }
            Protocol::File if path.trim_end_matches('/').is_empty() => return Err(wrong("it names no directory")),
            Protocol::File => {}
            _ if authority.is_empty() => return Err(wrong("it names no host or bucket")),
            // The SURL of a storage resource manager names its path in a query.
            Protocol::Gfal if !text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) => {}
            _ if text.contains(['?', '#']) => return Err(wrong("it has a query or a fragment")),
            _ if text.contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == '%') => {
                return Err(wrong("it has white space or an escape in it"));
            }
            _ => {}
        }
        if path.split('/').any(|part| part == "..") {
            return Err(wrong("it has .. in its path"));
        }
        let text = text.trim_end_matches('/').to_owned();
        let path = (scheme.len() + 3 + authority.len()).min(text.len());
        Ok(Self { text, protocol, path })
    }
}

impl fmt::Display for SiteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of the site that `storage.path` makes.
pub const LOCAL: &str = "local";
const MAX_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SiteUrl {
        text.parse().expect("a URL")
    }

    fn site(name: &str, text: &str) -> Site {
        Site::new(name, url(text), Access::default()).expect("a site")
    }

    #[test]
    fn a_url_says_how_its_storage_is_spoken_to() {
        for (text, protocol, authority, path) in [
            ("file:///srv/objects/", Protocol::File, "", "/srv/objects"),
            ("s3://images", Protocol::S3, "images", ""),
            ("s3://images/eds/", Protocol::S3, "images", "/eds"),
            ("davs://se.example:1094/myvo/eds", Protocol::Http { tls: true }, "se.example:1094", "/myvo/eds"),
            ("http://127.0.0.1:80", Protocol::Http { tls: false }, "127.0.0.1:80", ""),
            ("sftp://eds@host/srv", Protocol::Sftp, "eds@host", "/srv"),
            ("root://se.example//myvo", Protocol::Gfal, "se.example", "//myvo"),
            ("srm://se:8443/srm/managerv2?SFN=/myvo", Protocol::Gfal, "se:8443", "/srm/managerv2?SFN=/myvo"),
        ] {
            let url = url(text);
            assert_eq!((url.protocol(), url.authority(), url.path()), (protocol, authority, path), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_and_no_password_is_repeated() {
        for text in [
            "",
            "/srv",
            "S3://x",
            "file://host/x",
            "file:///",
            "s3:///x",
            "https://h/a?b",
            "https://h/a/../b",
            "https://h/a b",
        ] {
            assert!(matches!(text.parse::<SiteUrl>(), Err(Error::Url { .. })), "{text:?}");
        }
        let error = "https://eds:hunter2@host/x".parse::<SiteUrl>().expect_err("refused");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_replica_belongs_to_the_site_it_lies_below_and_cannot_lead_out() {
        let sites = Sites::new(vec![site("a", "s3://images"), site("b", "s3://images/eds")]).expect("sites");
        let name = |url: &str| sites.of_url(url).map(|site| site.name().to_owned());
        assert_eq!(name("s3://images/eds/copy").as_deref(), Some("b"));
        assert_eq!(name("s3://images/other").as_deref(), Some("a"));
        for elsewhere in [
            "s3://imagesx/y",
            "s3://images/eds/../../x",
            "s3://images/a%2e%2e/b",
            "s3://images",
            "https://evil.example/x",
        ] {
            assert_eq!(name(elsewhere), None, "{elsewhere}");
        }
        assert!(matches!(sites.open_url("https://evil.example/x"), Err(Error::OtherPlace { .. })));
    }

    #[test]
    fn sites_are_found_by_name_and_each_has_its_own() {
        let sites = Sites::new(vec![site("a", "s3://one"), site("b", "s3://two")]).expect("sites");
        assert_eq!(sites.first().name(), "a");
        assert_eq!(sites.named("b").expect("is there").url().as_str(), "s3://two");
        assert!(matches!(sites.named("c"), Err(Error::UnknownSite { .. })));
        assert!(matches!(Sites::new(Vec::new()), Err(Error::NoSite)));
        assert!(Sites::new(vec![site("a", "s3://one"), site("a", "s3://two")]).is_err());
        assert!(Site::new("no spaces", url("s3://x"), Access::default()).is_err());
        let access = Access { region: Some("eu".into()), ..Access::default() };
        assert!(Site::new("a", url("https://x"), access).is_err(), "a region of a storage that has none");
    }
}
