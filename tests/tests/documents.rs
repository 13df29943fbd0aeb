//! The documents stay true: every link leads to a file and a heading, every test that they name is there, and every command
//! line is one that the programs take.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use eds_tests::{
    Outcome,
    binaries::{find, source_root},
    give_up,
};

/// A link of a document: its text and where it leads.
struct Link {
    document: PathBuf,
    text: String,
    target: PathBuf,
    /// The heading that it names, as GitHub writes it.
    heading: Option<String>,
    /// The heading that the words after it name, as in `[keystore](keystore.md), "Metrics"`.
    section: Option<String>,
}

/// All documents, with their text.
fn documents() -> Outcome<BTreeMap<PathBuf, String>> {
    let mut documents = BTreeMap::new();
    for folder in [source_root().to_path_buf(), source_root().join("docs")] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path)?;
                documents.insert(path, text);
            }
        }
    }
    Ok(documents)
}

fn links() -> Outcome<Vec<Link>> {
    let mut links = Vec::new();
    for (document, text) in documents()? {
        let folder = document.parent().unwrap_or(Path::new("."));
        for (before, after) in text.match_indices("](").map(|(at, _)| text.split_at(at)) {
            let (target, rest) = after.trim_start_matches("](").split_once(')').unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            let text = before.rsplit('[').next().unwrap_or_default().to_owned();
            let (file, heading) = match target.split_once('#') {
                Some((file, heading)) => (file, Some(heading.to_owned())),
                None => (target, None),
            };
            // A link to a place in the same document has no file.
            let target = if file.is_empty() { document.clone() } else { folder.join(file) };
            let section = rest.strip_prefix(", \"").and_then(|rest| Some(rest.split_once('"')?.0.replace('\n', " ")));
            links.push(Link { document: document.clone(), text, target, heading, section });
        }
    }
    Ok(links)
}

/// The headings of a document.
fn headings(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
}

/// A heading as GitHub writes it in links.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|character| character.is_alphanumeric() || matches!(character, '-' | '_')).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() -> Outcome {
    let links = links()?;
    assert!(links.len() > 20, "only {} links were found", links.len());
    let mut named = 0;
    for link in links {
        let (document, target) = (link.document.display(), link.target.display());
        assert!(link.target.exists(), "{document}: {target} leads nowhere");
        if link.heading.is_none() && link.section.is_none() {
            continue;
        }
        let text = fs::read_to_string(&link.target)?;
        if let Some(wanted) = link.heading {
            assert!(headings(&text).any(|heading| anchor(heading) == wanted), "{document}: {target} has no #{wanted}");
        }
        if let Some(wanted) = link.section {
            assert!(headings(&text).any(|heading| heading == wanted), "{document}: {target} has no «{wanted}»");
        }
        named += 1;
    }
    assert!(named > 5, "only {named} headings are named");
    Ok(())
}

#[test]
fn every_test_that_is_named_exists() -> Outcome {
    let mut named = 0;
    for link in links()?.iter().filter(|link| link.target.extension().is_some_and(|extension| extension == "rs")) {
        let name = link.text.trim_matches('`');
        if name.ends_with(".rs") {
            continue;
        }
        let source = fs::read_to_string(&link.target)?;
        let written = source.contains(&format!("fn {name}(")) || source.contains(&format!("({name}"));
        assert!(written, "{}: there is no {name} in {}", link.document.display(), link.target.display());
        named += 1;
    }
    assert!(named > 20, "only {named} tests are named");
    Ok(())
}

/// The programs whose command lines are looked at.
const PROGRAMS: [&str; 2] = ["eds", "eds-keystored"];
/// What may stand before one of them.
const WRAPPERS: [&str; 3] = ["systemd-run", "sudo", "runuser"];

/// The words of a command line from the program on, if it is one: without brackets of what may be left out, to the first
/// sign that ends a command.
fn words(line: &str) -> Option<Vec<&str>> {
    let all: Vec<&str> = line.split_whitespace().collect();
    let first = all.first()?;
    let is_program = |at: usize, word: &str| {
        // After an option stands its value, as in `sudo -u eds-keystored`.
        let is_value = at
            .checked_sub(1)
            .and_then(|before| all.get(before))
            .is_some_and(|before| before.starts_with('-') && *before != "--");
        PROGRAMS.contains(&word) && !is_value
    };
    let begin = match (PROGRAMS.contains(first), WRAPPERS.contains(first)) {
        (true, _) => 0,
        (_, true) => all.iter().enumerate().position(|(at, word)| is_program(at, word))?,
        _ => return None,
    };
    let words = all.iter().skip(begin).copied();
    let ends = |word: &&str| !word.starts_with('#') && !["|", ">", "<", "&&", "||", ";"].contains(word);
    Some(words.take_while(ends).map(|word| word.trim_matches(['[', ']', '…', ',', ';'])).collect())
}

