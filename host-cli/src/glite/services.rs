//! `services.xml`: where the original finds its servers.
//!
//! The file is believed for nothing but which servers the user means. Who they are stands in the signed directory of the
//! cluster, and a file that names others, or fewer, is refused: a key has a share on every server.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use eds_core::directory::Directory;
use quick_xml::{Reader, events::Event};

use crate::{Error, Kind};

/// What the services are looked for by, when `GLITE_SD_METADATA_TYPE` does not say.
const USUAL_TYPE: &str = "org.glite.Metadata";

/// One service of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Service {
    name: String,
    endpoint: String,
    kind: String,
    associated: Vec<String>,
}

/// A file of services that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServicesError {
    /// `GLITE_SD_PLUGIN` asks for something else than a file.
    #[error("GLITE_SD_PLUGIN is {0:?}, and only \"file\" is known")]
    Plugin(OsString),
    /// The plugin is a file, and no file is named.
    #[error("GLITE_SD_PLUGIN is \"file\", and GLITE_SD_SERVICES_XML names none")]
    NoFile,
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of something else.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No service of the type or name.
    #[error("{} has no service {wanted}", path.display())]
    NoService {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: String,
    },
    /// A service that the directory does not know.
    #[error("{}: service {name:?} at {endpoint} is no key server of the signed directory of this cluster", path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
        /// The service.
        name: String,
        /// Where it is said to be.
        endpoint: String,
    },
    /// A key server that the file leaves out.
    #[error("{}: the key server at {url} of the signed directory is not among the services", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Where it is.
        url: String,
    },
}

impl ServicesError {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            _ => Kind::Usage,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Plugin(_) | Self::NoFile => "export GLITE_SD_PLUGIN=file GLITE_SD_SERVICES_XML=PATH",
            Self::NoService { .. } => "GLITE_SD_METADATA_TYPE says which type is looked for, -s which service",
            Self::Stranger { .. } | Self::Missing { .. } => {
                "the directory that the officers signed is believed, and never this file: `eds cluster show` shows the \
                 servers; name all of them, or unset GLITE_SD_SERVICES_XML"
            }
            Self::Read { .. } | Self::Malformed { .. } => return None,
        };
        Some(text.into())
    }
}

/// Checks the services that the variables name, if they do, against the directory. `wanted` is a service or a URL.
///
/// # Errors
/// [`ServicesError`].
pub(super) fn check(
    directory: &Directory,
    environment: &dyn Fn(&str) -> Option<OsString>,
    wanted: Option<&str>,
) -> Result<(), Error> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let plugin = set("GLITE_SD_PLUGIN");
    if let Some(other) = plugin.as_ref().filter(|plugin| *plugin != "file") {
        return Err(ServicesError::Plugin(other.clone()).into());
    }
    let Some(path) = set("GLITE_SD_SERVICES_XML").map(PathBuf::from) else {
        if plugin.is_some() {
            return Err(ServicesError::NoFile.into());
        }
        return match wanted {
            Some(wanted) if !directory.active().any(|node| same_server(&node.url, wanted)) => {
                let (path, name) = ("-s".into(), wanted.to_owned());
                Err(ServicesError::Stranger { path, endpoint: name.clone(), name }.into())
            }
            _ => Ok(()),
        };
    };
    let text = fs::read_to_string(&path).map_err(|source| ServicesError::Read { path: path.clone(), source })?;
    let services = read(&text).map_err(|problem| ServicesError::Malformed { path: path.clone(), problem })?;
    let kind = set("GLITE_SD_METADATA_TYPE");
    let kind = kind.as_ref().map_or(USUAL_TYPE.into(), |kind| kind.to_string_lossy());
    agrees(directory, &path, &chosen(&path, &services, &kind, wanted)?)
}

/// The first service of the type, or the one that is wanted, with those that are associated with it.
fn chosen<'s>(
    path: &Path,
    services: &'s [Service],
    kind: &str,
    wanted: Option<&str>,
) -> Result<Vec<&'s Service>, Error> {
    let none = |wanted: &str| ServicesError::NoService { path: path.into(), wanted: wanted.into() };
    let first = match wanted {
        Some(wanted) => services
            .iter()
            .find(|service| service.name == wanted || same_server(&service.endpoint, wanted))
            .ok_or_else(|| none(wanted))?,
        None => services.iter().find(|service| service.kind == kind).ok_or_else(|| none(&format!("of type {kind}")))?,
    };
    let associated = first
        .associated
        .iter()
        .map(|name| services.iter().find(|service| service.name == *name).ok_or_else(|| Error::from(none(name))));
    std::iter::once(Ok(first)).chain(associated).collect()
}

fn agrees(directory: &Directory, path: &Path, services: &[&Service]) -> Result<(), Error> {
    for service in services {
        if !directory.active().any(|node| same_server(&node.url, &service.endpoint)) {
            let (name, endpoint) = (service.name.clone(), service.endpoint.clone());
            return Err(ServicesError::Stranger { path: path.into(), name, endpoint }.into());
        }
    }
    let named = |url: &str| services.iter().any(|service| same_server(url, &service.endpoint));
    match directory.active().find(|node| !named(&node.url)) {
        Some(node) => Err(ServicesError::Missing { path: path.into(), url: node.url.as_str().into() }.into()),
        None => Ok(()),
    }
}

