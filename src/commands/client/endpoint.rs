//! Where a side of a broker is: an http or https URL, or the path of a Unix domain socket.

use hyper::Uri;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// One side of a broker. Its `Display` is the URL as typed, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp {
        /// `https`.
        tls: bool,
        /// A name or an address; IPv6 addresses without brackets.
        host: String,
        /// 80 or 443 unless the URL names one.
        port: u16,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`; `None` for anything else, such as a URL with a path.
    pub fn parse(text: &str) -> Option<Endpoint> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Endpoint::Unix(path.into()));
        }
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.contains('@') {
            return None;
        }
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        Some(Endpoint::Tcp { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }

    /// The addresses that the name resolves to; none for a Unix domain socket.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Endpoint::Tcp { host, port, .. } => Ok((host.as_str(), *port).to_socket_addrs()?.collect()),
            Endpoint::Unix(_) => Ok(Vec::new()),
        }
    }

    /// The value of `Host` (RFC 9110 section 7.2).
    pub fn host(&self) -> String {
        match self {
            Endpoint::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Endpoint::Tcp { host, port, .. } => format!("{host}:{port}"),
            Endpoint::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint::Tcp { tls: false, host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { tls, .. } => {
                write!(f, "{}://{}", if *tls { "https" } else { "http" }, self.host())
            }
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_a_scheme_a_host_and_perhaps_a_port() {
        let shown = |text| Endpoint::parse(text).map(|endpoint| endpoint.to_string());
        for (text, expected) in [
            ("http://127.0.0.1:8040", "http://127.0.0.1:8040"),
            ("http://[::1]:8040/", "http://[::1]:8040"),
            ("http://pilotlight", "http://pilotlight:80"),
            ("https://pilotlight", "https://pilotlight:443"),
            ("unix:/run/pilotlight/admin.sock", "unix:/run/pilotlight/admin.sock"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "unix:",
            "pilotlight:8040",
            "ftp://pilotlight",
            "http://",
            "http://a/b",
            "http://a?b",
            "http://u@a",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
