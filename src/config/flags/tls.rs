//! Flags about TLS: which listener serves with which certificate.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::typed::ServeFlags;
use crate::config::error::ConfigError;
use crate::config::serve_config::{Listeners, ServeConfig, TlsConfig};
use crate::sys::dumps;
use crate::sys::tls::{FileError, Files, Identity, Part};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const FLAGS: &[&dyn AnyFlag] =
    &[&TLS_CERT, &TLS_KEY, &DISPATCH_TLS_CERT, &DISPATCH_TLS_KEY, &DISPATCH_CLIENT_CA];

pub static TLS_CERT: Flag<PathBuf> = Flag {
    name: "--tls-cert",
    variable: "PILOTLIGHT_TLS_CERT",
    section: Section::Tls,
    form: "FILE",
    default: Preset::Unset(""),
    help: "Serve --listen with TLS: the certificate, followed by its intermediate certificates, in PEM",
    details: "TLS 1.2 and 1.3. Needs --tls-key. Without --dispatch-listen, dispatches use this certificate too. SIGHUP reads all TLS files again.",
    accept: any,
    show: |config| runner(config, |files| Some(&files.cert)),
};

pub static TLS_KEY: Flag<PathBuf> = Flag {
    name: "--tls-key",
    variable: "PILOTLIGHT_TLS_KEY",
    section: Section::Tls,
    form: "FILE",
    default: Preset::Unset(""),
    help: "The private key of --tls-cert, in PEM, without a passphrase",
    details: "",
    accept: any,
    show: |config| runner(config, |files| Some(&files.key)),
};

pub static DISPATCH_TLS_CERT: Flag<PathBuf> = Flag {
    name: "--dispatch-tls-cert",
    variable: "PILOTLIGHT_DISPATCH_TLS_CERT",
    section: Section::Tls,
    form: "FILE",
    default: Preset::Unset(""),
    help: "Serve --dispatch-listen with TLS: its certificate, as --tls-cert",
    details: "",
    accept: any,
    show: |config| dispatch(config, |files| Some(&files.cert)),
};

pub static DISPATCH_TLS_KEY: Flag<PathBuf> = Flag {
    name: "--dispatch-tls-key",
    variable: "PILOTLIGHT_DISPATCH_TLS_KEY",
    section: Section::Tls,
    form: "FILE",
    default: Preset::Unset(""),
    help: "The private key of --dispatch-tls-cert",
    details: "",
    accept: any,
    show: |config| dispatch(config, |files| Some(&files.key)),
};

pub static DISPATCH_CLIENT_CA: Flag<PathBuf> = Flag {
    name: "--dispatch-client-ca",
    variable: "PILOTLIGHT_DISPATCH_CLIENT_CA",
    section: Section::Tls,
    form: "FILE",
    default: Preset::Unset(""),
    help: "Accept dispatches only from clients with a certificate that a CA in this file signed (mutual TLS)",
    details: "A supervisor sends no client certificate. Run a proxy beside it that does.",
    accept: any,
    show: |config| dispatch(config, |files| files.client_ca.as_ref()),
};

/// The path of a file, never its content.
fn runner(config: &ServeConfig, file: fn(&Files) -> Option<&PathBuf>) -> String {
    path(&config.tls.runner, file)
}

fn dispatch(config: &ServeConfig, file: fn(&Files) -> Option<&PathBuf>) -> String {
    path(&config.tls.dispatch, file)
}

fn path(identity: &Option<Arc<Identity>>, file: fn(&Files) -> Option<&PathBuf>) -> String {
    let path = identity.as_ref().and_then(|identity| file(identity.files()));
    path.map_or("none".to_owned(), |path| path.display().to_string())
}

impl TlsConfig {
    /// The identities, each with the flag of its certificate.
    pub fn identities(&self) -> impl Iterator<Item = (&'static str, &Arc<Identity>)> {
        let runner = self.runner.iter().map(|identity| (TLS_CERT.name, identity));
        runner.chain(self.dispatch.iter().map(|identity| (DISPATCH_TLS_CERT.name, identity)))
    }
}

pub fn resolve(flags: &ServeFlags, listeners: &Listeners) -> Result<TlsConfig, ConfigError> {
    let runner = files(flags, &TLS_CERT, &TLS_KEY)?;
    let dispatch = dispatch_files(flags, listeners)?;
    if (runner.is_some() || dispatch.is_some())
        && let Err(error) = dumps::forbid()
    {
        let key = if runner.is_some() { &TLS_KEY } else { &DISPATCH_TLS_KEY };
        let problem = format!(
            "cannot be used, because core dumps would contain the key and cannot be turned off: {error}."
        );
        return Err(flags.refuse(key, &problem));
    }
    Ok(TlsConfig {
        runner: load(runner, &TLS_CERT, &TLS_KEY)?,
        dispatch: load(dispatch, &DISPATCH_TLS_CERT, &DISPATCH_TLS_KEY)?,
    })
}

fn files(
    flags: &ServeFlags,
    cert: &Flag<PathBuf>,
    key: &Flag<PathBuf>,
) -> Result<Option<Files>, ConfigError> {
    let half = |given, missing: &Flag<PathBuf>| {
        flags.refuse(given, &format!("needs {name}, which is missing. Set {name} too.", name = missing.name))
    };
    match (flags.find(cert)?, flags.find(key)?) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(Files { cert, key, client_ca: None })),
        (Some(_), None) => Err(half(cert, key)),
        (None, Some(_)) => Err(half(key, cert)),
    }
}

fn dispatch_files(flags: &ServeFlags, listeners: &Listeners) -> Result<Option<Files>, ConfigError> {
    let files = files(flags, &DISPATCH_TLS_CERT, &DISPATCH_TLS_KEY)?;
    let client_ca = flags.find(&DISPATCH_CLIENT_CA)?;
    match (&listeners.dispatch, files) {
        (_, None) if client_ca.is_some() => Err(flags.refuse(
            &DISPATCH_CLIENT_CA,
            "needs a dispatch listener with TLS. Set --dispatch-listen with --dispatch-tls-cert and --dispatch-tls-key.",
        )),
        (_, None) => Ok(None),
        (None, Some(_)) => Err(flags.refuse(
            &DISPATCH_TLS_CERT,
            "cannot be used, because there is no --dispatch-listen. Set --dispatch-listen, or use --tls-cert: dispatches come over --listen.",
        )),
        (Some(listener), Some(_)) if listener.is_unix() => Err(flags.refuse(
            &DISPATCH_TLS_CERT,
            "cannot be used, because --dispatch-listen is a Unix domain socket, which has no TLS. Omit it: the connection does not leave the machine.",
        )),
        (Some(_), Some(files)) => Ok(Some(Files { client_ca, ..files })),
    }
}

fn load(
    files: Option<Files>,
    cert: &Flag<PathBuf>,
    key: &Flag<PathBuf>,
) -> Result<Option<Arc<Identity>>, ConfigError> {
    let Some(files) = files else { return Ok(None) };
    Identity::load(files).map(Some).map_err(|FileError { part, path, why }| {
        let flag = match part {
            Part::Cert => cert,
            Part::Key => key,
            Part::ClientCa => &DISPATCH_CLIENT_CA,
        };
        flag.refuse(Path::new(&path), &format!("cannot be used: {why}."))
    })
}
