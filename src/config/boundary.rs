//! The trust boundary's part of the configuration: who may dispatch, who may change something, how much
//! of the memory a client can have, and what the process gives up.

use super::resolve::{ConfigError, refuse};
use super::{AdminChanges, ListenSpec, Listeners, ProcessConfig};
use crate::cli::{Auto, Bytes, ServeFlags};
use crate::sys::dumps;
use crate::sys::listen::{Local, PATH_BYTES_MAX, Side, local_of};
use crate::sys::user;
use ipnet::IpNet;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// Longer ones do not fit beside the rest of a request's head.
const TOKEN_BYTES_MAX: usize = 4 << 10;
/// The budget for bytes in flight where nothing asks for more.
const BUFFERED_BYTES: usize = 128 << 20;
/// The budget is leased in steps of 256 KiB, of which each worker may keep two.
const BUFFERED_BYTES_PER_WORKER: usize = 1 << 20;
/// A body, and the response that is made of it, must fit beside other requests.
const BUFFERED_BODIES: usize = 4;

/// The token that admin actions take. Never shown.
#[derive(Clone)]
pub struct AdminToken(Box<[u8]>);

impl AdminToken {
    /// The token in the file at `path`, white space around it left out.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do. Never its content.
    pub fn read(path: &Path) -> Result<AdminToken, String> {
        let advice = |error: io::Error| format!("cannot read it: {error}: name a file that holds the token");
        let content = fs::read(path).map_err(advice)?;
        let token = content.trim_ascii();
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len())
            || !token.iter().all(u8::is_ascii_graphic)
        {
            return Err(format!(
                "the token must be {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} printable ASCII characters without blanks: `openssl rand -hex 32` makes one"
            ));
        }
        Ok(AdminToken(token.into()))
    }

    /// What is compared, or sent.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// The path behind `unix:`, `None` for anything else.
pub(super) fn unix_path(side: Side, typed: &str) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = typed.strip_prefix("unix:") else { return Ok(None) };
    if side == Side::Runner {
        return refuse(
            side.flag(),
            typed,
            "runners are served over TCP only, for only there delivery can be proved: write an IP address and a port",
        );
    }
    let path = PathBuf::from(path);
    let named = path.is_absolute() && path.file_name().is_some();
    match named && path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
        true => Ok(Some(path)),
        false => refuse(
            side.flag(),
            typed,
            format!(
                "write a whole path of at most {PATH_BYTES_MAX} bytes, such as unix:/run/pilotlight/{side}.sock"
            ),
        ),
    }
}

pub(super) fn dispatch_allow(flags: &ServeFlags) -> Result<Option<Vec<IpNet>>, ConfigError> {
    let Some(typed) = &flags.dispatch_allow else { return Ok(None) };
    let nets = typed.split(',').map(|word| {
        let word = word.trim();
        word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from)).map(|net: IpNet| net.trunc())
    });
    match nets.collect() {
        Ok(nets) => Ok(Some(nets)),
        Err(_) => refuse(
            "--dispatch-allow",
            format_args!("{typed:?}"),
            "write networks or addresses, separated by commas: 10.0.3.0/24,192.0.2.7,fd00::/8",
        ),
    }
}

/// Nobody serves dispatch to a whole network by oversight.
pub(super) fn dispatch_is_meant(
    flags: &ServeFlags,
    listeners: &Listeners,
    listed: bool,
) -> Result<(), ConfigError> {
    if flags.insecure_shared_dispatch || !dispatch_is_shared(listeners, listed) {
        return Ok(());
    }
    let shown = match &listeners.runner {
        ListenSpec::Addr(addr) => addr.to_string(),
        _ => "(handed over)".to_owned(),
    };
    refuse(
        Side::Runner.flag(),
        shown,
        "whoever reaches it, every task's code included, could dispatch false runs to the runners: give dispatches a listener of their own (--dispatch-listen), or name the supervisors' addresses (--dispatch-allow), or accept it (--insecure-shared-dispatch)",
    )
}

/// Whoever reaches the runner side from another machine may dispatch; `listed`: there is a list of those
/// who may.
pub fn dispatch_is_shared(listeners: &Listeners, listed: bool) -> bool {
    listeners.dispatch.is_none() && !listed && !is_private(&listeners.runner)
}

/// Only this machine, or this container, can reach it.
fn is_private(spec: &ListenSpec) -> bool {
    match spec {
        ListenSpec::Addr(addr) => Local::Address(*addr).is_private(),
        ListenSpec::Unix(_) => true,
        ListenSpec::Fd(fd) => local_of(fd).is_ok_and(|local| local.is_private()),
    }
}

fn no_dumps(error: io::Error) -> String {
    format!("core dumps, which would hold the token, cannot be turned off: {error}")
}

pub(super) fn admin_changes(flags: &ServeFlags, admin: &ListenSpec) -> Result<AdminChanges, ConfigError> {
    match &flags.admin_token_file {
        Some(path) => match dumps::forbid().map_err(no_dumps).and_then(|()| AdminToken::read(path)) {
            Ok(token) => Ok(AdminChanges::ByToken(token)),
            Err(advice) => refuse("--admin-token-file", path.display(), advice),
        },
        None if is_private(admin) => Ok(AdminChanges::ByAnyone),
        None => Ok(AdminChanges::ByNobody),
    }
}

pub(super) fn process(flags: &ServeFlags) -> Result<ProcessConfig, ConfigError> {
    let identity = match &flags.user {
        None => None,
        Some(typed) => match user::resolve(typed) {
            Ok(identity) => Some(identity),
            Err(advice) => return refuse("--user", format_args!("{typed:?}"), advice),
        },
    };
    Ok(ProcessConfig { identity, seccomp: flags.seccomp })
}

pub(super) fn buffered_bytes_max(
    flags: &ServeFlags,
    workers: usize,
    body_bytes_max: usize,
) -> Result<usize, ConfigError> {
    let least = (BUFFERED_BODIES * body_bytes_max).max(BUFFERED_BYTES_PER_WORKER * workers);
    match flags.max_buffered {
        Auto::Auto => Ok(least.max(BUFFERED_BYTES)),
        Auto::Set(Bytes(asked)) if asked < least as u64 => refuse(
            "--max-buffered",
            format_args!("{asked} bytes"),
            format!(
                "at least {least}: {BUFFERED_BODIES} times --max-body, and 1MiB for each worker; lower --max-body, or raise this"
            ),
        ),
        Auto::Set(Bytes(asked)) => Ok(usize::try_from(asked).unwrap_or(usize::MAX / 2)),
    }
}
