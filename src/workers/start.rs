//! Starts the workers: opens their listeners, gives up privileges, builds engines and brokers, starts the threads.

use super::engine_choice::{Chosen, choose};
use super::error::StartError;
use super::event_loop::EventLoop;
use super::events;
use super::fleet::{Fleet, WorkerThreads};
use super::gate::Gate;
use super::hints::Hints;
use super::listeners::{Listeners, WorkerListeners, open_listeners};
use super::mesh::{Address, Mailbox, mailbox};
use super::tables::Tables;
use super::thread::spawn;
use super::worker::Worker;
use crate::broker::Broker;
use crate::broker::settings::TokenMode;
use crate::config::ServeConfig;
use crate::engine::Engine;
use crate::engine::epoll::Epoll;
use crate::engine::tls::{Identities, Tls};
#[cfg(feature = "io-uring")]
use crate::engine::uring::{Sizes, Uring};
use crate::sys::listen::{ListenGroup, Listener, SocketFile};
use crate::sys::seccomp::Filter;
use crate::sys::user;
use ahash::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The divisor of `--max-buffered` that gives the memory for incomplete TLS records, in addition to that budget.
const TLS_SHARE: usize = 4;

pub struct Started {
    pub fleet: Fleet,
    pub workers: WorkerThreads,
    /// The sockets of the listening addresses, for the handover to a successor. Drop them before the shutdown:
    /// they keep the addresses open.
    pub listen_groups: Vec<ListenGroup>,
    /// The files of Unix domain sockets. Drop them at the end, which removes them.
    pub socket_files: Vec<SocketFile>,
}

/// Starts one thread per worker. Returns when every listener is bound and every worker serves. `control` are the
/// control thread's descriptors that hold a listener open. It must not have accepted from one yet (see
/// [`Tables`]).
pub fn start(config: &ServeConfig, control: &[BorrowedFd<'_>]) -> Result<Started, StartError> {
    let inline_handling = config.workers.len() > 1 && !config.own_tables;
    let (chosen, why) = choose(config.engine, inline_handling);
    if let Some(why) = why {
        tracing::info!(engine = %chosen.name(), "--engine auto: {why}");
    }
    // Without certificates the engine is used bare, without the TLS layer.
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

fn start_on<E: Engine + Send + 'static>(
    chosen: Chosen,
    engine: impl Fn(WorkerListeners) -> io::Result<E>,
    config: &ServeConfig,
    control: &[BorrowedFd<'_>],
) -> Result<Started, StartError> {
    let Listeners { bound, workers: listeners, socket_files } = open_listeners(config)?;
    // Nothing after this needs privileges, and the threads start without them.
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
    // One random seed for the process: workers must agree on a key's bucket, and clients must not know it.
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
        let mut worker = Worker::new(index, broker, engine, mailbox, addresses.clone(), origin)
            .with_events(sink)
            .with_gate(gate.clone());
        if config.settings.token_mode != TokenMode::Off {
            worker = worker.with_wall_clock(unix_us);
        }
        let foreign = tables.as_ref().map(|tables| tables.foreign_to(index));
        let mut event_loop = EventLoop::new(worker).coalescing(config.coalesce, config.coalesce_from_percent);
        // A descriptor means the same on every worker's thread only if all threads share one table.
        if tables.is_none() {
            event_loop = event_loop.with_inline_handling(&addresses[index]);
        }
        threads.push(spawn(index, config, chosen, event_loop, foreign, filter.clone())?);
    }
    if let Some(tables) = tables {
        tables.close_in_process();
    }
    let fleet = Fleet::new(bound, chosen.name(), addresses, events, origin);
    Ok(Started { fleet, workers: WorkerThreads::new(threads), listen_groups, socket_files })
}

/// Microseconds of Unix time; 0 before 1970.
fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(u64::MAX)
}

/// A hash with random seeds. The standard library gets them from the kernel, so this works in an empty root
/// without /dev, where a static binary may run.
fn random_state() -> RandomState {
    let seed = || std::hash::RandomState::new().hash_one(0);
    RandomState::with_seeds(seed(), seed(), seed(), seed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_has_its_own_seeds() {
        assert_ne!(random_state().hash_one("key"), random_state().hash_one("key"));
    }
}
