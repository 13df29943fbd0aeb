//! The accept loop: TLS, HTTP/1.1 or HTTP/2, and the limits that keep slow or greedy clients from the others.
//!
//! A connection has a bounded time for its handshake and for each request head, bounded heads, and there is a bounded
//! number of connections; beyond it new ones wait in the system's queue. A graceful stop lets requests under way finish.

pub mod tls;

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
    server::graceful::{GracefulShutdown, Watcher},
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;

use crate::api::{Peer, PeerAddress};

/// How many connections are held at once.
const CONNECTIONS: usize = 16_384;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a request head may take, counted from the end of the request before.
const HEAD: Duration = Duration::from_secs(60);
/// How many bytes a request head may have.
const HEAD_BYTES: usize = 16 * 1024;
/// How many requests one HTTP/2 connection may have under way.
const STREAMS: u32 = 64;
/// How long a graceful stop waits for requests under way.
const GRACE: Duration = Duration::from_secs(35);

/// A server that has its address.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
    router: Router,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When it is taken already, or not ours.
    pub async fn bind(listen: SocketAddr, tls: ServerConfig, router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, tls: TlsAcceptor::from(Arc::new(tls)), router })
    }

    /// The address, with the port that the system chose if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done, then lets requests under way finish.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        tokio::pin!(stop);
        loop {
            let accept = async {
                // The semaphore is never closed.
                let permit = Arc::clone(&room).acquire_owned().await.ok();
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = &mut stop => break,
                next = accept => next,
            };
            match accepted {
                Ok((stream, address)) => {
                    let (tls, router, watcher) = (self.tls.clone(), self.router.clone(), graceful.watcher());
                    tokio::spawn(async move {
                        let _permit = permit;
                        connection(stream, address.ip(), tls, router, watcher).await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most often: wait for connections to end.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.listener);
        if timeout(GRACE, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests under way were cut off");
        }
    }
}

async fn connection(stream: TcpStream, address: IpAddr, tls: TlsAcceptor, router: Router, watcher: Watcher) {
    // Answers are small and must not wait for one another.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%error, "no handshake"),
        Err(_) => return tracing::debug!("a handshake took too long"),
    };
    let peer = peer(&stream);
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(PeerAddress(address));
        router.clone().oneshot(request)
    });
    let io = TokioIo::new(stream);
    let ended = if http2 {
        let mut builder = conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(16 * 1024)
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(HEAD)
            .keep_alive_timeout(HANDSHAKE);
        watcher.watch(builder.serve_connection(io, service)).await
    } else {
        let mut builder = conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
        watcher.watch(builder.serve_connection(io, service)).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// The certificates of the client, which the handshake found good; who they prove is decided with each request.
fn peer(stream: &TlsStream<TcpStream>) -> Peer {
    Peer::of(stream.get_ref().1.peer_certificates().unwrap_or_default())
}
