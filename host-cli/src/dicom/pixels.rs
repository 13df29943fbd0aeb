//! What the picture itself may tell: which images are suspect, and rectangles that are blanked.
//!
//! Nothing here looks at the picture. Whether it may show a name or a face is decided by what the header says of it
//! (BurnedInAnnotation, modality, SOP class and others) and by the profile; no image passes unsaid because nothing is
//! known of it. Rectangles are blanked in native pixel data as it streams by, and what was there goes into the private part.

use std::fmt;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::{
    Error,
    dataset::{Element, Encoding, Value, find, text},
    profile::{DeviceMask, OnSuspect, Suspects},
};

pub(crate) mod blank;

/// A rectangle of every frame, in pixels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Region {
    /// Columns left of it.
    pub x: u32,
    /// Rows above it.
    pub y: u32,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

impl Region {
    /// Whether it is not empty and within an image of this size.
    pub fn lies_within(self, rows: u32, columns: u32) -> bool {
        let ends = |from: u32, length: u32, all| length > 0 && from.checked_add(length).is_some_and(|end| end <= all);
        ends(self.x, self.width, columns) && ends(self.y, self.height, rows)
    }
}

impl From<[u32; 4]> for Region {
    fn from([x, y, width, height]: [u32; 4]) -> Self {
        Self { x, y, width, height }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}

impl std::str::FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<u32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some([x, y, width, height]) if *width > 0 && *height > 0 => {
                Ok(Self { x: *x, y: *y, width: *width, height: *height })
            }
            _ => Err("write x,y,width,height in pixels, for example 0,0,1024,60".into()),
        }
    }
}

/// Something that may tell who the patient is and that no rule for attributes reaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspicion {
    /// What may be there.
    pub what: Suspect,
    /// Why it is thought so, in words of the standard and never with a value that identifies.
    pub reason: String,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)
    }
}

/// What may be in an image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Suspect {
    /// Writing in the picture.
    BurnedIn,
    /// A recognisable person.
    Face,
    /// A head, from which a face can be computed.
    Head,
    /// A document.
    Document,
    /// Data beside the picture in the pixel data.
    Hidden,
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BurnedIn => "there may be writing in the picture",
            Self::Face => "the picture may show a face",
            Self::Head => "a face may be computed from the volume",
            Self::Document => "there is a document in the file",
            Self::Hidden => "there may be more than the picture in the pixel data",
        })
    }
}

impl Suspects {
    /// What the profile wants done about it.
    pub fn way(&self, what: Suspect) -> OnSuspect {
        match what {
            Suspect::BurnedIn => self.burned_in,
            Suspect::Face => self.faces,
            Suspect::Head => self.heads,
            Suspect::Document => self.documents,
            Suspect::Hidden => self.hidden,
        }
    }
}

/// What the header says of the picture.
pub(crate) struct Facts {
    pub(crate) sop_class: String,
    modality: String,
    manufacturer: String,
    model: String,
    image_type: Vec<String>,
    burned_in: String,
    recognizable: String,
    conversion: String,
    body_part: String,
    document: bool,
    /// The bits of an overlay are within the pixel data.
    overlay_within: bool,
    pub(crate) geometry: Option<Geometry>,
    /// How long the pixel data are, when they are native.
    native: Option<u64>,
    pixels: bool,
}

/// How the pixels lie in native pixel data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) samples: u32,
    pub(crate) bits: u32,
    pub(crate) frames: u32,
    /// Whether each sample has a plane of its own.
    pub(crate) planes: bool,
    /// Two pixels share their colour.
    pub(crate) subsampled: bool,
}

/// The pixel data element as it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// There is none.
    Nothing,
    /// So many bytes, not compressed.
    Native(u64),
    /// In fragments.
    Encapsulated,
}

