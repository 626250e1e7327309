//! `pilotlight drain`: the client of a running broker's admin side.

use super::drain::{Drains, Target};
use crate::broker::report::Selector;
use crate::config::AdminToken;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What to ask a running broker for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What is drained.
    List,
    /// Drain this.
    Begin(Selector),
    /// Lift this.
    Lift(Selector),
}

/// Why there is no answer; one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL cannot be used.
    #[error(
        "--admin {0:?}: write http:// and the address of a running broker's admin side, such as http://127.0.0.1:8042, or unix: and its path"
    )]
    Url(String),
    /// Nobody there.
    #[error(
        "--admin {url}: cannot reach the broker: {source}: is it running, and is this its --admin-listen?"
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("--admin {url}: no answer within {}s: see the broker's log", TIMEOUT.as_secs())]
    Timeout {
        /// Who did not answer.
        url: String,
    },
    /// An answer that is no success.
    #[error("the broker refused: {error} ({status})")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its reason.
        error: String,
    },
    /// Something else listens there.
    #[error("--admin {0}: what answers there is not Pilotlight's admin side")]
    Foreign(String),
}

/// Asks, and tells the answer in words.
pub fn run(url: &str, ask: &Ask, token: Option<&AdminToken>) -> Result<String, AskError> {
    let unreachable =
        |source: std::io::Error| AskError::Unreachable { url: url.to_owned(), source: source.into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let answered = runtime.block_on(async { timeout(TIMEOUT, request(url, ask, token)).await });
    let drains = answered.map_err(|_| AskError::Timeout { url: url.to_owned() })??;
    Ok(in_words(ask, &drains))
}

async fn request(url: &str, ask: &Ask, token: Option<&AdminToken>) -> Result<Drains, AskError> {
    let bad_url = || AskError::Url(url.to_owned());
    let uri: Uri = match url.starts_with("unix:") {
        true => Uri::from_static("http://localhost"),
        false => url.parse().map_err(|_| bad_url())?,
    };
    let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
    let host = uri.host().filter(|_| plain).ok_or_else(bad_url)?;
    let authority = uri.authority().ok_or_else(bad_url)?.as_str();
    let port = uri.port_u16().unwrap_or(80);

    let (method, selector) = match ask {
        Ask::List => (Method::GET, None),
        Ask::Begin(selector) => (Method::POST, Some(selector)),
        Ask::Lift(selector) => (Method::DELETE, Some(selector)),
    };
    let body = match selector {
        Some(selector) => serde_json::to_vec(&Target::from(selector.clone())).expect("two strings"),
        None => Vec::new(),
    };
    let mut request = Request::builder()
        .method(method)
        .uri("/drain")
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, [b"Bearer ", token.bytes()].concat());
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|_| bad_url())?;

    let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| AskError::Unreachable {
        url: url.to_owned(),
        source,
    };
    let response = match url.strip_prefix("unix:") {
        Some(path) => exchange(UnixStream::connect(path).await, request).await,
        None => exchange(TcpStream::connect((host.trim_matches(['[', ']']), port)).await, request).await,
    };
    let response = response.map_err(unreachable)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await.map_err(unreachable)?.to_bytes();
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|_| AskError::Foreign(url.to_owned()));
    }
    let refusal: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    match refusal.as_ref().and_then(|refusal| refusal["error"].as_str()) {
        Some(error) => Err(AskError::Refused { status, error: error.to_owned() }),
        None => Err(AskError::Foreign(url.to_owned())),
    }
}

async fn exchange(
    connected: io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(connected?)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

fn in_words(ask: &Ask, answer: &Drains) -> String {
    let mut words = match ask {
        Ask::List if answer.drains.is_empty() => "nothing is drained".to_owned(),
        Ask::List => {
            let lines: Vec<String> = answer.drains.iter().map(line).collect();
            lines.join("\n")
        }
        Ask::Begin(selector) => format!(
            "drained {}: its held polls are closed, and no run goes to its runners until this is lifted (--lift) or the broker restarts",
            name(selector)
        ),
        Ask::Lift(selector) => format!("lifted the drain of {}", name(selector)),
    };
    if !answer.stalled_cores.is_empty() {
        let cores: Vec<String> = answer.stalled_cores.iter().map(usize::to_string).collect();
        words += &format!("\nno answer from core {}: it follows when it wakes up", cores.join(", "));
    }
    words
}

fn name(selector: &Selector) -> String {
    match selector {
        Selector::Instance(name) => format!("node {name}"),
        Selector::Deployment(id) => format!("deployment {id}"),
    }
}

fn line(target: &Target) -> String {
    match target {
        Target { instance: Some(name), .. } => format!("node {name}"),
        Target { deployment, .. } => {
            format!("deployment {}", deployment.as_deref().unwrap_or_default())
        }
    }
}
