//! What officers do with imaging devices: enrol them, list them, change whose their images are, revoke them. While the node serves, or while it does not.
//!
//! An enrolment says which public key signs for a device, and whose its images are. The courier that delivers an image, and
//! the device itself, say nothing of that. A revoked device stays in the list for ever, and its id is never enrolled again.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use eds_core::{
    api::access::{
        self, PermissionsText,
        typed::{Namespace, TypedError, apply_mode, subject_of_certificate},
    },
    directory,
    ids::DeviceId,
    manifest::Point,
    names,
    permissions::Permissions,
};
use p256::pkcs8::DecodePublicKey;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};

use crate::{
    audit::{Operation, console::ConsoleError, export::time::rfc3339},
    authn::certificate::Certificate,
    config::Config,
    hex,
    hsm::HsmError,
    node::{
        Clock, SystemClock,
        devices::{DeviceGuard, SealError},
    },
    policy::{AccessList, enrolment::Enrolment, wire},
    rotation::{Office, RotationError},
    store::{StoreError, StoredDevice},
};

mod change;

pub use change::{Changes, change};

/// The longest name of a device, in bytes.
const MAX_NAME: usize = 200;

/// A device to enrol, as officers type it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrollee {
    /// Its id, which is in the device too.
    pub device: DeviceId,
    /// The PEM file of its public key.
    pub key: PathBuf,
    /// What people call it.
    pub name: String,
    /// Who owns its images: a subject, or `@FILE` with a certificate.
    pub owner: String,
    /// The certificate of the authority that vouches for names in slash form.
    pub ca: Option<PathBuf>,
    /// The group of its images.
    pub group: Option<String>,
    /// The permissions of owner, group and others, as a change of the usual ones.
    pub mode: Option<String>,
    /// Further people and groups: `PRINCIPAL:perms`.
    pub entries: Vec<String>,
}

/// An act of officers on a device that was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The file of the public key.
    #[error("{}: cannot be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no public key of the right kind.
    #[error(
        "{}: holds no public key on P-256\nhint: the PEM of a SubjectPublicKeyInfo is wanted, as `openssl pkey -pubout` writes it; \
         never bring the device's private key here", file.display()
    )]
    Key {
        /// The file.
        file: PathBuf,
    },
    /// The file of a certificate.
    #[error("{}: holds no certificate in PEM", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
    },
    /// A name that nobody can tell apart.
    #[error("a device needs a name for people, of 1 to {MAX_NAME} bytes without control characters")]
    Name,
    /// Owner, group, mode or entries.
    #[error("{source}\nhint: {}", .source.hint())]
    Typed {
        /// What is wrong with which text.
        source: TypedError,
    },
    /// They make no access list.
    #[error("the access list of its images: {0}")]
    Access(String),
    /// A device of that id.
    #[error(
        "device {0} is enrolled already, or was revoked; nothing was changed\nhint: `eds-keystored device list` shows it; another owner \
         is `device change`, another key a new id, which the device must be given too"
    )]
    Exists(DeviceId),
    /// No device of that id.
    #[error("device {0} is not enrolled on this node\nhint: `eds-keystored device list` shows those that are")]
    Missing(DeviceId),
    /// Its enrolment is not as officers wrote it.
    #[error(
        "device {0}: its enrolment was altered in the database, and nothing of the device is taken\nhint: who could write the \
         database? The audit log has the SHA-256 of each enrolment; a backup has its bytes"
    )]
    Altered(DeviceId),
    /// It was revoked.
    #[error(
        "device {0} was revoked: nothing of it is taken any more, and nothing was changed\nhint: it needs a new key and a new id"
    )]
    Revoked(DeviceId),
    /// Somebody else changed it meanwhile.
    #[error("device {0} was changed meanwhile\nhint: try again")]
    Changed(DeviceId),
    /// The enrolment is longer than can be stored, or the token failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Token, database and identity do not belong together, or cannot be opened.
    #[error(transparent)]
    Office(#[from] RotationError),
    /// The audit log does not tell of it.
    #[error(transparent)]
    Unlogged(#[from] ConsoleError),
}

impl From<TypedError> for DeviceError {
    fn from(source: TypedError) -> Self {
        Self::Typed { source }
    }
}

impl DeviceError {
    /// Whether nothing was done because nothing may be done, rather than because something failed.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Exists(_) | Self::Missing(_) | Self::Altered(_) | Self::Revoked(_) | Self::Changed(_))
    }
}

