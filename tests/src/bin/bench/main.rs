//! `make bench`: speed and size of the release build beside other programs, on this machine, in this run.
//!
//! Processor time is comparable between machines and loads, time on the clock is not: trust the ratios. Peers run
//! alternately with ours, and each value is a median. Arguments choose groups of rows: payload, cold, fetch, load, scale,
//! crowd, register, firmware, study, gateway, gfal.

mod cold;
mod crowd;
mod drive;
mod fetch;
mod firmware;
#[cfg(feature = "full")]
mod gateway;
mod gfal;
mod load;
mod measure;
mod openbao;
mod payload;
mod register;
mod scale;
mod stock;
mod study;
mod table;
mod tang;
mod wire;

use std::{path::Path, process::ExitCode};

use eds_tests::{Outcome, binaries, cluster::Cluster, give_up};
use tempfile::TempDir;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("bench: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    if cfg!(debug_assertions) {
        give_up!("this is a debug build, whose speed says nothing: run `make bench`");
    }
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = chosen.iter().find(|choice| !GROUPS.contains(&choice.as_str())) {
        give_up!("there are no rows {unknown:?}; there are {GROUPS:?}");
    }
    let wanted = |group: &str| chosen.is_empty() || chosen.iter().any(|choice| choice == group);
    let memory = Path::new("/dev/shm");
    let folder = TempDir::with_prefix_in("eds-bench-", if memory.is_dir() { memory } else { Path::new("/tmp") })?;
    let mut rows = Vec::new();
    if wanted("payload") || wanted("cold") {
        let cluster = Cluster::of_three()?;
        let user = cluster.user("Bench")?;
        if wanted("payload") {
            eprintln!("500 MB: eds, cp, openssl and age in turns …");
            rows.extend(payload::rows(&user, folder.path())?);
        }
        if wanted("cold") {
            eprintln!("0.5 MB from a cold start: eds and clevis in turns …");
            rows.extend(cold::rows(&user, folder.path())?);
        }
    }
    if wanted("fetch") {
        eprintln!("one key 2-of-3: three good nodes, and one that is 2 s late, in turns …");
        rows.extend(fetch::rows()?);
    }
    if wanted("load") {
        eprintln!("one node under load: single keys and batches, OpenBao and the bare token in turns …");
        rows.extend(load::rows(folder.path())?);
    }
    if wanted("scale") {
        eprintln!("a node with a thousand keys and one with a million, in turns …");
        rows.extend(scale::rows()?);
    }
    if wanted("crowd") {
        eprintln!("one node without and with 10,000 connections that do nothing or next to nothing, in turns …");
        rows.extend(crowd::rows()?);
    }
    if wanted("register") {
        eprintln!("one node with one client and with ten clients that register, in turns …");
        rows.extend(register::rows()?);
    }
    if wanted("firmware") {
        eprintln!("a device in QEMU: instructions, flash and memory …");
        rows.extend(firmware::rows()?);
    }
    if wanted("study") {
        eprintln!("a study of a thousand slices, and 500 MB in one: eds, cp, dcmconv and age in turns …");
        rows.extend(study::rows(folder.path())?);
    }
    #[cfg(feature = "full")]
    if wanted("gateway") {
        eprintln!("470 objects and one of 500 MB over DICOM: eds gateway and storescp in turns …");
        rows.extend(gateway::rows(folder.path())?);
    }
    if wanted("gfal") {
        eprintln!("500 MB and 1 MiB through GFAL2: a file of EDS and a plain one in turns …");
        rows.extend(gfal::rows(folder.path())?);
    }
    table::publish(&rows, &binaries::source_root().join("target/bench.json"))
}

const GROUPS: [&str; 11] =
    ["payload", "cold", "fetch", "load", "scale", "crowd", "register", "firmware", "study", "gateway", "gfal"];
