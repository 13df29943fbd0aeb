//! What `eds-keystored audit` does: verify the log of a node, and export it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    checkpoint::Verifier,
    export::{
        sender::{Close, Cursor, Delivered, Receiver, client_config, deliver},
        syslog::Header,
    },
    verify::{Source, verify},
};
use crate::{config::Config, hsm::self_test::described, identity::Identity};

/// What to verify a log against, beside the checkpoints that the node kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    /// Files of checkpoints that witnesses kept.
    pub checkpoints: Vec<PathBuf>,
    /// Copies of the log's directory.
    pub copies: Vec<PathBuf>,
    /// The verifier key of the log; without it, the key in the node's identity file is believed.
    pub key: Option<String>,
}

/// Verifies the log of a node; returns what to print, and whether nothing was found.
///
/// # Errors
/// When there is no log, or a file cannot be read.
pub fn verify_log(config: &Config, evidence: &Evidence) -> Result<(String, bool), String> {
    let verifier = verifier(config, evidence.key.as_deref())?;
    let directory = &config.audit.path;
    let read =
        |path: &Path, source: std::io::Result<Source>| source.map_err(|error| format!("{}: {error}", path.display()));
    let mut sources = vec![read(directory, Source::own(directory))?];
    for file in &evidence.checkpoints {
        sources.push(read(file, Source::read(file))?);
    }
    let report = verify(directory, &verifier, &sources, &evidence.copies)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok((report.told(&verifier), report.findings.is_empty()))
}

fn verifier(config: &Config, key: Option<&str>) -> Result<Verifier, String> {
    match key {
        Some(key) => Verifier::from_vkey(key).ok_or_else(|| "--key: not a verifier key of type 0x02 over P-256".into()),
        None => {
            let identity = Identity::load(&config.identity).map_err(|error| described(&error))?;
            Verifier::new(&config.audit.origin(&identity.node), &identity.audit_key)
                .ok_or_else(|| format!("{}: the audit key is no point of P-256", config.identity.display()))
        }
    }
}

/// Where an export goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// `host:port` of the syslog receiver.
    pub to: String,
    /// Whose certificates the receiver may have.
    pub authorities: PathBuf,
    /// The node's certificate and key, for a receiver that wants one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How the receiver ends a connection.
    pub close: Close,
    /// The file that remembers what was delivered.
    pub cursor: PathBuf,
    /// Goes on as the log grows, until the process is ended.
    pub follow: bool,
}

/// How long an export waits before it looks for new entries, or tries a receiver again.
const PAUSE: Duration = Duration::from_secs(1);

/// Exports what was not delivered yet; returns how many entries there were.
///
/// # Errors
/// When the log, the cursor or the receiver cannot be used. With `follow`, an unreachable receiver is tried again.
pub fn export_log(config: &Config, export: &Export) -> Result<u64, String> {
    let identity = Identity::load(&config.identity).map_err(|error| described(&error))?;
    let pair = export.identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let tls = client_config(&export.authorities, pair).map_err(|error| described(&error))?;
    let receiver = Receiver { address: export.to.clone(), tls: Arc::new(tls), close: export.close };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let header = Header { host, process: std::process::id() };
    let mut cursor = Cursor::load(&export.cursor).map_err(|error| described(&error))?;
    let origin = config.audit.origin(&identity.node);
    let mut total = 0;
    loop {
        match deliver(&config.audit.path, &origin, &receiver, &header, &mut cursor) {
            Ok(Delivered { entries: 0, .. }) if export.follow => std::thread::sleep(PAUSE),
            Ok(Delivered { entries: 0, .. }) => return Ok(total),
            Ok(Delivered { entries, next }) => {
                tracing::info!(entries, next, "delivered");
                total += entries;
            }
            Err(error) if export.follow && error.may_pass() => {
                tracing::warn!(error = described(&error), "not delivered; it is tried again");
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(described(&error)),
        }
    }
}
