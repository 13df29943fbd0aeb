//! Takes an image apart: gives the de-identified file as a stream, and the private part when that was read.
//!
//! The input is read twice, once for the header and once for the pixel data, and never held. What was put out is what
//! the digests cover, so a file that changes between the two is noticed when it is restored, or at once by its length.

use std::{
    fmt,
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
};

use aws_lc_rs::digest::{Context, SHA256};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use eds_core::ids::FileId;

use crate::dicom::{
    Error, PrivatePart, ProjectSecret,
    clean::Cleaner,
    dataset::{self, Encoding, find, text},
    frames::{self, FrameTable},
    header::Header,
    native,
    pixels::{
        Facts, Region, Suspect, Suspicion,
        blank::{Blanked, Blanks},
    },
    private_part::{Patches, Rest},
    profile::{OnSuspect, Profile},
    report::Report,
    split::{self, Bytes, Split},
    values,
};

/// How to de-identify an image.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// The profile of the project.
    pub profile: &'a Profile,
    /// The secret of the project.
    pub secret: &'a ProjectSecret,
    /// What is blanked in every frame, beside what the profile blanks for the device.
    pub masks: &'a [Region],
    /// Let the image pass whatever is suspect about it; the report and [`Separated::suspicions`] say so.
    pub pass_suspect: bool,
    /// Note what is done to each element.
    pub report: bool,
}

impl<'a> How<'a> {
    /// Without masks, report and exceptions.
    pub fn new(profile: &'a Profile, secret: &'a ProjectSecret) -> Self {
        Self { profile, secret, masks: &[], pass_suspect: false, report: false }
    }
}

/// An image taken apart.
pub struct Separated {
    /// The de-identified file before its pixel data.
    head: Vec<u8>,
    /// Where in `head` the data set starts.
    dataset: usize,
    original: Split,
    suspicions: Vec<Suspicion>,
    report: Option<Report>,
    blanks: Option<Blanks>,
}

/// What ties a private part to the container of its image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageBinding {
    /// The file id of the container.
    pub file: FileId,
    /// Its salt.
    pub salt: [u8; 24],
    /// Its key commitment.
    pub commitment: [u8; 32],
}

/// SHA-256 of both files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digests {
    /// Of the de-identified file.
    pub deidentified: [u8; 32],
    /// Of the original.
    pub original: [u8; 32],
}

/// What reading a de-identified file to its end gave.
#[derive(Debug)]
pub struct Finished {
    /// SHA-256 of both files.
    pub digests: Digests,
    /// What was blanked.
    patches: Option<Patches>,
}

/// Takes an image apart: de-identifies its header, and prepares the stream of the rest.
///
/// `input` is read up to its pixel data and behind them, and never held whole.
///
/// # Errors
/// [`Error::is_unreadable`] tells files that are not DICOM, or not as this release understands it; [`Error::Suspect`] and
/// [`Error::Quarantine`] images that may show who the patient is; [`Error::Mask`], [`Error::Read`].
pub fn deidentify<R: Read + Seek>(input: &mut R, how: &How<'_>) -> Result<Separated, Error> {
    let original = split::split(input)?;
    separate(input, original, how)
}

fn separate<R: Read + Seek>(input: &mut R, original: Split, how: &How<'_>) -> Result<Separated, Error> {
    let elements = dataset::parse(original.bytes.dataset(), original.encoding)?;
    let facts = Facts::of(&elements, original.encoding, original.found);
    let mut regions: Vec<Region> = facts.device_regions(&how.profile.masks).chain(how.masks.iter().copied()).collect();
    regions.sort_unstable();
    regions.dedup();
    if let (false, true, Some(geometry)) = (regions.is_empty(), native::can_be(&original), facts.geometry) {
        let native = native::of(input, original, geometry)?;
        return separate(input, native, how);
    }
    let blanks = if regions.is_empty() { None } else { Some(facts.blanks(&regions)?) };
    if blanks.as_ref().is_some_and(|blanks| blanks.bytes() > super::MAX_HELD) {
        return Err(Error::TooLarge { what: "blanked part of the picture" });
    }
    let suspicions = judge(&facts, how, blanks.is_some())?;

    let cleaner = Cleaner::new(how.profile, how.secret, &facts.sop_class, &elements, blanks.is_some(), how.report);
    let (dataset, entries) = cleaner.clean(&elements, original.encoding);
    let report = how.report.then(|| {
        let mut report = Report::new(how.profile, &suspicions, how.pass_suspect && !suspicions.is_empty());
        report.masks = regions.iter().map(|region| [region.x, region.y, region.width, region.height]).collect();
        report.elements = entries;
        report
    });
    let cleaned = dataset::parse(&dataset, original.encoding)?;
    let value = |tag| find(&cleaned, tag).and_then(text).filter(|text| !text.is_empty()).map(String::from);
    let sop_class = value(tags::SOP_CLASS_UID).or_else(|| original.meta.sop_class.clone());
    let head =
        file(&dataset, sop_class.as_ref(), value(tags::SOP_INSTANCE_UID).as_ref(), &original.meta.transfer_syntax);
    let dataset = head.len().saturating_sub(dataset.len());
    Ok(Separated { head, dataset, original, suspicions, report, blanks })
}

