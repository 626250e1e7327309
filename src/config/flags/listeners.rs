//! Flags about listeners: addresses, socket files, takeover.

use super::flag::{AnyFlag, Flag, Preset, Section, any};
use super::typed::ServeFlags;
use crate::config::error::ConfigError;
use crate::config::serve_config::Listeners;
use crate::config::values::{FileMode, Value, text};
use crate::sys::activation::Activated;
use crate::sys::listen::{ListenSpec, PATH_BYTES_MAX};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

pub const FLAGS: &[&dyn AnyFlag] = &[&LISTEN, &DISPATCH_LISTEN, &ADMIN_LISTEN, &UNIX_MODE, &TAKEOVER];

pub static LISTEN: Flag<RunnerAddress> = Flag {
    name: "--listen",
    variable: "PILOTLIGHT_LISTEN",
    section: Section::Listening,
    form: "IP:PORT",
    default: Preset::Value("127.0.0.1:8040"),
    help: "Runner side: serves GET /connect and GET /warm-start",
    details: "Set the supervisor's TRIGGER_WARM_START_URL to this address. With port 0 the kernel chooses a free port, and the log names it. A socket named `runner` from systemd replaces this address.",
    accept: any,
    show: |config| show(&config.listeners.runner),
};

pub static DISPATCH_LISTEN: Flag<Address> = Flag {
    name: "--dispatch-listen",
    variable: "PILOTLIGHT_DISPATCH_LISTEN",
    section: Section::Listening,
    form: "IP:PORT|unix:PATH",
    default: Preset::Unset("served on --listen too"),
    help: "Dispatch side: serves POST /warm-start",
    details: "Set the supervisor's TRIGGER_WARM_START_DISPATCH_URL to this address. The runner side then answers dispatches with 404, because task code can reach the runner side and could forge them. A socket named `dispatch` from systemd replaces this address.",
    accept: any,
    show: |config| match &config.listeners.dispatch {
        Some(listener) => show(listener),
        None => "on --listen".to_owned(),
    },
};

pub static ADMIN_LISTEN: Flag<Address> = Flag {
    name: "--admin-listen",
    variable: "PILOTLIGHT_ADMIN_LISTEN",
    section: Section::Listening,
    form: "IP:PORT|unix:PATH",
    default: Preset::Value("127.0.0.1:8042"),
    help: "Admin side: serves a web page at /, and /healthz, /readyz, /metrics, /status, /cordon and /api",
    details: "A socket named `admin` from systemd replaces this address.",
    accept: any,
    show: |config| show(&config.listeners.admin),
};

pub static UNIX_MODE: Flag<FileMode> = Flag {
    name: "--unix-mode",
    variable: "PILOTLIGHT_UNIX_MODE",
    section: Section::Listening,
    form: "MODE",
    default: Preset::Value("660"),
    help: "Permissions of the socket files of unix: listeners, in octal",
    details: "A client needs write permission to connect.",
    accept: any,
    show: |config| format!("{:o}", config.listeners.unix_mode),
};

pub static TAKEOVER: Flag<bool> = Flag {
    name: "--takeover",
    variable: "PILOTLIGHT_TAKEOVER",
    section: Section::Listening,
    form: "",
    default: Preset::Unset(""),
    help: "Share the addresses of a running Pilotlight instead of failing because they are in use",
    details: "For an upgrade without downtime: start the new process with --takeover, wait until its /readyz answers 200, then send SIGTERM to the old process. The old process passes every new connection to the new one before it closes its listeners.",
    accept: any,
    show: |config| config.listeners.takeover.to_string(),
};

/// Where the dispatch and the admin side listen.
#[derive(Debug)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Value for Address {
    fn read(typed: &OsStr) -> Result<Self, String> {
        const FORM: &str = "is not an IP address with a port. Use a value such as 127.0.0.1:8041, 0.0.0.0:8041 or [::]:8041, or unix:PATH.";
        let Some(path) = typed.as_bytes().strip_prefix(b"unix:") else {
            return text(typed)?.parse().map(Address::Tcp).map_err(|_| FORM.to_owned());
        };
        let path = PathBuf::from(OsStr::from_bytes(path));
        match path.is_absolute()
            && path.file_name().is_some()
            && path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX
        {
            true => Ok(Address::Unix(path)),
            false => Err(format!(
                "is not the absolute path of a socket file. Use a path of at most {PATH_BYTES_MAX} bytes such as unix:/run/pilotlight/dispatch.sock."
            )),
        }
    }
}

