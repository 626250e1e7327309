//! TLS identities: loads a certificate and its key from files, and holds the identity in force.
//!
//! No session outlives its connection: there is no resumption and no early data. So the server verifies a client
//! certificate on every connection, and files that it rereads on SIGHUP apply from the next connection on.

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, RootCertStore};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// The longest file that is read: longer than any certificate chain, key or bundle of authorities.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The only protocol inside TLS (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// The files of one listener's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// PEM: the certificate, then those that lead to its authority.
    pub cert: PathBuf,
    /// PEM: the certificate's key, as PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// PEM: authorities, one of which must have signed a client's certificate.
    pub client_ca: Option<PathBuf>,
}

/// One of the [`Files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Cert,
    Key,
    ClientCa,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct FileError {
    pub part: Part,
    pub path: PathBuf,
    /// What is wrong, and the remedy.
    pub why: String,
}

impl Files {
    /// Loads a listener's TLS configuration.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(&self) -> Result<Arc<ServerConfig>, FileError> {
        let provider = Arc::new(default_provider());
        let chain = certificates(&self.cert).map_err(|why| fault(Part::Cert, &self.cert, why))?;
        let key = private_key(&self.key).map_err(|why| fault(Part::Key, &self.key, why))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| fault(Part::Key, &self.key, error.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = authorities(path, provider).map_err(|why| fault(Part::ClientCa, path, why))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| self.mismatch(&error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    fn mismatch(&self, error: &Error) -> FileError {
        match error {
            Error::InconsistentKeys(_) => fault(
                Part::Key,
                &self.key,
                format!("it is not the key of the certificate in {}", self.cert.display()),
            ),
            Error::InvalidCertificate(error) => {
                fault(Part::Cert, &self.cert, format!("its first certificate cannot be read: {error}"))
            }
            error => fault(
                Part::Key,
                &self.key,
                format!(
                    "the key cannot be used: {error}: take one of RSA (2048 to 8192 bits), P-256, P-384 or Ed25519"
                ),
            ),
        }
    }
}

fn fault(part: Part, path: &Path, why: String) -> FileError {
    FileError { part, path: path.to_owned(), why }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let read = |path| -> io::Result<Zeroizing<Vec<u8>>> {
        // A buffer that grows would leave copies of a key behind.
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    match read(path) {
        Ok(text) if text.len() as u64 > FILE_BYTES_MAX => {
            Err(format!("longer than {FILE_BYTES_MAX} bytes: give a file of PEM keys or certificates"))
        }
        Ok(text) => Ok(text),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err("it contains no certificate: write it in PEM (-----BEGIN CERTIFICATE-----)".to_owned())
        }
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it is not PEM: {error}")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    match PrivateKeyDer::from_pem_slice(&read(path)?) {
        Ok(key) => Ok(key),
        // This does not repeat the reader's error, which may quote part of the key.
        Err(pem::Error::NoItemsFound) => {
            Err("it contains no key: write it in PEM (-----BEGIN PRIVATE KEY-----), without a passphrase"
                .to_owned())
        }
        Err(_) => Err("it is not PEM".to_owned()),
    }
}

fn authorities(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(path)? {
        roots.add(cert).map_err(|error| format!("it contains a certificate that cannot be read: {error}"))?;
    }
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .map_err(|error| format!("cannot be used: {error}"))
}

/// A listener's identity in force. Every worker reads it, and the control thread replaces it.
#[derive(Debug)]
pub struct Identity {
    files: Files,
    /// How often the control thread has replaced it. Workers compare this, and take the lock only after a change.
    version: AtomicU64,
    current: Mutex<Arc<ServerConfig>>,
}

impl Identity {
    /// Loads the identity in `files`.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(files: Files) -> Result<Arc<Identity>, FileError> {
        let current = Mutex::new(files.load()?);
        Ok(Arc::new(Identity { files, version: AtomicU64::new(0), current }))
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Reads the files again. Open connections keep the identity that they began with.
    ///
    /// # Errors
    /// The first file that cannot be used; the identity then stays as it was.
    pub fn reload(&self) -> Result<(), FileError> {
        let config = self.files.load()?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config;
        self.version.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// One worker's copy of an [`Identity`].
#[derive(Clone, Debug)]
pub struct Current {
    identity: Arc<Identity>,
    version: u64,
    config: Arc<ServerConfig>,
}

impl Current {
    pub fn of(identity: &Arc<Identity>) -> Current {
        let version = identity.version.load(Ordering::Acquire);
        let config = identity.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Current { identity: identity.clone(), version, config }
    }

    /// The configuration for a new connection.
    pub fn config(&mut self) -> &Arc<ServerConfig> {
        if self.identity.version.load(Ordering::Acquire) != self.version {
            *self = Current::of(&self.identity.clone());
        }
        &self.config
    }
}
