//! `eds-keystored serve`: the checks of a start, the tasks around the server, its supervisor, and the way to the end.
//!
//! The node is told ready when it listens and every check held, and stopping before it takes no new connections. It ends
//! in any case: a module that hangs in its own clean-up is ended from outside after [`LAST_WAIT`], which with the grace of
//! the server is less than the unit's `TimeoutStopSec`.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use eds_keystore::{
    api,
    audit::{Operation, console::listener::Listener},
    authn::Authenticator,
    config::Config,
    hsm::{Health, pin::PinSource, self_test::described},
    node::{Node, startup},
    server::{LAST_WAIT, Server, metrics::MetricsServer, supervisor::Supervisor, tls},
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getpid, kill_process, set_dumpable_behavior, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{Failure, PIN_REFUSED, TOKEN_LOST, print, tls_side, told};

/// Serves until it is told to end, or the token is lost.
pub(crate) fn serve(config: &Config) -> Result<(), Failure> {
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
    let supervisor = Arc::new(Supervisor::of_environment());
    let served = runtime.block_on(async {
        let stop = stop_signal().map_err(told)?;
        let hangup = signal(SignalKind::hangup()).map_err(told)?;
        let (router, under_way) = api::router(Arc::clone(&node), Arc::clone(&authenticator), &limits);
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
        let serves = format!("node {} serves https://{}", node.id, server.address());
        supervisor.ready(&serves);
        let report = Report { supervisor: Arc::clone(&supervisor), token: token.clone(), serves };
        let telling = tokio::spawn(report.clone().tell_outages());
        let current = tokio::spawn(keep_current(authenticator, hangup, report));
        let lost = tokio::sync::OnceCell::new();
        let over = async {
            let why = tokio::select! {
                () = stop => "stops: requests under way are finished",
                reason = token_lost(token) => {
                    let _ = lost.set(reason);
                    "ends: the token is lost"
                }
            };
            // Nothing is told after the end.
            for task in [telling, current] {
                task.abort();
                let _ = task.await;
            }
            supervisor.stopping(why);
        };
        // Before the last entry of the log: what a request does and what the log says of it stay together.
        server.run(over, under_way, &supervisor).await;
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

/// What the supervisor is told while the node serves.
#[derive(Clone)]
struct Report {
    supervisor: Arc<Supervisor>,
    token: watch::Receiver<Health>,
    serves: String,
}

impl Report {
    fn status(&self) -> String {
        match &*self.token.borrow() {
            Health::Working => self.serves.clone(),
            out => format!("refuses requests: the token {out}"),
        }
    }

    /// Tells when the token fails and when it works again.
    async fn tell_outages(mut self) {
        while self.token.changed().await.is_ok() {
            self.supervisor.status(&self.status());
        }
    }
}

/// Loads authorities, revocation lists and `vomsdir` again, from time to time and when told to by a SIGHUP.
async fn keep_current(authenticator: Arc<Authenticator>, mut hangup: Signal, report: Report) {
    let mut pause = tokio::time::interval(RELOAD_AFTER);
    pause.tick().await;
    loop {
        let asked = tokio::select! {
            _ = pause.tick() => false,
            _ = hangup.recv() => true,
        };
        if asked {
            report.supervisor.reloading();
        }
        let authenticator = Arc::clone(&authenticator);
        match tokio::task::spawn_blocking(move || authenticator.reload()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(error = described(&error), "authorities could not be loaded again; the old ones stay")
            }
            Err(error) => tracing::error!(%error, "authorities could not be loaded again; the old ones stay"),
        }
        if asked {
            report.supervisor.ready(&report.status());
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
