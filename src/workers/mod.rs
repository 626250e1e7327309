//! The workers: one thread each, with its own listener, connections and index; and the mesh that
//! carries runs between them.

mod engine;
mod error;
pub mod event_loop;
pub mod events;
pub mod gate;
pub mod hints;
pub mod mesh;
mod pace;
mod sync;
mod tables;
pub mod worker;

pub use error::StartError;
pub use events::Observed;

use crate::broker::Broker;
use crate::broker::contract;
use crate::broker::report::{Command, WorkerReport};
use crate::broker::settings::{Confirm, TokenMode};
use crate::broker::time::Time;
use crate::config::{ListenSpec, ServeConfig};
use crate::engine::Engine;
use crate::engine::epoll::Epoll;
use crate::engine::tls::{Identities, Tls};
#[cfg(feature = "io-uring")]
use crate::engine::uring::{Sizes, Uring};
use crate::sys::cpus;
use crate::sys::descriptors;
use crate::sys::handover::ListenGroup;
use crate::sys::listen::{Listener, Local, Side, bind};
use crate::sys::local::{self, LocalOptions, SocketFile};
use crate::sys::process::WORKER_THREAD;
use crate::sys::seccomp::Filter;
use crate::sys::user;
use ahash::RandomState;
use crossbeam_channel::Receiver;
use engine::{Chosen, choose};
use event_loop::EventLoop;
use gate::Gate;
use hints::Hints;
use mesh::{Address, Mail, Mailbox, mailbox};
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tables::Tables;
use worker::Worker;

/// A handle on all workers. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    bound: Bound,
    engine_name: &'static str,
    workers: Vec<Address>,
    events: Receiver<Observed>,
    /// The origin of the workers' time.
    origin: Instant,
}

/// The addresses that are served, port 0 resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Runner side.
    pub runner: SocketAddr,
    /// Supervisor side, if it has its own.
    pub dispatch: Option<Local>,
}

/// The workers' threads.
pub struct JoinSet(Vec<thread::JoinHandle<()>>);

impl JoinSet {
    /// Blocks until all workers have ended.
    pub fn join(self) {
        for thread in self.0 {
            let _ = thread.join();
        }
    }
}

impl Fleet {
    /// The addresses that are served.
    pub fn bound(&self) -> &Bound {
        &self.0.bound
    }

    /// `epoll` or `io-uring`.
    pub fn engine_name(&self) -> &'static str {
        self.0.engine_name
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.0.workers.len()
    }

    /// The next event that a worker told of, if there is one, and how long ago it happened.
    pub fn next_event(&self) -> Option<(Observed, Duration)> {
        let observed = self.0.events.try_recv().ok()?;
        let age = (Time::default() + self.0.origin.elapsed()) - observed.at;
        Some((observed, age))
    }

    /// Sends `command` to every worker; each calls `reply` once, from its own thread.
    /// `reply` must not block.
    pub fn request(&self, command: Command, reply: impl Fn(WorkerReport) + Send + Clone + 'static) {
        for worker in &self.0.workers {
            worker.send(Mail::Command { command: command.clone(), reply: Box::new(reply.clone()) });
        }
    }
}

/// What [`start`] started.
pub struct Started {
    /// The handle on the workers.
    pub fleet: Fleet,
    /// Their threads.
    pub workers: JoinSet,
    /// The addresses' sockets, to hand over to a successor. Drop them before the drain: a socket
    /// that is held here stays open.
    pub listen_groups: Vec<ListenGroup>,
    /// The files of Unix domain sockets. Drop them at the end: that removes them.
    pub socket_files: Vec<SocketFile>,
}

