//! Signed heads of the log: C2SP checkpoints (c2sp.org/tlog-checkpoint) in C2SP signed notes (c2sp.org/signed-note).
//!
//! The signature is of type 0x02: ECDSA P-256 over SHA-256, ASN.1 DER, key id from the SubjectPublicKeyInfo. It is what
//! a token can make: the private key never leaves it ([`Signer`]). One extension line gives the time, in the words of
//! c2sp.org/tlog-cosignature: `time 1764000000`. Witnesses can add their own signature lines; those of keys that a
//! [`Verifier`] does not know are ignored, as the specification asks.

use std::fmt::Write as _;

use base64ct::{Base64, Encoding};
use eds_core::manifest::Point;
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use sha2::{Digest, Sha256};

use super::tree::Hash;

/// The longest note that is read, in bytes.
pub const MAX_NOTE: usize = 64 * 1024;

/// The head of a log at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Which log: a line of text without `+` and spaces, see [`origin`].
    pub origin: String,
    /// The number of entries.
    pub size: u64,
    /// The head of their tree.
    pub root: Hash,
    /// When it was signed, in seconds since 1970-01-01T00:00:00Z.
    pub time: u64,
}

/// The origin of a node's log, which is also the name of its key: `eds/<node id>`.
pub fn origin(node: &eds_core::ids::NodeId) -> String {
    format!("eds/{node}")
}

/// The origin of the log of one process of several that serve a node: `eds/<node id>/<process>`. Each writes a log of its
/// own; under one name they would look like a log that was forked.
pub fn origin_of_process(node: &eds_core::ids::NodeId, process: Option<&str>) -> String {
    match process {
        None => origin(node),
        Some(process) => format!("{}/{process}", origin(node)),
    }
}

/// A private ECDSA P-256 key that signs checkpoints, such as one in the token.
pub trait Signer: Send + Sync {
    /// The public half.
    fn public_key(&self) -> Point;

    /// Signs a SHA-256 digest: `r ‖ s`, each 32 bytes, big endian. May block.
    ///
    /// # Errors
    /// [`SignerError`] when the key could not be used.
    fn sign_digest(&self, digest: &[u8; 32]) -> Result<[u8; 64], SignerError>;
}

/// The key that signs checkpoints could not be used.
#[derive(Debug, thiserror::Error)]
#[error("the audit key could not sign: {0}")]
pub struct SignerError(pub String);

/// A note that is no checkpoint of this log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// It is not in the format.
    #[error("not a checkpoint in the form of a signed note")]
    Malformed,
    /// It is of another log.
    #[error("a checkpoint of another log")]
    Origin,
    /// No signature is by the key of the log.
    #[error("not signed by the audit key of the node")]
    Unsigned,
    /// The signature by the key of the log is wrong.
    #[error("the signature does not fit: the checkpoint was altered or is a forgery")]
    Signature,
}

impl Checkpoint {
    /// The signed text.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\ntime {}\n", self.origin, self.size, Base64::encode_string(&self.root), self.time)
    }

    /// Signs the checkpoint: the text, an empty line and the signature line.
    ///
    /// # Errors
    /// [`SignerError`], also when the signer returns bytes that are no signature by its key.
    pub fn sign<S: Signer + ?Sized>(&self, signer: &S) -> Result<String, SignerError> {
        let wrong = || SignerError("it returned a signature that does not fit its public key".to_owned());
        let verifier = Verifier::new(&self.origin, &signer.public_key()).ok_or_else(wrong)?;
        let mut note = self.text();
        let digest: Hash = Sha256::digest(note.as_bytes()).into();
        let signature = Signature::from_slice(&signer.sign_digest(&digest)?).map_err(|_| wrong())?;
        verifier.key.verify_prehash(&digest, &signature).map_err(|_| wrong())?;
        let mut bytes = verifier.key_id.to_vec();
        bytes.extend_from_slice(signature.to_der().as_bytes());
        // Writing to a String cannot fail.
        let _ = write!(note, "\n\u{2014} {} {}\n", self.origin, Base64::encode_string(&bytes));
        Ok(note)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let time = decimal(lines.next()?.strip_prefix("time ")?)?;
        if lines.next().is_some() || !is_key_name(origin) {
            return None;
        }
        let root = Base64::decode_vec(root).ok()?.try_into().ok()?;
        Some(Self { origin: origin.to_owned(), size: decimal(size)?, root, time })
    }
}

