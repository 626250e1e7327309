//! A client of the admin API of a running broker.

use super::{Client, ClientError, Endpoint, Request};
use crate::commands::Failure;
use crate::config::{AdminToken, ConfigError};
use clap::Args;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderValue};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the broker's admin side is.
#[derive(Args, Clone, Debug)]
pub struct AdminFlags {
    /// The running broker's admin side: http://, https:// or unix:PATH
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_ADMIN", default_value = "http://127.0.0.1:8042")]
    pub admin: String,
    /// A PEM file with the authority of its certificate, for https:// (default: the system's authorities)
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_CA")]
    pub ca: Option<PathBuf>,
}

/// Why there is no answer; one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The URL cannot be used.
    #[error(
        "--admin (PILOTLIGHT_ADMIN): {0:?} is not the address of an admin side. Use a URL such as http://127.0.0.1:8042, or unix: and a path"
    )]
    Url(String),
    /// The certificates to trust cannot be used.
    #[error("{0}")]
    Setup(String),
    /// No connection.
    #[error(
        "--admin {endpoint}: cannot reach the broker: {source}. Is it running, and is this its --admin-listen?"
    )]
    Unreachable {
        /// The admin side.
        endpoint: Endpoint,
        /// What happened.
        source: ClientError,
    },
    /// The broker refused.
    #[error("the broker refused: {error} ({status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason.
        error: String,
    },
    /// Another server answered.
    #[error("--admin {0}: the server that answers there is not Pilotlight's admin side")]
    Foreign(Endpoint),
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Failure {
        match error {
            AdminError::Url(_) | AdminError::Setup(_) => Failure::usage(error),
            _ => Failure::failed(error),
        }
    }
}

/// A client of one broker's admin API.
pub struct AdminClient {
    client: Client,
    token: Option<AdminToken>,
}

impl AdminClient {
    pub fn new(flags: &AdminFlags) -> Result<AdminClient, AdminError> {
        let endpoint = Endpoint::parse(&flags.admin).ok_or_else(|| AdminError::Url(flags.admin.clone()))?;
        let client = Client::new(endpoint, flags.ca.as_deref()).map_err(AdminError::Setup)?;
        Ok(AdminClient { client, token: None })
    }

    /// Sends this token with every request: the admin side needs it for changes.
    pub fn with_token(self, token: Option<AdminToken>) -> AdminClient {
        AdminClient { token, ..self }
    }

    /// Sends `GET path`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        self.ask(Request::get(path))
    }

    /// Sends a change (POST or DELETE) to `path`.
    pub fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, AdminError> {
        let body = serde_json::to_vec(body).expect("strings and numbers");
        self.ask(Request::get(path).with_json(method, body))
    }

    fn ask<T: DeserializeOwned>(&self, mut request: Request) -> Result<T, AdminError> {
        let endpoint = || self.client.endpoint().clone();
        if let Some(token) = &self.token {
            let bearer = [b"Bearer ", token.bytes()].concat();
            let bearer = HeaderValue::from_bytes(&bearer).expect("printable ASCII");
            request.headers.insert(AUTHORIZATION, bearer);
        }
        let answer = self
            .client
            .ask(request, TIMEOUT)
            .map_err(|source| AdminError::Unreachable { endpoint: endpoint(), source })?;
        if (200..300).contains(&answer.status) {
            return serde_json::from_slice(&answer.body).map_err(|_| AdminError::Foreign(endpoint()));
        }
        let refusal: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        match refusal.as_ref().and_then(|refusal| refusal["error"].as_str()) {
            Some(error) => Err(AdminError::Refused { status: answer.status, error: error.to_owned() }),
            None => Err(AdminError::Foreign(endpoint())),
        }
    }
}

/// The token of `--admin-token-file`.
pub fn token(path: Option<&PathBuf>) -> Result<Option<AdminToken>, ConfigError> {
    path.map(|path| {
        AdminToken::read(path).map_err(|problem| {
            let (flag, variable) = ("--admin-token-file", Some("PILOTLIGHT_ADMIN_TOKEN_FILE"));
            ConfigError::of_value(flag, variable, path.as_os_str(), &problem)
        })
    })
    .transpose()
}