/// Starts one thread per worker; returns when every listener is bound and serving. `control` are the control plane's
/// descriptors that hold a listener open; it must not have accepted from one yet (see [`tables`]).
pub fn start(config: &ServeConfig, control: &[BorrowedFd<'_>]) -> Result<Started, StartError> {
    let (chosen, why) = choose(config.engine, config.workers.len() > 1 && !config.own_tables);
    if let Some(why) = why {
        tracing::info!(engine = %chosen.name(), "--engine auto: {why}");
    }
    // Where nothing is encrypted there is no layer that could.
    let identities = Identities { runner: config.tls.runner.clone(), dispatch: config.tls.dispatch.clone() };
    let plain = identities.is_empty();
    let incomplete_bytes_max = config.settings.buffered_bytes_max / TLS_SHARE / config.workers.len();
    let epoll = |listeners| Epoll::new(listeners, config.ack_check_from_events);
    #[cfg(feature = "io-uring")]
    let uring = |listeners| {
        let sizes = Sizes { ring_from_completions: config.ring_from_events, ..Sizes::default() };
        Uring::with_sizes(listeners, sizes)
    };
    match chosen {
        Chosen::Epoll if plain => start_on(chosen, epoll, config, control),
        Chosen::Epoll => {
            let engine = |listeners| Ok(Tls::new(epoll(listeners)?, &identities, incomplete_bytes_max));
            start_on(chosen, engine, config, control)
        }
        #[cfg(feature = "io-uring")]
        Chosen::IoUring if plain => start_on(chosen, uring, config, control),
        #[cfg(feature = "io-uring")]
        Chosen::IoUring => {
            let engine = |listeners| Ok(Tls::new(uring(listeners)?, &identities, incomplete_bytes_max));
            start_on(chosen, engine, config, control)
        }
        #[cfg(not(feature = "io-uring"))]
        Chosen::IoUring => Err(chosen.error(io::ErrorKind::Unsupported.into())),
    }
}

/// Incomplete TLS records get this part of the budget for bytes in flight, on top of it.
const TLS_SHARE: usize = 4;

fn start_on<E: Engine + Send + 'static>(
    chosen: Chosen,
    engine: impl Fn(WorkerListeners) -> io::Result<E>,
    config: &ServeConfig,
    control: &[BorrowedFd<'_>],
) -> Result<Started, StartError> {
    let Listening { bound, listeners, socket_files } = listeners(config)?;
    // Everything that takes privileges is done. The threads that follow begin without them.
    if let Some(identity) = &config.process.identity {
        user::become_user(identity)?;
    }
    let listen_groups: Vec<ListenGroup> = listeners[0]
        .iter()
        .filter(|(_, listener)| matches!(listener, Listener::Tcp(_)))
        .map(|(_, listener)| ListenGroup::new(listener, config.workers.len()))
        .collect::<Result<_, _>>()
        .map_err(|_| StartError::Descriptors)?;
    let tables = config.own_tables.then(|| {
        let members = listen_groups.iter().map(ListenGroup::as_fd);
        Tables::new(&listeners, members.chain(control.iter().copied()))
    });
    let engines: Vec<E> = listeners
        .into_iter()
        .map(|listeners| engine(listeners).map_err(|source| chosen.error(source)))
        .collect::<Result<_, _>>()?;
    let (addresses, mailboxes): (Vec<Address>, Vec<Mailbox>) =
        engines.iter().map(|engine| mailbox(engine.waker())).unzip();
    let shared = Hints::default();
    // One random seed for the process: workers must agree on a key's bucket, strangers must not know it.
    let hasher = random_state();
    let counted = (config.settings.connections_per_address_max != u32::MAX).then(random_state);
    let gate = Gate::new(config.dispatch_allow.as_deref(), counted);
    let filter = match config.process.seccomp {
        true => Some(Filter::for_data_plane().map_err(StartError::Filter)?),
        false => None,
    };
    let origin = Instant::now();
    let (sinks, events) = events::queue(addresses.len());
    let mut threads = Vec::new();
    for (index, ((engine, mailbox), sink)) in engines.into_iter().zip(mailboxes).zip(sinks).enumerate() {
        let broker = Broker::new(index, config.settings.clone(), hasher.clone(), shared.clone());
        let mut worker =
            Worker::new(index, broker, engine, mailbox, addresses.clone(), origin).with_events(sink);
        if config.settings.token_mode != TokenMode::Off {
            worker = worker.with_wall_clock(unix_us);
        }
        let foreign = tables.as_ref().map(|tables| tables.foreign_to(index));
        let mut event_loop = EventLoop::new(worker.behind(gate.clone()))
            .coalescing(config.coalesce, config.coalesce_from_percent);
        // A descriptor means the same on every worker's thread only where all have one table.
        if tables.is_none() {
            event_loop = event_loop.with_inline_handling(&addresses[index]);
        }
        threads.push(spawn(index, config, chosen, event_loop, foreign, filter.clone())?);
    }
    if let Some(tables) = tables {
        tables.part();
    }
    let inner = Inner { bound, engine_name: chosen.name(), workers: addresses, events, origin };
    let fleet = Fleet(Arc::new(inner));
    Ok(Started { fleet, workers: JoinSet(threads), listen_groups, socket_files })
}

/// Starts one worker's thread and waits until it stands on its CPU and its engine runs.
fn spawn<E: Engine + Send + 'static>(
    index: usize,
    config: &ServeConfig,
    chosen: Chosen,
    mut event_loop: EventLoop<E>,
    foreign: Option<Vec<RawFd>>,
    filter: Option<Filter>,
) -> Result<thread::JoinHandle<()>, StartError> {
    let (ready, outcome) = crossbeam_channel::bounded(1);
    let cpu = config.workers[index];
    let begin = move |event_loop: &mut EventLoop<E>| {
        if let Some(cpu) = cpu {
            cpus::pin_this_thread(cpu).map_err(|source| StartError::Pin { cpu, source })?;
        }
        cpus::wake_this_thread_in_time();
        if let Some(foreign) = foreign {
            descriptors::take_own_table(&foreign).map_err(StartError::Tables)?;
        }
        event_loop.begin().map_err(|source| chosen.error(source))?;
        match &filter {
            Some(filter) => filter.apply().map_err(StartError::Filter),
            None => Ok(()),
        }
    };
    let body = move || {
        let begun = begin(&mut event_loop);
        let runs = begun.is_ok();
        let _ = ready.send(begun);
        if runs && let Err(error) = event_loop.run() {
            tracing::error!(index, %error, "the worker cannot wait for events any more and has ended");
        }
    };
    let thread = thread::Builder::new()
        .name(format!("{WORKER_THREAD}{index}"))
        .spawn(body)
        .map_err(|source| StartError::Thread { worker: index, workers: config.workers.len(), source })?;
    match outcome.recv() {
        Ok(Err(error)) => Err(error),
        _ => Ok(thread),
    }
}

