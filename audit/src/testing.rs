//! For tests: a log in a directory of its own, entries to fill it with, and a signer in memory.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use eds_core::{ids::KeyId, manifest::Point};
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};

use crate::{
    checkpoint::{Signer, SignerError, Verifier},
    entry::{Decision, Operation, Outcome, Proof, RequestId, Who},
    log::{Log, OpenError, Opened, Options, Reader, Receipt, Record, segment},
};

/// The origin of the logs.
pub const ORIGIN: &str = "eds/c/n";

/// A signing key in memory.
pub struct MemorySigner(SigningKey);

impl MemorySigner {
    /// The key of this number, which is not 0.
    pub fn new(seed: u8) -> Self {
        Self(SigningKey::from_slice(&[seed; 32]).expect("a scalar"))
    }

    /// What checks its signatures.
    pub fn verifier(&self, origin: &str) -> Verifier {
        Verifier::new(origin, &self.public_key()).expect("a key and a name")
    }
}

impl Signer for MemorySigner {
    fn public_key(&self) -> Point {
        eds_core::directory::compressed(self.0.verifying_key())
    }

    fn sign_digest(&self, digest: &[u8; 32]) -> Result<[u8; 64], SignerError> {
        let signature: Signature = self.0.sign_prehash(digest).map_err(|e| SignerError(e.to_string()))?;
        Ok(signature.to_bytes().into())
    }
}

/// A decision with every field in use.
pub fn sample(number: u64) -> Decision {
    Decision {
        time: 1_764_000_000_000 + number,
        request: RequestId([7; 16]),
        operation: Operation::FETCH,
        outcome: if number % 3 == 2 { Outcome::Refused("no rule allows it".to_owned()) } else { Outcome::Allowed },
        rule: "owner".to_owned(),
        who: Who {
            proof: Proof::Certificate,
            display: "/C=CH/O=Ward/CN=Dr Jones".to_owned(),
            subject: Some([1; 32]),
            evidence: "certificate 4f2a by /C=CH/O=CA".to_owned(),
        },
        peer: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        keys: vec![KeyId::from_bytes(u128::from(number).to_be_bytes())],
        access_list: None,
        detail: String::new(),
    }
}

/// A log in a directory of its own.
pub struct Place {
    /// The directory around it.
    pub directory: tempfile::TempDir,
    /// How it is opened.
    pub options: Options,
}

impl Place {
    /// An empty log.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        // In memory where there is such a place: these tests sync thousands of times.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self::in_directory(directory.expect("a directory"), "audit")
    }

    /// An empty log, in a directory of this name.
    pub fn under(name: &str) -> Self {
        Self::in_directory(tempfile::tempdir().expect("a directory"), name)
    }

    fn in_directory(directory: tempfile::TempDir, name: &str) -> Self {
        let mut options = Options::new(directory.path().join(name), ORIGIN);
        options.verifier = Some(MemorySigner::new(1).verifier(ORIGIN));
        Log::create(&options).expect("made");
        Self { directory, options }
    }

    /// Opens it for writing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self) -> Result<(Log, Opened), OpenError> {
        Log::open(&self.options, 5_000)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.options.directory
    }

    /// Appends samples until there are `size` entries.
    pub fn fill(&self, size: u64) {
        let (log, opened) = self.open().expect("opens");
        fill(&log, opened.entries, size);
    }

    /// Its segments, in order.
    pub fn segments(&self) -> Vec<PathBuf> {
        segment::list(self.path()).expect("listed").into_iter().map(|(_, path)| path).collect()
    }

    /// Its entries.
    pub fn records(&self) -> Vec<Record> {
        let mut reader = Reader::open(self.path(), Some(ORIGIN)).expect("opens");
        std::iter::from_fn(|| reader.read(|_| ()).expect("whole")).collect()
    }
}

/// Appends the samples from one number to before another.
pub fn fill(log: &Log, from: u64, size: u64) {
    for number in from..size {
        let receipt = log.append_blocking(vec![sample(number)]).expect("appended");
        assert_eq!(receipt, Receipt { first: number, count: 1 });
    }
}
