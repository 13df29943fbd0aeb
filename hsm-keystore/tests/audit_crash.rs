//! A process that writes the audit log is killed with SIGKILL, again and again, at random moments: every entry that was
//! acknowledged is there afterwards, in its place, and the log opens and goes on.
//!
//! `EDS_SEED` repeats a run. 20 kills, 200 with `EDS_SOAK` (`make soak`).

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use eds_core::ids::KeyId;
use eds_keystore::audit::{
    Decision, Log, Operation, Outcome, Proof, RequestId, Who,
    log::{Options, Reader, Record},
};

const THREADS: u64 = 4;
const ORIGIN: &str = "eds/test/crash";

fn options(directory: &Path) -> Options {
    let mut options = Options::new(directory, ORIGIN);
    options.segment_bytes = 20_000;
    options
}

fn decision(round: u64, thread: u64, number: u64) -> Decision {
    let mut key = [0; 16];
    for (slot, value) in key.as_chunks_mut::<8>().0.iter_mut().zip([round << 8 | thread, number]) {
        *slot = value.to_be_bytes();
    }
    Decision {
        time: number,
        request: RequestId(key),
        operation: Operation::FETCH,
        outcome: Outcome::Allowed,
        rule: "owner".into(),
        who: Who {
            proof: Proof::Certificate,
            display: format!("/CN=thread {thread}"),
            subject: None,
            evidence: String::new(),
        },
        peer: Some(IpAddr::from([127, 0, 0, 1])),
        keys: vec![KeyId::from_bytes(key)],
        access_list: None,
        detail: String::new(),
    }
}

/// The child: appends from several threads and tells each acknowledgement, until it is killed.
fn child(directory: &Path, round: u64) {
    let log = Arc::new(Log::open(&options(directory), round).expect("the log opens").0);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for number in 0.. {
                    let batch = (0..1 + number % 3).map(|_| decision(round, thread, number)).collect();
                    let receipt = log.append_blocking(batch).expect("appended");
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "ack {} {} {thread} {number}", receipt.first, receipt.count).expect("told");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("ended"));
}

fn records(directory: &Path) -> Vec<Record> {
    let mut reader = Reader::open(directory, Some(ORIGIN)).expect("opens");
    std::iter::from_fn(|| reader.read(|_| ()).expect("whole")).collect()
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    if let (Ok(directory), Ok(round)) = (env::var("EDS_AUDIT_CHILD"), env::var("EDS_AUDIT_ROUND")) {
        return child(Path::new(&directory), round.parse().expect("a number"));
    }
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let mut seed = number("EDS_SEED").unwrap_or_else(|| getrandom::u64().expect("random"));
    println!("EDS_SEED={seed}");
    // SplitMix64, so that a seed tells the whole run.
    let mut random = move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("audit");
    Log::create(&options(&directory)).expect("made");
    let mut acknowledged: Vec<(u64, Decision)> = Vec::new();
    for round in 1..=if env::var_os("EDS_SOAK").is_some() { 200 } else { 20 } {
        let mut process = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "what_was_acknowledged_survives_every_kill", "--nocapture"])
            .env("EDS_AUDIT_CHILD", &directory)
            .env("EDS_AUDIT_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
        // Killed after a random number of acknowledgements, and a random number of turns of this loop after that.
        let (kill_after, spin) = (1 + random() % 200, random() % 200_000);
        let mut heard = 0;
        let mut line = String::new();
        while {
            line.clear();
            output.read_line(&mut line).expect("read") > 0
        } {
            // The first line of the test harness may stand before the first acknowledgement.
            let Some((_, told)) = line.split_once("ack ") else { continue };
            // The last line may be cut off by the kill.
            let Some(told) = told.strip_suffix('\n') else { continue };
            let fields: Vec<u64> = told.split(' ').map(|field| field.parse().expect("a number")).collect();
            let [first, count, thread, number] = fields[..] else { panic!("{told}") };
            acknowledged.extend((first..first + count).map(|sequence| (sequence, decision(round, thread, number))));
            heard += 1;
            if heard == kill_after {
                (0..spin).for_each(|turn| {
                    std::hint::black_box(turn);
                });
                process.kill().expect("killed");
            }
        }
        assert!(heard >= kill_after, "round {round}: the child ended by itself");
        process.wait().expect("ended");
        let (log, opened) =
            Log::open(&options(&directory), round).unwrap_or_else(|error| panic!("round {round}: {error}"));
        drop(log);
        let records = records(&directory);
        for (sequence, decision) in &acknowledged {
            let record = records.get(usize::try_from(*sequence).expect("few"));
            assert_eq!(record.map(|record| &record.entry.decision), Some(decision), "round {round}, entry {sequence}");
        }
        assert!(records.len() as u64 >= opened.entries);
    }
    println!("{} acknowledged entries are all there", acknowledged.len());
}
