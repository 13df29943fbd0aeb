//! The answers, and the images that they are planted in: a data set in explicit VR little endian, written here by hand so
//! that nothing of the code under test makes what it is tested with.

use std::collections::BTreeMap;

use eds_tests::{Outcome, give_up, trouble::During as _};

const TEXT: &str = include_str!("answers.txt");
const BANNER: &str = include_str!("banner.txt");
pub(crate) const ROWS: usize = 24;
pub(crate) const COLUMNS: usize = 32;

/// What must have become of a planted value.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) line: usize,
    scope: String,
    pub(crate) path: Vec<Step>,
    vr: String,
    value: String,
    pub(crate) check: String,
    text: String,
}

/// An element, and the item of it that the next step is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Step {
    pub(crate) tag: (u16, u16),
    pub(crate) item: Option<usize>,
}

/// An image by its numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Subject {
    pub(crate) patient: usize,
    study: usize,
    series: usize,
    image: usize,
}

pub(crate) fn subjects() -> Vec<Subject> {
    let pairs = |count: usize| (0..2).flat_map(move |a| (0..2).map(move |b| (a, b))).take(count);
    (1..=3)
        .flat_map(|patient| {
            pairs(4).flat_map(move |(study, series)| {
                (1..=2).map(move |image| Subject { patient, study: study + 1, series: series + 1, image })
            })
        })
        .collect()
}

impl Subject {
    pub(crate) fn file_name(self) -> String {
        format!("p{}t{}e{}i{}.dcm", self.patient, self.study, self.series, self.image)
    }

    /// Whether it is in this scope.
    pub(crate) fn fits(self, scope: &str) -> bool {
        let numbers = [('p', self.patient), ('t', self.study), ('e', self.series), ('i', self.image)];
        let mut letters = scope.chars().filter(|letter| *letter != '*').peekable();
        while let Some(letter) = letters.next() {
            let number = letters.next().and_then(|digit| digit.to_digit(10));
            if !numbers.iter().any(|(known, value)| *known == letter && u32::try_from(*value).ok() == number) {
                return false;
            }
        }
        true
    }

    fn fill(self, text: &str) -> String {
        let numbers = [("{p}", self.patient), ("{t}", self.study), ("{e}", self.series), ("{i}", self.image)];
        numbers.iter().fold(text.to_owned(), |text, (name, number)| text.replace(name, &number.to_string()))
    }
}

impl Answer {
    pub(crate) fn is_of(&self, subject: Subject) -> bool {
        subject.fits(&self.scope)
    }

    pub(crate) fn value(&self, subject: Subject) -> String {
        subject.fill(&self.value)
    }

    /// The words that are there or not.
    pub(crate) fn words(&self, subject: Subject) -> Vec<String> {
        let text = if self.text.is_empty() { &self.value } else { &self.text };
        let is_part = |c: char| c.is_whitespace() || ",.;^\\=".contains(c);
        let number = self.vr == "DS" || self.vr == "UI" || self.vr == "AS";
        let split = |c: char| if number { c.is_whitespace() || c == '\\' } else { is_part(c) };
        subject.fill(text).split(split).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    }

    /// The rectangle of a check of pixels.
    pub(crate) fn rectangle(&self) -> Option<[usize; 4]> {
        let numbers: Vec<usize> = self.text.split(',').filter_map(|number| number.parse().ok()).collect();
        numbers.try_into().ok()
    }
}

pub(crate) fn answers() -> Outcome<Vec<Answer>> {
    let mut answers: Vec<Answer> = Vec::new();
    for (number, line) in TEXT.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split('|').collect();
        let [scope, path, vr, value, check, text] = fields[..] else { give_up!("line {}: {line}", number + 1) };
        let value = match (value, answers.last()) {
            ("\"", Some(before)) => before.value.clone(),
            _ => value.to_owned(),
        };
        let [scope, vr, check, text] = [scope, vr, check, text].map(str::to_owned);
        let path = path.split('.').map(step).collect::<Outcome<Vec<_>>>()?;
        answers.push(Answer { line: number + 1, scope, path, vr, value, check, text });
    }
    Ok(answers)
}

fn step(text: &str) -> Outcome<Step> {
    let (tag, item) = match text.split_once('[') {
        Some((tag, item)) => (tag, Some(item.trim_end_matches(']').parse().during(text)?)),
        None => (text, None),
    };
    let Some((group, element)) = tag.split_once(',') else { give_up!("{text} is no tag") };
    let number = |text: &str| u16::from_str_radix(text, 16).during(text);
    Ok(Step { tag: (number(group)?, number(element)?), item })
}

