//! What a DICOM peer gets of registered images: the originals as far as it may fetch the keys of their private parts, else
//! the de-identified images.
//!
//! Which of the two is decided image by image, by the key servers alone. Keys of many images are asked for in one call to
//! each.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
};

use dicom_dictionary_std::tags;
use eds_core::{
    api::MAX_BATCH,
    ids::{FileId, KeyId},
};

use super::{
    Session,
    project::{IdentityKey, identity_key, search_key},
    retrieve::{Wanted, open_private, write_original},
};
use crate::{
    Error,
    dicom::{self, Header, PrivatePart, head},
    error::Kind,
    keystore::{Fetched, NodeError, Want},
    metadata::{
        SealedPrivatePart,
        blind::SearchKey,
        query::{Asked, Found, Query},
    },
    payload::{Options, Target},
};

/// The keys that a peer needs for searching, as far as it may have them.
#[derive(Default)]
pub struct Searching {
    key: Option<Option<SearchKey>>,
}

/// Images whose keys were asked for.
pub struct Images<'a> {
    session: &'a Session,
    wanted: HashMap<FileId, Wanted>,
    private: HashMap<FileId, SealedPrivatePart>,
    keys: HashMap<KeyId, Fetched>,
    /// Why the others could not be had.
    refused: HashMap<KeyId, String>,
    /// The nodes that answered wrongly.
    pub culprits: Vec<NodeError>,
}

/// What is sent of an image.
pub enum Form {
    /// As it was received.
    Original(Box<Original>),
    /// Without the patient.
    Deidentified,
}

/// An original, but for its pixel data.
pub struct Original {
    part: PrivatePart,
    head: head::Head,
}

impl Original {
    /// Its attributes.
    ///
    /// # Errors
    /// [`Error::Dicom`].
    pub fn header(&self) -> Result<Header<'_>, dicom::Error> {
        self.head.header()
    }

    /// The transfer syntax of its data set.
    pub fn transfer_syntax(&self) -> &str {
        self.head.transfer_syntax()
    }
}

