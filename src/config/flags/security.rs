//! Flags about security: who may dispatch and administer, and which privileges the process drops.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::listeners::LISTEN;
use super::typed::ServeFlags;
use crate::config::admin_token::AdminToken;
use crate::config::error::ConfigError;
use crate::config::serve_config::{AdminChanges, Listeners, ProcessConfig};
use crate::config::values::{Value, text};
use crate::sys::dumps;
use crate::sys::listen::ListenSpec;
use crate::sys::user;
use ipnet::IpNet;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;

pub const FLAGS: &[&dyn AnyFlag] =
    &[&DISPATCH_ALLOW, &INSECURE_SHARED_DISPATCH, &ADMIN_TOKEN_FILE, &USER, &SECCOMP];

pub static DISPATCH_ALLOW: Flag<Networks> = Flag {
    name: "--dispatch-allow",
    variable: "PILOTLIGHT_DISPATCH_ALLOW",
    section: Section::Security,
    form: "CIDR,…",
    default: Preset::Unset("every client that reaches the listener"),
    help: "Accept dispatches only from these networks, such as 10.0.3.0/24,fd00::7; others get 403",
    details: "Applies to every TCP listener that accepts dispatches. For a Unix domain socket, the permissions of its file decide (--unix-mode).",
    accept: any,
    show: |config| match &config.dispatch_allow {
        Some(nets) => nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        None => "every client that reaches the listener".to_owned(),
    },
};

pub static INSECURE_SHARED_DISPATCH: Flag<bool> = Flag {
    name: "--insecure-shared-dispatch",
    variable: "PILOTLIGHT_INSECURE_SHARED_DISPATCH",
    section: Section::Security,
    form: "",
    default: Preset::Unset(""),
    help: "Accept dispatches from every client of --listen, although --listen is not on loopback",
    details: "Any task's code can then send a forged run to any runner. Use it only where all code that runs is your own.",
    accept: any,
    show: |config| config.listeners.share_dispatch(config.dispatch_allow.is_some()).to_string(),
};

pub static ADMIN_TOKEN_FILE: Flag<PathBuf> = Flag {
    name: "--admin-token-file",
    variable: "PILOTLIGHT_ADMIN_TOKEN_FILE",
    section: Section::Security,
    form: "FILE",
    default: Preset::Unset(""),
    help: "A file with the token that clients must send to cordon or uncordon",
    details: "The token has at least 16 characters. Clients send it as `Authorization: Bearer TOKEN`. Without this flag, the admin side accepts changes on loopback and on Unix domain sockets only.",
    accept: any,
    show: |config| {
        match config.admin_changes {
            AdminChanges::Allowed => "unset: every client that reaches the admin side may change something",
            AdminChanges::WithToken(_) => "set",
            AdminChanges::Denied => "unset: no client may change anything",
        }
        .to_owned()
    },
};

pub static USER: Flag<String> = Flag {
    name: "--user",
    variable: "PILOTLIGHT_USER",
    section: Section::Security,
    form: "NAME[:GROUP]",
    default: Preset::Unset("no change"),
    help: "Become this user and group, by name or number, once every listener is bound",
    details: "Without :GROUP, the user's own group. The process gives up all other groups.",
    accept: any,
    show: |config| match &config.process.identity {
        Some(user) => format!("{}:{}", user.uid, user.gid),
        None => "unchanged".to_owned(),
    },
};

pub static SECCOMP: Flag<bool> = Flag {
    name: "--seccomp",
    variable: "PILOTLIGHT_SECCOMP",
    section: Section::Security,
    form: "",
    default: Preset::Unset(""),
    help: "Deny the workers every system call that they do not need (seccomp)",
    details: "",
    accept: any,
    show: |config| config.process.seccomp.to_string(),
};

/// Networks and addresses, separated by commas.
#[derive(Debug)]
pub struct Networks(Vec<IpNet>);

impl Value for Networks {
    fn read(typed: &OsStr) -> Result<Self, String> {
        const FORM: &str = "is not a list of networks. Use networks or addresses separated by commas, such as 10.0.3.0/24,192.0.2.7,fd00::/8.";
        let nets = text(typed)?.split(',').map(|word| {
            let word = word.trim();
            word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from)).map(|net: IpNet| net.trunc())
        });
        nets.collect::<Result<_, _>>().map(Networks).map_err(|_| FORM.to_owned())
    }
}

impl Value for String {
    fn read(typed: &OsStr) -> Result<Self, String> {
        text(typed).map(str::to_owned)
    }
}

pub fn dispatch_allow(flags: &ServeFlags) -> Result<Option<Vec<IpNet>>, ConfigError> {
    Ok(flags.find(&DISPATCH_ALLOW)?.map(|Networks(nets)| nets))
}

/// Refuses to start if a whole network could dispatch and the operator has not allowed it.
pub fn check_dispatch(
    flags: &ServeFlags,
    listeners: &Listeners,
    is_restricted: bool,
) -> Result<(), ConfigError> {
    if flags.is_on(&INSECURE_SHARED_DISPATCH)? || !listeners.share_dispatch(is_restricted) {
        return Ok(());
    }
    const PROBLEM: &str = "is reachable from other machines, and every client there, task code included, could dispatch forged runs. Use --dispatch-listen to give dispatches their own listener, or --dispatch-allow to name the supervisors' addresses, or --insecure-shared-dispatch to accept this.";
    Err(match &listeners.runner {
        ListenSpec::Fd(_) => LISTEN.refuse("from the service manager", PROBLEM),
        _ => flags.refuse(&LISTEN, PROBLEM),
    })
}

pub fn admin_changes(flags: &ServeFlags, admin: &ListenSpec) -> Result<AdminChanges, ConfigError> {
    let Some(path) = flags.find(&ADMIN_TOKEN_FILE)? else {
        return Ok(if admin.is_private() { AdminChanges::Allowed } else { AdminChanges::Denied });
    };
    let no_dumps = dumps::forbid().map_err(|error| {
        format!(
            "cannot be used, because core dumps would contain the token and cannot be turned off: {error}."
        )
    });
    match no_dumps.and_then(|()| AdminToken::read(&path)) {
        Ok(token) => Ok(AdminChanges::WithToken(token)),
        Err(problem) => Err(flags.refuse(&ADMIN_TOKEN_FILE, &problem)),
    }
}

pub fn process(flags: &ServeFlags) -> Result<ProcessConfig, ConfigError> {
    let identity = flags.find(&USER)?.map(|name| user::resolve(&name)).transpose();
    Ok(ProcessConfig {
        identity: identity.map_err(|why| flags.refuse(&USER, &format!("cannot be used: {why}.")))?,
        seccomp: flags.is_on(&SECCOMP)?,
    })
}
