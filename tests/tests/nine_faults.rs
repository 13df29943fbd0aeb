//! The nine faults of the original, and that this system is free of each: on real key servers, with the real client.
//!
//! | | the original | here |
//! |---|---|---|
//! | 1 | shares modulo 65521 changed some keys | every secret is rebuilt as it was |
//! | 2 | a damaged share gave a wrong key and no error | the right key, and the server's name |
//! | 3 | one server chose threshold, cipher and IV | one lying server chooses nothing |
//! | 4 | altered files decrypted to noise with success | they are refused, and nothing comes out |
//! | 5 | one IV for all files of a key | no two files of a key have a block in common |
//! | 6 | the threshold was fixed | it is the user's choice |
//! | 7 | servers were asked one after the other | a slow one delays nobody |
//! | 8 | a batch was let through by its first entry | each key is decided on its own |
//! | 9 | shares lay in the database in clear | they do not |

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use eds::{
    cluster::Trust,
    config::Config,
    keystore::{Evidence, HttpTransport, Identity, Keystore, Latencies, NewKey, NodeFault, Terms, Transport, Want},
};
use eds_core::{
    api::FetchAnswer,
    directory::Node,
    ids::{Epoch, KeyId, ShareIndex, Threshold},
    manifest::{MAX_BYTES, Manifest},
    sharing::{FileSecret, Share, ShareRecord, SplitParams, check_digest, split},
};
use eds_tests::{
    Outcome, Trouble,
    cluster::{Cluster, Plan},
    sample, shares,
    user::{User, exit},
};
use rand_core::UnwrapErr;

/// A user with a file, of a cluster of three.
fn alice(cluster: &Cluster) -> Outcome<User> {
    let alice = cluster.user("alice")?;
    fs::write(alice.home().join("plain"), sample::bytes("image", 200_000))?;
    Ok(alice)
}

#[test]
fn fault_1_every_secret_is_rebuilt_as_it_was() -> Outcome {
    let cluster = Cluster::of_three()?;
    let nodes = shares::nodes(&alice(&cluster)?)?;
    // Words of 16 bits that the original's arithmetic could not hold, in every place where the field of this one has room.
    let secrets = (0xfff1_u16..=0xffff).map(|word| {
        let mut bytes = [0; 32];
        bytes.chunks_exact_mut(2).for_each(|place| place.copy_from_slice(&word.to_be_bytes()));
        bytes[0] = 0x7f;
        bytes
    });
    let secrets: Vec<[u8; 32]> = secrets.collect();
    let new = secrets.iter().map(|bytes| {
        let id = KeyId::random(&mut UnwrapErr(getrandom::SysRng));
        Ok(NewKey { id, secret: FileSecret::from_bytes(bytes).map_err(|error| Trouble::new(error.to_string()))? })
    });
    let new: Vec<NewKey> = new.collect::<Outcome<_>>()?;
    let prepared = nodes.keystore().prepare(&new, Terms::default()).map_err(|error| Trouble::new(error.to_string()))?;
    nodes.register(prepared)?;
    let wants: Vec<Want> = new.iter().map(|key| Want { key: key.id, evidence: Evidence::Agreement }).collect();
    let (fetched, _) = nodes.fetch_all(&wants)?;
    assert_eq!(fetched.len(), 15);
    for (fetched, secret) in fetched.iter().zip(&secrets) {
        assert_eq!(*fetched.secret.to_bytes(), *secret);
    }
    // And random ones: of so many, the original would have lost three.
    shares::fetch_all(&nodes, &shares::register_many(&nodes, 1_000)?)
}

#[test]
fn fault_2_a_damaged_share_gives_the_right_key_and_the_name_of_its_server() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 3, floor: 2, relayed: &[3] })?;
    let alice = alice(&cluster)?;
    alice.eds(["encrypt", "plain", "-o", "sealed"])?.success()?;
    cluster.node(2)?.damage()?;
    // With one of the good servers slow, the damaged share is looked at whichever two are asked first.
    cluster.node(3)?.relay()?.delay_answers(Duration::from_millis(600));
    let run = alice.eds(["decrypt", "sealed", "-o", "back"])?.success()?;
    assert!(run.stderr.contains("node 2") && !run.stderr.contains("node 1"), "{}", run.stderr);
    assert_eq!(fs::read(alice.home().join("back"))?, sample::bytes("image", 200_000));
    Ok(())
}

/// Carries calls to real servers, one of which then says that one share is enough.
struct OneLies {
    real: HttpTransport,
    liar: ShareIndex,
    lies: Arc<Mutex<usize>>,
}