/// Preamble, file meta information of our own (PS3.10, section 7.1), and the data set.
pub(crate) fn file(dataset: &[u8], class: Option<&String>, instance: Option<&String>, syntax: &str) -> Vec<u8> {
    let texts = [
        (tags::MEDIA_STORAGE_SOP_CLASS_UID, VR::UI, class.map(String::as_str)),
        (tags::MEDIA_STORAGE_SOP_INSTANCE_UID, VR::UI, instance.map(String::as_str)),
        (tags::TRANSFER_SYNTAX_UID, VR::UI, Some(syntax)),
        (tags::IMPLEMENTATION_CLASS_UID, VR::UI, Some(IMPLEMENTATION_CLASS)),
        (tags::IMPLEMENTATION_VERSION_NAME, VR::SH, Some(IMPLEMENTATION_VERSION)),
    ];
    let encoding = Encoding::ExplicitLittle;
    let mut meta = Vec::new();
    dataset::write(&mut meta, encoding, tags::FILE_META_INFORMATION_VERSION, VR::OB, &[0, 1]);
    for (tag, vr, text) in texts {
        // What the image does not say of itself is not said here.
        if let Some(text) = text.filter(|text| values::fits(vr, text.as_bytes())) {
            dataset::write(&mut meta, encoding, tag, vr, &values::padded(vr, text.into()));
        }
    }
    let mut out = Vec::with_capacity(dataset.len() + meta.len() + 144);
    out.resize(128, 0);
    out.extend_from_slice(b"DICM");
    let length = u32::try_from(meta.len()).unwrap_or(u32::MAX);
    dataset::write(&mut out, encoding, tags::FILE_META_INFORMATION_GROUP_LENGTH, VR::UL, &length.to_le_bytes());
    out.extend_from_slice(&meta);
    out.extend_from_slice(dataset);
    out
}

/// What is suspect about an image that passes.
fn judge(facts: &Facts, how: &How<'_>, masked: bool) -> Result<Vec<Suspicion>, Error> {
    let mut suspicions = facts.suspicions(&how.profile.suspects);
    // Whoever names rectangles has looked at the picture.
    suspicions.retain(|suspicion| !(masked && suspicion.what == Suspect::BurnedIn));
    if how.pass_suspect {
        return Ok(suspicions);
    }
    let of =
        |way| suspicions.iter().filter(|one| how.profile.suspects.way(one.what) == way).cloned().collect::<Vec<_>>();
    match (of(OnSuspect::Refuse), of(OnSuspect::Quarantine)) {
        (refused, _) if !refused.is_empty() => Err(Error::Suspect { suspicions: refused }),
        (_, quarantined) if !quarantined.is_empty() => Err(Error::Quarantine { suspicions: quarantined }),
        _ => Ok(suspicions),
    }
}

impl Separated {
    /// The transfer syntax of the de-identified file.
    pub fn transfer_syntax(&self) -> &str {
        &self.original.meta.transfer_syntax
    }

    /// What is suspect about it although it passed: of the user's own will, or that of the profile.
    pub fn suspicions(&self) -> &[Suspicion] {
        &self.suspicions
    }

    /// What was done to each element, if that was asked for.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// As [`Separated::report`], to keep it.
    pub fn take_report(&mut self) -> Option<Report> {
        self.report.take()
    }

