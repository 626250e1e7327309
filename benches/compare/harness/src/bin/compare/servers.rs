//! The servers to compare: name, description and how each is started.

use std::path::{Path, PathBuf};

const NODE: &str = "node_modules/node-22/bin/node";
const BUN: &str = "node_modules/@oven/bun-linux-x64/bin/bun";
const BUN_COMPILED: &str = "target/bun/bun-compiled";
const AXUM: &str = "target/release/axum-peer";
const FLOOR_EPOLL: &str = "target/release/floor-epoll";
const FLOOR_URING: &str = "target/release/floor-uring";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Peer,
    Floor,
    Ours,
}

/// The sections, in addition to windows and system calls, that a server takes part in.
#[derive(Clone, Copy, Default)]
pub struct Parts {
    pub memory: bool,
    pub latency: bool,
    pub keys: bool,
    pub workers: bool,
    pub scale: bool,
}

#[derive(Clone)]
pub struct Server {
    pub name: &'static str,
    pub what: &'static str,
    pub kind: Kind,
    pub parts: Parts,
    pub program: PathBuf,
    pub args: Vec<String>,
    /// Runs Pilotlight with several workers on one core, each with its own descriptor table.
    pub workers: u64,
    /// Each poll uses a new connection.
    pub closes: bool,
    /// Arguments for sections that match a run by its id or a poll at random.
    pub echo_args: &'static [&'static str],
    pub scatter_args: &'static [&'static str],
    /// The file that a user installs, for its size. `None` for a script on a runtime.
    pub binary: Option<PathBuf>,
    pub warmup_secs: u64,
    /// The most polls to open per second.
    pub open_rate: u32,
    /// The floor to compare with. Pilotlight is also compared with it at the same rate.
    pub floor: Option<&'static str>,
}

impl Server {
    fn new(name: &'static str, what: &'static str, kind: Kind, program: &Path, args: &[&str]) -> Self {
        Server {
            name,
            what,
            kind,
            parts: Parts::default(),
            program: program.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            workers: 1,
            echo_args: &[],
            scatter_args: &[],
            closes: ["--close", "--read", "read"].iter().any(|close| args.contains(close)),
            binary: Some(program.to_owned()),
            warmup_secs: 1,
            open_rate: 30_000,
            floor: None,
        }
    }

    fn script(mut self) -> Self {
        self.binary = None;
        self.warmup_secs = 2;
        self.open_rate = 8_000;
        self
    }

    fn parts(mut self, parts: Parts) -> Self {
        self.parts = parts;
        self
    }