impl Facts {
    pub(crate) fn of(elements: &[Element<'_>], encoding: Encoding, found: Found) -> Self {
        let string = |tag| find(elements, tag).and_then(text).unwrap_or_default().to_uppercase();
        let number = |tag| match *find(elements, tag)? {
            [a, b] if encoding == Encoding::ExplicitBig => Some(u32::from(u16::from_be_bytes([a, b]))),
            [a, b] => Some(u32::from(u16::from_le_bytes([a, b]))),
            _ => None,
        };
        let geometry = || {
            let frames = string(tags::NUMBER_OF_FRAMES);
            let frames = if frames.is_empty() { 1 } else { frames.trim_start_matches('+').parse().ok()? };
            Some(Geometry {
                rows: number(tags::ROWS)?,
                columns: number(tags::COLUMNS)?,
                samples: number(tags::SAMPLES_PER_PIXEL).unwrap_or(1),
                bits: number(tags::BITS_ALLOCATED)?,
                frames,
                planes: number(tags::PLANAR_CONFIGURATION) == Some(1),
                subsampled: string(tags::PHOTOMETRIC_INTERPRETATION).contains("422"),
            })
        };
        let overlay = |element: &Element<'_>, number| {
            element.tag.group() >> 8 == 0x60 && element.tag.group().is_multiple_of(2) && element.tag.element() == number
        };
        let nonzero = |element: &Element<'_>| element.bytes().is_some_and(|value| value.iter().any(|b| *b != 0));
        let elsewhere = |group| elements.iter().any(|other| other.tag == Tag(group, 0x3000));
        Self {
            sop_class: find(elements, tags::SOP_CLASS_UID).and_then(text).unwrap_or_default().into(),
            modality: string(tags::MODALITY),
            manufacturer: string(tags::MANUFACTURER),
            model: string(tags::MANUFACTURER_MODEL_NAME),
            image_type: string(tags::IMAGE_TYPE).split('\\').map(|one| one.trim().into()).collect(),
            burned_in: string(tags::BURNED_IN_ANNOTATION),
            recognizable: string(tags::RECOGNIZABLE_VISUAL_FEATURES),
            conversion: string(tags::CONVERSION_TYPE),
            body_part: string(tags::BODY_PART_EXAMINED),
            document: elements.iter().any(|element| element.tag == tags::ENCAPSULATED_DOCUMENT),
            // An overlay with a position other than 0, or without data of its own, is in bits of the pixel data.
            overlay_within: elements.iter().any(|element| {
                overlay(element, OVERLAY_BIT_POSITION) && nonzero(element)
                    || overlay(element, OVERLAY_ROWS) && !elsewhere(element.tag.group())
            }),
            geometry: geometry(),
            native: match found {
                Found::Native(length) => Some(length),
                _ => None,
            },
            pixels: found != Found::Nothing || elements.iter().any(|one| matches!(one.value, Value::Fragments)),
        }
    }

    /// Everything about the image that is suspect.
    pub(crate) fn suspicions(&self, suspects: &Suspects) -> Vec<Suspicion> {
        let mut found = Vec::new();
        let mut suspect = |what, reason: String| found.push(Suspicion { what, reason });
        if self.document || self.sop_class.starts_with(ENCAPSULATED) {
            suspect(Suspect::Document, "an encapsulated document cannot be cleaned".into());
        }
        if !self.pixels {
            return found;
        }
        if let Some(reason) = self.burned_in_reason(suspects) {
            suspect(Suspect::BurnedIn, reason);
        }
        if self.recognizable == "YES" {
            suspect(Suspect::Face, "Recognizable Visual Features (0028,0302) is YES".into());
        } else if self.recognizable != "NO" {
            if PHOTOGRAPHS.contains(&self.sop_class.as_str()) || self.modality == "XC" {
                suspect(Suspect::Face, format!("it is a photograph ({})", self.described()));
            } else if VOLUMES.contains(&self.modality.as_str()) && suspects.head_parts.contains(&self.body_part) {
                let reason = format!("{} of {}, Recognizable Visual Features is not NO", self.modality, self.body_part);
                suspect(Suspect::Head, reason);
            }
        }
        if self.overlay_within {
            suspect(Suspect::Hidden, "an overlay (60xx) says that its bits are within the pixel data".into());
        }
        if let (Some(length), Some(expected)) = (self.native, self.geometry.and_then(Geometry::bytes))
            && length > expected.saturating_add(expected % 2)
        {
            suspect(Suspect::Hidden, format!("{} bytes follow the last frame", length - expected));
        }
        found
    }

