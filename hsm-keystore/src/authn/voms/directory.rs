//! `vomsdir`: which server may attest groups of which VO.
//!
//! `<vo>/<host>.lsc` lists, in alternating lines, subject and issuer of the signer's certificate and of each certificate
//! above it, in slash form; several chains are separated by `------ NEXT CHAIN ------`. A PEM certificate in `<vo>/` stands
//! for a server of the VO by its very key. One in the directory itself would stand for servers of every VO, as it did long
//! ago; it is left out with a warning. Loading is the only file access.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use super::fqan::is_vo_name;
use crate::authn::{
    certificate::Certificate,
    trust::directory::{LoadError, parse_certificates, read},
};

/// Subject and issuer of each certificate of a chain, from the signer up.
pub type ListedChain = Vec<(String, String)>;

/// Which server may attest groups of which VO.
#[derive(Clone, Debug, Default)]
pub struct VomsDirectory {
    listed: HashMap<(String, String), Vec<ListedChain>>,
    by_vo: HashMap<String, Vec<Certificate>>,
}

impl VomsDirectory {
    /// Loads a directory; the second value holds warnings about files that were left out.
    ///
    /// # Errors
    /// [`LoadError`] when the directory cannot be read.
    pub fn load(path: &Path) -> Result<(Self, Vec<String>), LoadError> {
        let (mut directory, mut warnings) = (Self::default(), Vec::new());
        for (entry, name) in entries(path)? {
            if entry.is_dir() {
                if !is_vo_name(&name) {
                    warnings.push(format!("{}: left out: not the name of a VO", entry.display()));
                    continue;
                }
                directory.load_vo(&entry, &name, &mut warnings)?;
            } else if name.ends_with(".pem") {
                warnings.push(format!(
                    "{}: left out: put it into the directory of the VO that it may speak for",
                    entry.display()
                ));
            }
        }
        Ok((directory, warnings))
    }

    fn load_vo(&mut self, path: &Path, vo: &str, warnings: &mut Vec<String>) -> Result<(), LoadError> {
        for (entry, name) in entries(path)? {
            if let Some(host) = name.strip_suffix(".lsc") {
                let text = read(&entry).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                match text.as_deref().and_then(parse_lsc) {
                    Some(chains) => self.list(vo, host, chains),
                    None => warnings.push(format!("{}: left out: not pairs of subject and issuer", entry.display())),
                }
            } else if name.ends_with(".pem") {
                match certificates_of(&entry) {
                    Some(found) => self.by_vo.entry(vo.to_owned()).or_default().extend(found),
                    None => warnings.push(format!("{}: left out: not certificates that can be read", entry.display())),
                }
            }
        }
        Ok(())
    }

    /// Lists the chains of a server, as its `.lsc` would.
    pub fn list(&mut self, vo: &str, host: &str, chains: Vec<ListedChain>) {
        self.listed.insert((vo.to_owned(), host.to_ascii_lowercase()), chains);
    }

    /// Lists a server of the VO by its certificate.
    pub fn pin(&mut self, vo: &str, certificate: Certificate) {
        self.by_vo.entry(vo.to_owned()).or_default().push(certificate);
    }

    /// The chains of this server of this VO.
    pub(crate) fn chains(&self, vo: &str, host: &str) -> Option<&[ListedChain]> {
        self.listed.get(&(vo.to_owned(), host.to_ascii_lowercase())).map(Vec::as_slice)
    }

    /// The certificates of servers of this VO.
    pub(crate) fn pinned(&self, vo: &str) -> impl Iterator<Item = &Certificate> {
        self.by_vo.get(vo).into_iter().flatten()
    }
}

/// The chains of an `.lsc` file; `None` if it is not one.
pub fn parse_lsc(text: &str) -> Option<Vec<ListedChain>> {
    let mut chains = vec![Vec::new()];
    let mut subject: Option<&str> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with("------") {
            if subject.is_some() {
                return None;
            }
            chains.push(Vec::new());
            continue;
        }
        if !line.starts_with('/') {
            return None;
        }
        match subject.take() {
            None => subject = Some(line),
            Some(subject) => chains.last_mut()?.push((subject.to_owned(), line.to_owned())),
        }
    }
    chains.retain(|chain| !chain.is_empty());
    if subject.is_some() || chains.is_empty() { None } else { Some(chains) }
}

fn entries(path: &Path) -> Result<Vec<(PathBuf, String)>, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) {
            found.push((path, name));
        }
    }
    found.sort();
    Ok(found)
}

fn certificates_of(path: &Path) -> Option<Vec<Certificate>> {
    parse_certificates(&read(path).ok()?).filter(|found| !found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsc_files_hold_pairs_and_several_chains() {
        let pair = |subject: &str, issuer: &str| (subject.to_owned(), issuer.to_owned());
        let text = "# VOMS\n/CN=voms\n/CN=CA\n\n------ NEXT CHAIN ------\n/CN=voms2\n/CN=Sub\n/CN=Sub\n/CN=CA\n";
        let chains = parse_lsc(text).expect("two chains");
        assert_eq!(
            chains,
            [vec![pair("/CN=voms", "/CN=CA")], vec![pair("/CN=voms2", "/CN=Sub"), pair("/CN=Sub", "/CN=CA")]]
        );
        for wrong in ["", "/CN=voms\n", "/CN=voms\nCN=CA\n", "/CN=voms\n------ NEXT CHAIN ------\n/CN=CA\n"] {
            assert_eq!(parse_lsc(wrong), None, "{wrong:?}");
        }
    }
}
