//! The accept loop: TLS, HTTP/1.1 or HTTP/2, and the limits that keep slow or greedy clients from the others.
//!
//! A connection has a bounded time for everything that its client does ([`Limits`]), bounded heads, and there is
//! a bounded number of connections, in all and for each address; beyond the first, new ones wait in the system's queue. A
//! graceful stop lets requests under way finish.

pub(crate) mod addresses;
pub mod limits;
pub mod metrics;
mod pace;
pub mod supervisor;
pub mod tls;
mod watched;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;

pub use self::limits::Limits;
use self::{
    addresses::Addresses,
    pace::{Overdue, Pace},
    supervisor::Supervisor,
    watched::{Answer, Watched},
};
use crate::{
    api::{Peer, PeerAddress, Unfinished},
    metrics::{End, Metrics},
};

/// How many requests one HTTP/2 connection may have under way.
const STREAMS: u32 = 32;
/// How many bytes of bodies an HTTP/2 client may send before they are asked for, in one stream and in all of a connection.
const WINDOWS: (u32, u32) = (64 * 1024, 128 * 1024);
/// How much longer than allowed a head of HTTP/2 may be to be refused in words, and not by the protocol.
const HEAD_SLACK: usize = 16 * 1024;
/// How long a graceful stop waits for requests under way.
pub const GRACE: Duration = Duration::from_secs(35);
/// How long the process may take for the rest of its end, after which it is ended from outside.
pub const LAST_WAIT: Duration = Duration::from_secs(20);
/// How long to wait when the system gives no connection: it is out of files, most often.
const NO_FILES: Duration = Duration::from_millis(100);

/// A server that has its address.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
}

/// What all connections share.
#[derive(Clone)]
struct Shared {
    tls: TlsAcceptor,
    router: Router,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When it is taken already, or not ours.
    pub async fn bind(
        listen: SocketAddr,
        tls: ServerConfig,
        router: Router,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Shared { tls: TlsAcceptor::from(Arc::new(tls)), router, limits: Arc::new(limits), metrics };
        Ok(Self { listener, address, shared })
    }

    /// The address, with the port that the system chose if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done, then lets requests under way finish, `left` by their clients too. Gives the supervisor
    /// its signs of life.
    pub async fn run(self, stop: impl Future<Output = ()>, left: Unfinished, supervisor: &Supervisor) {
        let Self { listener, shared, .. } = self;
        let mut pulse = supervisor.pulse();
        let room = Arc::new(Semaphore::new(shared.limits.connections));
        let addresses = Addresses::new(shared.limits.connections_per_address);
        let (stopping, running) = watch::channel(());
        tokio::pin!(stop);
        loop {
            let accept = async {
                // The semaphore is never closed.
                let permit = Arc::clone(&room).acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = &mut stop => break,
                () = pulse.beat() => continue,
                next = accept => next,
            };
            match accepted {
                Ok((stream, address)) => {
                    let Some(place) = addresses.place(address.ip()) else {
                        shared.metrics.ended(End::Refused);
                        tracing::debug!(address = %address.ip(), "the address has as many connections as it may");
                        continue;
                    };
                    let (shared, running) = (shared.clone(), running.clone());
                    tokio::spawn(async move {
                        // The place first: who gets the permit must find it free.
                        let _held = (place, permit, shared.metrics.connection());
                        let end = connection(stream, address.ip(), &shared, running).await;
                        shared.metrics.ended(end);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(NO_FILES).await;
                }
            }
        }
        drop((listener, running));
        let _ = stopping.send(());
        let finished = timeout(GRACE, async {
            stopping.closed().await;
            left.over().await;
        });
        tokio::pin!(finished);
        let finished = loop {
            tokio::select! {
                () = pulse.beat() => {}
                finished = &mut finished => break finished,
            }
        };
        if finished.is_err() {
            tracing::warn!("requests under way were cut off");
        }
    }
}

async fn connection(stream: TcpStream, address: IpAddr, shared: &Shared, running: watch::Receiver<()>) -> End {
    let Shared { tls, router, limits, .. } = shared;
    // Answers are small and must not wait for one another.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(limits.handshake, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(%error, "no handshake");
            return End::NoHandshake;
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            return End::Slow;
        }
    };
    let peer = peer(&stream);
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let pace = Arc::new(Pace::new(Arc::clone(limits), http2));
    let (clock, router) = (Arc::clone(&pace), router.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(PeerAddress(address));
        let under_way = UnderWay::begin(&clock);
        let answer = router.clone().oneshot(request);
        async move { answer.await.map(|response| response.map(|body| under_way.answer(body))) }
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&pace)));
    if http2 {
        let mut builder = conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .max_header_list_size(u32::try_from(limits.head_bytes + HEAD_SLACK).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(limits.idle)
            .keep_alive_timeout(limits.handshake);
        let mut connection = builder.serve_connection(io, service);
        drive(&mut connection, &pace, limits, running).await.map_or(End::Closed, |_| End::Slow)
    } else {
        let mut builder = conn::http1::Builder::new();
        // The time of a head is watched by `pace`.
        builder.header_read_timeout(None).max_buf_size(limits.head_bytes).max_headers(limits.head_fields);
        let mut connection = builder.serve_connection(io, service);
        let overdue = drive(&mut connection, &pace, limits, running).await;
        if overdue == Some(Overdue::Head) {
            let stream = connection.into_parts().io.into_inner();
            let _ = timeout(limits.handshake, stream.too_slow()).await;
        }
        overdue.map_or(End::Closed, |_| End::Slow)
    }
}

/// Drives a connection to its end, which comes when its client wants it, when the server stops, or when it is overdue.
async fn drive<C>(connection: &mut C, pace: &Pace, limits: &Limits, mut running: watch::Receiver<()>) -> Option<Overdue>
where
    C: GracefulConnection<Error = hyper::Error> + Unpin,
{
    let (mut stopped, mut cut) = (false, None::<Instant>);
    loop {
        let cut_off = async {
            match cut {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut *connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return cut.map(|_| Overdue::Idle);
            }
            overdue = pace.overdue(), if cut.is_none() => {
                tracing::debug!(?overdue, "a connection is too slow");
                if overdue != Overdue::Idle {
                    return Some(overdue);
                }
                std::pin::Pin::new(&mut *connection).graceful_shutdown();
                cut = Some(Instant::now() + limits.handshake);
            }
            _ = running.changed(), if !stopped => {
                std::pin::Pin::new(&mut *connection).graceful_shutdown();
                stopped = true;
            }
            () = cut_off, if cut.is_some() => return Some(Overdue::Idle),
        }
    }
}

/// A request that the API works on; it may be given up at any time.
struct UnderWay {
    pace: Arc<Pace>,
    answered: bool,
}

impl UnderWay {
    fn begin(pace: &Arc<Pace>) -> Self {
        pace.begin();
        Self { pace: Arc::clone(pace), answered: false }
    }

    fn answer(mut self, body: axum::body::Body) -> Answer {
        self.answered = true;
        Answer::new(body, Arc::clone(&self.pace))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.answered {
            self.pace.abandon();
        }
    }
}

/// The certificates of the client, which the handshake found good; who they prove is decided with each request.
fn peer(stream: &TlsStream<TcpStream>) -> Peer {
    Peer::of(stream.get_ref().1.peer_certificates().unwrap_or_default())
}
