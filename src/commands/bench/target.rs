//! The broker under load: its addresses, and whether it takes the load's polls and dispatches.

use super::{BenchError, BenchFlags};
use crate::commands::client::{Client, ClientError, Endpoint, Request};
use crate::commands::warm_start::Key;
use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

pub struct Target {
    runner: Client,
    dispatch: Client,
    pub runner_addr: SocketAddr,
    pub dispatch_addr: SocketAddr,
}

impl Target {
    /// Resolves both sides and connects to each once.
    pub fn find(flags: &BenchFlags) -> Result<Target, BenchError> {
        let runner = endpoint(&flags.url)?;
        let dispatch = flags.dispatch_url.as_ref().map_or_else(|| Ok(runner.clone()), |url| endpoint(url))?;
        let runner_addr = address(&runner, "--listen", flags.allow_remote)?;
        let dispatch_addr = address(&dispatch, "--dispatch-listen", flags.allow_remote)?;
        let client = |endpoint| Client::new(endpoint, None).map_err(BenchError::Refused);
        Ok(Target { runner: client(runner)?, dispatch: client(dispatch)?, runner_addr, dispatch_addr })
    }

    /// How long runners hold a poll, as `/connect` tells them.
    pub fn connection_timeout(&self) -> Result<Duration, BenchError> {
        let url = self.runner.endpoint();
        let answer = self.runner.ask(Request::get("/connect"), PATIENCE);
        let answer = answer.map_err(|source| unreachable(url, "--listen", &source))?;
        let settings: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        let millis = settings.and_then(|settings| settings["connectionTimeoutMs"].as_u64());
        match millis {
            Some(millis @ 1..) if answer.status == 200 => Ok(Duration::from_millis(millis)),
            _ => Err(BenchError::Refused(format!(
                "{url}/connect answers {}, which no runner side does. Use the address of --listen",
                answer.status
            ))),
        }
    }

    /// Checks that the dispatch side takes dispatches. Sends one that matches no runner.
    pub fn takes_dispatches(&self, deployment: &str) -> Result<(), BenchError> {
        let url = self.dispatch.endpoint();
        let key = Key { deployment, version: "no-runner" };
        let answer = self.dispatch.ask(key.dispatch("run_bench"), PATIENCE);
        let answer = answer.map_err(|source| unreachable(url, "--dispatch-listen", &source))?;
        let advice = match answer.status {
            200 => return Ok(()),
            403 => {
                "it takes no dispatches from this address (--dispatch-allow). Run this where the supervisor runs"
                    .to_owned()
            }
            404 => {
                "it takes no dispatches. Use the address of --dispatch-listen as --dispatch-url".to_owned()
            }
            _ => answer.text(),
        };
        Err(BenchError::Refused(format!("{url} answers a dispatch with {}: {advice}", answer.status)))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (runner, dispatch) = (self.runner.endpoint(), self.dispatch.endpoint());
        write!(f, "{runner}")?;
        if runner == dispatch { Ok(()) } else { write!(f, " and {dispatch}") }
    }
}

fn endpoint(url: &str) -> Result<Endpoint, BenchError> {
    match Endpoint::parse(url) {
        Some(endpoint @ Endpoint::Tcp { tls: false, .. }) => Ok(endpoint),
        _ => Err(BenchError::Url(url.to_owned())),
    }
}

fn unreachable(url: &Endpoint, side: &'static str, source: &ClientError) -> BenchError {
    BenchError::Unreachable { url: url.clone(), side, cause: source.to_string() }
}

/// The first of the endpoint's addresses that takes a connection.
fn address(url: &Endpoint, side: &'static str, allow_remote: bool) -> Result<SocketAddr, BenchError> {
    let unreachable = |cause: String| BenchError::Unreachable { url: url.clone(), side, cause };
    let addresses = url.addresses().map_err(|error| unreachable(error.to_string()))?;
    let remote = addresses.iter().find(|addr| !addr.ip().to_canonical().is_loopback());
    if let Some(&addr) = remote.filter(|_| !allow_remote) {
        return Err(BenchError::Remote { url: url.clone(), addr });
    }
    let mut last = "the name has no address".to_owned();
    for addr in addresses {
        match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(_) => return Ok(addr),
            Err(error) => last = error.to_string(),
        }
    }
    Err(unreachable(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_not_loaded_by_mistake() {
        let url = Endpoint::parse("http://192.0.2.1:8040").unwrap();
        assert!(matches!(address(&url, "--listen", false), Err(BenchError::Remote { .. })));
    }
}