/// Enrols a device. Returns what was done, in words.
///
/// # Errors
/// [`DeviceError`]; nothing was changed then.
pub fn enroll(config: &Config, wish: &Enrollee) -> Result<String, DeviceError> {
    let key = public_key(&wish.key)?;
    let (device, name) = (wish.device, usable_name(&wish.name)?);
    let access = access_list(wish)?;
    let enrolment = Enrolment { key, name, access, since: SystemClock.now(), revoked: None };

    let office = Office::open(config)?;
    let console = office.console(config);
    let act = console.begin(Operation::DEVICE_ENROLL, format_args!("device {device}, key {}", fingerprint(&key)))?;
    let stored = act.ends(enroll_sealed(&office, device, &enrolment), DeviceError::is_refusal, |stored| {
        format!("device {device}, key {}, enrolment {}", fingerprint(&key), digest(stored))
    })?;
    let mut text = format!("device {device} is enrolled on node {}\n", office.node());
    let _ = writeln!(text, "    {}", told(&enrolment));
    let _ = writeln!(text, "    SHA-256 of the enrolment: {}", digest(&stored));
    text.push_str("next: the same on every other node; each one decides alone\n");
    Ok(text)
}

fn enroll_sealed(office: &Office, device: DeviceId, enrolment: &Enrolment) -> Result<StoredDevice, DeviceError> {
    let stored = guard(office).seal(device, enrolment)?;
    if office.store().enroll(&stored, SystemClock.now())? { Ok(stored) } else { Err(DeviceError::Exists(device)) }
}

/// Lists devices, one a line; and whether all enrolments are as officers wrote them.
///
/// # Errors
/// [`DeviceError`].
pub fn list(config: &Config) -> Result<(String, bool), DeviceError> {
    let office = Office::open(config)?;
    let (guard, mut text, mut sound) = (guard(&office), String::new(), true);
    for stored in office.store().devices()? {
        let line = match guard.open(&stored)? {
            Ok(enrolment) => told(&enrolment),
            Err(altered) => {
                sound = false;
                format!("ALTERED: {altered}; nothing of it is taken")
            }
        };
        let _ = writeln!(text, "{}\t{line}", stored.device);
    }
    Ok((text, sound))
}

/// Revokes a device, for ever. Returns what was done, in words. Doing it again changes nothing.
///
/// # Errors
/// [`DeviceError`]; nothing was changed then.
pub fn revoke(config: &Config, device: DeviceId) -> Result<String, DeviceError> {
    let office = Office::open(config)?;
    let console = office.console(config);
    let act = console.begin(Operation::DEVICE_REVOKE, format_args!("device {device}"))?;
    act.ends(revoke_sealed(&office, device), DeviceError::is_refusal, |stored| {
        format!("device {device}, enrolment {}", digest(stored))
    })?;
    Ok(format!(
        "device {device} is revoked on node {}: from the next request on, no image of it is taken here. Images taken before stay \
         as they are.\nnext: the same on the other nodes; it holds for the cluster when so few nodes are left that no quorum of \
         couriers can be reached\n",
        office.node()
    ))
}

fn revoke_sealed(office: &Office, device: DeviceId) -> Result<StoredDevice, DeviceError> {
    let (guard, store) = (guard(office), office.store());
    let seen = store.device(device)?.ok_or(DeviceError::Missing(device))?;
    let enrolment = guard.open(&seen)?.map_err(|_| DeviceError::Altered(device))?;
    if enrolment.revoked.is_some() {
        return Ok(seen);
    }
    let now = SystemClock.now();
    let new = guard.seal(device, &Enrolment { revoked: Some(now), ..enrolment })?;
    if store.change_device(&seen, &new, now)? { Ok(new) } else { Err(DeviceError::Changed(device)) }
}

fn guard(office: &Office) -> DeviceGuard {
    DeviceGuard::new(office.node(), Arc::clone(office.hsm()) as _)
}

