//! Writes XML 1.0: elements, attributes and text, with everything escaped that must be.
//!
//! Characters that XML cannot hold at all, such as most control characters, become U+FFFD.

/// A document that is being written.
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn new() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>".to_owned())
    }

    pub(super) fn open(&mut self, element: &str, attributes: &[(&str, &str)]) {
        self.start(element, attributes);
        self.0.push('>');
    }

    pub(super) fn close(&mut self, element: &str) {
        self.0.push_str("</");
        self.0.push_str(element);
        self.0.push('>');
    }

    pub(super) fn empty(&mut self, element: &str, attributes: &[(&str, &str)]) {
        self.start(element, attributes);
        self.0.push_str("/>");
    }

    pub(super) fn text(&mut self, element: &str, attributes: &[(&str, &str)], text: &str) {
        self.open(element, attributes);
        self.escape(text);
        self.close(element);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn start(&mut self, element: &str, attributes: &[(&str, &str)]) {
        self.0.push('<');
        self.0.push_str(element);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.escape(value);
            self.0.push('"');
        }
    }

    fn escape(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                // As they are, a parser would turn them into spaces.
                '\t' => self.0.push_str("&#9;"),
                '\n' => self.0.push_str("&#10;"),
                '\r' => self.0.push_str("&#13;"),
                '\u{fffe}' | '\u{ffff}' => self.0.push('\u{fffd}'),
                character if character < ' ' => self.0.push('\u{fffd}'),
                character => self.0.push(character),
            }
        }
    }
}
