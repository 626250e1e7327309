//! The client of a running broker's admin side: `pilotlight drain`, `pilotlight explain` and
//! `pilotlight top`.

mod words;

use crate::api::{CordonTarget, Cordons, ExplainQuery, Explanation};
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
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// What is drained.
    List,
    /// Drain this.
    Begin(Selector),
    /// Lift this.
    Lift(Selector),
    /// Say why a run of this would be cold.
    Explain(ExplainQuery),
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
    let (method, path, body) = match ask {
        Ask::List => (Method::GET, "/cordon".to_owned(), Vec::new()),
        Ask::Begin(selector) => (Method::POST, "/cordon".to_owned(), as_json(selector)),
        Ask::Lift(selector) => (Method::DELETE, "/cordon".to_owned(), as_json(selector)),
        Ask::Explain(asked) => (Method::GET, words::explain_path(asked), Vec::new()),
    };
    let body = Asker::new(url)?.ask(method, &path, body, token)?;
    let foreign = |_| AskError::Foreign(url.to_owned());
    Ok(match ask {
        Ask::Explain(_) => words::explained(&serde_json::from_slice::<Explanation>(&body).map_err(foreign)?),
        _ => words::drained(ask, &serde_json::from_slice::<Cordons>(&body).map_err(foreign)?),
    })
}

/// Asks one broker, as often as is wanted.
pub struct Asker {
    url: String,
    runtime: tokio::runtime::Runtime,
}

impl Asker {
    /// For the admin side at `url`; nothing is asked yet.
    pub fn new(url: &str) -> Result<Asker, AskError> {
        let unreachable =
            |source: io::Error| AskError::Unreachable { url: url.to_owned(), source: source.into() };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
        Ok(Asker { url: url.to_owned(), runtime })
    }

    /// What GET `path` answers.
    pub fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let body = self.ask(Method::GET, path, Vec::new(), None)?;
        serde_json::from_slice(&body).map_err(|_| AskError::Foreign(self.url.clone()))
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        token: Option<&AdminToken>,
    ) -> Result<Bytes, AskError> {
        let asked = async { timeout(TIMEOUT, request(&self.url, method, path, body, token)).await };
        self.runtime.block_on(asked).map_err(|_| AskError::Timeout { url: self.url.clone() })?
    }
}

fn as_json(selector: &Selector) -> Vec<u8> {
    let target = match selector.clone() {
        Selector::Node(name) => CordonTarget::Node(name),
        Selector::Deployment(id) => CordonTarget::Deployment(id),
    };
    serde_json::to_vec(&target).expect("a string")
}

/// The body of a success.
async fn request(
    url: &str,
    method: Method,
    path: &str,
    body: Vec<u8>,
    token: Option<&AdminToken>,
) -> Result<Bytes, AskError> {
    let bad_url = || AskError::Url(url.to_owned());
    let uri: Uri = match url.starts_with("unix:") {
        true => Uri::from_static("http://localhost"),
        false => url.parse().map_err(|_| bad_url())?,
    };
    let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
    let host = uri.host().filter(|_| plain).ok_or_else(bad_url)?;
    let authority = uri.authority().ok_or_else(bad_url)?.as_str();
    let port = uri.port_u16().unwrap_or(80);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
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
        return Ok(body);
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
