//! The systemd units.

use super::launch::{self, Serving, clean};
use super::product::{BINARY, port, product, seconds};
use super::support::folder::Folder;
use super::{read, tools};
use std::fs::{self, File};
use std::io::BufReader;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;

const SERVICE: &str = "pilotlight.service";
/// For each socket: its name in the binary, its unit, and the setting that it replaces.
const SOCKETS: [(&str, &str, &str); 3] = [
    ("runner", "pilotlight.socket", "PILOTLIGHT_LISTEN"),
    ("dispatch", "pilotlight-dispatch.socket", ""),
    ("admin", "pilotlight-admin.socket", "PILOTLIGHT_ADMIN_LISTEN"),
];
/// The allowed exposure in `systemd-analyze security`, in tenths. It comes from the network (0.7), from the
/// real-time clock's device that ProtectClock adds, and from /proc/sys, for net.core.somaxconn.
const EXPOSURE_MAX: &str = "15";

/// A unit's settings, in order.
pub struct Unit(Vec<(String, String)>);

impl Unit {
    pub fn parse(text: &str) -> Unit {
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
        Unit(
            lines
                .map(|line| line.split_once('=').unwrap_or_else(|| panic!("{line}")))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn one<'a>(&'a self, name: &'a str) -> &'a str {
        let values: Vec<&str> = self.all(name).collect();
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0]
    }

    /// The words of a list.
    pub fn words<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        self.all(name).flat_map(str::split_whitespace).collect()
    }
}

pub fn unit(name: &str) -> Unit {
    Unit::parse(&read(&format!("deploy/systemd/{name}")))
}

pub fn runner_socket(text: &str) {
    socket(text, "runner", product().port("PILOTLIGHT_LISTEN"));
    assert_eq!(Unit::parse(text).one("Backlog"), product().default("PILOTLIGHT_BACKLOG"));
}

pub fn dispatch_socket(text: &str) {
    // The port after the runner side's, as in the documents and the other files under deploy/.
    socket(text, "dispatch", product().port("PILOTLIGHT_LISTEN") + 1);
}

pub fn admin_socket(text: &str) {
    socket(text, "admin", product().port("PILOTLIGHT_ADMIN_LISTEN"));
}

fn socket(text: &str, name: &str, expected_port: u16) {
    let socket = Unit::parse(text);
    assert_eq!(socket.one("FileDescriptorName"), name);
    assert_eq!(socket.one("Service"), SERVICE);
    assert_eq!(socket.one("WantedBy"), "sockets.target");
    let address = socket.one("ListenStream");
    assert_eq!(port(address), expected_port);
    assert!(
        address.starts_with("127.0.0.1:"),
        "an installed package must open no port to the network: {address}"
    );
}

pub fn service(text: &str) {
    let service = Unit::parse(text);
    let product = product();
    assert_eq!(service.one("Type"), "notify");
    let sockets: Vec<&str> = SOCKETS.iter().map(|(_, unit, _)| *unit).collect();
    for list in ["Sockets", "Requires", "Also"] {
        assert_eq!(service.words(list), sockets, "{list}");
    }
    sockets.iter().for_each(|socket| assert!(service.words("After").contains(socket)));

    assert_eq!(service.one("ExecStart"), "/usr/bin/pilotlight serve");
    let environment = service.words("Environment");
    let settings: Vec<(&str, &str)> =
        environment.iter().map(|pair| pair.split_once('=').expect("a pair")).collect();
    product.assert_settings(settings.iter().map(|(name, _)| *name));
    drop(launch::with_settings(["serve"], settings));

    // Enough also for the default shutdown time, which is longer than the unit's.
    assert!(seconds(service.one("TimeoutStopSec")) > product.shutdown_max_s());
    assert_eq!(service.one("EnvironmentFile"), "-/etc/default/pilotlight");
    assert_eq!(service.one("RestartPreventExitStatus"), "2");
    let mut refused = clean(BINARY);
    refused.args(["serve", "--keepalive", "soon"]).stderr(Stdio::null());
    assert_eq!(refused.status().expect("run").code(), Some(2));
}

