//! What the bench does beside a key server, in a process of its own since PKCS#11 is initialised once for each process.
//!
//! `eds-bench-node fill NODE.toml COUNT IDS` puts keys into the database of a node that does not run, with the owner and
//! access list of a key that is there already, and writes their ids, 16 bytes each, to a new file. The shares are of one
//! secret, but each is bound to its own key, manifest and access list and sealed under a data key of the token's, as
//! registration would have done it: all of them open. Only the network and the audit log are spared. A hundred keys are
//! registered together, and follow each other in the file; their ids lie far from each other, as random ones do.
//!
//! `eds-bench-node token NODE.toml` prints how many records the token decrypts in a second, the best of 1, 2 and 4 threads
//! with a session each and nothing else to do; and the processor time of one record with one thread, in microseconds.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, ObjectClass},
    session::{Session, UserType},
};
use eds_core::{
    ids::{Epoch, KeyId, ShareIndex, Threshold},
    manifest::{MAX_BYTES, Manifest},
    sharing::{FileSecret, Share, ShareRecord, SplitParams, split},
};
use eds_keystore::{
    config::Config,
    node::{Node, startup},
    policy::stored::decode,
    shares::{ShareContext, ToSeal},
    store::{NewKey, Registered, Registration, StoredAccess},
};
use eds_tests::{Outcome, Trouble, give_up};
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["fill", config, count, ids] => match count.parse() {
            Ok(count) => fill(Path::new(config), count, Path::new(ids)),
            Err(_) => Err(Trouble::new(format!("{count} is not a number"))),
        },
        ["token", config] => token_rate(Path::new(config)).map(|(rate, cost)| println!("{rate:.0} {cost:.2}")),
        _ => {
            eprintln!("usage: eds-bench-node fill NODE.toml COUNT IDS | token NODE.toml");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("eds-bench-node: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// Keys that go into one call of the token, whose answer must come within its deadline, and into one commit.
const CHUNK: usize = 10_000;
/// Keys that are registered together, and share a data key.
const TOGETHER: usize = 100;

fn fill(config: &Path, count: usize, ids: &Path) -> Outcome {
    let config = Config::load(config)?;
    let Some(node) = startup::start(&config).node else {
        give_up!("the node would not start: try eds-keystored check")
    };
    let Some(example) = node.store.page(None, 1)?.pop() else { give_up!("the node holds no key to take the owner of") };
    let Some(access) = example.access else { give_up!("the first key of the node was deleted") };
    let list = decode(&access.list)?;
    let mut rng = UnwrapErr(getrandom::SysRng);
    let model = Model::new(&node)?;
    // In the order of their ids: the table is the same, and the database is done sooner.
    let mut keys: Vec<KeyId> = (0..count).map(|_| KeyId::random(&mut rng)).collect();
    keys.sort_unstable();
    let mut file = std::io::BufWriter::new(fs::File::create_new(ids)?);
    for chunk in keys.chunks(CHUNK) {
        let chunk = &scattered(chunk);
        let made = chunk.iter().map(|key| model.of(*key)).collect::<Outcome<Vec<_>>>()?;
        let lists: Vec<_> = chunk.iter().map(|key| (*key, list.clone())).collect();
        let access = node.access.seal(&lists)?;
        let together = made.chunks(TOGETHER).zip(access.chunks(TOGETHER));
        let sealed = together.map(|(keys, lists)| seal(&node, keys, lists)).collect::<Outcome<Vec<_>>>()?;
        let new = made.into_iter().zip(sealed.into_iter().flatten()).map(|((manifest, _), (record, access))| {
            let mut buffer = [0; MAX_BYTES];
            let encoded = manifest.encode(&mut buffer).map_err(|error| Trouble::new(error.to_string()))?.to_vec();
            let (key, epoch, manifest_digest) = (manifest.key, manifest.epoch, manifest.digest());
            Ok(NewKey { key, epoch, manifest: encoded, manifest_digest, record, access, name: None })
        });
        let new = new.collect::<Outcome<Vec<_>>>()?;
        let (id, content) = (*KeyId::random(&mut rng).as_bytes(), [0; 32]);
        let registration =
            Registration { registrant: example.registrant, id, content, counter: None, at: node.clock.now() };
        if node.store.register(&registration, &new)? != Registered::Stored {
            give_up!("the keys were not stored");
        }
        node.store.confirm(chunk, &example.registrant, node.clock.now())?;
        for key in chunk {
            file.write_all(key.as_bytes())?;
        }
    }
    Ok(file.flush()?)
}

/// The keys in an order in which neighbours in the index are not registered together.
fn scattered(chunk: &[KeyId]) -> Vec<KeyId> {
    let groups = chunk.len().div_ceil(TOGETHER);
    (0..groups).flat_map(|group| chunk.iter().skip(group).step_by(groups)).copied().collect()
}

/// Seals the shares of keys that are registered together, and vouches for their lists.
fn seal(
    node: &Node,
    keys: &[(Manifest, ShareRecord)],
    lists: &[StoredAccess],
) -> Outcome<Vec<(Vec<u8>, StoredAccess)>> {
    let share = |(manifest, record): &(Manifest, ShareRecord)| {
        let (key, epoch, index) = (manifest.key, manifest.epoch, record.index());
        ToSeal {
            context: ShareContext { key, epoch, index, manifest: manifest.digest() },
            share: record.share.to_bytes(),
        }
    };
    let shares: Vec<_> = keys.iter().map(share).collect();
    let mut sealed = node.wrapping.seal(node.id, &shares)?;
    let records = std::mem::take(&mut sealed.records).into_iter().zip(&shares).zip(lists);
    let vouched = records.map(|((record, share), access)| {
        let voucher = sealed.voucher(&share.context, node.id, &Sha256::digest(&access.list).into());
        (record, access.clone().vouched(voucher))
    });
    Ok(vouched.collect())
}

/// One secret, split among all nodes, from which the manifest and the share of any key are made.
struct Model {
    manifest: Manifest,
    shares: Vec<Share>,
    ours: ShareIndex,
}

impl Model {
    fn new(node: &Node) -> Outcome<Self> {
        let mut rng = UnwrapErr(getrandom::SysRng);
        let numbers: Vec<ShareIndex> = node.directory.active().map(|node| node.number).collect();
        let failed = |error: eds_core::Error| Trouble::new(error.to_string());
        let params = SplitParams {
            key: KeyId::random(&mut rng),
            cluster: node.directory.cluster,
            directory_version: node.directory.version,
            epoch: Epoch::new(0),
            threshold: Threshold::majority(u8::try_from(numbers.len())?).map_err(failed)?,
            nodes: &numbers,
        };
        let (manifest, records) = split(&FileSecret::random(&mut rng), &params, &mut rng).map_err(failed)?;
        Ok(Self { manifest, shares: records.into_iter().map(|record| record.share).collect(), ours: node.number })
    }

    fn of(&self, key: KeyId) -> Outcome<(Manifest, ShareRecord)> {
        let mut manifest = Manifest { key, ..self.manifest.clone() };
        let record = |share: &Share| {
            let share = Share::from_bytes(share.index(), &share.to_bytes());
            ShareRecord { key, epoch: manifest.epoch, share }
        };
        let digests: Vec<_> = self.shares.iter().map(|share| (share.index(), record(share).digest())).collect();
        let ours = self.shares.iter().find(|share| share.index() == self.ours).map(record);
        manifest.shares = digests.into_iter().collect();
        Ok((manifest, ours.ok_or_else(|| Trouble::new("no share is for this node"))?))
    }
}

/// For how long each number of threads works.
const TRIAL: Duration = Duration::from_millis(400);

fn token_rate(config: &Path) -> Outcome<(f64, f64)> {
    let hsm = Config::load(config)?.hsm;
    let module = Pkcs11::new(&hsm.module)?;
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slots = module.get_slots_with_initialized_token()?;
    let ours = |slot: &cryptoki::slot::Slot| {
        module.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == hsm.token)
    };
    let Some(slot) = slots.into_iter().find(ours) else { give_up!("the token {:?} is not there", hsm.token) };
    let anchor = module.open_ro_session(slot)?;
    anchor.login(UserType::User, Some(&hsm.pin.read(&hsm.token)?))?;
    let (mut best, mut cost) = (0.0_f64, 0.0);
    for threads in [1_usize, 2, 4] {
        let sessions = (0..threads).map(|_| Ok(module.open_ro_session(slot)?)).collect::<Outcome<Vec<_>>>()?;
        let (start, before) = (Instant::now(), processor_time()?);
        let done: Vec<Outcome<u64>> = std::thread::scope(|scope| {
            let working: Vec<_> = sessions.into_iter().map(|session| scope.spawn(move || decrypt(&session))).collect();
            working
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(Trouble::new("a thread panicked"))))
                .collect()
        });
        let done: u64 = done.into_iter().sum::<Outcome<u64>>()?;
        best = best.max(done as f64 / start.elapsed().as_secs_f64());
        if threads == 1 {
            cost = (processor_time()? - before).as_secs_f64() * 1e6 / done as f64;
        }
    }
    Ok((best, cost))
}

/// The processor time of this process so far.
fn processor_time() -> Outcome<Duration> {
    Ok(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).try_into()?)
}

/// Decrypts a record of 64 bytes with as much additional data as a share has, again and again.
fn decrypt(session: &Session) -> Outcome<u64> {
    let wanted = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(b"eds-kek".to_vec())];
    let Some(kek) = session.find_objects(&wanted)?.pop() else { give_up!("the token has no KEK") };
    let (data, mut nonce) = ([5; 153], [6; 12]);
    let sealed = session.encrypt(&Mechanism::AesGcm(GcmParams::new(&mut nonce, &data, 128.into())?), kek, &[7; 64])?;
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < TRIAL {
        let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, &data, 128.into())?);
        if session.decrypt(&mechanism, kek, &sealed)? != [7; 64] {
            give_up!("the token does not decrypt what it encrypted");
        }
        done += 1;
    }
    Ok(done)
}
