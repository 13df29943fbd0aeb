//! A study of a thousand CT slices of half a megabyte goes in and comes back, and a multi-frame image of 500 MB goes in,
//! with three key servers and their tokens on this machine; beside `cp`, and `dcmconv` and `age` with a process for each
//! file.
//!
//! Everything lies in memory, so that the disk is not what is measured. The slices are a real one, rolled by as many rows as
//! their number; each has a SOP Instance UID of its own.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use eds_tests::{
    Outcome, Trouble,
    cluster::{Cluster, Plan},
    dicom, files, give_up,
    https::Https,
    trouble::During as _,
    user::User,
};

use crate::{
    measure::{Cost, cost, median},
    payload::age_key,
    table::{Row, Target},
};

const SLICES: usize = 1_000;
const FRAMES: usize = 1_000;
const ROUNDS: usize = 3;

/// Measures all of it.
pub(crate) fn rows(folder: &Path) -> Outcome<Vec<Row>> {
    let mut cluster = Cluster::start(Plan { nodes: 3, floor: 2, relayed: &[] })?;
    let officer = cluster.user("Officer")?;
    let (authority, person) = ("/CN=EDS test CA/O=EDS test hospital", "/CN=Officer/O=EDS test hospital");
    let admins = format!("admins = [{{ issuer = {authority:?}, subject = {person:?} }}]");
    cluster.configure(&format!("\n[policy]\n{admins}\n"))?;
    let slice = Slice::read()?;
    let study = folder.join("study");
    slice.write_study(&study, SLICES)?;
    let (identity, recipient) = age_key(folder)?;
    let mut bench = Bench { cluster, officer, folder: folder.into(), study, users: 0, identity, recipient };

    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        bench.round(&mut rounds)?;
    }
    fs::remove_dir_all(&bench.study)?;
    let mut rows = rounds.rows();
    rows.extend(bench.large(&slice)?);
    Ok(rows)
}

/// A real CT slice, taken apart.
pub(crate) struct Slice {
    head: Vec<u8>,
    pixels: Vec<u8>,
    uid: Vec<u8>,
}

impl Slice {
    pub(crate) fn read() -> Outcome<Self> {
        let path = dicom::data()?.join("693_UNCR.dcm");
        let bytes = fs::read(&path).during(path.display())?;
        let start = find(&bytes, b"\xe0\x7f\x10\0OW\0\0").map(|at| at + 12).during_finding("pixel data")?;
        let pixels = bytes.get(start..start + PIXELS).unwrap_or_default().to_vec();
        // (0008,0018) UI, and its length.
        let at = find(&bytes, b"\x08\0\x18\0UI").map(|at| at + 8).during_finding("a UID")?;
        let uid = bytes.get(at..).unwrap_or_default();
        let length = uid.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        let uid = uid.get(..length).unwrap_or_default().to_vec();
        Ok(Self { head: bytes.get(..start).unwrap_or_default().to_vec(), pixels, uid })
    }

    /// The pixels of a slice of the study.
    fn rolled(&self, number: usize) -> Vec<u8> {
        let mut pixels = self.pixels.clone();
        pixels.rotate_left(number % 512 * 1024);
        pixels
    }

    /// The header with a UID of its own, of the same length.
    fn head(&self, number: usize) -> Vec<u8> {
        let mut head = self.head.clone();
        let digits = format!("{number:04}");
        let mut at = 0;
        while let Some(found) = head.get(at..).and_then(|rest| find(rest, &self.uid)) {
            let end = at + found + self.uid.len();
            if let Some(place) = head.get_mut(end - digits.len()..end) {
                place.copy_from_slice(digits.as_bytes());
            }
            at = end;
        }
        head
    }

    /// So many slices of a study, each a file.
    pub(crate) fn write_study(&self, folder: &Path, slices: usize) -> Outcome {
        fs::create_dir_all(folder)?;
        for number in 0..slices {
            let path = folder.join(format!("{number:04}.dcm"));
            fs::write(&path, [self.head(number), self.rolled(number)].concat()).during(path.display())?;
        }
        Ok(())
    }