    fn burned_in_reason(&self, suspects: &Suspects) -> Option<String> {
        match self.burned_in.as_str() {
            "YES" => return Some("Burned In Annotation (0028,0301) is YES".into()),
            "NO" => return None,
            _ => {}
        }
        let undeclared = "and Burned In Annotation (0028,0301) is not NO";
        let kind = |known: &String| match known.strip_suffix('.') {
            Some(_) => self.sop_class.starts_with(known.as_str()),
            None => self.sop_class == *known,
        };
        if suspects.modalities.contains(&self.modality) {
            return Some(format!("the modality is {} {undeclared}", self.modality));
        }
        if suspects.sop_classes.iter().any(kind) {
            return Some(format!("the SOP class is {} {undeclared}", self.sop_class));
        }
        if let Some(known) = suspects.image_types.iter().find(|known| self.image_type.contains(known)) {
            return Some(format!("the image type has {known} {undeclared}"));
        }
        (!self.conversion.is_empty()).then(|| format!("it was converted (0008,0064) {undeclared}"))
    }

    fn described(&self) -> &str {
        if self.modality == "XC" { "modality XC" } else { &self.sop_class }
    }

    /// The rectangles that the profile blanks in images of this device.
    pub(crate) fn device_regions<'p>(&self, masks: &'p [DeviceMask]) -> impl Iterator<Item = Region> + use<'p> {
        let geometry = self.geometry;
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.trim().to_uppercase() == value)
        };
        let fits = |mask: &&DeviceMask| {
            geometry.is_some_and(|geometry| (geometry.rows, geometry.columns) == (mask.rows, mask.columns))
                && is(&mask.modality, &self.modality)
                && is(&mask.manufacturer, &self.manufacturer)
                && is(&mask.model, &self.model)
        };
        let of_device: Vec<Region> = masks.iter().filter(fits).flat_map(|mask| mask.regions.iter().copied()).collect();
        of_device.into_iter()
    }

    /// How these rectangles are blanked in this image.
    pub(crate) fn blanks(&self, regions: &[Region]) -> Result<blank::Blanks, Error> {
        let refuse = |reason| Err(Error::Mask { reason });
        let geometry = match (self.native, self.geometry) {
            (Some(_), Some(geometry)) => geometry,
            (None, _) if self.pixels => return refuse("the pixel data are compressed, and not by RLE"),
            (None, _) => return refuse("there are no pixel data"),
            (_, None) => return refuse("the header does not say how large the image is"),
        };
        if !matches!(geometry.bits, 8 | 16 | 32 | 64) || geometry.subsampled {
            return refuse("its pixels are not whole bytes of their own");
        }
        if regions.iter().any(|region| !region.lies_within(geometry.rows, geometry.columns)) {
            return refuse("a rectangle is not within the image");
        }
        if geometry.bytes() > self.native {
            return refuse("the pixel data are shorter than the header says");
        }
        Ok(blank::Blanks::new(geometry, regions))
    }
}

impl Geometry {
    /// Length of all frames in bytes; `None` when that is no number.
    pub(crate) fn bytes(self) -> Option<u64> {
        let pixels = u64::from(self.rows).checked_mul(self.columns.into())?.checked_mul(self.frames.into())?;
        // Two pixels of YBR_*_422 have four samples.
        let samples = if self.subsampled { 2 } else { self.samples };
        let bits = pixels.checked_mul(samples.into())?.checked_mul(self.bits.into())?;
        Some(bits.div_ceil(8))
    }
}

const OVERLAY_ROWS: u16 = 0x0010;
const OVERLAY_BIT_POSITION: u16 = 0x0102;
/// Encapsulated documents: PDF, CDA, models.
const ENCAPSULATED: &str = "1.2.840.10008.5.1.4.1.1.104.";
/// Photographs and videos of the patient.
const PHOTOGRAPHS: [&str; 2] = ["1.2.840.10008.5.1.4.1.1.77.1.4", "1.2.840.10008.5.1.4.1.1.77.1.4.1"];
/// Modalities of volumes from which surfaces can be computed.
const VOLUMES: [&str; 4] = ["CT", "MR", "PT", "CBCT"];

#[cfg(test)]
mod tests;
