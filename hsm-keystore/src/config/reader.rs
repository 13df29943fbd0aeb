//! Reads sections of a TOML file so that every fault is found, not only the first.
//!
//! A [`Section`] is asked for each key that it may have. What is wrong is noted with its line, and the answer is then a
//! default, so that reading goes on; nothing that was read may be used when there is any fault. Keys that were never
//! asked for are unknown, and told together with the nearest one that is known. Names of files are noted with what they
//! are for ([`Role`]), so that `check-config` can look at them, also when the rest of the file cannot be used.
//!
//! To add a key, ask for it: `section.path("key", Role::…)`, `section.number("key", DEFAULT, 1..=9, "hint")`,
//! `section.text("key")`, and `section.need(&["key"])` when it must be there.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Something wrong in a configuration file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Cow<'static, str>,
}

/// What a file is for that the configuration names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The signed cluster directory.
    ClusterDirectory,
    /// The node's certificate and its chain.
    Certificate,
    /// The private key of the certificate.
    PrivateKey,
    /// A PEM file of authorities.
    Authorities,
    /// A directory of authorities in the hashed layout.
    AuthorityDirectory,
    /// A `vomsdir`.
    VomsDirectory,
    /// A PKCS#11 module.
    Module,
    /// A secret that nobody but the server may read: the PIN, a password.
    Secret,
    /// The database, made by `init`.
    Database,
    /// The identity file, made by `init`.
    Identity,
    /// Key pairs wrapped by the token, made by `init`.
    WrappedKeys,
    /// The directory of the audit log, made by `init`.
    AuditLog,
}

/// A file that the configuration names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The key that names it, with its section.
    pub key: String,
    /// The line of the name.
    pub line: usize,
    /// The file, with the configuration's directory before it when it is relative.
    pub path: PathBuf,
    /// What it is for.
    pub role: Role,
}

/// A configuration file while it is read.
pub(super) struct Reader<'t> {
    text: &'t str,
    folder: Option<&'t Path>,
    faults: RefCell<Vec<(usize, Fault)>>,
    named: RefCell<Vec<Named>>,
    /// Not TOML in places: what seems to be missing may stand there.
    broken: Cell<bool>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Self {
        let (faults, named) = (RefCell::default(), RefCell::default());
        Self { text, folder: file.parent(), faults, named, broken: Cell::new(false) }
    }

    /// Reads the whole file.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            self.broken.set(true);
            self.fault(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()), TOML);
        }
        let section = Section::new(self, String::new(), table.span(), Some(table.get_ref()));
        let read = read(&section);
        section.finish();
        read
    }

    /// What is wrong, from the first line to the last, and what files are named.
    pub(super) fn finish(self) -> (Vec<Fault>, Vec<Named>) {
        let mut faults = self.faults.into_inner();
        faults.sort();
        faults.dedup();
        (faults.into_iter().map(|(_, fault)| fault).collect(), self.named.into_inner())
    }

    fn fault(&self, span: Range<usize>, message: String, hint: impl Into<Cow<'static, str>>) {
        let fault = Fault { line: self.line(span.start), message, hint: hint.into() };
        self.faults.borrow_mut().push((span.start, fault));
    }

    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }
}

/// A table of the file, or one that is not there.
pub(super) struct Section<'r> {
    reader: &'r Reader<'r>,
    name: String,
    span: Range<usize>,
    table: Option<&'r DeTable<'r>>,
    known: RefCell<Vec<&'static str>>,
}

/// A text of the file, and where it stands.
pub(super) struct Text<'r> {
    pub(super) value: &'r str,
    pub(super) span: Range<usize>,
}