    /// One file with a thousand frames.
    pub(crate) fn write_large(&self, path: &Path) -> Outcome {
        let mut head = self.head(0);
        // (0028,0008) IS comes before (0028,0010) US.
        let rows = find(&head, b"\x28\0\x10\0US").during_finding("rows")?;
        head.splice(rows..rows, b"\x28\0\x08\0IS\x04\x001000".iter().copied());
        let length = u32::try_from(FRAMES * PIXELS)?.to_le_bytes();
        let at = head.len() - 4;
        head.get_mut(at..).unwrap_or_default().copy_from_slice(&length);
        let mut file = File::create(path)?;
        file.write_all(&head)?;
        for number in 0..FRAMES {
            file.write_all(&self.rolled(number))?;
        }
        Ok(())
    }
}

/// What is measured with.
struct Bench {
    cluster: Cluster,
    officer: User,
    folder: PathBuf,
    study: PathBuf,
    users: usize,
    identity: String,
    recipient: String,
}

/// What each way cost in each round.
#[derive(Default)]
struct Rounds {
    per_study: Vec<Cost>,
    per_image: Vec<Cost>,
    back: Vec<Cost>,
    restored: Vec<Cost>,
    cp: Vec<Cost>,
    dcmconv: Vec<Cost>,
    age: Vec<Cost>,
    age_back: Vec<Cost>,
    /// Shares of the time of all threads and of the tokens: parse, encrypt, keys, network, record, tokens.
    shares: [Vec<f64>; 6],
}

impl Bench {
    /// A user who has registered nothing yet, whose data lies in memory.
    fn user(&mut self) -> Outcome<(User, PathBuf)> {
        self.users += 1;
        let name = format!("Reader{}", self.users);
        let user = self.cluster.user(&name)?;
        let place = self.folder.join(&name);
        fs::create_dir_all(&place)?;
        let settings = ["objects", "catalog.sqlite", "metadata.sqlite"]
            .iter()
            .fold(fs::read_to_string(user.config())?, |text, name| {
                text.replace(&format!("path = \"{name}\""), &format!("path = {:?}", place.join(name)))
            });
        fs::write(user.config(), settings)?;
        Ok((user, place))
    }

    fn round(&mut self, rounds: &mut Rounds) -> Outcome {
        let study = self.study.display().to_string();
        let out = self.folder.join("out");
        let out_text = out.display().to_string();
        for per_study in [true, false] {
            let (user, place) = self.user()?;
            let scope = if per_study { "study" } else { "image" };
            let events = place.join("events");
            let before = self.token_time()?;
            let mut command = user.command(["register", &study, "--pass-suspect", "--key-per", scope, "--json"]);
            let spent = cost(command.stdout(File::create(&events)?))?;
            let tokens = self.token_time()? - before;
            if per_study {
                rounds.per_study.push(spent);
                let retrieve = |more: &[&str]| {
                    let arguments = ["retrieve", "--search", "Modality=CT", "-o", &out_text];
                    let mut command = user.command(arguments.iter().chain(more));
                    cost(command.stdout(std::process::Stdio::null()))
                };
                rounds.back.push(retrieve(&[])?);
                expect(files::below(&out)?.len() == SLICES, "all slices come back")?;
                fs::remove_dir_all(&out)?;
                rounds.restored.push(retrieve(&["--restore"])?);
                self.same_contents(&out)?;
                fs::remove_dir_all(&out)?;
            } else {
                rounds.per_image.push(spent);
                rounds.note_shares(&fs::read_to_string(&events)?, tokens)?;
            }
            fs::remove_dir_all(&place)?;
        }
        rounds.cp.push(cost(Command::new("cp").args(["-r", &study, &out_text]))?);
        fs::remove_dir_all(&out)?;
        rounds.dcmconv.push(self.each(&out, |from, to| {
            let mut command = Command::new("dcmconv");
            command.args([from, to]);
            command
        })?);
        fs::remove_dir_all(&out)?;
        let recipient = self.recipient.clone();
        rounds.age.push(self.each(&out, |from, to| {
            let mut command = Command::new("age");
            command.args(["-r", &recipient, "-o"]).args([to, from]);
            command
        })?);
        rounds.age_back.push(self.age_back(&out)?);
        fs::remove_dir_all(&out)?;
        Ok(())
    }