/// Each setting is a comment with the value in force.
pub fn settings(text: &str) {
    let product = product();
    let service = unit(SERVICE);
    let of_unit: Vec<(&str, &str)> =
        service.words("Environment").iter().filter_map(|pair| pair.split_once('=')).collect();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.iter().all(|line| line.starts_with('#')), "a setting is not commented out");
    let settings: Vec<(&str, &str)> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("#PILOTLIGHT_"))
        .filter_map(|line| line.split_once('='))
        .collect();
    assert!(settings.len() >= 5);
    for (name, value) in &settings {
        let name = format!("PILOTLIGHT_{name}");
        let in_force = of_unit
            .iter()
            .find(|(other, _)| *other == name)
            .map_or(product.default(&name), |(_, value)| value);
        assert!(in_force == *value || in_force.is_empty(), "{name}: {value} is written, {in_force} in force");
    }
    let names: Vec<String> = settings.iter().map(|(name, _)| format!("PILOTLIGHT_{name}")).collect();
    drop(launch::with_settings(
        ["serve"],
        names.iter().map(String::as_str).zip(settings.iter().map(|(_, value)| *value)),
    ));
}

pub fn verified_by_systemd() {
    let folder = Folder::new("units");
    let mut paths = Vec::new();
    for name in SOCKETS.iter().map(|(_, unit, _)| *unit).chain([SERVICE]) {
        // The package is not installed: the binary is elsewhere, and there is no manual.
        let text = read(&format!("deploy/systemd/{name}")).replace("/usr/bin/pilotlight", BINARY);
        let text: String = text
            .lines()
            .filter(|line| !line.starts_with("Documentation=file:"))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(folder.path(name), text).expect("written");
        paths.push(folder.path(name));
    }
    let analyze = |args: &[&str]| tools::packaged("systemd-analyze", "systemd").args(args);
    let verified = analyze(&["verify"]).args(&paths).output();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && said.is_empty(), "systemd-analyze verify: {said}");
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    analyze(&["security", "--offline=true", "--no-pager", &threshold]).args([folder.path(SERVICE)]).succeed();
}

/// The binary recognises the three sockets by the names in the units.
pub fn served_from_sockets() {
    let names: Vec<String> =
        SOCKETS.iter().map(|(_, name, _)| unit(name).one("FileDescriptorName").to_owned()).collect();
    let listeners: Vec<TcpListener> =
        SOCKETS.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let [runner, dispatch, admin] = [0, 1, 2].map(|index| listeners[index].local_addr().expect("bound"));
    let mut streams = listeners.into_iter().map(|listener| Stdio::from(OwnedFd::from(listener)));

    // The shell moves its three streams to descriptors 3 to 5, and the log goes to a pipe.
    let folder = Folder::new("sockets");
    let log = folder.path("log");
    nix::unistd::mkfifo(log.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("made");
    let mut command = clean("sh");
    command.arg("-c").arg(format!(
        "exec 3<&0 4<&1 5<&2 0</dev/null 1>/dev/null 2>{log}; export LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES={names}; exec {BINARY} serve",
        names = names.join(":"),
    ));
    let mut stream = || streams.next().expect("three");
    command.stdin(stream()).stdout(stream()).stderr(stream());
    // If the broker did not recognise a name it would listen here, and the addresses below would differ.
    for (_, _, setting) in SOCKETS.iter().filter(|(_, _, setting)| !setting.is_empty()) {
        command.env(setting, "127.0.0.1:0");
    }
    let child = command.spawn().expect("started");
    drop(command);
    let serving = Serving::watch(child, BufReader::new(File::open(&log).expect("a log")));
    assert_eq!((serving.runner, serving.dispatch, serving.admin), (runner, dispatch, admin));
    serving.assert_sides_are_separate_and_match();
}
