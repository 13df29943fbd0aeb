//! How the demo talks: chapters, plain sentences, the commands as they run, and claims that are checked.

use eds_tests::{Outcome, give_up, user::Run};

/// Tells the story and remembers what was shown.
#[derive(Default)]
pub(crate) struct Narrator {
    chapters: u32,
    shown: Vec<&'static str>,
}

impl Narrator {
    /// Starts a chapter.
    pub(crate) fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        println!("\n{}. {title}\n", self.chapters);
    }

    /// Says something, in lines of a readable length.
    pub(crate) fn say(&self, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace() {
            if line.len() + word.len() > 96 {
                println!("   {line}");
                line.clear();
            }
            line = if line.is_empty() { word.into() } else { line + " " + word };
        }
        println!("   {line}");
    }

    /// Shows what a command printed.
    pub(crate) fn output(&self, run: &Run) {
        for line in run.text().lines().chain(run.stderr.lines()) {
            println!("       {}", shortened(line));
        }
        if let Some(code @ 1..) = run.code {
            println!("       (exit code {code})");
        }
    }

    /// Shows that a claim holds.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn check(&mut self, claim: &'static str, holds: bool) -> Outcome {
        if !holds {
            give_up!("this does not hold: {claim}");
        }
        println!("   ✓ {claim}");
        self.shown.push(claim);
        Ok(())
    }

    /// Lists what was shown.
    pub(crate) fn summary(&self) {
        println!("\nWhat you have seen\n");
        for claim in &self.shown {
            println!("   ✓ {claim}");
        }
    }
}

/// Shows a command before it runs.
pub(crate) fn command(line: &str) {
    println!("     $ {}", shortened(line));
}

/// Without the name of the temporary folder.
fn shortened(line: &str) -> String {
    let folder = std::env::temp_dir().join("eds-cluster-").display().to_string();
    let (mut short, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once(&folder) {
        short += before;
        rest = after.split_once('/').map_or("", |(_, inside)| inside);
    }
    short + rest
}