    /// The attributes of the original.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn original_header(&self) -> Result<Header<'_>, Error> {
        Header::parse(self.original.bytes.dataset(), self.original.encoding)
    }

    /// The attributes of the de-identified file.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn deidentified_header(&self) -> Result<Header<'_>, Error> {
        Header::parse(self.head.get(self.dataset..).unwrap_or_default(), self.original.encoding)
    }

    /// Where the frames are in the de-identified file; none when they cannot be told apart. `input` is the same file
    /// again.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Malformed`], [`Error::Truncated`].
    pub fn frames<R: Read + Seek>(&self, input: &mut R, header: &Header<'_>) -> Result<Option<FrameTable>, Error> {
        let start = held(&self.head);
        match &self.original.bytes {
            Bytes::Parts { pixels, .. } => frames::find(BufReader::with_capacity(64, input), pixels, start, header),
            Bytes::Deflated { inflated, pixels, .. } => {
                let at = |position| u64::try_from(position).unwrap_or(u64::MAX);
                frames::find(Cursor::new(&**inflated), &(at(pixels.start)..at(pixels.end)), start, header)
            }
        }
    }

    /// Length of the de-identified file in bytes.
    pub fn length(&self) -> u64 {
        held(&self.head) + self.pixel_length()
    }

    /// Length of the original file in bytes.
    pub fn original_length(&self) -> u64 {
        self.original.length
    }

    /// The de-identified file, as a stream. `input` is the same file again.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn deidentified<'a, R: Read + Seek + Send>(&'a self, input: &'a mut R) -> Result<Deidentified<'a>, Error> {
        let mut original_digest = Context::new(&SHA256);
        let (pixels, tail): (Box<dyn Read + Send + 'a>, &[u8]) = match &self.original.bytes {
            Bytes::Parts { head, pixels, tail, .. } => {
                input.seek(SeekFrom::Start(pixels.start)).map_err(Error::Read)?;
                original_digest.update(head);
                (Box::new(input.take(self.pixel_length())), tail.as_slice())
            }
            Bytes::Deflated { inflated, pixels, .. } => {
                (Box::new(inflated.get(pixels.clone()).unwrap_or_default()), &[])
            }
        };
        Ok(Deidentified {
            image: self,
            head: &self.head,
            pixels,
            left: self.pixel_length(),
            tail,
            blanked: self
                .blanks
                .as_ref()
                .map_or_else(Blanked::default, |blanks| Blanked::with_capacity(blanks.bytes())),
            deidentified_digest: Context::new(&SHA256),
            original_digest,
        })
    }

    /// The private part, once the de-identified file was read to its end and sealed.
    pub fn into_private_part(self, image: ImageBinding, finished: Finished) -> PrivatePart {
        let deidentified_length = self.length();
        let pixels = held(&self.head)..deidentified_length;
        let rest = match (self.original.bytes, finished.patches) {
            (Bytes::Parts { head, tail, .. }, None) => Rest::Around { head, pixels, tail },
            (Bytes::Parts { head, tail, .. }, Some(patches)) => Rest::Blanked { head, pixels, tail, patches },
            (Bytes::Deflated { original, .. }, _) => Rest::Whole(original),
        };
        let digests = finished.digests;
        PrivatePart { image, digests, deidentified_length, original_length: self.original.length, rest }
    }

    fn pixel_length(&self) -> u64 {
        match &self.original.bytes {
            Bytes::Parts { pixels, .. } => pixels.end - pixels.start,
            Bytes::Deflated { pixels, .. } => u64::try_from(pixels.len()).unwrap_or(u64::MAX),
        }
    }
}

impl fmt::Debug for Separated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Separated(<redacted>, {} bytes)", self.original.length)
    }
}

/// The de-identified file, read from its beginning to its end.
pub struct Deidentified<'a> {
    image: &'a Separated,
    head: &'a [u8],
    pixels: Box<dyn Read + Send + 'a>,
    left: u64,
    tail: &'a [u8],
    blanked: Blanked,
    deidentified_digest: Context,
    original_digest: Context,
}

impl Deidentified<'_> {
    /// The digests of both files, and what was blanked.
    ///
    /// # Errors
    /// [`Error::Changed`] when the stream was not read to its end.
    pub fn finish(mut self) -> Result<Finished, Error> {
        if !self.head.is_empty() || self.left > 0 {
            return Err(Error::Changed);
        }
        let original = match &self.image.original.bytes {
            Bytes::Parts { .. } => {
                self.original_digest.update(self.tail);
                sha256(self.original_digest)
            }
            Bytes::Deflated { original, .. } => {
                let mut whole = Context::new(&SHA256);
                whole.update(original);
                sha256(whole)
            }
        };
        let patches = self.image.blanks.as_ref().map(|_| self.blanked.into_patches(self.image.original.pixel_header));
        Ok(Finished { digests: Digests { deidentified: sha256(self.deidentified_digest), original }, patches })
    }
}

impl Read for Deidentified<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.head.is_empty() {
            let read = self.head.read(buffer)?;
            self.deidentified_digest.update(buffer.get(..read).unwrap_or_default());
            return Ok(read);
        }
        let read = self.pixels.read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the image became shorter while it was read"));
        }
        let position = self.image.pixel_length().saturating_sub(self.left);
        self.left = self.left.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        let bytes = buffer.get_mut(..read).unwrap_or_default();
        self.original_digest.update(bytes);
        if let Some(blanks) = &self.image.blanks {
            blanks.blank_element(self.image.original.pixel_header, position, bytes, &mut self.blanked);
        }
        self.deidentified_digest.update(bytes);
        Ok(read)
    }
}

impl fmt::Debug for Deidentified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deidentified(<redacted>)")
    }
}

/// What was hashed.
pub(crate) fn sha256(context: Context) -> [u8; 32] {
    let digest = context.finish();
    let mut bytes = [0; 32];
    // SHA-256 is 32 bytes long.
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}

fn held(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A UID of ours in the 2.25 arc, the same in every release.
pub(crate) const IMPLEMENTATION_CLASS: &str = "2.25.190146791043182537444806132342625375407";
pub(crate) const IMPLEMENTATION_VERSION: &str = "EDS_1";
