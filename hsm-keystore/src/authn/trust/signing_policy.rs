//! Signing policies of the grid (`<hash>.signing_policy`): the names that an authority may sign.
//!
//! ```text
//! access_id_CA   X509    '/C=CH/O=Hospital/CN=Hospital CA'
//! pos_rights     globus  CA:sign
//! cond_subjects  globus  '"/C=CH/O=Hospital/*" "/DC=ch/DC=hospital/*"'
//! ```
//! `*` stands for any characters, `?` for one. What is not understood, `neg_rights` included, makes the whole file
//! unreadable, and the authority unusable with it. Names are compared in their unambiguous slash form only.

use crate::authn::name::Name;

/// A signing policy file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SigningPolicy {
    blocks: Vec<Block>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Block {
    authority: String,
    may_sign: bool,
    subjects: Vec<String>,
}

/// A signing policy file that is not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: not understood: {text:?}")]
pub struct NotUnderstood {
    /// The line, counted from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

impl SigningPolicy {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`NotUnderstood`].
    pub fn parse(text: &str) -> Result<Self, NotUnderstood> {
        let mut blocks: Vec<Block> = Vec::new();
        for (position, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = || NotUnderstood { line: position + 1, text: line.chars().take(200).collect() };
            let (word, rest) = line.split_once(char::is_whitespace).ok_or_else(refuse)?;
            let (kind, rest) = rest.trim_start().split_once(char::is_whitespace).ok_or_else(refuse)?;
            let rest = rest.trim();
            match (word, kind) {
                ("access_id_CA", "X509") => {
                    let name = quoted(rest, '\'').or_else(|| quoted(rest, '"')).ok_or_else(refuse)?;
                    blocks.push(Block { authority: usual_labels(name), may_sign: false, subjects: Vec::new() });
                }
                ("pos_rights", "globus") if rest == "CA:sign" => blocks.last_mut().ok_or_else(refuse)?.may_sign = true,
                ("cond_subjects", "globus") => {
                    let block = blocks.last_mut().ok_or_else(refuse)?;
                    block.subjects.extend(patterns(rest).ok_or_else(refuse)?);
                }
                _ => return Err(refuse()),
            }
        }
        Ok(Self { blocks })
    }

    /// Whether the authority may sign this subject. Names without an unambiguous slash form may not be signed.
    pub fn allows(&self, authority: &Name, subject: &Name) -> bool {
        let (Ok(authority), Ok(subject)) = (authority.matching(), subject.matching()) else { return false };
        let (authority, subject) = (usual_labels(&authority), usual_labels(&subject));
        self.blocks.iter().any(|block| {
            block.authority == authority
                && block.may_sign
                && block.subjects.iter().any(|pattern| matches(pattern.as_bytes(), subject.as_bytes()))
        })
    }
}

/// The text between two quotes, if there are no others in it.
fn quoted(text: &str, quote: char) -> Option<&str> {
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    if inner.is_empty() || inner.contains(quote) { None } else { Some(inner) }
}

/// The patterns of a `cond_subjects`: one in single quotes, or several in double quotes inside of single quotes.
fn patterns(text: &str) -> Option<Vec<String>> {
    let inner = quoted(text, '\'').unwrap_or(text);
    if !inner.contains('"') {
        return if inner.is_empty() || inner.contains('\'') { None } else { Some(vec![usual_labels(inner)]) };
    }
    let mut found = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (pattern, after) = rest.strip_prefix('"')?.split_once('"')?;
        found.push(usual_labels(pattern));
        rest = after.trim_start();
    }
    Some(found)
}

/// Labels that differ between programs, brought to those of OpenSSL.
fn usual_labels(name: &str) -> String {
    let mut name = name.to_owned();
    for (old, new) in [("/Email=", "/emailAddress="), ("/E=", "/emailAddress="), ("/USERID=", "/UID="), ("/S=", "/ST=")]
    {
        name = name.replace(old, new);
    }
    name
}

/// Whether the text fits the pattern; linear memory, no recursion.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(at_text) {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                retry = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    at_pattern = star + 1;
                    at_text = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at_pattern..).unwrap_or(&[]).iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, text, fits) in [
            ("/DC=org/*", "/DC=org/CN=A", true),
            ("/DC=org/*", "/DC=org", false),
            ("/DC=org/*", "/DC=orgy/CN=A", false),
            ("/DC=org/CN=?", "/DC=org/CN=A", true),
            ("/DC=org/CN=?", "/DC=org/CN=AB", false),
            ("/DC=*/CN=A*", "/DC=org/DC=x/CN=Ab", true),
            ("*", "", true),
            ("", "/DC=org", false),
            ("/DC=org", "/DC=org/CN=A", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_stars_takes_bounded_time() {
        let pattern = "*a".repeat(500);
        assert!(!matches(format!("{pattern}b").as_bytes(), "a".repeat(2000).as_bytes()));
    }

    #[test]
    fn what_is_not_understood_makes_the_file_unreadable() {
        let good = "# comment\naccess_id_CA X509 '/CN=CA'\npos_rights globus CA:sign\ncond_subjects globus '\"/DC=a/*\" \"/DC=b/*\"'\n";
        assert_eq!(SigningPolicy::parse(good).expect("good").blocks[0].subjects, ["/DC=a/*", "/DC=b/*"]);
        for (from, to, line) in [
            ("access_id_CA", "access_id_ANYBODY", 2),
            ("'/CN=CA'", "/CN=CA", 2),
            ("pos_rights", "neg_rights", 3),
            ("CA:sign", "CA:everything", 3),
            ("\"/DC=b/*\"", "\"/DC=b/*", 4),
            ("cond_subjects", "conditions", 4),
        ] {
            assert!(good.contains(from));
            assert_eq!(SigningPolicy::parse(&good.replace(from, to)).expect_err(to).line, line);
        }
        assert!(SigningPolicy::parse("pos_rights globus CA:sign").is_err(), "rights of nobody");
    }
}