#[derive(Default)]
struct Items(BTreeMap<(u16, u16), Node>);

enum Node {
    Value(String, Vec<u8>),
    Sequence(Vec<Items>),
}

/// A file with everything that is planted in this image.
pub(crate) fn write(answers: &[Answer], subject: Subject) -> Outcome<Vec<u8>> {
    let mut root = Items::default();
    let short = |number: usize| u16::try_from(number).unwrap_or_default().to_le_bytes().to_vec();
    for (element, value) in
        [(0x0002, 1), (0x0010, ROWS), (0x0011, COLUMNS), (0x0100, 8), (0x0101, 8), (0x0102, 7), (0x0103, 0)]
    {
        root.0.insert((0x0028, element), Node::Value("US".into(), short(value)));
    }
    root.0.insert((0x0028, 0x0004), Node::Value("CS".into(), b"MONOCHROME2 ".to_vec()));
    for answer in answers.iter().filter(|answer| answer.is_of(subject)) {
        plant(&mut root, answer, subject)?;
    }
    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    let mut meta = Vec::new();
    element(&mut meta, (2, 1), "OB", &[0, 1]);
    element(&mut meta, (2, 2), "UI", b"1.2.840.10008.5.1.4.1.1.2");
    element(&mut meta, (2, 3), "UI", b"1.2.826.0.1.3680043.10.76");
    element(&mut meta, (2, 0x10), "UI", b"1.2.840.10008.1.2.1\0");
    element(&mut file, (2, 0), "UL", &u32::try_from(meta.len())?.to_le_bytes());
    file.extend_from_slice(&meta);
    file.extend_from_slice(&encoded(&root));
    Ok(file)
}

fn plant(items: &mut Items, answer: &Answer, subject: Subject) -> Outcome {
    let Some((last, above)) = answer.path.split_last() else { give_up!("line {}: no path", answer.line) };
    let mut place = items;
    for step in above {
        let node = place.0.entry(step.tag).or_insert_with(|| Node::Sequence(Vec::new()));
        let Node::Sequence(items) = node else { give_up!("line {}: no sequence", answer.line) };
        let item = step.item.unwrap_or_default();
        while items.len() <= item {
            items.push(Items::default());
        }
        let Some(next) = items.get_mut(item) else { give_up!("line {}: no item", answer.line) };
        place = next;
    }
    let value = match answer.value.as_str() {
        "picture" => picture(subject, false),
        "banner" => picture(subject, true),
        _ => answer.value(subject).into_bytes(),
    };
    place.0.insert(last.tag, Node::Value(answer.vr.clone(), value));
    Ok(())
}

/// The pixels of an image, with the name burned in.
fn picture(subject: Subject, banner: bool) -> Vec<u8> {
    let mark = subject.patient * 53 + subject.study * 17 + subject.series * 5 + subject.image;
    let mut pixels: Vec<u8> = (0..ROWS * COLUMNS)
        .map(|at| u8::try_from((at * 7 + at / COLUMNS * 13 + mark) % 199 + 1).unwrap_or(1))
        .collect();
    if banner {
        for (row, line) in BANNER.lines().enumerate() {
            for (column, _) in line.chars().enumerate().filter(|(_, letter)| *letter == '#') {
                if let Some(pixel) = pixels.get_mut(row * COLUMNS + column) {
                    *pixel = 255;
                }
            }
        }
    }
    pixels
}

fn encoded(items: &Items) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, node) in &items.0 {
        match node {
            Node::Value(vr, value) => element(&mut out, *tag, vr, value),
            Node::Sequence(items) => {
                let mut inner = Vec::new();
                for item in items {
                    let item = encoded(item);
                    inner.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
                    inner.extend_from_slice(&length(&item));
                    inner.extend_from_slice(&item);
                }
                element(&mut out, *tag, "SQ", &inner);
            }
        }
    }
    out
}

fn element(out: &mut Vec<u8>, (group, element): (u16, u16), vr: &str, value: &[u8]) {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if matches!(vr, "UI" | "OB") { 0 } else { b' ' });
    }
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&element.to_le_bytes());
    out.extend_from_slice(vr.as_bytes());
    if matches!(vr, "OB" | "OW" | "SQ" | "UT" | "UN") {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&length(&value));
    } else {
        out.extend_from_slice(&u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
    }
    out.extend_from_slice(&value);
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes()
}