type WorkerListeners = Vec<(contract::Side, Listener)>;

struct Listening {
    bound: Bound,
    listeners: Vec<WorkerListeners>,
    socket_files: Vec<SocketFile>,
}

/// Every core's listeners, bound and with the options that their connections inherit.
fn listeners(config: &ServeConfig) -> Result<Listening, StartError> {
    let mut workers: Vec<WorkerListeners> = config.workers.iter().map(|_| Vec::new()).collect();
    let mut socket_files = Vec::new();
    let specs = &config.listeners;
    let files = &mut socket_files;
    let runner = listen(Side::Runner, contract::Side::Runner, &specs.runner, config, &mut workers, files)?;
    let Local::Address(runner) = runner else { return Err(StartError::RunnerPath) };
    let dispatch = match &specs.dispatch {
        Some(spec) => {
            Some(listen(Side::Dispatch, contract::Side::Dispatch, spec, config, &mut workers, files)?)
        }
        None => None,
    };
    Ok(Listening { bound: Bound { runner, dispatch }, listeners: workers, socket_files })
}

fn listen(
    side: Side,
    role: contract::Side,
    spec: &ListenSpec,
    config: &ServeConfig,
    workers: &mut [WorkerListeners],
    files: &mut Vec<SocketFile>,
) -> Result<Local, StartError> {
    let fault = |source| StartError::Engine { engine: "listener", source };
    let exclusive = !config.listeners.takeover;
    // A Unix domain socket, or one that came with the process, is the same one on every worker.
    let mut bound: Option<Local> = None;
    let shared = match spec {
        ListenSpec::Addr(_) => None,
        ListenSpec::Fd(fd) => {
            let fd = fd.try_clone().map_err(|_| StartError::Descriptors)?;
            Some(Listener::adopt(fd).map_err(fault)?)
        }
        ListenSpec::Unix(path) => {
            let options =
                LocalOptions { mode: config.listeners.unix_mode, owner: config.process.identity.clone() };
            let (listener, file) = local::bind(side, path, config.tcp.backlog, &options, exclusive)?;
            bound = Some(Local::Path(file.path().to_owned()));
            files.push(file);
            Some(Listener::Unix(listener))
        }
    };
    let segment_bytes =
        (config.settings.confirm == Confirm::Ack && side == Side::Runner).then_some(ACK_SEGMENT_BYTES);
    for index in workers {
        let listener = match (&shared, spec, &bound) {
            (Some(listener), ..) => listener.try_clone().map_err(|_| StartError::Descriptors)?,
            // Port 0 is resolved by the first worker; the others join it.
            (None, ListenSpec::Addr(_), Some(Local::Address(addr))) => {
                Listener::Tcp(bind(side, *addr, config.tcp.backlog, false)?)
            }
            (None, ListenSpec::Addr(addr), _) => {
                Listener::Tcp(bind(side, *addr, config.tcp.backlog, exclusive)?)
            }
            (None, ..) => return Err(StartError::Descriptors),
        };
        if let Listener::Tcp(listener) = &listener {
            config.tcp.hand_down(listener, segment_bytes).map_err(fault)?;
        }
        if bound.is_none() {
            bound = Some(listener.local().map_err(fault)?);
        }
        index.push((role, listener));
    }
    bound.ok_or(StartError::Descriptors)
}

/// Segments of connections whose acknowledgements are awaited: so small that pairs of them are really
/// two on every link (IPv6 carries 1220 everywhere, RFC 8200 section 5), and so large that a poll is one
/// segment: a request of several is acknowledged by our kernel for itself, which costs a packet each.
const ACK_SEGMENT_BYTES: u32 = 1_000;

/// The wall clock; 0 before 1970.
fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(u64::MAX)
}

/// Seeds from the standard library, which asks the kernel itself: it works without /dev, in an empty
/// root, where a static binary is at home.
fn random_state() -> RandomState {
    let seed = || std::hash::RandomState::new().hash_one(0);
    RandomState::with_seeds(seed(), seed(), seed(), seed())
}

#[cfg(test)]
mod tests {
    use super::random_state;

    #[test]
    fn every_start_has_a_seed_of_its_own() {
        assert_ne!(random_state().hash_one("key"), random_state().hash_one("key"));
    }
}