/// One element of a list.
pub(super) enum Item<'r> {
    Text(Text<'r>),
    Table(Section<'r>),
}

impl<'r> Section<'r> {
    fn new(reader: &'r Reader<'r>, name: String, span: Range<usize>, table: Option<&'r DeTable<'r>>) -> Self {
        Self { reader, name, span, table, known: RefCell::default() }
    }

    /// Whether the section itself is there.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the key is there, whatever its value.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// Notes each of these keys that is missing.
    pub(super) fn need(&self, keys: &[&'static str]) {
        for key in keys.iter().filter(|key| !self.has(key)) {
            self.missing(key, "docs/keystore.md lists every section and key, with an example");
        }
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&self, key: &str, hint: impl Into<Cow<'static, str>>) {
        if !self.reader.broken.get() {
            self.fault(self.span.clone(), format!("{}: missing", self.path_of(key)), hint);
        }
    }

    /// Notes something wrong at a place; the message names the key.
    pub(super) fn fault(&self, span: Range<usize>, message: String, hint: impl Into<Cow<'static, str>>) {
        self.reader.fault(span, message, hint);
    }

    /// Where the section begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) fn text(&self, key: &'static str) -> Option<Text<'r>> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str().or_else(|| self.wrong_type(key, value, "a string in quotes"));
        Some(Text { value: text?, span: value.span() })
    }

    /// The name of a file; relative ones begin at the directory of the configuration.
    pub(super) fn path(&self, key: &'static str, role: Role) -> Option<PathBuf> {
        let text = self.text(key)?;
        if text.value.is_empty() {
            self.fault(text.span, format!("{}: empty", self.path_of(key)), "name a file");
            return None;
        }
        Some(self.name_file(key, &text, Path::new(text.value), role))
    }

    /// Notes a file that a value names in its own way, and makes its name absolute.
    pub(super) fn name_file(&self, key: &str, text: &Text<'_>, path: &Path, role: Role) -> PathBuf {
        let path = self.reader.folder.map_or_else(|| path.to_owned(), |folder| folder.join(path));
        let line = self.reader.line(text.span.start);
        self.reader.named.borrow_mut().push(Named { key: self.path_of(key), line, path: path.clone(), role });
        path
    }

    pub(super) fn flag(&self, key: &'static str) -> bool {
        let read = |value: &'r Spanned<DeValue<'r>>| {
            value.get_ref().as_bool().or_else(|| self.wrong_type(key, value, "true or false, without quotes"))
        };
        self.value(key).and_then(read).unwrap_or(false)
    }

    /// A whole number within bounds, or the default when there is none.
    pub(super) fn number(
        &self,
        key: &'static str,
        default: u64,
        allowed: RangeInclusive<u64>,
        hint: &'static str,
    ) -> u64 {
        let Some(value) = self.value(key) else { return default };
        let Some(number) = value.get_ref().as_integer().or_else(|| self.wrong_type(key, value, "a whole number"))
        else {
            return default;
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if allowed.contains(&number) => number,
            _ => {
                let (least, most) = allowed.into_inner();
                self.fault(value.span(), format!("{}: not between {least} and {most}", self.path_of(key)), hint);
                default
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<Text<'r>>> {
        let text = |item| match item {
            Item::Text(text) => Some(text),
            Item::Table(table) => {
                self.fault(table.span, format!("{}: holds a table", self.path_of(key)), "each element is a string");
                None
            }
        };
        Some(self.list(key)?.into_iter().filter_map(text).collect())
    }

    /// A list of texts and inline tables.
    pub(super) fn list(&self, key: &'static str) -> Option<Vec<Item<'r>>> {
        let value = self.value(key)?;
        let Some(list) = value.get_ref().as_array() else {
            return self.wrong_type(key, value, "a list in [brackets]");
        };
        let item = |value: &'r Spanned<DeValue<'r>>| match value.get_ref() {
            DeValue::String(text) => Some(Item::Text(Text { value: text, span: value.span() })),
            DeValue::Table(table) => {
                Some(Item::Table(Section::new(self.reader, self.path_of(key), value.span(), Some(table))))
            }
            _ => self.wrong_type(key, value, "a list of strings"),
        };
        Some(list.iter().filter_map(item).collect())
    }

    /// A section below this one; without it, all of its keys are missing.
    pub(super) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Section<'r>) -> T) -> T {
        let found = self.value(key).and_then(|value| {
            let table = value.get_ref().as_table().or_else(|| self.wrong_type(key, value, "a [section]"))?;
            Some((value.span(), table))
        });
        let (span, table) = found.map_or_else(|| (self.span(), None), |(span, table)| (span, Some(table)));
        let section = Section::new(self.reader, self.path_of(key), span, table);
        let read = read(&section);
        section.finish();
        read
    }

    /// Sections of one name, `[[key]]`.
    pub(super) fn sections<T>(&self, key: &'static str, read: impl Fn(&Section<'r>) -> T) -> Vec<T> {
        let one = |item| match item {
            Item::Table(section) => {
                let read = read(&section);
                section.finish();
                Some(read)
            }
            Item::Text(text) => {
                let name = self.path_of(key);
                self.fault(text.span, format!("{name}: holds a string"), format!("write each one as [[{name}]]"));
                None
            }
        };
        self.list(key).unwrap_or_default().into_iter().filter_map(one).collect()
    }

    /// Notes the keys that were never asked for.
    pub(super) fn finish(self) {
        let known = self.known.into_inner();
        let Some(table) = self.table else { return };
        for (key, value) in table.iter() {
            let (span, key) = (key.span(), key.get_ref().as_ref());
            if known.contains(&key) {
                continue;
            }
            let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
            let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(key, known), *known)).min();
            let hint = match nearest {
                Some((distance, nearest)) if distance <= 1 + key.len() / 4 => format!("is {nearest:?} meant?"),
                _ if self.name.is_empty() => format!("known here: {}", known.join(", ")),
                _ => format!("known in [{}]: {}", self.name, known.join(", ")),
            };
            let kind = if value.get_ref().is_table() { "section" } else { "key" };
            self.reader.fault(span, format!("{name}: unknown {kind}"), hint);
        }
    }

    /// The name of a key with that of its section.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn value(&self, key: &'static str) -> Option<&'r Spanned<DeValue<'r>>> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        self.table?.get(key)
    }

    fn wrong_type<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<T> {
        let found = value.get_ref().type_str();
        self.fault(value.span(), format!("{}: is of type {found}", self.path_of(key)), format!("give {wanted}"));
        None
    }
}

const TOML: &str = "texts stand in quotes; see docs/keystore.md for an example";
