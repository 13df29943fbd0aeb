//! A picture in a terminal: as an image where the terminal shows images (kitty's protocol or iTerm2's), else in blocks of
//! two points each, in 24-bit colour.

use std::fmt::Write as _;

use base64ct::{Base64, Encoding as _};

use super::Picture;

/// What a terminal can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ability {
    /// The protocol of kitty, which others speak too.
    Kitty,
    /// The protocol of iTerm2.
    ITerm,
    /// Coloured blocks, so many to a line.
    Blocks(usize),
}

impl Ability {
    /// What the terminal of this process can do, as the usual variables tell.
    pub fn of(variable: &dyn Fn(&str) -> Option<String>, columns: usize) -> Self {
        let program = variable("TERM_PROGRAM").unwrap_or_default();
        let kitty = variable("KITTY_WINDOW_ID").is_some()
            || variable("TERM").is_some_and(|term| term.contains("kitty") || term.contains("ghostty"))
            || ["WezTerm", "ghostty"].contains(&program.as_str());
        match program.as_str() {
            _ if kitty => Self::Kitty,
            "iTerm.app" => Self::ITerm,
            _ => Self::Blocks(columns),
        }
    }
}

/// What is to be written to the terminal.
pub fn show(picture: &Picture, ability: Ability) -> String {
    match ability {
        Ability::Kitty => kitty(&picture.png()),
        Ability::ITerm => {
            let png = picture.png();
            format!("\x1b]1337;File=inline=1;size={}:{}\x07\n", png.len(), Base64::encode_string(&png))
        }
        Ability::Blocks(columns) => blocks(picture, columns),
    }
}

fn kitty(png: &[u8]) -> String {
    let text = Base64::encode_string(png);
    let mut out = String::with_capacity(text.len() + 1024);
    let mut rest = text.as_str();
    let mut first = true;
    loop {
        // ASCII: any place is a border of letters.
        let (part, after) = rest.split_at(rest.len().min(KITTY_CHUNK));
        let more = u8::from(!after.is_empty());
        let control = if first { format!("a=T,f=100,m={more}") } else { format!("m={more}") };
        // Writing to a String cannot fail.
        let _ = write!(out, "\x1b_G{control};{part}\x1b\\");
        (rest, first) = (after, false);
        if more == 0 {
            out.push('\n');
            return out;
        }
    }
}

/// Two rows of points in a line of text: the upper one in the colour of the letter, the lower one in that of its ground.
fn blocks(picture: &Picture, columns: usize) -> String {
    let columns = columns.clamp(1, picture.width.max(1));
    let rows = (picture.height * columns / picture.width.max(1)).max(1);
    let mut out = String::new();
    for line in 0..rows.div_ceil(2) {
        for column in 0..columns {
            let point = |row: usize| {
                let (x, y) = (column * picture.width / columns, row * picture.height / rows);
                if row < rows { picture.point(x, y) } else { [0; 3] }
            };
            let ([r, g, b], [br, bg, bb]) = (point(2 * line), point(2 * line + 1));
            let _ = write!(out, "\x1b[38;2;{r};{g};{b};48;2;{br};{bg};{bb}m\u{2580}");
        }
        out.push_str("\x1b[0m\n");
    }
    out
}

/// The most base64 that kitty takes in one piece.
const KITTY_CHUNK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        Picture { width: 2, height: 2, colour: false, values: vec![0, 255, 128, 64] }
    }

    #[test]
    fn the_terminal_is_told_by_its_variables() {
        let with = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| String::from(*value))
        };
        assert_eq!(Ability::of(&with(&[("TERM", "xterm-kitty")]), 80), Ability::Kitty);
        assert_eq!(Ability::of(&with(&[("TERM_PROGRAM", "iTerm.app")]), 80), Ability::ITerm);
        assert_eq!(Ability::of(&with(&[("TERM", "xterm-256color")]), 80), Ability::Blocks(80));
    }

    #[test]
    fn a_picture_is_shown_in_each_way() {
        let blocks = show(&picture(), Ability::Blocks(80));
        assert_eq!(
            blocks,
            "\x1b[38;2;0;0;0;48;2;128;128;128m\u{2580}\x1b[38;2;255;255;255;48;2;64;64;64m\u{2580}\x1b[0m\n"
        );
        let kitty = show(&picture(), Ability::Kitty);
        assert!(kitty.starts_with("\x1b_Ga=T,f=100,m=0;iVBORw0KGgo") && kitty.ends_with("\x1b\\\n"), "{kitty:?}");
        assert!(show(&picture(), Ability::ITerm).contains("File=inline=1;size="));
        let long = super::kitty(&vec![7; 10_000]);
        assert_eq!(long.matches("\x1b_G").count(), 4);
        assert!(long.contains("m=1;") && long.contains("\x1b_Gm=0;"));
    }
}
