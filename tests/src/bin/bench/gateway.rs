//! A modality stores 470 CT objects of half a megabyte into the gateway, over one association and over four, and one object of
//! 500 MB; beside dcmtk's receiver, which stores them as they are.
//!
//! Ours encrypts, and has the shares of each object's key on three key servers before it answers; all of it lies in memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use eds_tests::{
    Outcome, Trouble,
    cluster::Cluster,
    files,
    gateway::{self, Gateway, Peer},
    give_up, ports,
    process::Process,
    user::User,
};

use crate::{
    measure::median,
    study::Slice,
    table::{Row, Target},
};

const OBJECTS: usize = 470;
const ROUNDS: usize = 3;

/// Measures all of it.
pub(crate) fn rows(folder: &Path) -> Outcome<Vec<Row>> {
    let cluster = Cluster::of_three()?;
    let slice = Slice::read()?;
    let mut ours = [Vec::new(), Vec::new()];
    let mut per_image = Vec::new();
    let mut theirs = [Vec::new(), Vec::new()];
    let ward = folder.join("ward");
    slice.write_study(&ward, OBJECTS)?;
    let objects = files::below(&ward)?;
    for round in 0..ROUNDS {
        for (times, associations) in ours.iter_mut().zip([1, 4]) {
            let name = format!("Modality{round}{associations}");
            times.push(into_ours(&cluster, folder, &name, "study", &objects, associations)?);
        }
        per_image.push(into_ours(&cluster, folder, &format!("Single{round}"), "image", &objects, 1)?);
        for (times, associations) in theirs.iter_mut().zip([1, 4]) {
            times.push(into_theirs(folder, &objects, associations)?);
        }
    }
    fs::remove_dir_all(&ward)?;
    let rate = |times: &[f64]| OBJECTS as f64 / median(times.iter().copied());
    let [one, four] = &ours;
    let [their_one, their_four] = &theirs;
    let peer = "storescp";
    let mut rows = vec![
        Row::new("gateway_ingest_470_vs_storescp", rate(one), "/s", peer, rate(their_one))
            .promising(Target::AtLeast(5.0)),
        Row::new("gateway_ingest_470_key_each_vs_storescp", rate(&per_image), "/s", peer, rate(their_one)),
        Row::new("gateway_ingest_470_over_4_vs_storescp", rate(four), "/s", peer, rate(their_four)),
    ];
    rows.extend(large(&cluster, folder, &slice)?);
    Ok(rows)
}

/// A user whose data lies in memory.
fn user(cluster: &Cluster, folder: &Path, name: &str) -> Outcome<(User, PathBuf)> {
    let user = cluster.user(name)?;
    let place = folder.join(name);
    fs::create_dir_all(&place)?;
    let settings = ["objects", "catalog.sqlite", "metadata.sqlite"]
        .iter()
        .fold(fs::read_to_string(user.config())?, |text, file| {
            text.replace(&format!("path = \"{file}\""), &format!("path = {:?}", place.join(file)))
        });
    fs::write(user.config(), settings)?;
    Ok((user, place))
}

fn start(folder: &Path, user: &User, keys: &str) -> Outcome<Gateway> {
    let settings = format!("key_for = {keys:?}\nspool = {folder:?}");
    let gateway = Gateway::start(&folder.join("gateway"), user, &[Peer::of("CT1", user)], &settings)?;
    gateway.peer("echoscu", "CT1", &[], &[])?.success()?;
    Ok(gateway)
}

fn into_ours(
    cluster: &Cluster,
    folder: &Path,
    name: &str,
    keys: &str,
    objects: &[PathBuf],
    associations: usize,
) -> Outcome<f64> {
    let (user, place) = user(cluster, folder, name)?;
    let gateway = start(&place, &user, keys)?;
    let time = store(objects, associations, |part| gateway.dcmtk("storescu", "CT1", &[], part))?;
    let stored = files::below(&place.join("objects"))?.len();
    if stored != objects.len() {
        give_up!("{stored} of {} objects are stored\n{}", objects.len(), gateway.log()?);
    }
    drop(gateway);
    fs::remove_dir_all(&place)?;
    Ok(time)
}

fn into_theirs(folder: &Path, objects: &[PathBuf], associations: usize) -> Outcome<f64> {
    let place = folder.join("storescp");
    fs::create_dir_all(&place)?;
    let (receiver, port) = receiver(&place, associations)?;
    let port = port.to_string();
    let time = store(objects, associations, |part| {
        let mut command = Command::new("storescu");
        command.args(["-aec", "ANY", "127.0.0.1", &port]).args(part);
        command
    })?;
    drop(receiver);
    let stored = files::below(&place)?.len();
    if stored < objects.len() {
        give_up!("storescp has {stored} of {} objects", objects.len());
    }
    fs::remove_dir_all(&place)?;
    Ok(time)
}

fn receiver(place: &Path, associations: usize) -> Outcome<(Process, u16)> {
    let port = ports::free()?;
    let mut command = Command::new("storescp");
    if associations > 1 {
        command.arg("--fork");
    }
    command.args(["-od", &place.display().to_string(), &port.to_string()]);
    let log = place.with_extension("log");
    let process = Process::start("storescp", &mut command, &log)?;
    gateway::wait_for_port(port)?;
    Ok((process, port))
}

/// Stores all objects over so many associations at a time; returns seconds.
fn store<'a>(objects: &'a [PathBuf], associations: usize, command: impl Fn(&[&'a Path]) -> Command) -> Outcome<f64> {
    let start = Instant::now();
    let children: Vec<Child> = objects
        .chunks(objects.len().div_ceil(associations))
        .map(|part| {
            let part: Vec<&Path> = part.iter().map(PathBuf::as_path).collect();
            command(&part).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()
        })
        .collect::<Result<_, _>>()?;
    for mut child in children {
        if !child.wait()?.success() {
            give_up!("storescu failed");
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

fn large(cluster: &Cluster, folder: &Path, slice: &Slice) -> Outcome<Vec<Row>> {
    let path = folder.join("large.dcm");
    slice.write_large(&path)?;
    let (user, place) = user(cluster, folder, "Large")?;
    let gateway = start(&place, &user, "image")?;
    let one = [path.clone()];
    let ours = store(&one, 1, |part| gateway.dcmtk("storescu", "CT1", &[], part))?;
    let peak = gateway.peak_kib()? as f64 / 1024.0;
    drop(gateway);
    fs::remove_dir_all(&place)?;

    let place = folder.join("storescp");
    fs::create_dir_all(&place)?;
    let (receiver, port) = receiver(&place, 1)?;
    let port = port.to_string();
    let theirs = store(&one, 1, |part| {
        let mut command = Command::new("storescu");
        command.args(["-aec", "ANY", "127.0.0.1", &port]).args(part);
        command
    })?;
    let their_peak = peak_of(receiver.id())?;
    drop(receiver);
    fs::remove_dir_all(&place)?;
    fs::remove_file(&path)?;
    Ok(vec![
        Row::new("gateway_store_500mb", ours, "s", "storescp", theirs),
        Row::new("gateway_store_500mb_peak_mib", peak, "MiB", "storescp", their_peak).promising(Target::Ours(32.0)),
    ])
}

fn peak_of(process: u32) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or_else(|| Trouble::new("no peak"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}
