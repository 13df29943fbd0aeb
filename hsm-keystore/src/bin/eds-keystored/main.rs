//! `eds-keystored`: makes a node, checks it, runs it, backs it up.
//!
//! Data goes to standard output, the log to standard error (`EDS_LOG` chooses what, `EDS_LOG_FORMAT` its form). Exit status:
//! 0 done, 1 refused or failed, 2 wrong use, 3 the token refused the PIN (a supervisor must not try again: each start uses
//! up a try), 4 the token was lost while serving and only a restart can help.
#![forbid(unsafe_code)]

mod serve;

use std::{
    fs,
    io::{self, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{ArgGroup, CommandFactory as _, Parser, Subcommand};
use eds_core::ids::DeviceId;
use eds_keystore::{
    audit::{
        command::{Evidence, Export, export_log, verify_log},
        export::sender::Close,
    },
    authn::{Authenticator, setup},
    ceremony,
    config::{self, Config, check::Severity},
    devices::{self, Changes, Enrollee},
    hex,
    hsm::{
        command,
        pin::PinSource,
        self_test::{Check, described},
    },
    logging::{self, Form},
    node::{SystemClock, startup},
    recovery, rotation,
    server::tls,
    store::backup::Contents,
};

use self::serve::serve;

/// The EDS key server.
#[derive(Parser)]
#[command(name = "eds-keystored", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the keys of a new node in its token, its database and its identity file, and prints what was made.
    Init {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Looks at the configuration and at every file that it names, and prints all that is wrong, with line and hint. Needs
    /// no token and changes nothing. Exit status: 0 no errors, 1 errors (with --strict: or warnings), 2 wrong use.
    CheckConfig {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Warnings count as errors.
        #[arg(long)]
        strict: bool,
    },
    /// Checks configuration, token, database and directory as at a start, and prints each check.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Prepares the token, makes its keys, checks it and shows it.
    Hsm {
        #[command(subcommand)]
        command: HsmCommand,
    },
    /// Enrols, lists, changes and revokes imaging devices; works while the node runs.
    Device {
        #[command(subcommand)]
        command: DeviceCommand,
    },
    /// Verifies or exports the audit log; works while the node runs.
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Writes a backup of the database to a new file; the node may serve meanwhile.
    Backup {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// The new file.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Makes the database, which must not exist, from a backup of this node.
    Restore {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// The backup.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
    /// Runs the node, if every check holds.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// For packagers: writes the manual pages of this program and its commands.
    Man {
        /// Where to write the pages, one file for each command.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

#[derive(Subcommand)]
enum HsmCommand {
    /// Initialises a new token with the label and user PIN of the configuration. An initialised one is never touched.
    Init {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Where the security officer's PIN comes from: file:/PATH, credential:NAME or prompt.
        #[arg(long, value_name = "SOURCE", default_value = "prompt")]
        so_pin_source: String,
    },
    /// Makes the keys of a new node in its token, its database and its identity file, as `init` does.
    Keygen {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Does every operation that a node needs, the wrong way too, and looks at the keys; prints each check.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Shows the token, its suite and its keys with fingerprints and attributes; and every KEK with its state, its uses and
    /// the number of records that name it.
    Status {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Makes a KEK for new shares, while the node may serve; the one of before opens what it wrapped.
    Rotate {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Wraps what older KEKs wrapped anew under the active one, while the node may serve. Can be ended and begun again.
    Rewrap {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// How many records at a time.
        #[arg(long, value_name = "NUMBER", default_value = "500")]
        batch: NonZeroUsize,
    },
    /// Retires a KEK that no record names any more.
    Retire {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// The id of the KEK, as `hsm status` shows it.
        kek: String,
        /// Removes its key from the token too, for ever: backups from before the re-wrapping are worth nothing then.
        #[arg(long)]
        destroy: bool,
    },
}

#[derive(Subcommand)]
enum DeviceCommand {
    /// Enrols a device: from now on this node takes the keys of images that it makes. The same is done on every node.
    Enroll {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// The id of the device, as it is in the device itself; `uuidgen` makes one. Never that of another device, enrolled or
        /// revoked.
        #[arg(value_name = "DEVICE")]
        device: DeviceId,
        /// The public key that the device signs with: a PEM file, ECDSA on P-256.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// What people call the device.
        #[arg(long, value_name = "TEXT")]
        name: String,
        /// Who owns its images: /C=CH/O=Ward/CN=Dr Jones, @FILE with a certificate, or https://issuer#subject of a token.
        #[arg(long, value_name = "SUBJECT")]
        owner: String,
        /// The certificate of the authority that vouches for names in slash form.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// The group of its images.
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// What owner, group and others may do, as `eds key chmod` has it, such as g+lg [default: the owner everything, nobody
        /// else anything].
        #[arg(long, value_name = "MODE", allow_hyphen_values = true)]
        mode: Option<String>,
        /// Who else may do what with its images; may be given several times.
        #[arg(long = "entry", value_name = "PRINCIPAL:perms")]
        entries: Vec<String>,
    },
    /// Lists every device that was ever enrolled, one a line. Exit status 1 when an enrolment was altered.
    List {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Changes whose the images of a device are, for images registered from now on; what is not named stays. The same is done
    /// on every node. Images of before are their owners' to change.
    #[command(group = ArgGroup::new("what").required(true).multiple(true))]
    Change {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// The id of the device.
        #[arg(value_name = "DEVICE")]
        device: DeviceId,
        /// What people call the device.
        #[arg(long, value_name = "TEXT", group = "what")]
        name: Option<String>,
        /// Who owns its images: /C=CH/O=Ward/CN=Dr Jones, @FILE with a certificate, or https://issuer#subject of a token.
        #[arg(long, value_name = "SUBJECT", group = "what")]
        owner: Option<String>,
        /// The certificate of the authority that vouches for names in slash form.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// The group of its images.
        #[arg(long, value_name = "GROUP", group = "what", conflicts_with = "no_group")]
        group: Option<String>,
        /// Its images have no group.
        #[arg(long, group = "what")]
        no_group: bool,
        /// What owner, group and others may do, as a change of what they may now, such as g-g.
        #[arg(long, value_name = "MODE", group = "what", allow_hyphen_values = true)]
        mode: Option<String>,
        /// Who else may do what with its images, in place of those who may now; may be given several times.
        #[arg(long = "entry", value_name = "PRINCIPAL:perms", group = "what", conflicts_with = "no_entries")]
        entries: Vec<String>,
        /// Nobody else may do anything.
        #[arg(long, group = "what")]
        no_entries: bool,
    },
    /// Revokes a device, for ever: this node takes no image of it any more. What it took before stays.
    Revoke {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// The id of the device.
        #[arg(value_name = "DEVICE")]
        device: DeviceId,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Makes the log of a further process of a node that exists: several processes may serve one node on PostgreSQL.
    Create {
        /// The configuration file of that process.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Finds any entry that was changed, dropped, reordered or forked, and names the first. Exit status 1 when there is
    /// one.
    Verify {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// Checkpoints that a witness kept; may be given more than once.
        #[arg(long = "checkpoints", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// A copy of the log's directory; may be given more than once.
        #[arg(long = "copy", value_name = "DIRECTORY")]
        copies: Vec<PathBuf>,
        /// The verifier key of the log, kept elsewhere than on the node.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Sends DICOM audit messages by syslog over TLS, from where the last export ended.
    Export {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
        /// The syslog receiver.
        #[arg(long, value_name = "HOST:PORT")]
        to: String,
        /// The authorities of the receiver's certificate (PEM).
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,
        /// This node's certificate for the receiver (PEM).
        #[arg(long, value_name = "FILE", requires = "key")]
        certificate: Option<PathBuf>,
        /// The key of that certificate (PEM).
        #[arg(long, value_name = "FILE", requires = "certificate")]
        key: Option<PathBuf>,
        /// The file that remembers what was delivered.
        #[arg(long, value_name = "FILE")]
        cursor: PathBuf,
        /// The receiver closes connections without TLS close_notify, as rsyslog's gtls driver does.
        #[arg(long)]
        plain_close: bool,
        /// Goes on as the log grows.
        #[arg(long)]
        follow: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let form = logging::start(is_service(&arguments.command));
    let done: Result<(), Failure> = match &arguments.command {
        Command::Init { config } => load(config).and_then(|config| init(&config)).map_err(Failure::from),
        Command::CheckConfig { config, strict } => check_config(config, *strict).map_err(Failure::from),
        Command::Check { config } => load(config).and_then(|config| check(&config)).map_err(Failure::from),
        Command::Hsm { command } => hsm(command).map_err(Failure::from),
        Command::Device { command } => device(command).map_err(Failure::from),
        Command::Audit { command } => audit(command).map_err(Failure::from),
        Command::Backup { config, to } => load(config).and_then(|config| back_up(&config, to)).map_err(Failure::from),
        Command::Restore { config, from } => {
            load(config).and_then(|config| restore(&config, from)).map_err(Failure::from)
        }
        Command::Serve { config } => load(config).map_err(Failure::from).and_then(|config| serve(&config)),
        Command::Man { directory } => write_pages(directory).map_err(Failure::from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match form {
                Form::Text => eprintln!("eds-keystored: {}", failure.reason),
                Form::Json => tracing::error!(status = failure.status, reason = failure.reason, "eds-keystored ends"),
            }
            ExitCode::from(failure.status)
        }
    }
}

/// Whether the command goes on until it is ended, beside nobody.
fn is_service(command: &Command) -> bool {
    matches!(command, Command::Serve { .. } | Command::Audit { command: AuditCommand::Export { follow: true, .. } })
}

/// Why the program ends, and with which status.
struct Failure {
    status: u8,
    reason: String,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { status: 1, reason }
    }
}

/// The configuration of the Debian package.
const DEFAULT_CONFIG: &str = "/etc/eds-keystored/node.toml";
const PIN_REFUSED: u8 = 3;
const TOKEN_LOST: u8 = 4;

fn load(file: &std::path::Path) -> Result<Config, String> {
    Config::load(file).map_err(told)
}

fn write_pages(directory: &Path) -> Result<(), String> {
    let written =
        fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Arguments::command(), directory));
    written.map_err(|error| format!("{}: {error}", directory.display()))
}

fn init(config: &Config) -> Result<(), String> {
    let made = ceremony::make_node(config).map_err(told)?;
    let mut text = format!("token {:?}: {}\n", config.hsm.token, made.keys.token);
    made.keys.keys.iter().for_each(|key| text.push_str(&command::told(key)));
    if let Some(weaker) = made.keys.custody.weaker() {
        text.push_str(&format!("WEAKER than keys in a token: {weaker}\n"));
        made.keys.why_weaker.iter().for_each(|reason| text.push_str(&format!("    the token: {reason}\n")));
    }
    let identity = &made.identity;
    text.push_str(&format!("public transport key: {}\n", hex::encode(&identity.transport_key.0)));
    text.push_str(&format!("public audit key: {}\n", hex::encode(&identity.audit_key.0)));
    text.push_str(&format!("node {}: database {}\n", identity.node, config.store));
    text.push_str(&format!("identity file for `eds cluster add`: {}\n", config.identity.display()));
    text.push_str(&format!("ceremony record: {}\n", made.record.display()));
    print(&text)
}

fn hsm(command: &HsmCommand) -> Result<(), String> {
    match command {
        HsmCommand::Init { config, so_pin_source } => {
            let officer =
                PinSource::parse(so_pin_source).map_err(|reason| reason.replace("pin-source", "so-pin-source"))?;
            print(&command::init(&load(config)?.hsm, &officer).map_err(told)?)
        }
        HsmCommand::Keygen { config } => init(&load(config)?),
        HsmCommand::Check { config } => {
            let config = load(config)?;
            report(&command::check(&config.hsm, rotation::active_kek(&config)))
        }
        HsmCommand::Status { config } => print(&rotation::status(&load(config)?).map_err(told)?),
        HsmCommand::Rotate { config } => print(&rotation::rotate(&load(config)?).map_err(told)?),
        HsmCommand::Rewrap { config, batch } => rewrap(&load(config)?, *batch),
        HsmCommand::Retire { config, kek, destroy } => {
            print(&rotation::retire(&load(config)?, kek, *destroy).map_err(told)?)
        }
    }
}

fn check_config(file: &Path, strict: bool) -> Result<(), String> {
    let findings = config::check::check(file, Arc::new(SystemClock)).map_err(told)?;
    print(&findings.to_string())?;
    let (errors, warnings) = (findings.count(Severity::Error), findings.count(Severity::Warning));
    if errors > 0 || (strict && warnings > 0) {
        return Err(format!("{}: {errors} errors, {warnings} warnings", file.display()));
    }
    Ok(())
}

fn rewrap(config: &Config, batch: NonZeroUsize) -> Result<(), String> {
    let mut told_at = Instant::now();
    let done = rotation::rewrap(config, batch, &mut |progress| {
        if told_at.elapsed() >= Duration::from_secs(1) || progress.done == progress.total {
            told_at = Instant::now();
            eprintln!("{} of {} records", progress.done, progress.total);
        }
    });
    let done = done.map_err(told)?;
    print(&format!("{} records wrapped anew\n", done.done))?;
    if done.unreadable.is_empty() {
        return Ok(());
    }
    let named = done.unreadable.iter().take(20).map(|key| format!("  {key}\n")).collect::<String>();
    Err(format!(
        "{} records do not open, and stay as they are:\n{named}hint: their rows were altered, or their KEK left the token; \
         the other nodes have shares of these keys",
        done.unreadable.len()
    ))
}

fn check(config: &Config) -> Result<(), String> {
    let mut checks = startup::check(config);
    checks.push(tls_check(config));
    report(&checks)
}

fn report(checks: &[Check]) -> Result<(), String> {
    let mut failed = 0;
    let mut text = String::new();
    for check in checks {
        match &check.outcome {
            Ok(found) => text.push_str(&format!("ok    {}: {found}\n", check.what)),
            Err(reason) => {
                failed += 1;
                text.push_str(&format!("FAIL  {}: {reason}\n", check.what));
            }
        }
    }
    print(&text)?;
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} checks failed", checks.len())) }
}

fn audit(command: &AuditCommand) -> Result<(), String> {
    match command {
        AuditCommand::Create { config } => {
            let origin = ceremony::make_log(&load(config)?).map_err(told)?;
            print(&format!("log {origin}\n"))
        }
        AuditCommand::Verify { config, checkpoints, copies, key } => {
            let evidence = Evidence { checkpoints: checkpoints.clone(), copies: copies.clone(), key: key.clone() };
            let (text, good) = verify_log(&load(config)?, &evidence)?;
            print(&text)?;
            if good { Ok(()) } else { Err("the audit log is not as it was written".into()) }
        }
        AuditCommand::Export { config, to, ca, certificate, key, cursor, plain_close, follow } => {
            let export = Export {
                to: to.clone(),
                authorities: ca.clone(),
                identity: certificate.clone().zip(key.clone()),
                close: if *plain_close { Close::Plain } else { Close::Notified },
                cursor: cursor.clone(),
                follow: *follow,
            };
            let entries = export_log(&load(config)?, &export)?;
            print(&format!("{entries} entries delivered\n"))
        }
    }
}

fn device(command: &DeviceCommand) -> Result<(), String> {
    match command {
        DeviceCommand::Enroll { config, device, key, name, owner, ca, group, mode, entries } => {
            let enrollee = Enrollee {
                device: *device,
                key: key.clone(),
                name: name.clone(),
                owner: owner.clone(),
                ca: ca.clone(),
                group: group.clone(),
                mode: mode.clone(),
                entries: entries.clone(),
            };
            print(&devices::enroll(&load(config)?, &enrollee).map_err(told)?)
        }
        DeviceCommand::List { config } => {
            let (text, sound) = devices::list(&load(config)?).map_err(told)?;
            print(&text)?;
            if sound { Ok(()) } else { Err("an enrolment is not as officers wrote it".into()) }
        }
        DeviceCommand::Change { config, device, name, owner, ca, group, no_group, mode, entries, no_entries } => {
            let changes = Changes {
                name: name.clone(),
                owner: owner.clone(),
                ca: ca.clone(),
                group: (*no_group || group.is_some()).then(|| group.clone()),
                mode: mode.clone(),
                entries: (*no_entries || !entries.is_empty()).then(|| entries.clone()),
            };
            print(&devices::change(&load(config)?, *device, &changes).map_err(told)?)
        }
        DeviceCommand::Revoke { config, device } => print(&devices::revoke(&load(config)?, *device).map_err(told)?),
    }
}

fn back_up(config: &Config, to: &Path) -> Result<(), String> {
    let contents = recovery::back_up(config, to).map_err(told)?;
    print(&format!("backup {}: {}\n", to.display(), described_backup(&contents)))
}

fn restore(config: &Config, from: &Path) -> Result<(), String> {
    let contents = recovery::restore(config, from).map_err(told)?;
    print(&format!("database {} from {}: {}\n", config.store, from.display(), described_backup(&contents)))?;
    eprintln!(
        "warning: what changed on this node after {} is lost: keys registered since are not here, access that was \
         revoked since is granted here again, keys deleted since are back. Before this node serves, see \
         docs/keystore.md, \"After a restore\".",
        contents.last_change.as_deref().unwrap_or("the backup")
    );
    Ok(())
}

fn described_backup(contents: &Contents) -> String {
    format!(
        "node {}, {} keys in {} registrations, last change {}, schema {}\nSHA-256 {}",
        contents.origin.node,
        contents.keys,
        contents.registrations,
        contents.last_change.as_deref().unwrap_or("none"),
        contents.schema,
        hex::encode(&contents.digest)
    )
}

fn tls_check(config: &Config) -> Check {
    let outcome = tls_side(config).map(|_| "TLS 1.3, client certificates verified".to_owned());
    Check { what: "certificates", outcome }
}

/// What knows callers, and the server's side of TLS that asks it.
fn tls_side(config: &Config) -> Result<(Arc<Authenticator>, rustls::ServerConfig), String> {
    let authenticator = Arc::new(setup::authenticator(config, Arc::new(SystemClock)).map_err(told)?);
    let tls = tls::server_config(&config.tls, Arc::clone(&authenticator)).map_err(told)?;
    Ok((authenticator, tls))
}

fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
}

fn told(error: impl std::error::Error) -> String {
    described(&error)
}
