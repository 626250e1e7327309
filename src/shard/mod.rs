//! The cores: one thread each, with its own listener, connections and index; and the mesh that
//! carries runs between them.

mod engine;
mod error;
pub mod events;
pub mod hints;
pub mod mesh;
mod sync;
pub mod worker;

pub use error::StartError;
pub use events::Observed;

use crate::broker::Broker;
use crate::broker::contract;
use crate::broker::report::{Command, CoreReport};
use crate::broker::settings::{Confirm, TokenMode};
use crate::broker::time::Time;
use crate::config::{ListenSpec, ServeConfig};
use crate::engine::Engine;
use crate::engine::epoll::Epoll;
#[cfg(feature = "io-uring")]
use crate::engine::uring::Uring;
use crate::sys::cpus;
use crate::sys::handover::ListenGroup;
use crate::sys::listen::{Side, bind};
use ahash::RandomState;
use crossbeam_channel::Receiver;
use engine::{Chosen, choose};
use hints::Hints;
use mesh::{Address, Mail, Mailbox, mailbox};
use std::hash::BuildHasher;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use worker::Worker;

/// A handle on all workers. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    bound: Bound,
    engine_name: &'static str,
    workers: Vec<Address>,
    events: Receiver<Observed>,
    /// The origin of the cores' time.
    origin: Instant,
}

/// The addresses that are served, port 0 resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Runner side.
    pub runner: SocketAddr,
    /// Supervisor side, if it has its own.
    pub dispatch: Option<SocketAddr>,
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

    /// The next event that a core told of, if there is one, and how long ago it happened.
    pub fn next_event(&self) -> Option<(Observed, Duration)> {
        let observed = self.0.events.try_recv().ok()?;
        let age = (Time::default() + self.0.origin.elapsed()) - observed.at;
        Some((observed, age))
    }

    /// Sends `command` to every worker; each calls `reply` once, from its own thread.
    /// `reply` must not block.
    pub fn request(&self, command: Command, reply: impl Fn(CoreReport) + Send + Clone + 'static) {
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
}

/// Starts one thread per worker; returns when every listener is bound and serving.
pub fn start(config: &ServeConfig) -> Result<Started, StartError> {
    let (chosen, why) = choose(config.engine);
    if let Some(why) = why {
        tracing::info!(engine = %chosen.name(), "--engine auto: {why}");
    }
    match chosen {
        Chosen::Epoll => start_on(chosen, Epoll::new, config),
        #[cfg(feature = "io-uring")]
        Chosen::IoUring => start_on(chosen, Uring::new, config),
        #[cfg(not(feature = "io-uring"))]
        Chosen::IoUring => Err(chosen.error(io::ErrorKind::Unsupported.into())),
    }
}

fn start_on<E: Engine + Send + 'static>(
    chosen: Chosen,
    engine: impl Fn(CoreListeners) -> io::Result<E>,
    config: &ServeConfig,
) -> Result<Started, StartError> {
    let (bound, listeners) = listeners(config)?;
    let listen_groups = listeners[0]
        .iter()
        .map(|(_, listener)| ListenGroup::new(listener, config.workers.len()))
        .collect::<Result<_, _>>()
        .map_err(|_| StartError::Descriptors)?;
    let engines: Vec<E> = listeners
        .into_iter()
        .map(|listeners| engine(listeners).map_err(|source| chosen.error(source)))
        .collect::<Result<_, _>>()?;
    let (addresses, mailboxes): (Vec<Address>, Vec<Mailbox>) =
        engines.iter().map(|engine| mailbox(engine.waker())).unzip();
    let shared = Hints::default();
    // One random seed for the process: cores must agree on a key's bucket, strangers must not know it.
    let hasher = random_state();
    let origin = Instant::now();
    let (sinks, events) = events::queue(addresses.len());
    let mut threads = Vec::new();
    for (core, ((engine, mailbox), sink)) in engines.into_iter().zip(mailboxes).zip(sinks).enumerate() {
        let broker = Broker::new(core, config.settings.clone(), hasher.clone(), shared.clone());
        let mut worker =
            Worker::new(core, broker, engine, mailbox, addresses.clone(), origin).with_events(sink);
        if config.settings.token_mode != TokenMode::Off {
            worker = worker.with_wall_clock(unix_us);
        }
        threads.push(spawn(core, config, chosen, worker)?);
    }
    let fleet =
        Fleet(Arc::new(Inner { bound, engine_name: chosen.name(), workers: addresses, events, origin }));
    Ok(Started { fleet, workers: JoinSet(threads), listen_groups })
}

