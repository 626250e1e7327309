//! Upgrades: a second broker takes over from the first under load, and no client notices.

use super::fleet::Fleet;
use super::table::time;
use super::{Case, Fault, Runs, Scope};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

pub const FAULTS: &[Fault] = &[
    Fault { name: "restart_takeover", scope: Scope::ProofsOnOneWorker, runs: Runs::Alone, test: takeover },
    Fault { name: "restart_activated", scope: Scope::ProofsOnOneWorker, runs: Runs::Alone, test: activated },
];

const RUNNERS: usize = 40;
const SUPERVISORS: usize = 4;
const ARGS: &str = "--connection-timeout 1s --shutdown-time 700ms";
const PATIENCE: Duration = Duration::from_secs(10);

/// The new broker listens on the old one's port, then the old one gets SIGTERM. Both have two workers.
fn takeover(case: &Case) {
    let old = case.broker().workers(2).args(ARGS).start();
    let fleet = Fleet::new(old.runner);
    let (mut since, mut successor) = (Instant::now(), None);
    fleet.run(RUNNERS, SUPERVISORS, || {
        thread::sleep(Duration::from_millis(300));
        let new = case.broker().workers(2).port(old.runner.port()).args(ARGS).args("--takeover").start();
        thread::sleep(Duration::from_millis(200));
        old.signal(Signal::SIGTERM);
        let status = old.wait(PATIENCE);
        since = Instant::now();
        thread::sleep(Duration::from_millis(1_500));
        assert_eq!(status.code(), Some(0));
        successor = Some(new);
    });
    assert!(successor.is_some_and(|broker| broker.ended().is_none()));
    check(case, "a successor takes over the port (--takeover), then SIGTERM", &fleet, since);
}

/// The service manager owns the socket: the old broker ends, then the new one starts.
fn activated(case: &Case) {
    let listener = listener();
    let addr = listener.local_addr().expect("an address");
    let handed = || listener.try_clone().expect("a descriptor");
    let old = case.broker().workers(2).args(ARGS).activated(handed()).start();
    assert_eq!(old.runner, addr);
    let fleet = Fleet::new(addr);
    let (mut since, mut successor) = (Instant::now(), None);
    fleet.run(RUNNERS, SUPERVISORS, || {
        thread::sleep(Duration::from_millis(300));
        old.signal(Signal::SIGTERM);
        assert_eq!(old.wait(PATIENCE).code(), Some(0));
        let new = case.broker().workers(2).args(ARGS).activated(handed()).start();
        since = Instant::now();
        thread::sleep(Duration::from_millis(1_500));
        successor = Some(new);
    });
    assert!(successor.is_some_and(|broker| broker.ended().is_none()));
    check(case, "systemctl restart with socket activation (LISTEN_FDS)", &fleet, since);
}

fn listener() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("to bind");
    socket.listen(4_096).expect("to listen");
    socket.into()
}

fn check(case: &Case, what: &str, fleet: &Fleet, since: Instant) {
    let count = |number: &std::sync::atomic::AtomicU32| number.load(Ordering::Relaxed);
    let (lost, twice) = fleet.lost_and_doubled();
    let back = fleet.polled_since(since);
    let outcome = format!(
        "{} true, {} false, {} failed",
        count(&fleet.answered_true),
        count(&fleet.answered_false),
        count(&fleet.failed)
    );
    let got = format!("{lost} lost, {twice} twice; {back} of {RUNNERS} runners back");
    case.row(what, outcome, got, format!("at most {}", time(fleet.slowest())));
    assert_eq!(count(&fleet.failed), 0, "no dispatch fails");
    assert_eq!(count(&fleet.lost), 0, "no runner sees anything but 2xx or a close");
    assert_eq!(back, RUNNERS, "every runner comes back");
    assert_eq!((lost, twice), (0, 0));
    assert!(count(&fleet.answered_true) > 100, "there was too little load");
}