fn public_key(file: &Path) -> Result<Point, DeviceError> {
    let read = fs::read_to_string(file).map_err(|source| DeviceError::Read { file: file.to_owned(), source })?;
    let key = p256::PublicKey::from_public_key_pem(&read).map_err(|_| DeviceError::Key { file: file.to_owned() })?;
    Ok(directory::compressed(&p256::ecdsa::VerifyingKey::from(key)))
}

/// A name for people, as it is stored.
fn usable_name(text: &str) -> Result<String, DeviceError> {
    let name = text.trim();
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(DeviceError::Name);
    }
    Ok(name.to_owned())
}

/// The access list of the keys that the device makes.
fn access_list(wish: &Enrollee) -> Result<AccessList, DeviceError> {
    let authority = Authority::read(wish.ca.as_deref())?;
    let list = access::AccessList {
        version: 0,
        owner: authority.owner(&wish.owner)?,
        group: wish.group.as_deref().map(Authority::group).transpose()?,
        owner_may: PermissionsText(Permissions::OWNER),
        group_may: PermissionsText(Permissions::NONE),
        others_may: PermissionsText(Permissions::NONE),
        entries: authority.entries(&wish.entries)?,
    };
    allowed(list, wish.mode.as_deref())
}

/// The list with a change of its permissions, if nodes would take it.
fn allowed(list: access::AccessList, mode: Option<&str>) -> Result<AccessList, DeviceError> {
    let list = match mode {
        Some(mode) => apply_mode(mode, list)?,
        None => list,
    };
    wire::asked(&list).map_err(DeviceError::Access)
}

/// Reads what officers type of people and groups; names in slash form are of one authority.
struct Authority(Namespace);

impl Authority {
    fn read(ca: Option<&Path>) -> Result<Self, DeviceError> {
        let authority = ca.map(|file| Ok::<_, DeviceError>(certificate(file)?.subject().as_der().to_vec()));
        Ok(Self(Namespace { authority: authority.transpose()? }))
    }

    fn owner(&self, text: &str) -> Result<access::Subject, DeviceError> {
        let Some(file) = text.strip_prefix('@') else { return Ok(self.0.subject(text)?) };
        let certificate = certificate(Path::new(file))?;
        Ok(subject_of_certificate(certificate.issuer().as_der(), certificate.subject().as_der()))
    }

    fn group(text: &str) -> Result<String, DeviceError> {
        Ok(names::group(text).ok_or_else(|| TypedError::Principal(text.to_owned()))?)
    }

    fn entries(&self, texts: &[String]) -> Result<Vec<access::Entry>, DeviceError> {
        Ok(texts.iter().map(|text| self.0.entry(text)).collect::<Result<_, _>>()?)
    }
}

fn certificate(file: &Path) -> Result<Certificate, DeviceError> {
    let wrong = || DeviceError::Certificate { file: file.to_owned() };
    let der = CertificateDer::from_pem_file(file).map_err(|_| wrong())?;
    Certificate::from_der(&der).map_err(|_| wrong())
}

/// An enrolment in a line.
fn told(enrolment: &Enrolment) -> String {
    let Enrolment { key, name, access, since, revoked } = enrolment;
    let state = match revoked {
        None => format!("enrolled {}", rfc3339(since.saturating_mul(1_000))),
        Some(at) => format!("REVOKED {}", rfc3339(at.saturating_mul(1_000))),
    };
    let shown = wire::shown(access);
    let mut text = format!(
        "{state}\t{}\tkey {}\towner {} (of {})\tgroup {}\t{}",
        name.escape_debug(),
        fingerprint(key),
        shown.owner.shown(),
        shown.owner.authority(),
        access.group.as_deref().unwrap_or("none"),
        access.base_permissions()
    );
    for entry in &shown.entries {
        let _ = write!(text, "\t{}:{}", entry.who.shown(), entry.may.0);
    }
    text
}

fn fingerprint(key: &Point) -> String {
    hex::encode(&directory::key_fingerprint(key))
}

fn digest(stored: &StoredDevice) -> String {
    hex::encode(&Sha256::digest(&stored.enrolment))
}
