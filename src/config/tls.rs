//! The flags about TLS: which listener is served with which identity.

use super::resolve::{ConfigError, refuse};
use super::{ListenSpec, Listeners};
use crate::cli::ServeFlags;
use crate::sys::dumps;
use crate::sys::listen::{Local, Side, local_of};
use crate::sys::tls::{FileError, Files, Identity, Part};
use std::path::PathBuf;
use std::sync::Arc;

/// The listeners that are served with TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// Runner side.
    pub runner: Option<Arc<Identity>>,
    /// Supervisor side.
    pub dispatch: Option<Arc<Identity>>,
}

/// One listener's flags.
struct Names {
    listen: Side,
    cert: &'static str,
    key: &'static str,
    client_ca: &'static str,
}

const RUNNER: Names =
    Names { listen: Side::Runner, cert: "--tls-cert", key: "--tls-key", client_ca: "--dispatch-client-ca" };
const DISPATCH: Names = Names {
    listen: Side::Dispatch,
    cert: "--dispatch-tls-cert",
    key: "--dispatch-tls-key",
    client_ca: "--dispatch-client-ca",
};

impl TlsConfig {
    /// The identities, each with the flag of its certificate.
    pub fn identities(&self) -> impl Iterator<Item = (&'static str, &Arc<Identity>)> {
        let runner = self.runner.iter().map(|identity| (RUNNER.cert, identity));
        runner.chain(self.dispatch.iter().map(|identity| (DISPATCH.cert, identity)))
    }
}

pub(super) fn resolve(flags: &ServeFlags, listeners: &Listeners) -> Result<TlsConfig, ConfigError> {
    let runner = files(&RUNNER, &flags.tls_cert, &flags.tls_key)?;
    let dispatch = files(&DISPATCH, &flags.dispatch_tls_cert, &flags.dispatch_tls_key)?;
    let dispatch = match (&listeners.dispatch, dispatch, &flags.dispatch_client_ca) {
        (_, None, None) => None,
        (None, Some(files), _) => {
            return refuse(
                DISPATCH.cert,
                files.cert.display(),
                "there is no --dispatch-listen: dispatches come over --listen, whose certificate is --tls-cert",
            );
        }
        (_, None, Some(path)) => {
            return refuse(
                DISPATCH.client_ca,
                path.display(),
                "certificates are asked for with TLS only, and of supervisors only: give dispatches a listener of their own (--dispatch-listen) with --dispatch-tls-cert and --dispatch-tls-key",
            );
        }
        (Some(spec), Some(files), _) if is_unix(spec) => {
            return refuse(
                DISPATCH.cert,
                files.cert.display(),
                "--dispatch-listen is a Unix domain socket, which is served without TLS: nothing of it leaves the machine",
            );
        }
        (Some(_), Some(files), client_ca) => Some(Files { client_ca: client_ca.clone(), ..files }),
    };
    if (runner.is_some() || dispatch.is_some())
        && let Err(error) = dumps::forbid()
    {
        return refuse(
            "--tls-key",
            "given",
            format!("core dumps, which would hold the key, cannot be turned off: {error}"),
        );
    }
    let load = |names: &Names, files: Option<Files>| match files.map(Identity::load) {
        None => Ok(None),
        Some(Ok(identity)) => Ok(Some(identity)),
        Some(Err(FileError { part, path, why })) => refuse(names.of(part), path.display(), why),
    };
    Ok(TlsConfig { runner: load(&RUNNER, runner)?, dispatch: load(&DISPATCH, dispatch)? })
}

impl Names {
    fn of(&self, part: Part) -> &'static str {
        match part {
            Part::Cert => self.cert,
            Part::Key => self.key,
            Part::ClientCa => self.client_ca,
        }
    }
}

fn files(names: &Names, cert: &Option<PathBuf>, key: &Option<PathBuf>) -> Result<Option<Files>, ConfigError> {
    let half = |flag, path: &PathBuf, other| {
        refuse(
            flag,
            path.display(),
            format!("{other} is missing: {} takes both with TLS", names.listen.flag()),
        )
    };
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(Files { cert: cert.clone(), key: key.clone(), client_ca: None })),
        (Some(cert), None) => half(names.cert, cert, names.key),
        (None, Some(key)) => half(names.key, key, names.cert),
    }
}

fn is_unix(spec: &ListenSpec) -> bool {
    match spec {
        ListenSpec::Unix(_) => true,
        ListenSpec::Addr(_) => false,
        ListenSpec::Fd(fd) => local_of(fd).is_ok_and(|local| matches!(local, Local::Path(_))),
    }
}