/// The command lines of a document: in indented blocks, with explanations after two spaces, and between backticks. The
/// rows of the reference of `eds-keystored` leave its name out.
fn command_lines(document: &Path, text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let block = |line: &str| Some(line.strip_prefix("    ")?.trim_start().split("  ").next()?.to_owned());
    let mut lines: Vec<String> = joined.lines().filter_map(block).collect();
    // Code between backticks may go on in the next line, and not in the next paragraph.
    for paragraph in text.split("\n\n") {
        lines.extend(paragraph.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")));
    }
    if document.ends_with("keystore.md") {
        let (_, commands) = text.split_once("\n## Commands\n").unwrap_or_default();
        let rows = commands.lines().take_while(|line| !line.starts_with("## "));
        let first = rows.filter_map(|row| Some(row.strip_prefix("| `")?.split_once('`')?.0));
        lines.extend(first.map(|command| format!("eds-keystored {command}")));
    }
    lines
}

/// What the programs say about themselves.
#[derive(Default)]
struct Help(BTreeMap<Vec<String>, String>);

impl Help {
    fn of(&mut self, path: &[String]) -> Outcome<&str> {
        if !self.0.contains_key(path) {
            let Some((program, commands)) = path.split_first() else { give_up!("no program") };
            let output = Command::new(find(program)?).args(commands).arg("--help").output()?;
            if !output.status.success() {
                give_up!("{path:?} --help: {}", String::from_utf8_lossy(&output.stderr));
            }
            self.0.insert(path.to_vec(), String::from_utf8(output.stdout)?);
        }
        Ok(self.0.get(path).map(String::as_str).unwrap_or_default())
    }

    /// The commands below a command.
    fn commands(&mut self, path: &[String]) -> Outcome<Vec<String>> {
        let help = self.of(path)?;
        let Some((_, list)) = help.split_once("Commands:\n") else { return Ok(Vec::new()) };
        let rows = list.lines().take_while(|line| !line.is_empty());
        Ok(rows.filter_map(|row| Some(row.strip_prefix("  ")?.split(' ').next()?.to_owned())).collect())
    }

    /// Whether a command has an option, and whether that has a value.
    fn option(&mut self, path: &[String], name: &str) -> Outcome<Option<bool>> {
        let help = self.of(path)?;
        // As in «  -m, --modify <ENTRY>  …».
        let rows = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let has_it = |row: &&str| row.split([' ', ',', '=', '[', '.']).take(4).any(|word| word == name);
        Ok(rows.filter(has_it).map(|row| row.split("  ").next().unwrap_or_default().contains('<')).next())
    }

    /// What is wrong with a command line.
    fn judge(&mut self, words: &[&str]) -> Outcome<Option<String>> {
        let Some((program, words)) = words.split_first() else { give_up!("no words") };
        let mut path = vec![(*program).to_owned()];
        let mut commands = self.commands(&path)?;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word.len() > 1 && word.starts_with('-') {
                let (name, given) = word.split_once('=').map_or((*word, false), |(name, _)| (name, true));
                match self.option(&path, name)? {
                    None => return Ok(Some(format!("{} has no {name}", path.join(" ")))),
                    Some(true) if !given => {
                        words.next();
                    }
                    Some(_) => {}
                }
            } else if !commands.is_empty() {
                // A place for a command, as in «eds COMMAND --help».
                if word.chars().all(char::is_uppercase) || word.is_empty() {
                    break;
                }
                if !commands.iter().any(|command| command == word) {
                    return Ok(Some(format!("{} has no command {word}", path.join(" "))));
                }
                path.push((*word).to_owned());
                commands = self.commands(&path)?;
            }
        }
        Ok(None)
    }
}

#[test]
fn every_command_line_is_one_that_the_programs_take() -> Outcome {
    let mut help = Help::default();
    let (mut seen, mut wrong) = (0, Vec::new());
    for (document, text) in documents()? {
        // What a release changed may be of its time.
        if document.ends_with("CHANGELOG.md") {
            continue;
        }
        for line in command_lines(&document, &text) {
            let Some(words) = words(&line) else { continue };
            seen += 1;
            if let Some(reason) = help.judge(&words)? {
                wrong.push(format!("{}: `{line}`: {reason}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "only {seen} command lines were found");
    Ok(())
}

#[test]
fn a_command_line_that_no_program_takes_is_found() -> Outcome {
    let mut help = Help::default();
    for (line, wrong) in [
        ("eds key rm ID", None),
        ("sudo -u eds-keystored eds-keystored hsm rewrap --config FILE [--batch NUMBER]", None),
        ("runuser -u eds-keystored -- eds-keystored …", None),
        ("eds --proof proxy key acl ID…", None),
        ("eds key remove ID", Some("no command remove")),
        ("eds keys", Some("no command keys")),
        ("eds-keystored hsm rewrap --chunk 5", Some("no --chunk")),
        ("eds encrypt -Q FILE", Some("no -Q")),
        ("eds-keystored serve --strict", Some("no --strict")),
    ] {
        let judged = help.judge(&words(line).unwrap_or_default())?;
        match (&judged, wrong) {
            (None, None) => {}
            (Some(reason), Some(wrong)) if reason.contains(wrong) => {}
            _ => give_up!("{line}: {judged:?}"),
        }
    }
    for other in ["systemctl reload eds-keystored", "make test", "journalctl -u eds-keystored -o cat"] {
        assert!(words(other).is_none(), "{other}");
    }
    Ok(())
}
