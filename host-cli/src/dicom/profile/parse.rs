//! From the tables of a TOML file to a profile.

use std::{collections::BTreeSet, ops::Range};

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _};
use dicom_dictionary_std::StandardDataDictionary;

use super::{
    Action, DeviceMask, Fault, OnSuspect, Override, Patient, Profile, SafePrivate, Stand, Suspects, WORDS,
    reader::{Reader, Section},
};
use crate::dicom::{
    pixels::Region,
    table::{Column, mask},
};

/// The profile of this text; its digest is not set.
pub(super) fn profile(text: &str) -> Result<Profile, Vec<Fault>> {
    let reader = Reader::new(text);
    let profile = reader.read(whole);
    let faults = reader.faults();
    if faults.is_empty() { Ok(profile) } else { Err(faults) }
}

fn whole(file: &Section<'_>) -> Profile {
    file.knows(&[
        "format",
        "name",
        "version",
        "options",
        "patient",
        "clean",
        "overrides",
        "safe-private",
        "suspects",
        "mask",
    ]);
    if file.number("format", 1..=1).is_none() {
        file.fault(file.span(), "format: write format = 1; another one is of another release".into());
    }
    let options = options(file);
    let clean = file.section("clean");
    clean.knows(&["words"]);
    let own = clean.texts("words").unwrap_or_default();
    let built_in = WORDS.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    let mut profile = Profile {
        name: label(file, "name"),
        version: label(file, "version"),
        digest: [0; 32],
        patient: patient(&file.section("patient")),
        words: built_in.chain(own.iter().map(|(word, _)| *word)).map(str::to_uppercase).collect(),
        overrides: overrides(&file.section("overrides")),
        safe_private: file.sections("safe-private").iter().map(safe_private).collect(),
        suspects: suspects(&file.section("suspects")),
        masks: file.sections("mask").iter().map(device_mask).collect(),
        options,
    };
    for (word, span) in own {
        if word.is_empty() || !word.chars().all(char::is_alphanumeric) {
            file.fault(span, format!("clean.words: {word:?} is not one word of letters and digits"));
        }
    }
    if profile.takes(Column::RetainSafePrivate) {
        profile.safe_private.extend(standard_safe_private());
    } else if !profile.safe_private.is_empty() {
        file.fault(
            file.span(),
            "options: [[safe-private]] is without effect unless retain-safe-private is taken".into(),
        );
    }
    profile
}

/// The rows of Table E.3.10-1 that are known here.
fn standard_safe_private() -> impl Iterator<Item = SafePrivate> {
    SAFE_PRIVATE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (group, rest) = line.split_once('|')?;
        let (creator, elements) = rest.split_once('|')?;
        let elements = elements.split(' ').filter_map(|element| u8::from_str_radix(element, 16).ok()).collect();
        Some(SafePrivate { group: u16::from_str_radix(group, 16).ok()?, creator: creator.into(), elements })
    })
}

/// A text that fits into the image: (0012,0063) is a Long String.
fn label(file: &Section<'_>, key: &str) -> String {
    let Some((text, span)) = file.needed(key) else { return String::new() };
    let fits = |c: char| c.is_ascii_alphanumeric() || " ._-+".contains(c);
    if text.trim().is_empty() || text.len() > 31 || !text.chars().all(fits) {
        file.fault(
            span,
            format!("{key}: give 1 to 31 letters, digits, spaces or . _ - +, since it stands in every image"),
        );
    }
    text.into()
}

fn options(file: &Section<'_>) -> BTreeSet<Column> {
    let known: Vec<_> = Column::ALL.iter().map(|column| (column.name(), *column)).collect();
    let mut options = BTreeSet::new();
    for (text, span) in file.texts("options").unwrap_or_default() {
        if file.word("options", text, span.clone(), &known).is_some_and(|option| !options.insert(option)) {
            file.fault(span, format!("options: {text:?} is named twice"));
        }
    }
    if options.contains(&Column::RetainFullDates) && options.contains(&Column::RetainModifiedDates) {
        file.fault(file.span(), "options: dates are kept in full or modified, not both".into());
    }
    options
}

