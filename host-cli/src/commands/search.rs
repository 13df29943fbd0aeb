//! `eds search`: images by what may be known of them.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{Options, warn};
use crate::{
    Error,
    journey::search::search,
    metadata::{policy::Level, query::Found},
    output,
};

/// The arguments of `eds search`.
#[derive(Args, Debug)]
#[command(after_help = MATCHING)]
pub struct Search {
    /// What to look for: a keyword of DICOM and a value, for example Modality=CT; all must hold
    #[arg(value_name = "KEYWORD=VALUE")]
    asked: Vec<String>,
    /// What to list
    #[arg(long, value_name = "WHAT", default_value = "study")]
    level: ListLevel,
    /// How to write it
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
    /// The same as -o json
    #[arg(long)]
    json: bool,
    /// The most images to look at [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

/// What is listed.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum ListLevel {
    /// Patients, by a pseudonym
    Patient,
    /// Studies
    Study,
    /// Series
    Series,
    /// Images
    Image,
}

/// How it is written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// For people
    Table,
    /// For programs
    Json,
    /// The ids of the images, one a line, for `eds retrieve -`
    Ids,
}

const MATCHING: &str = "\
Matching:
  Modality=CT                      a value
  Modality=CT\\MR                   one of several values
  BodyPartExamined=CH*             any characters for *, one for ?; of attributes in clear
  StudyDate=20250101-20251231      a range of dates
  PatientID=4711                   a patient: needs the search key of the project
  StudyInstanceUID=1.2.3           of the original or of the de-identified image";

impl Search {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let (found, warnings) = search(&options.load()?, &self.asked, self.limit)?;
        warn(&warnings);
        let level = match self.level {
            ListLevel::Patient => Level::Patient,
            ListLevel::Study => Level::Study,
            ListLevel::Series => Level::Series,
            ListLevel::Image => Level::Image,
        };
        if found.is_empty() {
            eprintln!("nothing was found");
        }
        let text = match if self.json { Form::Json } else { self.output } {
            Form::Ids => found.iter().fold(String::new(), |text, one| text + &one.image.to_string() + "\n"),
            Form::Json => format!("{:#}\n", Value::Array(groups(&found, level).iter().map(Group::json).collect())),
            Form::Table if found.is_empty() => String::new(),
            Form::Table => table(&groups(&found, level), level),
        };
        Ok(output::print(&text)?)
    }
}

/// What is one row: the images of a patient, a study or a series, or one image.
struct Group<'a> {
    level: Level,
    images: Vec<&'a Found>,
}

fn groups(found: &[Found], level: Level) -> Vec<Group<'_>> {
    let depth = level.depth() + 1;
    let mut groups: Vec<Group<'_>> = Vec::new();
    for image in found {
        let same = |group: &Group<'_>| {
            let of_first = group.first().map(|first| first.names.iter().take(depth));
            level != Level::Image && of_first.is_some_and(|names| names.eq(image.names.iter().take(depth)))
        };
        // They come in this order.
        match groups.last_mut() {
            Some(group) if same(group) => group.images.push(image),
            _ => groups.push(Group { level, images: vec![image] }),
        }
    }
    groups
}

impl<'a> Group<'a> {
    fn first(&self) -> Option<&'a Found> {
        self.images.first().copied()
    }

    fn name(&self, level: Level) -> &'a str {
        self.first().and_then(|first| first.names.get(level.depth())).map_or("", String::as_str)
    }

    /// How many different things of a level.
    fn count(&self, level: Level) -> usize {
        self.images.iter().filter_map(|image| image.names.get(level.depth())).collect::<BTreeSet<_>>().len()
    }

    /// The values of an attribute over all images, in order, each once.
    fn values(&self, level: Level, tag: &str) -> String {
        let mut values = BTreeSet::new();
        // Images of one series, study or patient share the text of it.
        let texts: BTreeSet<&String> =
            self.images.iter().filter_map(|image| image.attributes.get(level.depth())).collect();
        for text in texts {
            let attributes = serde_json::from_str::<Value>(text).ok();
            for value in attributes.iter().filter_map(|all| all.get(tag)?.get("Value")?.as_array()).flatten() {
                values.insert(value.as_str().map_or_else(|| value.to_string(), String::from));
            }
        }
        values.into_iter().collect::<Vec<_>>().join(",")
    }

    fn json(&self) -> Value {
        let mut attributes = Map::new();
        let of_levels = Level::ALL.iter().take_while(|level| **level <= self.level).count();
        for text in self.first().iter().flat_map(|first| first.attributes.iter().take(of_levels)) {
            if let Ok(Value::Object(of_level)) = serde_json::from_str(text) {
                attributes.extend(of_level);
            }
        }
        let mut object = Map::new();
        for (level, name) in Level::ALL.into_iter().zip(["patient", "study", "series", "image"]) {
            if level <= self.level {
                object.insert(name.into(), self.name(level).into());
            }
        }
        if self.level < Level::Series {
            object.insert("modalities".into(), self.values(Level::Series, MODALITY).into());
        }
        object.insert("attributes".into(), Value::Object(attributes));
        object.insert("ids".into(), json!(self.images.iter().map(|one| one.image.to_string()).collect::<Vec<_>>()));
        Value::Object(object)
    }
}