impl Searching {
    /// Images by attributes, in the matching of DICOM.
    ///
    /// # Errors
    /// As [`super::search::search`].
    pub fn search(&mut self, session: &Session, asked: &[Asked], limit: Option<u32>) -> Result<Vec<Found>, Error> {
        let by_uid = asked.iter().any(Asked::is_uid);
        let needs_key = asked.iter().any(|asked| asked.needs_key() && !asked.is_uid());
        if by_uid && !needs_key {
            let conditions = super::search::conditions(asked, None, true)?;
            let found = session.metadata.search(&Query { conditions, limit })?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        if !by_uid && !needs_key {
            let conditions = super::search::conditions(asked, None, false)?;
            return Ok(session.metadata.search(&Query { conditions, limit })?);
        }
        let key = match &mut self.key {
            Some(key) => key,
            none => none.insert(search_key(&session.nodes, &session.metadata, &mut Vec::new())?),
        };
        let Some(key) = key else { return Ok(Vec::new()) };
        for by_name in [true, false] {
            let conditions = super::search::conditions(asked, Some(key), by_name)?;
            let found = session.metadata.search(&Query { conditions, limit })?;
            if !found.is_empty() || !by_uid {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}

impl<'a> Images<'a> {
    /// Asks for the keys of these images. Those that the peer may not have are missing afterwards; with `pixels` false, only
    /// the keys of private parts are asked for.
    ///
    /// # Errors
    /// Catalog and metadata that cannot be used, and key servers of which too few answer.
    pub fn fetch(session: &'a Session, files: &[FileId], pixels: bool) -> Result<Self, Error> {
        let mut images = Self {
            session,
            wanted: HashMap::new(),
            private: HashMap::new(),
            keys: HashMap::new(),
            refused: HashMap::new(),
            culprits: Vec::new(),
        };
        let mut wants: Vec<Want> = Vec::new();
        let mut asked = HashSet::new();
        for file in files {
            let wanted = Wanted::of_catalog(session, *file)?;
            if wanted.has_private_part() {
                let private = session.metadata.private_part(*file)?;
                wants.extend(
                    asked
                        .insert(private.key)
                        .then_some(super::recorded(&private.manifest))
                        .transpose()?
                        .map(|evidence| Want { key: private.key, evidence }),
                );
                images.private.insert(*file, private);
            }
            if pixels && asked.insert(wanted.key()) {
                wants.push(wanted.want()?);
            }
            images.wanted.insert(*file, wanted);
        }
        for wants in wants.chunks(MAX_BATCH) {
            let fetched = session.nodes.runtime.block_on(session.nodes.keystore.fetch(wants));
            for (want, fetched) in wants.iter().zip(fetched) {
                match fetched {
                    Ok(mut fetched) => {
                        images.culprits.append(&mut fetched.culprits);
                        images.keys.insert(want.key, fetched);
                    }
                    Err(error) if error.kind() == Kind::Unavailable => return Err(error.into()),
                    Err(error) => drop(images.refused.insert(want.key, error.to_string())),
                }
            }
        }
        Ok(images)
    }

    /// Why the peer cannot have an image.
    pub fn refusal(&self, file: FileId) -> Option<&str> {
        self.refused.get(&self.wanted.get(&file)?.key()).map(String::as_str)
    }

    /// What there is to send of an image.
    ///
    /// # Errors
    /// A private part that is damaged.
    pub fn form(&self, file: FileId) -> Result<Form, Error> {
        let wanted = self.wanted.get(&file).ok_or(Error::NothingFetched)?;
        let Some(private) = self.private.get(&file) else { return Ok(Form::Deidentified) };
        let Some(fetched) = self.keys.get(&private.key) else { return Ok(Form::Deidentified) };
        let part = open_private(wanted.entry(), private, &fetched.secret)?;
        let bytes = part.rest.head();
        let head = head::Head::read(bytes).map_err(|source| Error::Private { file, source })?;
        Ok(Form::Original(Box::new(Original { part, head })))
    }

    /// Writes the data set of an image: the file without preamble and meta information. What is written is checked chunk by
    /// chunk; only when this returns is it whole and, of an original, what was received.
    ///
    /// # Errors
    /// [`Error::NothingFetched`] when the peer cannot have it, and what reading, checking and writing failed with.
    pub fn write(&self, file: FileId, form: &Form, output: &mut dyn Write) -> Result<(), Error> {
        let wanted = self.wanted.get(&file).ok_or(Error::NothingFetched)?;
        let stored = |source| Error::Stored { file, source };
        let fetched = self.keys.get(&wanted.key()).ok_or(Error::NothingFetched)?;
        let mut object = wanted.open(self.session)?;
        let unlocked = wanted.container(&mut object)?.unlock(&super::payload_key(fetched)).map_err(stored)?;
        match form {
            Form::Original(original) => {
                let mut rest = Behind { output, left: original.head.dataset() };
                write_original(file, unlocked, &original.part, &mut rest)
            }
            Form::Deidentified => {
                let mut rest = BehindMeta { output, start: Vec::new(), behind: None };
                unlocked.copy_to(Target::Stream(&mut rest), &Options::default()).map_err(stored)?;
                Ok(())
            }
        }
    }
}

/// Leaves out the first bytes.
struct Behind<'a> {
    output: &'a mut dyn Write,
    left: usize,
}

impl Write for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.left.min(bytes.len());
        self.left -= skipped;
        self.output.write_all(bytes.get(skipped..).unwrap_or_default())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Leaves out preamble and meta information of a file that EDS wrote, which begins with the group length.
struct BehindMeta<'a> {
    output: &'a mut dyn Write,
    start: Vec<u8>,
    behind: Option<usize>,
}

impl Write for BehindMeta<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.behind == Some(0) {
            self.output.write_all(bytes)?;
            return Ok(bytes.len());
        }
        self.start.extend_from_slice(bytes);
        if self.behind.is_none() {
            self.behind = head::dataset_offset(&self.start);
        }
        if let Some(behind) = self.behind.filter(|behind| self.start.len() >= *behind) {
            self.output.write_all(self.start.get(behind..).unwrap_or_default())?;
            self.start = Vec::new();
            self.behind = Some(0);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Whether images are held safely, for who wants to delete its own copies.
pub struct Commitment(IdentityKey);

impl Commitment {
    /// Fetches the key by which images are told apart; nothing before the first registration.
    ///
    /// # Errors
    /// As [`super::register::Registrar::open`].
    pub fn open(session: &Session) -> Result<Option<Self>, Error> {
        Ok(identity_key(&session.nodes, &session.metadata, &mut Vec::new())?.map(Self))
    }

    /// Whether this image is registered for good, with its container where it should be and as long as it was.
    ///
    /// # Errors
    /// Databases that cannot be used.
    pub fn holds(&self, session: &Session, sop_instance: &str) -> Result<bool, Error> {
        let Some(known) = session.metadata.known(&self.0.of_image(sop_instance))? else { return Ok(false) };
        let Ok(wanted) = Wanted::of_catalog(session, known.image) else { return Ok(false) };
        let Ok(object) = wanted.open(session) else { return Ok(false) };
        Ok(object.size().is_ok_and(|size| size == wanted.entry().stored_size))
    }
}

/// SOP class and instance of a data set that arrived, for comparing with what was said of it.
///
/// # Errors
/// What cannot be read as DICOM.
pub fn uids<R: io::Read + io::Seek>(input: &mut R) -> Result<[Option<String>; 2], dicom::Error> {
    let head = head::Head::read_from(input)?;
    let header = head.header()?;
    Ok([header.value(tags::SOP_CLASS_UID), header.value(tags::SOP_INSTANCE_UID)])
}