fn patient(section: &Section<'_>) -> Patient {
    section.knows(&["name", "id", "most-days"]);
    let stands = [("pseudonym", Stand::Pseudonym), ("table", Stand::Table)];
    Patient {
        name: section.one_of("name", &stands).unwrap_or(Stand::Pseudonym),
        id: section.one_of("id", &stands).unwrap_or(Stand::Pseudonym),
        most_days: section.number("most-days", 1..=36_500).unwrap_or(3650),
    }
}

fn overrides(section: &Section<'_>) -> Vec<Override> {
    let actions: Vec<_> = Action::ALL.iter().map(|action| (action.name(), *action)).collect();
    let mut overrides: Vec<Override> = Vec::new();
    for (name, place, (text, span)) in section.entries() {
        let action = section.word(name, text, span, &actions);
        match (pattern(name), action) {
            (None, _) => {
                let message = format!("overrides.{name}: write a tag (0008,1010), a pattern 60xx3000 or a keyword");
                section.fault(place, message);
            }
            (Some((mask, value)), Some(action)) => {
                check_override(section, name, place.clone(), mask, value, action);
                if overrides.iter().any(|one| (one.mask, one.value) == (mask, value)) {
                    section.fault(place, format!("overrides.{name}: named twice"));
                }
                overrides.push(Override { mask, value, action });
            }
            (Some(_), None) => {}
        }
    }
    overrides
}

fn check_override(section: &Section<'_>, name: &str, place: Range<usize>, mask: u32, value: u32, action: Action) {
    let keeps = matches!(action, Action::Keep | Action::Clean);
    // A pattern may be of odd groups also where it does not say so.
    let may_be_odd = mask & 0x0001_0000 == 0 || value & 0x0001_0000 != 0;
    let is_odd = mask & value & 0x0001_0000 != 0;
    if is_odd || keeps && may_be_odd {
        let message = format!(
            "overrides.{name}: private elements go, and are kept by [[safe-private]] alone, which names their creator"
        );
        section.fault(place, message);
    } else if OURS.contains(&value) && mask == u32::MAX {
        section.fault(place, format!("overrides.{name}: says what was done, and is written by the program"));
    } else if keeps && value >> 16 < 8 && mask >> 16 == 0xFFFF {
        section.fault(place, format!("overrides.{name}: groups 0000 to 0007 are not of the image"));
    }
}

/// The bits that a tag, a pattern or a keyword fixes, and their values.
fn pattern(name: &str) -> Option<(u32, u32)> {
    let inner = name.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    match inner.and_then(|inner| inner.split_once(',')) {
        Some((group, element)) if group.len() == 4 => mask(&format!("{group}{element}")),
        Some(_) => None,
        None => mask(name).or_else(|| {
            let tag = StandardDataDictionary.by_name(name)?.tag();
            Some((u32::MAX, u32::from(tag.group()) << 16 | u32::from(tag.element())))
        }),
    }
}

fn safe_private(section: &Section<'_>) -> SafePrivate {
    section.knows(&["group", "creator", "elements"]);
    let hex = |text: &str, digits| if text.len() == digits { u16::from_str_radix(text, 16).ok() } else { None };
    let group = section.needed("group").and_then(|(text, span)| {
        let group = hex(text, 4).filter(|group| group % 2 == 1 && *group > 8 && *group != 0xFFFF);
        if group.is_none() {
            section.fault(span, "safe-private.group: four hexadecimal digits of an odd group".into());
        }
        group
    });
    let mut elements = BTreeSet::new();
    let listed = section.texts("elements").unwrap_or_default();
    if listed.is_empty() {
        section.fault(section.span(), "safe-private.elements: name at least one, such as \"0C\"".into());
    }
    for (text, span) in listed {
        match hex(text, 2).and_then(|element| u8::try_from(element).ok()) {
            Some(element) => {
                elements.insert(element);
            }
            None => section.fault(span, "safe-private.elements: the last two hexadecimal digits each".into()),
        }
    }
    let creator = section.needed("creator").map_or("", |(text, _)| text.trim());
    SafePrivate { group: group.unwrap_or_default(), creator: creator.into(), elements }
}

