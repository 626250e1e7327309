//! As much HTTP/1.1 as these clients need.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// `http://HOST:PORT`, and nothing behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port.
    authority: String,
}

impl Url {
    /// `None` for anything else.
    pub fn parse(text: &str) -> Option<Url> {
        let rest = text.strip_prefix("http://")?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let fits = !authority.is_empty() && !authority.contains(['/', '?', '#', '@']);
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        fits.then(|| Url {
            authority: if has_port { authority.to_owned() } else { format!("{authority}:80") },
        })
    }

    /// Where that is.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(self.authority.to_socket_addrs()?.collect())
    }

    /// Connects; an answer is waited for as long as `patience`.
    pub fn open(&self, patience: Duration) -> io::Result<Connection> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in self.addresses()? {
            match Connection::open(addr, patience) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl From<SocketAddr> for Url {
    fn from(addr: SocketAddr) -> Url {
        Url { authority: addr.to_string() }
    }
}

/// The value of `Host`.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

/// One connection, one request at a time.
pub struct Connection(BufReader<TcpStream>);

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Connection {
    fn open(addr: SocketAddr, patience: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// Whom it goes to.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().peer_addr()
    }

    /// Sends a request.
    pub fn send(&mut self, request: &str) -> io::Result<()> {
        self.0.get_mut().write_all(request.as_bytes())
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.send(request)?;
        self.answer()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// `UnexpectedEof`: closed without one. `InvalidData`: it is no HTTP.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let first = self.line()?;
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        let no_http = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
        let status = status.ok_or_else(no_http)?;
        let mut body_bytes = 0;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                body_bytes = value.trim().parse().map_err(|_| no_http())?;
            }
        }
        let mut body = String::new();
        (&mut self.0).take(body_bytes).read_to_string(&mut body)?;
        Ok(Answer { status, body })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if (&mut self.0).take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
        }
        Ok(line.trim_end().to_owned())
    }
}

/// A longer line is nobody's whom these clients talk to.
const LINE_BYTES_MAX: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_a_host_and_perhaps_a_port() {
        let authority = |text| Url::parse(text).map(|url| url.authority);
        assert_eq!(authority("http://127.0.0.1:8040").as_deref(), Some("127.0.0.1:8040"));
        assert_eq!(authority("http://[::1]:8040/").as_deref(), Some("[::1]:8040"));
        assert_eq!(authority("http://pilotlight").as_deref(), Some("pilotlight:80"));
        for text in ["", "pilotlight:8040", "https://pilotlight", "http://", "http://a/b", "http://u@a"] {
            assert_eq!(authority(text), None, "{text}");
        }
    }
}
