//! Starts one worker's thread.

use super::engine_choice::Chosen;
use super::error::StartError;
use super::event_loop::EventLoop;
use crate::config::ServeConfig;
use crate::engine::Engine;
use crate::sys::cpus;
use crate::sys::descriptors;
use crate::sys::process::WORKER_THREAD;
use crate::sys::seccomp::Filter;
use std::os::fd::RawFd;
use std::thread;

/// Starts the worker's thread, and waits until the thread is pinned and its engine runs. If `foreign` is present,
/// the thread gets its own table of descriptors and closes these in it.
pub fn spawn<E: Engine + Send + 'static>(
    worker: usize,
    config: &ServeConfig,
    chosen: Chosen,
    mut event_loop: EventLoop<E>,
    foreign: Option<Vec<RawFd>>,
    filter: Option<Filter>,
) -> Result<thread::JoinHandle<()>, StartError> {
    let (ready, outcome) = crossbeam_channel::bounded(1);
    let cpu = config.workers[worker];
    let begin = move |event_loop: &mut EventLoop<E>| {
        if let Some(cpu) = cpu {
            cpus::pin_this_thread(cpu).map_err(|source| StartError::Pin { cpu, source })?;
        }
        cpus::reduce_timer_slack_of_this_thread();
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
            tracing::error!(worker, %error, "the worker ended: waiting for events failed");
        }
    };
    let thread = thread::Builder::new()
        .name(format!("{WORKER_THREAD}{worker}"))
        .spawn(body)
        .map_err(|source| StartError::Thread { worker, workers: config.workers.len(), source })?;
    match outcome.recv() {
        Ok(Err(error)) => Err(error),
        _ => Ok(thread),
    }
}
