//! The tables of DICOM PS3.15 as data: what becomes of an attribute in each column, and of a content item of a report.
//!
//! `table/*.csv` are written by `scripts/deidentification-table` from pinned packages; `supplement.csv` is ours and adds
//! attributes that the table forgets. A code with alternatives, such as `X/Z/D`, is decided by the type of the
//! attribute in the IOD of the image where that is known, else so that any IOD stays valid.

use std::{collections::HashMap, fmt, str::FromStr, sync::LazyLock};

use dicom_core::Tag;

/// The edition of PS3.15 that the tables are of.
pub const EDITION: &str = "2026d";

/// The options of Annex E that are columns of Table E.1-1, in its order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Column {
    /// E.3.10.
    RetainSafePrivate,
    /// E.3.9.
    RetainUids,
    /// E.3.8.
    RetainDeviceIdentity,
    /// E.3.11.
    RetainInstitutionIdentity,
    /// E.3.7.
    RetainPatientCharacteristics,
    /// E.3.6.
    RetainFullDates,
    /// E.3.6.
    RetainModifiedDates,
    /// E.3.5.
    CleanDescriptors,
    /// E.3.4.
    CleanStructuredContent,
    /// E.3.3.
    CleanGraphics,
}

impl Column {
    /// All columns, in the order of the table.
    pub const ALL: [Self; 10] = [
        Self::RetainSafePrivate,
        Self::RetainUids,
        Self::RetainDeviceIdentity,
        Self::RetainInstitutionIdentity,
        Self::RetainPatientCharacteristics,
        Self::RetainFullDates,
        Self::RetainModifiedDates,
        Self::CleanDescriptors,
        Self::CleanStructuredContent,
        Self::CleanGraphics,
    ];

    /// Its name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::RetainSafePrivate => "retain-safe-private",
            Self::RetainUids => "retain-uids",
            Self::RetainDeviceIdentity => "retain-device-identity",
            Self::RetainInstitutionIdentity => "retain-institution-identity",
            Self::RetainPatientCharacteristics => "retain-patient-characteristics",
            Self::RetainFullDates => "retain-longitudinal-full-dates",
            Self::RetainModifiedDates => "retain-longitudinal-modified-dates",
            Self::CleanDescriptors => "clean-descriptors",
            Self::CleanStructuredContent => "clean-structured-content",
            Self::CleanGraphics => "clean-graphics",
        }
    }

    /// Its code and meaning in CID 7050 of PS3.16.
    pub fn code(self) -> (&'static str, &'static str) {
        match self {
            Self::CleanGraphics => ("113103", "Clean Graphics Option"),
            Self::CleanStructuredContent => ("113104", "Clean Structured Content Option"),
            Self::CleanDescriptors => ("113105", "Clean Descriptors Option"),
            Self::RetainFullDates => ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
            Self::RetainModifiedDates => ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
            Self::RetainPatientCharacteristics => ("113108", "Retain Patient Characteristics Option"),
            Self::RetainDeviceIdentity => ("113109", "Retain Device Identity Option"),
            Self::RetainUids => ("113110", "Retain UIDs Option"),
            Self::RetainSafePrivate => ("113111", "Retain Safe Private Option"),
            Self::RetainInstitutionIdentity => ("113112", "Retain Institution Identity Option"),
        }
    }
}

/// The code of the basic profile (CID 7050).
pub const BASIC_CODE: (&str, &str) = ("113100", "Basic Application Confidentiality Profile");
/// The code of the option to clean pixel data, which is no column (CID 7050).
pub const CLEAN_PIXELS_CODE: (&str, &str) = ("113101", "Clean Pixel Data Option");

/// A code of the column of the basic profile.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Basic {
    /// `X`.
    Remove,
    /// `Z`.
    Empty,
    /// `D`.
    Dummy,
    /// `U`.
    Uid,
    /// `Z/D`.
    EmptyOrDummy,
    /// `X/Z`.
    RemoveOrEmpty,
    /// `X/D`.
    RemoveOrDummy,
    /// `X/Z/D`.
    RemoveOrEmptyOrDummy,
    /// `X/Z/U*`.
    RemoveOrEmptyOrUids,
}

