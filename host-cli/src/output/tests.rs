//! Files appear whole or not at all, whichever way the file system allows.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use super::*;

const METHODS: [Method; 2] = [Method::Unnamed, Method::Named];

fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

fn write(path: &Path, existing: Existing, method: Method, text: &str) -> Result<(), Error> {
    let output = OutputFile::create_with(path, existing, method)?;
    output.file().write_all(text.as_bytes()).expect("writes");
    output.finish()
}

#[test]
fn a_finished_file_is_there_for_its_owner_alone() {
    for method in METHODS {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("image.dcm");
        write(&path, Existing::Keep, method, "whole").expect("writes");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "whole");
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o7777, 0o600, "{method:?}");
        assert_eq!(entries(directory.path()), ["image.dcm"], "{method:?}");
    }
}

#[test]
fn public_files_may_be_read_by_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cluster.edd");
    OutputFile::create(&path, Existing::Keep).expect("creates").readable_by_all().finish().expect("finishes");
    assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o7777, 0o644);
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    for method in METHODS {
        let directory = tempfile::tempdir().expect("a directory");
        let output = OutputFile::create_with(&directory.path().join("image"), Existing::Keep, method).expect("creates");
        output.file().write_all(b"half").expect("writes");
        drop(output);
        assert_eq!(entries(directory.path()), [""; 0], "{method:?}");
    }
}

#[test]
fn nothing_is_overwritten_unless_asked() {
    for method in METHODS {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("image");
        fs::write(&path, "old").expect("writes");
        assert!(matches!(write(&path, Existing::Keep, method, "new"), Err(Error::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).expect("reads"), "old");
        write(&path, Existing::Replace, method, "new").expect("replaces");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "new");
        assert_eq!(entries(directory.path()), ["image"], "{method:?}");
    }
}

#[test]
fn a_file_that_appears_meanwhile_is_not_overwritten() {
    for method in METHODS {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("image");
        let output = OutputFile::create_with(&path, Existing::Keep, method).expect("creates");
        fs::write(&path, "other").expect("writes");
        assert!(matches!(output.finish(), Err(Error::Exists { .. })), "{method:?}");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "other");
        assert_eq!(entries(directory.path()), ["image"], "{method:?}");
    }
}

#[test]
fn directories_and_missing_directories_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for existing in [Existing::Keep, Existing::Replace] {
        assert!(matches!(OutputFile::create(directory.path(), existing), Err(Error::NotAFile { .. })));
        assert!(matches!(OutputFile::create(Path::new("/"), existing), Err(Error::NotAFile { .. })));
        let nowhere = directory.path().join("missing/image");
        assert!(matches!(OutputFile::create(&nowhere, existing), Err(Error::Io { .. })));
    }
}

#[test]
fn leftovers_of_dead_processes_are_swept_and_running_ones_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let running = OutputFile::create_with(&directory.path().join("a"), Existing::Keep, Method::Named).expect("creates");
    let dead = format!("{PREFIX}0123");
    fs::write(directory.path().join(&dead), "half").expect("writes");
    fs::write(directory.path().join("theirs"), "kept").expect("writes");
    let kept = running.temporary.clone().expect("has a name");
    sweep(&File::open(directory.path()).expect("opens")).expect("sweeps");
    assert_eq!(entries(directory.path()), [kept.as_str(), "theirs"]);
    running.finish().expect("finishes");
    assert_eq!(entries(directory.path()), ["a", "theirs"]);
}

#[test]
fn the_first_output_into_a_directory_sweeps_it() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join(format!("{PREFIX}dead")), "half").expect("writes");
    write(&directory.path().join("image"), Existing::Keep, Method::Unnamed, "whole").expect("writes");
    assert_eq!(entries(directory.path()), ["image"]);
}

#[test]
fn a_dash_is_standard_output() {
    assert!(matches!(Output::open(Path::new("-"), Existing::Keep), Ok(Output::Stdout)));
}

#[test]
fn a_killed_writer_leaves_nothing_under_the_name_and_the_next_run_sweeps_the_rest() {
    const ROLE: &str = "EDS_TEST_WRITER";
    if let Some(path) = std::env::var_os(ROLE) {
        // The writer: says that it is in the middle, and waits to be killed.
        let method = if std::env::var_os("EDS_TEST_NAMED").is_some() { Method::Named } else { Method::Unnamed };
        let output = OutputFile::create_with(Path::new(&path), Existing::Keep, method).expect("creates");
        output.file().write_all(b"half").expect("writes");
        println!("written");
        io::stdin().read_line(&mut String::new()).expect("waits");
        unreachable!("it is killed before its input ends");
    }
    let name = std::thread::current().name().expect("tests have names").to_owned();
    for method in METHODS {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("image");
        let mut command = Command::new(std::env::current_exe().expect("is known"));
        command.args([&name, "--exact", "--nocapture"]).env(ROLE, &path).stdin(Stdio::piped()).stdout(Stdio::piped());
        if method == Method::Named {
            command.env("EDS_TEST_NAMED", "1");
        }
        let mut writer = command.spawn().expect("starts");
        let said = BufReader::new(writer.stdout.take().expect("is piped"));
        assert!(said.lines().map_while(Result::ok).any(|line| line.ends_with("written")), "the writer failed");
        let during = entries(directory.path());
        sweep(&File::open(directory.path()).expect("opens")).expect("sweeps");
        assert_eq!(entries(directory.path()), during, "a running writer was swept");
        writer.kill().expect("kills");
        writer.wait().expect("ends");
        assert_eq!(during.len(), usize::from(method == Method::Named), "{during:?}");
        write(&path, Existing::Keep, Method::Unnamed, "whole").expect("the name is free");
        assert_eq!(entries(directory.path()), ["image"], "{method:?}");
    }
}
