//! Which file a URL names.
//!
//! | URL | names |
//! |---|---|
//! | `eds:<id>`, `guid:<id>` | the file with this id |
//! | `eds:/a/b`, `eds:///a/b`, `lfn:/a/b`, `lfn:///a/b` | the file or directory with this logical name |
//! | `lfc://host/a/b` | the same; the catalog is that of the configuration, whatever the host |

use eds_core::ids::FileId;

use crate::failure::Failure;

/// What a URL names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Url {
    /// A file by its id.
    File(FileId),
    /// A logical name: an absolute path.
    Name(String),
}

/// Whether a URL is one of ours. Asked for every URL that a program uses: it looks at the start alone.
pub(crate) fn is_ours(url: &str) -> bool {
    scheme(url).is_some()
}

fn scheme(url: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let scheme = match scheme {
        "eds" => Scheme::Eds,
        "guid" => Scheme::Guid,
        "lfn" => Scheme::Lfn,
        "lfc" => Scheme::Lfc,
        _ => return None,
    };
    Some((scheme, rest))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Eds,
    Guid,
    Lfn,
    Lfc,
}

impl Url {
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::new(libc::EINVAL, format!("{url}: {why}"));
        let (scheme, rest) = scheme(url).ok_or_else(|| wrong("not a URL of this plugin"))?;
        let path = match (scheme, rest.strip_prefix("//")) {
            // The host of the catalog comes first.
            (Scheme::Lfc, Some(rest)) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default(),
            // An empty host, or a name that somebody wrote with two slashes, as the published examples do.
            (_, Some(rest)) if rest.starts_with('/') => rest,
            (Scheme::Lfn, Some(_)) => rest.get(1..).unwrap_or_default(),
            (_, Some(rest)) => rest,
            (_, None) => rest,
        };
        if path.starts_with('/') && scheme != Scheme::Guid {
            return match path.split('/').any(|part| part == ".." || part == ".") {
                true => Err(wrong("a logical name has no . and no ..")),
                false => Ok(Self::Name(tidy(path))),
            };
        }
        let id = path.trim_matches('/').parse().map_err(|_| wrong("neither an id nor an absolute logical name"))?;
        match scheme {
            Scheme::Eds | Scheme::Guid => Ok(Self::File(id)),
            Scheme::Lfn | Scheme::Lfc => Err(wrong("a logical name starts with /")),
        }
    }
}

/// Without doubled slashes and without one at the end.
fn tidy(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty());
    let path = parts.fold(String::new(), |path, part| path + "/" + part);
    if path.is_empty() { "/".into() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn files_are_named_by_id_or_by_logical_name() {
        let id = Url::File(ID.parse().expect("an id"));
        for url in [format!("eds:{ID}"), format!("eds://{ID}"), format!("guid:{ID}"), format!("guid:///{ID}")] {
            assert_eq!(Url::parse(&url).expect("names it"), id, "{url}");
        }
        let name = Url::Name("/myvo/home/secret".into());
        for url in [
            "eds:/myvo/home/secret",
            "eds:///myvo/home/secret",
            "eds:/myvo//home/secret/",
            "lfn:/myvo/home/secret",
            "lfn://myvo/home/secret",
            "lfn:///myvo/home/secret",
            "lfc://catalog.example.org/myvo/home/secret",
        ] {
            assert_eq!(Url::parse(url).expect("names it"), name, "{url}");
        }
        for url in ["eds:/", "eds:///", "lfn:/", "lfc://catalog.example.org/"] {
            assert_eq!(Url::parse(url).expect("names the root"), Url::Name("/".into()), "{url}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for url in ["eds:", "eds:home/secret", "guid:/a/b", "lfn:home", "lfc://host", "eds:/a/../b", "eds:/./a"] {
            assert_eq!(Url::parse(url).expect_err(url).errno, libc::EINVAL, "{url}");
        }
        for url in ["file:///tmp/x", "edsx:/a", "root://host//a", "eds", ""] {
            assert!(!is_ours(url), "{url}");
        }
    }
}
