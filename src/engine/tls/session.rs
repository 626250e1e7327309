//! One connection's TLS: decrypts records, encrypts plaintext.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{Error, ServerConfig};
use std::sync::Arc;

/// The longest record (RFC 8446 section 5.1, RFC 5246 section 6.2.3): its head, its content, and what a cipher may
/// add. The layer keeps no more than this per connection, and refuses a handshake message that does not fit.
pub const RECORD_BYTES_MAX: usize = 5 + (16 << 10) + (2 << 10);
/// An encrypted record with an alert of two bytes.
const NOTIFY_BYTES_MAX: usize = 64;

pub struct Session {
    tls: UnbufferedServerConnection,
    /// The received part of an incomplete record.
    incomplete: Vec<u8>,
    /// The handshake is over.
    open: bool,
    /// The close_notify is encrypted.
    notified: bool,
}

/// What a connection's bytes contained besides plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processed {
    Nothing,
    /// The peer's close_notify: it sends no more.
    PeerFinished,
    /// Invalid TLS, or none at all. The session cannot use what follows.
    Failed,
}

impl Session {
    pub fn new(config: &Arc<ServerConfig>) -> Result<Session, Error> {
        let tls = UnbufferedServerConnection::new(config.clone())?;
        Ok(Session { tls, incomplete: Vec::new(), open: false, notified: false })
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Memory that the session owns for an incomplete record.
    pub fn incomplete_bytes(&self) -> usize {
        self.incomplete.capacity()
    }

    /// Drops an incomplete record. Returns how much memory it owned.
    pub fn drop_incomplete(&mut self) -> usize {
        std::mem::take(&mut self.incomplete).capacity()
    }

    /// Decrypts `bytes`, with `scratch` as working memory. Appends plaintext to `plain`, and TLS's own answers to
    /// `own`.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        scratch: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        own: &mut Vec<u8>,
    ) -> Processed {
        if self.incomplete.is_empty() {
            scratch.clear();
            scratch.extend_from_slice(bytes);
            let (used, processed) = self.process(scratch, plain, own);
            if used < scratch.len() {
                self.incomplete = scratch[used..].to_vec();
            }
            return self.bounded(processed);
        }
        let mut records = std::mem::take(&mut self.incomplete);
        records.extend_from_slice(bytes);
        let (used, processed) = self.process(&mut records, plain, own);
        // An incomplete record stays where it is, so that a byte costs no copy of the bytes before it.
        self.incomplete = match used {
            0 => records,
            used if used == records.len() => Vec::new(),
            used => records[used..].to_vec(),
        };
        self.bounded(processed)
    }

    fn bounded(&mut self, processed: Processed) -> Processed {
        if processed == Processed::Failed || self.incomplete.len() > RECORD_BYTES_MAX {
            self.incomplete = Vec::new();
            return Processed::Failed;
        }
        processed
    }

    /// Returns how many bytes of `records` were used.
    fn process(&mut self, records: &mut [u8], plain: &mut Vec<u8>, own: &mut Vec<u8>) -> (usize, Processed) {
        let mut used = 0;
        let mut processed = Processed::Nothing;
        loop {
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut records[used..]);
            let mut discard = discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let Ok(record) = record else { return (used, Processed::Failed) };
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    append(own, |room| message.encode(room));
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => processed = Processed::PeerFinished,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.open = true;
                    return (used + discard, processed);
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    return (used + discard, processed);
                }
                // Early data, which the server does not offer.
                Ok(_) => return (used, Processed::Failed),
                Err(_) => {
                    // The alert that names the reason.
                    let rest = &mut records[used + discard..];
                    if let Ok(ConnectionState::EncodeTlsData(mut alert)) =
                        self.tls.process_tls_records(rest).state
                    {
                        append(own, |room| alert.encode(room));
                    }
                    return (used, Processed::Failed);
                }
            }
            used += discard;
        }
    }

    /// The records of `plain`, followed by a close_notify if `last`. `None` before the handshake is over, and
    /// after the close_notify.
    pub fn encrypt(&mut self, plain: &[u8], last: bool) -> Option<Vec<u8>> {
        if !self.open || self.notified {
            return None;
        }
        // The session has processed every complete record, so this call uses none up.
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

    /// A close_notify, once; `None` if the peers have agreed on no keys.
    pub fn close_notify(&mut self) -> Option<Vec<u8>> {
        self.encrypt(&[], true)
    }
}

/// Appends what `encode` writes.
fn append(own: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encode(&mut []) else {
        return;
    };
    let len = own.len();
    own.resize(len + required_size, 0);
    let written = encode(&mut own[len..]).unwrap_or(0);
    own.truncate(len + written);
}