/// The code of the basic profile, once its alternative is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decided {
    /// Take it out.
    Remove,
    /// Leave it without a value.
    Empty,
    /// Put a dummy value in its place.
    Dummy,
    /// Replace its UIDs, or those of its items.
    Uid,
}

/// How much the IOD needs an attribute (PS3.3): types 1 and 1C, 2 and 2C, 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// With a value.
    Value,
    /// Perhaps without a value.
    Presence,
    /// Not at all.
    Nothing,
}

impl Basic {
    /// All codes.
    pub const ALL: [Self; 9] = [
        Self::Remove,
        Self::Empty,
        Self::Dummy,
        Self::Uid,
        Self::EmptyOrDummy,
        Self::RemoveOrEmpty,
        Self::RemoveOrDummy,
        Self::RemoveOrEmptyOrDummy,
        Self::RemoveOrEmptyOrUids,
    ];

    /// As the standard writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "X",
            Self::Empty => "Z",
            Self::Dummy => "D",
            Self::Uid => "U",
            Self::EmptyOrDummy => "Z/D",
            Self::RemoveOrEmpty => "X/Z",
            Self::RemoveOrDummy => "X/D",
            Self::RemoveOrEmptyOrDummy => "X/Z/D",
            Self::RemoveOrEmptyOrUids => "X/Z/U*",
        }
    }

    /// Decides between the alternatives; `None` means that what the IOD needs is not known, and takes what suits any.
    pub fn decide(self, need: Option<Need>) -> Decided {
        match (self, need) {
            (Self::Remove, _) => Decided::Remove,
            (Self::Empty, _) => Decided::Empty,
            (Self::Dummy, _) => Decided::Dummy,
            // References are worth more than their absence, and all that is in the items is cleaned.
            (Self::Uid | Self::RemoveOrEmptyOrUids, _) => Decided::Uid,
            (Self::RemoveOrEmpty | Self::RemoveOrDummy | Self::RemoveOrEmptyOrDummy, Some(Need::Nothing)) => {
                Decided::Remove
            }
            (Self::EmptyOrDummy | Self::RemoveOrEmptyOrDummy, Some(Need::Presence | Need::Nothing)) => Decided::Empty,
            (Self::RemoveOrEmpty, _) => Decided::Empty,
            (Self::EmptyOrDummy | Self::RemoveOrDummy | Self::RemoveOrEmptyOrDummy, _) => Decided::Dummy,
        }
    }
}

impl fmt::Display for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Basic {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|basic| basic.as_str() == text).ok_or(())
    }
}

/// A code of the column of an option.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Choice {
    /// `K`.
    Keep,
    /// `C`.
    Clean,
}

/// What a row says: the basic profile, and each option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Codes {
    /// The column of the basic profile.
    pub basic: Basic,
    options: [Option<Choice>; 10],
}

impl Codes {
    fn parse(basic: &str, options: &str) -> Option<Self> {
        let mut parsed = [None; 10];
        let mut letters = options.chars();
        for option in &mut parsed {
            *option = match letters.next()? {
                'K' => Some(Choice::Keep),
                'C' => Some(Choice::Clean),
                '-' => None,
                _ => return None,
            };
        }
        letters.next().is_none().then_some(())?;
        Some(Self { basic: basic.parse().ok()?, options: parsed })
    }

    /// What an option says of it.
    pub fn option(&self, column: Column) -> Option<Choice> {
        Column::ALL.into_iter().zip(self.options).find_map(|(one, choice)| if one == column { choice } else { None })
    }
}

/// A row of Table E.1-1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// As the table writes it, for example `00100010`, `60xx3000` or `PRIVATE`.
    pub tag: &'static str,
    /// Its codes.
    pub codes: Codes,
    /// The name of the attribute.
    pub name: &'static str,
    /// Whether it is of PS3.15, or of our supplement.
    pub standard: bool,
}

/// A row of Table E.3.4-1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentItem {
    /// Coding scheme designator of the concept name.
    pub scheme: &'static str,
    /// Its code value.
    pub code: &'static str,
    /// The value type of the content item, for example `TEXT`.
    pub value_type: &'static str,
    /// Its codes.
    pub codes: Codes,
    /// Its code meaning.
    pub meaning: &'static str,
}

