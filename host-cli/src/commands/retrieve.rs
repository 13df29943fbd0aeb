//! `eds retrieve`: images come back, one into a file, or many into a folder.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Args;
use eds_core::ids::FileId;

use super::{Options, warn};
use crate::{
    Error, Kind,
    config::Config,
    journey::{
        Session,
        retrieve::{Maker, Order, retrieve, retrieve_many},
        search::search,
    },
    metadata::query::Found,
    output::{self, Existing, Output},
};

/// The arguments of `eds retrieve`.
#[derive(Args, Debug)]
pub struct Retrieve {
    /// The ids that `eds register`, `eds search -o ids` or, of an image that a device made, `eds courier` printed; - reads them from standard input
    #[arg(value_name = "ID", required_unless_present_any = ["study", "search"])]
    ids: Vec<String>,
    /// All images of a study, by the UID of the original or of the de-identified images
    #[arg(long, value_name = "UID", conflicts_with_all = ["ids", "search"])]
    study: Option<String>,
    /// All images that `eds search` finds by this; repeat it for more conditions
    #[arg(long, value_name = "KEYWORD=VALUE", conflicts_with = "ids")]
    search: Vec<String>,
    /// Where to write the image, or, of several, the folder; - is standard output
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Put the patient's data back: the original, byte for byte
    #[arg(long)]
    restore: bool,
    /// Replace existing files
    #[arg(short, long)]
    force: bool,
}

impl Retrieve {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let existing = if self.force { Existing::Replace } else { Existing::Keep };
        let (orders, warnings) = match self.ids.as_slice() {
            [] => self.found(&config)?,
            [id] if id != "-" && !self.output.is_dir() => {
                let file = parse(id)?;
                let output = Output::open(&self.output, existing)?;
                let retrieved = retrieve(&Session::open(&config)?, file, output, self.restore)?;
                warn(&retrieved.culprits);
                if let Some(maker) = &retrieved.made_by {
                    tell_maker(file, maker);
                }
                return Ok(());
            }
            ids => (named(ids, &self.output)?, Vec::new()),
        };
        warn(&warnings);
        let session = Session::open(&config)?;
        let (mut done, mut bytes, mut failed) = (0usize, 0u64, None);
        let culprits = retrieve_many(&session, &orders, self.restore, existing, &mut |order, put| {
            match put {
                Ok(length) => {
                    done += 1;
                    bytes += length;
                    output::print(&format!("{}\t{}\n", order.file, order.path.display()))?;
                }
                Err(error) => {
                    eprintln!("{}", error.report());
                    failed.get_or_insert(error.kind());
                }
            }
            Ok(())
        })?;
        warn(&culprits);
        eprintln!("{done} of {} images retrieved, {:.1} MB", orders.len(), bytes as f64 / 1e6);
        failed.map_or(Ok(()), |kind: Kind| Err(Error::SomeFailed { kind }))
    }

    fn found(&self, config: &Config) -> Result<(Vec<Order>, Vec<crate::keystore::NodeError>), Error> {
        let study = self.study.iter().map(|uid| format!("StudyInstanceUID={uid}"));
        let asked: Vec<String> = study.chain(self.search.iter().cloned()).collect();
        let (found, warnings) = search(config, &asked, None)?;
        if found.is_empty() {
            return Err(Error::NothingFound);
        }
        let orders = found.iter().map(|image| Order { file: image.image, path: place(&self.output, image) }).collect();
        Ok((orders, warnings))
    }
}

/// Says who made a file that only the key servers know of.
pub(super) fn tell_maker(file: FileId, Maker { device, counter, nodes }: &Maker) {
    eprintln!(
        "eds: note: {file} is not in this catalog; {nodes} key servers say that device {device} made it, counter {counter}"
    );
}

/// Study, series and image by the UIDs of the de-identified image; nothing of the patient is in them.
fn place(folder: &Path, image: &Found) -> PathBuf {
    let [_, study, series, name] = &image.names;
    let id = image.image.to_string();
    let part = |name: &str| if is_uid(name) { String::from(name) } else { id.clone() };
    folder.join(part(study)).join(part(series)).join(part(name) + ".dcm")
}

/// What comes from a database becomes part of a path only if it is a UID.
fn is_uid(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn named(ids: &[String], folder: &Path) -> Result<Vec<Order>, Error> {
    let mut files = Vec::new();
    for id in ids {
        if id == "-" {
            let mut text = String::new();
            std::io::stdin().take(MAX_STDIN).read_to_string(&mut text).map_err(Error::reading(Path::new("-")))?;
            for id in text.split_whitespace() {
                files.push(parse(id)?);
            }
        } else {
            files.push(parse(id)?);
        }
    }
    Ok(files.into_iter().map(|file| Order { file, path: folder.join(format!("{file}.dcm")) }).collect())
}

fn parse(id: &str) -> Result<FileId, Error> {
    id.parse().map_err(|_| Error::NotAnId(id.into()))
}

/// The longest list of ids that is read, in bytes: more than a million.
const MAX_STDIN: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_uid_becomes_no_part_of_a_path() {
        let image = FileId::from_bytes([1; 16]);
        let found = |study: &str| Found {
            image,
            names: ["p", study, "2.25.2", "2.25.3"].map(String::from),
            attributes: Default::default(),
        };
        assert_eq!(place(Path::new("out"), &found("2.25.1")), Path::new("out/2.25.1/2.25.2/2.25.3.dcm"));
        for evil in ["..", "../../etc", "/etc", "", ".2.25", "2.25/../..", "study of x"] {
            let path = place(Path::new("out"), &found(evil));
            assert_eq!(path, Path::new("out").join(image.to_string()).join("2.25.2/2.25.3.dcm"), "{evil:?}");
        }
    }
}