    /// One process for each slice, one after the other.
    fn each(&self, out: &Path, command: impl Fn(&Path, &Path) -> Command) -> Outcome<Cost> {
        fs::create_dir_all(out)?;
        let mut sum = Cost { cpu: Duration::ZERO, wall: Duration::ZERO, peak_mib: 0.0 };
        for number in 0..SLICES {
            let name = format!("{number:04}.dcm");
            let one = cost(&mut command(&self.study.join(&name), &out.join(&name)))?;
            sum.cpu += one.cpu;
            sum.wall += one.wall;
            sum.peak_mib = sum.peak_mib.max(one.peak_mib);
        }
        Ok(sum)
    }

    fn age_back(&self, encrypted: &Path) -> Outcome<Cost> {
        let plain = self.folder.join("plain");
        fs::create_dir_all(&plain)?;
        let mut sum = Cost { cpu: Duration::ZERO, wall: Duration::ZERO, peak_mib: 0.0 };
        for number in 0..SLICES {
            let name = format!("{number:04}.dcm");
            let mut command = Command::new("age");
            command.args(["-d", "-i", &self.identity, "-o"]).arg(plain.join(&name)).arg(encrypted.join(&name));
            let one = cost(&mut command)?;
            sum.cpu += one.cpu;
            sum.wall += one.wall;
        }
        fs::remove_dir_all(&plain)?;
        Ok(sum)
    }

    fn same_contents(&self, out: &Path) -> Outcome {
        let digests = |folder: &Path| -> Outcome<std::collections::BTreeSet<Vec<u8>>> {
            use sha2::Digest as _;
            let digest = |path: &PathBuf| Ok(sha2::Sha256::digest(fs::read(path)?).to_vec());
            files::below(folder)?.iter().map(digest).collect()
        };
        expect(digests(out)? == digests(&self.study)?, "what comes back is what went in")
    }

    /// Seconds that the tokens of all nodes have worked so far.
    fn token_time(&mut self) -> Outcome<f64> {
        let https = Https::of(&self.cluster, Some(&self.officer))?;
        let mut seconds = 0.0;
        for number in 1..=3 {
            let url = self.cluster.node(number)?.url();
            let answer = https.get(&url, "/metrics")?;
            expect(answer.status == 200, "the metrics of a node are told to its administrator")?;
            let sums = answer.body.lines().filter(|line| line.starts_with("eds_token_call_seconds_sum"));
            seconds += sums.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        }
        Ok(seconds)
    }

    /// 500 MB in one file.
    fn large(&mut self, slice: &Slice) -> Outcome<Vec<Row>> {
        let (path, copy) = (self.folder.join("large.dcm"), self.folder.join("copy"));
        slice.write_large(&path)?;
        let text = path.display().to_string();
        let (mut ours, mut cp) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (user, place) = self.user()?;
            ours.push(cost(user.command(["register", "--pass-suspect", &text]).stdout(std::process::Stdio::null()))?);
            fs::remove_dir_all(&place)?;
            cp.push(cost(Command::new("cp").args([&path, &copy]))?);
            fs::remove_file(&copy)?;
        }
        fs::remove_file(&path)?;
        let of = |costs: &[Cost], value: fn(&Cost) -> f64| median(costs.iter().map(value));
        let cpu = |cost: &Cost| cost.cpu.as_secs_f64();
        Ok(vec![
            Row::new("register_500mb_cpu_vs_cp", of(&ours, cpu), "s", "cp", of(&cp, cpu)),
            Row::new(
                "register_500mb_peak_mib",
                of(&ours, |cost| cost.peak_mib),
                "MiB",
                "cp",
                of(&cp, |cost| cost.peak_mib),
            )
            .promising(Target::Ours(64.0)),
        ])
    }
}

