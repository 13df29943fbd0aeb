//! The listener for metrics alone: plain HTTP, on the loopback interface only ([`crate::config`] sees to that), one
//! request for a connection.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tower::ServiceExt;

/// How many read at once.
const READERS: usize = 8;
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener that has its address.
pub struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

impl MetricsServer {
    /// Takes the address.
    ///
    /// # Errors
    /// When it is taken already, or not ours.
    pub async fn bind(listen: SocketAddr, router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        Ok(Self { address: listener.local_addr()?, listener, router })
    }

    /// The address, with the port that the system chose if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    pub async fn run(self) {
        let room = Arc::new(Semaphore::new(READERS));
        loop {
            let permit = Arc::clone(&room).acquire_owned().await.ok();
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let router = self.router.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    router.clone().oneshot(request.map(axum::body::Body::new))
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
                let _ = timeout(PATIENCE, http.serve_connection(TokioIo::new(stream), service)).await;
            });
        }
    }
}
