//! One connection's TLS: records in, plaintext out, and back.

use rustls::Error;
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use std::sync::Arc;

/// The longest record (RFC 8446 section 5.1, RFC 5246 section 6.2.3): its head, its content, and what a cipher may
/// add to it. The most that is kept of one connection, in its handshake too: a message of a handshake that
/// does not fit is refused.
pub const RECORD_BYTES_MAX: usize = 5 + (16 << 10) + (2 << 10);

/// One connection's TLS state.
pub struct Session {
    tls: UnbufferedServerConnection,
    /// Bytes of a record that is not all here.
    incomplete: Vec<u8>,
    open: bool,
    notified: bool,
}

/// What a connection's bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing beyond the plaintext.
    More,
    /// The peer has said that it sends no more (close_notify).
    Finished,
    /// The peer does not speak TLS, or not well enough. Nothing that follows can be used.
    Failed,
}

impl Session {
    /// A connection that has not sent a byte.
    pub fn new(config: &Arc<ServerConfig>) -> Result<Session, Error> {
        let tls = UnbufferedServerConnection::new(config.clone())?;
        Ok(Session { tls, incomplete: Vec::new(), open: false, notified: false })
    }

    /// The handshake is over.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Memory that it owns for bytes which can't be used yet.
    pub fn incomplete_bytes(&self) -> usize {
        self.incomplete.capacity()
    }

    /// Forgets what is incomplete; answers how much memory that was.
    pub fn give_up(&mut self) -> usize {
        std::mem::take(&mut self.incomplete).capacity()
    }

    /// Takes in `bytes`, of which `scratch` may hold a copy meanwhile. Appends plaintext to `plain`, and to `own`
    /// what TLS itself has to say.
    pub fn take(
        &mut self,
        bytes: &[u8],
        scratch: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        own: &mut Vec<u8>,
    ) -> Taken {
        if self.incomplete.is_empty() {
            scratch.clear();
            scratch.extend_from_slice(bytes);
            let (used, taken) = self.process(scratch, plain, own);
            if used < scratch.len() {
                self.incomplete = scratch[used..].to_vec();
            }
            return self.bounded(taken);
        }
        let mut records = std::mem::take(&mut self.incomplete);
        records.extend_from_slice(bytes);
        let (used, taken) = self.process(&mut records, plain, own);
        // What is still incomplete stays where it is, so that a byte costs no copy of those before it.
        self.incomplete = match used {
            0 => records,
            used if used == records.len() => Vec::new(),
            used => records[used..].to_vec(),
        };
        self.bounded(taken)
    }

    fn bounded(&mut self, taken: Taken) -> Taken {
        if taken == Taken::Failed || self.incomplete.len() > RECORD_BYTES_MAX {
            self.incomplete = Vec::new();
            return Taken::Failed;
        }
        taken
    }

    /// Answers how many bytes of `records` are used.
    fn process(&mut self, records: &mut [u8], plain: &mut Vec<u8>, own: &mut Vec<u8>) -> (usize, Taken) {
        let mut used = 0;
        let mut taken = Taken::More;
        loop {
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut records[used..]);
            let mut discard = discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let Ok(record) = record else { return (used, Taken::Failed) };
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    append(own, |room| message.encode(room));
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => taken = Taken::Finished,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.open = true;
                    return (used + discard, taken);
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    return (used + discard, taken);
                }
                // Early data is not offered.
                Ok(_) => return (used, Taken::Failed),
                Err(_) => {
                    // The alert that says why.
                    let rest = &mut records[used + discard..];
                    if let Ok(ConnectionState::EncodeTlsData(mut alert)) =
                        self.tls.process_tls_records(rest).state
                    {
                        append(own, |room| alert.encode(room));
                    }
                    return (used, Taken::Failed);
                }
            }
            used += discard;
        }
    }

    /// The records of `plain`, and with `last` our close_notify behind them; `None` if there is no way to encrypt.
    pub fn encrypt(&mut self, plain: &[u8], last: bool) -> Option<Vec<u8>> {
        if !self.open || self.notified {
            return None;
        }
        // Whatever is whole was handled when it came: nothing of it is used up here.
        let UnbufferedStatus { state: Ok(ConnectionState::WriteTraffic(mut traffic)), .. } =
            self.tls.process_tls_records(&mut self.incomplete)
        else {
            return None;
        };
        let size = match traffic.encrypt(plain, &mut []) {
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => required_size,
            Ok(_) => 0,
            Err(EncryptError::EncryptExhausted) => return None,
        };
        let mut records = vec![0; if last { size + NOTIFY_BYTES_MAX } else { size }];
        let mut len = traffic.encrypt(plain, &mut records).ok()?;
        if last {
            self.notified = true;
            len += traffic.queue_close_notify(&mut records[len..]).ok()?;
        }
        records.truncate(len);
        Some(records)
    }

    /// Our close_notify, once; nothing where no key is agreed on.
    pub fn close_notify(&mut self) -> Option<Vec<u8>> {
        self.encrypt(&[], true)
    }
}

/// An alert of two bytes as a record of its own, encrypted.
const NOTIFY_BYTES_MAX: usize = 64;

/// Appends what `encode` writes when it has room enough.
fn append(own: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encode(&mut []) else {
        return;
    };
    let len = own.len();
    own.resize(len + required_size, 0);
    let written = encode(&mut own[len..]).unwrap_or(0);
    own.truncate(len + written);
}