impl Rounds {
    fn note_shares(&mut self, events: &str, tokens: f64) -> Outcome {
        let last = events.lines().last().unwrap_or_default();
        let end: serde_json::Value = serde_json::from_str(last).during("the last event")?;
        expect(end["registered"] == SLICES, "all slices are registered")?;
        let named = ["parse", "encrypt", "keys", "network", "record"];
        let mut seconds = named.map(|name| end["seconds"][name].as_f64().unwrap_or(f64::NAN)).to_vec();
        let all: f64 = seconds.iter().sum();
        // The tokens work while the client waits for the network: theirs is a part of that.
        seconds.push(tokens / 3.0);
        for (share, seconds) in self.shares.iter_mut().zip(seconds) {
            share.push(100.0 * seconds / all);
        }
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let rate = |costs: &[Cost]| median(costs.iter().map(|cost| SLICES as f64 / cost.wall.as_secs_f64()));
        let megabytes = |costs: &[Cost]| rate(costs) * PIXELS as f64 / 1e6;
        let cpu = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu.as_secs_f64()));
        let (age, age_back) = ("age, a process a file", "age -d, a process a file");
        let mut rows = vec![
            Row::new("register_1000_vs_age_per_file", rate(&self.per_study), "1/s", age, rate(&self.age))
                .promising(Target::AtLeast(5.0)),
            Row::new("register_1000_key_each_vs_age", rate(&self.per_image), "1/s", age, rate(&self.age)),
            Row::new(
                "register_1000_cpu_vs_dcmconv",
                cpu(&self.per_study),
                "s",
                "dcmconv, a process a file",
                cpu(&self.dcmconv),
            )
            .promising(Target::Ratio(3.0)),
            Row::new("register_1000_cpu_vs_age", cpu(&self.per_study), "s", age, cpu(&self.age)),
            Row::new("register_1000_rate_vs_cp", megabytes(&self.per_study), "MB/s", "cp -r", megabytes(&self.cp)),
            Row::new(
                "register_1000_rate_vs_dcmconv",
                megabytes(&self.per_study),
                "MB/s",
                "dcmconv, a process a file",
                megabytes(&self.dcmconv),
            ),
            Row::new("retrieve_1000_vs_age_per_file", rate(&self.back), "1/s", age_back, rate(&self.age_back)),
            Row::new("restore_1000_vs_age_per_file", rate(&self.restored), "1/s", age_back, rate(&self.age_back)),
            Row::new("restore_1000_rate_vs_cp", megabytes(&self.restored), "MB/s", "cp -r", megabytes(&self.cp)),
        ];
        let names = [
            "register_1000_share_parse",
            "register_1000_share_encrypt",
            "register_1000_share_keys",
            "register_1000_share_network",
            "register_1000_share_record",
            "register_1000_share_token",
        ];
        for (name, share) in names.into_iter().zip(&self.shares) {
            rows.push(Row::new(name, median(share.iter().copied()), "%", "time of all threads", 100.0));
        }
        rows
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

trait Found<T> {
    fn during_finding(self, what: &str) -> Outcome<T>;
}

impl<T> Found<T> for Option<T> {
    fn during_finding(self, what: &str) -> Outcome<T> {
        self.ok_or_else(|| Trouble::new(format!("the real slice has no {what} where it should")))
    }
}

fn expect(met: bool, what: &str) -> Outcome {
    if !met {
        give_up!("not so: {what}");
    }
    Ok(())
}

/// 512 by 512 pixels of 16 bits.
const PIXELS: usize = 512 * 512 * 2;
