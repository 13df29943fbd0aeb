//! Blanks rectangles in native pixel data as it streams by, and keeps what was there.

use super::{Geometry, Region};
use crate::dicom::private_part::Patches;

/// Which bytes of the pixel data are blanked: the same of every row, in each frame and plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Blanks {
    /// Bytes of a row of one plane.
    stride: u64,
    /// Bytes of a frame or, with planes, of one plane of it.
    plane: u64,
    /// Bytes of all frames.
    end: u64,
    /// For each row, from where to where, in rising order and apart.
    rows: Vec<Vec<(u64, u64)>>,
}

/// Bytes that were blanked.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Blanked {
    patches: Patches,
    /// The end of the last.
    end: u64,
}

impl Blanks {
    pub(crate) fn new(geometry: Geometry, regions: &[Region]) -> Self {
        let bytes = u64::from(geometry.bits / 8) * if geometry.planes { 1 } else { u64::from(geometry.samples) };
        let stride = u64::from(geometry.columns) * bytes;
        let row = |row: u32| {
            let of_row = regions.iter().filter(|region| (region.y..region.y + region.height).contains(&row));
            let mut ranges: Vec<_> = of_row
                .map(|region| (u64::from(region.x) * bytes, u64::from(region.x + region.width) * bytes))
                .collect();
            ranges.sort_unstable();
            let mut apart: Vec<(u64, u64)> = Vec::new();
            for (from, to) in ranges {
                match apart.last_mut() {
                    Some(last) if from <= last.1 => last.1 = last.1.max(to),
                    _ => apart.push((from, to)),
                }
            }
            apart
        };
        let plane = stride * u64::from(geometry.rows);
        let rows = (0..geometry.rows).map(row).collect();
        Self { stride, plane, end: geometry.bytes().unwrap_or(0), rows }
    }

    /// How many bytes are blanked.
    pub(crate) fn bytes(&self) -> u64 {
        let of_plane: u64 = self.rows.iter().flatten().map(|(from, to)| to - from).sum();
        self.end.checked_div(self.plane).unwrap_or(0).saturating_mul(of_plane)
    }

    /// The first run of blanked bytes that ends after `position`.
    fn next(&self, position: u64) -> Option<(u64, u64)> {
        let mut plane = position.checked_div(self.plane)?;
        let mut first = usize::try_from((position % self.plane).checked_div(self.stride)?).ok()?;
        while plane * self.plane < self.end {
            for (number, ranges) in self.rows.iter().enumerate().skip(first) {
                let start = plane * self.plane + u64::try_from(number).ok()? * self.stride;
                if let Some((from, to)) = ranges.iter().find(|(_, to)| start + to > position) {
                    return Some((start + from, start + to));
                }
            }
            (plane, first) = (plane + 1, 0);
        }
        None
    }

    /// As [`Blanks::blank`], of bytes of the element, whose header has so many.
    pub(crate) fn blank_element(&self, header: u64, position: u64, bytes: &mut [u8], blanked: &mut Blanked) {
        let skipped = usize::try_from(header.saturating_sub(position)).unwrap_or(usize::MAX);
        if let Some(value) = bytes.get_mut(skipped..) {
            self.blank(position.max(header) - header, value, blanked);
        }
    }

    /// Blanks what is to be blanked of these bytes, which are at `position` of the pixel data.
    pub(crate) fn blank(&self, position: u64, bytes: &mut [u8], blanked: &mut Blanked) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let end = position.saturating_add(length);
        let mut at = position;
        while let Some((from, to)) = self.next(at).filter(|(from, _)| *from < end) {
            let (from, stop) = (from.max(at), to.min(end));
            let index = |at: u64| usize::try_from(at - position).unwrap_or(usize::MAX);
            if let Some(part) = bytes.get_mut(index(from)..index(stop)) {
                blanked.push(from, part);
                part.fill(0);
            }
            at = stop;
            if at >= end {
                break;
            }
        }
    }
}

impl Blanked {
    fn push(&mut self, from: u64, part: &[u8]) {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        match self.patches.runs.last_mut() {
            Some(last) if from == self.end => last.1 += length,
            _ => self.patches.runs.push((from - self.end, length)),
        }
        self.end = from + length;
        self.patches.bytes.extend_from_slice(part);
    }

    /// What was there, with places counted from so many bytes before the pixel data.
    pub(crate) fn into_patches(mut self, before: u64) -> Patches {
        if let Some((gap, _)) = self.patches.runs.first_mut() {
            *gap += before;
        }
        self.patches
    }

    /// With room for so many bytes, so that no copy is left behind by a growing buffer.
    pub(crate) fn with_capacity(bytes: u64) -> Self {
        let bytes = zeroize::Zeroizing::new(Vec::with_capacity(usize::try_from(bytes).unwrap_or(0)));
        Self { patches: Patches { runs: Vec::new(), bytes }, end: 0 }
    }
}

impl std::fmt::Debug for Blanked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blanked(<redacted>)")
    }
}