/// Where the runner side listens. TCP only: delivery cannot be confirmed on Unix domain sockets.
#[derive(Debug)]
pub struct RunnerAddress(SocketAddr);

impl Value for RunnerAddress {
    fn read(typed: &OsStr) -> Result<Self, String> {
        const FORM: &str = "is not an IP address with a port. Use a value such as 127.0.0.1:8040, 0.0.0.0:8040 or [::]:8040.";
        const UNIX: &str = "is a Unix domain socket, on which delivery cannot be confirmed. Use an IP address and a port such as 127.0.0.1:8040.";
        let typed = text(typed)?;
        match typed.parse() {
            Ok(addr) => Ok(RunnerAddress(addr)),
            Err(_) if typed.starts_with("unix:") => Err(UNIX.to_owned()),
            Err(_) => Err(FORM.to_owned()),
        }
    }
}

fn show(listener: &ListenSpec) -> String {
    match listener {
        ListenSpec::Addr(addr) => addr.to_string(),
        ListenSpec::Unix(path) => format!("unix:{}", path.display()),
        ListenSpec::Fd(_) => "from the service manager".to_owned(),
    }
}

pub fn resolve(flags: &ServeFlags, activated: Activated) -> Result<Listeners, ConfigError> {
    let listeners = Listeners {
        takeover: flags.is_on(&TAKEOVER)?,
        unix_mode: flags.get(&UNIX_MODE)?.0,
        runner: match activated.runner {
            Some(fd) => handed_over(fd),
            None => ListenSpec::Addr(flags.get(&LISTEN)?.0),
        },
        dispatch: match activated.dispatch {
            Some(fd) => Some(handed_over(fd)),
            None => flags.find(&DISPATCH_LISTEN)?.map(ListenSpec::from),
        },
        admin: match activated.admin {
            Some(fd) => handed_over(fd),
            None => flags.get(&ADMIN_LISTEN)?.into(),
        },
    };
    all_differ(flags, &listeners)?;
    Ok(listeners)
}

fn handed_over(fd: OwnedFd) -> ListenSpec {
    ListenSpec::Fd(Arc::new(fd))
}

impl From<Address> for ListenSpec {
    fn from(address: Address) -> ListenSpec {
        match address {
            Address::Tcp(addr) => ListenSpec::Addr(addr),
            Address::Unix(path) => ListenSpec::Unix(path),
        }
    }
}

/// The kernel would not refuse two of our sockets on one port: they share it with SO_REUSEPORT.
fn all_differ(flags: &ServeFlags, listeners: &Listeners) -> Result<(), ConfigError> {
    let taken = |by: &str, what: &str| format!("is also the address of {by}. Use another {what}.");
    let same = |one: &ListenSpec, other: &ListenSpec| match (one, other) {
        (ListenSpec::Addr(one), ListenSpec::Addr(other)) if one == other && one.port() != 0 => Some("port"),
        (ListenSpec::Unix(one), ListenSpec::Unix(other)) if one == other => Some("path"),
        _ => None,
    };
    let Listeners { runner, dispatch, admin, .. } = listeners;
    if let Some(dispatch) = dispatch {
        if let Some(what) = same(runner, dispatch) {
            return Err(flags.refuse(&DISPATCH_LISTEN, &taken(LISTEN.name, what)));
        }
        if let Some(what) = same(dispatch, admin) {
            return Err(flags.refuse(&ADMIN_LISTEN, &taken(DISPATCH_LISTEN.name, what)));
        }
    }
    match same(runner, admin) {
        Some(what) => Err(flags.refuse(&ADMIN_LISTEN, &taken(LISTEN.name, what))),
        None => Ok(()),
    }
}