/// All rows: those of the standard, then ours.
pub fn rows() -> &'static [Row] {
    &TABLE.rows
}

/// All rows for content items.
pub fn content_items() -> &'static [ContentItem] {
    &TABLE.items
}

/// The row of an attribute.
pub fn row(tag: Tag) -> Option<&'static Row> {
    let number = u32::from(tag.group()) << 16 | u32::from(tag.element());
    let position = TABLE.exact.get(&number).or_else(|| {
        let fits = |(mask, value, _): &&(u32, u32, usize)| number & mask == *value;
        TABLE.patterns.iter().find(fits).map(|(_, _, position)| position)
    });
    position.and_then(|position| TABLE.rows.get(*position))
}

/// The row of a content item: that of its value type, else any of its concept.
pub fn content_item(scheme: &str, code: &str, value_type: &str) -> Option<&'static ContentItem> {
    let of_concept = || TABLE.items.iter().filter(|item| item.scheme == scheme && item.code == code);
    of_concept().find(|item| item.value_type == value_type).or_else(|| of_concept().next())
}

/// What the IOD of a SOP class needs of an attribute at the top level of the data set; `None` when the IOD is not known.
pub fn need(sop_class: &str, tag: Tag) -> Option<Need> {
    let types = TABLE.types.get(sop_class)?;
    let text = format!("{:04X}{:04X}", tag.group(), tag.element());
    let of_tag = types.split(' ').find_map(|entry| entry.strip_prefix(&text)?.strip_prefix(':'));
    Some(match of_tag {
        Some("1" | "1C") => Need::Value,
        Some("2" | "2C") => Need::Presence,
        _ => Need::Nothing,
    })
}

struct Tables {
    rows: Vec<Row>,
    exact: HashMap<u32, usize>,
    /// Mask, value and position of rows for many tags.
    patterns: Vec<(u32, u32, usize)>,
    items: Vec<ContentItem>,
    /// For each SOP class, `tag:type` separated by spaces.
    types: HashMap<&'static str, &'static str>,
}

static TABLE: LazyLock<Tables> = LazyLock::new(|| {
    let of_file = |text, standard| {
        lines(text).filter_map(move |line| {
            let [tag, basic, options, name] = fields(line)?;
            Some(Row { tag, codes: Codes::parse(basic, options)?, name, standard })
        })
    };
    let rows: Vec<Row> = of_file(ATTRIBUTES, true).chain(of_file(SUPPLEMENT, false)).collect();
    let (mut exact, mut patterns) = (HashMap::new(), Vec::new());
    for (position, row) in rows.iter().enumerate() {
        match mask(row.tag) {
            Some((u32::MAX, value)) => {
                exact.entry(value).or_insert(position);
            }
            Some((mask, value)) => patterns.push((mask, value, position)),
            None => {}
        }
    }
    let items = lines(CONTENT_ITEMS).filter_map(|line| {
        let [scheme, code, value_type, basic, options, meaning] = fields(line)?;
        Some(ContentItem { scheme, code, value_type, codes: Codes::parse(basic, options)?, meaning })
    });
    Tables {
        exact,
        patterns,
        items: items.collect(),
        types: lines(TYPES).filter_map(|line| line.split_once('|')).collect(),
        rows,
    }
});

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn fields<const N: usize>(line: &'static str) -> Option<[&'static str; N]> {
    line.split('|').collect::<Vec<_>>().try_into().ok()
}

/// The bits of a tag that a pattern such as `60xx3000` fixes, and their values.
pub(crate) fn mask(pattern: &str) -> Option<(u32, u32)> {
    let digits = (pattern.len() == 8 && pattern.is_ascii()).then_some(pattern)?;
    digits.chars().try_fold((0, 0), |(mask, value), digit| match digit {
        'x' | 'X' => Some((mask << 4, value << 4)),
        digit => Some((mask << 4 | 0xF, value << 4 | digit.to_digit(16)?)),
    })
}

const ATTRIBUTES: &str = include_str!("table/e1-1.csv");
const CONTENT_ITEMS: &str = include_str!("table/e3.4-1.csv");
const SUPPLEMENT: &str = include_str!("table/supplement.csv");
const TYPES: &str = include_str!("table/types.csv");

#[cfg(test)]
mod tests;