/// The cells of a row.
type Cells = fn(&Group<'_>) -> Vec<String>;

fn table(groups: &[Group<'_>], level: Level) -> String {
    let (head, row): (&[&str], Cells) = match level {
        Level::Patient => (&["PATIENT", "STUDIES", "IMAGES"], |group| {
            vec![
                group.name(Level::Patient).into(),
                group.count(Level::Study).to_string(),
                group.images.len().to_string(),
            ]
        }),
        Level::Study => (&["STUDY", "PATIENT", "MODALITY", "SERIES", "IMAGES"], |group| {
            vec![
                group.name(Level::Study).into(),
                group.name(Level::Patient).into(),
                group.values(Level::Series, MODALITY),
                group.count(Level::Series).to_string(),
                group.images.len().to_string(),
            ]
        }),
        Level::Series => (&["SERIES", "MODALITY", "NUMBER", "BODY PART", "IMAGES"], |group| {
            vec![
                group.name(Level::Series).into(),
                group.values(Level::Series, MODALITY),
                group.values(Level::Series, "00200011"),
                group.values(Level::Series, "00180015"),
                group.images.len().to_string(),
            ]
        }),
        Level::Image => (&["ID", "MODALITY", "NUMBER", "ROWS", "COLUMNS", "FRAMES"], |group| {
            let value = |tag| group.values(Level::Image, tag);
            vec![
                group.first().map(|image| image.image.to_string()).unwrap_or_default(),
                group.values(Level::Series, MODALITY),
                value("00200013"),
                value("00280010"),
                value("00280011"),
                value("00280008"),
            ]
        }),
    };
    let mut rows = vec![head.iter().map(|word| String::from(*word)).collect::<Vec<_>>()];
    rows.extend(groups.iter().map(row));
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

const MODALITY: &str = "00080060";

#[cfg(test)]
mod tests {
    use eds_core::ids::FileId;

    use super::*;

    fn found(number: u8, series: &str, modality: &str) -> Found {
        let series_json = json!({ "00080060": { "vr": "CS", "Value": [modality] } }).to_string();
        let image_json = json!({ "00200013": { "vr": "IS", "Value": [number] } }).to_string();
        Found {
            image: FileId::from_bytes([number; 16]),
            names: ["p", "2.25.1", series, "2.25.9"].map(String::from),
            attributes: ["{}".into(), "{}".into(), series_json, image_json],
        }
    }

    #[test]
    fn images_are_listed_by_what_they_belong_to() {
        let all = [found(1, "2.25.2", "CT"), found(2, "2.25.2", "CT"), found(3, "2.25.3", "SR")];
        let studies = table(&groups(&all, Level::Study), Level::Study);
        assert_eq!(studies, "STUDY   PATIENT  MODALITY  SERIES  IMAGES\n2.25.1  p        CT,SR     2       3\n");
        let series = table(&groups(&all, Level::Series), Level::Series);
        assert!(series.contains("2.25.2  CT") && series.contains("2.25.3  SR"), "{series}");
        let images = groups(&all, Level::Image).iter().map(Group::json).collect::<Vec<_>>();
        assert_eq!(images.len(), 3);
        assert_eq!(images[2]["attributes"]["00080060"]["Value"][0], "SR");
        assert_eq!(images[2]["ids"][0], FileId::from_bytes([3; 16]).to_string());
    }
}
