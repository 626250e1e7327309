//! A TLS connection to a broker, and a broker's certificate.

use super::PATIENCE;
use super::client::{End, Response, take_response};
use super::folder::Folder;
use super::pki::{self, Authority, Pair};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An authority, and files with a server's certificate and key that it signed.
pub struct Identity {
    pub authority: Authority,
    pub folder: Folder,
}

impl Identity {
    pub fn new(name: &str) -> Identity {
        let identity = Identity { authority: Authority::new(name), folder: Folder::new(name) };
        identity.authority.server().write(identity.folder.as_ref(), "server");
        identity
    }

    /// The flags that serve the runner side with this certificate.
    pub fn flags(&self) -> String {
        let Identity { folder, .. } = self;
        format!("--tls-cert {} --tls-key {}", folder.path("server.crt"), folder.path("server.key"))
    }

    /// A client that trusts the authority.
    pub fn trust(&self) -> Arc<ClientConfig> {
        self.trust_with(None)
    }

    /// A client that trusts the authority and has its own certificate.
    pub fn trust_with(&self, pair: Option<&Pair>) -> Arc<ClientConfig> {
        pki::client(&self.authority.pem, pair, &[&TLS12, &TLS13])
    }
}

/// A TLS connection.
pub struct TlsClient {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    input: Vec<u8>,
}

impl TlsClient {
    /// Connects without a handshake yet.
    pub fn new(addr: SocketAddr, config: &Arc<ClientConfig>) -> TlsClient {
        TlsClient::over(TcpStream::connect_timeout(&addr, PATIENCE).expect("connected"), config)
    }

    pub fn over(tcp: TcpStream, config: &Arc<ClientConfig>) -> TlsClient {
        tcp.set_nodelay(true).expect("set");
        tcp.set_write_timeout(Some(PATIENCE)).expect("set");
        TlsClient { stream: StreamOwned::new(pki::session(config), tcp), input: Vec::new() }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("sent");
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.sock.set_read_timeout(Some(PATIENCE))?;
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Sends these bytes, one byte in each record.
    #[track_caller]
    pub fn send_by_byte(&mut self, bytes: impl AsRef<[u8]>) {
        bytes.as_ref().iter().for_each(|byte| self.send([*byte]));
    }

    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request);
        self.response()
    }

    #[track_caller]
    pub fn response(&mut self) -> Response {
        match self.read(PATIENCE) {
            Ok(response) => response,
            Err(end) => panic!("no response but {end:?}, after {:?}", String::from_utf8_lossy(&self.input)),
        }
    }

    /// The next response, or what arrived in its place. A FIN without close_notify is `Torn`.
    pub fn read(&mut self, within: Duration) -> Result<Response, End> {
        let until = Instant::now() + within;
        loop {
            if let Some(response) = take_response(&mut self.input, false) {
                return Ok(response);
            }
            self.fill(until)?;
        }
    }

    /// Asserts that the connection ends with close_notify and FIN and without another byte.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        assert_eq!(self.fill(Instant::now() + PATIENCE), Err(End::Closed));
    }

    fn fill(&mut self, until: Instant) -> Result<(), End> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.sock.set_read_timeout(Some(left)).expect("set");
        let mut buffer = vec![0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) if self.input.is_empty() => Err(End::Closed),
            Ok(0) => Err(End::Torn),
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(End::Silent),
                ErrorKind::UnexpectedEof => Err(End::Torn),
                _ => Err(End::Reset),
            },
        }
    }
}
