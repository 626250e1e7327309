//! The admin side's connections. Their number and duration are bounded, so a slow or greedy client cannot block others.

use crate::sys::listen::Listener;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::warn;

/// The limits for clients of the admin side.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Open connections. Beyond the limit the server closes the oldest, so a health check can always connect.
    pub connections_max: usize,
    /// From accept, or from the last answer, to the end of a request's head.
    pub head_timeout: Duration,
    /// The longest life of a connection. At its end, the server finishes the current request and closes the connection.
    pub life_max: Duration,
    /// How long the current request may take after `life_max`. Then the server closes the connection in any case.
    pub grace: Duration,
}

impl ServerLimits {
    pub const fn new(connections_max: usize) -> Self {
        ServerLimits {
            connections_max,
            head_timeout: Duration::from_secs(10),
            life_max: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }
}

/// A request's head, and the bytes that are read ahead.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// The pause after a failed accept: an immediate retry would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin side listens on.
pub enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AdminListener {
    /// `listener` is non-blocking.
    pub fn new(listener: Listener) -> io::Result<AdminListener> {
        Ok(match listener {
            Listener::Tcp(listener) => AdminListener::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => AdminListener::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            AdminListener::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            AdminListener::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// Serves `app` on `listener` until dropped.
pub async fn serve(listener: AdminListener, app: Router, limits: ServerLimits) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                warn!(%error, "the admin side cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        while open.len() >= limits.connections_max {
            if let Some(oldest) = open.pop_front() {
                oldest.abort();
            }
        }
        let app = app.clone();
        let connection = match stream {
            Stream::Tcp(stream) => {
                // Without TCP_NODELAY, an answer in two segments waits for the client's delayed ACK. So an error
                // only makes answers slower.
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream, app, limits))
            }
            Stream::Unix(stream) => tokio::spawn(connection(stream, app, limits)),
        };
        open.push_back(connection.abort_handle());
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, app: Router, limits: ServerLimits) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(BUFFER_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)));
    // An error affects only this client.
    if timeout(limits.life_max, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(limits.grace, connection).await;
    }
}
