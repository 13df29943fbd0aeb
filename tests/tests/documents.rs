//! The documents stay true: every link leads to a file, and every test that they name is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eds_tests::{Outcome, binaries::source_root};

/// A link of a document: its text and where it leads.
struct Link {
    document: PathBuf,
    text: String,
    target: PathBuf,
}

fn links() -> Outcome<Vec<Link>> {
    let mut documents = Vec::new();
    for folder in [source_root().to_path_buf(), source_root().join("docs")] {
        for entry in fs::read_dir(folder)? {
            documents.push(entry?.path());
        }
    }
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut links = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document)?;
        let folder = document.parent().unwrap_or(Path::new("."));
        for (before, after) in text.match_indices("](").map(|(at, _)| text.split_at(at)) {
            let target = after.trim_start_matches("](").split([')', '#']).next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            let text = before.rsplit('[').next().unwrap_or_default().to_owned();
            // A link to a place in the same document has no file.
            let target = if target.is_empty() { document.clone() } else { folder.join(target) };
            links.push(Link { document: document.clone(), text, target });
        }
    }
    Ok(links)
}

#[test]
fn every_link_leads_to_a_file() -> Outcome {
    let links = links()?;
    assert!(links.len() > 20, "only {} links were found", links.len());
    for link in links {
        assert!(link.target.exists(), "{}: {} leads nowhere", link.document.display(), link.target.display());
    }
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
