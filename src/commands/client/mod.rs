//! The HTTP client of every command that talks to a broker: TCP, TLS and Unix domain sockets. A connection carries
//! one request and ends with its answer, as a runner's does with `--confirm read`.

pub mod admin;
mod endpoint;
mod tls;

pub use endpoint::Endpoint;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_BYTES_MAX: usize = 4 << 20;

type Cause = Box<dyn Error + Send + Sync>;

/// A client of one side of a broker. Its calls block.
pub struct Client {
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    runtime: Runtime,
}

/// A request without its `Host` field, which the client adds.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Request {
    /// `GET path`.
    pub fn get(path: impl Into<String>) -> Request {
        Request { method: Method::GET, path: path.into(), headers: HeaderMap::new(), body: Vec::new() }
    }

    /// This request with another method and a JSON body.
    pub fn with_json(mut self, method: Method, body: Vec<u8>) -> Request {
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Request { method, body, ..self }
    }

    /// This request with one more header field. The value must be visible ASCII.
    pub fn with_field(mut self, name: &'static str, value: &str) -> Request {
        let value = HeaderValue::from_str(value).expect("visible ASCII");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }
}

/// A complete answer with any status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    /// The body as text, without white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("{0}")]
    Unreachable(Cause),
    /// The client connected, and no answer came in time.
    #[error("no answer within {}s", .0.as_secs())]
    Timeout(Duration),
    /// The connection ended without a whole answer.
    #[error("the connection ended without an answer: {0}")]
    Ended(Cause),
}

impl Client {
    /// `ca`: a PEM file of authorities to trust instead of the system's.
    ///
    /// # Errors
    /// One line: the certificates cannot be used, or the runtime cannot start.
    pub fn new(endpoint: Endpoint, ca: Option<&Path>) -> Result<Client, String> {
        let tls = match endpoint {
            Endpoint::Tcp { tls: true, .. } => Some(tls::config(ca)?),
            _ => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Client { endpoint, tls, runtime: runtime.map_err(|error| error.to_string())? })
    }

    /// The side of the broker that the client talks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends `request` on a new connection and reads the whole answer within `patience`.
    ///
    /// # Errors
    /// There is no whole answer.
    pub fn ask(&self, request: Request, patience: Duration) -> Result<Answer, ClientError> {
        self.runtime.block_on(async {
            let connected = timeout(CONNECT_TIMEOUT, self.connect()).await;
            let stream = match connected {
                Ok(stream) => stream.map_err(|error| ClientError::Unreachable(error.into()))?,
                Err(_) => {
                    return Err(ClientError::Unreachable(io::Error::from(io::ErrorKind::TimedOut).into()));
                }
            };
            let answer = timeout(patience, exchange(stream, request, self.endpoint.host())).await;
            answer.map_err(|_| ClientError::Timeout(patience))?.map_err(ClientError::Ended)
        })
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match &self.endpoint {
            Endpoint::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Endpoint::Tcp { host, port, .. } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(tls.clone()).connect(name, stream).await?))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One request and its answer; the connection is closed when this returns.
async fn exchange(stream: Box<dyn Stream>, request: Request, host: String) -> Result<Answer, Cause> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let Request { method, path, headers, body } = request;
    let mut request = hyper::Request::builder().method(method).uri(path).header(header::HOST, host);
    if let Some(fields) = request.headers_mut() {
        fields.extend(headers);
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Answer { status, body })
    };
    // The connection ends once `answer` has dropped its sender.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}