/// Starts one worker's thread and waits until it stands on its CPU and its engine runs.
fn spawn<E: Engine + Send + 'static>(
    core: usize,
    config: &ServeConfig,
    chosen: Chosen,
    mut worker: Worker<E>,
) -> Result<thread::JoinHandle<()>, StartError> {
    let (ready, outcome) = crossbeam_channel::bounded(1);
    let cpu = config.workers[core];
    let begin = move |worker: &mut Worker<E>| {
        if let Some(cpu) = cpu {
            cpus::pin_this_thread(cpu).map_err(|source| StartError::Pin { cpu, source })?;
        }
        worker.begin().map_err(|source| chosen.error(source))
    };
    let body = move || {
        let begun = begin(&mut worker);
        let runs = begun.is_ok();
        let _ = ready.send(begun);
        if runs && let Err(error) = worker.run() {
            tracing::error!(core, %error, "the worker cannot wait for events any more and has ended");
        }
    };
    let thread = thread::Builder::new()
        .name(format!("worker-{core}"))
        .spawn(body)
        .map_err(|source| StartError::Thread { worker: core, workers: config.workers.len(), source })?;
    match outcome.recv() {
        Ok(Err(error)) => Err(error),
        _ => Ok(thread),
    }
}

type CoreListeners = Vec<(contract::Side, TcpListener)>;

/// Every core's listeners, bound and with the options that their connections inherit.
fn listeners(config: &ServeConfig) -> Result<(Bound, Vec<CoreListeners>), StartError> {
    let mut cores: Vec<CoreListeners> = config.workers.iter().map(|_| Vec::new()).collect();
    let specs = &config.listeners;
    let runner = listen(Side::Runner, contract::Side::Runner, &specs.runner, config, &mut cores)?;
    let dispatch = match &specs.dispatch {
        Some(spec) => Some(listen(Side::Dispatch, contract::Side::Dispatch, spec, config, &mut cores)?),
        None => None,
    };
    Ok((Bound { runner, dispatch }, cores))
}

fn listen(
    side: Side,
    role: contract::Side,
    spec: &ListenSpec,
    config: &ServeConfig,
    cores: &mut [CoreListeners],
) -> Result<SocketAddr, StartError> {
    let segment_bytes = (config.settings.confirm == Confirm::Ack).then_some(ACK_SEGMENT_BYTES);
    let mut bound = None;
    for core in cores {
        let listener = match (spec, bound) {
            (ListenSpec::Fd(fd), _) => {
                TcpListener::from(fd.try_clone().map_err(|_| StartError::Descriptors)?)
            }
            // Port 0 is resolved by the first core; the others join it.
            (ListenSpec::Addr(_), Some(addr)) => bind(side, addr, config.tcp.backlog, false)?,
            (ListenSpec::Addr(addr), None) => {
                bind(side, *addr, config.tcp.backlog, !config.listeners.takeover)?
            }
        };
        listener
            .set_nonblocking(true)
            .and_then(|()| config.tcp.hand_down(&listener, segment_bytes))
            .map_err(|source| StartError::Engine { engine: "listener", source })?;
        let addr =
            listener.local_addr().map_err(|source| StartError::Engine { engine: "listener", source })?;
        bound.get_or_insert(addr);
        core.push((role, listener));
    }
    bound.ok_or(StartError::Descriptors)
}

/// Segments of connections whose acknowledgements are awaited: the smallest that every IPv4 host
/// takes (RFC 9293 section 3.7.1), so that pairs of segments are really two on every link.
const ACK_SEGMENT_BYTES: u32 = 536;

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