fn suspects(section: &Section<'_>) -> Suspects {
    section.knows(&[
        "burned-in",
        "faces",
        "heads",
        "documents",
        "hidden",
        "modalities",
        "sop-classes",
        "image-types",
        "head-parts",
    ]);
    let ways: Vec<_> = OnSuspect::ALL.iter().map(|way| (way.name(), *way)).collect();
    let way = |key| section.one_of(key, &ways);
    let lists = |key, built_in: &[&str]| match section.texts(key) {
        Some(list) => list.iter().map(|(text, _)| String::from(*text)).collect(),
        None => built_in.iter().copied().map(String::from).collect(),
    };
    Suspects {
        burned_in: way("burned-in").unwrap_or(OnSuspect::Refuse),
        faces: way("faces").unwrap_or(OnSuspect::Refuse),
        heads: way("heads").unwrap_or(OnSuspect::Pass),
        documents: way("documents").unwrap_or(OnSuspect::Refuse),
        hidden: way("hidden").unwrap_or(OnSuspect::Refuse),
        modalities: lists("modalities", &MODALITIES),
        sop_classes: lists("sop-classes", &SOP_CLASSES),
        image_types: lists("image-types", &IMAGE_TYPES),
        head_parts: lists("head-parts", &HEAD_PARTS),
    }
}

fn device_mask(section: &Section<'_>) -> DeviceMask {
    section.knows(&["modality", "manufacturer", "model", "rows", "columns", "regions"]);
    let text = |key| section.text(key).map(|(text, _)| String::from(text));
    for key in ["rows", "columns"] {
        if section.number(key, 1..=65_535).is_none() {
            section.fault(section.span(), format!("mask.{key}: a mask is for images of one size; name it"));
        }
    }
    let mask = DeviceMask {
        modality: text("modality"),
        manufacturer: text("manufacturer"),
        model: text("model"),
        rows: section.number("rows", 1..=65_535).unwrap_or_default(),
        columns: section.number("columns", 1..=65_535).unwrap_or_default(),
        regions: section.fours("regions").unwrap_or_default().into_iter().map(Region::from).collect(),
    };
    if mask.manufacturer.is_none() && mask.model.is_none() {
        section.fault(section.span(), "mask: name the manufacturer or the model of the device".into());
    }
    if mask.regions.is_empty() {
        section.fault(section.span(), "mask.regions: name at least one [x, y, width, height]".into());
    }
    for region in &mask.regions {
        if !region.lies_within(mask.rows, mask.columns) {
            section.fault(section.span(), format!("mask.regions: {region} is not within the image"));
        }
    }
    mask
}

/// Patient Identity Removed, De-identification Method and its codes, Longitudinal Temporal Information Modified.
const OURS: [u32; 4] = [0x0012_0062, 0x0012_0063, 0x0012_0064, 0x0028_0303];

const SAFE_PRIVATE: &str = include_str!("safe-private.txt");
const MODALITIES: [&str; 11] = ["US", "ES", "XC", "SC", "OT", "GM", "SM", "IVUS", "OP", "DOC", "BDUS"];
const SOP_CLASSES: [&str; 8] = [
    "1.2.840.10008.5.1.4.1.1.7",     // Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.",    // Multi-frame Secondary Capture
    "1.2.840.10008.5.1.4.1.1.6",     // Ultrasound (retired)
    "1.2.840.10008.5.1.4.1.1.6.",    // Ultrasound
    "1.2.840.10008.5.1.4.1.1.3",     // Ultrasound Multi-frame (retired)
    "1.2.840.10008.5.1.4.1.1.3.",    // Ultrasound Multi-frame
    "1.2.840.10008.5.1.4.1.1.77.1.", // Visible light
    "1.2.840.10008.5.1.1.30",        // Hardcopy colour image (retired)
];
const IMAGE_TYPES: [&str; 8] =
    ["SCREEN SAVE", "SCREENSHOT", "SCREEN SHOT", "DOSE REPORT", "DOSE_REPORT", "REPORT", "PROTOCOL", "LABEL"];
const HEAD_PARTS: [&str; 14] = [
    "HEAD",
    "HEADNECK",
    "FACE",
    "BRAIN",
    "SKULL",
    "ORBIT",
    "SINUS",
    "NOSE",
    "EAR",
    "JAW",
    "MANDIBLE",
    "MAXILLA",
    "NECK",
    "WHOLEBODY",
];
