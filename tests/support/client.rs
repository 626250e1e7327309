//! A connection to a broker. The test controls every byte.

use super::PATIENCE;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Header fields, names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// How a connection ended, or did not, in place of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing: the connection is open, and the time is over.
    Silent,
    /// The peer's FIN, without a byte before it.
    Closed,
    /// The peer's FIN in the middle of a response.
    Torn,
    /// A reset.
    Reset,
}

impl Response {
    /// The value of a header field. It must not occur twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    pub fn says_close(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.field("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `didWarmStart` of the answer to a dispatch.
    #[track_caller]
    pub fn did_warm_start(&self) -> bool {
        match (self.status, self.text()) {
            (200, r#"{"didWarmStart":true}"#) => true,
            (200, r#"{"didWarmStart":false}"#) => false,
            _ => panic!("neither warm nor cold: {self:?}"),
        }
    }

    /// `error` of a refusal.
    #[track_caller]
    pub fn error(&self) -> String {
        let body = self.json();
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
        body["error"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    /// Bytes read and not used yet.
    input: Vec<u8>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        Client::try_connect(addr).expect("connected")
    }

    pub fn try_connect(addr: SocketAddr) -> io::Result<Client> {
        Client::over(TcpStream::connect_timeout(&addr, PATIENCE)?)
    }

    /// Connects from a loopback address 127.x.y.z. Each address has its own ports.
    pub fn connect_from(source: Ipv4Addr, addr: SocketAddr) -> io::Result<Client> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&addr.into(), PATIENCE)?;
        Client::over(socket.into())
    }

    /// Connects with the smallest receive buffer that the kernel allows.
    pub fn connect_narrow(addr: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_recv_buffer_size(1).expect("set");
        socket.connect_timeout(&addr.into(), PATIENCE).expect("connected");
        Client::over(socket.into()).expect("set")
    }

    fn over(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, input: Vec::new() })
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sent");
    }

    /// Sends to a peer that may have closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Closes the sending half.
    pub fn finish(&self) {
        // Fails if the peer has reset the connection, which then knows of the end.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request);
        self.response()
    }

    /// The next response.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        match self.read(PATIENCE) {
            Ok(response) => response,
            Err(end) => panic!("no response but {end:?}, after {:?}", self.leftover()),
        }
    }

    /// The next response, if the request was a HEAD.
    #[track_caller]
    pub fn response_to_head(&mut self) -> Response {
        match self.receive(Instant::now() + PATIENCE, true) {
            Ok(response) => response,
            Err(end) => panic!("no response but {end:?}, after {:?}", self.leftover()),
        }
    }

    /// The next response, or what arrived in its place.
    pub fn read(&mut self, within: Duration) -> Result<Response, End> {
        self.receive(Instant::now() + within, false)
    }

    fn receive(&mut self, until: Instant, head_only: bool) -> Result<Response, End> {
        loop {
            if let Some(response) = self.take_response(head_only) {
                return Ok(response);
            }
            self.fill(until)?;
        }
    }

    /// Asserts that the connection ends with a FIN and without another byte.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        assert_eq!(self.end(PATIENCE), End::Closed, "after {:?}", self.leftover());
    }

    /// Asserts that the connection ends with a FIN or a reset and without another byte.
    #[track_caller]
    pub fn expect_gone(&mut self) {
        let end = self.end(PATIENCE);
        assert!(matches!(end, End::Closed | End::Reset), "{end:?} after {:?}", self.leftover());
    }

    /// Asserts that the connection stays open and no byte arrives.
    #[track_caller]
    pub fn expect_silence(&mut self, during: Duration) {
        assert_eq!(self.end(during), End::Silent, "after {:?}", self.leftover());
    }

    /// How the connection ends. `Torn`: bytes arrived before the end.
    pub fn end(&mut self, within: Duration) -> End {
        let until = Instant::now() + within;
        loop {
            if !self.input.is_empty() {
                return End::Torn;
            }
            if let Err(end) = self.fill(until) {
                return end;
            }
        }
    }

    /// The bytes read and not used, as text.
    pub fn leftover(&self) -> String {
        String::from_utf8_lossy(&self.input).into_owned()
    }

    fn fill(&mut self, until: Instant) -> Result<(), End> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).expect("a read timeout");
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) if self.input.is_empty() => Err(End::Closed),
            Ok(0) => Err(End::Torn),
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(End::Silent),
                ErrorKind::Interrupted => Ok(()),
                _ => Err(End::Reset),
            },
        }
    }

    fn take_response(&mut self, head_only: bool) -> Option<Response> {
        take_response(&mut self.input, head_only)
    }
}

/// Takes the first response from `input` if it is complete.
pub fn take_response(input: &mut Vec<u8>, head_only: bool) -> Option<Response> {
    let head_len = input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&input[..head_len]).expect("an ASCII head");
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().expect("a status line");
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next());
    let status = status.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
    let fields: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?}")))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut response = Response { status, fields, body: Vec::new() };
    let body_len = match response.field("content-length") {
        _ if head_only => 0,
        Some(length) => length.parse().expect("a length"),
        // RFC 9112 section 6.3: these responses have no body and no length.
        None if status == 204 || status < 200 => 0,
        None => panic!("no Content-Length: {response:?}"),
    };
    let body = input.get(head_len..head_len + body_len)?;
    response.body = body.to_vec();
    input.drain(..head_len + body_len);
    Some(response)
}