impl Transport for OneLies {
    async fn call(&self, node: &Node, call: eds::keystore::Call) -> Result<hyper::body::Bytes, NodeFault> {
        let fetches = call.path == "/v1/fetch";
        let answer = self.real.call(node, call).await?;
        if !fetches || node.number != self.liar {
            return Ok(answer);
        }
        let mut told: FetchAnswer = serde_json::from_slice(&answer).expect("an answer");
        for result in &mut told.results {
            let manifest = result.manifest.as_mut().expect("released");
            let mut lie = Manifest::decode(&manifest.0).expect("a manifest");
            lie.threshold = Threshold::new(1, lie.threshold.nodes()).expect("in range");
            lie.commitments.truncate(1);
            manifest.0 = lie.encode(&mut [0; MAX_BYTES]).expect("fits").to_vec();
            *self.lies.lock().expect("not poisoned") += 1;
        }
        Ok(hyper::body::Bytes::from(serde_json::to_vec(&told).expect("JSON")))
    }
}

#[test]
fn fault_3_one_lying_server_chooses_neither_key_nor_threshold() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = alice(&cluster)?;
    let (want, secret) = shares::register(&shares::nodes(&alice)?)?;
    let config = Config::load(Some(alice.config()))?;
    let identity = Identity::load(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for liar in 1..=3 {
        let liar = ShareIndex::new(liar).map_err(|error| Trouble::new(error.to_string()))?;
        for evidence in [want.evidence.clone(), Evidence::Agreement] {
            let lies = Arc::new(Mutex::new(0));
            let transport = OneLies { real: HttpTransport::new(&identity), liar, lies: Arc::clone(&lies) };
            let directory = Trust::load(&config.state)?.directory;
            let keystore = Keystore::new(directory, identity.registrant(), transport, Latencies::default());
            let want = Want { key: want.key, evidence };
            let mut fetched = runtime.block_on(keystore.fetch(std::slice::from_ref(&want)));
            let fetched = fetched
                .pop()
                .ok_or_else(|| Trouble::new("nothing"))?
                .map_err(|error| Trouble::new(error.to_string()))?;
            assert_eq!(*fetched.secret.input_key("test", want.key).as_bytes(), secret);
            assert_eq!(fetched.manifest.threshold.needed(), 2);
            let told = *lies.lock().map_err(|_| Trouble::new("poisoned"))?;
            let named: Vec<ShareIndex> = fetched.culprits.iter().map(|culprit| culprit.node).collect();
            let expected = if told > 0 { vec![liar] } else { Vec::new() };
            assert_eq!(named, expected);
            assert!(told > 0 || !matches!(want.evidence, Evidence::Agreement), "the liar was not asked");
        }
    }
    Ok(())
}

#[test]
fn fault_4_altered_files_are_refused_and_nothing_comes_out() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = alice(&cluster)?;
    alice.eds(["encrypt", "plain", "-o", "sealed"])?.success()?;
    let sealed = fs::read(alice.home().join("sealed"))?;
    let mut altered: Vec<Vec<u8>> = [0, 9, 30, sealed.len() / 2, sealed.len() - 1]
        .iter()
        .map(|place| {
            let mut bytes = sealed.clone();
            bytes[*place] ^= 1;
            bytes
        })
        .collect();
    altered.extend([20, sealed.len() / 2, sealed.len() - 1].map(|end| sealed[..end].to_vec()));
    altered.push([&sealed[..], b"more"].concat());
    for bytes in altered {
        fs::write(alice.home().join("altered"), bytes)?;
        let run = alice.eds(["decrypt", "altered", "-o", "out"])?;
        assert_ne!(run.code, Some(0), "{}", run.stderr);
        assert!(!alice.home().join("out").exists());
    }
    Ok(())
}

#[test]
fn fault_5_no_two_files_of_one_key_have_a_block_in_common() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = alice(&cluster)?;
    alice.eds(["key", "register", "/ward/many"])?.success()?;
    let blocks = |name: &str| -> Outcome<Vec<Vec<u8>>> {
        alice.eds(["encrypt", "plain", "--key", "/ward/many", "-o", name])?.success()?;
        alice.eds(["decrypt", name, "-o", &format!("{name}.back")])?.success()?;
        assert_eq!(fs::read(alice.home().join(format!("{name}.back")))?, sample::bytes("image", 200_000));
        // The header names the same key in both; what follows is salt, commitment and ciphertext.
        let sealed = fs::read(alice.home().join(name))?;
        let header = usize::from(u16::from_le_bytes([sealed[8], sealed[9]])) + 10;
        Ok(sealed[header..].chunks_exact(16).map(<[u8]>::to_vec).collect())
    };
    let (first, second) = (blocks("one")?, blocks("two")?);
    assert!(first.len() > 12_000);
    let first: std::collections::HashSet<Vec<u8>> = first.into_iter().collect();
    assert!(second.iter().all(|block| !first.contains(block)), "a block is the same in both files");
    Ok(())
}

