//! Pictures to look at, from the pixel data of images: windowed to 8 bits, one frame or several side by side, as PNG or in a
//! terminal. For orientation, not for diagnosis.
//!
//! Codecs are those that are written in Rust alone: native pixel data, RLE and JPEG. What they cannot decode is refused.
//! Outside bytes: sizes are bounded and checked against what is there.

mod png;
mod source;
pub mod terminal;

use dicom_dictionary_std::tags;

use self::source::Source;
use crate::{
    dicom::{self, Header},
    error::Kind,
};

/// A picture with one gray value or three colour values for each point, from 0 to 255.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Points in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Whether there are three values for each point.
    pub colour: bool,
    /// The values, row by row.
    pub values: Vec<u8>,
}

/// Which values are black and white.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    /// The value that becomes middle gray.
    pub center: f64,
    /// From black to white.
    pub width: f64,
}

/// Pixel data that cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A header that cannot be read.
    #[error("the header cannot be read")]
    Header(#[source] dicom::Error),
    /// A header without what is needed, or with what cannot be.
    #[error("{0} is missing or cannot be shown")]
    Attribute(&'static str),
    /// A transfer syntax without a codec here.
    #[error("pixel data of transfer syntax {0} cannot be decoded here")]
    Codec(String),
    /// Pixel data that its codec refuses.
    #[error("the pixel data cannot be decoded: {0}")]
    Decode(String),
    /// Fewer bytes than there are pixels.
    #[error("the frame has {found} bytes instead of {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> Kind {
        Kind::Unsupported
    }
}

/// Makes a picture of a frame. `head` is a de-identified file up to its pixel data, `pieces` are those of the frame. Without
/// a window, that of the image is used, else all values that there are.
///
/// # Errors
/// [`Error`].
pub fn develop(head: &[u8], pieces: &[Vec<u8>], window: Option<Window>) -> Result<Picture, Error> {
    let source = Source::read(head)?;
    let mut samples = source.samples(pieces)?;
    let (width, height) = (source.columns, source.rows);
    if source.samples_per_pixel == 3 {
        source.to_rgb(&mut samples.bytes);
        return Ok(Picture { width, height, colour: true, values: samples.bytes });
    }
    let values = samples.values()?;
    let number = |tag| source.header.value(tag).and_then(|text| text.parse::<f64>().ok());
    let (slope, intercept) =
        (number(tags::RESCALE_SLOPE).unwrap_or(1.0), number(tags::RESCALE_INTERCEPT).unwrap_or(0.0));
    let values: Vec<f64> = values.into_iter().map(|value| value * slope + intercept).collect();
    let own = || {
        let (center, width) = (number(tags::WINDOW_CENTER)?, number(tags::WINDOW_WIDTH)?);
        Some(Window { center, width })
    };
    // A window of hardly any width, as some images have, would show nothing.
    let window = window.or_else(own).filter(|window| window.width > 2.0).unwrap_or_else(|| all_of(&values));
    let inverse = source.photometric == "MONOCHROME1";
    let shade = |value: &f64| {
        // PS3.3, section C.11.2.1.2.1, with the bounds of 8 bits.
        let part = (value - (window.center - 0.5)) / (window.width - 1.0).max(1.0) + 0.5;
        let shade = (part.clamp(0.0, 1.0) * 255.0).round() as u8;
        if inverse { 255 - shade } else { shade }
    };
    Ok(Picture { width, height, colour: false, values: values.iter().map(shade).collect() })
}

/// The window that shows every value.
fn all_of(values: &[f64]) -> Window {
    let (least, most) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(*value), most.max(*value)));
    if least > most {
        return Window { center: 0.0, width: 1.0 };
    }
    Window { center: f64::midpoint(least, most) + 0.5, width: most - least + 1.0 }
}

/// Pictures of one size side by side, in rows as many as columns, as near as can be.
pub fn montage(pictures: &[Picture]) -> Option<Picture> {
    let first = pictures.first()?;
    let columns = (1..=pictures.len()).find(|columns| columns * columns >= pictures.len())?;
    let rows = pictures.len().div_ceil(columns);
    let colour = pictures.iter().any(|picture| picture.colour);
    let depth = if colour { 3 } else { 1 };
    let (width, height) = (first.width * columns, first.height * rows);
    let mut values = vec![0; width.checked_mul(height)?.checked_mul(depth)?];
    for (number, picture) in pictures.iter().enumerate() {
        let (left, top) = (number % columns * first.width, number / columns * first.height);
        for row in 0..picture.height.min(first.height) {
            for column in 0..picture.width.min(first.width) {
                let at = ((top + row) * width + left + column) * depth;
                if let Some(place) = values.get_mut(at..at + depth) {
                    place.copy_from_slice(picture.point(column, row).get(..depth)?);
                }
            }
        }
    }
    Some(Picture { width, height, colour, values })
}

impl Picture {
    /// Red, green and blue of a point; black outside.
    pub fn point(&self, column: usize, row: usize) -> [u8; 3] {
        let at = row * self.width + column;
        if self.colour {
            let point = self.values.get(at * 3..at * 3 + 3).and_then(|point| <[u8; 3]>::try_from(point).ok());
            point.unwrap_or_default()
        } else {
            [self.values.get(at).copied().unwrap_or_default(); 3]
        }
    }

    /// As a PNG file.
    pub fn png(&self) -> Vec<u8> {
        png::encode(self)
    }
}

/// Reads attributes for a picture.
fn header<'a>(dataset: &'a [u8], encoding: dicom::Encoding) -> Result<Header<'a>, Error> {
    Header::parse(dataset, encoding).map_err(Error::Header)
}

#[cfg(test)]
mod tests;