/// The public key of a log, which checks its checkpoints.
#[derive(Clone, Debug)]
pub struct Verifier {
    origin: String,
    key: VerifyingKey,
    key_id: [u8; 4],
}

impl Verifier {
    /// A verifier of checkpoints with this origin by this key; `None` when one of them is not possible.
    pub fn new(origin: &str, key: &Point) -> Option<Self> {
        if !is_key_name(origin) {
            return None;
        }
        let key = VerifyingKey::from_sec1_bytes(&key.0).ok()?;
        let [a, b, c, d, ..] = <Hash>::from(Sha256::digest(public_key_info(&key)));
        Some(Self { origin: origin.to_owned(), key, key_id: [a, b, c, d] })
    }

    /// The verifier key in the text form of c2sp.org/signed-note: `<origin>+<key id>+<base64 of 0x02 ‖ SPKI>`.
    pub fn to_vkey(&self) -> String {
        let mut key = vec![ALGORITHM];
        key.extend_from_slice(&public_key_info(&self.key));
        let id = u32::from_be_bytes(self.key_id);
        format!("{}+{id:08x}+{}", self.origin, Base64::encode_string(&key))
    }

    /// Reads the text form of a verifier key; `None` when it is not one of type 0x02 over P-256.
    pub fn from_vkey(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '+');
        let (origin, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let key = Base64::decode_vec(key).ok()?;
        let info = key.strip_prefix(&[ALGORITHM])?;
        let point = info.strip_prefix(&PUBLIC_KEY_INFO)?;
        let key = VerifyingKey::from_sec1_bytes(point).ok()?;
        let verifier = Self::new(origin, &eds_core::directory::compressed(&key))?;
        (verifier.to_vkey() == text && id.len() == 8).then_some(verifier)
    }

    /// The origin of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Reads a note and checks that it is a checkpoint of this log, signed by its key.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let (checkpoint, text, signatures) = split(note)?;
        if checkpoint.origin != self.origin {
            return Err(NoteError::Origin);
        }
        let digest = Sha256::digest(text.as_bytes());
        let mut signed = false;
        for (name, id, signature) in signatures {
            if name != self.origin || id != self.key_id {
                continue;
            }
            let signature = Signature::from_der(&signature).map_err(|_| NoteError::Signature)?;
            self.key.verify_prehash(&digest, &signature).map_err(|_| NoteError::Signature)?;
            signed = true;
        }
        if signed { Ok(checkpoint) } else { Err(NoteError::Unsigned) }
    }
}

/// Reads a note without checking who signed it: for the node's own files, the contents of which are checked against the
/// log, and for display.
///
/// # Errors
/// [`NoteError::Malformed`].
pub fn danger_read_unverified(note: &str) -> Result<Checkpoint, NoteError> {
    split(note).map(|(checkpoint, ..)| checkpoint)
}

type SignatureLine<'a> = (&'a str, [u8; 4], Vec<u8>);

fn split(note: &str) -> Result<(Checkpoint, &str, Vec<SignatureLine<'_>>), NoteError> {
    if note.len() > MAX_NOTE || note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Malformed);
    }
    let middle = note.rfind("\n\n").ok_or(NoteError::Malformed)? + 1;
    let (text, signatures) = note.split_at_checked(middle).ok_or(NoteError::Malformed)?;
    let checkpoint = Checkpoint::parse(text).ok_or(NoteError::Malformed)?;
    let lines = signatures.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
    let lines = lines.ok_or(NoteError::Malformed)?.split('\n');
    let signatures = lines.map(signature_line).collect::<Option<_>>().ok_or(NoteError::Malformed)?;
    Ok((checkpoint, text, signatures))
}

fn signature_line(line: &str) -> Option<SignatureLine<'_>> {
    let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = Base64::decode_vec(signature).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    is_key_name(name).then(|| (name, *id, signature.to_vec()))
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c == '+' || c.is_whitespace() || c.is_control())
}

/// A decimal number without leading zeroes.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The DER SubjectPublicKeyInfo of a P-256 key (RFC 5480).
fn public_key_info(key: &VerifyingKey) -> Vec<u8> {
    let mut info = PUBLIC_KEY_INFO.to_vec();
    info.extend_from_slice(key.to_sec1_point(false).as_bytes());
    info
}

/// The signature type of c2sp.org/signed-note for ECDSA.
const ALGORITHM: u8 = 0x02;

/// What stands before the 65 bytes of an uncompressed P-256 point in its SubjectPublicKeyInfo.
const PUBLIC_KEY_INFO: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

#[cfg(test)]
mod tests;