#[test]
fn fault_6_the_threshold_is_the_users_choice() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let alice = alice(&cluster)?;
    alice.eds(["encrypt", "plain", "-m", "2", "-o", "two"])?.success()?;
    alice.eds(["encrypt", "plain", "-m", "3", "-o", "three"])?.success()?;
    alice.eds(["key", "register", "/ward/three", "-m", "3"])?.success()?;
    alice.eds(["encrypt", "plain", "--key", "/ward/three", "-o", "named"])?.success()?;
    cluster.node(1)?.stop()?;
    alice.eds(["decrypt", "two", "-o", "back"])?.success()?;
    for file in ["three", "named"] {
        alice.eds(["decrypt", file, "-o", "out"])?.refused(exit::UNAVAILABLE, &["node 1"])?;
    }
    Ok(())
}

#[test]
fn fault_7_a_slow_server_delays_nobody() -> Outcome {
    let mut cluster = Cluster::start(Plan { nodes: 3, floor: 2, relayed: &[1, 2, 3] })?;
    let alice = alice(&cluster)?;
    alice.eds(["key", "register", "/ward/slow"])?.success()?;
    for slow in 1..=3 {
        cluster.node(slow)?.relay()?.delay_answers(Duration::from_secs(15));
        let (sealed, back) = (format!("sealed-{slow}"), format!("back-{slow}"));
        let began = Instant::now();
        alice.eds(["encrypt", "plain", "--key", "/ward/slow", "-o", &sealed])?.success()?;
        alice.eds(["decrypt", &sealed, "-o", &back])?.success()?;
        assert!(began.elapsed() < Duration::from_secs(10), "node {slow} was waited for: {:?}", began.elapsed());
        cluster.node(slow)?.relay()?.delay_answers(Duration::ZERO);
    }
    Ok(())
}

#[test]
fn fault_8_each_key_of_a_batch_is_decided_on_its_own() -> Outcome {
    let cluster = Cluster::of_three()?;
    let (alice, bob) = (alice(&cluster)?, cluster.user("bob")?);
    let keys = shares::register_many(&shares::nodes(&alice)?, 5)?;
    let bob_name = bob.name()?;
    for position in [0, 2, 4] {
        let (entry, key) = (format!("{bob_name}:g"), keys[position].0.key.to_string());
        alice.eds(["key", "setacl", "-m", &entry, &key])?.success()?;
    }
    let config = Config::load(Some(bob.config()))?;
    let identity = Identity::load(&config)?;
    let keystore = Keystore::connect(Trust::load(&config.state)?.directory, &identity, Latencies::default());
    let wants: Vec<Want> = keys.iter().map(|(want, _)| want.clone()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fetched = runtime.block_on(keystore.fetch(&wants));
    let released: Vec<bool> = fetched.iter().map(Result::is_ok).collect();
    assert_eq!(released, [true, false, true, false, true]);
    Ok(())
}

#[test]
fn fault_9_no_share_lies_in_a_database_in_clear() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let alice = alice(&cluster)?;
    let nodes = shares::nodes(&alice)?;
    let (want, _) = shares::register(&nodes)?;
    let (fetched, _) = nodes.fetch_all(std::slice::from_ref(&want))?;
    let (manifest, secret) = (fetched[0].manifest.clone(), *fetched[0].secret.to_bytes());
    for node in cluster.nodes() {
        node.stop()?;
        let database = fs::read(node.database())?;
        assert!(
            database.windows(16).any(|window| window == want.key.as_bytes()),
            "the key is not in the file that was read"
        );
        let number = ShareIndex::new(node.number).map_err(|error| Trouble::new(error.to_string()))?;
        assert!(!holds(&database, &manifest, number), "node {} stores its share in clear", node.number);
        assert!(!database.windows(32).any(|window| window == secret), "node {} stores the secret", node.number);
    }
    // A share in clear would be found.
    let rng = &mut UnwrapErr(getrandom::SysRng);
    let numbers: Vec<ShareIndex> = manifest.shares.iter().map(|(number, _)| *number).collect();
    let params = SplitParams {
        key: manifest.key,
        cluster: manifest.cluster,
        directory_version: 1,
        epoch: Epoch::new(0),
        threshold: manifest.threshold,
        nodes: &numbers,
    };
    let (manifest, shares) =
        split(&FileSecret::random(rng), &params, rng).map_err(|error| Trouble::new(error.to_string()))?;
    let dump = [&[7; 1_000][..], shares[0].share.to_bytes().as_slice(), &[7; 1_000]].concat();
    assert!(holds(&dump, &manifest, numbers[0]), "the test finds nothing");
    Ok(())
}

/// Whether any place of these bytes is the share of this node.
fn holds(bytes: &[u8], manifest: &Manifest, number: ShareIndex) -> bool {
    bytes.windows(64).any(|window| {
        let window: &[u8; 64] = window.try_into().expect("64 bytes");
        let share = Share::from_bytes(number, window);
        check_digest(manifest, &ShareRecord { key: manifest.key, epoch: manifest.epoch, share }).is_ok()
    })
}