/// Whether two URLs are of one server: scheme, host and port. What the original has behind them is not compared.
fn same_server(one: &str, other: &str) -> bool {
    server(one).is_some_and(|one| server(other).is_some_and(|other| one == other))
}

fn server(url: &str) -> Option<(String, u16)> {
    let uri: hyper::Uri = url.trim().parse().ok()?;
    if uri.scheme_str() != Some("https") {
        return None;
    }
    Some((uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(443)))
}

/// The services in a text.
fn read(text: &str) -> Result<Vec<Service>, String> {
    let mut reader = Reader::from_str(text);
    let (mut services, mut current): (Vec<Service>, Option<Service>) = (Vec::new(), None);
    let mut path: Vec<String> = Vec::new();
    let mut content = String::new();
    loop {
        let event = reader.read_event().map_err(|error| format!("it is not XML: {error}"))?;
        match event {
            Event::Start(tag) => {
                let name = local(tag.local_name().as_ref());
                if name == "service" {
                    let attribute = tag.attributes().flatten().find(|attribute| attribute.key.as_ref() == b"name");
                    let name = attribute.map(|attribute| String::from_utf8_lossy(&attribute.value).into_owned());
                    let name = name.ok_or("a service has no name")?;
                    current = Some(Service { name, ..Service::default() });
                }
                content.clear();
                path.push(name);
            }
            Event::Text(text) => content.push_str(&text.decode().map_err(|error| error.to_string())?),
            Event::CData(text) => content.push_str(&String::from_utf8_lossy(&text)),
            Event::End(tag) => {
                let name = local(tag.local_name().as_ref());
                path.pop();
                let inside = path.last().map(String::as_str);
                let value = content.trim().to_owned();
                match (&mut current, name.as_str(), inside) {
                    (Some(service), "endpoint", Some("parameters")) => service.endpoint = value,
                    (Some(service), "type", Some("parameters")) => service.kind = value,
                    (Some(service), "name", Some("associatedservices")) => service.associated.push(value),
                    (_, "service", _) => services.extend(current.take()),
                    _ => {}
                }
                content.clear();
            }
            Event::Eof if path.is_empty() => return Ok(services),
            Event::Eof => return Err("it ends too early".into()),
            _ => {}
        }
    }
}

fn local(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"<?xml version="1.0"?>
<!-- three servers, and something else -->
<services>
  <service name="catalog"><parameters><endpoint>https://c.example</endpoint><type>org.glite.Catalog</type></parameters></service>
  <service name="hydra-1">
    <parameters><endpoint> https://one.example:7443/glite-data-hydra-service/services/Metadata
    </endpoint><type>org.glite.Metadata</type><version>2.0</version></parameters>
    <associatedservices><name>hydra-2</name><name>hydra-3</name></associatedservices>
  </service>
  <service name="hydra-2"><parameters><endpoint>https://two.example:7443</endpoint><type>org.glite.Metadata</type></parameters></service>
  <service name="hydra-3"><parameters><endpoint>https://three.example</endpoint><type>org.glite.Metadata</type></parameters></service>
</services>"#;

    #[test]
    fn the_first_of_the_type_and_its_associated_services_are_the_servers() {
        let services = read(FILE).expect("XML");
        let names = |kind: &str, wanted: Option<&str>| {
            let chosen = chosen(Path::new("services.xml"), &services, kind, wanted);
            chosen.map(|chosen| chosen.iter().map(|service| service.name.clone()).collect::<Vec<_>>()).ok()
        };
        let all = ["hydra-1", "hydra-2", "hydra-3"].map(str::to_owned).to_vec();
        assert_eq!(names(USUAL_TYPE, None), Some(all.clone()));
        assert_eq!(names(USUAL_TYPE, Some("hydra-1")), Some(all.clone()));
        assert_eq!(names(USUAL_TYPE, Some("https://one.example:7443/other")), Some(all));
        assert_eq!(names(USUAL_TYPE, Some("hydra-3")), Some(vec!["hydra-3".into()]));
        assert_eq!(names("org.glite.Catalog", None), Some(vec!["catalog".into()]));
        assert_eq!(names("org.other", None), None);
        assert_eq!(names(USUAL_TYPE, Some("hydra-9")), None);
    }

    #[test]
    fn servers_are_compared_by_scheme_host_and_port() {
        assert!(same_server("https://A.example:443/x", "https://a.example"));
        for other in ["https://a.example:444", "https://b.example", "http://a.example", "a.example", ""] {
            assert!(!same_server("https://a.example", other), "{other}");
        }
    }

    #[test]
    fn what_is_no_file_of_services_is_refused() {
        for text in ["<services><service name='a'>", "<service><parameters/></service>", "<a></b>", "<services"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("").expect("empty"), []);
    }
}
