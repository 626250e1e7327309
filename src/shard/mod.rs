//! One core's loop, and the mesh between cores.

mod error;

pub use error::StartError;

use crate::broker::report::{Command, CoreReport};
use crate::config::{ListenSpec, ServeConfig};
use crate::sys::listen::{Side, bind};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;

type Asked = (Command, Box<dyn Fn(CoreReport) + Send>);

/// A handle on all workers. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    bound: Bound,
    workers: Vec<mpsc::Sender<Asked>>,
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
        "epoll"
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.0.workers.len()
    }

    /// Sends `command` to every worker; each calls `reply` once, from its own thread.
    /// `reply` must not block.
    pub fn request(&self, command: Command, reply: impl Fn(CoreReport) + Send + Clone + 'static) {
        for worker in &self.0.workers {
            let _ = worker.send((command.clone(), Box::new(reply.clone())));
        }
    }
}

/// Starts one thread per worker; returns when every listener is bound and serving.
pub fn start(config: &ServeConfig) -> Result<(Fleet, JoinSet), StartError> {
    let runner = listener(Side::Runner, &config.listeners.runner, config)?;
    let dispatch = match &config.listeners.dispatch {
        Some(spec) => Some(listener(Side::Dispatch, spec, config)?),
        None => None,
    };
    let local = |listener: &TcpListener| listener.local_addr().expect("a bound listener");
    let bound = Bound {
        runner: local(&runner),
        dispatch: dispatch.as_ref().map(local),
    };
    let drain_time = std::time::Duration::from_millis(config.settings.drain_time_ms);
    let mut workers = Vec::new();
    let mut threads = Vec::new();
    for core in 0..config.workers.len() {
        let (sender, receiver) = mpsc::channel::<Asked>();
        workers.push(sender);
        threads.push(thread::spawn(move || {
            let mut cordons = Vec::new();
            for (command, reply) in receiver {
                match command.clone() {
                    Command::Cordon(selector) => cordons.push(selector),
                    Command::Uncordon(selector) => cordons.retain(|other| *other != selector),
                    _ => (),
                }
                reply(CoreReport {
                    core,
                    cordons: cordons.clone(),
                    ..CoreReport::default()
                });
                if command == Command::Drain {
                    thread::sleep(drain_time);
                    break;
                }
            }
        }));
    }
    std::mem::forget((runner, dispatch));
    Ok((Fleet(Arc::new(Inner { bound, workers })), JoinSet(threads)))
}

fn listener(
    side: Side,
    spec: &ListenSpec,
    config: &ServeConfig,
) -> Result<TcpListener, StartError> {
    match spec {
        ListenSpec::Addr(addr) => Ok(bind(side, *addr, config.tcp.backlog, false)?),
        ListenSpec::Fd(fd) => match fd.try_clone() {
            Ok(fd) => Ok(TcpListener::from(fd)),
            Err(_) => Err(StartError::Descriptors),
        },
    }
}
