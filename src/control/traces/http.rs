//! The exporter's HTTP client: plain HTTP, one request per connection, with a timeout.

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

/// An answer only says which spans were rejected, and why.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Posts to the collector.
#[derive(Debug)]
pub struct Client {
    timeout: Duration,
    last: Arc<LastAnswer>,
}

/// The answer to the last request. The exporter's own result does not include these details.
#[derive(Debug, Default)]
pub struct LastAnswer(Mutex<Answer>);

#[derive(Debug, Default)]
pub struct Answer {
    /// Why the request failed.
    pub error: Option<String>,
    /// Spans of an accepted request that the collector rejected (`partial_success`).
    pub rejected: u64,
    /// Why the collector rejected them.
    pub message: String,
}

impl LastAnswer {
    /// Takes the answer. The next call returns an empty one until the next request.
    pub fn take(&self) -> Answer {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, answer: Answer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

impl Client {
    pub fn new(timeout: Duration, last: Arc<LastAnswer>) -> Self {
        Client { timeout, last }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = match timeout(self.timeout, exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(self.timeout)).into()),
        };
        self.last.put(match &answer {
            Err(error) => Answer { error: Some(error.to_string()), ..Answer::default() },
            Ok(response) if response.status().is_success() => rejected(response.body()),
            Ok(response) => Answer {
                error: Some(format!("the collector answered {}", response.status())),
                ..Answer::default()
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
    // Drives the connection while the exchange runs. The connection then closes.
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}

fn rejected(body: &[u8]) -> Answer {
    let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|response| response.partial_success);
    partial.map_or_else(Answer::default, |partial| Answer {
        error: None,
        rejected: partial.rejected_spans.try_into().unwrap_or(0),
        message: partial.error_message,
    })
}
