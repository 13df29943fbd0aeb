//! `eds-keystored`: makes a node, checks it, runs it, backs it up.
//!
//! Data goes to standard output, the log to standard error (`EDS_LOG` chooses what, as in `EDS_LOG=debug`). Exit status:
//! 0 done, 1 refused or failed, 2 wrong use, 3 the token refused the PIN (a supervisor must not try again: each start uses
//! up a try), 4 the token was lost while serving and only a restart can help.
#![forbid(unsafe_code)]

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use eds_keystore::{
    api,
    audit::{
        Operation,
        command::{Evidence, Export, export_log, verify_log},
        console::listener::Listener,
        export::sender::Close,
    },
    authn::{Authenticator, setup},
    ceremony,
    config::{self, Config, check::Severity},
    hex,
    hsm::{
        Health, command,
        pin::PinSource,
        self_test::{Check, described},
    },
    node::{Node, SystemClock, startup},
    recovery, rotation,
    server::{Server, metrics::MetricsServer, tls},
    store::backup::Contents,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getpid, kill_process, set_dumpable_behavior, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

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
    let filter = tracing_subscriber::EnvFilter::try_from_env("EDS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    let done: Result<(), Failure> = match &arguments.command {
        Command::Init { config } => load(config).and_then(|config| init(&config)).map_err(Failure::from),
        Command::CheckConfig { config, strict } => check_config(config, *strict).map_err(Failure::from),
        Command::Check { config } => load(config).and_then(|config| check(&config)).map_err(Failure::from),
        Command::Hsm { command } => hsm(command).map_err(Failure::from),
        Command::Audit { command } => audit(command).map_err(Failure::from),
        Command::Backup { config, to } => load(config).and_then(|config| back_up(&config, to)).map_err(Failure::from),
        Command::Restore { config, from } => {
            load(config).and_then(|config| restore(&config, from)).map_err(Failure::from)
        }
        Command::Serve { config } => load(config).map_err(Failure::from).and_then(|config| serve(&config)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("eds-keystored: {}", failure.reason);
            ExitCode::from(failure.status)
        }
    }
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

fn serve(config: &Config) -> Result<(), Failure> {
    keep_memory_private();
    if config.hsm.pin == PinSource::Prompt {
        let reason = "a server logs in again when its token comes back, and nobody may be there then: give it a file or a \
                      credential as pin-source";
        return Err(Failure::from(reason.to_owned()));
    }
    let started = startup::start(config);
    let status = if started.pin_refused { PIN_REFUSED } else { 1 };
    let tls = tls_side(config);
    let mut reasons: Vec<String> = started
        .checks
        .iter()
        .filter_map(|check| check.outcome.as_ref().err().map(|reason| format!("{}: {reason}", check.what)))
        .collect();
    let (node, (authenticator, tls)) = match (started.node, tls) {
        (Some(node), Ok(tls)) => (node, tls),
        (_, tls) => {
            reasons.extend(tls.err().map(|error| format!("certificates: {error}")));
            return Err(Failure { status, reason: format!("the node does not start:\n  {}", reasons.join("\n  ")) });
        }
    };
    let node = Arc::new(node);
    node.wrapping.count_start().map_err(told)?;
    tracing::info!(node = %node.id, number = %node.number, directory = node.directory.version, "every check holds");
    if let Some(weaker) = node.hsm.facts().custody.weaker() {
        tracing::warn!(weaker, "private keys are weaker than in a token, as hsm.weaker_wrapped_keys permits");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(told)?;
    let token = node.hsm.health();
    let limits = config.limits.clone().within_files();
    let served = runtime.block_on(async {
        let stop = stop_signal().map_err(told)?;
        tokio::spawn(keep_current(Arc::clone(&authenticator), signal(SignalKind::hangup()).map_err(told)?));
        let router = api::router(Arc::clone(&node), authenticator, &limits);
        let metrics = Arc::clone(&node.metrics);
        metrics.set_certificate_end(tls::certificate_end(&config.tls).unwrap_or(0));
        let server = Server::bind(config.listen, tls, router, limits, metrics)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
        let metrics = metrics_server(config.metrics, &node).await?;
        let (node, every) = (Arc::clone(&node), config.audit.checkpoint);
        node.log_life(Operation::START).await.map_err(told)?;
        print(&format!("listening on https://{}\n", server.address()))?;
        if let Some(metrics) = metrics {
            print(&format!("metrics at http://{}/metrics\n", metrics.address()))?;
            tokio::spawn(metrics.run());
        }
        let listener = Listener::bind(&config.audit.path, Arc::clone(&node.audit));
        let officers = tokio::spawn(listener.map_err(|error| format!("audit.path: no socket: {error}"))?.run());
        let following = tokio::spawn(Arc::clone(&node).follow_kek());
        let signing = tokio::spawn(Arc::clone(&node).sign_checkpoints(every));
        let lost = tokio::sync::OnceCell::new();
        let over = async {
            tokio::select! {
                () = stop => {}
                reason = token_lost(token) => {
                    let _ = lost.set(reason);
                }
            }
        };
        server.run(over).await;
        signing.abort();
        following.abort();
        officers.abort();
        let _ = officers.await;
        node.log_life(Operation::STOP).await.map_err(told)?;
        if let Some(reason) = lost.into_inner() {
            return Err(Failure { status: TOKEN_LOST, reason: format!("the token is lost: {reason}") });
        }
        node.sign_checkpoint().await;
        Ok(())
    });
    tracing::info!("stopped");
    if served.is_err() {
        end_in_any_case();
    }
    // A hanging token must not keep the process.
    runtime.shutdown_background();
    served
}

/// The listener for metrics, if the configuration has one.
async fn metrics_server(listen: Option<SocketAddr>, node: &Arc<Node>) -> Result<Option<MetricsServer>, String> {
    let Some(listen) = listen else { return Ok(None) };
    let router = api::metrics_router(Arc::clone(node));
    let bound = MetricsServer::bind(listen, router).await;
    bound.map(Some).map_err(|error| format!("metrics.listen: cannot listen on {listen}: {error}"))
}

/// Loads authorities, revocation lists and `vomsdir` again, from time to time and when told to by a SIGHUP.
async fn keep_current(authenticator: Arc<Authenticator>, mut hangup: Signal) {
    let mut pause = tokio::time::interval(RELOAD_AFTER);
    pause.tick().await;
    loop {
        tokio::select! {
            _ = pause.tick() => {}
            _ = hangup.recv() => {}
        }
        let authenticator = Arc::clone(&authenticator);
        match tokio::task::spawn_blocking(move || authenticator.reload()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(error = described(&error), "authorities could not be loaded again; the old ones stay")
            }
            Err(error) => tracing::error!(%error, "authorities could not be loaded again; the old ones stay"),
        }
    }
}

/// How often authorities and revocation lists are loaded again.
const RELOAD_AFTER: Duration = Duration::from_secs(600);

/// Done when only a restart can bring the token back.
async fn token_lost(mut token: watch::Receiver<Health>) -> String {
    let lost = token.wait_for(|health| matches!(health, Health::Lost { .. })).await;
    match lost.as_deref() {
        Ok(Health::Lost { reason }) => reason.clone(),
        // The token was dropped: the server is over already.
        _ => std::future::pending().await,
    }
}

/// A module that hangs may hang in the cleaning up at the end of the process, too: then it is ended from outside.
fn end_in_any_case() {
    std::thread::spawn(|| {
        std::thread::sleep(LAST_WAIT);
        let _ = kill_process(getpid(), rustix::process::Signal::KILL);
    });
}

const LAST_WAIT: Duration = Duration::from_secs(20);

/// Shares are in this process for the moment of an answer: no core dump, and no look from other processes of this user.
fn keep_memory_private() {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let kept = setrlimit(Resource::Core, no_core).and(set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = kept {
        tracing::warn!(%error, "core dumps of this process could not be ruled out");
    }
}

/// Done when the process is asked to end.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
}

fn told(error: impl std::error::Error) -> String {
    described(&error)
}
