//! The ten checks.

use std::{collections::BTreeMap, io::Cursor};

use dicom_object::{InMemDicomObject, Tag};
use eds_tests::{Outcome, Trouble};

use crate::answers::{Answer, COLUMNS, ROWS, Step, Subject};

/// What was found so far, over all images.
#[derive(Default)]
pub(crate) struct Findings {
    made: BTreeMap<String, (usize, usize)>,
    wrong: Vec<String>,
    /// What stands for each UID, and for what it stands.
    uids: Mapping,
    patients: Mapping,
    /// By how many days those of a patient were moved.
    days: BTreeMap<usize, i64>,
}

#[derive(Default)]
struct Mapping {
    new: BTreeMap<String, String>,
    old: BTreeMap<String, String>,
}

impl Mapping {
    /// Whether this value always stands for that one, and for no other.
    fn is_consistent(&mut self, old: &str, new: &str) -> bool {
        let one = self.new.entry(old.into()).or_insert_with(|| new.into()) == new;
        let back = self.old.entry(new.into()).or_insert_with(|| old.into()) == old;
        one && back && old != new && !new.is_empty()
    }
}

impl Findings {
    pub(crate) fn made(&self) -> usize {
        self.made.values().map(|(_, made)| made).sum()
    }

    pub(crate) fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// For each check how often it was right, and how often it was made.
    pub(crate) fn of_each(&self) -> BTreeMap<String, (usize, usize)> {
        self.made.clone()
    }
}

/// Compares an image with its answers.
pub(crate) fn check(
    answers: &[Answer],
    subject: Subject,
    original: &[u8],
    cleaned: &[u8],
    findings: &mut Findings,
) -> Outcome {
    let read = |bytes: &[u8]| {
        dicom_object::from_reader(Cursor::new(bytes.to_vec()))
            .map(dicom_object::FileDicomObject::into_inner)
            .map_err(|error| Trouble::new(format!("{}: {error}", subject.file_name())))
    };
    let (before, after) = (read(original)?, read(cleaned)?);
    for answer in answers.iter().filter(|answer| answer.is_of(subject)) {
        let found = find(&after, &answer.path);
        let right = match answer.check.as_str() {
            "tag_retained" => found.is_some(),
            "text_notnull" => found.as_ref().is_some_and(|text| !text.is_empty()),
            "text_retained" => has_all(found.as_deref(), &answer.words(subject)),
            "text_removed" => is_gone(found.as_deref(), &answer.words(subject), cleaned),
            "date_shifted" => found.as_deref().is_none_or(|new| {
                let days = days_of(&answer.value(subject)).zip(days_of(new)).map(|(old, new)| old - new);
                days.is_some_and(|days| days != 0 && *findings.days.entry(subject.patient).or_insert(days) == days)
            }),
            "uid_changed" => found.as_deref().is_none_or(|new| !new.contains(&answer.value(subject))),
            "uid_consistent" => {
                found.as_deref().is_none_or(|new| findings.uids.is_consistent(&answer.value(subject), new))
            }
            "patid_consistent" => {
                found.as_deref().is_none_or(|new| findings.patients.is_consistent(&answer.value(subject), new))
            }
            "pixels_retained" => pixels(&before).is_some() && pixels(&before) == pixels(&after),
            "pixels_hidden" => is_hidden(answer, pixels(&before), pixels(&after)),
            _ => false,
        };
        let (rights, made) = findings.made.entry(answer.check.clone()).or_default();
        *made += 1;
        *rights += usize::from(right);
        if !right {
            let file = subject.file_name();
            findings.wrong.push(format!("{file}, line {}: {}: found {found:?}", answer.line, answer.check));
        }
    }
    Ok(())
}

/// The value at a path as text.
fn find(object: &InMemDicomObject, path: &[Step]) -> Option<String> {
    let (step, below) = path.split_first()?;
    let element = object.element(Tag(step.tag.0, step.tag.1)).ok()?;
    match below {
        [] => Some(element.to_str().map(|text| text.trim_matches([' ', '\0']).to_owned()).unwrap_or_default()),
        below => find(element.items()?.get(step.item?)?, below),
    }
}

fn has_all(found: Option<&str>, words: &[String]) -> bool {
    let found = found.map(str::to_lowercase);
    found.is_some_and(|found| !words.is_empty() && words.iter().all(|word| found.contains(word.as_str())))
}

/// Nothing of it is there; words with letters are nowhere in the file.
fn is_gone(found: Option<&str>, words: &[String], file: &[u8]) -> bool {
    let found = found.unwrap_or_default().to_lowercase();
    let file = String::from_utf8_lossy(file).to_lowercase();
    let telling = |word: &&String| word.chars().count() >= 4 && word.chars().any(char::is_alphabetic);
    !words.iter().any(|word| found.contains(word.as_str()))
        && !words.iter().filter(telling).any(|word| file.contains(word.as_str()))
}

/// The number of a day, counted from a day that does not matter.
fn days_of(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March, so that the day that some have more is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day)
}

fn pixels(object: &InMemDicomObject) -> Option<Vec<u8>> {
    let element = object.element(Tag(0x7FE0, 0x0010)).ok()?;
    element.to_bytes().ok().map(|bytes| bytes.into_owned())
}

/// The rectangle was drawn on and is blank, and all around it is as it was.
fn is_hidden(answer: &Answer, before: Option<Vec<u8>>, after: Option<Vec<u8>>) -> bool {
    let (Some([x, y, width, height]), Some(before), Some(after)) = (answer.rectangle(), before, after) else {
        return false;
    };
    let within = |at: usize| (x..x + width).contains(&(at % COLUMNS)) && (y..y + height).contains(&(at / COLUMNS));
    before.len() == ROWS * COLUMNS
        && after.len() == before.len()
        && before.iter().zip(&after).enumerate().all(|(at, (old, new))| *new == if within(at) { 0 } else { *old })
        && before.iter().zip(&after).any(|(old, new)| old != new)
}
