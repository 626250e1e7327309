//! Opens the listeners of all workers.

use super::error::StartError;
use super::fleet::Bound;
use crate::broker::contract;
use crate::broker::settings::Confirm;
use crate::config::ServeConfig;
use crate::sys::listen::{self, ListenSpec, Listener, Local, Opened, Side, SocketFile};

/// The segment size of connections whose acknowledgements the engine awaits. Every link carries it unfragmented
/// (IPv6 guarantees 1220 bytes, RFC 8200 section 5), so a pair of segments stays a pair. It is large enough for a
/// poll to fit one segment: our kernel would acknowledge a request of several segments with extra packets.
const ACK_SEGMENT_BYTES: u32 = 1_000;

pub type WorkerListeners = Vec<(contract::Side, Listener)>;

pub struct Listeners {
    pub bound: Bound,
    pub workers: Vec<WorkerListeners>,
    pub socket_files: Vec<SocketFile>,
}

/// Opens every worker's listeners, with the options that their connections inherit.
pub fn open_listeners(config: &ServeConfig) -> Result<Listeners, StartError> {
    let mut workers: Vec<WorkerListeners> = config.workers.iter().map(|_| Vec::new()).collect();
    let (runner, runner_file) =
        open(Side::Runner, contract::Side::Runner, &config.listeners.runner, config, &mut workers)?;
    let Local::Address(runner) = runner else { return Err(StartError::RunnerPath) };
    let mut socket_files: Vec<SocketFile> = runner_file.into_iter().collect();
    let dispatch = match &config.listeners.dispatch {
        Some(spec) => {
            let (local, file) = open(Side::Dispatch, contract::Side::Dispatch, spec, config, &mut workers)?;
            socket_files.extend(file);
            Some(local)
        }
        None => None,
    };
    Ok(Listeners { bound: Bound { runner, dispatch }, workers, socket_files })
}

/// Opens one side's listener for every worker.
fn open(
    side: Side,
    role: contract::Side,
    spec: &ListenSpec,
    config: &ServeConfig,
    workers: &mut [WorkerListeners],
) -> Result<(Local, Option<SocketFile>), StartError> {
    let options = config.listen_options(config.tcp.backlog);
    let Opened { listener, local, file } = listen::open(side, spec, &options)?;
    let segment_bytes =
        (config.settings.confirm == Confirm::Ack && side == Side::Runner).then_some(ACK_SEGMENT_BYTES);
    let prepare = |listener: Listener| {
        if let Listener::Tcp(listener) = &listener {
            let set = config.tcp.set_on(listener, segment_bytes);
            set.map_err(|source| StartError::SocketOptions { flag: side.flag(), source })?;
        }
        Ok::<_, StartError>((role, listener))
    };
    for own in &mut workers[1..] {
        own.push(prepare(match (spec, &local) {
            // Each worker has its own socket on the same address; the kernel spreads connections over the sockets.
            (ListenSpec::Addr(_), Local::Address(addr)) => {
                listen::bind(side, *addr, options.backlog, false)?.into()
            }
            // All workers share one Unix domain socket, or the socket from the service manager.
            _ => listener.try_clone().map_err(|_| StartError::Descriptors)?,
        })?);
    }
    workers[0].push(prepare(listener)?);
    Ok((local, file))
}