    fn beside(mut self, floor: &'static str) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Adds these arguments.
    pub fn with(&self, args: &[&str]) -> Self {
        let mut server = self.clone();
        server.args.extend(args.iter().map(|&arg| arg.to_owned()));
        server
    }
}

pub fn all(pilotlight: &Path) -> Vec<Server> {
    let mut servers = peers();
    servers.extend(floors());
    servers.extend(ours(pilotlight));
    servers
}

/// The order of a round. A server comes right after its floor, since the machine's speed changes within a round.
pub fn side_by_side(servers: &[Server]) -> Vec<Server> {
    let mut order: Vec<Server> = Vec::new();
    let is_beside = |server: &Server| servers.iter().any(|floor| server.floor == Some(floor.name));
    for server in servers.iter().filter(|server| !is_beside(server)) {
        order.push(server.clone());
        order.extend(servers.iter().filter(|beside| beside.floor == Some(server.name)).cloned());
    }
    order
}

fn peers() -> Vec<Server> {
    let memory = Parts { memory: true, ..Parts::default() };
    let latency = Parts { latency: true, ..Parts::default() };
    let both = Parts { memory: true, latency: true, ..Parts::default() };
    let peer = |name, what, program: &str, args: &[&str]| {
        Server::new(name, what, Kind::Peer, program.as_ref(), args)
    };
    vec![
        peer(
            "node-sqlite",
            "node:http, polls as rows of an in-memory SQLite",
            NODE,
            &["--disable-warning=ExperimentalWarning", "peers/node-sqlite/server.mjs"],
        )
        .script()
        .parts(memory),
        peer("node-map", "node:http, a Map by the joined key", NODE, &["peers/node-map/server.mjs"])
            .script()
            .parts(memory),
        peer("bun-serve", "Bun.serve, no schema validation", BUN, &["peers/bun-serve/server.mjs"])
            .script()
            .beside("floor-epoll")
            .parts(both),
        peer(
            "bun-serve-close",
            "the same, closing after each run",
            BUN,
            &["peers/bun-serve/server.mjs", "--close"],
        )
        .script()
        .beside("floor-epoll-close")
        .parts(latency),
        Server {
            binary: Some(BUN_COMPILED.into()),
            ..peer("bun-compiled", "the same, compiled", BUN_COMPILED, &[]).script()
        },
        peer("axum", "tokio, hyper and axum, one thread", AXUM, &["--threads", "1"]).parts(both),
        peer("axum-2-threads", "the same, two threads", AXUM, &["--threads", "2"]),
    ]
}

fn floors() -> Vec<Server> {
    let both = Parts { memory: true, latency: true, keys: true, ..Parts::default() };
    let latency = Parts { latency: true, ..Parts::default() };
    let floor = |name, what, program: &str, args: &[&str]| Server {
        echo_args: &["--echo"],
        scatter_args: &["--echo", "--scatter"],
        ..Server::new(name, what, Kind::Floor, program.as_ref(), args)
    };
    vec![
        floor("floor-epoll", "a bare epoll loop", FLOOR_EPOLL, &[]).parts(both),
        floor(
            "floor-epoll-confirm",
            "the same, waiting for the acknowledgement",
            FLOOR_EPOLL,
            &["--confirm"],
        )
        .parts(latency),
        floor("floor-epoll-close", "the same, closing after each run", FLOOR_EPOLL, &["--close"])
            .parts(latency),
        floor("floor-epoll-read", "the same, waiting for the runner to close", FLOOR_EPOLL, &["--read"])
            .parts(latency),
        floor(
            "floor-epoll-read-rest",
            "the same, and it rests for 300 us after each turn",
            FLOOR_EPOLL,
            &["--read", "--rest", "300"],
        ),
        floor("floor-uring", "a bare io_uring loop", FLOOR_URING, &[])
            .parts(Parts { memory: true, ..Parts::default() }),
        floor("floor-uring-close", "the same, closing after each run", FLOOR_URING, &["--close"]),
    ]
}

fn ours(pilotlight: &Path) -> Vec<Server> {
    let all = Parts { memory: true, latency: true, keys: true, workers: true, scale: true };
    let both = Parts { memory: true, latency: true, ..Parts::default() };
    let latency = Parts { latency: true, ..Parts::default() };
    let ours = |name, what, engine: &str, confirm: &str| {
        // The load's polls last for a whole section: none may time out.
        let args = ["serve", "--engine", engine, "--confirm", confirm, "--connection-timeout", "4m"];
        let floor = if confirm == "read" { "floor-epoll-close" } else { "floor-epoll" };
        Server::new(name, what, Kind::Ours, pilotlight, &args).beside(floor)
    };
    vec![
        ours("pilotlight-epoll-write", "epoll, `write`", "epoll", "write").parts(latency),
        ours("pilotlight-epoll-ack", "epoll, `ack`", "epoll", "ack").parts(all),
        ours("pilotlight-epoll-read", "epoll, `read`", "epoll", "read").parts(latency),
        ours("pilotlight-epoll-read-0s", "the same, `--coalesce 0s`", "epoll", "read")
            .with(&["--coalesce", "0s"]),
        ours("pilotlight-uring-write", "io_uring, `write`", "io-uring", "write").parts(latency),
        ours("pilotlight-uring-ack", "io_uring, `ack`", "io-uring", "ack").parts(both),
        ours("pilotlight-uring-read", "io_uring, `read`", "io-uring", "read").parts(latency),
    ]
}
