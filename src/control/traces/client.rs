//! The HTTP client under the exporter: one request to a connection, in the clear, within a time.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer is some bytes: what was rejected and why.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Posts to the collector.
#[derive(Debug)]
pub struct Client {
    timeout: Duration,
    heard: Arc<Heard>,
}

/// What the exporter's own result leaves out.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Last>);

/// Of the last request.
#[derive(Debug, Default)]
pub struct Last {
    /// What went wrong on the way.
    pub fault: Option<String>,
    /// Spans of an accepted request that the collector threw away (`partial_success`), and why.
    pub rejected: u64,
    /// Its words for that.
    pub message: String,
}

impl Heard {
    /// What was heard since this was asked.
    pub fn take(&self) -> Last {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, last: Last) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}

impl Client {
    /// A client that gives up after `timeout`.
    pub fn new(timeout: Duration, heard: Arc<Heard>) -> Self {
        Client { timeout, heard }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = match timeout(self.timeout, exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(self.timeout)).into()),
        };
        self.heard.put(match &answer {
            Err(error) => Last { fault: Some(error.to_string()), ..Last::default() },
            Ok(response) if response.status().is_success() => rejected(response.body()),
            Ok(response) => Last {
                fault: Some(format!("the collector answered {}", response.status())),
                ..Last::default()
            },
        });
        answer
    }
}

impl HttpClient for Client {
    fn send_bytes<'this: 'sent, 'sent>(
        &'this self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>> {
        Box::pin(self.send(request))
    }
}

async fn exchange(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let host = parts.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = parts.uri.port_u16().unwrap_or(80);
    let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
    parts.headers.insert(HOST, HeaderValue::from_str(authority)?);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    parts.uri = parts.uri.path().parse::<Uri>()?;

    let stream = TcpStream::connect((&*host, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    // The connection moves only while somebody waits for the exchange, and ends with it.
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}

fn rejected(body: &[u8]) -> Last {
    let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|response| response.partial_success);
    partial.map_or_else(Last::default, |partial| Last {
        fault: None,
        rejected: partial.rejected_spans.try_into().unwrap_or(0),
        message: partial.error_message,
    })
}
