//! What the audit log costs: one entry, many at once, an opening, a verification; beside the disk's own sync.
//!
//! `cargo bench -p eds-keystore --bench audit [-- DIRECTORY]`; the directory must be on the disk that is to be measured.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use eds_core::ids::KeyId;
use eds_keystore::audit::{
    Decision, Log, Operation, Outcome, Proof, RequestId, Who, checkpoint::Verifier, log::Options, verify::verify,
};

const ORIGIN: &str = "eds/bench";

fn decision(number: u64, keys: usize) -> Decision {
    Decision {
        time: number,
        request: RequestId([7; 16]),
        operation: Operation::FETCH,
        outcome: Outcome::Allowed,
        rule: "owner".into(),
        who: Who {
            proof: Proof::Certificate,
            display: "/C=CH/O=University Hospital/OU=Radiology/CN=Dr A. Jones".into(),
            subject: Some([1; 32]),
            evidence: String::new(),
        },
        peer: Some([192, 0, 2, 7].into()),
        keys: vec![KeyId::from_bytes([9; 16]); keys],
        access_list: None,
        detail: String::new(),
    }
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    (at(50), at(99))
}

fn timed(count: u64, mut work: impl FnMut(u64)) -> (Duration, Duration) {
    let once = |number| {
        let begun = Instant::now();
        work(number);
        begun.elapsed()
    };
    median((0..count).map(once).collect())
}

/// User and system time of this process, in ticks of 10 ms.
fn cpu_milliseconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let place = tempfile::tempdir_in(given.unwrap_or_else(std::env::temp_dir)).expect("a directory");
    let options = Options::new(place.path().join("audit"), ORIGIN);
    Log::create(&options).expect("made");
    let log = Arc::new(Log::open(&options, 0).expect("opens").0);
    let mut entry = Vec::new();
    decision(0, 1).encode(0, &mut entry).expect("encoded");
    println!("one entry with one key: {} bytes", entry.len());

    // Alternately, so that both see the same disk.
    let mut raw = fs::OpenOptions::new().append(true).create(true).open(place.path().join("raw")).expect("opened");
    for _ in 0..3 {
        let (p50, p99) = timed(300, |_| {
            raw.write_all(&entry).and_then(|()| raw.sync_data()).expect("synced");
        });
        println!("disk alone, write and fdatasync: p50 {p50:?}, p99 {p99:?}");
        let (p50, p99) = timed(300, |number| {
            log.append_blocking(vec![decision(number, 1)]).expect("appended");
        });
        println!("one entry at a time:             p50 {p50:?}, p99 {p99:?}");
    }

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    for (callers, keys) in [(16u64, 1), (64, 1), (256, 1), (1024, 1), (64, 1_000)] {
        let (begun, limit, before) = (Instant::now(), Duration::from_secs(3), cpu_milliseconds());
        let entries: u64 = runtime.block_on(async {
            let tasks: Vec<_> = (0..callers)
                .map(|caller| {
                    let log = Arc::clone(&log);
                    tokio::spawn(async move {
                        let mut count = 0;
                        while begun.elapsed() < limit {
                            log.append(vec![decision(caller, keys)]).await.expect("appended");
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            let mut total = 0;
            for task in tasks {
                total += task.await.expect("ended");
            }
            total
        });
        let rate = entries as f64 / begun.elapsed().as_secs_f64();
        let cpu = (cpu_milliseconds() - before) * 1e3 / entries as f64;
        println!("{callers} callers, {keys} keys an entry: {rate:.0} entries/s, {cpu:.1} us CPU an entry");
    }

    let rounds = 300;
    let begun = Instant::now();
    for round in 0..rounds {
        log.append_blocking((0..1_000).map(|number| decision(round * 1_000 + number, 1)).collect()).expect("appended");
    }
    println!("batches of 1,000 entries: {:.0} entries/s", rounds as f64 * 1e3 / begun.elapsed().as_secs_f64());

    let size = log.head().size;
    let (p50, p99) = timed(1_000, |number| {
        log.inclusion_proof(number * 31 % size, size).expect("read").expect("there");
    });
    println!("inclusion proof among {size} entries: p50 {p50:?}, p99 {p99:?}");
    drop(log);
    let begun = Instant::now();
    let (_, opened) = Log::open(&options, 0).expect("opens");
    let spent = begun.elapsed();
    let bytes: u64 = fs::read_dir(&options.directory)
        .expect("listed")
        .filter_map(|file| file.ok()?.metadata().ok())
        .map(|file| file.len())
        .sum();
    println!("opening {} entries, {} MB: {spent:?}", opened.entries, bytes / 1_000_000);
    let key = p256::ecdsa::SigningKey::from_slice(&[1; 32]).expect("a key");
    let key = eds_core::directory::compressed(key.verifying_key());
    let verifier = Verifier::new(ORIGIN, &key).expect("a verifier");
    let begun = Instant::now();
    let report = verify(&options.directory, &verifier, &[], &[]).expect("read");
    println!("verifying {} entries: {:?}, {} findings", report.entries, begun.elapsed(), report.findings.len());
}
