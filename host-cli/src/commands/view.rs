//! `eds view`: an image, without the patient's data, in the terminal or as a PNG file. For orientation, not for diagnosis.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
};

use clap::Args;
use eds_core::ids::FileId;

use super::{Options, warn};
use crate::{
    Error,
    journey::{Session, retrieve::part},
    output::{self, Existing, Output},
    picture::{self, Window, develop, montage, terminal},
};

/// The arguments of `eds view`.
#[derive(Args, Debug)]
pub struct View {
    /// The id that `eds register`, `eds courier` or `eds search -o ids` printed
    #[arg(value_name = "ID")]
    id: String,
    /// Write a PNG file; - is standard output [default: show it, if standard output is a terminal]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which values are middle gray and how far it is from black to white [default: of the image, else all values]
    #[arg(short, long, value_name = "CENTER,WIDTH", allow_hyphen_values = true)]
    window: Option<String>,
    /// Only this frame, from 1 on [default: of an image with several, up to 16 of them side by side]
    #[arg(long, value_name = "N")]
    frame: Option<u32>,
    /// Replace an existing file
    #[arg(short, long)]
    force: bool,
}

impl View {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let file: FileId = self.id.parse().map_err(|_| Error::NotAnId(self.id))?;
        let window = self.window.as_deref().map(parse_window).transpose()?;
        let existing = if self.force { Existing::Replace } else { Existing::Keep };
        let output = self.output.as_deref().map(|path| Output::open(path, existing)).transpose()?;
        let session = Session::open(&config)?;
        let (part, culprits) = part(&session, file, |frames| match self.frame {
            Some(number) => vec![number],
            None => spread(frames),
        })?;
        warn(&culprits);
        let shown = |source: picture::Error| Error::Picture { file, source };
        let pictures = part.frames.iter().map(|frame| develop(&part.head, frame, window));
        let pictures = pictures.collect::<Result<Vec<_>, _>>().map_err(shown)?;
        let picture = montage(&pictures).ok_or(Error::NoFrames { file })?;
        match output {
            Some(Output::File(target)) => {
                let written = target.file().write_all(&picture.png());
                written.map_err(output::Error::writing(target.path()))?;
                Ok(target.finish()?)
            }
            None if std::io::stdout().is_terminal() => {
                let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(80, |size| size.ws_col.into());
                let ability = terminal::Ability::of(&|name| std::env::var(name).ok(), columns);
                Ok(output::print(&terminal::show(&picture, ability))?)
            }
            Some(Output::Stdout) | None => {
                let mut stdout = std::io::stdout().lock();
                let written = stdout.write_all(&picture.png()).and_then(|()| stdout.flush());
                Ok(written.map_err(output::Error::Stdout)?)
            }
        }
    }
}

/// Up to [`MOST`] frames, spread evenly.
fn spread(frames: u32) -> Vec<u32> {
    if frames <= MOST {
        return (1..=frames).collect();
    }
    (0..MOST)
        .map(|place| 1 + u32::try_from(u64::from(place) * u64::from(frames - 1) / u64::from(MOST - 1)).unwrap_or(0))
        .collect()
}

fn parse_window(text: &str) -> Result<Window, Error> {
    let wrong = || Error::NotAWindow(text.into());
    let (center, width) = text.split_once(',').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(wrong);
    let window = Window { center: number(center)?, width: number(width)? };
    if window.width > 2.0 { Ok(window) } else { Err(wrong()) }
}

/// The most frames that stand side by side.
const MOST: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_spread_from_the_first_to_the_last() {
        assert_eq!(spread(3), [1, 2, 3]);
        let many = spread(1000);
        assert_eq!((many.len(), many.first(), many.last()), (16, Some(&1), Some(&1000)));
    }

    #[test]
    fn a_window_is_two_numbers() {
        assert_eq!(parse_window("-600, 1500").ok(), Some(Window { center: -600.0, width: 1500.0 }));
        for wrong in ["", "40", "40,x", "40,0", "NaN,400", "40,400,1"] {
            assert!(matches!(parse_window(wrong), Err(Error::NotAWindow(_))), "{wrong}");
        }
    }
}
