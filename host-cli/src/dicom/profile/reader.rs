//! Reads the tables of a profile so that every fault is found: what is wrong is noted with its line, and reading goes on.

use std::{cell::RefCell, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::Fault;

/// A profile while it is read.
pub(super) struct Reader<'t> {
    text: &'t str,
    faults: RefCell<Vec<Fault>>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, faults: RefCell::default() }
    }

    /// Reads the whole file.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            self.fault(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()));
        }
        let section = Section { reader: self, name: String::new(), span: table.span(), table: Some(table.get_ref()) };
        read(&section)
    }

    /// What is wrong, from the first line to the last.
    pub(super) fn faults(self) -> Vec<Fault> {
        let mut faults = self.faults.into_inner();
        faults.sort();
        faults.dedup();
        faults
    }

    fn fault(&self, span: Range<usize>, message: String) {
        let line = 1 + self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
        self.faults.borrow_mut().push(Fault { line, message });
    }
}

/// A table of the file, or one that is not there.
pub(super) struct Section<'r> {
    reader: &'r Reader<'r>,
    name: String,
    span: Range<usize>,
    table: Option<&'r DeTable<'r>>,
}

/// A text, and where it stands.
pub(super) type Text<'r> = (&'r str, Range<usize>);

impl<'r> Section<'r> {
    /// Notes every key that is not one of these.
    pub(super) fn knows(&self, keys: &[&str]) {
        for (key, value) in self.table.into_iter().flat_map(DeTable::iter) {
            if !keys.contains(&key.get_ref().as_ref()) {
                let kind = if value.get_ref().is_table() { "section" } else { "key" };
                let name = self.path_of(key.get_ref());
                self.fault(key.span(), format!("{name}: unknown {kind}; known here: {}", keys.join(", ")));
            }
        }
    }

    /// Notes something wrong at a place; the message names the key.
    pub(super) fn fault(&self, span: Range<usize>, message: String) {
        self.reader.fault(span, message);
    }

    /// Where the section begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) fn text(&self, key: &str) -> Option<Text<'r>> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str().or_else(|| self.wrong_type(key, value, "a text in quotes"));
        Some((text?, value.span()))
    }

    /// A text that must be there.
    pub(super) fn needed(&self, key: &str) -> Option<Text<'r>> {
        if self.value(key).is_none() {
            self.fault(self.span(), format!("{}: missing", self.path_of(key)));
        }
        self.text(key)
    }

    /// One of several words.
    pub(super) fn one_of<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let (text, span) = self.text(key)?;
        self.word(key, text, span, words)
    }

    /// What a word stands for.
    pub(super) fn word<T: Copy>(&self, key: &str, text: &str, span: Range<usize>, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.fault(span, format!("{}: {text:?} is none of {}", self.path_of(key), known.join(", ")));
        }
        found
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, key: &str, allowed: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(key)?;
        let number = as_number(value).filter(|number| allowed.contains(number));
        if number.is_none() {
            let (least, most) = allowed.into_inner();
            self.fault(value.span(), format!("{}: no whole number from {least} to {most}", self.path_of(key)));
        }
        number
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<Text<'r>>> {
        let value = self.value(key)?;
        let list = value.get_ref().as_array().or_else(|| self.wrong_type(key, value, "a list in [brackets]"))?;
        let text = |one: &'r Spanned<DeValue<'r>>| {
            let text = one.get_ref().as_str().or_else(|| self.wrong_type(key, one, "texts in quotes"));
            Some((text?, one.span()))
        };
        Some(list.iter().filter_map(text).collect())
    }

    /// A list of lists of four numbers.
    pub(super) fn fours(&self, key: &str) -> Option<Vec<[u32; 4]>> {
        let value = self.value(key)?;
        let list = value.get_ref().as_array().or_else(|| self.wrong_type(key, value, "a list of lists"))?;
        let four = |one: &Spanned<DeValue<'_>>| {
            let numbers = one.get_ref().as_array().map(|list| list.iter().filter_map(as_number).collect::<Vec<_>>());
            let four = numbers.and_then(|numbers| <[u32; 4]>::try_from(numbers).ok());
            if four.is_none() {
                self.fault(one.span(), format!("{}: write [x, y, width, height]", self.path_of(key)));
            }
            four
        };
        Some(list.iter().filter_map(four).collect())
    }

    /// A section below this one, whether it is there or not.
    pub(super) fn section(&self, key: &str) -> Section<'r> {
        let found = self.value(key);
        let table =
            found.and_then(|value| value.get_ref().as_table().or_else(|| self.wrong_type(key, value, "a [section]")));
        let span = found.map_or_else(|| self.span(), Spanned::span);
        Section { reader: self.reader, name: self.path_of(key), span, table }
    }

    /// Sections of one name, `[[key]]`.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'r>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let list = value.get_ref().as_array().or_else(|| self.wrong_type(key, value, "sections: [[…]]"));
        let one = |one: &'r Spanned<DeValue<'r>>| {
            let table = one.get_ref().as_table().or_else(|| self.wrong_type(key, one, "sections: [[…]]"))?;
            Some(Section { reader: self.reader, name: self.path_of(key), span: one.span(), table: Some(table) })
        };
        list.into_iter().flatten().filter_map(one).collect()
    }

    /// All keys with their texts, where the keys are the user's.
    pub(super) fn entries(&self) -> Vec<(&'r str, Range<usize>, Text<'r>)> {
        let entry = |(key, value): (&'r Spanned<_>, &'r Spanned<DeValue<'r>>)| {
            let name: &'r str = AsRef::<str>::as_ref(key.get_ref());
            let text = value.get_ref().as_str().or_else(|| self.wrong_type(name, value, "a text in quotes"));
            Some((name, key.span(), (text?, value.span())))
        };
        self.table.into_iter().flat_map(DeTable::iter).filter_map(entry).collect()
    }

    /// The name of a key with that of its section.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn value(&self, key: &str) -> Option<&'r Spanned<DeValue<'r>>> {
        self.table?.get(key)
    }

    fn wrong_type<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<T> {
        let found = value.get_ref().type_str();
        self.fault(value.span(), format!("{}: is of type {found}; give {wanted}", self.path_of(key)));
        None
    }
}

fn as_number(value: &Spanned<DeValue<'_>>) -> Option<u32> {
    let integer = value.get_ref().as_integer()?;
    u32::from_str_radix(integer.as_str(), integer.radix()).ok()
}
